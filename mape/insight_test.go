package mape

import (
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/knowledge/history"
	"github.com/effiscale/effiscale/mape/analyse"
)

// A leak that uses no CPU gets a name after hours, a service that is steady another,
// and the next life goes on with both from what is on record.
func TestCoursesGetNames(t *testing.T) {
	h := newHost(t, options{settings: func(s *Settings) { s.Cadence.Budget = 1 }})
	leaky, steady := h.run("leaky", knowledge.Limits{CPU: core, Memory: 4 * gib, MemorySwap: 4 * gib}, nil), h.run("steady", usual, nil)
	steady.demand = 0.3
	for range 3 * 60 {
		leaky.anon += 2 * mib
		h.pass(time.Minute)
	}
	if k := h.loop.copy(h.unit(leaky)).MemoryPattern; k.Kind != analyse.PatternLeak {
		t.Errorf("after three hours: %s (%.2f), %s", k.Kind, k.Confidence, k.Evidence)
	}
	v := h.loop.copy(h.unit(steady))
	if v.Pattern.Kind != analyse.PatternSteady || v.MemoryPattern.Kind == analyse.PatternLeak {
		t.Errorf("%s, %s", v.Pattern.Kind, v.MemoryPattern.Kind)
	}
	recent := map[knowledge.ServiceKey][]history.Bucket{}
	for key, s := range h.loop.services {
		for at := h.now.Add(-3 * time.Hour); at.Before(h.now.Add(-3 * time.Minute)); at = at.Add(time.Minute) {
			recent[key] = append(recent[key], history.Bucket{At: at, MaxDemand: s.foresight.last.cores, WorkingSet: 100 * mib})
		}
	}
	h.end()
	h.boot(options{restored: Restored{Models: h.models, Recent: recent}})
	h.pass(2 * time.Minute)
	if k := h.loop.copy(h.unit(steady)).Pattern; k.Kind != analyse.PatternSteady {
		t.Errorf("in the next life: %s, %s", k.Kind, k.Evidence)
	}
}

// Of two services with the same mean the one whose bursts are throttled learns that
// it hurts at a lower use of its limit, and a restart keeps that.
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
		a, ok1 := h.unit(smooth).thresholds()
		b, ok2 := h.unit(noisy).thresholds()
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
	h.boot(options{policy: func(p *knowledge.Policy) { p.Mode = knowledge.ModeObserve }, restored: Restored{Models: h.models}})
	h.pass(5 * time.Second)
	if s2, n2 := knees(); s2 != s || n2 != n {
		t.Errorf("after a restart %g and %g, before %g and %g", s2, n2, s, n)
	}
}
