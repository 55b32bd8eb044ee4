package history

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"
)

// The encoding of a histogram, little-endian: version, first, half-life,
// buckets, landmark, newest, index of the first weight, count of weights, and
// the weights from the first to the last that are not 0.
const (
	histogramVersion = 1
	histogramHeader  = 1 + 8 + 8 + 2 + 8 + 8 + 2 + 2
)

// ErrEncoding means bytes that are not what they should be.
var ErrEncoding = errors.New("bytes of another format")

// AppendBinary appends the histogram's bytes, about 40 and 4 for each bucket
// between the lowest and the highest in use.
func (h *Histogram) AppendBinary(b []byte) ([]byte, error) {
	lo, hi := 0, len(h.weights)
	for lo < hi && h.weights[lo] == 0 {
		lo++
	}
	for hi > lo && h.weights[hi-1] == 0 {
		hi--
	}
	if lo == hi {
		lo, hi = 0, 0
	}
	le := binary.LittleEndian
	b = append(b, histogramVersion)
	b = le.AppendUint64(b, math.Float64bits(h.spec.First))
	b = le.AppendUint64(b, uint64(h.spec.HalfLife))
	b = le.AppendUint16(b, uint16(h.spec.Buckets))
	b = le.AppendUint64(b, uint64(h.landmark))
	b = le.AppendUint64(b, uint64(h.newest))
	b = le.AppendUint16(b, uint16(lo))
	b = le.AppendUint16(b, uint16(hi-lo))
	for _, w := range h.weights[lo:hi] {
		b = le.AppendUint32(b, math.Float32bits(w))
	}
	return b, nil
}

// MarshalBinary is AppendBinary into new bytes.
func (h *Histogram) MarshalBinary() ([]byte, error) { return h.AppendBinary(nil) }

// UnmarshalBinary replaces the histogram by the one in b. It accepts exactly
// what AppendBinary writes: any byte too few or too many, a shape out of bounds,
// a weight that is not a finite number or an impossible time is ErrEncoding, and
// h is left as it was.
func (h *Histogram) UnmarshalBinary(b []byte) error {
	if len(b) < histogramHeader || b[0] != histogramVersion {
		return fmt.Errorf("cannot read histogram: %w", ErrEncoding)
	}
	le := binary.LittleEndian
	n := Histogram{
		spec: Spec{
			First:    math.Float64frombits(le.Uint64(b[1:])),
			HalfLife: time.Duration(le.Uint64(b[9:])),
			Buckets:  int(le.Uint16(b[17:])),
		},
		landmark: int64(le.Uint64(b[19:])),
		newest:   int64(le.Uint64(b[27:])),
	}
	if err := n.spec.check(); err != nil {
		return fmt.Errorf("cannot read histogram: %w: %w", ErrEncoding, err)
	}
	lo, count := int(le.Uint16(b[35:])), int(le.Uint16(b[37:]))
	if err := n.checkTimes(); err != nil {
		return err
	}
	if lo+count > n.spec.Buckets || len(b) != histogramHeader+4*count || (count == 0 && lo != 0) {
		return fmt.Errorf("cannot read histogram: %w: %d weights from %d in %d bytes", ErrEncoding, count, lo, len(b))
	}
	n.weights = make([]float32, n.spec.Buckets)
	for i := range count {
		w := math.Float32frombits(le.Uint32(b[histogramHeader+4*i:]))
		if !(w >= 0) || w > math.MaxFloat32/2 || math.Signbit(float64(w)) {
			return fmt.Errorf("cannot read histogram: %w: weight %g", ErrEncoding, w)
		}
		n.weights[lo+i] = w
	}
	if count > 0 && (n.newest == 0 || n.weights[lo] == 0 || n.weights[lo+count-1] == 0) {
		return fmt.Errorf("cannot read histogram: %w: padded", ErrEncoding)
	}
	*h = n
	return nil
}

// checkTimes refuses a landmark that the newest observation cannot have.
func (h *Histogram) checkTimes() error {
	steps := h.newest/int64(h.spec.HalfLife) - h.landmark
	switch {
	case h.newest < 0, h.landmark < -1<<40, h.landmark > 1<<40,
		h.newest == 0 && h.landmark != 0,
		h.newest != 0 && (steps < -2 || steps > maxExponent+2):
		return fmt.Errorf("cannot read histogram: %w: newest %d, landmark %d", ErrEncoding, h.newest, h.landmark)
	}
	return nil
}
