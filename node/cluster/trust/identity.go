// Package trust is a node's identity and its signatures. A node's id is the fingerprint of
// its own key, so that the id alone, without another secret, list or authority, is enough
// to check a connection or a signature. Nothing here compares the clocks of two hosts: a
// node's messages are ordered by its own epoch and count.
package trust

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/big"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// Identity is a node's key and the id that follows from it. It never changes and
// may be used by many goroutines.
type Identity struct {
	key ed25519.PrivateKey
	id  knowledge.NodeID
}

// NewIdentity makes a key from random; nil is crypto/rand.
func NewIdentity(random io.Reader) (*Identity, error) {
	if random == nil {
		random = rand.Reader
	}
	// Not ed25519.GenerateKey: it may ignore the reader, and a test's ids must repeat.
	seed := make([]byte, ed25519.SeedSize)
	if _, err := io.ReadFull(random, seed); err != nil {
		return nil, fmt.Errorf("cannot make a key: %w", err)
	}
	return identityOf(ed25519.NewKeyFromSeed(seed)), nil
}

func identityOf(key ed25519.PrivateKey) *Identity {
	return &Identity{key: key, id: IDOf(key.Public().(ed25519.PublicKey))}
}

// ID is the fingerprint of the public key.
func (i *Identity) ID() knowledge.NodeID { return i.id }

// Public is the key that others check with.
func (i *Identity) Public() ed25519.PublicKey { return i.key.Public().(ed25519.PublicKey) }

// Sign signs message as it is. Callers put a domain before it, so that a
// signature for one purpose is none for another.
func (i *Identity) Sign(message []byte) []byte { return ed25519.Sign(i.key, message) }

// spkiHead is the DER of SubjectPublicKeyInfo for Ed25519 up to the key itself
// (RFC 8410, section 4): every such key has the same.
const spkiHead = "\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00"

// idBytes is how much of the SHA-256 the id keeps: to find another key for an id
// takes 2^128 tries.
const idBytes = 16

// IDOf is the id that belongs to a public key: the first 16 bytes of the SHA-256
// of its SubjectPublicKeyInfo, in hex. "" for what is no key.
func IDOf(pub ed25519.PublicKey) knowledge.NodeID {
	if len(pub) != ed25519.PublicKeySize {
		return ""
	}
	sum := sha256.Sum256(append([]byte(spkiHead), pub...))
	return knowledge.NodeID(hex.EncodeToString(sum[:idBytes]))
}

// Certificate is self-signed and carries the id as its only name. Its dates are
// so far apart that no host's clock falls outside; peers check the id and not the
// dates.
func (i *Identity) Certificate(now time.Time) (tls.Certificate, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: string(i.id)},
		DNSNames:     []string{string(i.id)},
		NotBefore:    now.AddDate(-10, 0, 0),
		NotAfter:     now.AddDate(100, 0, 0),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, i.key.Public(), i.key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("cannot make the node's certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("cannot read the node's certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: i.key, Leaf: leaf}, nil
}

// PeerID is the id of the node that proved, in the handshake of TLS, to hold a key.
func PeerID(state tls.ConnectionState) (knowledge.NodeID, error) {
	if len(state.PeerCertificates) == 0 {
		return "", errors.New("the peer has no certificate")
	}
	pub, ok := state.PeerCertificates[0].PublicKey.(ed25519.PublicKey)
	if !ok {
		return "", errors.New("the peer's key is not Ed25519")
	}
	return IDOf(pub), nil
}
