package member

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/memberlist"

	"github.com/effiscale/effiscale/node/cluster/trust"
)

// maxKeys bounds what a packet that no key fits costs: one try each. Rotation needs two.
const maxKeys = 4

// NewKey makes a gossip key: 32 random bytes, in base64.
func NewKey() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails since Go 1.24
	return base64.StdEncoding.EncodeToString(b)
}

// ParseKey reads what NewKey writes. Its errors never contain the key.
func ParseKey(s string) ([]byte, error) {
	b, err := base64.StdEncoding.DecodeString(strings.TrimSpace(s))
	if err != nil {
		return nil, errors.New("a key is 16, 24 or 32 bytes in base64: this is no base64")
	}
	if memberlist.ValidateKey(b) != nil {
		return nil, fmt.Errorf("a key is 16, 24 or 32 bytes in base64: this is %d bytes", len(b))
	}
	return b, nil
}

// ReadKeyFile reads keys, one a line; empty lines and those that begin with # are
// skipped. The first key encrypts, all decrypt. A file that others than its owner
// may read is refused.
func ReadKeyFile(path string) ([][]byte, error) {
	text, err := trust.ReadPrivate(path, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot read the keys: %w", err)
	}
	var keys [][]byte
	for i, line := range strings.Split(string(text), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		key, err := ParseKey(line)
		if err != nil {
			return nil, fmt.Errorf("%s, line %d: %w", path, i+1, err)
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 || len(keys) > maxKeys {
		return nil, fmt.Errorf("%s holds %d keys: 1 to %d are allowed", path, len(keys), maxKeys)
	}
	return keys, nil
}

// KeyName is a key's fingerprint, which may be shown.
func KeyName(key []byte) string { return fmt.Sprintf("%08x", fingerprint(key)) }

func fingerprint(key []byte) uint32 {
	sum := sha256.Sum256(key)
	return max(1, binary.BigEndian.Uint32(sum[:])) // 0 is none
}

var errNoKeys = errors.New("gossip is not encrypted: set cluster.key_file and restart")

// keyring are the gossip keys in force; none without encryption.
type keyring struct{ ring *memberlist.Keyring }

func newKeyring(keys [][]byte) (k keyring, err error) {
	if len(keys) > 0 {
		k.ring, err = memberlist.NewKeyring(keys[1:], keys[0])
	}
	return k, err
}

// keys are the keys themselves, the one that encrypts first.
func (k keyring) keys() [][]byte {
	if k.ring == nil {
		return nil
	}
	return k.ring.GetKeys()
}

// prints are the first fingerprints, for the metadata.
func (k keyring) prints() (p [4]uint32) {
	for i, key := range k.keys() {
		if i < len(p) {
			p[i] = fingerprint(key)
		}
	}
	return p
}

func (k keyring) add(key []byte) error {
	keys := k.keys()
	if len(keys) >= maxKeys && !slices.ContainsFunc(keys, func(k []byte) bool { return bytes.Equal(k, key) }) {
		return fmt.Errorf("there are %d keys already, remove one first", len(keys))
	}
	return k.ring.AddKey(bytes.Clone(key))
}

// remove takes the key and those behind it out from the end on, and puts these back:
// memberlist (0.7) closes a gap by moving the later keys inside the array that it and
// prints are reading at that moment. What comes with one of those meanwhile is lost,
// as a packet may be.
func (k keyring) remove(key []byte) error {
	keys := slices.Clone(k.keys())
	at := slices.IndexFunc(keys, func(k []byte) bool { return bytes.Equal(k, key) })
	if at <= 0 { // not there, or in use
		return k.ring.RemoveKey(key)
	}
	for i := len(keys) - 1; i >= at; i-- {
		if err := k.ring.RemoveKey(keys[i]); err != nil {
			return err
		}
	}
	for _, later := range keys[at+1:] {
		if err := k.ring.AddKey(later); err != nil {
			return err
		}
	}
	return nil
}

// Keys are the fingerprints of the keys, the one that encrypts first.
func (m *Members) Keys() []string {
	var names []string
	for _, k := range m.keyring.keys() {
		names = append(names, KeyName(k))
	}
	return names
}

// AddKey lets this node read what is encrypted with key.
func (m *Members) AddKey(key []byte) error { return m.keyChange("add", keyring.add, key) }

// UseKey makes this node encrypt with a key that it has. All nodes should have it.
func (m *Members) UseKey(key []byte) error {
	return m.keyChange("use", func(k keyring, key []byte) error { return k.ring.UseKey(key) }, key)
}

// RemoveKey forgets a key, but for the one in use.
func (m *Members) RemoveKey(key []byte) error { return m.keyChange("remove", keyring.remove, key) }

func (m *Members) keyChange(verb string, change func(keyring, []byte) error, key []byte) error {
	if m.keyring.ring == nil {
		return errNoKeys
	}
	if err := change(m.keyring, key); err != nil {
		return fmt.Errorf("cannot %s the key: %w", verb, err)
	}
	m.Update(func(*Meta) {})
	return nil
}
