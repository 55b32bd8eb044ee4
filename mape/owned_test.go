package mape

import (
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape/execute"
	"github.com/effiscale/effiscale/mape/plan"
)

// owners keep the reports.
type owners struct {
	last  []plan.Report
	times int
}

func (o *owners) Report(reports []plan.Report) { o.last, o.times = reports, o.times+1 }

// TestOwnedElsewhere: what is managed is reported; until its owner has spoken, and
// half a minute after its last word, nothing shrinks and growth goes on.
func TestOwnedElsewhere(t *testing.T) {
	o := &owners{}
	h := newHost(t, options{})
	h.loop.o.Owners, h.loop.exec.Host.Owned = o, true
	b := h.run("web", knowledge.Limits{CPU: 2 * core}, nil)
	b.demand = 0.2
	h.pass(3 * time.Minute)
	c := h.loop.containers.order[0]
	if len(o.last) != 1 || len(o.last[0].Replicas) != 1 || o.last[0].Check(nil) != nil {
		t.Fatalf("reported %+v: %v", o.last, o.last[0].Check(nil))
	}
	if b.kernel.CPU != 2*core {
		t.Fatalf("cut to %v before the owner spoke", b.kernel.CPU)
	}
	req := execute.Request{Now: h.now, Container: &c.Container, Host: &h.loop.exec.Host, Rules: &h.loop.exec.Rules,
		Decision: &knowledge.Decision{ID: c.ID, From: int64(2 * core), To: int64(core), Verb: knowledge.Shrink}}
	if r := execute.Admit(&req); r.Reason.Rule != knowledge.RuleNoOwner {
		t.Errorf("held for %v", r.Reason)
	}
	in := knowledge.Intent{Service: c.service.Key, Term: knowledge.Term{Round: 3, Owner: "n1"},
		Envelopes: plan.Declare(h.now, o.last, o.last[0].Host)}
	if !h.loop.applyEnvelope(h.now, &in, &in.Envelopes[0]) || c.Envelope.Term != in.Term {
		t.Fatalf("not obeyed: %+v", c.Envelope)
	}
	h.pass(20 * time.Second)
	if b.kernel.CPU >= 2*core {
		t.Errorf("still %v with an owner", b.kernel.CPU)
	}
	h.pass(time.Minute)
	held := b.kernel.CPU
	b.demand = 0.02
	h.pass(2 * time.Minute)
	if b.kernel.CPU < held {
		t.Errorf("cut from %v to %v on the word of an owner that fell silent", held, b.kernel.CPU)
	}
	b.demand = 1.5
	h.pass(time.Minute)
	if b.kernel.CPU <= held {
		t.Errorf("did not grow without an owner: %v", b.kernel.CPU)
	}
	unknown := knowledge.Assigned{ID: "unknown"}
	if h.loop.applyEnvelope(h.now, &in, &unknown) {
		t.Error("obeyed for a container that is not here")
	}
	in.Service = "other"
	if h.loop.applyEnvelope(h.now, &in, &in.Envelopes[0]) {
		t.Error("obeyed for a container of another service")
	}
}

// TestNewContainersAreReported: the owner of what has just come gets a report within two
// seconds, of all that runs here, and not of each container by itself.
func TestNewContainersAreReported(t *testing.T) {
	o := &owners{}
	h := newHost(t, options{})
	h.loop.o.Owners, h.loop.exec.Host.Owned = o, true
	h.run("web", knowledge.Limits{CPU: 2 * core}, nil)
	h.until(time.Minute, "a deliberation", func() bool { return h.loop.deliberateAt.Equal(h.now) })
	h.pass(time.Second)
	before := o.times
	for _, name := range []string{"shop", "mail"} {
		h.emit(knowledge.EventStart, h.run(name, knowledge.Limits{CPU: 2 * core}, nil))
	}
	h.until(3*time.Second, "the owners know of all three", func() bool { return len(o.last) == 3 })
	h.pass(3 * time.Second)
	if told := o.times - before; told > 2 {
		t.Errorf("%d reports of two new containers", told)
	}
	before = o.times
	h.pass(time.Minute)
	if told := o.times - before; told > 7 {
		t.Errorf("%d reports in a minute without news", told)
	}
}
