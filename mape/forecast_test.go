package mape

import (
	"bytes"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape/plan"
	"github.com/effiscale/effiscale/mape/service"
)

// maxForecast is how many services are forecast at most.
const maxForecast = 64

// forecasts is how many services are.
func (h *host) forecasts() (n int) {
	for s := range h.loop.services.All() {
		if s.Models != nil {
			n++
		}
	}
	return n
}

// Only what moves is forecast, up to a bound, and no longer than it moves.
func TestWhoIsForecast(t *testing.T) {
	h := newHost(t, options{cpus: 64, memory: 512 * gib})
	idle := h.run("idle", usual, nil)
	idle.demand = 0.01
	web := h.run("web", usual, nil)
	h.pass(5 * time.Minute)
	if h.container(idle).service.Models != nil || h.container(web).service.Models != nil {
		t.Fatal("an idle service is forecast")
	}
	web.demand = 0.5
	h.pass(8 * time.Minute)
	c := h.container(web)
	if c.service.Models == nil || h.forecasts() != 1 {
		t.Fatalf("%d services are forecast", h.forecasts())
	}
	o := c.service.Outlooks(c.Policy.Class)
	if len(o) < 3 || o[0].Horizon != 10*time.Second || o[2].Horizon != 5*time.Minute || math.Abs(o[0].Value-0.5) > 0.1 ||
		o[0].Upper.Cores() < o[0].Peak-1e-6 {
		t.Errorf("%+v", o)
	}
	web.demand = 0
	h.now = h.now.Add(24 * time.Hour)
	h.pass(time.Minute)
	if c.service.Models != nil || h.forecasts() != 0 {
		t.Error("a service that rests is still forecast after a day")
	}
	for i := range maxForecast + 5 {
		h.run(fmt.Sprint("c", i), usual, nil).demand = 0.1
	}
	h.pass(2 * time.Minute)
	if h.forecasts() != maxForecast {
		t.Errorf("%d services are forecast", h.forecasts())
	}
}

// What is forecast is the highest second of the busiest container, what its limit held
// back included, and whether it was throttled.
func TestWhatIsForecast(t *testing.T) {
	h := newHost(t, options{policy: func(p *knowledge.Policy) { p.Mode = knowledge.ModeObserve }})
	limit := usual
	limit.CPU = core / 2
	a, b := h.run("a", limit, nil), h.run("b", usual, nil)
	a.c.Service, b.c.Service = "web", "web"
	a.demand, b.demand = 0.8, 0.3
	h.pass(time.Minute)
	f := h.container(a).service.Models
	if f == nil || math.Abs(f.Last.Cores-0.8) > 0.05 || !f.Last.Censored {
		t.Fatalf("%+v", f)
	}
	a.demand = 0.2
	h.pass(time.Minute)
	if math.Abs(f.Last.Cores-0.3) > 0.05 || f.Last.Censored {
		t.Errorf("%+v", f.Last)
	}
}

// A restart keeps all that was learned; models of other steps, cut or of a later
// version are learned again, and parts that a later version adds are left out.
func TestForecastsSurviveARestart(t *testing.T) {
	h := newHost(t, options{})
	web := h.run("web", usual, nil)
	for i := range 40 {
		web.demand = 0.3 + 0.1*float64(i%3)
		h.pass(30 * time.Second)
	}
	if h.models["web"] == nil {
		t.Error("nothing was written in 20 minutes")
	}
	h.end()
	packed := h.models["web"]
	before := h.container(web).service.Models
	if packed == nil || before == nil {
		t.Fatal("nothing is left")
	}
	h.boot(options{restored: Restored{Models: map[knowledge.ServiceKey][]byte{"web": packed}}})
	after := h.loop.services.Lookup("web").Models
	if after == nil || h.forecasts() != 1 || !bytes.Equal(after.Marshal(), packed) || after.Ahead != before.Ahead ||
		after.Advice != before.Advice || after.Advice[plan.RiskNormal].CPU == 0 {
		t.Fatalf("another one comes back:\n%+v\n%+v", before, after)
	}
	h.pass(time.Minute)
	if o := h.container(web).service.Outlooks(h.container(web).Policy.Class); len(o) == 0 || o[0].Value == 0 {
		t.Errorf("%+v", o)
	}
}

func proven(upper knowledge.NanoCPU, level float64) plan.Forecast {
	return plan.Forecast{Upper: upper, Level: level, Horizon: 5 * time.Minute, Coverage: level, Gain: 0.2,
		ScoredFor: 2 * time.Hour, Trusted: true}
}

// After an hour the floor of what moves is what the cheapest models advise, where
// the policy leaves it to them.
func TestAdviceSetsTheFloor(t *testing.T) {
	h := newHost(t, options{policy: func(p *knowledge.Policy) { p.CPUPercentile = 0 }})
	web := h.run("web", usual, nil)
	web.demand = 0.5
	h.pass(59 * time.Minute)
	c := h.container(web)
	if why := c.Envelope.Reason; why.Rule == knowledge.RuleAdvice {
		t.Error("advice from less than an hour: ", why)
	}
	h.until(5*time.Minute, "advice", func() bool { return c.Envelope.Reason.Rule == knowledge.RuleAdvice })
	if e := &c.Envelope; e.CPU.Min < core*49/100 || e.CPU.Min > core {
		t.Errorf("a floor of %s: %s", e.CPU.Min, e.Reason)
	}
}

// A proven forecast raises the floor and with it the quota, before the load comes;
// one that is not leaves it to the reflex.
func TestAProvenForecastRaisesTheQuota(t *testing.T) {
	h := newHost(t, options{})
	web := h.run("web", usual, nil)
	web.demand = 1.9 // it was seen once
	h.pass(20 * time.Second)
	web.demand = 0.3
	h.pass(5 * time.Minute)
	c := h.container(web)
	if e := &c.Envelope; e.Forecast.IsZero() || e.ForecastCPU != 0 || web.kernel.CPU > core {
		t.Fatalf("%s, %s", e.Forecast, web.kernel.CPU)
	}
	h.until(time.Minute, "a deliberation", func() bool { return h.loop.deliberateAt.Equal(h.now) })
	for i := range c.service.Models.Ahead {
		c.service.Models.Ahead[i] = service.Outlook{Forecast: proven(2*core, []float64{0.8, 0.95, 0.99}[i])}
	}
	h.loop.setEnvelope(h.now, c)
	h.pass(5 * time.Second)
	if e := &c.Envelope; web.kernel.CPU != 2*core || e.ForecastCPU != 2*core || e.Forecast.Rule != knowledge.RuleForecast {
		t.Errorf("%s cores, %s", web.kernel.CPU, e.Forecast)
	}
	h.pass(time.Minute) // the true forecaster is asked again
	h.until(3*time.Minute, "the reflex takes it back", func() bool { return web.kernel.CPU < core })
}

// With the real forecaster: a load that comes and goes is learned, proves itself
// within hours, and from then on the quota is there before the load, no higher than
// a margin above all that was seen.
func TestAPeriodicLoadIsMetBeforeItComes(t *testing.T) {
	h := newHost(t, options{cpus: 8})
	web := h.run("web", usual, nil)
	raised, before := 0, uint64(0)
	for second := range 5 * 3600 {
		web.demand = 0.9 + 0.6*math.Sin(2*math.Pi*float64(second)/1200)
		h.pass(time.Second)
		if second == 4*3600 {
			before = web.s.Throttled
		}
		if e := &h.container(web).Envelope; second > 4*3600 && e.Forecast.Rule == knowledge.RuleForecast {
			raised++
			if e.ForecastCPU > knowledge.FromCores(1.15*1.6) {
				t.Fatalf("a floor of %s for a load of 1.5 at most", e.ForecastCPU)
			}
		}
	}
	e := h.container(web).Envelope
	if raised < 3000 || web.s.Throttled != before {
		t.Errorf("raised in %d of 3600 seconds, %d periods throttled: %s", raised, web.s.Throttled-before, e.Forecast)
	}
	t.Log(e.Forecast)
}
