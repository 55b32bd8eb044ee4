package monitor

import (
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// What little CPU time cannot have done is not looked at; what it can have done is.
func TestReach(t *testing.T) {
	w := withLimit(64 * knowledge.MiB)
	w.WorkingSet, w.Quota, w.Period = 32*knowledge.MiB, knowledge.OneCPU/10, 100*time.Millisecond
	full, free, loose := w, w, w
	full.WorkingSet = 64 * knowledge.MiB
	free.MemoryLimit, free.Quota = 0, 0
	loose.ThrottledRun = 1
	for _, c := range []struct {
		name            string
		w               knowledge.Window
		used            time.Duration
		grows, throttle bool
	}{
		{"nothing", w, 0, false, false},
		{"0.1 ms touches 1 MiB at most", w, 100 * time.Microsecond, false, false},
		{"0.3 ms touches 3 MiB, of 32 that are free", w, 300 * time.Microsecond, true, false},
		{"1 ms is no eighth of 10 ms", w, time.Millisecond, true, false},
		{"2 ms is", w, 2 * time.Millisecond, true, true},
		{"at its limit", full, 0, true, false},
		{"without limits", free, 4 * time.Millisecond, false, false},
		{"without limits, and busy", free, time.Second, true, false},
		{"it was throttled", loose, 0, false, true},
		{"the counter was reset", w, -time.Second, true, true},
		{"the counter was reset, without limits", free, -time.Second, true, false},
	} {
		if g, th := MayGrow(&c.w, c.used), MayThrottle(&c.w, c.used); g != c.grows || th != c.throttle {
			t.Errorf("%s: may grow %t, may throttle %t", c.name, g, th)
		}
	}
}
