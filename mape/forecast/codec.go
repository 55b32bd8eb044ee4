package forecast

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"slices"

	"github.com/effiscale/effiscale/knowledge"
)

const (
	codecVersion = 1
	// maxNumber bounds learned values. Innovations, in units of a scale that may be
	// as low as 1e-12, reach 1e30, and weights a few times that. It fits float32.
	maxNumber = 1e36
	// most bounds counts.
	most = math.MaxInt64 / 4
)

// Marshal is everything that was learned: 40 to 110 KB, most of it the history that
// is searched for periods.
func (m *Model) Marshal() []byte {
	f := knowledge.PackFields(make([]byte, 0, 128<<10))
	m.walk(f)
	return binary.LittleEndian.AppendUint32(f.Bytes(), crc32.ChecksumIEEE(f.Bytes()))
}

// Unmarshal reads what Marshal of a Model with the same Config wrote. Anything
// else is knowledge.ErrEncoding, and m stays as it was.
func (m *Model) Unmarshal(b []byte) error {
	n := len(b) - crc32.Size
	if n < 0 || crc32.ChecksumIEEE(b[:n]) != binary.LittleEndian.Uint32(b[n:]) {
		return fmt.Errorf("cannot read forecast: %w: a wrong checksum in %d bytes", knowledge.ErrEncoding, len(b))
	}
	fresh := New(m.config)
	f := knowledge.ReadFields(b[:n])
	fresh.walk(f)
	if err := f.End("forecast"); err != nil {
		return err
	}
	*m = *fresh
	return nil
}

func numbers(f *knowledge.Fields, all ...*float64) {
	for _, p := range all {
		f.Float(p, -maxNumber, maxNumber)
	}
}

// amounts are numbers that are not negative.
func amounts(f *knowledge.Fields, all ...*float64) {
	for _, p := range all {
		f.Float(p, 0, maxNumber)
	}
}

func (m *Model) walk(f *knowledge.Fields) {
	f.Constant(codecVersion, 8)
	f.Constant(uint64(m.config.Step), 8)
	f.Constant(uint64(len(m.config.Horizons)), 8)
	for _, h := range m.config.Horizons {
		f.Constant(uint64(h), 8)
	}
	f.Constant(uint64(len(m.config.Levels)), 8)
	for _, l := range m.config.Levels {
		f.Constant(math.Float64bits(l), 8)
	}
	m.signal.walk(f)
	m.season.walk(f)
	f.Count(&m.fineNext, most)
	f.Count(&m.coarseNext, most)
	for i := range m.horizons {
		m.horizons[i].walk(f, m.signal.n)
	}
}

func (s *signal) walk(f *knowledge.Fields) {
	f.Count(&s.n, most)
	f.Count(&s.seen, most)
	f.Float(&s.last, 0, maxNumber)
	for i := s.filled(); i > 0; i-- {
		f.Float(&s.ring[(s.n-i)&(len(s.ring)-1)], 0, maxNumber)
	}
	f.Floats(s.means[:], 0, maxNumber)
	numbers(f, &s.level, &s.trend)
	f.Float(&s.scale, 0, maxNumber)
	if f.Reads() {
		s.sort(s.sorted[:])
		s.sort(s.middle[:])
	}
}

func (z *seasonality) walk(f *knowledge.Fields) {
	z.fine.walk(f)
	z.coarse.walk(f)
	f.Count(&z.cycle.bins, coarseBins)
	f.Float(&z.cycle.strength, 0, maxNumber)
	f.Flag(&z.inCoarse)
	f.Require(z.bins().width > 0 || z.cycle.bins == 0)
}

func (b *bins) walk(f *knowledge.Fields) {
	if b.width == 0 {
		return
	}
	f.Count(&b.done, most)
	f.Float(&b.sum, 0, maxNumber)
	f.Count(&b.part, b.width-1)
	for i := min(b.done, len(b.mean)); i > 0; i-- {
		p := &b.mean[(b.done-i)%len(b.mean)]
		v := float64(*p)
		f.Float(&v, 0, maxNumber)
		*p = float32(v)
	}
}

func (h *horizon) walk(f *knowledge.Fields, n int) {
	h.value.walk(f)
	h.peak.walk(f)
	h.fit.walk(f)
	h.bound.walk(f)
	f.Float(&h.lift, -maxNumber, maxNumber)
	f.Floats(h.blocks[:], 0, maxNumber)
	amounts(f, &h.high, &h.high2, &h.errors, &h.same)
	f.Count(&h.count, most)
	h.now.walk(f, n)
	f.Count(&h.waiting, len(h.pending))
	for i := range h.waiting {
		h.pending[(h.first+i)%len(h.pending)].walk(f, n)
	}
}

func (v *vote) walk(f *knowledge.Fields) {
	f.Floats(v.loss[:], 0, maxNumber)
	amounts(f, &v.mixed, &v.picked, &v.chosen, &v.same)
}

func (r *regression) walk(f *knowledge.Fields) {
	for i := range r.cov {
		f.Floats(r.cov[i][:], -maxNumber, maxNumber)
	}
	for _, t := range []*target{&r.value, &r.peak} {
		f.Floats(t.weight[:], -maxNumber, maxNumber)
		f.Float(&t.surprise, 0, maxNumber)
	}
	f.Flag(&r.started)
}

func (b *bounds) walk(f *knowledge.Fields) {
	amounts(f, &b.size, &b.slow)
	f.Count(&b.count, most)
	n := min(b.count, residualWindow)
	f.Floats(b.ring[:n], -maxNumber, maxNumber)
	f.Floats(b.debt[:], -maxNumber, maxNumber)
	f.Floats(b.cover[:], 0, maxNumber)
	if f.Reads() {
		copy(b.sorted[:n], b.ring[:n])
		slices.Sort(b.sorted[:n])
	}
}

func (s *issued) walk(f *knowledge.Fields, n int) {
	f.Count(&s.at, max(0, n-1))
	f.Floats(s.features[:], -maxNumber, maxNumber)
	amounts(f, &s.scale, &s.unit)
	s.value.walk(f)
	s.peak.walk(f)
	amounts(f, &s.predictedValue, &s.predictedPeak)
	f.Floats(s.upper[:], 0, maxNumber)
	f.Flag(&s.blind)
}

func (s *predictions) walk(f *knowledge.Fields) {
	f.Floats(s.member[:], -maxNumber, maxNumber)
	numbers(f, &s.mixed, &s.picked, &s.chosen)
}
