package knowledge

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// ErrEncoding means bytes that are not what they should be.
var ErrEncoding = errors.New("unknown format")

// Fields packs the fields of a record or reads them back, so that one function
// that visits each field describes both. Numbers are little-endian. Reading checks
// the bounds of each; a field that is out of bounds or missing is read as 0.
type Fields struct {
	data  []byte // packed so far, or left to read
	reads bool
	bad   bool
}

// PackFields appends fields to b.
func PackFields(b []byte) *Fields { return &Fields{data: b} }

// ReadFields reads fields from b.
func ReadFields(b []byte) *Fields { return &Fields{data: b, reads: true} }

// Reads reports whether fields are read, not packed.
func (f *Fields) Reads() bool { return f.reads }

// Bytes are those packed so far, or left to read.
func (f *Fields) Bytes() []byte { return f.data }

// Require refuses the record unless ok.
func (f *Fields) Require(ok bool) { f.bad = f.bad || !ok }

// OK reports whether every field so far was in bounds.
func (f *Fields) OK() bool { return !f.bad }

// End is ErrEncoding unless every field was in bounds and nothing is left.
func (f *Fields) End(what string) error {
	if f.bad || len(f.data) > 0 {
		return fmt.Errorf("cannot read %s: %w", what, ErrEncoding)
	}
	return nil
}

// Take is the next n bytes, when they are read.
func (f *Fields) Take(n int) []byte {
	if n > len(f.data) {
		f.bad, f.data = true, nil
		return nil
	}
	b := f.data[:n]
	f.data = f.data[n:]
	return b
}

// word is a number of size bytes.
func (f *Fields) word(v uint64, size int) uint64 {
	var b [8]byte
	if !f.reads {
		binary.LittleEndian.PutUint64(b[:], v)
		f.data = append(f.data, b[:size]...)
		return v
	}
	copy(b[:], f.Take(size))
	return binary.LittleEndian.Uint64(b[:])
}

// Constant requires the number v in size bytes.
func (f *Fields) Constant(v uint64, size int) { f.Require(f.word(v, size) == v) }

// integer has 64 bits, or as many as the size that it is packed in.
type integer interface {
	~int | ~int8 | ~int16 | ~int64 | ~uint8 | ~uint16 | ~uint64
}

// Int is a number from least to most in size bytes.
func Int[T integer](f *Fields, p *T, size int, least, most T) {
	v := T(f.word(uint64(*p), size))
	if !f.reads {
		return
	}
	if v < least || v > most {
		f.bad, v = true, 0
	}
	*p = v
}

// Count is a number from 0 to most in 8 bytes.
func (f *Fields) Count(p *int, most int) { Int(f, p, 8, 0, most) }

// Flag is 0 or 1 in 8 bytes.
func (f *Fields) Flag(p *bool) {
	v := 0
	if *p {
		v = 1
	}
	f.Count(&v, 1)
	*p = v == 1
}

// Float is a number from least to most.
func (f *Fields) Float(p *float64, least, most float64) {
	v := math.Float64frombits(f.word(math.Float64bits(*p), 8))
	if !f.reads {
		return
	}
	if !(v >= least && v <= most) {
		f.bad, v = true, 0
	}
	*p = v
}

// Floats are numbers from least to most.
func (f *Fields) Floats(p []float64, least, most float64) {
	for i := range p {
		f.Float(&p[i], least, most)
	}
}

// Floats32 are numbers from 0 to most, in 4 bytes each.
func (f *Fields) Floats32(p []float32, most float64) {
	for i := range p {
		v := math.Float32frombits(uint32(f.word(uint64(math.Float32bits(p[i])), 4)))
		if !f.reads {
			continue
		}
		if !(v >= 0 && float64(v) <= most) {
			f.bad, v = true, 0
		}
		p[i] = v
	}
}
