package forecast

import (
	"math"
	"math/cmplx"

	"gonum.org/v1/gonum/dsp/fourier"
)

const (
	shuffles = 100
	// A peak has to beat all but one of the shuffles.
	beaten = 99
	// leastPeriod, in bins; leastCycles have to be in the history.
	leastPeriod, leastCycles = 4, 3
	// leastHill is the autocorrelation that a period needs.
	leastHill = 0.3
	peaks     = 5
)

// chance is a small pseudo-random generator as a value (SplitMix64, Steele, Lea &
// Flood 2014).
type chance uint64

func (c *chance) next() uint64 {
	*c += 0x9e3779b97f4a7c15
	z := uint64(*c)
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

func (c *chance) shuffle(v []float64) {
	for i := len(v) - 1; i > 0; i-- {
		j := int(c.next() % uint64(i+1))
		v[i], v[j] = v[j], v[i]
	}
}

// findCycle finds a period in evenly spaced values: a peak of the spectrum that is
// higher than those of 99 of 100 shuffles, with a local maximum of the
// autocorrelation (Vlachos, Yu & Castelli, SDM'05). A known one, to a twentieth, has
// passed the shuffles before and needs the local maximum only. It takes some
// milliseconds.
func findCycle(values []float64, known int) cycle {
	n := len(values)
	if n < 4*leastPeriod {
		return cycle{}
	}
	v := flatten(values)
	fft := fourier.NewFFT(n)
	power := spectrum(fft, v)
	correlation := autocorrelation(v)
	best := cycle{}
	for range peaks {
		k := strongest(power, n)
		if k == 0 {
			break
		}
		if c := localMaximum(correlation, n, k); c.strength > best.strength {
			if !near(c.bins, known) && !significant(fft, v, power[k]) {
				break // the lower peaks beat even less
			}
			best = c
		}
		for i := max(1, k-1); i <= min(k+1, len(power)-1); i++ {
			power[i] = 0
		}
	}
	return best
}

func near(a, b int) bool { return 20*max(a-b, b-a) <= b }

// flatten takes off the straight line and cuts outliers to three deviations.
func flatten(values []float64) []float64 {
	n := float64(len(values))
	var sx, sy, sxx, sxy float64
	for i, y := range values {
		x := float64(i)
		sx, sy, sxx, sxy = sx+x, sy+y, sxx+x*x, sxy+x*y
	}
	slope := (n*sxy - sx*sy) / (n*sxx - sx*sx)
	start := (sy - slope*sx) / n
	out := make([]float64, len(values))
	square := 0.0
	for i, y := range values {
		out[i] = y - start - slope*float64(i)
		square += out[i] * out[i]
	}
	limit := 3 * math.Sqrt(square/n)
	for i, y := range out {
		out[i] = min(limit, max(-limit, y))
	}
	return out
}

func spectrum(fft *fourier.FFT, v []float64) []float64 {
	coefficients := fft.Coefficients(nil, v)
	power := make([]float64, len(coefficients))
	for i, c := range coefficients {
		power[i] = real(c * cmplx.Conj(c))
	}
	return power
}

// strongest is the frequency with the most power of those whose period may be
// found in n values; 0: none.
func strongest(power []float64, n int) int {
	best := 0
	for k := leastCycles - 1; k <= n/leastPeriod && k < len(power); k++ {
		if k > 0 && power[k] > 0 && (best == 0 || power[k] > power[best]) {
			best = k
		}
	}
	return best
}

// significant reports whether a power is above the highest of 99 in 100 shuffles.
func significant(fft *fourier.FFT, v []float64, power float64) bool {
	shuffled := append([]float64(nil), v...)
	c := chance(len(v))
	coefficients := make([]complex128, len(v)/2+1)
	lost := 0
	for range shuffles {
		c.shuffle(shuffled)
		high := 0.0
		for i, x := range fft.Coefficients(coefficients, shuffled) {
			if i > 0 {
				high = max(high, real(x*cmplx.Conj(x)))
			}
		}
		if high >= power {
			if lost++; lost > shuffles-beaten {
				return false
			}
		}
	}
	return true
}

// autocorrelation of v at every distance below its length, by the spectrum of v
// with as many zeros behind it.
func autocorrelation(v []float64) []float64 {
	padded := make([]float64, 2*len(v))
	copy(padded, v)
	fft := fourier.NewFFT(len(padded))
	c := fft.Coefficients(nil, padded)
	for i := range c {
		c[i] *= cmplx.Conj(c[i])
	}
	out := fft.Sequence(nil, c)[:len(v)]
	whole := out[0]
	if !(whole > 0) {
		return make([]float64, len(v))
	}
	for i := range out {
		out[i] *= float64(len(v)) / float64(len(v)-i) / whole
	}
	return out
}

// localMaximum is the highest autocorrelation near the period of frequency k, if it
// is above those half a period before and behind it.
func localMaximum(correlation []float64, n, k int) cycle {
	period := float64(n) / float64(k)
	low := int(math.Floor((period + float64(n)/float64(k+1)) / 2))
	high := int(math.Ceil(1.15 * period))
	if k > 1 {
		high = int(math.Ceil((period + float64(n)/float64(k-1)) / 2))
	}
	high = min(high, n/leastCycles)
	low = max(low, leastPeriod)
	top := 0
	for i := low; i <= high; i++ {
		if top == 0 || correlation[i] > correlation[top] {
			top = i
		}
	}
	if top <= low && top != leastPeriod || top == 0 || top >= high && high > low {
		return cycle{}
	}
	valley := max(correlation[top/2], correlation[min(n-1, top+top/2)])
	if correlation[top] < leastHill || correlation[top] < valley+leastHill/2 {
		return cycle{}
	}
	return cycle{bins: top, strength: min(1, correlation[top])}
}
