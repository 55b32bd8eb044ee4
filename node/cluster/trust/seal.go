package trust

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/effiscale/effiscale/knowledge"
)

// Why a message is refused.
var (
	ErrReplay    = errors.New("is replayed or stale")
	ErrSigner    = errors.New("is not signed by the node that it names")
	ErrTooLarge  = fmt.Errorf("is larger than %d bytes", MaxMessage)
	ErrMalformed = errors.New("is malformed")
	ErrRecipient = errors.New("is for another node, or for an earlier start of this one")
)

// sealDomain keeps the signature of a message from being one of anything else.
const sealDomain = "effiscale sealed message 1\x00"

// message is what is signed: its bytes as they came, also keys of newer versions.
type message struct {
	From    knowledge.NodeID `cbor:"1,keyasint"`
	Public  []byte           `cbor:"2,keyasint"`
	Epoch   uint64           `cbor:"3,keyasint"`
	Seq     uint64           `cbor:"4,keyasint"`
	Kind    string           `cbor:"5,keyasint"`
	To      knowledge.NodeID `cbor:"6,keyasint"`
	Payload []byte           `cbor:"7,keyasint"`
	Start   uint64           `cbor:"8,keyasint"` // of To
}

// envelope is the message on the wire.
type envelope struct {
	_       struct{} `cbor:",toarray"`
	Message []byte
	Sig     []byte
}

// Sealer signs the messages of one start of a node. Epoch must be higher than in every
// start before: persist it before the first Seal. All kinds and recipients share
// one count, so that versions of one node can be compared wherever they arrive.
type Sealer struct {
	Identity *Identity
	Epoch    uint64
	seq      atomic.Uint64
}

// Seal signs v for one start of one recipient: nothing that is recorded now can be
// replayed to it after its next start, and it need not remember anything for that.
func (s *Sealer) Seal(kind string, to knowledge.NodeID, start uint64, v any) ([]byte, error) {
	payload, err := Marshal(v)
	if err != nil {
		return nil, err
	}
	inner, err := Marshal(message{
		From: s.Identity.ID(), Public: s.Identity.Public(), Epoch: s.Epoch, Seq: s.seq.Add(1),
		Kind: kind, To: to, Start: start, Payload: payload,
	})
	if err != nil {
		return nil, err
	}
	return Marshal(envelope{Message: inner, Sig: s.Identity.Sign(sealed(inner))})
}

func sealed(inner []byte) []byte { return append([]byte(sealDomain), inner...) }

// Opener checks messages that others sealed. It may be used by many goroutines.
type Opener struct {
	self   knowledge.NodeID
	start  uint64
	known  func(knowledge.NodeID) bool
	seen   *memory
	counts [causes]atomic.Uint64
}

// NewOpener opens messages for one start of self; start is its number, which no other start
// has. What was opened is kept in memory only: messages for an earlier start are refused for
// that, however it ended. known reports whether a node may send at all: everyone can make a
// key, and unknown senders must not push members out of that memory. nil: all may.
func NewOpener(self knowledge.NodeID, start uint64, known func(knowledge.NodeID) bool) *Opener {
	return &Opener{self: self, start: start, known: known, seen: newMemory()}
}

// Open verifies a message of the given kind and reads it into v, which must be
// fresh. Each version opens once; after an error v is not to be used.
func (o *Opener) Open(b []byte, kind string, v any) (from knowledge.NodeID, version knowledge.Version, err error) {
	from, version, err = o.open(b, kind, v)
	if err != nil {
		o.counts[causeOf(err)].Add(1)
		return "", knowledge.Version{}, fmt.Errorf("a message of kind %.32q %w", kind, err)
	}
	return from, version, nil
}

func (o *Opener) open(b []byte, kind string, v any) (knowledge.NodeID, knowledge.Version, error) {
	var none knowledge.Version
	m, err := verify(b)
	switch {
	case err != nil:
		return "", none, err
	case m.Kind != kind:
		return "", none, fmt.Errorf("%w: it is of kind %.32q", ErrMalformed, m.Kind)
	case m.To != o.self || m.Start != o.start:
		return "", none, ErrRecipient
	case o.known != nil && !o.known(m.From):
		return "", none, fmt.Errorf("%w: %s is no member", ErrSigner, m.From.Short())
	}
	version := knowledge.Version{Epoch: m.Epoch, Seq: m.Seq}
	if !o.seen.accept(m.From, kind, version) {
		return "", none, ErrReplay
	}
	if err := Unmarshal(m.Payload, v); err != nil {
		return "", none, err
	}
	return m.From, version, nil
}

// verify checks all that needs no memory.
func verify(b []byte) (*message, error) {
	var e envelope
	if err := Unmarshal(b, &e); err != nil {
		return nil, err
	}
	m := new(message)
	if err := Unmarshal(e.Message, m); err != nil {
		return nil, err
	}
	pub := ed25519.PublicKey(m.Public)
	if id := IDOf(pub); id == "" || id != m.From || !ed25519.Verify(pub, sealed(e.Message), e.Sig) {
		return nil, ErrSigner
	}
	return m, nil
}

// The causes of a refusal, as places in Opener.counts.
const (
	causeMalformed = iota
	causeReplay
	causeSigner
	causeTooLarge
	causeRecipient
	causes
)

func causeOf(err error) int {
	switch {
	case errors.Is(err, ErrReplay):
		return causeReplay
	case errors.Is(err, ErrSigner):
		return causeSigner
	case errors.Is(err, ErrTooLarge):
		return causeTooLarge
	case errors.Is(err, ErrRecipient):
		return causeRecipient
	}
	return causeMalformed
}

// Refusals counts what was not opened, by cause.
type Refusals struct {
	Replay, Signer, TooLarge, Malformed, Recipient uint64
}

// Counts is for the metrics.
func (o *Opener) Counts() Refusals {
	return Refusals{
		Replay: o.counts[causeReplay].Load(), Signer: o.counts[causeSigner].Load(), TooLarge: o.counts[causeTooLarge].Load(),
		Malformed: o.counts[causeMalformed].Load(), Recipient: o.counts[causeRecipient].Load(),
	}
}
