package profile

import (
	"cmp"
	"slices"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

const (
	// matureAfter is the observation after which the reader's own host counts half
	// at least.
	matureAfter = 10 * time.Minute
	// trimFrom is how many hosts there must be for the highest and the lowest of
	// their figures to be left out of a mean.
	trimFrom = 5
)

// Sight is a Shared in the few numbers that a planner needs. The zero value:
// nothing is known.
type Sight struct {
	// ObservedFor sums what all hosts observed, over all their containers.
	ObservedFor time.Duration
	// CPU is a percentile of use and CPUMax the highest use, both in cores.
	CPU, CPUMax float64
	// MemoryNeed is a percentile of one-minute peaks and MemoryMax the highest peak.
	MemoryNeed, MemoryMax knowledge.Bytes
	Hosts                 int // that observed something
}

// figures are one host's, and how much they count.
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
// count by the time it observed, none for more than a third where there are three,
// the highest and the lowest of five and more not at all; and self for half at
// least, once it has observed for ten minutes: its own machine is not theirs.
func (s *Shared) Read(self knowledge.NodeID, cpuPercentile, memoryPercentile float64) Sight {
	var out Sight
	var mine figures
	var all []figures
	for _, p := range s.parts {
		if p.profile.observed <= 0 {
			continue
		}
		f := figuresOf(p.profile, cpuPercentile, memoryPercentile)
		out.Hosts++
		out.ObservedFor = min(out.ObservedFor+p.profile.observed, maxObserved)
		if p.host == self && p.profile.observed >= matureAfter {
			mine = f
			continue
		}
		all = append(all, f)
	}
	level(all)
	share := 0.0 // of self, apart from the others
	switch {
	case len(all) == 0:
		share = 1
	case mine.weight > 0:
		share = max(0.5, mine.weight/out.ObservedFor.Seconds())
	}
	of := func(field func(*figures) float64) float64 {
		return share*field(&mine) + (1-share)*trimmed(all, field)
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
	if len(all) < 3 {
		for i := range all {
			all[i].weight = 1
		}
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

// trimmed is the weighted mean of a figure; of five and more hosts without the
// highest and the lowest.
func trimmed(all []figures, field func(*figures) float64) float64 {
	sorted := slices.Clone(all)
	slices.SortFunc(sorted, func(a, b figures) int { return cmp.Compare(field(&a), field(&b)) })
	if len(sorted) >= trimFrom {
		sorted = sorted[1 : len(sorted)-1]
	}
	var sum, weight float64
	for i := range sorted {
		sum += sorted[i].weight * field(&sorted[i])
		weight += sorted[i].weight
	}
	if weight == 0 {
		return 0
	}
	return sum / weight
}
