package member

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/effiscale/effiscale/node/test/sim/simnet"
)

// detected is how long the others take to know of a crash, in virtual time: median and
// worst of some at random moments of the probes' cycle.
func detected(t *testing.T, timing Timing, n, times int, most time.Duration) (median, worst time.Duration) {
	t.Helper()
	var took []time.Duration
	for i := range times {
		inBubbleTimed(t, timing, n, func(t *testing.T, b *bubble) {
			time.Sleep(5*time.Second + time.Duration(i)*137*time.Millisecond)
			last := n - 1
			b.net.Host(b.ips[last]).Down()
			took = append(took, b.within(t, most, "a crash is seen", func() bool {
				return !slices.ContainsFunc(b.all[:last], func(m *Members) bool { return peerOf(m, idOf(last)).Status != "failed" })
			}))
		})
	}
	slices.Sort(took)
	return took[len(took)/2], took[len(took)-1]
}

// kills is how often a crash is timed, with the race detector less often.
var kills = 40

// TestTimings measures what the help of cluster.timing says: no crash may take longer.
// Of some hundreds fast took 1.2 s (median) and 1.9 s (worst), lan 5.8 and 8.7, wan 38
// and 54.
func TestTimings(t *testing.T) {
	for _, c := range []struct {
		timing       Timing
		times        int
		says         int // s, in the help
		least, bound time.Duration
	}{
		{Fast, kills, 3, 0, 10 * time.Second}, {LAN, kills, 12, 3 * time.Second, time.Minute},
		{WAN, kills, 60, 12 * time.Second, 4 * time.Minute},
	} {
		median, worst := detected(t, c.timing, 5, c.times, c.bound)
		t.Logf("%s: a crash is known by all of 4 after %v (median), %v (worst of %d)", c.timing, median, worst, c.times)
		if says := time.Duration(c.says) * time.Second; worst > says || worst < c.least {
			t.Errorf("%s: the worst is %v, and the help says %v", c.timing, worst, says)
		}
		help, err := os.ReadFile("../../config/cluster.go")
		if err != nil {
			t.Fatal(err)
		}
		if word := fmt.Sprintf("%d s (%s)", c.says, c.timing); !strings.Contains(string(help), word) {
			t.Errorf("the help of cluster.timing does not say %q", word)
		}
	}
}

// TestRow24NoPackets: where every packet is lost, for they are too long or UDP is
// blocked, members ask by TCP: nobody is given up, and it is said.
func TestRow24NoPackets(t *testing.T) {
	inBubble(t, 5, func(t *testing.T, b *bubble) {
		b.net.Everywhere(simnet.Fault{MTU: 1})
		time.Sleep(2 * time.Minute)
		if b.failures() > 0 || !see(b.all, 5) {
			t.Errorf("%d members were given up", b.failures())
		}
		if b.log.count("answers by TCP and not by UDP") == 0 || b.log.count("the node host") == 0 {
			t.Error("nobody says that packets are lost")
		}
	})
}
