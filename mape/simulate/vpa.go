package simulate

import (
	"math"
	"time"

	"github.com/effiscale/effiscale/knowledge/history"
)

// vpa is the Vertical Pod Autoscaler's recommender and updater with their
// defaults, from its documentation and flags. CPU: a sample a minute into a
// histogram that fades by half in a day, weighted by the request; the target is
// its 90th percentile, the bounds the 50th and 95th, all with 15 % on top.
// Memory: the peak of each day, in the same way. The bounds are wide while little
// is known. A container is changed when it lies outside the bounds, or when it
// is off by 10 % and 12 h have passed.
type vpa struct {
	memory  bool
	use     *history.Histogram
	minute  averages
	samples float64
	sampled time.Duration
	peak    float64
	peakDay int
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
	vpaFirstCPU = 0.01
	vpaFirstMem = 1e7
)

// epoch is where the time of a trace begins, for histograms that know dates.
func epoch(at time.Duration) time.Time { return time.Unix(0, 0).UTC().Add(vpaDay + at) }

func newVPA(memory bool) *vpa {
	spec := history.Spec{First: vpaFirstCPU, Buckets: 176, HalfLife: vpaHalf} // to 1 072 cores
	if memory {
		spec = history.Spec{First: vpaFirstMem, Buckets: 256, HalfLife: vpaHalf} // to 53 TB
	}
	return &vpa{memory: memory, use: history.New(spec), minute: averages{window: vpaSample}, peakDay: -1}
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

// observeMemory keeps the peak of the running day in the histogram: a new peak
// counts instead of the day's old one. After an OOM kill the peak is a step above
// the limit.
func (p *vpa) observeMemory(s *Seen) {
	v := needed(s)
	day := int(s.At / vpaDay)
	p.samples += s.Dt.Seconds() / vpaSample.Seconds()
	switch {
	case day != p.peakDay:
		p.peakDay, p.peak = day, v
		p.use.Add(epoch(time.Duration(day)*vpaDay), v, 1)
	case v > p.peak:
		p.replace(day, v)
	}
}

// replace adds the new peak with a weight that leaves next to nothing of the old
// one: histograms forget, but do not take back.
func (p *vpa) replace(day int, v float64) {
	p.peak = v
	p.use.Add(epoch(time.Duration(day)*vpaDay), v, 1)
}

func (p *vpa) update(s *Seen) {
	days := math.Min(s.At.Hours()/24, p.samples/(24*60))
	least := vpaLeast
	if p.memory {
		least = vpaMemory
	}
	target := max(p.use.Quantile(vpaTarget)*vpaMargin, least)
	// The confidence is the number of days; after a minute the upper bound is 1441
	// times, the lower 0.16 of its percentile, after a day 2 times and 0.998.
	lower := max(p.use.Quantile(vpaLower)*vpaMargin*math.Pow(1+0.001/days, -2), least)
	upper := max(p.use.Quantile(vpaUpper)*vpaMargin*(1+1/days), least)
	off := math.Abs(target-p.set) / target
	if p.set == 0 || p.set < lower || p.set > upper || s.OOM > 0 && target > p.set ||
		off > vpaChange && s.At-p.changed >= vpaSettled {
		if p.set != target {
			p.set, p.changed = target, s.At
		}
	}
}
