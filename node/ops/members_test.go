package ops

import (
	"testing"
	"time"
)

func TestSkew(t *testing.T) {
	at := time.Unix(1000, 0)
	for _, c := range []struct {
		now, took time.Duration
		want      float64
	}{{0, 0, 0}, {50 * time.Millisecond, 100 * time.Millisecond, 0}, {0, 100 * time.Millisecond, 0},
		{time.Minute, 2 * time.Second, 59}, {-time.Minute, 2 * time.Second, -61}} {
		if got := skewOf(at.Add(c.now), at, at.Add(c.took)); got != c.want {
			t.Errorf("%+v: %g", c, got)
		}
	}
}
