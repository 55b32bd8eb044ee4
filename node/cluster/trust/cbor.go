package trust

import (
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

// Bounds on what a peer sends. A list of 65536 replicas is far beyond one host;
// 16 levels are twice what our deepest body has.
const (
	MaxMessage  = 4 << 20
	maxNesting  = 16
	maxElements = 65536
)

// codec is the encoding of all messages between nodes.
type codec struct {
	enc cbor.EncMode
	dec cbor.DecMode
	err error
}

// modes are built once: building takes longer than most messages.
var modes = newCodec()

func newCodec() codec {
	enc := cbor.CoreDetEncOptions()
	enc.Time = cbor.TimeRFC3339NanoUTC
	// What no host may believe, none may send: NaN is an error where it is made.
	enc.NaNConvert, enc.InfConvert = cbor.NaNConvertReject, cbor.InfConvertReject
	dec := cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		MaxNestedLevels:   maxNesting,
		MaxArrayElements:  maxElements,
		MaxMapPairs:       maxElements,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		FieldNameMatching: cbor.FieldNameMatchingCaseSensitive,
		NaN:               cbor.NaNDecodeForbidden,
		Inf:               cbor.InfDecodeForbidden,
	}
	em, err := enc.EncMode()
	dm, err2 := dec.DecMode()
	return codec{enc: em, dec: dm, err: errors.Join(err, err2)}
}

// Marshal writes v as canonical CBOR: the same value is the same bytes on every
// node. NaN and infinity are errors, and so is what Unmarshal would refuse by size.
func Marshal(v any) ([]byte, error) {
	if modes.err != nil {
		return nil, modes.err
	}
	b, err := modes.enc.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("cannot encode %T: %w", v, err)
	}
	if len(b) > MaxMessage {
		return nil, fmt.Errorf("cannot encode %T: %w", v, ErrTooLarge)
	}
	return b, nil
}

// Unmarshal reads one CBOR value of a peer. Keys that v does not have are
// skipped, so that newer versions can add some; duplicate keys, bytes after the
// value, tags, lengths that come later, NaN and infinity are ErrMalformed.
func Unmarshal(b []byte, v any) error {
	switch {
	case modes.err != nil:
		return modes.err
	case len(b) > MaxMessage:
		return ErrTooLarge
	}
	if err := modes.dec.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return nil
}
