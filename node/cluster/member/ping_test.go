package member

import (
	"testing"
	"time"

	"github.com/effiscale/effiscale/node/test/sim/simnet"
)

// TestFarAway (rows 14, 15 and 23): over a way of 300 ms, and back of as much, a node is
// reached, and one with a name that is taken is heard of, in each timing; one that is down
// is not reached.
func TestFarAway(t *testing.T) {
	for _, timing := range []Timing{Fast, LAN, WAN} {
		t.Run(string(timing), func(t *testing.T) {
			inBubbleTimed(t, timing, 3, func(t *testing.T, b *bubble) {
				b.net.Everywhere(simnet.Fault{Delay: 300 * time.Millisecond})
				for i := range 2 {
					begun := time.Now()
					if err := b.all[2].Reach(idOf(i)); err != nil {
						t.Errorf("%d: %v after %v", i, err, time.Since(begun))
					}
					if !b.all[2].conflicts.answers(duplicate{id: idOf(i), addr: b.all[i].Addr()}) {
						t.Error("a duplicate that lives does not answer")
					}
					if b.all[2].conflicts.answers(duplicate{id: idOf(7), addr: b.all[i].Addr()}) {
						t.Error("a duplicate answers for another one")
					}
				}
				b.net.Host(b.ips[0]).Down()
				begun := time.Now()
				if err := b.all[2].Reach(idOf(0)); err == nil {
					t.Error("one that is down answers")
				}
				if took := time.Since(begun); took > 3100*time.Millisecond { // WAN's own ping takes 3 s
					t.Errorf("that took %v", took)
				}
				if n := len(b.all[2].pings.asked); n != 0 {
					t.Errorf("%d questions are kept", n)
				}
			})
		})
	}
}
