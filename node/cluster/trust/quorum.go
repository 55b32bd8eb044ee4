package trust

import (
	"crypto/ed25519"
	"crypto/sha256"

	"github.com/effiscale/effiscale/knowledge"
)

const voteDomain = "effiscale vote 1\x00"

// MaxVotes bounds the time for a certificate: to check a signature takes 50 µs,
// and a service has 4 owners.
const MaxVotes = 64

// Digest names a value for votes: the SHA-256 of its canonical CBOR after a domain,
// so that a vote for one purpose is none for another.
func Digest(domain string, v any) (sum [32]byte, err error) {
	b, err := Marshal([]any{domain, v})
	if err != nil {
		return sum, err
	}
	return sha256.Sum256(b), nil
}

// Vote is one owner's signature under the digest of what it found right itself.
type Vote struct {
	Voter  knowledge.NodeID `cbor:"1,keyasint"`
	Public []byte           `cbor:"2,keyasint"`
	Sig    []byte           `cbor:"3,keyasint"`
}

// Vote signs a digest.
func (i *Identity) Vote(digest [32]byte) Vote {
	return Vote{Voter: i.ID(), Public: i.Public(), Sig: i.Sign(voted(digest))}
}

func voted(digest [32]byte) []byte { return append([]byte(voteDomain), digest[:]...) }

// Valid reports whether the voter that it names signed the digest.
func (v Vote) Valid(digest [32]byte) bool {
	pub := ed25519.PublicKey(v.Public)
	id := IDOf(pub)
	return id != "" && id == v.Voter && ed25519.Verify(pub, voted(digest), v.Sig)
}

// Tolerated is how many of n owners may lie: f = ⌊(n−1)/3⌋. 1 of 4, none of 3.
func Tolerated(n int) int { return max(0, n-1) / 3 }

// Quorum is how many of n owners must sign: ⌈(n+f+1)/2⌉. Two quorums share at
// least f+1 owners, so one that does not lie, and n−f honest ones reach it:
// 3 of 4, 4 of 5, 5 of 7.
func Quorum(n int) int { return (max(0, n) + Tolerated(n) + 2) / 2 }

// Certified reports whether enough of the owners signed the digest. Votes of
// others and invalid ones do not count, only the first of each owner is looked at, for
// that takes time, and more than 64 are nonsense.
func Certified(digest [32]byte, votes []Vote, owners []knowledge.NodeID) bool {
	if len(votes) > MaxVotes {
		return false
	}
	open := make(map[knowledge.NodeID]bool, len(owners)) // may still vote
	for _, o := range owners {
		open[o] = true
	}
	need := Quorum(len(open))
	for _, v := range votes {
		if !open[v.Voter] {
			continue
		}
		delete(open, v.Voter)
		if v.Valid(digest) {
			need--
		}
	}
	return need <= 0
}

// Signed reports whether a node signed message: seal is its public key and the
// signature.
func Signed(by knowledge.NodeID, message, seal []byte) bool {
	if len(seal) != ed25519.PublicKeySize+ed25519.SignatureSize {
		return false
	}
	pub := ed25519.PublicKey(seal[:ed25519.PublicKeySize])
	return IDOf(pub) == by && ed25519.Verify(pub, message, seal[ed25519.PublicKeySize:])
}
