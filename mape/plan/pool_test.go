package plan_test

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape/plan"
	"pgregory.net/rapid"
)

const core = knowledge.OneCPU

func TestPool(t *testing.T) {
	idle := func(n int, more ...plan.Share) []plan.Share {
		s := slices.Repeat([]plan.Share{{Min: core / 20, Want: core / 20, Weight: 50}}, n)
		return append(s, more...)
	}
	for _, c := range []struct {
		name     string
		capacity knowledge.NanoCPU
		shares   []plan.Share
		want     []knowledge.NanoCPU // of the last ones
	}{
		{"nobody", core, nil, nil},
		{"room for all", 4 * core, []plan.Share{{Min: core, Want: 2 * core}, {Want: core}},
			[]knowledge.NanoCPU{2 * core, core}},
		// (4 − 1) / (3 + 3) = 1/2 of what is wanted beyond the minima.
		{"short", 4 * core, []plan.Share{{Min: core / 2, Want: 7 * core / 2, Weight: 50},
			{Min: core / 2, Want: 7 * core / 2, Weight: 50}}, []knowledge.NanoCPU{2 * core, 2 * core}},
		{"by weight", 4 * core, []plan.Share{{Want: 6 * core, Weight: 75}, {Want: 6 * core, Weight: 25}},
			[]knowledge.NanoCPU{3 * core, core}},
		{"the heavy one is served in full", 4 * core, []plan.Share{{Want: 2 * core, Weight: 100},
			{Want: 6 * core, Weight: 1}}, []knowledge.NanoCPU{2 * core, 2 * core}},
		{"a spike starves nobody under the floor", 2 * core, []plan.Share{{Min: core / 2, Want: core / 2, Weight: 1},
			{Want: 100 * core, Weight: 100}}, []knowledge.NanoCPU{core / 2, 3 * core / 2}},
		{"100 idle ones on 2 cores, and one that works", 2 * core, idle(100,
			plan.Share{Min: core / 20, Want: 2 * core, Weight: 50}), []knowledge.NanoCPU{core / 20, 21 * core / 20}},
		{"less than an equal share is served in full", 2 * core, idle(3, plan.Share{Want: core / 4, Weight: 50},
			plan.Share{Want: 9 * core, Weight: 50}), []knowledge.NanoCPU{core / 4, 8 * core / 5}},
		{"no capacity", 0, []plan.Share{{Min: core, Want: 2 * core}, {Min: core, Want: core / 2}},
			[]knowledge.NanoCPU{core, core / 2}},
		{"garbage", -5, []plan.Share{{Min: -core, Want: -core, Weight: -7}, {Min: 1 << 62, Want: 1 << 62, Weight: 1 << 40}},
			[]knowledge.NanoCPU{0, knowledge.MaxCPU}},
	} {
		t.Run(c.name, func(t *testing.T) {
			plan.Pool(c.capacity, c.shares)
			for i, want := range c.want {
				got := c.shares[len(c.shares)-len(c.want)+i].Grant
				if d := got - want; d < -10 || d > 10 {
					t.Errorf("%d: granted %v, want %v", i, got, want)
				}
			}
		})
	}
}

func drawShares(t *rapid.T) (knowledge.NanoCPU, []plan.Share) {
	cpu := rapid.Int64Range(0, int64(8*core))
	share := rapid.Custom(func(t *rapid.T) plan.Share {
		return plan.Share{
			Min:    knowledge.NanoCPU(cpu.Draw(t, "min")) / 4,
			Want:   knowledge.NanoCPU(cpu.Draw(t, "want")),
			Weight: rapid.IntRange(1, 100).Draw(t, "weight"),
		}
	})
	return knowledge.NanoCPU(cpu.Draw(t, "capacity")) * 2, rapid.SliceOfN(share, 1, 20).Draw(t, "shares")
}

// twin pours the capacity in small drops: each goes to the one that has the least for its
// weight, of those that want more.
func twin(capacity knowledge.NanoCPU, shares []plan.Share) []float64 {
	const drops = 4000
	grants, base, want := make([]float64, len(shares)), 0.0, 0.0
	for _, s := range shares {
		base, want = base+float64(min(s.Min, s.Want)), want+float64(s.Want)
	}
	left := min(max(float64(capacity), base+float64(capacity)/2), want)
	for i, s := range shares {
		grants[i] = float64(min(s.Min, s.Want))
		left -= grants[i]
	}
	for drop := left / drops; left > drop/2; left -= drop {
		least := -1
		for i, s := range shares {
			if grants[i] < float64(s.Want)-drop/2 &&
				(least < 0 || grants[i]/float64(s.Weight) < grants[least]/float64(shares[least].Weight)) {
				least = i
			}
		}
		if least < 0 {
			break
		}
		grants[least] += drop
	}
	return grants
}

func TestPoolAgainstTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		capacity, shares := drawShares(t)
		plan.Pool(capacity, shares)
		for i, want := range twin(capacity, shares) {
			if d := float64(shares[i].Grant) - want; math.Abs(d) > float64(16*core)/1000 {
				t.Fatalf("%d: granted %v, the twin says %v; capacity %v of %v", i, shares[i].Grant, want, capacity, shares)
			}
		}
	})
}

// Nobody is under min(Min, Want) or over Want; the sum is bounded, and all of
// what is there is given while somebody wants it.
func TestPoolBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		capacity, shares := drawShares(t)
		plan.Pool(capacity, shares)
		var sum, base, want knowledge.NanoCPU
		for _, s := range shares {
			low := min(s.Min, s.Want)
			if s.Grant < low || s.Grant > s.Want {
				t.Fatalf("granted %v, outside %v..%v", s.Grant, low, s.Want)
			}
			sum, base, want = sum+s.Grant, base+low, want+s.Want
		}
		if most := max(capacity, base+capacity/2); sum > most+1 {
			t.Fatalf("granted %v of %v, the most is %v", sum, capacity, most)
		}
		if base <= capacity/2 && sum > capacity {
			t.Fatalf("floors of %v take less than half, yet %v of %v are granted", base, sum, capacity)
		}
		if least := min(capacity, want); sum < least-knowledge.NanoCPU(len(shares)) {
			t.Fatalf("granted %v, though %v are there and %v wanted", sum, capacity, want)
		}
	})
}

// More wanted is never less granted; more capacity is less for nobody.
func TestPoolIsMonotone(t *testing.T) {
	const slack = 1000 // nano-cores of rounding
	rapid.Check(t, func(t *rapid.T) {
		capacity, shares := drawShares(t)
		i := rapid.IntRange(0, len(shares)-1).Draw(t, "who")
		more := knowledge.NanoCPU(rapid.Int64Range(0, int64(4*core)).Draw(t, "more"))
		before := slices.Clone(shares)
		plan.Pool(capacity, before)
		after := slices.Clone(shares)
		after[i].Want += more
		plan.Pool(capacity, after)
		if after[i].Grant < before[i].Grant-slack {
			t.Fatalf("wanted %v more and got %v instead of %v", more, after[i].Grant, before[i].Grant)
		}
		wider := slices.Clone(shares)
		plan.Pool(capacity+more, wider)
		for j := range wider {
			if wider[j].Grant < before[j].Grant-slack {
				t.Fatalf("%v more capacity, and %v instead of %v", more, wider[j].Grant, before[j].Grant)
			}
		}
	})
}

func TestPoolAllocatesNothing(t *testing.T) {
	shares := manyShares(100)
	if n := testing.AllocsPerRun(20, func() { plan.Pool(8*core, shares) }); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func manyShares(n int) []plan.Share {
	shares := make([]plan.Share, n)
	for i := range shares {
		shares[i] = plan.Share{Min: core / 20, Want: core * knowledge.NanoCPU(i%7) / 4, Weight: 1 + i%100}
	}
	return shares
}

func BenchmarkPool(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			shares := manyShares(n)
			b.ReportAllocs()
			for b.Loop() {
				plan.Pool(2*core, shares)
			}
		})
	}
}
