package mape

import (
	"context"
	"syscall"
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape/execute"
)

// TestRow110FilledAfterACutByHand: a limit is lowered by hand or by a request, and the container
// then fills at 10 MB/s: the limit grows ahead of it.
func TestRow110FilledAfterACutByHand(t *testing.T) {
	for _, requested := range []bool{false, true} {
		h := newHost(t, options{})
		b := h.run("redis", knowledge.Limits{CPU: core, Memory: 512 * mib, MemorySwap: 512 * mib}, nil)
		b.anon = 4 * mib
		h.pass(30 * time.Second)
		c := h.container(b)
		if requested {
			d := c.requestedLimit(h.now, ScaleRequest{Resource: knowledge.ResourceMemory, To: int64(32 * mib), By: "test"})
			var a execute.Admission
			if a = h.loop.exec.Apply(h.now, &c.Container, d, func(knowledge.Record) {}); !a.Acted {
				t.Fatalf("%+v", a)
			}
			h.settle()
			c.Hold(h.now, "test", knowledge.ResourceMemory, d.From)
		} else {
			if err := h.UpdateMemory(context.Background(), b.c.ID, 32*mib, 32*mib); err != nil {
				t.Fatal(err)
			}
			h.emit(knowledge.EventUpdate, b)
		}
		h.pass(20 * time.Second)
		if c.Marks.ExternalUntil.IsZero() || b.kernel.Memory > 64*mib {
			t.Fatalf("requested %v: held until %s, limit %s", requested, c.Marks.ExternalUntil, b.kernel.Memory)
		}
		for b.demand = 0.3; b.anon < 400*mib; {
			b.anon += mib
			h.tick()
			if b.anon > b.kernel.Memory {
				t.Fatalf("requested %v: %s in use at a limit of %s", requested, b.anon, b.kernel.Memory)
			}
		}
	}
}

// Row 110: a request that was refused changes nothing, and holds nothing.
func TestRow110RefusedRequestHoldsNothing(t *testing.T) {
	h := newHost(t, options{})
	b := h.run("web", usual, nil)
	h.pass(10 * time.Second)
	h.loop.o.Now = func() time.Time { return h.now }
	go h.loop.Run(t.Context())
	for _, refused := range []bool{false, true, false} {
		if b.refuses = nil; refused {
			b.refuses = syscall.EINVAL
		}
		at := h.container(b).Marks.ExternalUntil
		to := int64(b.kernel.CPU) + int64(core)/10
		r, err := h.loop.Scale(t.Context(), "web", ScaleRequest{Resource: knowledge.ResourceCPU, To: to, By: "test"})
		if err != nil || (r.Record.Outcome.Result == knowledge.ResultRefused) != refused {
			t.Fatalf("%+v, %v", r, err)
		}
		var held, now time.Time
		err = h.loop.Do(t.Context(), func() {
			held, now = h.container(b).Marks.ExternalUntil, h.now
			h.now = h.now.Add(time.Second)
		})
		if err != nil {
			t.Fatal(err)
		}
		if refused && !held.Equal(at) || !refused && !held.After(now) {
			t.Errorf("refused: %v; held until %s, before until %s", refused, held, at)
		}
	}
}

// Row 107: the Engine does not know a container that runs: its limits in force are restored.
func TestRow107RestoreOfOneThatIsMissing(t *testing.T) {
	h := newHost(t, options{})
	b := h.run("web", usual, nil)
	h.pass(10 * time.Second)
	was := b.kernel.CPU
	c := h.container(b)
	b.kernel.CPU, c.Window.Quota, c.Gone = 2*was, 2*was, true
	c.Marks.Quota, c.Marks.QuotaSet, c.Original.CPU = 2*was, true, was
	if a, need := h.loop.restoreLimit(c, knowledge.ResourceCPU, func(knowledge.Record) {}); !need || !a.Acted {
		t.Errorf("%+v, needed: %v", a, need)
	}
	h.settle()
	if b.kernel.CPU != was {
		t.Errorf("in force %s", b.kernel.CPU)
	}
}

// Row 123: a person's request is judged by the bounds of now; routine readings share them with siblings.
func TestRow123RequestReadsBounds(t *testing.T) {
	h := newHost(t, options{})
	b := h.run("web", usual, nil)
	h.pass(30 * time.Second)
	if b.boundsReads > 0 {
		t.Errorf("routine readings read them %d times on purpose", b.boundsReads)
	}
	b.bounds.CPU, b.bounds.CPUBy = core/2, knowledge.BoundParent
	h.loop.o.Now = func() time.Time { return h.now }
	go h.loop.Run(t.Context())
	req := ScaleRequest{Resource: knowledge.ResourceCPU, To: int64(core), By: "test"}
	r, err := h.loop.Scale(t.Context(), "web", req)
	if err != nil || b.boundsReads == 0 || r.Admission.Allowed > int64(core)/2 {
		t.Errorf("read %d times, %v: allowed %d", b.boundsReads, err, r.Admission.Allowed)
	}
}
