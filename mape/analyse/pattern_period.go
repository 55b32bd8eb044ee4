package analyse

import "math"

// periodic is how far the series repeats with the period that was handed in.
func (sh *shape) periodic(s *Series) float64 {
	if s.Step <= 0 || s.Period < 2*s.Step || !(s.Strength > 0) {
		return 0
	}
	lag := float64(s.Period) / float64(s.Step)
	if float64(sh.n) < 2*lag {
		// The series is too short to repeat in it: the forecaster's period counts.
		sh.repeats = min(s.Strength, 1)
		return shade(s.Strength, 0.4, 0.8)
	}
	explained, swing := sh.fold(sh.x[:sh.n], lag)
	sh.repeats = explained
	// Once more without the outliers, which no cycle can explain.
	w := sh.work[:sh.n]
	for i, v := range sh.x[:sh.n] {
		w[i] = math.Abs(v - sh.median)
	}
	if wide := 4 * madToSigma * median(w); wide > 0 {
		for i, v := range sh.x[:sh.n] {
			w[i] = min(max(v, sh.median-wide), sh.median+wide)
		}
		if e, sw := sh.fold(w, lag); e > sh.repeats {
			sh.repeats, swing = e, sw
		}
	}
	return shade(sh.repeats, 0.25, 0.6) * shade(swing, 0.05, 0.12)
}

// fold predicts each cycle from the mean of the others, and returns the share of the
// variation around a straight line that this explains, and the deviation of the
// prediction in parts of the mean. No cycle helps to predict itself: so a series that
// merely moves slowly does not look periodic.
func (sh *shape) fold(x []float64, lag float64) (explained, swing float64) {
	var sum, own [maxBlocks]float64
	var count, ownCount [maxBlocks]int
	phases := min(int(lag), maxBlocks)
	phase := func(i int) int {
		_, part := math.Modf(float64(i) / lag)
		return min(int(part*float64(phases)), phases-1)
	}
	mean, slope := line(x)
	rest := func(i int) float64 { return x[i] - mean - slope*(float64(i)-float64(len(x)-1)/2) }
	total := 0.0
	for i := range x {
		r := rest(i)
		sum[phase(i)] += r
		count[phase(i)]++
		total += r * r
	}
	if total <= 0 || mean <= 0 {
		return 0, 0
	}
	left, below := 0.0, 0.0
	for begin := 0; begin < len(x); {
		cycle := int(float64(begin) / lag)
		end := begin
		own, ownCount = [maxBlocks]float64{}, [maxBlocks]int{}
		for ; end < len(x) && int(float64(end)/lag) == cycle; end++ {
			own[phase(end)] += rest(end)
			ownCount[phase(end)]++
		}
		for i := begin; i < end; i++ {
			p, guess := phase(i), 0.0
			if others := count[p] - ownCount[p]; others > 0 {
				guess = (sum[p] - own[p]) / float64(others)
			}
			left += (rest(i) - guess) * (rest(i) - guess)
			below += guess * guess
		}
		begin = end
	}
	return max(0, 1-left/total), math.Sqrt(below/float64(len(x))) / mean
}

// line is the mean and the slope per value of the straight line through x.
func line(x []float64) (mean, slope float64) {
	middle := float64(len(x)-1) / 2
	var sxy, sxx float64
	for i, v := range x {
		d := float64(i) - middle
		mean += v
		sxy += d * v
		sxx += d * d
	}
	if sxx > 0 {
		slope = sxy / sxx
	}
	return mean / float64(len(x)), slope
}
