package sim

import (
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// TestRow1TheSameOwnersAgainAndAgain: three nodes in turn crash and come back, every
// dozen seconds. The node that replaced one of them is superseded by its return each time,
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

// TestRow49OwnersWithoutADisk: a node that cannot write terms down does not stand in
// for one that crashed; the next one does. With space on its disk it participates
// again.
func TestRow49OwnersWithoutADisk(t *testing.T) {
	inWorld(t, 5, 60, func(w *world) {
		full, gone := w.hosts[3], w.hosts[4]
		full.disk.mu.Lock()
		full.disk.full = true
		full.disk.mu.Unlock()
		gone.kill()
		began := time.Now()
		// The host without a disk obeys no new owner.
		others := func() bool {
			for _, h := range w.hosts[:3] {
				h.mu.Lock()
				for _, is := range h.obeyed {
					if w.owner(is) == nil {
						h.mu.Unlock()
						return false
					}
				}
				h.mu.Unlock()
			}
			return true
		}
		for !others() && time.Since(began) < 10*time.Second {
			time.Sleep(50 * time.Millisecond)
		}
		t.Logf("a node crashed and one of four others has no disk: planned for after %v", time.Since(began))
		if time.Since(began) > 5*time.Second {
			t.Error("a node without a disk keeps what it cannot plan for")
		}
		full.disk.mu.Lock()
		full.disk.full = false
		full.disk.mu.Unlock()
		w.until(time.Minute, "disk space")
		time.Sleep(20 * time.Second)
		w.until(10*time.Second, "disk space for a while")
		if full.c.View().Claims == 0 {
			t.Error("with space on its disk the node owns nothing")
		}
	})
}

// owner is the living host of a term.
func (w *world) owner(t knowledge.Term) *host {
	for _, h := range w.hosts {
		if h.c != nil && h.c.Self() == t.Owner {
			return h
		}
	}
	return nil
}

// TestMostHaveNoDisk: of three nodes two cannot write terms down, and one of these
// crashes and comes back. The third goes on planning for all that runs on it.
func TestMostHaveNoDisk(t *testing.T) {
	inWorld(t, 3, 20, func(w *world) {
		well := w.hosts[0]
		for _, h := range w.hosts[1:] {
			h.disk.mu.Lock()
			h.disk.full = true
			h.disk.mu.Unlock()
		}
		w.hosts[2].kill()
		time.Sleep(30 * time.Second)
		w.hosts[2].again()
		time.Sleep(2 * time.Minute)
		well.mu.Lock()
		silent := 0
		for _, at := range well.at {
			if time.Since(at) > 2*every {
				silent++
			}
		}
		well.mu.Unlock()
		v, other := well.c.View(), w.hosts[1].c.View()
		// The other one had no term to write: all of the third's services came to the well one.
		keeps := v.Ring.Len() == 2 && v.Claims+other.Claims == 20
		if silent > 0 || (v.Claims != 20 || v.Ring.Len() != 1) && !keeps {
			t.Errorf("%d services without an intent; %s owns %d of 20 in a ring of %d, %s %d", silent, well.name, v.Claims, v.Ring.Len(), w.hosts[1].name, other.Claims)
		}
		if keeps {
			t.Log("the second host had no term to write")
		}
		for _, h := range w.hosts[1:] {
			h.disk.mu.Lock()
			h.disk.full = false
			h.disk.mu.Unlock()
		}
		w.until(time.Minute, "disk space")
		time.Sleep(20 * time.Second)
		if v := well.c.View(); v.Ring.Len() != 3 {
			t.Errorf("with space on all disks the ring has %d members", v.Ring.Len())
		}
	})
}
