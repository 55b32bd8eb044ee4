package view

import (
	"slices"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape"
	"github.com/effiscale/effiscale/mape/forecast"
	"github.com/effiscale/effiscale/mape/service"
	"github.com/effiscale/effiscale/node/api"
)

// forecastView is the forecast for one horizon, at most the cores that the host has; 0: they are
// not known.
func forecastView(o *service.Outlook, cores float64) api.Forecast {
	expected, upper := o.Peak, o.Upper.Cores()
	capped := cores > 0 && max(expected, upper) > cores
	if capped {
		expected, upper = min(expected, cores), min(upper, cores)
	}
	return api.Forecast{
		Horizon: o.Horizon.Seconds(), Expected: expected, Upper: upper, Capped: capped, Level: o.Level, Coverage: o.Coverage,
		Gain: o.Gain, ScoredFor: o.ScoredFor.Seconds(), Member: o.Member, Period: o.Period.Seconds(), Trusted: o.Proven(),
	}
}

func forecastViews(c *mape.ContainerStatus, cores float64) []api.Forecast {
	var out []api.Forecast
	for i := range c.Outlooks {
		out = append(out, forecastView(&c.Outlooks[i], cores))
	}
	return out
}

// nextForecast is the one that may raise a floor; nil: there is none.
func nextForecast(c *mape.ContainerStatus, cores float64) *api.Forecast {
	if c.Ahead.Level == 0 {
		return nil
	}
	v := forecastView(&c.Ahead, cores)
	return &v
}

const (
	// predictStep is the spacing of a forecast's values.
	predictStep = 10 * time.Second
	// PredictFrom is how much of the past a forecast uses without a forecaster: for memory,
	// and for services whose demand is steady.
	PredictFrom = 5 * time.Minute
)

// Predictions are forecasts of use in the next window, one value each 10 s: of CPU by the
// service's forecasters where it has any, of all else from points of the last minutes.
func Predictions(
	c *mape.ContainerStatus, points []knowledge.Point, host knowledge.Host, window time.Duration, now time.Time,
) api.Predictions {
	memory := host.Memory
	cpu, mem := steps(points, memory, now)
	count := max(int(window/predictStep), 1)
	p := api.Predictions{CPU: forecast.Holt(cpu, count), Memory: forecast.Holt(mem, count)}
	if w := c.Window; len(c.Outlooks) > 0 && w.Samples > 0 {
		p.CPU = along(w.UsageMean.Cores(), c.Outlooks, count)
		if p.Memory == nil { // after a restart: as it is now
			p.Memory = slices.Repeat([]float64{memoryShare(w.WorkingSet, w.MemoryLimit, memory)}, count)
		}
	}
	p.Insufficient = p.CPU == nil
	bound(p.CPU, float64(host.CPUs))
	bound(p.Memory, 1)
	return p
}

// bound rounds forecasts and bounds them by what there is; 0: that is not known.
func bound(values []float64, most float64) {
	for i, v := range values {
		if most > 0 {
			v = min(v, most)
		}
		values[i] = Round(v)
	}
}

// steps are the means of the last minutes, one each 10 s of which there is a point.
func steps(points []knowledge.Point, memory knowledge.Bytes, now time.Time) (cpu, mem []float64) {
	for at := now.Add(-PredictFrom); at.Before(now); at = at.Add(predictStep) {
		var c, m float64
		count := 0
		for _, p := range points {
			if p.At >= at.UnixNano() && p.At < at.Add(predictStep).UnixNano() {
				c += float64(p.CPU)
				m += memoryShare(p.WorkingSet, p.MemoryLimit, memory)
				count++
			}
		}
		if count > 0 {
			cpu, mem = append(cpu, c/float64(count)), append(mem, m/float64(count))
		}
	}
	return cpu, mem
}

// along interpolates between now and the forecasts at each horizon; beyond the last one
// the value is constant.
func along(now float64, ahead []service.Outlook, steps int) []float64 {
	out := make([]float64, 0, steps)
	at, value := time.Duration(0), now
	for i := 1; i <= steps; i++ {
		t := time.Duration(i) * predictStep
		for len(ahead) > 0 && t > ahead[0].Horizon {
			at, value, ahead = ahead[0].Horizon, ahead[0].Value, ahead[1:]
		}
		if len(ahead) == 0 {
			out = append(out, value)
			continue
		}
		share := float64(t-at) / float64(ahead[0].Horizon-at)
		out = append(out, value+share*(ahead[0].Value-value))
	}
	return out
}
