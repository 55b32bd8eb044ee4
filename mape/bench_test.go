package mape

import (
	"fmt"
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// population is n containers that are known and settled: 85 % idle, 10 % that use a
// little, 5 % that work near their quota and are read ten times a second.
func population(b testing.TB, n int) *host {
	h := newHost(b, options{cpus: max(4, n), memory: knowledge.Bytes(max(8, n)) * gib})
	for i := range n {
		x := h.run(fmt.Sprint("c", i), knowledge.Limits{CPU: core / 4, Memory: 128 * mib, MemorySwap: 256 * mib}, nil)
		switch {
		case i%20 == 19:
			x.demand = 0.2
		case i%10 == 8:
			x.demand = 0.05
		}
	}
	h.pass(3 * time.Minute)
	return h
}

// Claim 19: one pass of the whole loop, ten of which are made a second: readings
// that are due, analysis, plan, guards, deliberation and memory. The kernel's
// files cost nothing here; docker/cgroup measures them.
func BenchmarkTick(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			h := population(b, n)
			b.ReportAllocs()
			for b.Loop() {
				h.tick()
			}
		})
	}
}

// The worst pass: all containers are due and decided upon at once.
func BenchmarkTickAllDue(b *testing.B) {
	h := population(b, 1000)
	b.ReportAllocs()
	for b.Loop() {
		clear(h.loop.containers.due)
		h.tick()
	}
}

// Claim 3: a pass in which nothing happens leaves no garbage.
func TestAQuietPassAllocatesNothing(t *testing.T) {
	h := population(t, 100)
	h.loop.set.ListEvery, h.loop.set.FlushEvery, h.loop.set.DeliberateEvery = time.Hour, time.Hour, time.Hour
	h.pass(5 * time.Second)
	if n := testing.AllocsPerRun(300, func() {
		h.now = h.now.Add(tickEvery)
		h.loop.Tick(h.now)
	}); n > 1 {
		t.Errorf("%.1f allocations in a pass", n)
	}
	h.settle()
}

// Claim 20: 1000 containers are listed, measured and have had their first
// decisions within two seconds of the loop's own time, with one listing and no
// inspect before the first reading.
func TestStartWithAThousand(t *testing.T) {
	h := newHost(t, options{cpus: 64, memory: 256 * gib})
	for i := range 1000 {
		h.run(fmt.Sprint("c", i), usual, nil).demand = 0.1
	}
	began := time.Now()
	took := h.until(2*time.Second, "ready", func() bool {
		if !h.loop.ready {
			return false
		}
		for _, c := range h.loop.containers.order {
			if c.planned[knowledge.ResourceCPU].Decision.Reason.IsZero() {
				return false
			}
		}
		return true
	})
	t.Logf("1000 containers decided upon after %s of the clock, %s of work", took,
		time.Since(began).Round(time.Millisecond))
	if h.calls["list"] != 1 {
		t.Errorf("%d listings", h.calls["list"])
	}
}

func BenchmarkStart(b *testing.B) {
	for b.Loop() {
		h := newHost(b, options{cpus: 64, memory: 256 * gib})
		for i := range 1000 {
			h.run(fmt.Sprint("c", i), usual, nil)
		}
		for !h.loop.ready {
			h.tick()
		}
		h.loop.workers.Close()
	}
}
