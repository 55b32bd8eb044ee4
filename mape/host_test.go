package mape

import (
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// TestFull: the CPU is full from 95 % of the cores on, and not any more below 90 % (row 139).
func TestFull(t *testing.T) {
	var h hostUse
	at := time.Unix(1e9, 0)
	for i, c := range []struct {
		cores float64
		full  bool
	}{{1, false}, {1.92, true}, {1.85, true}, {1.7, false}, {1.85, false}, {2, true}} {
		h.cpu = knowledge.FromCores(c.cores)
		h.full(at.Add(time.Duration(i)*time.Second), 2*knowledge.OneCPU)
		if h.cpuFull.IsZero() == c.full {
			t.Errorf("%d: %g cores: since %v", i, c.cores, h.cpuFull)
		}
	}
}
