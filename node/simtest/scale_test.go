package simtest

import (
	"fmt"
	"os"
	"runtime"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// size is one cluster of TestScale.
type size struct {
	nodes, services int // services on each host
	calm, measured  time.Duration
}

// usage is what a cluster has used since it began.
type usage struct {
	cpu                       time.Duration
	packets, gossip           uint64
	relay, calls, takes, told uint64
}

// TestScale prints what a node costs in clusters of 10, 100 and 300 nodes.
func TestScale(t *testing.T) {
	sizes := []size{{10, 100, 30 * time.Second, time.Minute}}
	if os.Getenv("EFFISCALE_SIM_SCALE") == "all" {
		sizes = append(sizes, size{100, 100, 30 * time.Second, time.Minute}, size{300, 100, 20 * time.Second, 20 * time.Second})
	}
	for _, s := range sizes {
		t.Run(fmt.Sprintf("%d nodes", s.nodes), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { s.run(t) })
		})
	}
}

func (s size) run(t *testing.T) {
	before := heap()
	w := newWorld(t, s.nodes, 0)
	w.spread(s.services)
	began := time.Now()
	for i, h := range w.hosts {
		h.plain, h.wait = true, time.Duration(i)*every/time.Duration(s.nodes)
		h.start()
		time.Sleep(20 * time.Millisecond)
	}
	for ; w.settled() != "" && time.Since(began) < 2*time.Minute; time.Sleep(time.Second) {
	}
	if why := w.settled(); why != "" {
		t.Fatalf("not settled after two minutes: %s", why)
	}
	t.Logf("settled after %v", time.Since(began))
	time.Sleep(s.calm)
	first := w.usage()
	time.Sleep(s.measured)
	last := w.usage()
	memory := float64(heap()-before) / float64(s.nodes)
	per := s.measured.Seconds() * float64(s.nodes)
	gossip, relay, cpu := float64(last.gossip-first.gossip)/per, float64(last.relay-first.relay)/per, (last.cpu-first.cpu).Seconds()*1000/per
	t.Logf("| nodes | services/host | gossip B/s | gossip packets/s | relay B/s | relay B/s/service | calls/s | CPU ms/s | heap MiB |")
	t.Logf("| %d | %d | %.0f | %.1f | %.0f | %.1f | %.1f | %.2f | %.1f |", s.nodes, s.services, gossip, float64(last.packets-first.packets)/per,
		relay, relay/float64(s.services), float64(last.calls-first.calls)/per, cpu, memory/(1<<20))
	if last.takes != first.takes {
		t.Errorf("%d services changed their owner, though nothing happened", last.takes-first.takes)
	}
	w.end()
}

// spread puts services on three hosts each.
func (w *world) spread(perHost int) {
	n := len(w.hosts)
	for i := range n * perHost / 3 {
		key := knowledge.ServiceKey(fmt.Sprintf("shop-%d", i))
		for j := range 3 {
			h := w.hosts[(i+j*(1+n/4))%n]
			h.runs = append(h.runs, key)
		}
	}
}

func (w *world) usage() (u usage) {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		w.t.Fatal(err)
	}
	u.cpu = time.Duration(r.Utime.Nano() + r.Stime.Nano())
	for _, h := range w.hosts {
		s := h.net.Stats()
		var relayed uint64
		for _, p := range h.c.Relay().Stats().Peers {
			relayed += p.Out
			u.calls += p.Calls
		}
		u.relay += relayed
		u.gossip += s.BytesOut + s.StreamOut - relayed
		u.packets += s.PacketsOut
		u.takes += h.c.View().Counts.Takeovers
	}
	return u
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}
