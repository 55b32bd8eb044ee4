package view

import (
	"math"
	"testing"
	"time"

	"github.com/effiscale/effiscale/mape/service"
)

func TestAlong(t *testing.T) {
	at := func(h time.Duration, v float64) service.Outlook {
		o := service.Outlook{Value: v}
		o.Horizon = h
		return o
	}
	got := along(1, []service.Outlook{at(10*time.Second, 2), at(time.Minute, 7), at(80*time.Second, 3)}, 10)
	for i, want := range []float64{2, 3, 4, 5, 6, 7, 5, 3, 3, 3} {
		if math.Abs(got[i]-want) > 1e-9 {
			t.Fatalf("%v at %d, want %g", got, i, want)
		}
	}
	if got := along(1, []service.Outlook{at(7*time.Second, 2)}, 2); got[0] != 2 || got[1] != 2 {
		t.Errorf("%v", got)
	}
}
