package mape

import (
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// start begins a life of b, with the limits that the Engine has on record.
func (h *host) start(b *box) {
	h.mu.Lock()
	b.c.State, b.gone, b.kernel = knowledge.StateRunning, false, b.engine
	h.mu.Unlock()
	h.emit(knowledge.EventStart, b)
}

// kill is the kernel's end of the only process: the cgroup goes with it, and the
// Engine waits before it starts the container again.
func (h *host) kill(b *box) {
	h.mu.Lock()
	b.c.State, b.gone = knowledge.StateRestarting, true
	b.c.Restarts++
	h.mu.Unlock()
	h.emit(knowledge.EventOOM, b)
	h.emit(knowledge.EventDie, b)
}

// Row 65: what leaps over its limit dies within milliseconds of each start, too
// early to be measured. It gets more between two lives, a step a kill, up to its
// maximum, and is not touched when it lives.
func TestKilledBeforeItIsMeasured(t *testing.T) {
	h := newHost(t, options{policy: func(p *knowledge.Policy) { p.Memory.Max = 256 * mib }})
	b := h.run("java", knowledge.Limits{CPU: core / 2, Memory: 64 * mib, MemorySwap: 64 * mib}, nil)
	h.pass(time.Second)
	for _, want := range []knowledge.Bytes{164 * mib, 256 * mib, 256 * mib} {
		h.start(b)
		h.kill(b)
		h.pass(2 * time.Second)
		if at := b.engine.Memory; max(at-want, want-at) > 16*mib {
			t.Errorf("the next life begins with %s, want about %s", at, want)
		}
	}
	if n := h.calls["memory"]; n != 2 {
		t.Errorf("%d updates for two steps", n)
	}
	if r := h.unit(b).wishes[knowledge.ResourceMemory].Decision.Reason.Rule; r != knowledge.RuleAtMax {
		t.Errorf("at the maximum it says %q", r)
	}
	h.start(b)
	b.anon = 90 * mib
	h.pass(30 * time.Second)
	if n := h.calls["memory"]; n != 2 || b.engine.Memory != 256*mib {
		t.Errorf("alive: %d updates, %s", n, b.engine.Memory)
	}
}

// Rows 33 and 65: the update of a life that ended meanwhile is superseded; the one
// for the next life is a new one.
func TestKilledDuringTheUpdate(t *testing.T) {
	h := newHost(t, options{})
	b := h.run("java", knowledge.Limits{CPU: core / 2, Memory: 64 * mib}, nil)
	h.pass(5 * time.Second)
	b.dying = true
	h.emit(knowledge.EventOOM, b)
	h.until(2*time.Second, "an update", func() bool { return h.calls["memory"] == 1 })
	if got := h.ended[len(h.ended)-1].Result; got != knowledge.ResultSuperseded {
		t.Fatalf("the update of a life that ends is %s", got)
	}
	b.dying = false
	h.kill(b)
	h.until(2*time.Second, "more memory for the next life", func() bool { return b.engine.Memory >= 164*mib })
	if n := h.calls["memory"]; n != 2 {
		t.Errorf("%d updates", n)
	}
}

// Rows 61 and 65: a kill that was answered is not answered anew by a restart of the
// daemon, and one that was not still is; whether the container lives or not.
func TestAKillIsAnsweredOnce(t *testing.T) {
	for _, c := range []struct {
		name     string
		answered bool
		lives    bool
	}{{"answered, alive", true, true}, {"answered, dead", true, false}, {"not answered, alive", false, true}, {"not answered, dead", false, false}} {
		t.Run(c.name, func(t *testing.T) {
			h := newHost(t, options{})
			b := h.run("java", knowledge.Limits{CPU: core / 2, Memory: 64 * mib}, nil)
			h.pass(5 * time.Second)
			h.down = !c.answered
			h.kill(b)
			h.pass(5 * time.Second)
			h.down = false
			before, want := b.engine.Memory, c.answered
			if raised := before > 64*mib; raised != want {
				t.Fatalf("raised before the restart: %v, want %v", raised, want)
			}
			h.end()
			h.boot(options{restored: Restored{Marks: h.marks, Originals: h.kept}})
			if c.lives {
				h.start(b)
			}
			h.pass(time.Minute)
			if raised := b.engine.Memory > before; raised == want {
				t.Errorf("from %s to %s after the restart", before, b.engine.Memory)
			}
		})
	}
}
