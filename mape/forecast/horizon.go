package forecast

// mostPending is how many forecasts of one horizon wait for the truth: of a horizon
// of 360 steps every 23rd is judged.
const mostPending = 16

// blockWeights are those of the newest peak in the averages of past peaks.
var blockWeights = [2]float64{0.3, 0.05}

// issued is a forecast as it was made.
type issued struct {
	at             int // step
	features       vector
	scale          float64 // of the features
	unit           float64 // of the bounds
	value          predictions
	peak           predictions
	predictedValue float64
	predictedPeak  float64
	upper          [maxLevels]float64
	blind          bool // the truth is a lower bound
}

// horizon is one distance ahead: its votes, its bounds, its score.
type horizon struct {
	steps, stride int
	damped        float64 // sum of the trend's damping over the steps

	value, peak vote
	fit         regression
	bound       bounds
	lift        float64 // mean of peak - value
	blocks      [len(blockWeights)]float64
	high, high2 float64 // maximum of the last steps values, and of those before

	now     issued
	pending []issued // a ring
	first   int
	waiting int

	errors, same float64 // mean absolute errors
	count        int
}

func newHorizon(steps int, levels []float64) horizon {
	stride := (steps + mostPending - 1) / mostPending
	h := horizon{steps: steps, stride: stride, pending: make([]issued, steps/stride+1)}
	h.bound.levels = levels
	damp := 1.0
	for range min(steps, 500) {
		damp *= trendDamp
		h.damped += damp
	}
	return h
}

// issue makes the forecast of now.
func (h *horizon) issue(w view) {
	f := &h.now
	s := w.signal
	f.at, f.blind = s.n-1, false
	f.scale = s.scale + 1e-9*s.last + 1e-12
	h.watch(s)
	f.features = h.features(w, f.scale)
	h.predictValues(w, f)
	f.predictedValue = h.value.combine(&f.value, valueVoters)
	f.predictedPeak = f.predictedValue
	if h.steps > 1 {
		h.predictPeaks(w, f)
		f.predictedPeak = h.peak.combine(&f.peak, peakVoters)
	}
	f.unit = h.bound.scale(f.predictedPeak)
	h.bound.upper(f.predictedPeak, f.unit, &f.upper)
}

// watch keeps the maxima of the last steps values and of those before.
func (h *horizon) watch(s *signal) {
	h.high = slide(h.high, s, 0, h.steps)
	h.high2 = slide(h.high2, s, h.steps, h.steps)
}

// slide is the maximum of size values from the from-th before the last one on, given
// the maximum one step ago. It reads all of them only when the highest has left.
func slide(high float64, s *signal, from, size int) float64 {
	n := s.filled()
	if from >= n {
		return 0
	}
	in := s.back(from)
	if in >= high {
		return in
	}
	if out := from + size; out < n && s.back(out) < high {
		return high
	}
	high = 0
	for i := from; i < min(from+size, n); i++ {
		high = max(high, s.back(i))
	}
	return high
}

// remember keeps the forecast of now until its truth is known.
func (h *horizon) remember() {
	if h.now.at%h.stride != 0 || h.waiting == len(h.pending) {
		return
	}
	h.pending[(h.first+h.waiting)%len(h.pending)] = h.now
	h.waiting++
}

// forgetPending drops all that waits: what came of it was not seen.
func (h *horizon) forgetPending() { h.first, h.waiting = 0, 0 }

// blind marks what waits: its truth will be a lower bound.
func (h *horizon) blindPending() {
	for i := range h.waiting {
		h.pending[(h.first+i)%len(h.pending)].blind = true
	}
}

// judge compares the forecast that is due with the truth.
func (h *horizon) judge(s *signal) {
	if h.waiting == 0 {
		return
	}
	f := &h.pending[h.first]
	if f.at+h.steps > s.n-1 {
		return
	}
	h.first = (h.first + 1) % len(h.pending)
	h.waiting--
	peak := s.highest(h.steps)
	if f.blind && peak <= f.upper[len(h.bound.levels)-1] {
		return // not known: the truth may be higher
	}
	h.learn(f, s.last, peak)
}

func (h *horizon) learn(f *issued, value, peak float64) {
	h.count++
	w := max(coverageWeight, 1/float64(h.count))
	h.errors += w * (distance(f.predictedValue, value) - h.errors)
	h.same += w * (distance(f.value.member[sayLast], value) - h.same)
	h.value.learn(&f.value, valueVoters, value)
	h.bound.learn(peak, f.predictedPeak, f.unit, &f.upper)
	base := f.value.member[sayLast]
	h.fit.learn(&f.features, (value-base)/f.scale, (peak-base)/f.scale)
	if h.steps == 1 {
		return
	}
	h.peak.learn(&f.peak, peakVoters, peak)
	h.lift += max(0.05, 1/float64(h.count)) * (peak - f.predictedValue - h.lift)
	for i, w := range blockWeights {
		h.blocks[i] += max(w, 1/float64(h.count)) * (peak - h.blocks[i])
	}
}
