package mape

import (
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape/execute"
)

// startPolicy observes and shrinks within seconds.
func startPolicy(p *knowledge.Policy) {
	p.ObserveFirst, p.ShrinkAfter = 10*time.Second, 10*time.Second
	p.CPU.Max, p.Memory.Max = 4*core, 6*gib
}

// again starts b with what the Engine has on record; unseen: no event tells of it.
func (h *host) again(b *box, unseen bool) {
	if unseen {
		h.mu.Lock()
		b.kernel, b.c.StartedAt = b.engine, h.now
		h.mu.Unlock()
		return
	}
	h.stop(b)
	h.start(b)
}

// Rows 101 and 103: a container that was cut starts with what it was made with, and settles
// where it was within seconds: while the daemon runs, without an event, after an orderly end
// of the daemon, and after a crash of it.
func TestAStartTakesTheHighestLimit(t *testing.T) {
	for name, life := range map[string]func(*host, *box){
		"running": func(h *host, b *box) { h.again(b, false) },
		"unseen":  func(h *host, b *box) { h.again(b, true) },
		"stopped": func(h *host, b *box) {
			h.end()
			h.again(b, true)
			h.boot(options{policy: startPolicy, restored: Restored{Marks: h.marks, Originals: h.kept}})
		},
		"killed": func(h *host, b *box) {
			h.again(b, true)
			h.boot(options{policy: startPolicy, restored: Restored{Marks: h.marks, Originals: h.kept, Unclean: true}})
		},
	} {
		for _, made := range []knowledge.Limits{{}, {CPU: 2 * core, Memory: gib, MemorySwap: gib}} {
			t.Run(name, func(t *testing.T) {
				h := newHost(t, options{policy: startPolicy})
				b := h.run("java", made, nil)
				b.c.StartedAt = h.now
				b.demand, b.anon = 0.1, 100*mib
				h.until(time.Hour, "a cut", func() bool {
					return b.kernel.CPU > 0 && b.kernel.CPU < core/4 && b.kernel.Memory > 0 && b.kernel.Memory < 300*mib
				})
				h.pass(20 * time.Second) // saved
				if b.engine.CPU != made.CPU || b.engine.Memory != made.Memory {
					t.Fatalf("it starts with %s cores, %s", b.engine.CPU, b.engine.Memory)
				}
				cut := b.kernel
				life(h, b)
				h.pass(time.Second)
				if b.kernel.CPU != made.CPU || b.kernel.Memory != made.Memory {
					t.Fatalf("right after its start it has %s cores, %s", b.kernel.CPU, b.kernel.Memory)
				}
				h.until(40*time.Second, "it settles", func() bool {
					return b.kernel.CPU > 0 && b.kernel.CPU < core/4 && b.kernel.Memory > 0 &&
						b.kernel.Memory <= cut.Memory+cut.Memory/10
				})
				if c := h.container(b); !c.Marks.ExternalUntil.IsZero() {
					t.Errorf("somebody's change, until %s", c.Marks.ExternalUntil)
				}
				if n := h.calls["cpu"] + h.calls["memory"]; n > 0 {
					t.Errorf("%d updates of the Engine", n)
				}
			})
		}
	}
}

// Row 101: a data directory of an earlier version, which cut the Engine's record too: it is
// raised again after the start, and what is in force stays.
func TestRecordsThatAnEarlierVersionCut(t *testing.T) {
	for _, unclean := range []bool{false, true} {
		h := newHost(t, options{policy: startPolicy})
		made := knowledge.Limits{CPU: 2 * core, Dialect: 1, Memory: gib, MemorySwap: gib}
		b := h.run("java", made, nil)
		b.demand, b.anon = 0.1, 100*mib
		h.pass(5 * time.Second)
		h.end()
		cut := knowledge.Limits{CPU: core / 5, Dialect: 1, Memory: 200 * mib, MemorySwap: 200 * mib}
		b.kernel, b.engine = cut, cut
		c := h.container(b)
		c.Marks = execute.Marks{Engine: cut, EngineKnown: true, Quota: cut.CPU, QuotaSet: true}
		packed, err := c.packMarks()
		if err != nil {
			t.Fatal(err)
		}
		h.marks[b.c.ID] = packed
		h.boot(options{policy: startPolicy, restored: Restored{Marks: h.marks, Originals: h.kept, Unclean: unclean}})
		h.pass(8 * time.Second)
		if b.engine.CPU != 2*core || b.engine.Memory != gib {
			t.Errorf("it starts with %s cores, %s", b.engine.CPU, b.engine.Memory)
		}
		if b.kernel.CPU > core/4 || b.kernel.Memory > 220*mib {
			t.Errorf("in force are %s cores, %s", b.kernel.CPU, b.kernel.Memory)
		}
		if m := &h.container(b).Marks; !m.ExternalUntil.IsZero() || h.container(b).Original.Memory != gib {
			t.Errorf("somebody's change, until %s", m.ExternalUntil)
		}
	}
}

// A stopped container is looked after, too: the policy's bound is what it starts with.
func TestAStoppedContainerGetsItsCeiling(t *testing.T) {
	h := newHost(t, options{policy: func(p *knowledge.Policy) {
		startPolicy(p)
		p.Ceiling = knowledge.Limits{CPU: core, Memory: 400 * mib}
	}})
	b := h.run("java", knowledge.Limits{}, nil)
	b.c.State, b.gone = knowledge.StateExited, true
	h.pass(10 * time.Second)
	if b.engine.CPU != core || b.engine.Memory != 400*mib {
		t.Errorf("it starts with %s cores, %s", b.engine.CPU, b.engine.Memory)
	}
}
