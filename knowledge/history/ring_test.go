package history

import (
	"math"
	"sort"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/effiscale/effiscale/knowledge"
)

// Demand is what sorting all the readings says, each with its weight.
func TestRingDemand(t *testing.T) {
	begin := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	rapid.Check(t, func(t *rapid.T) {
		r := NewRing(RingPoints)
		type reading struct{ at, use, lasted float64 }
		var all []reading
		at, before := begin, time.Time{}
		for range rapid.IntRange(0, 400).Draw(t, "n") {
			at = at.Add(time.Duration(rapid.IntRange(950, 15000).Draw(t, "ms")) * time.Millisecond)
			use := float64(float32(rapid.Float64Range(0, 8).Draw(t, "use")))
			lasted := 10.0
			if !before.IsZero() {
				lasted = min(at.Sub(before).Seconds(), 10)
			}
			before = at
			r.Add(knowledge.Point{At: at.UnixNano(), Demand: float32(use)})
			all = append(all, reading{float64(at.UnixNano()), use, lasted})
		}
		all = all[max(len(all)-RingPoints, 0):]
		if len(all) > 0 {
			all[0].lasted = 10 // what came before it is gone
		}
		since := at.Add(-5 * time.Minute)
		for len(all) > 0 && all[0].at < float64(since.UnixNano()) {
			all = all[1:]
		}
		high, mean := r.Demand(since, 0.01)
		total, sum := 0.0, 0.0
		for _, x := range all {
			total, sum = total+x.lasted, sum+x.use*x.lasted
		}
		if total == 0 {
			if high != 0 || mean != 0 {
				t.Fatalf("%g and %g of nothing", high, mean)
			}
			return
		}
		sort.Slice(all, func(i, j int) bool { return all[i].use > all[j].use })
		want, spent := 0.0, 0.0
		for _, x := range all {
			want = x.use
			if spent += x.lasted; spent > 0.01*total {
				break
			}
		}
		if high != want || math.Abs(mean-sum/total) > 1e-6 {
			t.Fatalf("%g and %g, sorted %g and %g", high, mean, want, sum/total)
		}
	})
	r := NewRing(RingPoints)
	for i := range 2 * RingPoints {
		r.Add(knowledge.Point{At: begin.Add(time.Duration(i) * time.Second).UnixNano(), Demand: float32(i % 7)})
	}
	if n := testing.AllocsPerRun(10, func() { r.Demand(begin, 0.01) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// A ring holds as many points as its seconds need: all of five minutes at one a second,
// few where they are rare, and never more than its bound.
func TestRingSize(t *testing.T) {
	begin := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		every    time.Duration
		most     int
		covering time.Duration
	}{{time.Second, 300, 299 * time.Second}, {10 * time.Second, 32, 310 * time.Second},
		{time.Minute, 16, 15 * time.Minute},
		{100 * time.Millisecond, 300, 29 * time.Second}} {
		r := NewRing(RingPoints)
		at := begin
		for range 2000 {
			at = at.Add(c.every)
			r.Add(knowledge.Point{At: at.UnixNano()})
		}
		all := r.Since(nil, time.Time{})
		if len(all) != r.Len() || cap(r.points) > c.most || at.UnixNano()-all[0].At < int64(c.covering) {
			t.Errorf(
				"each %s: %d points, room for %d, over %s",
				c.every,
				r.Len(),
				cap(r.points),
				time.Duration(at.UnixNano()-all[0].At),
			)
		}
		for i := range all[1:] {
			if all[i+1].At-all[i].At != int64(c.every) {
				t.Fatalf("each %s: a gap after point %d", c.every, i)
			}
		}
	}
	// A container that wakes up: what was rare becomes frequent, and nothing is lost.
	r := NewRing(RingPoints)
	at := begin
	for i := range 500 {
		step := 10 * time.Second
		if i >= 200 {
			step = time.Second
		}
		at = at.Add(step)
		r.Add(knowledge.Point{At: at.UnixNano()})
		if all := r.Since(nil, at.Add(-4*time.Minute)); len(all) < min(24, i) {
			t.Fatalf("after %d points %d of the last four minutes", i, len(all))
		}
	}
	if all := r.Since(nil, at.Add(-4*time.Minute)); len(all) != 241 {
		t.Errorf("%d points of four minutes at one a second", len(all))
	}
}
