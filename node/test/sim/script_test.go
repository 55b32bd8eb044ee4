package sim

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape/plan"
	"github.com/effiscale/effiscale/node/cluster/ring"
	"github.com/effiscale/effiscale/node/test/sim/simnet"
)

// scripts is how many random scripts a run tries besides the regressions, with the race
// detector two; EFFISCALE_SIM_SCRIPTS sets another number.
var scripts = 0

// regressions are the seeds that once failed.
func regressions() []uint64 { return []uint64{79, 24, 33, 55} }

// TestRandomScripts: nodes crash, stop, leave, come back with and without a disk, are
// frozen, are cut off one way, both, or but for one that receives from both sides, have no room on
// the disk and clocks that jump; packets get lost, late and doubled; containers come and
// go; all in any order. At every step no host obeys a term after a higher one, or one
// that is on no disk, and none is to shrink; once it is calm each service has exactly one
// owner, the one of the ring, which is the same on all nodes, and all see a majority,
// unless half of them lost their list of voters. A node that left, and did not come back,
// plans for itself.
func TestRandomScripts(t *testing.T) {
	n := scripts
	if v, err := strconv.Atoi(os.Getenv("EFFISCALE_SIM_SCRIPTS")); err == nil {
		n = v
	}
	seeds := regressions()
	if v, err := strconv.ParseUint(os.Getenv("EFFISCALE_SIM_SEED"), 10, 64); err == nil {
		seeds, n = []uint64{v}, 0
	}
	for i := range n {
		seeds = append(seeds, uint64(i+1))
	}
	for _, seed := range seeds {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := rand.New(rand.NewPCG(seed, 7))
				var w *world
				switch {
				case seed%12 == 10: // half a minute of CPU: in longer runs only
					w = newWorld(t, 20+r.IntN(31), 0)
					w.spread(3 + r.IntN(6))
				case seed%6 == 4:
					w = newWorld(t, 8+r.IntN(9), 0)
					w.spread(3 + r.IntN(6))
				default:
					w = newWorld(t, 3+r.IntN(6), 1+r.IntN(20))
				}
				if seed%2 == 0 { // its containers have run for long
					for i, h := range w.hosts {
						use := 1 + float64(i)/8
						h.facts = plan.Facts{ObservedFor: 240 * time.Hour, CPU: knowledge.NanoCPU(1e8 * use),
							CPUMax:     knowledge.NanoCPU(5e8 * use),
							MemoryNeed: knowledge.Bytes(use * (1 << 28)), MemoryPeak: knowledge.Bytes(use * (1 << 29))}
					}
				}
				t.Logf("%d nodes", len(w.hosts))
				inThis(w, func(w *world) { w.play(r) })
			})
		})
	}
}

// all are the services that run somewhere, in order.
func (w *world) all() []knowledge.ServiceKey {
	var all []knowledge.ServiceKey
	for _, h := range w.hosts {
		h.mu.Lock()
		all = append(all, h.runs...)
		h.mu.Unlock()
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// toggle starts a container of a service on a host, or ends it.
func (h *host) toggle(key knowledge.ServiceKey) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if i := slices.Index(h.runs, key); i >= 0 {
		h.runs = slices.Delete(slices.Clone(h.runs), i, i+1)
		delete(h.obeyed, key)
		return
	}
	h.runs = append(h.runs, key)
}

// lose is a disk that breaks.
func (h *host) lose() {
	d := newDisk(h.w.t)
	h.forgot = true
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	h.disk = d
}

func (d *disk) fill(full bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.full = full
}

func (h *host) again() {
	if h.c == nil {
		h.net.Up()
		h.start()
	}
}

// node is what befalls one node; false: nothing did.
func (w *world) node(r *rand.Rand, what int, a *host) bool {
	d := time.Duration(2+r.IntN(20)) * time.Second
	switch {
	case what < 2 && a.c != nil:
		w.t.Logf("%s crashes", a.name)
		a.kill()
	case what < 4 && a.c == nil:
		w.t.Logf("%s starts again", a.name)
		a.again()
	case what == 4 && a.c == nil:
		w.t.Logf("%s starts again, on a new disk", a.name)
		a.lose()
		a.again()
	case what == 4:
		w.t.Logf("%s stops in order", a.name)
		a.stop()
	case what == 5:
		w.t.Logf("%s is frozen for %v", a.name, d)
		a.net.Freeze()
		time.Sleep(d)
		a.net.Thaw()
	case what == 6:
		w.t.Logf("%s has no space on its disk", a.name)
		a.disk.fill(true)
	case what == 7 && a.c == nil: // time.Now does not go back within a start
		w.t.Logf("the clock of %s is put back by an hour", a.name)
		a.ahead.Add(-int64(time.Hour))
		a.again()
	case what == 7:
		w.t.Logf("the clock of %s jumps ahead by %v", a.name, 10*d)
		a.ahead.Add(int64(10 * d))
	case what == 8 && a.c == nil:
		return false
	case what == 8 && a.left:
		w.t.Logf("%s is back in the cluster", a.name)
		a.stop()
		a.again()
	case what == 8:
		w.t.Logf("%s leaves the cluster and goes on alone", a.name)
		a.leave()
	default:
		return false
	}
	return true
}

// links is what befalls the network.
func (w *world) links(r *rand.Rand, what int, a, b *host) {
	at := 1 + r.IntN(len(w.hosts)-1)
	var ips []string
	for _, h := range w.hosts {
		ips = append(ips, h.ip)
	}
	switch what {
	case 0:
		w.t.Logf("%s does not receive from %s", b.name, a.name)
		w.net.Cut(a.ip, b.ip)
	case 1:
		w.t.Logf("%d | %d", at, len(ips)-at)
		w.net.Partition(ips[:at], ips[at:])
	case 2:
		w.t.Logf("%d | %s | %d", at-1, w.hosts[at-1].name, len(ips)-at)
		w.net.Partition(ips[:at-1], ips[at:])
	case 3:
		w.t.Logf("30 %% lost")
		w.net.Everywhere(simnet.Fault{Loss: 0.3, Delay: 20 * time.Millisecond})
	case 4:
		w.t.Logf("half of all doubled, and in any order")
		w.net.Everywhere(simnet.Fault{Duplicate: 0.5, Jitter: 150 * time.Millisecond})
	default:
		w.t.Logf("healed")
		w.net.Heal()
		for _, h := range w.hosts {
			h.disk.fill(false)
		}
	}
}

func (w *world) play(r *rand.Rand) {
	w.t.Helper()
	any := func() *host { return w.hosts[r.IntN(len(w.hosts))] }
	for i := range 14 {
		a, b := any(), any()
		switch what := r.IntN(19); {
		case what < 9:
			w.node(r, what, a)
		case what < 12:
			keys := append(w.all(), knowledge.ServiceKey(fmt.Sprintf("new-%d", i)))
			key := keys[r.IntN(len(keys))]
			w.t.Logf("%s comes to %s, or goes", key, a.name)
			a.toggle(key)
		default:
			w.links(r, what-12, a, b)
		}
		time.Sleep(time.Duration(r.IntN(30)) * time.Second)
	}
	w.net.Heal()
	for _, h := range w.hosts {
		h.disk.fill(false)
		if h.c != nil && h.left && r.IntN(2) == 0 {
			w.t.Logf("%s is back in the cluster", h.name)
			h.stop()
		}
		h.again()
	}
	w.t.Logf("one owner for each service %v after the last fault", w.until(6*time.Minute, "calm"))
	time.Sleep(6 * time.Minute) // penalties end
	w.until(time.Minute, "calm for a while")
	w.agreed()
}

// agreed holds what the nodes see against each other, and against what is applied. A host that
// has left is a cluster of its own.
func (w *world) agreed() {
	w.t.Helper()
	var in []*host
	for _, h := range w.hosts {
		if h.left {
			w.owns(h, []*host{h})
			continue
		}
		in = append(in, h)
	}
	for _, h := range in {
		w.owns(h, in)
	}
}

// halfGone reports whether half of the hosts do not know what they were members of, or
// have left for good: then an operator has to let the others go on.
func (w *world) halfGone() bool {
	gone := 0
	for _, h := range w.hosts {
		if h.forgot || h.left {
			gone++
		}
	}
	return 2*gone >= len(w.hosts)
}

// owns holds what one node sees and obeys against the members of its cluster.
func (w *world) owns(h *host, in []*host) {
	w.t.Helper()
	v := h.c.View()
	nodes := make([]ring.Node, len(in))
	for i, o := range in {
		nodes[i] = ring.Node{ID: o.c.Self(), Eligible: true}
	}
	want := ring.New(nodes)
	if v.Ring.Checksum() != want.Checksum() {
		w.t.Errorf("%s has another ring than that of the running nodes: %d members and %d", h.name, v.Ring.Len(), want.Len())
	}
	if !v.Majority && !w.halfGone() {
		w.t.Errorf("%s sees no majority of %d", h.name, v.Expected)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, key := range h.runs {
		if got, want := h.obeyed[key].Owner, want.Owner(key); got != want {
			w.t.Errorf("%s obeys %s for %s, which is %s's", h.name, got.Short(), key, want.Short())
		}
	}
	if most := 3 * len(h.runs); v.Waiting > most {
		w.t.Errorf("%s: %d messages are not acknowledged, at most %d may wait", h.name, v.Waiting, most)
	}
}
