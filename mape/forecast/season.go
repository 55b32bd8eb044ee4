package forecast

import "time"

const (
	// Periods are searched in two histories: the last 1024 steps, and two weeks of
	// 5-minute means (or of steps, where those are longer). 20 KB together.
	fineBins, coarseBins = 1024, 4096
	coarseBin            = 5 * time.Minute
	// seasons is how many past cycles make the profile, and their weights.
	seasons = 3
)

var seasonWeights = [seasons]float64{0.5, 0.3, 0.2}

// bins is a bounded history of means over width steps.
type bins struct {
	width int
	mean  []float32 // bin i is at i mod len
	done  int       // how many are complete
	sum   float64   // of the one that is not
	part  int
}

func (b *bins) push(v float64) {
	b.sum += v
	if b.part++; b.part < b.width {
		return
	}
	b.mean[b.done%len(b.mean)] = float32(b.sum / float64(b.width))
	b.done++
	b.sum, b.part = 0, 0
}

// at is the mean of bin i, if it is complete and still known.
func (b *bins) at(i int) (float64, bool) {
	if i < 0 || i >= b.done || i < b.done-len(b.mean) {
		return 0, false
	}
	return float64(b.mean[i%len(b.mean)]), true
}

// history gives the known means, oldest first, but for less than the oldest 64: a
// length with small factors has a fast transform.
func (b *bins) history() []float64 {
	n := min(b.done, len(b.mean))
	if n > 64 {
		n -= n % 64
	}
	out := make([]float64, n)
	for i := range out {
		out[i], _ = b.at(b.done - n + i)
	}
	return out
}

// cycle is a period that was found in one of the histories.
type cycle struct {
	bins     int // its length; 0: none
	strength float64
}

// ago is the value k cycles before step t.
func (b *bins) ago(c cycle, t, k int) (float64, bool) { return b.at(t/b.width - k*c.bins) }

// profile is the mean of the past cycles at the phase of step t.
func (b *bins) profile(c cycle, t int) (float64, bool) {
	sum, whole := 0.0, 0.0
	first := 1
	for t/b.width-first*c.bins >= b.done {
		first++
	}
	for k, w := range seasonWeights {
		v, ok := b.ago(c, t, first+k)
		if !ok {
			break
		}
		sum += w * v
		whole += w
	}
	if whole == 0 {
		return 0, false
	}
	return sum / whole, true
}

// latest is the value in the last known cycle at the phase of step t.
func (b *bins) latest(c cycle, t int) (float64, bool) {
	for k := 1; ; k++ {
		if i := t/b.width - k*c.bins; i < b.done {
			return b.at(i)
		}
	}
}
