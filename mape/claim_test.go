package mape

import (
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// Claim is that of another daemon, where the test says so.
func (b *box) Claim() string { return b.claimedBy }
func (b *box) Unclaim()      {}

// TestRow106AnotherDaemon: what another daemon changes is measured and not changed, also by a
// request, nor are its limits taken for original; once that one is gone, this one follows.
func TestRow106AnotherDaemon(t *testing.T) {
	h := newHost(t, options{})
	b := h.run("web", knowledge.Limits{CPU: core / 2, Memory: 64 * mib}, nil)
	b.demand, b.claimedBy = 1, "process 7"
	h.pass(time.Minute)
	c := h.container(b)
	if h.writes != 0 || h.calls["cpu"]+h.calls["memory"]+h.calls["shares"] != 0 || len(h.kept) != 0 || len(h.begun) != 0 {
		t.Errorf("%d writes, calls %v, originals %v", h.writes, h.calls, h.kept)
	}
	if c.Window.Usage == 0 {
		t.Error("it is not measured")
	}
	a := h.loop.exec.Apply(h.now, &c.Container, c.requestedLimit(h.now, ScaleRequest{To: int64(core)}), nil)
	if a.Acted || a.Reason.Rule != knowledge.RuleClaimed || a.Reason.Note != "process 7" {
		t.Errorf("%+v", a)
	}
	b.claimedBy = ""
	// At a restart of the container the other one has the first turn.
	h.emit(knowledge.EventDie, b)
	h.emit(knowledge.EventStart, b)
	h.pass(10 * time.Second)
	if h.writes != 0 {
		t.Error("it did not wait for the other daemon's turn")
	}
	h.until(2*claimAgain, "the container is managed", func() bool { return b.kernel.CPU > core/2 })
	if h.kept[b.c.ID].Limits.Memory != 64*mib {
		t.Errorf("%+v", h.kept)
	}
}
