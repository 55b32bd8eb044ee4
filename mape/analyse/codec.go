package analyse

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// KneeSize is the length of an encoded Knee: a version, two instants, and two
// weights for each bucket, little-endian.
const KneeSize = 1 + 8 + 8 + kneeBuckets*2*8

const kneeVersion = 1

// ErrEncoding means bytes that are not what they should be.
var ErrEncoding = errors.New("bytes of another format")

// AppendBinary appends the table's KneeSize bytes.
func (k *Knee) AppendBinary(b []byte) ([]byte, error) {
	le := binary.LittleEndian
	b = append(b, kneeVersion)
	b = le.AppendUint64(b, uint64(k.landmark))
	b = le.AppendUint64(b, uint64(k.newest))
	for i := range k.time {
		b = le.AppendUint64(b, math.Float64bits(k.time[i]))
		b = le.AppendUint64(b, math.Float64bits(k.hurt[i]))
	}
	return b, nil
}

// MarshalBinary is AppendBinary into new bytes.
func (k *Knee) MarshalBinary() ([]byte, error) { return k.AppendBinary(make([]byte, 0, KneeSize)) }

// UnmarshalBinary replaces the table. Bytes that AppendBinary does not write are
// ErrEncoding, and the table stays as it was.
func (k *Knee) UnmarshalBinary(b []byte) error {
	if len(b) != KneeSize || b[0] != kneeVersion {
		return fmt.Errorf("cannot read knee: %w", ErrEncoding)
	}
	le := binary.LittleEndian
	n := Knee{landmark: int64(le.Uint64(b[1:])), newest: int64(le.Uint64(b[9:]))}
	behind := n.newest/int64(kneeHalfLife) - n.landmark
	if n.newest < 0 || (n.newest == 0 && n != Knee{}) || behind < -maxKneeExponent || behind > maxKneeExponent+1 {
		return fmt.Errorf("cannot read knee: %w: newest %d, landmark %d", ErrEncoding, n.newest, n.landmark)
	}
	for i := range n.time {
		n.time[i] = math.Float64frombits(le.Uint64(b[17+16*i:]))
		n.hurt[i] = math.Float64frombits(le.Uint64(b[25+16*i:]))
		t, h := n.time[i], n.hurt[i]
		if !(t >= 0 && t <= maxKneeWeight) || !(h >= 0 && h <= t) || math.Signbit(t) || math.Signbit(h) || (n.newest == 0 && t > 0) {
			return fmt.Errorf("cannot read knee: %w: %g of %g s", ErrEncoding, h, t)
		}
	}
	*k = n
	return nil
}
