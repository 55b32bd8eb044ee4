// Package forecast predicts a signal from its recent past. It is pure.
package forecast

// The constants of damped exponential smoothing (Gardner & McKenzie 1985): weights
// of the level and the trend, and how fast the trend fades. A trend that was
// seen over the last minute is worth half after 14 steps of 10 s.
const (
	levelWeight = 0.3
	trendWeight = 0.1
	trendDamp   = 0.95
	// Least is how many readings a forecast needs.
	Least = 12
)

// Holt is Holt's linear method with a damped trend over evenly spaced values,
// oldest first: the next steps values, never negative. Fewer than Least values
// give nil.
func Holt(values []float64, steps int) []float64 {
	if len(values) < Least || steps <= 0 {
		return nil
	}
	level, trend := values[0], 0.0
	for _, v := range values[1:] {
		before := level
		level = levelWeight*v + (1-levelWeight)*(level+trendDamp*trend)
		trend = trendWeight*(level-before) + (1-trendWeight)*trendDamp*trend
	}
	out := make([]float64, steps)
	ahead, damp := 0.0, trendDamp
	for i := range out {
		ahead += damp * trend
		damp *= trendDamp
		out[i] = max(0, level+ahead)
	}
	return out
}
