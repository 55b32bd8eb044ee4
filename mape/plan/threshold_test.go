package plan_test

import (
	"math"
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape/analyse"
	"github.com/effiscale/effiscale/mape/plan"
	"pgregory.net/rapid"
)

// A learned threshold raises the floor to use over the knee, by half at most and to
// twice the mean of use, inside the ceiling, and not against a target that somebody fixed.
func TestThresholdFloor(t *testing.T) {
	for _, c := range []struct {
		name       string
		edit       func(f *plan.Facts, p *knowledge.Policy)
		floor, cut float64
	}{
		{"nothing learned", func(f *plan.Facts, _ *knowledge.Policy) { f.Threshold = plan.Threshold{} }, 0, 0},
		{"use over the knee", func(*plan.Facts, *knowledge.Policy) {}, 1.25, 1.458333},
		{"a forecast expects more", func(f *plan.Facts, _ *knowledge.Policy) {
			f.Forecast, f.Forecast.Upper = proven,
				5*core/4
		}, 1.5625, 1.5625},
		{"far more than the mean of now", func(f *plan.Facts, _ *knowledge.Policy) { f.Forecast = proven }, 2, 2},
		{"peaks of seconds", func(f *plan.Facts, _ *knowledge.Policy) { f.Threshold.Mean = core / 4 }, 0.5, 0.583333},
		{"a lesson that is absurd", func(f *plan.Facts, _ *knowledge.Policy) { f.Threshold.Knee = 1e-9 }, 1.5, 1.75},
		{"no number", func(f *plan.Facts, _ *knowledge.Policy) { f.Threshold.Knee = math.NaN() }, 0, 0},
		{"the ceiling", func(f *plan.Facts, p *knowledge.Policy) { p.CPU.Max = 6 * core / 5 }, 1.2, 1.2},
		{"a fixed target", func(_ *plan.Facts, p *knowledge.Policy) { p.CPUTarget = 0.9 }, 0, 0},
		{"weight", func(_ *plan.Facts, p *knowledge.Policy) { p.CPUMode = knowledge.CPUWeight }, 0, 0},
	} {
		p := serving(4)
		facts := plan.Facts{Threshold: plan.Threshold{Knee: 0.8, Use: core, Mean: core}}
		c.edit(&facts, &p)
		without := facts
		without.Threshold = plan.Threshold{}
		e := plan.Deliberate(epoch, facts, &p, smallHost, knowledge.Envelope{})
		if math.Abs(e.ThresholdCPU.Cores()-c.floor) > 1e-6 || math.Abs(e.CutCPU.Cores()-c.cut) > 1e-5 ||
			(c.floor > 0) != (e.Threshold.Rule == knowledge.RuleTriggerUp) {
			t.Errorf("%s: floor %s, cut %s, %s", c.name, e.ThresholdCPU, e.CutCPU, e.Threshold)
		}
		e.ThresholdCPU, e.CutCPU, e.Threshold = 0, 0, knowledge.Reason{}
		if b := plan.Deliberate(epoch, without, &p, smallHost, knowledge.Envelope{}); b != e {
			t.Errorf("%s: more than the threshold is different:\n%+v\n%+v", c.name, e, b)
		}
	}
}

// Whatever is told, a threshold asks for no more than half above use and the other
// floors, and a cut is never allowed to lead under the floor of growth.
func TestThresholdsAreBounded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, facts := drawPolicy(t), drawFacts(t)
		e := plan.Deliberate(epoch, facts, &p, smallHost, knowledge.Envelope{})
		for range rapid.IntRange(1, 8).Draw(t, "times") {
			facts.Threshold = plan.Threshold{
				Knee: rapid.OneOf(rapid.Float64Range(0, 1),
					rapid.SampledFrom([]float64{math.NaN(), math.Inf(1), -1, 1e-300})).Draw(t, "knee"),
				Use: knowledge.NanoCPU(rapid.OneOf(rapid.Int64Range(0, int64(16*core)),
					rapid.SampledFrom([]int64{-1, math.MaxInt64})).Draw(t, "use")),
				Mean: knowledge.NanoCPU(rapid.OneOf(rapid.Int64Range(0, int64(16*core)),
					rapid.SampledFrom([]int64{-1, math.MaxInt64})).Draw(t, "mean")),
			}
			e = plan.Deliberate(e.At.Add(10*time.Second), facts, &p, smallHost, e)
			law := max(e.CPU.Min, min(max(facts.Threshold.Use, 0), e.CPU.Max)).Cores()
			switch {
			case e.ThresholdCPU.Cores() > 1.5*law+1e-6, e.CutCPU.Cores() > 1.75*law+1e-6,
				e.ThresholdCPU.Cores() > max(2*facts.Threshold.Mean.Cores(), 0)+1e-6:
				t.Fatalf("%s and %s where the law says %g", e.ThresholdCPU, e.CutCPU, law)
			case e.ThresholdCPU > e.CPU.Max, e.CutCPU > e.CPU.Max, e.CutCPU < e.ThresholdCPU:
				t.Fatalf("growth to %s, cuts to %s, ceiling %s", e.ThresholdCPU, e.CutCPU, e.CPU.Max)
			}
		}
	})
}

// taught runs a container of a lesson: each second its use is told, each tenth second
// it is deliberated upon. It returns the quotas and what was done.
type taught struct {
	reflex plan.Reflex
	e      knowledge.Envelope
	p      knowledge.Policy
	knee   float64
	quota  knowledge.NanoCPU
	now    time.Time
	past   []float64
	done   []knowledge.Decision
}

func newTaught(t *rapid.T) *taught {
	return &taught{
		p: serving(8), knee: rapid.Float64Range(analyse.KneeLeast, analyse.KneeMost).Draw(t, "knee"), now: epoch,
		quota: knowledge.FromCores(rapid.Float64Range(0.05, 8).Draw(t, "quota")),
	}
}

// second lets a second of demand pass (cores).
func (h *taught) second(demand float64) {
	h.now = h.now.Add(time.Second)
	use := min(demand, h.quota.Cores())
	h.past = append(h.past, use)
	h.past = h.past[max(len(h.past)-300, 0):]
	w := knowledge.Window{
		Have: knowledge.HasCPU | knowledge.HasThrottle, At: h.now, Since: epoch.Add(-time.Hour), Samples: 99,
		Interval: 100 * time.Millisecond, Period: cfsPeriod,
		Quota: h.quota, Usage: knowledge.FromCores(use), UsageMean: knowledge.FromCores(use), Periods: 1,
	}
	for _, v := range h.past[max(len(h.past)-5, 0):] {
		w.UsageMax = max(w.UsageMax, knowledge.FromCores(v))
	}
	if demand > h.quota.Cores() {
		w.ThrottledPeriods, w.ThrottleRatio, w.ThrottledRun = 1, 1, 2
		w.Missing = knowledge.FromCores(demand - use)
	}
	if h.now.Sub(epoch)%(10*time.Second) == 0 {
		most, mean := 0.0, 0.0
		for _, v := range h.past {
			most, mean = max(most, v), mean+v/float64(len(h.past))
		}
		facts := plan.Facts{Threshold: plan.Threshold{Knee: h.knee, Use: knowledge.FromCores(most),
			Mean: knowledge.FromCores(mean)}}
		h.e = plan.Deliberate(h.now, facts, &h.p, smallHost, h.e)
	}
	f := analyse.Assess(h.now, &w, &h.p, nil, time.Minute)
	for range 2 { // the same observation again, after what it led to
		d := h.reflex.CPU(h.now, &f, &w, &h.e, &h.p)
		if d.Verb == knowledge.Hold || d.To == d.From {
			return
		}
		h.reflex.Applied(h.now, d)
		h.done = append(h.done, d)
		h.quota = knowledge.NanoCPU(d.To)
		w.Quota = h.quota
	}
}

// Stabilisation only delays: for constant demand the quota never turns again once use
// of five minutes ago is forgotten.
func TestConstantDemandSettles(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := newTaught(t)
		before, demand := rapid.Float64Range(0, 5).Draw(t, "before"), rapid.Float64Range(0.02, 5).Draw(t, "demand")
		for range 60 {
			h.second(before)
		}
		for range 310 { // all that is remembered of use is of now
			h.second(demand)
		}
		settled := len(h.done)
		for range 900 {
			h.second(demand)
		}
		for _, d := range h.done[settled:] {
			if d.Verb == knowledge.Grow {
				t.Fatalf("constant demand of %g, and after five minutes: %+v (%s)", demand, d, d.Reason)
			}
		}
		last := len(h.done)
		for range 300 {
			h.second(demand)
		}
		if len(h.done) != last {
			t.Fatalf("still moving after a quarter of an hour: %+v", h.done[last:])
		}
	})
}

// Whatever the demand, no growth is taken back by the observation that led to it, and
// a cut that a threshold allows leaves recent use under the lower threshold.
func TestGrowthIsNotUndone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := newTaught(t)
		demand, step := 0.0, 1
		for i := range rapid.IntRange(50, 900).Draw(t, "seconds") {
			if i%step == 0 {
				demand = rapid.Float64Range(0, 5).Draw(t, "demand")
				step = rapid.IntRange(1, 60).Draw(t, "for")
			}
			from := len(h.done)
			h.second(demand)
			for j := from + 1; j < len(h.done); j++ {
				if h.done[j-1].Verb == knowledge.Grow && h.done[j].Verb == knowledge.Shrink {
					t.Fatalf("grown and cut at once: %+v, %+v", h.done[j-1], h.done[j])
				}
			}
			for _, d := range h.done[from:] {
				if d.Verb == knowledge.Shrink && d.To < int64(h.e.CutCPU) && d.Reason.Rule != knowledge.RuleAboveCeiling {
					t.Fatalf("a cut to %d under %s: %s", d.To, h.e.CutCPU, d.Reason)
				}
			}
		}
	})
}

// The reflex grows before anything was throttled, names the threshold, and makes a cut
// smaller or none for it.
func TestReflexFollowsAThreshold(t *testing.T) {
	now, f, w, _, p := steadyWorld()
	e := plan.Deliberate(epoch, plan.Facts{Threshold: plan.Threshold{Knee: 0.5, Use: 2 * core, Mean: 2 * core}}, &p,
		smallHost,
		knowledge.Envelope{})
	for _, c := range []struct {
		name  string
		quota knowledge.NanoCPU
		verb  knowledge.Verb
		to    knowledge.NanoCPU
		rule  knowledge.Rule
	}{
		{"grows", 2 * core, knowledge.Grow, 3 * core, knowledge.RuleTriggerUp},
		{"fits", 16 * core / 5, knowledge.Hold, 16 * core / 5, knowledge.RuleTriggerDown},
		{"less of a cut", 4 * core, knowledge.Shrink, 7 * core / 2, knowledge.RuleTriggerDown},
	} {
		var r plan.Reflex
		w.Quota = c.quota
		r.CPU(now.Add(-time.Minute), &f, &w, &e, &p)
		if d := r.CPU(now, &f, &w, &e, &p); d.Verb != c.verb || knowledge.NanoCPU(d.To)/1000 != c.to/1000 ||
			d.Reason.Rule != c.rule {
			t.Errorf("%s: %+v, %s", c.name, d, d.Reason)
		}
		p.CPUTarget = 0.9 // set meanwhile: it outranks at once
		if d := r.CPU(now, &f, &w, &e, &p); d.Reason.Rule == knowledge.RuleTriggerUp ||
			d.Reason.Rule == knowledge.RuleTriggerDown {
			t.Errorf("%s, with a fixed target: %+v", c.name, d)
		}
		p.CPUTarget = 0
	}
}
