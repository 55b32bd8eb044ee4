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
	// robustFrom is how many hosts tell which of them is far off. What one says
	// counts up to farOff times the median, or a part of it: at most a third of a
	// mean, which it so moves to (2 + farOff)/3 = 2 times at most and (2 + 1/farOff)/3
	// = 3/4 at least of what the highest and the lowest of the others say.
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

// Read sums up the hosts as the one called self sees them. Each host's figures
// count by the time it observed, of two to ten minutes, none for more than a third
// where there are three, the highest and the lowest of five and more not at all; and self for half at
// least, once it has observed for ten minutes: its own machine is not theirs.
//
// One host may say anything. It moves a figure that others know
//   - of five and more hosts, a mature self apart: not beyond the lowest and the
//     highest of what the others say;
//   - of three and four: not below 3/4 of the lowest nor above twice the highest;
//   - of one and two, beside a mature self that knows the figure too: not below 2/3
//     of the lowest nor above twice the highest;
//   - of one or two without one: as it likes. Nobody is there to tell who is right;
//     the planner's bounds and the host's guards are what is left.
//
// It adds no more than half of what the others observed where they are two or more,
// a mature self apart.
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

// level cuts weights so that of three or more none holds over a third of them. At
// most two can: with the rest R of all others, one alone above is cut to R/2, the
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

// mean is the robust mean of what hosts know of a figure; 0: none does. own is what
// the reader knows of it, 0: nothing.
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
		m := known[(len(known)-1)/2].cpu // the lower one of four: one liar is above or below it
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

// bound brings figures to within a factor of what is in their midst.
func bound(all []figures, midst, factor float64) {
	for i := range all {
		all[i].cpu = min(max(all[i].cpu, midst/factor), midst*factor)
	}
}
