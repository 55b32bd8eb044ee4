package simtest

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/effiscale/effiscale/node/simtest/simnet"
)

// scripts is how many random scripts a run tries; EFFISCALE_SIM_SCRIPTS says more.
const scripts = 6

// regressions are the seeds that once failed.
func regressions() []uint64 { return nil }

// TestRandomScripts: nodes crash, come back, are cut off one way or both, lose
// packets, and are healed, in any order. At every step no host obeys a term after a
// higher one; once it is calm each service has exactly one owner.
func TestRandomScripts(t *testing.T) {
	n := scripts
	if v, err := strconv.Atoi(os.Getenv("EFFISCALE_SIM_SCRIPTS")); err == nil {
		n = v
	}
	seeds := regressions()
	for i := range n {
		seeds = append(seeds, uint64(i+1))
	}
	for _, seed := range seeds {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 7))
			inWorld(t, 3+r.IntN(6), 1+r.IntN(20), func(w *world) { w.play(r) })
		})
	}
}

func (w *world) play(r *rand.Rand) {
	w.t.Helper()
	any := func() *host { return w.hosts[r.IntN(len(w.hosts))] }
	for range 12 {
		a, b := any(), any()
		switch r.IntN(9) {
		case 0, 1:
			if a.c != nil {
				w.t.Logf("%s crashes", a.name)
				a.kill()
			}
		case 2, 3:
			if a.c == nil {
				w.t.Logf("%s starts again", a.name)
				a.net.Up()
				a.start()
			}
		case 4:
			w.t.Logf("%s does not hear %s", b.name, a.name)
			w.net.Cut(a.ip, b.ip)
		case 5:
			at := 1 + r.IntN(len(w.hosts)-1)
			var ips []string
			for _, h := range w.hosts {
				ips = append(ips, h.ip)
			}
			w.t.Logf("%d | %d", at, len(ips)-at)
			w.net.Partition(ips[:at], ips[at:])
		case 7:
			d := time.Duration(2+r.IntN(20)) * time.Second
			w.t.Logf("%s is frozen for %v", a.name, d)
			a.net.Freeze()
			time.Sleep(d)
			a.net.Thaw()
		case 6:
			w.t.Logf("30 %% lost")
			w.net.Everywhere(simnet.Fault{Loss: 0.3, Delay: 20 * time.Millisecond})
		default:
			w.t.Logf("healed")
			w.net.Heal()
			w.net.Everywhere(simnet.Fault{})
		}
		time.Sleep(time.Duration(r.IntN(30)) * time.Second)
	}
	w.net.Heal()
	w.net.Everywhere(simnet.Fault{})
	for _, h := range w.hosts {
		if h.c == nil {
			h.net.Up()
			h.start()
		}
	}
	w.t.Logf("one owner for each service %v after the last fault", w.until(6*time.Minute, "calm"))
	time.Sleep(6 * time.Minute) // penalties end
	w.until(time.Minute, "calm for a while")
}
