package mape

import (
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// A limit that was changed while the container was at rest is not taken as it was
// before, when the container wakes up.
func TestALimitChangedAtRest(t *testing.T) {
	h := newHost(t, options{})
	b := h.run("web", knowledge.Limits{CPU: core, Memory: 256 * mib, MemorySwap: 256 * mib}, nil)
	h.pass(5 * time.Minute)
	c := h.container(b)
	h.pause(b, knowledge.Pause{On: true})
	h.until(3*time.Minute, "its limits are read at the start of a rest", func() bool {
		return c.reading.sample.Have&knowledge.HasLimits != 0 && c.reading.rest.until > h.now.Sub(h.loop.begin)
	})
	from := c.Window.Quota
	d := c.requestedLimit(h.now, ScaleRequest{Resource: knowledge.ResourceCPU, To: int64(2 * core)})
	if a := h.loop.exec.Apply(h.now, &c.Container, d, nil); !a.Acted || c.Window.Quota != 2*core {
		t.Fatalf("from %s: %+v, the window has %s", from, a, c.Window.Quota)
	}
	h.pass(2 * time.Second)
	b.demand = 0.1
	h.until(2*time.Second, "its use is seen", func() bool { return c.Window.Usage > core/100 })
	if c.Window.Quota != b.kernel.CPU {
		t.Errorf("the window has a quota of %s, the kernel %s", c.Window.Quota, b.kernel.CPU)
	}
}

// What others write to the limit files of a managed container that works is
// found and repaired within ten seconds.
func TestDriftIsFoundSoon(t *testing.T) {
	h := newHost(t, options{})
	b := h.run("web", knowledge.Limits{CPU: core, Memory: 256 * mib, MemorySwap: 256 * mib}, nil)
	b.demand = 0.3
	h.pass(5 * time.Minute)
	for range 4 {
		h.pass(3300 * time.Millisecond)
		b.kernel.CPU, b.kernel.Memory = 3*core, 512*mib
		h.until(10200*time.Millisecond, "both limits are set again", func() bool {
			return b.kernel.CPU < 3*core && b.kernel.Memory < 512*mib
		})
		h.pass(20 * time.Minute) // until the same repair is not held back
	}
}

// The memory in use is read often while a cut is watched, also of a container that
// uses no CPU time.
func TestMemoryIsReadWhileACutIsWatched(t *testing.T) {
	h := newHost(t, options{})
	b := h.run("web", knowledge.Limits{CPU: core, Memory: 512 * mib, MemorySwap: 512 * mib}, nil)
	c := func() *container { return h.container(b) }
	h.until(30*time.Minute, "a cut of memory", func() bool { return b.kernel.Memory < 512*mib })
	if !c().Watched(h.now) {
		t.Fatal("the cut is not watched")
	}
	b.memoryReads = 0
	h.pass(10 * time.Second)
	if b.memoryReads < 18 {
		t.Errorf("memory was read %d times in ten seconds", b.memoryReads)
	}
}

// Memory that grows with hardly any CPU time of the container's own (buffers of its
// sockets) is noticed before a cut.
func TestNoCutFromAnOldReadingOfMemory(t *testing.T) {
	start := func() (*host, *box) {
		h := newHost(t, options{})
		b := h.run("web", knowledge.Limits{CPU: core, Memory: 512 * mib, MemorySwap: 512 * mib}, nil)
		b.demand = 0.0005
		return h, b
	}
	h, b := start()
	cut := h.until(time.Hour, "a cut of memory", func() bool { return b.kernel.Memory < 512*mib })
	for before := tickEvery; before < 5*time.Second; before += 400 * time.Millisecond {
		h, b := start()
		h.pass(cut - before)
		b.anon = 500 * mib
		h.pass(10 * time.Second)
		if b.s.OOMKills > 0 || b.kernel.Memory < 500*mib {
			t.Errorf("grown %s before the cut: %s in use, limit cut to %s", before, b.anon, b.kernel.Memory)
		}
	}
}

// Memory that cannot be read is not cut.
func TestNoCutOfMemoryThatCannotBeRead(t *testing.T) {
	start := func() (*host, *box) {
		h := newHost(t, options{})
		return h, h.run("web", knowledge.Limits{CPU: core, Memory: 512 * mib, MemorySwap: 512 * mib}, nil)
	}
	h, b := start()
	cut := h.until(time.Hour, "a cut of memory", func() bool { return b.kernel.Memory < 512*mib })
	h, b = start()
	h.pass(cut - time.Second)
	b.noMemory = true
	h.pass(5 * time.Minute)
	if b.kernel.Memory != 512*mib {
		t.Errorf("cut to %s", b.kernel.Memory)
	}
	b.noMemory = false
	h.until(time.Minute, "the cut once it can be read", func() bool { return b.kernel.Memory < 512*mib })
}

// Row 136: the Engine's statistics have new readings only so often, and are stale when three are missing.
func TestStaleByTheIntervalOfTheSource(t *testing.T) {
	h := newHost(t, options{})
	b := h.run("web", usual, nil)
	b.demand, b.every = 0.1, 8*time.Second
	h.pass(40 * time.Second)
	c := h.container(b)
	for range 300 {
		if h.tick(); c.Finding.Quality == knowledge.QualityStale {
			t.Fatalf("stale %s after its newest reading", h.now.Sub(c.Window.At))
		}
	}
	b.every = time.Hour // no answer any more
	h.until(26*time.Second, "stale", func() bool { return c.Finding.Quality == knowledge.QualityStale })
}
