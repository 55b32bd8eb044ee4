package mape

import (
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/knowledge/history"
	"github.com/effiscale/effiscale/mape/analyse"
)

// A leak that uses no CPU gets a name after hours, a service that is steady another,
// and the next start goes on with both from what is on record.
func TestCoursesGetNames(t *testing.T) {
	h := newHost(t, options{settings: func(s *Settings) { s.Cadence.Budget = 1 }})
	leaky, steady := h.run("leaky", knowledge.Limits{CPU: core, Memory: 4 * gib, MemorySwap: 4 * gib}, nil),
		h.run("steady", usual, nil)
	steady.demand = 0.3
	for range 3 * 60 {
		leaky.anon += 2 * mib
		h.pass(time.Minute)
	}
	if k := h.container(leaky).status(h.now).MemoryPattern; k.Kind != analyse.PatternLeak {
		t.Errorf("after three hours: %s (%.2f), %s", k.Kind, k.Confidence, k.Evidence)
	}
	v := h.container(steady).status(h.now)
	if v.Pattern.Kind != analyse.PatternSteady || v.MemoryPattern.Kind == analyse.PatternLeak {
		t.Errorf("%s, %s", v.Pattern.Kind, v.MemoryPattern.Kind)
	}
	recent := map[knowledge.ServiceKey][]history.Bucket{}
	for s := range h.loop.services.All() {
		for at := h.now.Add(-3 * time.Hour); at.Before(h.now.Add(-3 * time.Minute)); at = at.Add(time.Minute) {
			recent[s.Key] = append(recent[s.Key], history.Bucket{At: at, MaxDemand: s.Models.Last.Cores, WorkingSet: 100 * mib})
		}
	}
	h.end()
	h.boot(options{restored: Restored{Models: h.models, Recent: recent}})
	h.pass(2 * time.Minute)
	if k := h.container(steady).status(h.now).Pattern; k.Kind != analyse.PatternSteady {
		t.Errorf("after the restart: %s, %s", k.Kind, k.Evidence)
	}
}

func (h *host) thresholds(b *box) (analyse.Thresholds, bool) {
	c := h.container(b)
	return c.service.Thresholds(&c.Policy, c.Window.Quota)
}

func (h *host) steering(b *box) knowledge.Reason {
	c := h.container(b)
	return c.service.Steering(&c.Policy, &c.Envelope)
}

// Of two services with the same mean the one whose bursts are throttled learns that
// it is harmed at a lower use of its limit, and a restart keeps that.
func TestThresholdsFollowTheService(t *testing.T) {
	h := newHost(t, options{policy: func(p *knowledge.Policy) { p.Mode = knowledge.ModeObserve }})
	smooth, noisy := h.run("smooth", usual, nil), h.run("noisy", usual, nil)
	smooth.demand = 0.6
	for i := range 2 * 36000 { // six periods of ten at 1.8 cores, of which one is granted
		h.mu.Lock()
		noisy.advance(h.now)
		h.mu.Unlock()
		noisy.demand = 0
		if i%10 < 6 {
			noisy.demand = 1.8
		}
		h.tick()
	}
	knees := func() (s, n float64) {
		a, ok1 := h.thresholds(smooth)
		b, ok2 := h.thresholds(noisy)
		if !ok1 || !ok2 {
			t.Fatal("no thresholds")
		}
		return a.Knee, b.Knee
	}
	s, n := knees()
	if n >= s {
		t.Errorf("the smooth one's knee is %g, the noisy one's %g", s, n)
	}
	t.Logf("knees: smooth %g, noisy %g", s, n)
	h.end()
	h.boot(options{policy: func(p *knowledge.Policy) { p.Mode = knowledge.ModeObserve },
		restored: Restored{Models: h.models}})
	h.pass(5 * time.Second)
	if s2, n2 := knees(); s2 != s || n2 != n {
		t.Errorf("after a restart %g and %g, before %g and %g", s2, n2, s, n)
	}
}

// jitter lets a service work for a minute in bursts of half a second, 0.9 cores in the
// mean of each second, and rest for half a minute: 0.6 cores in all.
func (h *host) jitter(b *box, d time.Duration) {
	for range d / tickEvery {
		h.mu.Lock()
		b.advance(h.now)
		h.mu.Unlock()
		b.demand = 0
		if at := h.now.Sub(begin); at%(90*time.Second) < time.Minute && at%time.Second < 500*time.Millisecond {
			b.demand = 1.8
		}
		h.tick()
	}
}

// A noisy service and a smooth one with the same mean have other thresholds and other
// quotas: what was learned under fixed limits raises the noisy one's before
// it is throttled, keeps room for it while it rests, and a restart goes on with that.
func TestThresholdsSteer(t *testing.T) {
	learned := func(forget bool) (h *host, smooth, noisy *box) {
		h = newHost(t, options{policy: func(p *knowledge.Policy) { p.Mode, p.CPUPercentile = knowledge.ModeObserve, 0 }})
		smooth, noisy = h.run("smooth", usual, nil), h.run("noisy", usual, nil)
		smooth.demand = 0.6
		h.jitter(noisy, 2*time.Hour+time.Minute) // it rests now
		if forget {
			h.container(noisy).service.Models.Adaptive = analyse.Adaptive{}
		}
		for _, b := range []*box{smooth, noisy} {
			h.container(b).Policy.Mode = knowledge.ModeAuto
		}
		return h, smooth, noisy
	}
	h, smooth, noisy := learned(false)
	held := noisy.s.Throttled
	h.jitter(noisy, 20*time.Second)
	c := h.container(noisy)
	if noisy.kernel.CPU < 6*core/5 || noisy.s.Throttled != held ||
		c.lastRule[knowledge.ResourceCPU] != knowledge.RuleTriggerUp {
		t.Errorf("resting, %s after the switch, throttled %d times: %s", noisy.kernel.CPU, noisy.s.Throttled-held,
			c.planned[knowledge.ResourceCPU].Decision.Reason)
	}
	h.jitter(noisy, 15*time.Minute+10*time.Second-time.Second) // another rest is about to end
	why := c.planned[knowledge.ResourceCPU].Decision.Reason
	if noisy.kernel.CPU < 13*core/10 || why.Rule != knowledge.RuleTriggerDown {
		t.Errorf("at the end of a rest it has %s: %s", noisy.kernel.CPU, why)
	}
	if smooth.kernel.CPU > 7*core/10 || !h.container(smooth).Envelope.Threshold.IsZero() {
		t.Errorf("the smooth one has %s: %+v", smooth.kernel.CPU, h.container(smooth).planned[0])
	}
	s, _ := h.thresholds(smooth)
	n, _ := h.thresholds(noisy)
	if n.Knee > s.Knee-0.15 || n.Changes[0].Moved.Seconds < 600 {
		t.Errorf("knees: smooth %g, noisy %g, moved by %+v", s.Knee, n.Knee, n.Changes[0])
	}
	if r := h.steering(noisy).Rule; r != knowledge.RuleTriggerUp {
		t.Errorf("the noisy one's says %s", r)
	}
	if r := h.steering(smooth).Rule; r != knowledge.RuleKneeHarmless && r != knowledge.RuleKneeYoung {
		t.Errorf("the smooth one's says %s", r)
	}
	t.Logf("noisy: %s, knee %.2f, %s; %s", noisy.kernel.CPU, n.Knee, h.steering(noisy), why)
	t.Logf("smooth: %s, knee %.2f, %s", smooth.kernel.CPU, s.Knee, h.steering(smooth))
	h.end()
	h.boot(options{restored: Restored{Models: h.models}})
	h.pass(15 * time.Second)
	if e := h.container(noisy).Envelope; !h.container(noisy).service.Models.Lesson.Steers ||
		e.Threshold.Rule != knowledge.RuleTriggerUp {
		t.Errorf("after a restart: %+v, %s", h.container(noisy).service.Models.Lesson, e.Threshold)
	}

	h, _, noisy = learned(true) // what it would be without
	h.jitter(noisy, 15*time.Minute+30*time.Second-time.Second)
	if noisy.kernel.CPU > 12*core/10 {
		t.Errorf("without a lesson it has %s as well: the test shows nothing", noisy.kernel.CPU)
	}
	t.Logf("noisy without a lesson: %s", noisy.kernel.CPU)
}
