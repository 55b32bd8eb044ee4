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
	"github.com/effiscale/effiscale/mape/plan"
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

// cost is of one node: in a second, but for intents (of each of its services in an
// interval) and heap. relay is for each of its services.
type cost struct{ gossip, packets, relay, calls, intents, cpu, heap float64 }

// TestScale prints what a node costs in a cluster of 10, with EFFISCALE_SIM_SCALE=all in
// those of 100 and 300, too: minutes of CPU and gigabytes. Each host has 100 services (of
// 300 nodes 30 each: the connections of more take 13 GB and more than eight minutes on two busy cores),
// each service three hosts. CPU is that of the whole simulation, with both ends of all
// TLS; bytes are those that a node sends, without the headers of UDP, TCP and IP.
//
// What is flat: gossip. A node probes and gossips at its own pace, whoever is there;
// only push and pull, once in half a minute, carries all members.
//
// What grows, to a bound: calls, and with them bytes and CPU for each service. Of ten
// nodes each host shares its three owners with 30 other services and tells of them all
// in one message; of many nodes each service has owners of its own, and each report and
// each intent pays for a signature, a frame and an answer. That ends with one service a
// message: three reports to owners and one intent from the first, 40 calls a second for
// 100 services in intervals of 10 s, however many nodes there are. Heap grows with it,
// by the TLS connections to those owners, and to no more than these.
func TestScale(t *testing.T) {
	sizes := []size{{10, 100, 120 * time.Second, time.Minute}}
	if os.Getenv("EFFISCALE_SIM_SCALE") == "all" {
		sizes = append(sizes, size{100, 100, 20 * time.Second, 30 * time.Second}, size{300, 30, 10 * time.Second, 20 * time.Second})
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
		h.wait = time.Duration(i) * every / time.Duration(s.nodes)
		h.facts = plan.Facts{ObservedFor: 240 * time.Hour, CPU: 123_456_789, CPUMax: 987_654_321, MemoryNeed: 123_456_789, MemoryPeak: 234_567_890}
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
	since := func(of func(*usage) uint64) float64 {
		return float64(of(&last)-of(&first)) / s.measured.Seconds() / float64(s.nodes)
	}
	c := cost{
		gossip: since(func(u *usage) uint64 { return u.gossip }), packets: since(func(u *usage) uint64 { return u.packets }),
		relay: since(func(u *usage) uint64 { return u.relay }) / float64(s.services), calls: since(func(u *usage) uint64 { return u.calls }),
		intents: since(func(u *usage) uint64 { return u.told }) / float64(s.services) * every.Seconds(),
		cpu:     since(func(u *usage) uint64 { return uint64(u.cpu) }) / 1e6, heap: memory / (1 << 20),
	}
	t.Log("| nodes | gossip B/s | packets/s | calls/s | relay B/s per service | intents per service and interval | CPU ms/s | heap MiB |")
	t.Logf("| %d | %.0f | %.1f | %.1f | %.1f | %.2f | %.2f | %.1f |", s.nodes, c.gossip, c.packets, c.calls, c.relay, c.intents, c.cpu, c.heap)
	if c.gossip > 3000 || c.calls > 60 || c.relay > 500 || c.intents > 1.1 || c.cpu > 50 || c.heap > 40 {
		t.Errorf("%+v: at most 3000 B/s of gossip, 60 calls/s, 500 B/s and 1.1 intents a service, 50 ms/s and 40 MiB", c)
	}
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
		u.told += h.c.View().Counts.IntentsSent
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
