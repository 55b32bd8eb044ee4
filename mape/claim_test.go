package mape

import (
	"strings"
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// Claim is that of another daemon, where the test says so.
func (b *box) Claim() string { return b.claimedBy }
func (b *box) Unclaim()      {}

// InnerKill is that of the test.
func (b *box) InnerKill() knowledge.InnerKill { return b.inner }

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
	o := h.kept[b.c.ID]
	lost := h.now.Sub(o.Lost[0])
	if o.Limits.Memory != 64*mib || o.Lost[0] != o.Lost[1] || lost > 2*claimAgain+time.Minute {
		t.Errorf("original limits that may be the other daemon's: %+v", o)
	}
}

// claimedAtRestart is a managed container that another daemon has since it was started again.
func claimedAtRestart(t *testing.T) (*host, *box) {
	t.Helper()
	h := newHost(t, options{})
	b := h.run("web", knowledge.Limits{CPU: core / 2, Memory: 64 * mib}, nil)
	b.demand = 1
	h.until(time.Minute, "the container is managed", func() bool { return b.kernel.CPU > core/2 })
	b.claimedBy = "process 7"
	h.emit(knowledge.EventDie, b)
	h.emit(knowledge.EventStart, b)
	h.pass(10 * time.Second)
	return h, b
}

// TestRow106AfterAnotherDaemon: what another daemon changed, while it had the container, is
// taken for no user's change: the original limits stay those of before it.
func TestRow106AfterAnotherDaemon(t *testing.T) {
	h, b := claimedAtRestart(t)
	b.engine.Memory, b.engine.MemorySwap, b.kernel.Memory = 200*mib, 200*mib, 200*mib
	h.pass(10 * time.Second)
	b.claimedBy = ""
	c := h.container(b)
	h.until(2*claimAgain, "the container is managed again", func() bool { return c.Policy.Acts() && c.Marks.EngineKnown })
	h.pass(10 * time.Second)
	o := h.kept[b.c.ID]
	if o.Limits.Memory != 64*mib || o.Lost != [2]time.Time{} || c.Original.Memory != 64*mib {
		t.Errorf("original limits %+v, %+v", o, c.Original)
	}
	if hold, held := c.Marks.Held(h.now); held {
		t.Errorf("taken for a user's: %s", hold)
	}
}

// TestRow106RestoreDoesNotPause: a restore that is refused, because another daemon has the
// container, does not pause its service.
func TestRow106RestoreDoesNotPause(t *testing.T) {
	h, b := claimedAtRestart(t)
	var saved Pauses
	out := h.restore("web", func(p Pauses) { saved = p })
	if len(out) != 1 || !strings.Contains(out[0].Err, "process 7") {
		t.Errorf("%+v", out)
	}
	if len(saved) != 0 || h.container(b).Pause.On {
		t.Errorf("paused: %+v, %+v", saved, h.container(b).Pause)
	}
}
