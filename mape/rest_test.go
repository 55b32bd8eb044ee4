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
