package plan

import (
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

const (
	// provenFor is how long a forecast must have been better than "same as now" on
	// this service before it raises a floor.
	provenFor = time.Hour
	// coverageSlack is how far the realised coverage may be off the level: at 3
	// points more the forecast does not know its own error.
	coverageSlack = 0.03
)

// ForecastLevel is the risk of a class, as the coverage of the upper bound of demand:
// one in 100 intervals above it for latency, one in 20 for serving, one in five for
// batch.
func ForecastLevel(c knowledge.Class) float64 {
	switch c {
	case knowledge.ClassLatency:
		return 0.99
	case knowledge.ClassBatch:
		return 0.8
	}
	return 0.95
}

// Forecast is the expected CPU demand of a service, and the accuracy of past
// forecasts. The zero value: nothing is forecast.
type Forecast struct {
	// Upper is what the highest second of the busiest container stays under in the
	// next Horizon, with a chance of Level.
	Upper   knowledge.NanoCPU
	Level   float64
	Horizon time.Duration
	// Coverage is the share of the time in which past bounds of Level held.
	Coverage float64
	// Gain is how much smaller its error was than that of "same as now", 0..1;
	// negative: it was larger. It was compared for ScoredFor.
	Gain      float64
	ScoredFor time.Duration
	// Trusted: its own judgement of itself.
	Trusted bool
}

// Proven reports whether it may raise a floor.
func (f *Forecast) Proven() bool { return f.unproven().IsZero() }

// unproven is why a forecast may not raise a floor; the zero Reason: it may.
func (f *Forecast) unproven() knowledge.Reason {
	off := f.Coverage - f.Level
	switch {
	case f.Level == 0:
		return knowledge.Because(knowledge.RuleNoForecast)
	case f.ScoredFor < provenFor:
		return knowledge.Because(knowledge.RuleForecastYoung, f.ScoredFor.Seconds(), provenFor.Seconds())
	case max(off, -off) > coverageSlack:
		return knowledge.Because(knowledge.RuleForecastOff, f.Coverage, f.Level, coverageSlack)
	case !f.Trusted || f.Gain <= 0:
		return knowledge.Because(knowledge.RuleForecastWorse, f.Gain, f.ScoredFor.Seconds())
	}
	return knowledge.Reason{}
}

// applyForecast raises the CPU floor to the expected maximum, and to no more than a
// margin above the highest demand ever seen: a bound beyond that is the forecast's
// error. It never lowers a floor, and the ceiling holds. Otherwise the floor stays,
// and the envelope has the reason.
func applyForecast(e *knowledge.Envelope, facts *Facts, prev *knowledge.Envelope) {
	f := &facts.Forecast
	if e.Forecast = f.unproven(); !e.Forecast.IsZero() {
		return
	}
	upper := under(f.Upper, scale(facts.CPUMax, wouldMargin))
	e.Forecast = knowledge.Because(knowledge.RuleForecast, upper.Cores(), f.Level, f.Coverage, f.Gain)
	e.ForecastCPU = under(upper, e.CPU.Max)
	if prev.ForecastCPU > 0 {
		e.ForecastCPU = steady(e.ForecastCPU, prev.ForecastCPU)
	}
	e.CPU.Min = max(e.CPU.Min, e.ForecastCPU)
}
