package history

import (
	"errors"
	"math"
	"time"
)

// Ratio is how much wider each bucket is than the one before: 5 %, as in the
// Vertical Pod Autoscaler's recommender.
const Ratio = 1.05

const (
	logRatio = 0.04879016416943205 // ln 1.05

	// maxBuckets bounds a histogram: 256 buckets span five decades.
	maxBuckets         = 256
	minFirst, maxFirst = 1e-9, 1e15
	maxHalfLife        = 366 * 24 * time.Hour
	// maxExponent is how many half-lives the weights grow before they are scaled
	// back: 2^20 · 86 400 s · 2^20 (maxWeight) is 2^57, far below float32's 2^128.
	maxExponent = 20
	// maxWeight bounds the weight of one observation.
	maxWeight = 1 << 20
	// lostWeight is what a scaled-back bucket must hold to be kept. An
	// observation of weight 1 is forgotten after twenty half-lives.
	lostWeight = 1e-6
	// lateness is how far behind the newest observation another may come. What
	// comes later than that means that the wall clock was set back.
	lateness = time.Hour
)

// Spec is the shape of a histogram: the width of the first bucket in the
// caller's unit, the number of buckets, and the time after which an observation
// counts half.
type Spec struct {
	First    float64
	Buckets  int
	HalfLife time.Duration
}

// Histogram counts observations in buckets that grow by Ratio, with weights that
// double every half-life from a landmark on, so that old ones fade without being
// touched (forward decay: Cormode et al., ICDE 2009).
//
// The landmark is a whole number of half-lives after 1970. So two histograms of one
// shape, from any two hosts, differ by an exact power of two and add up.
type Histogram struct {
	spec     Spec
	landmark int64 // in half-lives since 1970
	newest   int64 // unix nanoseconds of the newest observation; 0: none
	// weights are those of the buckets from the first on; all others are empty. Most services use
	// few of the buckets.
	first   int
	weights []float32
}

// grain is the number of buckets by which a histogram grows: 32 bytes.
const grain = 8

// ErrShape means that two histograms have different buckets or half-lives.
var ErrShape = errors.New("histograms of different shapes")

// New makes an empty histogram. A spec out of bounds is brought to the nearest
// allowed one: shapes are constants of the program, not input.
func New(s Spec) *Histogram {
	if math.IsNaN(s.First) {
		s.First = 1
	}
	s.First = min(max(s.First, minFirst), maxFirst)
	s.Buckets = min(max(s.Buckets, 1), maxBuckets)
	s.HalfLife = min(max(s.HalfLife, time.Second), maxHalfLife)
	return &Histogram{spec: s}
}

// cover lets weights include the buckets from lo to before hi.
func (h *Histogram) cover(lo, hi int) {
	end := h.first + len(h.weights)
	if lo >= h.first && hi <= end || lo >= hi {
		return
	}
	if len(h.weights) > 0 {
		lo, hi = min(lo, h.first), max(hi, end)
	}
	lo, hi = lo/grain*grain, min((hi+grain-1)/grain*grain, h.spec.Buckets)
	wider := make([]float32, hi-lo)
	copy(wider[max(h.first-lo, 0):], h.weights)
	h.first, h.weights = lo, wider
}

// Spec is the histogram's shape.
func (h *Histogram) Spec() Spec { return h.spec }

// Add counts value with the given weight (seconds, or 1). It ignores values below 0
// and what is not a finite number; values beyond the last bucket count in it. An
// observation up to an hour older than the newest is weighted by its age. An older
// one means that the clock was set back: the landmark moves back with it, so that new
// observations keep their weight.
func (h *Histogram) Add(at time.Time, value, weight float64) {
	if !(value >= 0) || !(weight > 0) || math.IsInf(value, 0) {
		return
	}
	weight = min(weight, maxWeight)
	now := at.UnixNano()
	if now <= 0 {
		return
	}
	h.follow(now)
	w := weight * math.Exp2(float64(now)/float64(h.spec.HalfLife)-float64(h.landmark))
	i := h.bucket(value)
	h.cover(i, i+1)
	h.weights[i-h.first] += float32(w)
}

// follow moves the landmark so that the weight of an observation at now stays
// within range.
func (h *Histogram) follow(now int64) {
	half := int64(h.spec.HalfLife)
	switch {
	case h.newest == 0:
		h.landmark = now / half
	case h.newest-now > int64(lateness):
		back := (h.newest - now + half/2) / half
		h.landmark -= back
		h.newest = now
		if now/half < h.landmark { // the rounding of many such steps must not add up
			h.rebase(now / half)
		}
	}
	if now/half-h.landmark > maxExponent {
		h.rebase(now / half)
	}
	h.newest = max(h.newest, now)
}

// rebase moves the landmark and scales the weights to it.
func (h *Histogram) rebase(landmark int64) {
	shift := h.landmark - landmark
	h.landmark = landmark
	if shift == 0 {
		return
	}
	f := float32(math.Ldexp(1, int(max(min(shift, 120), -140))))
	for i, w := range h.weights {
		if w *= f; w < lostWeight && shift < 0 {
			w = 0
		}
		h.weights[i] = min(w, math.MaxFloat32/2)
	}
}

// bucket is the index of value's bucket: bucket i begins at edge(i).
func (h *Histogram) bucket(value float64) int {
	i := math.Log1p(value*((Ratio-1)/h.spec.First)) / logRatio
	return int(min(i, float64(h.spec.Buckets-1)))
}

// edge is where bucket i begins: First·(Ratio^i − 1)/(Ratio − 1).
func (h *Histogram) edge(i int) float64 {
	return h.spec.First * math.Expm1(float64(i)*logRatio) / (Ratio - 1)
}

func (h *Histogram) sum() float64 {
	var sum float64
	for _, w := range h.weights {
		sum += float64(w)
	}
	return sum
}

// Quantile is the value that a share q (0..1) of the weight lies at or below,
// rounded up to the end of its bucket; 0 when nothing was observed.
func (h *Histogram) Quantile(q float64) float64 {
	total := h.sum()
	if total == 0 || math.IsNaN(q) {
		return 0
	}
	want := min(max(q, 0), 1) * total
	var sum float64
	last := 0
	for i, w := range h.weights {
		if w == 0 {
			continue
		}
		last = h.first + i
		if sum += float64(w); sum >= want {
			break
		}
	}
	return h.edge(last + 1)
}

// Max is the end of the highest bucket that is not empty; 0 when all are.
func (h *Histogram) Max() float64 {
	for i := len(h.weights) - 1; i >= 0; i-- {
		if h.weights[i] > 0 {
			return h.edge(h.first + i + 1)
		}
	}
	return 0
}

// Mean is the weighted mean, each observation taken for the middle of its
// bucket; 0 when nothing was observed.
func (h *Histogram) Mean() float64 {
	var sum, total float64
	for i, w := range h.weights {
		if w > 0 {
			sum += float64(w) * (h.edge(h.first+i) + h.edge(h.first+i+1)) / 2
			total += float64(w)
		}
	}
	if total == 0 {
		return 0
	}
	return sum / total
}

// Total is the weight of everything observed as of the newest observation: in
// seconds or counts, older ones discounted.
func (h *Histogram) Total() float64 {
	return h.sum() / math.Exp2(float64(h.newest)/float64(h.spec.HalfLife)-float64(h.landmark))
}

// Merge adds what other has observed. Order and grouping of merges do not
// matter, up to float32 rounding. Shapes must agree, or it is ErrShape.
func (h *Histogram) Merge(other *Histogram) error {
	if h.spec != other.spec {
		return ErrShape
	}
	if other.newest == 0 {
		return nil
	}
	if h.newest == 0 {
		h.landmark = other.landmark
	}
	landmark := max(h.landmark, other.landmark)
	h.rebase(landmark)
	f := float32(math.Ldexp(1, int(max(other.landmark-landmark, -140))))
	h.cover(other.first, other.first+len(other.weights))
	for i, w := range other.weights {
		mine := &h.weights[other.first+i-h.first]
		*mine = min(*mine+w*f, math.MaxFloat32/2)
	}
	h.newest = max(h.newest, other.newest)
	return nil
}

// Clone is an independent copy.
func (h *Histogram) Clone() *Histogram {
	c := *h
	c.weights = append([]float32(nil), h.weights...)
	return &c
}
