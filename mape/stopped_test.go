package mape

import (
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// Row 125: time in which a container could not run is no evidence: no cut, nothing is
// learned, and what it needed before is there when it goes on.
func TestStoppedIsNoEvidence(t *testing.T) {
	for _, c := range []struct {
		name       string
		stop, goOn func(h *host, b *box)
	}{
		{"docker pause", func(h *host, b *box) { b.c.State = knowledge.StatePaused; h.emit(knowledge.EventPause, b) },
			func(h *host, b *box) { b.c.State = knowledge.StateRunning; h.emit(knowledge.EventUnpause, b) }},
		{"docker pause, events lost",
			func(h *host, b *box) { b.c.State, b.stopped = knowledge.StatePaused, knowledge.StopFrozen },
			func(h *host, b *box) { b.c.State, b.stopped = knowledge.StateRunning, knowledge.StopNone }},
		{"frozen", func(h *host, b *box) { b.stopped = knowledge.StopFrozen },
			func(h *host, b *box) { b.stopped = knowledge.StopNone }},
		{"waits for memory", func(h *host, b *box) { b.stopped = knowledge.StopOOM },
			func(h *host, b *box) { b.stopped = knowledge.StopNone }},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHost(t, options{})
			b := h.run("web", knowledge.Limits{CPU: core * 6 / 10, Memory: 512 * mib, MemorySwap: 512 * mib}, nil)
			b.demand = 0.5
			h.pass(2 * time.Minute)
			cpu, mem, points := b.kernel.CPU, b.engine.Memory, len(h.container(b).ring.Since(nil, begin))
			b.demand = 0
			c.stop(h, b)
			h.pass(20 * time.Minute)
			d := h.container(b).planned[knowledge.ResourceCPU].Decision
			if b.kernel.CPU != cpu || b.engine.Memory < mem {
				t.Errorf("%s and %s became %s and %s: %s", cpu, mem, b.kernel.CPU, b.engine.Memory, d.Reason)
			}
			if d.Reason.Rule != knowledge.RuleNotRunning {
				t.Errorf("the reason is %s", d.Reason)
			}
			if now := len(h.container(b).ring.Since(nil, begin)); now > points+2 {
				t.Errorf("%d values of a time in which it could not run", now-points)
			}
			b.demand = 0.5
			c.goOn(h, b)
			h.pass(30 * time.Second)
			if b.kernel.CPU != cpu || h.container(b).Window.Stopped != knowledge.StopNone {
				t.Errorf("after it went on: %s instead of %s", b.kernel.CPU, cpu)
			}
			b.demand = 0
			h.until(10*time.Minute, "a cut of one that rests", func() bool { return b.kernel.CPU < cpu/2 })
		})
	}
}

// Row 125: the host was asleep, or stood still: the gap is no evidence either.
func TestAsleepIsNoEvidence(t *testing.T) {
	h := newHost(t, options{})
	b := h.run("web", knowledge.Limits{CPU: core * 6 / 10, Memory: 512 * mib, MemorySwap: 512 * mib}, nil)
	b.demand = 0.5
	h.pass(2 * time.Minute)
	cpu, points := b.kernel.CPU, len(h.container(b).ring.Since(nil, begin))
	b.advance(h.now)
	h.now = h.now.Add(3 * time.Hour)
	b.at = h.now
	h.pass(20 * time.Second)
	if b.kernel.CPU != cpu {
		t.Errorf("%s became %s", cpu, b.kernel.CPU)
	}
	for _, p := range h.container(b).ring.Since(nil, begin)[points:] {
		if p.Demand < 0.4 {
			t.Errorf("learned a demand of %.2f", p.Demand)
		}
	}
}

// Row 125: one that waits for memory, because OOM kills are off, gets more.
func TestWaitingForMemoryGetsMore(t *testing.T) {
	h := newHost(t, options{})
	b := h.run("web", knowledge.Limits{CPU: core, Memory: 128 * mib, MemorySwap: 128 * mib}, nil)
	b.demand, b.anon = 0.1, 40*mib
	h.pass(time.Minute)
	b.demand, b.anon, b.stopped = 0, 127*mib, knowledge.StopOOM
	h.until(10*time.Second, "more memory", func() bool { return b.kernel.Memory > 128*mib })
}

// One that rests is asked each second whether it can run, also while it is read ten times as
// often because a cut of it is watched.
func TestStoppedIsReadSeldom(t *testing.T) {
	h := newHost(t, options{})
	b := h.run("web", knowledge.Limits{CPU: core, Memory: 512 * mib, MemorySwap: 512 * mib}, nil)
	b.demand = 0.5
	h.pass(2 * time.Minute)
	b.demand = 0
	cpu := b.kernel.CPU
	h.until(10*time.Minute, "a cut of one that rests", func() bool { return b.kernel.CPU < cpu })
	reads, stopped := b.cpuReads, b.stoppedReads
	h.pass(20 * time.Second)
	if reads, stopped = b.cpuReads-reads, b.stoppedReads-stopped; reads < 100 || stopped > 21 || stopped < 10 {
		t.Errorf("asked %d times whether it can run, in %d readings", stopped, reads)
	}
}
