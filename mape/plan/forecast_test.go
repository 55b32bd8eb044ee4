package plan_test

import (
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape/plan"
	"pgregory.net/rapid"
)

var proven = plan.Forecast{
	Upper: 3 * core, Level: 0.95, Horizon: 5 * time.Minute, Coverage: 0.94, Gain: 0.3, ScoredFor: 2 * time.Hour,
	Trusted: true,
}

// A forecast raises a floor only when all that is asked of it holds.
func TestForecastFloor(t *testing.T) {
	for _, c := range []struct {
		name  string
		edit  func(f *plan.Facts)
		floor knowledge.NanoCPU
		rule  knowledge.Rule
	}{
		{"proven", func(*plan.Facts) {}, 3 * core, knowledge.RuleForecast},
		{"none", func(f *plan.Facts) { f.Forecast = plan.Forecast{} }, core / 20, knowledge.RuleNoForecast},
		{"59 minutes", func(f *plan.Facts) { f.Forecast.ScoredFor = 59 * time.Minute }, core / 20,
			knowledge.RuleForecastYoung},
		{"holds too seldom", func(f *plan.Facts) { f.Forecast.Coverage = 0.91 }, core / 20, knowledge.RuleForecastOff},
		{"holds too often", func(f *plan.Facts) { f.Forecast.Coverage = 0.99 }, core / 20, knowledge.RuleForecastOff},
		{"no better than now", func(f *plan.Facts) { f.Forecast.Gain = 0 }, core / 20, knowledge.RuleForecastWorse},
		{"worse than now", func(f *plan.Facts) { f.Forecast.Gain, f.Forecast.Trusted = -0.2, false }, core / 20,
			knowledge.RuleForecastWorse},
		{"does not trust itself", func(f *plan.Facts) { f.Forecast.Trusted = false }, core / 20, knowledge.RuleForecastWorse},
		{"beyond all that was seen", func(f *plan.Facts) { f.Forecast.Upper, f.CPUMax = 39*core/10, 2*core }, 23 * core / 10,
			knowledge.RuleForecast},
		{"beyond the ceiling", func(f *plan.Facts) { f.Forecast.Upper = 99 * core }, 4 * core, knowledge.RuleForecast},
		{"under the floor that there is", func(f *plan.Facts) { f.Forecast.Upper = core / 100 }, core / 20,
			knowledge.RuleForecast},
	} {
		p := serving(4)
		facts := plan.Facts{Forecast: proven}
		c.edit(&facts)
		e := plan.Deliberate(epoch, facts, &p, knowledge.Host{CPUs: 4, Memory: 16 * knowledge.GiB}, knowledge.Envelope{})
		if e.CPU.Min != c.floor || e.Forecast.Rule != c.rule {
			t.Errorf("%s: floor %s, %s", c.name, e.CPU.Min, e.Forecast)
		}
	}
}

// Whatever is forecast, nothing is lower than without it, and nothing but the CPU
// floor is different.
func TestForecastsOnlyRaise(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, facts := drawPolicy(t), drawFacts(t)
		without := plan.Deliberate(epoch, facts, &p, smallHost, knowledge.Envelope{})
		facts.Forecast = plan.Forecast{
			Upper:    knowledge.NanoCPU(rapid.Int64Range(0, int64(knowledge.MaxCPU)).Draw(t, "upper")),
			Level:    plan.ForecastLevel(p.Class),
			Coverage: rapid.Float64Range(0, 1).Draw(t, "coverage"), Gain: rapid.Float64Range(-1, 1).Draw(t, "gain"),
			ScoredFor: time.Duration(rapid.Int64Range(0, int64(9*time.Hour)).Draw(t, "scored")),
			Trusted:   rapid.Bool().Draw(t, "trusted"),
		}
		with := plan.Deliberate(epoch, facts, &p, smallHost, knowledge.Envelope{})
		if with.CPU.Min < without.CPU.Min || with.CPU.Min > with.CPU.Max {
			t.Fatalf("the floor is %s, without a forecast %s, the ceiling %s", with.CPU.Min, without.CPU.Min, with.CPU.Max)
		}
		again := plan.Deliberate(epoch.Add(time.Minute), facts, &p, smallHost, with)
		if again != with {
			t.Fatalf("the same facts, another envelope:\n%+v\n%+v", with, again)
		}
		with.CPU.Min, with.ForecastCPU, with.Forecast = without.CPU.Min, 0, without.Forecast
		if with != without {
			t.Fatalf("more than the floor is different:\n%+v\n%+v", with, without)
		}
	})
}

// A quota under a floor that a forecast raised grows at once and says why; none is
// cut under it.
func TestReflexFollowsAForecast(t *testing.T) {
	now, f, w, _, p := steadyWorld()
	e := plan.Deliberate(epoch, plan.Facts{Forecast: proven}, &p, smallHost, knowledge.Envelope{})
	var r plan.Reflex
	if d := r.CPU(now, &f, &w, &e, &p); d.Verb != knowledge.Grow || d.To != int64(3*core) ||
		d.Reason.Rule != knowledge.RuleForecast {
		t.Errorf("%+v", d)
	}
	w.Quota, w.UsageMax, w.Usage = 3*core, core, core
	for range 3 {
		now = now.Add(time.Minute)
		if d := r.CPU(now, &f, &w, &e, &p); d.Verb != knowledge.Hold || d.Reason.Rule != knowledge.RuleForecast {
			t.Errorf("%+v", d)
		}
	}
}
