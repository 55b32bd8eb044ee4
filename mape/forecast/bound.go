package forecast

import "math"

const (
	// residualWindow is how many past residuals a bound is computed from.
	residualWindow = 256
	// residualWeight is that of the newest residual in their mean size.
	residualWeight = 0.05
	// trackWeight is how far a miss moves a bound, in spans of the residuals; the
	// debt of misses counts more the larger it is, as in the saturating integrator of
	// conformal PID control (Angelopoulos, Candès & Tibshirani, NeurIPS'23): 1 too
	// many is 0.1 spans, 10 are 2, 20 are 10, so that it stays small against any run.
	trackWeight, debtUnit, maxDebt = 0.1, 10.0, 100.0
	// A span is some units of the residuals' size.
	minSpan, maxSpan = 0.1, 5
	// maxResidual bounds a residual in units: beyond it the unit was too small.
	maxResidual = 50.0
	// slowWeight and levelUnit keep the unit from vanishing in a calm: it is at
	// least half of the mean residual of the last hundreds, and 1 % of the forecast.
	slowWeight, levelUnit = 0.005, 0.01
	// coverageWeight: the realised coverage is over about the last 1000 forecasts.
	coverageWeight = 0.001
)

// bounds are conformal upper bounds of what is above a forecast: a recent quantile
// of the residuals, in units of their mean size, plus a tracker that makes the
// long-run share of misses come true for any sequence (Gibbs & Candès 2021).
type bounds struct {
	levels []float64
	size   float64 // mean absolute residual, recent
	slow   float64 // and over long
	count  int
	ring   [residualWindow]float64
	sorted [residualWindow]float64
	debt   [maxLevels]float64 // misses beyond the expected ones
	cover  [maxLevels]float64
}

// quantile of the residuals in the window, in units of size.
func (b *bounds) quantile(level float64) float64 {
	n := min(b.count, residualWindow)
	if n == 0 {
		return 0
	}
	return b.sorted[min(n-1, int(level*float64(n+1)))]
}

// upper is what the truth stays under, at each level.
func (b *bounds) upper(peak float64, scale float64, out *[maxLevels]float64) {
	span := b.span()
	for i, level := range b.levels {
		d := b.debt[i] / debtUnit
		track := trackWeight * span * b.debt[i] * (1 + d*d)
		out[i] = max(0, peak+scale*(b.quantile(level)+track))
		if i > 0 {
			out[i] = max(out[i], out[i-1])
		}
	}
}

// span is the width of the residuals' upper half, in units of size.
func (b *bounds) span() float64 {
	return min(maxSpan, max(minSpan, b.quantile(0.95)-b.quantile(0.5)))
}

// scale is the unit of the residuals for a forecast that is made now.
func (b *bounds) scale(peak float64) float64 {
	return (b.size+b.slow)/2 + levelUnit*peak + 1e-12
}

// learn takes the outcome of a forecast whose unit was scale.
func (b *bounds) learn(truth, peak, scale float64, upper *[maxLevels]float64) {
	b.judge(truth, upper)
	size := distance(truth, peak)
	b.size += max(residualWeight, 1/float64(b.count+1)) * (size - b.size)
	b.slow += max(slowWeight, 1/float64(b.count+1)) * (size - b.slow)
	b.keep((truth - peak) / scale)
}

// judge counts which bounds held.
func (b *bounds) judge(truth float64, upper *[maxLevels]float64) {
	w := max(coverageWeight, 1/float64(b.count+1))
	for i, level := range b.levels {
		held := 0.0
		if truth <= upper[i] {
			held = 1
		}
		b.cover[i] += w * (held - b.cover[i])
		b.debt[i] = min(maxDebt, max(-maxDebt, b.debt[i]+level-held))
	}
}

// keep puts a residual into the window.
func (b *bounds) keep(r float64) {
	r = min(maxResidual, max(-maxResidual, r))
	n := min(b.count, residualWindow)
	at := b.count % residualWindow
	if n == residualWindow {
		i := place(b.sorted[:n], b.ring[at])
		copy(b.sorted[i:n-1], b.sorted[i+1:n])
		n--
	}
	i := place(b.sorted[:n], r)
	copy(b.sorted[i+1:n+1], b.sorted[i:n])
	b.sorted[i], b.ring[at] = r, r
	b.count++
}

// honest reports whether every coverage is within slack of its level.
func (b *bounds) honest(slack float64) bool {
	for i, level := range b.levels {
		if math.Abs(b.cover[i]-level) > slack {
			return false
		}
	}
	return true
}
