package profile

import (
	"math"
	"time"

	"github.com/effiscale/effiscale/knowledge/history"
)

// Merge adds what another host observed of the same service: weights, times and
// counts add up, extremes stay extremes. Order and grouping do not matter, up to
// float rounding. Merging one host's profile twice counts it twice: keep one per
// host, the one with the highest (Epoch, Version), and merge those.
//
// Epoch and Version of p stay: the sum is no host's copy.
func (p *Profile) Merge(other *Profile) error {
	mine, theirs := p.histograms(), other.histograms()
	for i, h := range mine {
		if h.Spec() != theirs[i].Spec() {
			return history.ErrShape
		}
	}
	for i, h := range mine {
		if err := h.Merge(theirs[i]); err != nil {
			return err
		}
	}
	if p.first == 0 || (other.first != 0 && other.first < p.first) {
		p.first = other.first
	}
	p.last = max(p.last, other.last)
	p.observed = min(p.observed+other.observed, maxObserved)
	p.censored = min(p.censored+other.censored, p.observed)
	p.mergeGrowth(other)
	for i, k := range other.peaks {
		p.peaks[i] = p.peaks[i].merge(k)
	}
	for i := range p.tallies {
		for j := range p.tallies[i] {
			a, b := &p.tallies[i][j], other.tallies[i][j]
			a.Applied = min(a.Applied+b.Applied, maxCount)
			a.Reverted = min(a.Reverted+b.Reverted, maxCount)
			a.Failed = min(a.Failed+b.Failed, maxCount)
		}
	}
	return nil
}

// mergeGrowth keeps the rate that is the higher one at any common instant. Two
// that are equal there are kept as of the later instant.
func (p *Profile) mergeGrowth(other *Profile) {
	at := max(p.grownAt, other.grownAt)
	mine, theirs := fade(p.growth, at-p.grownAt), fade(other.growth, at-other.grownAt)
	if theirs > mine || (theirs == mine && other.grownAt > p.grownAt) {
		p.growth, p.grownAt = other.growth, other.grownAt
	}
}

// fade halves a value each day of age (nanoseconds); one from the future is as it is.
func fade(value float64, age int64) float64 {
	return value * math.Exp2(-float64(max(age, 0))/float64(24*time.Hour))
}

func (k Peak) merge(o Peak) Peak {
	switch {
	case o.Day > k.Day:
		return o
	case o.Day < k.Day:
		return k
	}
	k.CPU, k.Memory = max(k.CPU, o.CPU), max(k.Memory, o.Memory)
	return k
}

// Clone is an independent copy.
func (p *Profile) Clone() *Profile {
	c := *p
	c.cpu, c.day, c.hour, c.start = p.cpu.Clone(), p.day.Clone(), p.hour.Clone(), p.start.Clone()
	return &c
}

// Newer reports whether p is a newer copy of a host's profile than other.
func (p *Profile) Newer(other *Profile) bool {
	if p.Epoch != other.Epoch {
		return p.Epoch > other.Epoch
	}
	return p.Version > other.Version
}
