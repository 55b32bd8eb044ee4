package simulate

import (
	"math"
	"time"
)

// hpa is the Horizontal Pod Autoscaler of Kubernetes with its defaults, from its
// documentation ("Algorithm details") and the controller's flags: desired = ⌈replicas
// · metric/target⌉ every 15 s, nothing within 10 % of the target, replicas that do
// not serve yet count as idle when it grows, the highest recommendation of the last
// 300 s counts when it shrinks, and at most twice as many or 4 more in 15 s.
//
// The metrics pipeline is part of it: use is a mean over 15 s, taken every 15 s, and
// 12 s old when the controller reads it.
type hpa struct {
	target         float64
	metric         float64
	scrape, next   time.Duration
	use            averages
	wanted         highest
	least, highest int
}

const (
	hpaEvery     = 15 * time.Second
	hpaTolerance = 0.1
	hpaDown      = 300 * time.Second
	hpaDouble    = 2.0
	hpaMore      = 4
	hpaMetrics   = 15 * time.Second
	hpaLag       = 12 * time.Second
)

func newHPA(o Options) *hpa {
	return &hpa{
		target: o.Target, next: hpaLag, use: averages{window: hpaMetrics}, wanted: highest{window: hpaDown},
		least: o.least(), highest: o.most(),
	}
}

// Decide implements Policy.
func (p *hpa) Decide(s *Seen) Want {
	use := p.use.add(s.At, s.Dt, s.Demand)
	if s.At >= p.scrape {
		p.metric, p.scrape = use, after(s.At, p.scrape, hpaMetrics)
	}
	if s.At < p.next {
		return Want{}
	}
	p.next = after(s.At, p.next, hpaEvery)
	n := s.Replicas()
	want := min(max(p.desired(s), p.least), p.highest)
	held := int(p.wanted.add(s.At, float64(want)))
	switch {
	case want > n:
		return Want{Replicas: min(want, max(int(hpaDouble*float64(n)), n+hpaMore))}
	case held < n:
		return Want{Replicas: held}
	}
	return Want{}
}

// after is the first instant after now that is a whole number of intervals after
// last: a clock that ticks beside the steps does not drift with them.
func after(now, last, every time.Duration) time.Duration {
	return last + (now-last)/every*every + every
}

// desired is the recommendation before stabilisation.
func (p *hpa) desired(s *Seen) int {
	n := s.Replicas()
	ratio := p.metric / (float64(max(s.Ready, 1)) * s.Cores * p.target)
	if s.Starting > 0 && ratio > 1 {
		ratio = p.metric / (float64(n) * s.Cores * p.target)
		if ratio < 1 {
			return n
		}
	}
	if math.Abs(ratio-1) <= hpaTolerance {
		return n
	}
	if s.Starting > 0 && ratio > 1 {
		return whole(ratio * float64(n))
	}
	return whole(ratio * float64(max(s.Ready, 1)))
}
