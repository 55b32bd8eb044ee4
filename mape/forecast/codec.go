package forecast

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"slices"
)

const codecVersion = 1

// ErrForecast means that bytes are not those of a Model with this Config.
var ErrForecast = errors.New("not a forecast of this version and configuration")

// Marshal is everything that was learned: 40 to 110 KB, most of it the history in
// which periods are looked for.
func (m *Model) Marshal() []byte {
	c := codec{buf: make([]byte, 0, 128<<10)}
	m.walk(&c)
	return binary.LittleEndian.AppendUint32(c.buf, crc32.ChecksumIEEE(c.buf))
}

// Unmarshal takes what Marshal of a Model with the same Config gave; m answers as
// that one would. Anything else is an error that wraps ErrForecast, and m stays as
// it was.
func (m *Model) Unmarshal(b []byte) error {
	n := len(b) - crc32.Size
	if n < 0 || crc32.ChecksumIEEE(b[:n]) != binary.LittleEndian.Uint32(b[n:]) {
		return fmt.Errorf("%w: a wrong checksum in %d bytes", ErrForecast, len(b))
	}
	fresh := New(m.config)
	c := codec{buf: b[:n], reads: true}
	fresh.walk(&c)
	if c.bad || len(c.buf) != 0 {
		return fmt.Errorf("%w: impossible numbers or a wrong length", ErrForecast)
	}
	*m = *fresh
	return nil
}

// codec walks over fields, once for writing and once for reading, so that the two
// cannot differ.
type codec struct {
	buf   []byte
	reads bool
	bad   bool
}

func (c *codec) bits(v uint64) uint64 {
	if !c.reads {
		c.buf = binary.LittleEndian.AppendUint64(c.buf, v)
		return v
	}
	if len(c.buf) < 8 {
		c.bad, c.buf = true, nil
		return 0
	}
	v = binary.LittleEndian.Uint64(c.buf)
	c.buf = c.buf[8:]
	return v
}

// maxNumber bounds what is learned of values. Innovations, in units of a scale that may be as
// low as 1e-12, come to 1e30, and weights to a few times of that. It fits float32.
const maxNumber = 1e36

// number is finite and no more than maxNumber.
func (c *codec) number(p *float64) {
	*p = math.Float64frombits(c.bits(math.Float64bits(*p)))
	if !(math.Abs(*p) <= maxNumber) {
		c.bad, *p = true, 0
	}
}

// amount is a number that is not negative.
func (c *codec) amount(p *float64) {
	if c.number(p); *p < 0 {
		c.bad, *p = true, 0
	}
}

func (c *codec) numbers(p []float64) {
	for i := range p {
		c.number(&p[i])
	}
}

func (c *codec) amounts(p []float64) {
	for i := range p {
		c.amount(&p[i])
	}
}

// count is an int from 0 to most.
func (c *codec) count(p *int, most int) {
	v := c.bits(uint64(*p))
	if v > uint64(most) {
		c.bad, v = true, 0
	}
	*p = int(v)
}

func (c *codec) flag(p *bool) {
	v := 0
	if *p {
		v = 1
	}
	c.count(&v, 1)
	*p = v == 1
}

// same has to be what it is in this model.
func (c *codec) same(v uint64) { c.bad = c.bits(v) != v || c.bad }

const most = math.MaxInt64 / 4

func (m *Model) walk(c *codec) {
	c.same(codecVersion)
	c.same(uint64(m.config.Step))
	c.same(uint64(len(m.config.Horizons)))
	for _, h := range m.config.Horizons {
		c.same(uint64(h))
	}
	c.same(uint64(len(m.config.Levels)))
	for _, l := range m.config.Levels {
		c.same(math.Float64bits(l))
	}
	m.signal.walk(c)
	m.season.walk(c)
	c.count(&m.fineNext, most)
	c.count(&m.coarseNext, most)
	for i := range m.horizons {
		m.horizons[i].walk(c, m.signal.n)
	}
}

func (s *signal) walk(c *codec) {
	c.count(&s.n, most)
	c.count(&s.seen, most)
	c.amount(&s.last)
	for i := s.filled(); i > 0; i-- {
		c.amount(&s.ring[(s.n-i)&(len(s.ring)-1)])
	}
	c.amounts(s.means[:])
	c.number(&s.level)
	c.number(&s.trend)
	c.amount(&s.scale)
	if c.reads {
		s.sort(s.sorted[:])
		s.sort(s.middle[:])
	}
}

func (z *seasonality) walk(c *codec) {
	z.fine.walk(c)
	z.coarse.walk(c)
	c.count(&z.cycle.bins, coarseBins)
	c.amount(&z.cycle.strength)
	c.flag(&z.inCoarse)
	if z.bins().width == 0 && z.cycle.bins > 0 {
		c.bad = true
	}
}

func (b *bins) walk(c *codec) {
	if b.width == 0 {
		return
	}
	c.count(&b.done, most)
	c.amount(&b.sum)
	c.count(&b.part, b.width-1)
	for i := min(b.done, len(b.mean)); i > 0; i-- {
		p := &b.mean[(b.done-i)%len(b.mean)]
		v := float64(*p)
		c.amount(&v)
		*p = float32(v)
	}
}

func (h *horizon) walk(c *codec, n int) {
	h.value.walk(c)
	h.peak.walk(c)
	h.fit.walk(c)
	h.bound.walk(c)
	c.number(&h.lift)
	c.amounts(h.blocks[:])
	c.amount(&h.high)
	c.amount(&h.high2)
	c.amount(&h.errors)
	c.amount(&h.same)
	c.count(&h.count, most)
	h.now.walk(c, n)
	c.count(&h.waiting, len(h.pending))
	for i := range h.waiting {
		h.pending[(h.first+i)%len(h.pending)].walk(c, n)
	}
}

func (v *vote) walk(c *codec) {
	c.amounts(v.loss[:])
	c.amount(&v.mixed)
	c.amount(&v.picked)
	c.amount(&v.chosen)
	c.amount(&v.same)
}

func (r *regression) walk(c *codec) {
	for i := range r.cov {
		c.numbers(r.cov[i][:])
	}
	for _, t := range []*target{&r.value, &r.peak} {
		c.numbers(t.weight[:])
		c.amount(&t.surprise)
	}
	c.flag(&r.started)
}

func (b *bounds) walk(c *codec) {
	c.amount(&b.size)
	c.amount(&b.slow)
	c.count(&b.count, most)
	n := min(b.count, residualWindow)
	c.numbers(b.ring[:n])
	c.numbers(b.debt[:])
	c.amounts(b.cover[:])
	if c.reads {
		copy(b.sorted[:n], b.ring[:n])
		slices.Sort(b.sorted[:n])
	}
}

func (f *issued) walk(c *codec, n int) {
	c.count(&f.at, max(0, n-1))
	c.numbers(f.features[:])
	c.amount(&f.scale)
	c.amount(&f.unit)
	f.value.walk(c)
	f.peak.walk(c)
	c.amount(&f.saidValue)
	c.amount(&f.saidPeak)
	c.amounts(f.upper[:])
	c.flag(&f.blind)
}

func (s *says) walk(c *codec) {
	c.numbers(s.member[:])
	c.number(&s.mixed)
	c.number(&s.picked)
	c.number(&s.chosen)
}
