package profile

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/knowledge/history"
)

const (
	version = 1
	// MaxEncoded bounds an encoded profile, whatever it holds.
	MaxEncoded = 8 << 10
	fixed      = 1 + 8*(2+2+2+2) + peakDays*(8+4+8) + 2*3*3*8
)

// Marshal is the profile's bytes: a version, fixed fields, and four histograms
// with their lengths, typically 500 bytes to 2 KB.
func (p *Profile) Marshal() []byte {
	le := binary.LittleEndian
	b := make([]byte, 0, 2048)
	b = append(b, version)
	for _, v := range [...]uint64{
		p.Epoch, p.Version, uint64(p.first), uint64(p.last), uint64(p.observed), uint64(p.censored),
		math.Float64bits(p.growth), uint64(p.grownAt),
	} {
		b = le.AppendUint64(b, v)
	}
	for _, k := range p.peaks {
		b = le.AppendUint64(b, uint64(k.Day))
		b = le.AppendUint32(b, math.Float32bits(k.CPU))
		b = le.AppendUint64(b, uint64(k.Memory))
	}
	for _, byVerb := range p.tallies {
		for _, t := range byVerb {
			b = le.AppendUint64(b, t.Applied)
			b = le.AppendUint64(b, t.Reverted)
			b = le.AppendUint64(b, t.Failed)
		}
	}
	for _, h := range p.histograms() {
		at := len(b)
		b, _ = h.AppendBinary(append(b, 0, 0)) // it has no error to return
		le.PutUint16(b[at:], uint16(len(b)-at-2))
	}
	return b
}

func (p *Profile) histograms() [4]*history.Histogram {
	return [...]*history.Histogram{p.cpu, p.day, p.hour, p.start}
}

// Unmarshal reads what Marshal wrote. Anything else, a newer version included,
// is an error that wraps history.ErrEncoding.
func Unmarshal(b []byte) (*Profile, error) {
	if len(b) < fixed || len(b) > MaxEncoded || b[0] != version {
		return nil, fmt.Errorf("cannot read profile: %w: %d bytes", history.ErrEncoding, len(b))
	}
	p := New()
	r := reader{b[1:]}
	p.Epoch, p.Version = r.u64(), r.u64()
	p.first, p.last = int64(r.u64()), int64(r.u64())
	p.observed, p.censored = time.Duration(r.u64()), time.Duration(r.u64())
	p.growth, p.grownAt = math.Float64frombits(r.u64()), int64(r.u64())
	for i := range p.peaks {
		p.peaks[i] = Peak{Day: int64(r.u64()), CPU: math.Float32frombits(r.u32()), Memory: knowledge.Bytes(r.u64())}
	}
	for i := range p.tallies {
		for j := range p.tallies[i] {
			p.tallies[i][j] = Tally{Applied: r.u64(), Reverted: r.u64(), Failed: r.u64()}
		}
	}
	if err := p.check(); err != nil {
		return nil, err
	}
	for _, h := range p.histograms() {
		part, err := r.part()
		if err != nil {
			return nil, err
		}
		want := h.Spec()
		if err := h.UnmarshalBinary(part); err != nil {
			return nil, fmt.Errorf("cannot read profile: %w", err)
		}
		if h.Spec() != want {
			return nil, fmt.Errorf("cannot read profile: %w: %w", history.ErrEncoding, history.ErrShape)
		}
	}
	if len(r.b) != 0 {
		return nil, fmt.Errorf("cannot read profile: %w: %d bytes too many", history.ErrEncoding, len(r.b))
	}
	return p, nil
}

// check refuses figures that no observation can have made.
func (p *Profile) check() error {
	ok := p.first >= 0 && p.last >= p.first && (p.first > 0 || p.last == 0) &&
		p.observed >= 0 && p.observed <= maxObserved && p.censored >= 0 && p.censored <= p.observed &&
		p.growth >= 0 && p.growth <= float64(knowledge.MaxBytes) && p.grownAt >= 0
	for i, k := range p.peaks {
		ok = ok && k.Day >= 0 && k.Day < 1<<32 && (k.Day == 0 || k.Day%peakDays == int64(i)) &&
			k.CPU >= 0 && float64(k.CPU) <= knowledge.MaxCPU.Cores() && k.Memory >= 0 && k.Memory <= knowledge.MaxBytes
	}
	for _, byVerb := range p.tallies {
		for _, t := range byVerb {
			ok = ok && max(t.Applied, t.Reverted, t.Failed) <= maxCount
		}
	}
	if !ok {
		return fmt.Errorf("cannot read profile: %w: a figure is out of bounds", history.ErrEncoding)
	}
	return nil
}

// reader takes fixed-size integers off the front of bytes that are long enough.
type reader struct{ b []byte }

func (r *reader) u64() uint64 {
	v := binary.LittleEndian.Uint64(r.b)
	r.b = r.b[8:]
	return v
}

func (r *reader) u32() uint32 {
	v := binary.LittleEndian.Uint32(r.b)
	r.b = r.b[4:]
	return v
}

// part takes a length and as many bytes.
func (r *reader) part() ([]byte, error) {
	if len(r.b) < 2 {
		return nil, fmt.Errorf("cannot read profile: %w: too short", history.ErrEncoding)
	}
	n := int(binary.LittleEndian.Uint16(r.b))
	if len(r.b) < 2+n {
		return nil, fmt.Errorf("cannot read profile: %w: too short", history.ErrEncoding)
	}
	part := r.b[2 : 2+n]
	r.b = r.b[2+n:]
	return part, nil
}
