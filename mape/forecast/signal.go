package forecast

import "slices"

const (
	// Values in the medians: one outlier, a few, a burst.
	shortMedian, midMedian, longMedian = 5, 15, 61
	// A trend's constants (Gardner & McKenzie 1985) are with Holt.
	scaleWeight = 0.05
)

// meanWeights are those of the newest value in the moving averages: half of the
// weight is on the last 1, 3, 7, 14 and 69 values.
var meanWeights = [...]float64{0.5, 0.2, 0.1, 0.05, 0.01}

// signal is the input of every horizon: the recent values and their averages.
type signal struct {
	// n counts steps, unseen ones too; seen those with a value.
	n, seen int
	last    float64
	// ring[n mod len] is the next to be overwritten.
	ring   []float64
	means  [len(meanWeights)]float64
	level  float64 // of Holt's method
	trend  float64
	scale  float64 // mean absolute step
	sorted [longMedian]float64
	middle [midMedian]float64
}

func newSignal(longest int) signal {
	size := 1
	for size < longest+longMedian {
		size *= 2
	}
	return signal{ring: make([]float64, size)}
}

// back is the value i steps before the last one.
func (s *signal) back(i int) float64 { return s.ring[(s.n-1-i)&(len(s.ring)-1)] }

// filled is how many values back() may reach.
func (s *signal) filled() int { return min(s.n, len(s.ring)) }

func (s *signal) observe(v float64) {
	s.average(v)
	s.push(v)
	s.seen++
}

func (s *signal) average(v float64) {
	if s.seen == 0 {
		for i := range s.means {
			s.means[i] = v
		}
		s.level, s.last = v, v
	}
	step := max(v-s.last, s.last-v)
	s.scale += max(scaleWeight, 1/float64(s.seen+1)) * (step - s.scale)
	for i, w := range meanWeights {
		s.means[i] += max(w, 1/float64(s.seen+1)) * (v - s.means[i])
	}
	before := s.level
	s.level = levelWeight*v + (1-levelWeight)*(s.level+trendDamp*s.trend)
	s.trend = trendWeight*(s.level-before) + (1-trendWeight)*trendDamp*s.trend
}

// push takes a value that may not have been seen.
func (s *signal) push(v float64) {
	s.slide(s.sorted[:], v)
	s.slide(s.middle[:], v)
	s.ring[s.n&(len(s.ring)-1)] = v
	s.n++
	s.last = v
}

// slide replaces the oldest value of a sorted window by v.
func (s *signal) slide(window []float64, v float64) {
	n := min(s.n, len(window))
	full := window[:n]
	if n == len(window) {
		i := place(full, s.back(n-1))
		copy(full[i:], full[i+1:])
		n--
	}
	i := place(window[:n], v)
	copy(window[i+1:n+1], window[i:n])
	window[i] = v
}

// median is that of the last values in a sorted window of s.
func (s *signal) median(window []float64) float64 {
	n := min(s.n, len(window))
	return window[n/2]
}

// medianOf5 is the median of the last five values.
func (s *signal) medianOf5() float64 {
	var v [shortMedian]float64
	n := min(s.n, shortMedian)
	for i := range n {
		x, j := s.back(i), i
		for ; j > 0 && v[j-1] > x; j-- {
			v[j] = v[j-1]
		}
		v[j] = x
	}
	return v[n/2]
}

// highest is the maximum of the last steps values.
func (s *signal) highest(steps int) float64 {
	high := 0.0
	for i := range min(steps, s.filled()) {
		high = max(high, s.back(i))
	}
	return high
}

// place is where v is, or belongs, in a sorted window. It is slices.BinarySearch
// without its care for NaN, which cost a fifth of an observation.
func place(sorted []float64, v float64) int {
	low, high := 0, len(sorted)
	for low < high {
		if mid := (low + high) / 2; sorted[mid] < v {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return low
}

// sort fills a sorted window from the ring.
func (s *signal) sort(window []float64) {
	n := min(s.n, len(window))
	for i := range n {
		window[i] = s.back(i)
	}
	slices.Sort(window[:n])
}
