package plan

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

func TestUseful(t *testing.T) {
	for _, c := range []struct {
		law     Law
		c, want float64
	}{
		{Law{}, 4, 4},
		{Law{}, 0.5, 0.5},
		{Law{Serial: 0.1, Crosstalk: 0.01}, 4, 4 / 1.42},
		{Law{Serial: 0.1}, 0.5, 0.5},
		{Law{Parallel: 1}, 4, 1},
		{Law{Crosstalk: 0.25}, 9, 2 / 1.5}, // the top is at √(1/0.25) = 2 cores
		{Law{}, math.NaN(), 0},
		{Law{}, math.Inf(1), 0},
		{Law{}, -1, 0},
	} {
		if got := c.law.Useful(c.c); math.Abs(got-c.want) > 1e-9 {
			t.Errorf("%+v of %g cores: %g, want %g", c.law, c.c, got, c.want)
		}
	}
}

// TestUsefulNeverFalls: more cores are never worth less, nor more than they are.
func TestUsefulNeverFalls(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := Law{
			Serial: rapid.Float64Range(0, 1).Draw(t, "s"), Crosstalk: rapid.Float64Range(0, 1).Draw(t, "k"),
			Parallel: rapid.Float64Range(0, 16).Draw(t, "parallel"),
		}
		a, b := rapid.Float64Range(0, 64).Draw(t, "a"), rapid.Float64Range(0, 64).Draw(t, "b")
		a, b = min(a, b), max(a, b)
		if l.Useful(a) > l.Useful(b)+1e-9 || l.Useful(b) > b+1e-9 {
			t.Fatalf("g(%g) = %g, g(%g) = %g", a, l.Useful(a), b, l.Useful(b))
		}
	})
}

// TestLawIsFound: s and k come back from throughput under noise of 1 %.
func TestLawIsFound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := Law{Serial: rapid.Float64Range(0, 0.3).Draw(t, "s"), Crosstalk: rapid.Float64Range(0, 0.01).Draw(t, "k")}
		rate := rapid.Float64Range(1, 1e4).Draw(t, "rate")
		var f LawFit
		for i := range 300 {
			c := float64([]int{1, 2, 3, 4, 6, 8}[i%6])
			g := c / (1 + want.Serial*(c-1) + want.Crosstalk*c*(c-1))
			noise := 1 + 0.01*math.Sin(float64(i)*1.7)
			f.Observe(Effort{Quota: c, Usage: c, Work: rate * g * noise, Throttled: true})
		}
		got := f.Law()
		for _, c := range []float64{1, 2, 4, 8} {
			g := c / (1 + want.Serial*(c-1) + want.Crosstalk*c*(c-1))
			if g > want.Useful(c)+1e-9 {
				continue // past the top
			}
			if math.Abs(got.Useful(c)/g-1) > 0.03 {
				t.Fatalf("g(%g) = %g, want %g (%+v, %+v)", c, got.Useful(c), g, got, want)
			}
		}
	})
}

func TestLawStaysLinearOnLittle(t *testing.T) {
	var f LawFit
	for range 50 { // one size only, use that was not held back, and nonsense
		f.Observe(Effort{Quota: 2, Usage: 2, Work: 100, Throttled: true})
		f.Observe(Effort{Quota: 4, Usage: 1, Work: 50})
		f.Observe(Effort{Quota: 8, Usage: math.NaN(), Work: 1, Throttled: true})
		f.Observe(Effort{Quota: -1, Usage: 1, Work: math.Inf(1), Throttled: true})
	}
	if got := f.Law(); got != (Law{}) {
		t.Errorf("%+v", got)
	}
}

// TestParallel: a process with one thread that waits uses one core of four; one
// that is throttled above that proves more.
func TestParallel(t *testing.T) {
	var f LawFit
	f.Observe(Effort{Quota: 4, Usage: 0.3}) // no work: says nothing
	f.Observe(Effort{Quota: 4, Usage: 1, Waiting: true})
	if got := f.Law().Parallel; got != 1 {
		t.Errorf("%g", got)
	}
	f.Observe(Effort{Quota: 2, Usage: 2, Throttled: true})
	if got := f.Law().Parallel; got != 2 {
		t.Errorf("%g", got)
	}
}
