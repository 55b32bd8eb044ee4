package simulate

import (
	"math"
	"time"
)

// sizer gives the total size, in cores or bytes.
type sizer interface{ size(s *Seen) float64 }

// resized gives a sizer's answer to the replicas that there are.
type resized struct {
	sizer
	memory bool
}

// Decide implements Policy.
func (r resized) Decide(s *Seen) Want {
	v := r.size(s) / float64(max(s.Replicas(), 1))
	if r.memory {
		return Want{Memory: v}
	}
	return Want{Cores: v}
}

// counted makes whole replicas of a sizer's answer.
type counted struct{ sizer }

// Decide implements Policy.
func (c counted) Decide(s *Seen) Want {
	return Want{Replicas: whole(c.size(s) / s.Cores)}
}

// maxReplicas bounds a division.
const maxReplicas = 1e6

// whole rounds a number of replicas up; rounding errors of division do not
// count as a replica.
func whole(v float64) int {
	if !(v > 0) {
		return 1
	}
	return max(int(math.Ceil(min(v, maxReplicas)-tolerance)), 1)
}

// static is a fixed limit: the peak of the first day. During that day it is the peak
// so far.
type static struct{ peak float64 }

const staticLearns = 24 * time.Hour

func (p *static) size(s *Seen) float64 {
	if s.At <= staticLearns {
		p.peak = max(p.peak, needed(s))
	}
	return p.peak
}

// lastmax is the highest demand of the last hour.
type lastmax struct{ hour highest }

func newLastmax() *lastmax { return &lastmax{highest{window: time.Hour}} }

func (p *lastmax) size(s *Seen) float64 { return p.hour.add(s.At, needed(s)) }

// tracking is target tracking: capacity such that use is a share of it, up at
// once, down to the highest need of the last 300 s.
type tracking struct {
	target float64
	need   highest
}

// trackingTarget and trackingDown are the rule's usual figures.
const (
	trackingTarget = 0.6
	trackingDown   = 300 * time.Second
)

func newTracking(target float64) *tracking {
	return &tracking{target, highest{window: trackingDown}}
}

func (p *tracking) size(s *Seen) float64 { return p.need.add(s.At, needed(s)) / p.target }

// needed is demand; after an OOM kill it is only known that the limit was too small,
// and VPA's step up from it is the need.
func needed(s *Seen) float64 {
	if s.OOM > 0 {
		return bumped(s.Memory * float64(max(s.Replicas(), 1)))
	}
	return s.Demand
}

// bumped is the Vertical Pod Autoscaler's step after an OOM kill: a fifth more,
// at least 100 MiB.
func bumped(limit float64) float64 { return max(1.2*limit, limit+100<<20) }

// original is the first EffiScale's rule: half as much again over 75 % of use, 0.7 of
// it under 40 %, every 5 s, 300 s of rest after a change.
type original struct {
	next, rest time.Duration
	axis       Axis
	memory     bool
}

const (
	originalHigh, originalLow = 0.75, 0.4
	originalUp, originalDown  = 1.5, 0.7
	originalEvery             = 5 * time.Second
	originalRest              = 300 * time.Second
)

// Decide implements Policy.
func (p *original) Decide(s *Seen) Want {
	if s.At < p.next || s.At < p.rest {
		return Want{}
	}
	p.next = after(s.At, p.next, originalEvery)
	limit := s.Cores
	if p.memory {
		limit = s.Memory
	}
	by := 0.0
	switch use := s.Usage / (limit * float64(max(s.Ready, 1))); {
	case use > originalHigh || s.OOM > 0:
		by = originalUp
	case use < originalLow:
		by = originalDown
	default:
		return Want{}
	}
	p.rest = s.At + originalRest
	switch {
	case p.axis == Horizontal && by > 1:
		return Want{Replicas: int(math.Ceil(float64(s.Replicas()) * by))}
	case p.axis == Horizontal:
		return Want{Replicas: max(int(float64(s.Replicas())*by), 1)}
	case p.memory:
		return Want{Memory: limit * by}
	}
	return Want{Cores: limit * by}
}
