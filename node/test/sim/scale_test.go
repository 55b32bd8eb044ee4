package sim

import (
	"fmt"
	"math"
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
	cpu                          time.Duration
	packets, gossip              uint64
	relay, calls, takes, intents uint64
}

// cost is of one node: in a second, but for intents (of each of its services in an
// interval) and heap. relay is for each of its services.
type cost struct{ gossip, packets, relay, calls, intents, cpu, heap float64 }

// TestScale prints what a node costs in a cluster of 10 hosts with 100 services each, with
// EFFISCALE_SIM_SCALE=all in five others of up to 300 hosts, too: minutes of CPU and
// gigabytes. Each service runs on three hosts. CPU is that of the whole simulation, with
// both ends of all TLS; bytes are those that a node sends, without the headers of UDP, TCP
// and IP. Those of 30 services are there because that of 300 hosts fits into 9 GB, that of
// 3 because it shows gossip in a few minutes.
//
// What is flat: gossip. A node probes and gossips at its own pace, whatever the number of members;
// only push and pull, once in half a minute, carries all members. A start of all nodes at
// once fills it for about a minute, with 44 KB/s a node at 300: the metadata of each
// until it has its part goes to all.
//
// What grows, to a bound, is calls, and with them bytes and CPU for each service: see
// [size.calls]. Heap grows with the peers that are called, by a TLS connection for each,
// and to no more than these.
func TestScale(t *testing.T) {
	sizes := []size{{10, 100, 120 * time.Second, time.Minute}}
	if os.Getenv("EFFISCALE_SIM_SCALE") == "all" {
		sizes = append(sizes, size{100, 100, 20 * time.Second, 30 * time.Second},
			size{10, 30, 120 * time.Second, time.Minute}, size{100, 30, 20 * time.Second, 30 * time.Second},
			size{300, 3, 90 * time.Second, 20 * time.Second}, size{300, 30, 90 * time.Second, 20 * time.Second})
	}
	for _, s := range sizes {
		t.Run(fmt.Sprintf("%d nodes, %d services", s.nodes, s.services), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { s.run(t) })
		})
	}
}

// calls is how many a node makes in a second when it sends all that it has for a peer
// in an interval at once: one to each owner of any of its services, three a service, and one
// to each host of any service that it owns. Of n nodes a given one is among the owners of at
// least one of s services with the probability 1-(1-3/n)^s, and the first with 1-(1-1/n)^s.
// Among few nodes it is bounded by the peers, 2(n-1) an interval, among many by the
// services, 4s.
func (s size) calls() float64 {
	n, k := float64(s.nodes), float64(s.services)
	return (n - 1) * (2 - math.Pow(1-3/n, k) - math.Pow(1-1/n, k)) / every.Seconds()
}

func (s size) run(t *testing.T) {
	before := heap()
	w := newWorld(t, s.nodes, 0)
	w.spread(s.services)
	began := time.Now()
	for i, h := range w.hosts {
		h.wait = time.Duration(i) * every / time.Duration(s.nodes)
		h.facts = plan.Facts{ObservedFor: 240 * time.Hour, CPU: 123_456_789, CPUMax: 987_654_321, MemoryNeed: 123_456_789,
			MemoryPeak: 234_567_890}
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
		relay:   since(func(u *usage) uint64 { return u.relay }) / float64(s.services),
		calls:   since(func(u *usage) uint64 { return u.calls }),
		intents: since(func(u *usage) uint64 { return u.intents }) / float64(s.services) * every.Seconds(),
		cpu:     since(func(u *usage) uint64 { return uint64(u.cpu) }) / 1e6, heap: memory / (1 << 20),
	}
	t.Log("| nodes | services each | gossip B/s | packets/s | calls/s | one a peer and interval | relay B/s per service | intents per service and interval | CPU ms/s | heap MiB |")
	t.Logf("| %d | %d | %.0f | %.1f | %.1f | %.1f | %.1f | %.2f | %.2f | %.1f |", s.nodes, s.services, c.gossip, c.packets, c.calls, s.calls(), c.relay, c.intents, c.cpu, c.heap)
	// Images are asked for besides, once in 30 s, and of few peers not each owns the same share.
	if most := 1.1*s.calls() + 0.1; c.gossip > 3000 || c.calls > most || c.relay > 500 || c.intents > 1.1 ||
		c.cpu > 50 || c.heap > 40 {
		t.Errorf("%+v: at most 3000 B/s of gossip, %.1f calls/s, 500 B/s and 1.1 intents a service, 50 ms/s and 40 MiB", c, most)
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
		u.intents += h.c.View().Counts.IntentsSent
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
