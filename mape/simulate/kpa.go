package simulate

import (
	"math"
	"time"
)

// kpa is Knative's pod autoscaler with its defaults, from its documentation and the
// configuration config-autoscaler: every 2 s the mean of the last 60 s over the
// target gives the number of replicas, and that of the last 6 s is a panic when it
// gives twice those that serve. A panic takes the higher of both and never shrinks;
// it ends when it has not been confirmed for 60 s. Down at most to half of those that
// serve.
type kpa struct {
	target        float64
	next, panicAt time.Duration
	panicking     bool
	most          int
	stable, brief averages
	delay         highest // of the scale-down delay; off by default
	min, max      int
}

const (
	kpaEvery  = 2 * time.Second
	kpaStable = 60 * time.Second
	kpaPanic  = 6 * time.Second
	kpaRatio  = 2.0
	kpaUp     = 1000.0
	kpaDown   = 2.0
)

func newKPA(o Options, delay time.Duration) *kpa {
	return &kpa{
		target: o.Target, stable: averages{window: kpaStable}, brief: averages{window: kpaPanic},
		delay: highest{window: max(delay, 1)}, min: o.least(), max: o.most(),
	}
}

// Decide implements Policy.
func (p *kpa) Decide(s *Seen) Want {
	stable, brief := p.stable.add(s.At, s.Dt, s.Demand), p.brief.add(s.At, s.Dt, s.Demand)
	if s.At < p.next {
		return Want{}
	}
	p.next = after(s.At, p.next, kpaEvery)
	ready := float64(max(s.Ready, 1))
	per := s.Cores * p.target
	up, down := math.Ceil(kpaUp*ready), math.Floor(ready/kpaDown)
	bound := func(v float64) int { return int(min(max(float64(whole(v/per)), down, 1), up)) }
	want, quick := bound(stable), bound(brief)
	switch over := float64(whole(brief/per))/ready >= kpaRatio; {
	case over:
		if !p.panicking {
			p.most = 0
		}
		p.panicking, p.panicAt = true, s.At
	case p.panicking && s.At-p.panicAt > kpaStable:
		p.panicking = false
	}
	if p.panicking {
		p.most = max(p.most, quick, want, s.Ready)
		want = p.most
	}
	want = int(p.delay.add(s.At, float64(want)))
	return Want{Replicas: min(max(want, p.min), p.max)}
}
