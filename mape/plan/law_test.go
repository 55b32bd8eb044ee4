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
