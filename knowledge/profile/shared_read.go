package profile

import (
	"cmp"
	"slices"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

const (
	// matureAfter is the observation after which the reader's own host counts half
	// at least, and one of two hosts as much as the other.
	matureAfter = 10 * time.Minute
	// trimFrom is how many hosts there must be for the highest and the lowest of
	// their figures to be left out of a mean.
	trimFrom = 5
	// robustFrom is how many hosts are needed to detect an outlier. A host's figure counts
	// up to farOff times the median, or down to a part of it: its share of a mean is at
	// most a third, so it moves the mean to at most (2 + farOff)/3 = 2 times the highest
	// and at least (2 + 1/farOff)/3 = 3/4 of the lowest figure of the others.
	robustFrom = 3
	farOff     = 4
	// farFromOwn is the same for one or two other hosts and the own figures: of
	// half a mean, (1 + farFromOwn)/2 = 2 times and (1 + 1/farFromOwn)/2 = 2/3.
	farFromOwn = 3
)

// Sight is a Shared in the few numbers that a planner needs. The zero value:
// nothing is known.
type Sight struct {
	// ObservedFor sums what all hosts observed, over all their containers; of three
	// and more others none counts for more than a third.
	ObservedFor time.Duration
	// CPU is a percentile of use and CPUMax the highest use, both in cores.
	CPU, CPUMax float64
	// MemoryNeed is a percentile of one-minute peaks and MemoryMax the highest peak.
	MemoryNeed, MemoryMax knowledge.Bytes
	Hosts                 int // that observed something
}

// figures are one host's, and how much they count. One that is 0 is not known.
type figures struct {
	weight                         float64
	cpu, cpuMax, need, highestPeak float64
}

func figuresOf(p *Profile, cpuPercentile, memoryPercentile float64) figures {
	return figures{
		weight: p.observed.Seconds(), cpu: p.CPU(cpuPercentile), cpuMax: p.CPUMax(),
		need: float64(p.MemoryNeed(memoryPercentile)), highestPeak: float64(p.MemoryMax()),
	}
}

// Read sums up the hosts for the host called self. Each host's figures are weighted
// by the time it observed, of two to ten minutes; of three and more hosts none has
// more than a third, of five and more the highest and the lowest do not count. Self
// has at least half, once it has observed for ten minutes: its machine differs from
// the others'.
//
// Bounds on a malicious host, for a figure that others report too:
//   - of five and more hosts, a mature self apart: within the lowest and the highest
//     of the others;
//   - of three and four: from 3/4 of the lowest to twice the highest;
//   - of one and two, beside a mature self that has the figure too: from 2/3 of the
//     lowest to twice the highest;
//   - of one or two without a mature self: none. The planner's bounds and the host's
//     guards remain.
//
// A host adds at most half of the time that the others observed where they are two or
// more, a mature self apart.
func (s *Shared) Read(self knowledge.NodeID, cpuPercentile, memoryPercentile float64) Sight {
	var out Sight
	var mine figures
	var all []figures
	for _, p := range s.parts {
		if p.Profile.observed <= 0 {
			continue
		}
		f := figuresOf(p.Profile, cpuPercentile, memoryPercentile)
		out.Hosts++
		if p.Host == self && p.Profile.observed >= matureAfter {
			mine = f
			continue
		}
		all = append(all, f)
	}
	level(all)
	seconds := mine.weight
	for _, f := range all {
		seconds += f.weight
	}
	out.ObservedFor = time.Duration(min(seconds, maxObserved.Seconds()) * float64(time.Second))
	share := 0.0 // of self, apart from the others
	if mine.weight > 0 {
		share = max(0.5, mine.weight/seconds)
	}
	of := func(field func(*figures) float64) float64 {
		own := field(&mine)
		others := mean(all, field, own)
		switch {
		case others == 0:
			return own
		case own == 0:
			return others
		}
		return share*own + (1-share)*others
	}
	out.CPU = of(func(f *figures) float64 { return f.cpu })
	out.CPUMax = of(func(f *figures) float64 { return f.cpuMax })
	out.MemoryNeed = knowledge.Bytes(of(func(f *figures) float64 { return f.need }))
	out.MemoryMax = knowledge.Bytes(of(func(f *figures) float64 { return f.highestPeak }))
	return out
}

// level cuts weights so that of three or more none is over a third of the sum. At
// most two can be: with the rest R of all others, one alone above is cut to R/2, the
// second of two to what is left without both.
func level(all []figures) {
	if len(all) < robustFrom {
		return
	}
	slices.SortFunc(all, func(a, b figures) int { return cmp.Compare(b.weight, a.weight) })
	rest := 0.0
	for _, f := range all[2:] {
		rest += f.weight
	}
	all[1].weight = min(all[1].weight, rest)
	all[0].weight = min(all[0].weight, (all[1].weight+rest)/2)
}

// mean is the robust mean of a figure over the hosts that have it; 0: none does. own
// is the reader's figure; 0: none.
func mean(all []figures, field func(*figures) float64, own float64) float64 {
	known := make([]figures, 0, len(all))
	for _, f := range all {
		if v := field(&f); v > 0 {
			known = append(known, figures{weight: f.weight, cpu: v})
		}
	}
	level(known)
	slices.SortFunc(known, func(a, b figures) int { return cmp.Compare(a.cpu, b.cpu) })
	n := len(known)
	switch {
	case n >= trimFrom:
		known = known[1 : n-1]
		fallthrough
	case n >= robustFrom:
		m := known[(len(known)-1)/2].cpu // the lower one of four: a single outlier is above or below it
		bound(known, m, farOff)
	case n > 0 && own > 0:
		bound(known, own, farFromOwn)
	}
	var sum, weight float64
	for _, f := range known {
		if n < robustFrom {
			f.weight = min(f.weight, matureAfter.Seconds())
		}
		sum += f.weight * f.cpu
		weight += f.weight
	}
	if weight == 0 {
		return 0
	}
	return sum / weight
}

// bound brings figures to within a factor of the median.
func bound(all []figures, midst, factor float64) {
	for i := range all {
		all[i].cpu = min(max(all[i].cpu, midst/factor), midst*factor)
	}
}
