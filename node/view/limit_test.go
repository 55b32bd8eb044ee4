package view

import (
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

func TestWireConfigKeepsTheQuota(t *testing.T) {
	for _, c := range []struct {
		cpu    knowledge.NanoCPU
		period time.Duration
		want   int64
	}{
		{0, 0, -1},
		{290_000_000, 0, 29_000}, // 0.29 * 100000 is 28999.99… in floating point
		{knowledge.OneCPU, 50 * time.Millisecond, 50_000},
		{knowledge.MaxCPU, time.Second, 4096_000_000},
	} {
		if got := WireLimits(c.cpu, c.period, 0).CPUQuota; got != c.want {
			t.Errorf("%s in %s: %d, want %d", c.cpu, c.period, got, c.want)
		}
	}
}
