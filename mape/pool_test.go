package mape

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape/plan"
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

// contest is a full host: a uses more than its share, and b requests twice its quota. It returns what
// the pool decides for a; before changes what it decides by.
func contest(t *testing.T, before func(h *host, a, b *container)) knowledge.Decision {
	h := newHost(t, options{cpus: 2})
	boxA := h.run("a", knowledge.Limits{CPU: core * 3 / 2, Memory: 256 * mib, MemorySwap: 512 * mib}, nil)
	boxB := h.run("b", knowledge.Limits{CPU: core / 2, Memory: 256 * mib, MemorySwap: 512 * mib}, nil)
	boxA.demand, boxB.demand = 1.4, 0.3
	h.pass(20 * time.Second)
	a, b := h.container(boxA), h.container(boxB)
	a.request, b.request = cpuRequest{}, cpuRequest{}
	b.Finding.Boost, b.Window.ThrottleRatio = false, 0.5
	a.planned[knowledge.ResourceCPU] = Planned{}
	quota := int64(b.Window.Quota)
	b.planned[knowledge.ResourceCPU] = Planned{Decision: knowledge.Decision{ID: boxB.c.ID,
		Resource: knowledge.ResourceCPU, Verb: knowledge.Grow, From: quota, To: 2 * quota}}
	before(h, a, b)
	h.loop.decided = append(h.loop.decided[:0], b)
	h.loop.sharePool(h.now)
	return a.planned[knowledge.ResourceCPU].Decision
}

// Row 121: a full host cuts one that uses more than its share only while another one is throttled,
// not because another one is to get more, nor for itself, nor by an old reading.
func TestOnlyTheThrottledCut(t *testing.T) {
	held := func(h *host, ago time.Duration) cpuRequest {
		return cpuRequest{quota: core / 10, at: h.now.Add(-ago), held: true}
	}
	for _, c := range []struct {
		name   string
		before func(h *host, a, b *container)
		cut    bool
	}{
		{"the other one is throttled", func(*host, *container, *container) {}, true},
		{"nobody is", func(_ *host, _, b *container) { b.Window.ThrottleRatio = 0 }, false},
		{"it is itself", func(h *host, a, b *container) { b.Window.ThrottleRatio, a.request = 0, held(h, 0) }, false},
		{"the other one was, nine seconds ago", func(h *host, _, b *container) {
			b.Window.ThrottleRatio, b.request = 0, held(h, 9*time.Second)
		}, true},
		{"the other one was, eleven seconds ago", func(h *host, _, b *container) {
			b.Window.ThrottleRatio, b.request = 0, held(h, 11*time.Second)
		}, false},
		{"it was read a minute ago", func(h *host, a, _ *container) { a.Window.At = h.now.Add(-time.Minute) }, false},
	} {
		if d := contest(t, c.before); (d.Verb == knowledge.Shrink) != c.cut {
			t.Errorf("%s: %s to %s: %s", c.name, d.Verb, knowledge.NanoCPU(d.To), d.Reason)
		}
	}
}

// Row 120: what a container requested a short time ago is its claim for ten seconds, the highest of
// them; a boost claims what it needs, and not what it aims at.
func TestClaims(t *testing.T) {
	now := begin
	for _, c := range []struct {
		name    string
		d       knowledge.Decision
		request cpuRequest
		want    knowledge.NanoCPU
	}{
		{"uses", knowledge.Decision{}, cpuRequest{}, core * 9 / 8},
		{"requested nine seconds ago", knowledge.Decision{}, cpuRequest{quota: 3 * core, at: now.Add(-9 * time.Second)},
			3 * core},
		{"requested eleven seconds ago", knowledge.Decision{}, cpuRequest{quota: 3 * core, at: now.Add(-11 * time.Second)},
			core * 9 / 8},
		{"gives back what it requested", knowledge.Decision{Verb: knowledge.Shrink},
			cpuRequest{quota: 3 * core, at: now.Add(-time.Second)}, core * 9 / 8},
		{"grows", knowledge.Decision{Verb: knowledge.Grow, From: 2e9, To: 25e8}, cpuRequest{}, core * 5 / 2},
		{"a boost", knowledge.Decision{Verb: knowledge.Grow, Boost: true, From: 2e9, To: 8e9}, cpuRequest{}, 3 * core},
		{"a boost below that", knowledge.Decision{Verb: knowledge.Grow, Boost: true, From: 2e9, To: 25e8}, cpuRequest{},
			core * 5 / 2},
	} {
		var x container
		x.Window = &knowledge.Window{UsageMean: core, Quota: 2 * core}
		x.planned[knowledge.ResourceCPU].Decision, x.request = c.d, c.request
		if got := x.claim(now); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
	var r cpuRequest
	for _, c := range []struct {
		after   time.Duration
		quota   knowledge.NanoCPU
		held    bool
		want    knowledge.NanoCPU
		at      time.Duration
		wasHeld bool
	}{
		{0, core, true, core, 0, true}, {time.Second, core / 2, false, core, 0, true},
		{2 * time.Second, 2 * core, false, 2 * core, 2 * time.Second, true},
		{12 * time.Second, core / 4, false, core / 4, 12 * time.Second, false},
	} {
		r.note(now.Add(c.after), c.quota, c.held)
		if r.quota != c.want || !r.at.Equal(now.Add(c.at)) || r.held != c.wasHeld {
			t.Errorf("after %s: %+v", c.after, r)
		}
	}
}

// Row 120: where the host has enough for all claims, boosts share what is left, and no growth is cut
// below where it began.
func TestBoostsShareTheRest(t *testing.T) {
	var p pool
	add := func(want knowledge.NanoCPU, verb knowledge.Verb, from, to knowledge.NanoCPU) *knowledge.Decision {
		c := &container{}
		c.planned[knowledge.ResourceCPU].Decision = knowledge.Decision{Verb: verb, From: int64(from), To: int64(to)}
		p.of, p.shares = append(p.of, c), append(p.shares, plan.Share{Want: want})
		return &c.planned[knowledge.ResourceCPU].Decision
	}
	calm := add(core, knowledge.Hold, core, core)
	first := add(2*core, knowledge.Grow, core, 5*core) // 3 more than it claims, of 4
	second := add(core, knowledge.Grow, core/2, 4*core)
	third := add(core/4, knowledge.Grow, core/2, 4*core)
	p.trim(4 * core)
	for i, c := range []struct {
		d    *knowledge.Decision
		want knowledge.NanoCPU
	}{{calm, core}, {first, 5 * core}, {second, 2 * core}, {third, core / 2}} {
		if knowledge.NanoCPU(c.d.To) != c.want {
			t.Errorf("%d: to %s, want %s", i, knowledge.NanoCPU(c.d.To), c.want)
		}
	}
}

// Row 120: a boost aims high, and gets what nobody else claims.
func TestBoostGetsTheRest(t *testing.T) {
	var d *knowledge.Decision
	contest(t, func(_ *host, a, b *container) {
		a.Window.UsageMean = core * 4 / 10
		d = &b.planned[knowledge.ResourceCPU].Decision
		d.Boost, d.To = true, int64(2*core)
	})
	if got, want := knowledge.NanoCPU(d.To), 2*core*95/100-core*45/100; got != want || d.Verb != knowledge.Grow {
		t.Errorf("%s to %s, want %s", d.Verb, got, want)
	}
}
