package analyse

import (
	"math"
	"slices"
)

const (
	maxBlocks = 64
	// madToSigma turns the median of absolute deviations into a standard deviation
	// of a normal distribution.
	madToSigma = 1.4826
	// excursionSigmas above the level is an excursion: one of 1.7 million values
	// of a normal distribution is.
	excursionSigmas = 5
	// loneHeight over the level, and twice what makes an excursion, makes a spike of a
	// single value; lower ones are what skewed noise does now and then.
	loneHeight = 3
	// shortest is the part of the series that a new level must last: less than
	// that is an excursion.
	shortest = 10
)

// shape is the input of the tree, read once from the values, in place on the stack.
type shape struct {
	n    int
	x    [MaxPoints]float64 // the values, gaps filled with the value before
	work [MaxPoints]float64

	mean, std, median, low, p98, top float64
	noise                            float64 // deviation around the level, over the median

	per     int                // values in a block
	blocks  int                // how many there are
	b       [maxBlocks]float64 // medians of the blocks, excursions cut off
	level   [maxBlocks]float64 // running median over a fifth of the blocks
	repeats float64            // share of the variation that the period explains

	out   excursions
	trend move
}

// excursions are the values far above the level.
type excursions struct {
	runs          int
	share, height float64 // of the time; mean excess over the level
}

// read fills the shape; false when there is too little to see.
func (sh *shape) read(values []float64) bool {
	if !sh.fill(values) {
		return false
	}
	sh.moments()
	sh.split()
	sh.excursions()
	sh.trend = fitMove(sh.b[:sh.blocks])
	return true
}

func (sh *shape) fill(values []float64) bool {
	values = values[max(0, len(values)-MaxPoints):]
	for len(values) > 0 && !usable(values[0]) {
		values = values[1:]
	}
	gaps := 0
	for i, v := range values {
		if !usable(v) {
			v = sh.x[i-1]
			gaps++
		}
		sh.x[i] = min(v, math.MaxFloat32) // squares of it are still finite
	}
	sh.n = len(values)
	return sh.n-gaps >= MinPoints && float64(gaps) <= maxGaps*float64(sh.n)
}

func (sh *shape) moments() {
	x := sh.x[:sh.n]
	sh.mean, sh.std = meanStd(x)
	sorted := sh.work[:sh.n]
	copy(sorted, x)
	slices.Sort(sorted)
	sh.median, sh.p98 = quantile(sorted, 0.5), quantile(sorted, 0.98)
	sh.low, sh.top = sorted[0], sorted[sh.n-1]
}

// cv is the deviation in parts of the mean.
func (sh *shape) cv() float64 {
	if sh.mean <= 0 {
		return 0
	}
	return sh.std / sh.mean
}

// split makes the blocks, counted from the newest value, and their level. A
// running median removes whatever is shorter than half its width and keeps the
// edges of what is longer.
func (sh *shape) split() {
	sh.per = (sh.n + maxBlocks - 1) / maxBlocks
	sh.blocks = sh.n / sh.per
	first := sh.n - sh.blocks*sh.per
	for i := range sh.blocks {
		w := sh.work[:sh.per]
		copy(w, sh.x[first+i*sh.per:])
		sh.b[i] = median(w)
	}
	half := sh.blocks / shortest
	for i := range sh.blocks {
		w := append(sh.work[:0], sh.b[max(0, i-half):min(sh.blocks, i+half+1)]...)
		sh.level[i] = median(w)
	}
	w := sh.work[:sh.blocks]
	for i := range w {
		w[i] = math.Abs(sh.b[i] - sh.level[i])
	}
	cut := excursionSigmas * madToSigma * median(w)
	beyond := 0
	for i, l := range sh.level[:sh.blocks] {
		if math.Abs(sh.b[i]-l) > cut {
			beyond++
		}
	}
	if beyond > half { // too many for excursions
		return
	}
	for i, l := range sh.level[:sh.blocks] {
		if math.Abs(sh.b[i]-l) > cut {
			sh.b[i] = l
		}
	}
}

// excursions finds the values far above the level of their block, and counts the
// runs of them. Runs with at most two values between them are one.
func (sh *shape) excursions() {
	level := func(i int) float64 {
		first := sh.n - sh.blocks*sh.per
		return sh.level[max(0, i-first)/sh.per]
	}
	w := sh.work[:sh.n]
	for i, v := range sh.x[:sh.n] {
		w[i] = math.Abs(v - level(i))
	}
	sigma := madToSigma * median(w)
	sh.noise = sigma / max(sh.median, IdleCPU.Cores())
	floor := max(excursionSigmas*sigma, IdleCPU.Cores(), sh.top/20)
	last, run, count, excess, base := -4, 0, 0, 0.0, 0.0
	for i, v := range sh.x[:sh.n] {
		l := level(i)
		if v-l <= max(floor, l/2) {
			continue
		}
		if i-last > 3 {
			run = 0
		}
		last = i
		if run++; run == 2 || run == 1 && v-l > max(loneHeight*l, 2*floor) {
			sh.out.runs++
			run = 2
		}
		count++
		excess += v - l
		base += max(l, IdleCPU.Cores())
	}
	if sh.out.runs > 0 {
		sh.out.share, sh.out.height = float64(count)/float64(sh.n), excess/base
	}
}

func meanStd(x []float64) (mean, std float64) {
	for _, v := range x {
		mean += v
	}
	mean /= float64(len(x))
	for _, v := range x {
		std += (v - mean) * (v - mean)
	}
	return mean, math.Sqrt(std / float64(len(x)))
}

// median sorts x.
func median(x []float64) float64 {
	slices.Sort(x)
	return quantile(x, 0.5)
}

func quantile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	at := q * float64(len(sorted)-1)
	i := int(at)
	j := min(i+1, len(sorted)-1)
	return sorted[i] + (at-float64(i))*(sorted[j]-sorted[i])
}
