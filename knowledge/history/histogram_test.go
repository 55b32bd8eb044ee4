package history

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"pgregory.net/rapid"
)

var (
	epoch    = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	cpuShape = Spec{First: 0.01, Buckets: 176, HalfLife: 24 * time.Hour}
)

// twin is the dumb histogram: every observation, kept and sorted.
type twin struct {
	values, weights []float64
	at              []time.Time
}

func (d *twin) add(at time.Time, v, w float64) {
	d.at, d.values, d.weights = append(d.at, at), append(d.values, v), append(d.weights, w)
}

// quantiles are the values at which the weighted share q is reached, for q a
// little lower and a little higher: float rounding may tip the histogram over a
// neighbouring observation.
func (d *twin) quantiles(q float64, half time.Duration) (lo, hi float64) {
	var newest time.Time
	for _, at := range d.at {
		if at.After(newest) {
			newest = at
		}
	}
	order := make([]int, len(d.values))
	total := 0.0
	w := make([]float64, len(d.values))
	for i := range order {
		order[i] = i
		w[i] = d.weights[i] * math.Exp2(-float64(newest.Sub(d.at[i]))/float64(half))
		total += w[i]
	}
	slices.SortFunc(order, func(a, b int) int {
		switch {
		case d.values[a] < d.values[b]:
			return -1
		case d.values[a] > d.values[b]:
			return 1
		}
		return 0
	})
	find := func(want float64) float64 {
		sum := 0.0
		for _, i := range order {
			if sum += w[i]; sum >= want {
				return d.values[i]
			}
		}
		return d.values[order[len(order)-1]]
	}
	return find((q - 1e-5) * total), find((q + 1e-5) * total)
}

func TestQuantileAgreesWithSortedSlice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h, d := New(cpuShape), &twin{}
		now := epoch
		n := rapid.IntRange(1, 200).Draw(t, "n")
		for range n {
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(3*time.Hour)).Draw(t, "step")))
			v := rapid.Float64Range(0, 900).Draw(t, "v")
			w := rapid.Float64Range(0.1, 60).Draw(t, "w")
			h.Add(now, v, w)
			d.add(now, v, w)
		}
		for _, q := range []float64{0, 0.05, 0.5, 0.9, 0.98, 1} {
			lo, hi := d.quantiles(q, cpuShape.HalfLife)
			got := h.Quantile(q)
			// The end of the value's bucket: above it, by 5 % and a first bucket at most.
			if least, most := lo*(1-1e-9), hi*Ratio+cpuShape.First*1.06; got < least || got > most {
				t.Fatalf("q%g of %d is %g, the values say %g to %g", q*100, n, got, lo, hi)
			}
		}
		if got := h.Max(); got < slices.Max(d.values)*(1-1e-9) || got > slices.Max(d.values)*Ratio+0.0106 {
			t.Fatalf("max %g of %g", got, slices.Max(d.values))
		}
	})
}

func TestQuantileGrowsWithQ(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := drawHistogram(t, "h")
		a, b := rapid.Float64Range(0, 1).Draw(t, "a"), rapid.Float64Range(0, 1).Draw(t, "b")
		if h.Quantile(min(a, b)) > h.Quantile(max(a, b)) || h.Quantile(1) > h.Max() || h.Mean() > h.Max() {
			t.Fatalf("quantiles %g %g, max %g, mean %g", h.Quantile(a), h.Quantile(b), h.Max(), h.Mean())
		}
	})
}

func drawHistogram(t *rapid.T, name string) *Histogram {
	h := New(cpuShape)
	for range rapid.IntRange(0, 40).Draw(t, name+" size") {
		at := epoch.Add(time.Duration(rapid.Int64Range(0, int64(40*24*time.Hour)).Draw(t, name+" at")))
		h.Add(at, rapid.Float64Range(0, 64).Draw(t, name+" v"), rapid.Float64Range(0.1, 60).Draw(t, name+" w"))
	}
	return h
}

func merged(t *rapid.T, hs ...*Histogram) *Histogram {
	out := hs[0].Clone()
	for _, h := range hs[1:] {
		if err := out.Merge(h); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func (h *Histogram) weight(i int) float32 {
	if i < h.first || i >= h.first+len(h.weights) {
		return 0
	}
	return h.weights[i-h.first]
}

func all(h *Histogram) (weights []float32) {
	for i := range h.spec.Buckets {
		weights = append(weights, h.weight(i))
	}
	return weights
}

// same holds weights to a relative 1e-5 and to what rebase forgets.
func same(a, b *Histogram) bool {
	if a.newest != b.newest || (a.newest != 0 && a.landmark != b.landmark) {
		return false
	}
	for i := range a.spec.Buckets {
		x, y := float64(a.weight(i)), float64(b.weight(i))
		if math.Abs(x-y) > 1e-5*max(x, y)+4*lostWeight {
			return false
		}
	}
	return true
}

func TestMergeLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := drawHistogram(t, "a"), drawHistogram(t, "b"), drawHistogram(t, "c")
		if !same(merged(t, a, b), merged(t, b, a)) {
			t.Fatal("a+b is not b+a")
		}
		if !same(merged(t, merged(t, a, b), c), merged(t, a, merged(t, b, c))) {
			t.Fatal("(a+b)+c is not a+(b+c)")
		}
		if !same(merged(t, a, New(cpuShape)), a) || !same(merged(t, New(cpuShape), a), a) {
			t.Fatal("a+0 is not a")
		}
	})
}

func TestMergeIsAddingAll(t *testing.T) {
	a, b, all := New(cpuShape), New(cpuShape), New(cpuShape)
	for i := range 5000 {
		at, v := epoch.Add(time.Duration(i)*time.Minute), float64(i%37)/4
		if i%3 == 0 {
			a.Add(at, v, 1)
		} else {
			b.Add(at, v, 1)
		}
		all.Add(at, v, 1)
	}
	if err := a.Merge(b); err != nil {
		t.Fatal(err)
	}
	if !same(a, all) {
		t.Fatal("two halves merged differ from the whole")
	}
	other := cpuShape
	other.Buckets--
	if err := a.Merge(New(other)); !errors.Is(err, ErrShape) {
		t.Fatalf("another shape: %v", err)
	}
}

func TestOldObservationsFade(t *testing.T) {
	h := New(cpuShape)
	for i := range 1000 {
		h.Add(epoch.Add(time.Duration(i)*time.Second), 8, 1)
	}
	for i := range 1000 {
		h.Add(epoch.Add(3*24*time.Hour+time.Duration(i)*time.Second), 1, 1)
	}
	if got := h.Quantile(0.85); got > 1.1 {
		t.Fatalf("after three half-lives p85 is %g, most weight lies at 1", got)
	}
	if got := h.Max(); got < 8 {
		t.Fatalf("max %g forgot 8", got)
	}
	if got := h.Total(); math.Abs(got-1125) > 10 {
		t.Fatalf("total %g, 1000 and an eighth of 1000 are expected", got)
	}
	// Ten years on, at one observation a day, weights are still finite and the
	// old maximum is forgotten.
	for d := range 3650 {
		h.Add(epoch.Add(time.Duration(d+4)*24*time.Hour), 1, 60)
	}
	if got := h.Max(); got > 1.1 || math.IsInf(h.Total(), 0) || math.Abs(h.Total()-120) > 1 {
		t.Fatalf("after ten years: max %g, total %g", got, h.Total())
	}
}

// Row 41: the wall clock jumps by a day and back.
func TestClockSetBack(t *testing.T) {
	h := New(Spec{First: 0.01, Buckets: 176, HalfLife: time.Hour})
	for i := range 600 {
		h.Add(epoch.Add(time.Duration(i)*time.Second), 1, 1)
	}
	for i := range 60 {
		h.Add(epoch.Add(24*time.Hour+time.Duration(i)*time.Second), 9, 1)
	}
	for i := range 600 {
		h.Add(epoch.Add(time.Duration(600+i)*time.Second), 2, 1)
	}
	// The 600 s at 2 must count as the present, not as 24 half-lives old.
	if got := h.Quantile(0.5); got < 2 || got > 2.2 {
		t.Fatalf("after the clock was set back p50 is %g, want about 2", got)
	}
	// Many jumps to and fro leave the weights in range.
	for i := range 2000 {
		h.Add(epoch.Add(time.Duration(i%7)*7*time.Hour), 3, 1)
	}
	b := packed(h)
	if err := unpack(New(h.spec), b); err != nil {
		t.Fatal(err)
	}
	if got := h.Quantile(0.5); got < 3 || got > 3.2 {
		t.Fatalf("p50 %g, want about 3", got)
	}
}

// Row 36: what is not a number is not counted.
func TestAbsurdObservationsAreIgnored(t *testing.T) {
	h := New(cpuShape)
	for _, v := range []float64{math.NaN(), math.Inf(1), math.Inf(-1), -1} {
		h.Add(epoch, v, 1)
		h.Add(epoch, 1, v)
	}
	h.Add(epoch, 1, 0)
	h.Add(time.Time{}, 1, 1)
	// An endless weight is brought to the bound; an endless value is not counted.
	if got := h.Total(); math.Abs(got/maxWeight-1) > 1e-6 {
		t.Fatalf("total %g", got)
	}
	h.Add(epoch, math.MaxFloat64, 1)
	h.Add(epoch, 1e300, 1)
	if got := h.Max(); got != h.edge(h.spec.Buckets) {
		t.Fatalf("max %g is not the last bucket's end", got)
	}
	tiny := New(Spec{First: math.NaN(), Buckets: -1, HalfLife: -1})
	tiny.Add(epoch, 5, 1)
	if err := unpack(New(cpuShape), packed(tiny)); err != nil || math.Abs(tiny.Max()-1) > 1e-9 {
		t.Fatalf("%v, %g", err, tiny.Max())
	}
}

// A histogram has memory for the buckets in use alone, and those between them.
func TestHistogramIsSmall(t *testing.T) {
	h := New(cpuShape)
	if n := len(h.weights); n != 0 {
		t.Errorf("%d buckets of an empty one", n)
	}
	for range 100 {
		h.Add(epoch, 0.5, 1)
	}
	h.Add(epoch, 0.55, 1)
	if n := len(h.weights); n > 2*grain {
		t.Errorf("%d buckets for two values", n)
	}
	got := New(cpuShape)
	if err := unpack(got, packed(h)); err != nil || len(got.weights) > 2*grain || got.Max() != h.Max() {
		t.Errorf("%v: %d buckets after reading, highest %g of %g", err, len(got.weights), got.Max(), h.Max())
	}
	for _, v := range []float64{0, 1e9} { // the first and the last bucket
		h.Add(epoch, v, 1)
	}
	if n := len(h.weights); n != cpuShape.Buckets || h.Quantile(0.5) != got.Quantile(0.5) {
		t.Errorf("%d buckets, half of the weight at %g, before %g", n, h.Quantile(0.5), got.Quantile(0.5))
	}
}

func TestHistogramEncodesAndDecodes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := drawHistogram(t, "h")
		b := packed(h)
		got := New(cpuShape)
		if err := unpack(got, b); err != nil {
			t.Fatal(err)
		}
		again := packed(got)
		if !bytes.Equal(b, again) || !slices.Equal(all(got), all(h)) || got.newest != h.newest {
			t.Fatal("decoding is not the inverse of encoding")
		}
		cut := rapid.IntRange(0, len(b)-1).Draw(t, "cut")
		if err := unpack(got, b[:cut]); !errors.Is(err, knowledge.ErrEncoding) {
			t.Fatalf("%d of %d bytes: %v", cut, len(b), err)
		}
	})
}

func FuzzHistogramDecode(f *testing.F) {
	h := New(cpuShape)
	f.Add(packed(h))
	none := packed(h)
	none[len(none)-4] = 9 // no bucket, and the first one is not the lowest
	f.Add(none)
	h.Add(epoch, 1, 1)
	h.Add(epoch, 5, 1)
	f.Add(packed(h))
	bad := packed(h)
	binary.LittleEndian.PutUint32(bad[len(bad)-4:], math.Float32bits(float32(math.NaN())))
	f.Add(bad)
	f.Fuzz(func(t *testing.T, b []byte) {
		h := New(cpuShape)
		if err := unpack(h, b); err != nil {
			return
		}
		if again := packed(h); !bytes.Equal(b, again) {
			t.Fatalf("accepted %x, writes %x", b, again)
		}
		h.Add(epoch, 1, 1)
		if err := h.Merge(h.Clone()); err != nil {
			t.Fatal(err)
		}
		for _, v := range []float64{h.Quantile(0.5), h.Mean(), h.Max(), h.Total()} {
			if math.IsNaN(v) || v < 0 {
				t.Fatalf("%v from %x", v, b)
			}
		}
		if err := unpack(New(cpuShape), packed(h)); err != nil {
			t.Fatalf("what it became cannot be read: %v", err)
		}
	})
}

func packed(h *Histogram) []byte {
	f := knowledge.PackFields(nil)
	h.Pack(f)
	return f.Bytes()
}

func unpack(h *Histogram, b []byte) error {
	f := knowledge.ReadFields(b)
	h.Pack(f)
	return f.End("histogram")
}

func TestAddAllocatesNothing(t *testing.T) {
	h, r, s := New(cpuShape), NewRing(RingPoints), NewSeries()
	now := epoch
	step := func() {
		now = now.Add(time.Second)
		h.Add(now, 1.5, 1)
		r.Add(point(now, 1, 64))
		s.Add(point(now, 1, 64), time.Second, 1)
	}
	for range 2 * 24 * 3600 {
		step()
	}
	s.Chunks()
	for range 10 { // the running minute, without a bucket that is closed
		step()
	}
	if n := testing.AllocsPerRun(20, step); n != 0 {
		t.Fatalf("%g allocations", n)
	}
}

func BenchmarkHistogramAdd(b *testing.B) {
	h, now := New(cpuShape), epoch
	b.ReportAllocs()
	for b.Loop() {
		now = now.Add(time.Second)
		h.Add(now, 1.5, 1)
	}
}

func BenchmarkHistogramQuantile(b *testing.B) {
	h := New(cpuShape)
	for i := range 1000 {
		h.Add(epoch.Add(time.Duration(i)*time.Minute), float64(i%50)/10, 1)
	}
	b.ReportAllocs()
	for b.Loop() {
		h.Quantile(0.95)
	}
}
