package mape

import (
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// Of a container that does nothing only the CPU time is read, and the rest every ten
// seconds; when it wakes up, its use is not spread over the time before.
func TestAContainerAtRest(t *testing.T) {
	h := newHost(t, options{})
	b := h.run("web", knowledge.Limits{CPU: core, Memory: 256 * mib, MemorySwap: 256 * mib}, nil)
	h.pass(5 * time.Minute)
	c := h.container(b)
	b.cpuReads, b.memoryReads = 0, 0
	h.pass(time.Minute)
	if b.cpuReads < 50 || b.memoryReads < 6 || b.memoryReads > 8 {
		t.Errorf("a minute at rest: CPU was read %d times, memory %d times", b.cpuReads, b.memoryReads)
	}
	if age := h.now.Sub(c.Window.At); age > 2*time.Second {
		t.Errorf("the window is %s old", age)
	}
	for range 3 { // at any phase of the ten seconds
		h.pass(3700 * time.Millisecond)
		quota := c.Window.Quota.Cores()
		b.demand = quota / 2
		h.until(1500*time.Millisecond, "its use is seen", func() bool { return c.Window.Usage.Cores() > quota/5 })
		last, ok := c.ring.Last()
		if !ok || h.now.Sub(time.Unix(0, last.At)) > 2*time.Second {
			t.Errorf("the history ends at %v", time.Unix(0, last.At))
		}
		b.demand = 0
		h.pass(90 * time.Second)
	}
	b.demand, b.anon = 0.01, 200*mib // what grows needs the CPU
	h.until(1500*time.Millisecond, "its memory is seen", func() bool { return c.Window.MemoryUsage >= 200*mib })
}

// Row 118: an idle container is looked at often where its memory limit was cut, by its CPU time alone;
// one with a small limit that it started with is not: 100 of those cost nothing.
func TestRow118IdleWithASmallLimit(t *testing.T) {
	h := newHost(t, options{})
	own := h.run("sidecar", knowledge.Limits{CPU: core, Memory: 64 * mib, MemorySwap: 64 * mib}, nil)
	cut := h.run("cut", knowledge.Limits{CPU: core}, nil)
	own.anon, cut.anon = mib, mib
	h.pass(3 * time.Minute)
	if own.kernel.Memory != 64*mib || cut.kernel.Memory == 0 || cut.kernel.Memory > 80*mib {
		t.Fatalf("limits of %s and %s", own.kernel.Memory, cut.kernel.Memory)
	}
	for _, b := range []*box{own, cut} {
		b.cpuReads, b.memoryReads = 0, 0
	}
	h.pass(time.Minute)
	if own.cpuReads > 65 || cut.cpuReads < 120 || cut.cpuReads > 220 {
		t.Errorf("in a minute its CPU time was read %d times, of the one that was cut %d times", own.cpuReads, cut.cpuReads)
	}
	if own.memoryReads > 8 || cut.memoryReads > 8 {
		t.Errorf("in a minute its memory was read %d times, of the one that was cut %d times", own.memoryReads,
			cut.memoryReads)
	}
}

// A limit is cut where it is below the Engine's record or the original: as the Engine's actuator
// leaves it, record and limit are one.
func TestMemoryCut(t *testing.T) {
	for _, c := range []struct {
		limit, record, original knowledge.Bytes
		kept, want              bool
	}{
		{0, 0, 0, false, false}, {64 * mib, 64 * mib, 0, false, false}, {64 * mib, 0, 0, false, true},
		{64 * mib, 128 * mib, 0, false, true}, {128 * mib, 64 * mib, 64 * mib, true, false},
		{64 * mib, 64 * mib, 128 * mib, true, true}, {64 * mib, 64 * mib, 0, true, true},
		{99999744, 100000000, 100000000, true, false}, // as the kernel rounds it
	} {
		var x container
		x.Window = &knowledge.Window{WindowMemory: knowledge.WindowMemory{MemoryLimit: c.limit}}
		x.Marks.Engine.Memory, x.Original.Memory, x.OriginalKept = c.record, c.original, c.kept
		if got := x.memoryCut(); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

// Readings fall on a grid: what is urgent on ticks, other things on whole seconds, the
// slots evenly.
func TestOnGrid(t *testing.T) {
	for _, c := range []struct {
		at, every time.Duration
		slot      int
		want      time.Duration
	}{
		{1230 * time.Millisecond, 100 * time.Millisecond, 0, 1300 * time.Millisecond},
		{1200*time.Millisecond + 40, 100 * time.Millisecond, 5, 1300 * time.Millisecond},
		{1200 * time.Millisecond, 200 * time.Millisecond, 5, 1400 * time.Millisecond},
		{1100 * time.Millisecond, 300 * time.Millisecond, 5, 1200 * time.Millisecond},
		{1200 * time.Millisecond, 300 * time.Millisecond, 6, 1500 * time.Millisecond},
		{1200 * time.Millisecond, time.Second, 5, 2 * time.Second},
		{2*time.Second + 40, time.Second, 5, 3 * time.Second},
		{10*time.Second + 40, 5 * time.Second, 0, 15 * time.Second},
		{10*time.Second + 40, 5 * time.Second, 3, 13 * time.Second},
		{13*time.Second + 40, 5 * time.Second, 3, 18 * time.Second},
	} {
		if got := onGrid(c.at, c.every, c.slot); got != c.want {
			t.Errorf("at %s, every %s, slot %d: %s, want %s", c.at, c.every, c.slot, got, c.want)
		}
	}
	for every := tickEvery; every < 20*time.Second; every += 70 * time.Millisecond {
		for slot := range 40 {
			at := time.Duration(slot) * 130 * time.Millisecond
			for range 5 {
				next := onGrid(at, every, slot)
				if next <= at || next > at+every+time.Second {
					t.Fatalf("at %s, every %s, slot %d: %s", at, every, slot, next)
				}
				at = next + 30*time.Microsecond
			}
		}
	}
}
