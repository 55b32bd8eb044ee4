package simtest

import (
	"testing"
	"time"
)

// TestRow1TheSameOwnersAgainAndAgain: three nodes in turn crash and come back, every
// dozen seconds. Who stood in for one of them is superseded by its return each time,
// which is no fight: the next crash is answered as fast as the first.
func TestRow1TheSameOwnersAgainAndAgain(t *testing.T) {
	inWorld(t, 5, 20, func(w *world) {
		var worst time.Duration
		for i := range 15 {
			h := w.hosts[2+i%3]
			h.kill()
			took := w.until(10*time.Second, h.name+" crashed")
			worst = max(worst, took)
			time.Sleep(time.Second)
			h.net.Up()
			h.start()
			w.until(30*time.Second, h.name+" is back")
			time.Sleep(3 * time.Second)
			w.until(10*time.Second, h.name+" is back for a while")
		}
		t.Logf("the worst of 15 crashes: planned for after %v", worst)
		if worst > 3*time.Second {
			t.Errorf("the worst of 15 crashes took %v, want 3s", worst)
		}
	})
}
