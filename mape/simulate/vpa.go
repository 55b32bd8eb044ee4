package simulate

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/effiscale/effiscale/knowledge/history"
)

// vpa is the Vertical Pod Autoscaler's recommender and updater with their
// defaults, from its documentation and flags. CPU: a sample a minute into a
// histogram that fades by half in a day, weighted by the request; the target is
// its 90th percentile, the bounds the 50th and 95th, all with 15 % on top.
// Memory: the peak of each day, which counts half as much a day later, in the
// same way. The bounds are wide while little
// is known. A container is changed when it lies outside the bounds, or when it
// is off by 10 % and 12 h have passed.
type vpa struct {
	memory  bool
	use     *history.Histogram
	minute  averages
	samples float64
	sampled time.Duration
	peaks   []float64 // of the last days, the newest last
	day     int
	set     float64
	changed time.Duration
}

const (
	vpaSample   = time.Minute
	vpaTarget   = 0.9
	vpaLower    = 0.5
	vpaUpper    = 0.95
	vpaMargin   = 1.15
	vpaHalf     = 24 * time.Hour
	vpaLeast    = 0.025     // cores: pod-recommendation-min-cpu-millicores
	vpaMemory   = 250 << 20 // pod-recommendation-min-memory-mb
	vpaWeight   = 0.1       // cores: the least weight of a sample
	vpaSettled  = 12 * time.Hour
	vpaChange   = 0.1
	vpaDay      = 24 * time.Hour
	vpaFirstCPU = 0.01 // cores
	vpaDays     = 16   // a peak of that age weighs 2^-16
)

// epoch is where the time of a trace begins, for histograms that know dates.
func epoch(at time.Duration) time.Time { return time.Unix(0, 0).UTC().Add(vpaDay + at) }

func newVPA(memory bool) *vpa {
	spec := history.Spec{First: vpaFirstCPU, Buckets: 176, HalfLife: vpaHalf} // to 1 072 cores
	return &vpa{memory: memory, use: history.New(spec), minute: averages{window: vpaSample}, day: -1}
}

func (p *vpa) size(s *Seen) float64 {
	if p.memory {
		p.observeMemory(s)
	} else {
		p.observeCPU(s)
	}
	if p.samples == 0 {
		return 0
	}
	p.update(s)
	return p.set
}

// observeCPU counts the mean use of a minute. A step longer than a minute is as
// many samples of the same use.
func (p *vpa) observeCPU(s *Seen) {
	use := p.minute.add(s.At, s.Dt, s.Demand)
	n := math.Floor((s.At - p.sampled).Seconds() / vpaSample.Seconds())
	if n < 1 {
		return
	}
	p.sampled = s.At
	p.use.Add(epoch(s.At), use, n*max(s.Cores, vpaWeight))
	p.samples += n
}

// observeMemory keeps the peak of each day; after an OOM kill it is a step above
// the limit.
func (p *vpa) observeMemory(s *Seen) {
	v := needed(s)
	p.samples += s.Dt.Seconds() / vpaSample.Seconds()
	if day := int(s.At / vpaDay); day != p.day {
		p.day = day
		if len(p.peaks) == vpaDays {
			p.peaks = append(p.peaks[:0], p.peaks[1:]...)
		}
		p.peaks = append(p.peaks, 0)
	}
	last := &p.peaks[len(p.peaks)-1]
	*last = max(*last, v)
}

// quantile of the samples of CPU, or of the peaks of memory by their age.
func (p *vpa) quantile(q float64) float64 {
	if !p.memory {
		return p.use.Quantile(q)
	}
	type aged struct{ peak, weight float64 }
	var all [vpaDays]aged
	n, total := len(p.peaks), 0.0
	for i, v := range p.peaks {
		all[i] = aged{v, math.Exp2(float64(i + 1 - n))}
		total += all[i].weight
	}
	slices.SortFunc(all[:n], func(a, b aged) int { return cmp.Compare(a.peak, b.peak) })
	sum := 0.0
	for _, a := range all[:n] {
		if sum += a.weight; sum >= q*total {
			return a.peak
		}
	}
	return 0
}

func (p *vpa) update(s *Seen) {
	days := math.Min(s.At.Hours()/24, p.samples/(24*60))
	least := vpaLeast
	if p.memory {
		least = vpaMemory
	}
	target := max(p.quantile(vpaTarget)*vpaMargin, least)
	// The confidence is the number of days; after a minute the upper bound is 1441
	// times, the lower 0.16 of its percentile, after a day 2 times and 0.998.
	lower := max(p.quantile(vpaLower)*vpaMargin*math.Pow(1+0.001/days, -2), least)
	upper := max(p.quantile(vpaUpper)*vpaMargin*(1+1/days), least)
	off := math.Abs(target-p.set) / target
	if p.set == 0 || p.set < lower || p.set > upper || s.OOM > 0 && target > p.set ||
		off > vpaChange && s.At-p.changed >= vpaSettled {
		if p.set != target {
			p.set, p.changed = target, s.At
		}
	}
}
