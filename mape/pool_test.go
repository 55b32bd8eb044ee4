package mape

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// idleOnes runs n containers that do next to nothing, with floors of 0.05 to 0.10 cores.
func idleOnes(h *host, n int) (boxes []*box) {
	for i := range n {
		b := h.run(fmt.Sprintf("idle%d", i), knowledge.Limits{CPU: core / 10, Memory: 64 * mib, MemorySwap: 128 * mib},
			map[string]string{"floor": fmt.Sprint(0.05 + 0.05*float64(i%6)/5)})
		b.demand = 0.002
		boxes = append(boxes, b)
	}
	return boxes
}

// Row 120: a quota that is not used takes nothing from the one that works.
func TestUnusedQuotasCostNothing(t *testing.T) {
	h := newHost(t, options{cpus: 2})
	idle := idleOnes(h, 28)
	web := h.run("web", knowledge.Limits{CPU: core / 2, Memory: 256 * mib, MemorySwap: 512 * mib}, nil)
	h.pass(30 * time.Second)
	web.demand = 1.06
	h.until(2*time.Second, "a quota for 1.06 cores", func() bool { return web.kernel.CPU >= core*106/100 })
	for range int(2 * time.Minute / tickEvery) {
		h.tick()
		if web.kernel.CPU < core*106/100 {
			t.Fatalf("the one that works has %s of 1.06 cores", web.kernel.CPU)
		}
	}
	for _, b := range idle {
		if b.kernel.CPU < core/20 {
			t.Errorf("%s has %s", b.c.Name, b.kernel.CPU)
		}
	}
}

// Row 121: limits of a file that sum up to more than the host are not cut while nobody is
// held back, and are once somebody is.
func TestLimitsOfAFileStay(t *testing.T) {
	h := newHost(t, options{cpus: 2})
	var boxes []*box
	for i, limit := range []knowledge.NanoCPU{core * 3 / 2, core * 3 / 4, core / 2} {
		b := h.run(fmt.Sprint("up", i), knowledge.Limits{CPU: limit, Memory: 256 * mib, MemorySwap: 512 * mib}, nil)
		b.demand = 0.9 * limit.Cores()
		boxes = append(boxes, b)
	}
	h.pass(20 * time.Second)
	for _, b := range boxes {
		if b.kernel.CPU < b.engine.CPU {
			t.Errorf("%s: %s, the file has %s", b.c.Name, b.kernel.CPU, b.engine.CPU)
		}
	}
	late := h.run("late", knowledge.Limits{CPU: core / 10, Memory: 64 * mib, MemorySwap: 128 * mib}, nil)
	late.demand = 0.5
	h.emit(knowledge.EventCreate, late)
	h.until(10*time.Second, "a part of the host", func() bool { return late.kernel.CPU > core/5 })
	c := h.container(boxes[0])
	if d := c.planned[knowledge.ResourceCPU].Decision; boxes[0].kernel.CPU >= core*3/2 {
		t.Errorf("the one that takes most keeps %s: %s", boxes[0].kernel.CPU, d.Reason)
	}
	text := knowledge.Because(knowledge.RulePoolShort, 1, 2, 3).String()
	if !strings.Contains(text, "limits.cpu_overcommit") {
		t.Errorf("%q does not name the setting", text)
	}
}

// Row 122: an idle container's quota is not moved because others' use moves.
func TestIdleQuotasAreLeftAlone(t *testing.T) {
	h := newHost(t, options{cpus: 2})
	idle := idleOnes(h, 28)
	web := h.run("web", knowledge.Limits{CPU: core / 2, Memory: 256 * mib, MemorySwap: 512 * mib}, nil)
	moves, last := map[*box]int{}, map[*box]knowledge.NanoCPU{}
	rnd := rand.New(rand.NewPCG(1, 2))
	const minutes = 31
	for i := range int(minutes * time.Minute / tickEvery) {
		if i%10 == 0 {
			web.demand = 2.2 * rnd.Float64()
			for _, b := range idle {
				if b.demand = 0.001; rnd.IntN(30) == 0 { // a health check
					b.demand = 0.02 + 0.1*rnd.Float64()
				}
			}
		}
		h.tick()
		for _, b := range idle {
			if h.now.Sub(begin) > time.Minute && b.kernel.CPU != last[b] {
				moves[b]++
			}
			last[b] = b.kernel.CPU
		}
	}
	for _, b := range idle {
		if moves[b] > 20*minutes/60 {
			t.Errorf("%s: %d changes in %d minutes", b.c.Name, moves[b], minutes)
		}
	}
}

// Row 123: bounds around a container bound what it wants of the pool and what is written,
// and its explanation names them; an inner cgroup's quota bounds cuts.
func TestBoundsAreNamed(t *testing.T) {
	h := newHost(t, options{cpus: 2})
	b := h.run("web", knowledge.Limits{CPU: core / 5, Memory: 256 * mib, MemorySwap: 512 * mib}, nil)
	b.demand, b.bounds = 1.3, knowledge.Bounds{CPU: core / 2, CPUBy: knowledge.BoundParent}
	other := h.run("other", knowledge.Limits{CPU: core / 5, Memory: 256 * mib, MemorySwap: 512 * mib}, nil)
	other.demand = 1.2
	inner := h.run("inner", knowledge.Limits{CPU: core, Memory: 256 * mib, MemorySwap: 512 * mib}, nil)
	inner.bounds = knowledge.Bounds{CPULeast: core * 3 / 10, CPULeastBy: knowledge.BoundInner}
	h.pass(2 * time.Minute)
	d := h.container(b).planned[knowledge.ResourceCPU].Decision
	if b.kernel.CPU != core/2 || d.Verb != knowledge.Hold || !strings.Contains(d.Reason.String(), "parent cgroup") {
		t.Errorf("%s, %s %s: %s", b.kernel.CPU, d.Verb, knowledge.NanoCPU(d.To), d.Reason)
	}
	if other.kernel.CPU < core*12/10 {
		t.Errorf("the other one has %s: what a parent does not allow is claimed", other.kernel.CPU)
	}
	d = h.container(inner).planned[knowledge.ResourceCPU].Decision
	if inner.kernel.CPU != core*3/10 || !strings.Contains(d.Reason.String(), "inner cgroup") {
		t.Errorf("%s: %s", inner.kernel.CPU, d.Reason)
	}
}

// Row 121: a full host cuts one that uses more than its share only while another one is throttled,
// not because another one is to get more.
func TestOnlyTheThrottledCut(t *testing.T) {
	for _, throttled := range []float64{0, 0.5} {
		h := newHost(t, options{cpus: 2})
		a := h.run("a", knowledge.Limits{CPU: core * 3 / 2, Memory: 256 * mib, MemorySwap: 512 * mib}, nil)
		b := h.run("b", knowledge.Limits{CPU: core / 2, Memory: 256 * mib, MemorySwap: 512 * mib}, nil)
		a.demand, b.demand = 1.4, 0.3
		h.pass(20 * time.Second)
		uses, grows := h.container(a), h.container(b)
		grows.request, uses.request = cpuRequest{}, cpuRequest{}
		grows.Finding.Boost, grows.Window.ThrottleRatio = false, throttled
		uses.planned[knowledge.ResourceCPU] = Planned{}
		quota := int64(grows.Window.Quota)
		grows.planned[knowledge.ResourceCPU] = Planned{Decision: knowledge.Decision{ID: b.c.ID,
			Resource: knowledge.ResourceCPU, Verb: knowledge.Grow, From: quota, To: 2 * quota}}
		h.loop.decided = append(h.loop.decided[:0], grows)
		h.loop.sharePool(h.now)
		if d := uses.planned[knowledge.ResourceCPU].Decision; (d.Verb == knowledge.Shrink) != (throttled > 0) {
			t.Errorf("throttled %g: %s to %s: %s", throttled, d.Verb, knowledge.NanoCPU(d.To), d.Reason)
		}
	}
}
