package history

import (
	"math"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

const histogramVersion = 1

// Pack adds the histogram's fields, about 40 bytes and 4 for each bucket between
// the lowest and the highest in use; or, where f reads, replaces the histogram. It
// accepts exactly what it writes; after f.End with an error h is not usable.
func (h *Histogram) Pack(f *knowledge.Fields) {
	lo, hi := 0, len(h.weights)
	for lo < hi && h.weights[lo] == 0 {
		lo++
	}
	for hi > lo && h.weights[hi-1] == 0 {
		hi--
	}
	used := h.weights[lo:hi]
	lo += h.first
	count := len(used)
	if count == 0 {
		lo = 0
	}
	f.Constant(histogramVersion, 1)
	f.Float(&h.spec.First, minFirst, maxFirst)
	knowledge.Int(f, &h.spec.HalfLife, 8, time.Second, maxHalfLife)
	knowledge.Int(f, &h.spec.Buckets, 2, 1, maxBuckets)
	knowledge.Int(f, &h.landmark, 8, -1<<40, 1<<40)
	knowledge.Int(f, &h.newest, 8, 0, math.MaxInt64)
	knowledge.Int(f, &lo, 2, 0, h.spec.Buckets)
	knowledge.Int(f, &count, 2, 0, h.spec.Buckets-lo)
	if !f.Reads() {
		f.Floats32(used, math.MaxFloat32/2)
		return
	}
	if f.Require(count > 0 || lo == 0); !f.OK() {
		return
	}
	h.first, h.weights = 0, nil
	h.cover(lo, lo+count)
	used = h.weights[lo-h.first:][:count]
	f.Floats32(used, math.MaxFloat32/2)
	for _, w := range used {
		f.Require(!math.Signbit(float64(w)))
	}
	if count > 0 {
		f.Require(h.newest > 0 && used[0] > 0 && used[count-1] > 0)
	}
	f.Require(h.timesAgree())
}

// timesAgree reports whether the newest observation can have this landmark.
func (h *Histogram) timesAgree() bool {
	if h.newest == 0 {
		return h.landmark == 0
	}
	steps := h.newest/int64(h.spec.HalfLife) - h.landmark
	return steps >= -2 && steps <= maxExponent+2
}
