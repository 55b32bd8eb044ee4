package forecast

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

func TestHoltNeedsEnoughReadings(t *testing.T) {
	if got := Holt(make([]float64, Least-1), 3); got != nil {
		t.Errorf("%d readings gave %v", Least-1, got)
	}
	if got := Holt(make([]float64, Least), 0); got != nil {
		t.Errorf("no steps gave %v", got)
	}
}

func TestHoltKeepsALevelAndFollowsATrend(t *testing.T) {
	flat, ramp := make([]float64, 60), make([]float64, 60)
	for i := range flat {
		flat[i], ramp[i] = 2, float64(i)
	}
	for _, v := range Holt(flat, 10) {
		if math.Abs(v-2) > 1e-9 {
			t.Errorf("a level of 2 is forecast as %v", v)
		}
	}
	up := Holt(ramp, 10)
	for i := 1; i < len(up); i++ {
		if up[i] <= up[i-1] {
			t.Errorf("a ramp is forecast to stop at step %d: %v", i, up)
		}
	}
	if up[9] > 59+10+1 {
		t.Errorf("a damped trend overtakes the ramp: %v", up[9])
	}
}

func TestHoltStaysFiniteAndNotNegative(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOfN(rapid.Float64Range(0, 1e12), Least, 300).Draw(t, "values")
		for _, v := range Holt(values, 30) {
			if v < 0 || math.IsNaN(v) || math.IsInf(v, 0) {
				t.Fatalf("forecast %v", v)
			}
		}
	})
}
