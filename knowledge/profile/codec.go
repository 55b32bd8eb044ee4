package profile

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/knowledge/history"
)

const (
	version = 1
	// MaxEncoded bounds an encoded profile, whatever it holds.
	MaxEncoded = 8 << 10
)

// Marshal is the profile's bytes: a version, fixed fields, and four histograms
// with their lengths, typically 500 bytes to 2 KB.
func (p *Profile) Marshal() []byte {
	f := knowledge.PackFields(make([]byte, 0, 2048))
	p.fields(f)
	b := f.Bytes()
	for _, h := range p.histograms() {
		at := len(b)
		part := knowledge.PackFields(append(b, 0, 0))
		h.Pack(part)
		b = part.Bytes()
		binary.LittleEndian.PutUint16(b[at:], uint16(len(b)-at-2))
	}
	return b
}

func (p *Profile) histograms() [4]*history.Histogram {
	return [...]*history.Histogram{p.cpu, p.day, p.hour, p.start}
}

// Unmarshal reads what Marshal wrote. Anything else, a newer version included, is
// knowledge.ErrEncoding.
func Unmarshal(b []byte) (*Profile, error) {
	if len(b) > MaxEncoded {
		return nil, fmt.Errorf("cannot read profile: %w: %d bytes", knowledge.ErrEncoding, len(b))
	}
	p := New()
	f := knowledge.ReadFields(b)
	p.fields(f)
	for _, h := range p.histograms() {
		want, size := h.Spec(), 0
		knowledge.Int(f, &size, 2, 0, len(f.Bytes())-2)
		part := knowledge.ReadFields(f.Take(size))
		h.Pack(part)
		f.Require(part.End("histogram") == nil && h.Spec() == want)
	}
	if err := f.End("profile"); err != nil {
		return nil, err
	}
	return p, nil
}

// fields are all but the histograms.
func (p *Profile) fields(f *knowledge.Fields) {
	f.Constant(version, 1)
	knowledge.Int(f, &p.Epoch, 8, 0, math.MaxUint64)
	knowledge.Int(f, &p.Version, 8, 0, math.MaxUint64)
	knowledge.Int(f, &p.first, 8, 0, math.MaxInt64)
	knowledge.Int(f, &p.last, 8, p.first, math.MaxInt64)
	f.Require(p.first > 0 || p.last == 0)
	knowledge.Int(f, &p.observed, 8, 0, maxObserved)
	knowledge.Int(f, &p.censored, 8, 0, p.observed)
	f.Float(&p.growth, 0, float64(knowledge.MaxBytes))
	knowledge.Int(f, &p.grownAt, 8, 0, math.MaxInt64)
	for i := range p.peaks {
		k := &p.peaks[i]
		knowledge.Int(f, &k.Day, 8, 0, 1<<32-1)
		f.Require(k.Day == 0 || k.Day%peakDays == int64(i))
		cpu := []float32{k.CPU}
		f.Floats32(cpu, knowledge.MaxCPU.Cores())
		k.CPU = cpu[0]
		knowledge.Int(f, &k.Memory, 8, 0, knowledge.MaxBytes)
	}
	for i := range p.tallies {
		for j := range p.tallies[i] {
			t := &p.tallies[i][j]
			for _, n := range []*uint64{&t.Applied, &t.Reverted, &t.Failed} {
				knowledge.Int(f, n, 8, 0, maxCount)
			}
		}
	}
}
