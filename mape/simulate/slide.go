package simulate

import "time"

// dated is a value at an instant.
type dated struct {
	at time.Duration
	v  float64
}

// highest is the maximum over a window of time, in constant time per value.
type highest struct {
	window time.Duration
	fall   []dated // falling from the front
	head   int
}

// add takes the value of an instant no earlier than the one before, and returns
// the maximum of (at − window, at].
func (h *highest) add(at time.Duration, v float64) float64 {
	for len(h.fall) > h.head && h.fall[len(h.fall)-1].v <= v {
		h.fall = h.fall[:len(h.fall)-1]
	}
	h.fall = append(h.fall, dated{at, v})
	for h.fall[h.head].at <= at-h.window {
		h.head++
	}
	if h.head > 1024 && h.head*2 > len(h.fall) {
		h.fall = append(h.fall[:0], h.fall[h.head:]...)
		h.head = 0
	}
	return h.fall[h.head].v
}

// averages is the mean over a window of time, of the steps that lie in it whole,
// and of the newest step where that is longer than the window.
type averages struct {
	window time.Duration
	values []dated
	head   int
	sum    float64
}

// add takes the value of the step of length dt that ends at an instant.
func (a *averages) add(at, dt time.Duration, v float64) float64 {
	a.values = append(a.values, dated{at, v})
	a.sum += v
	for a.head < len(a.values)-1 && a.values[a.head].at-dt < at-a.window {
		a.sum -= a.values[a.head].v
		a.head++
	}
	if a.head > 1024 && a.head*2 > len(a.values) {
		a.values = append(a.values[:0], a.values[a.head:]...)
		a.head, a.sum = 0, 0
		for _, x := range a.values {
			a.sum += x.v // recomputed, so that rounding does not add up
		}
	}
	return max(a.sum, 0) / float64(len(a.values)-a.head)
}

// s2d turns seconds into a duration.
func s2d(seconds float64) time.Duration { return time.Duration(seconds * float64(time.Second)) }
