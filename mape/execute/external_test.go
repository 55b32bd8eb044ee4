package execute

import (
	"errors"
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// person changes the container as `docker update` does: kernel and Engine.
func (w *world) person(cpu knowledge.NanoCPU, mem knowledge.Bytes) {
	w.kernel.CPU, w.engine.CPU = cpu, cpu
	w.kernel.Memory, w.engine.Memory = mem, mem
	w.pass(time.Second)
}

// notice compares as the loop does after the limits were read.
func (w *world) notice() {
	w.exec.Compare(w.now, w.s)
	w.settle()
	w.pass(0)
}

// Row 63: a person's change is seen in the kernel, explained by the Engine,
// respected for the policy's time, recorded, and becomes the original.
func TestExternalChange(t *testing.T) {
	w := newWorld(t)
	w.cpu(12 * core / 10)
	w.person(2*core, 600*mib)
	w.notice()
	m := &w.s.Marks
	if m.ExternalUntil.Sub(w.now) != 10*time.Minute || m.Pinned {
		t.Fatalf("respected for %s, pinned %v", m.ExternalUntil.Sub(w.now), m.Pinned)
	}
	if w.s.Original.CPU != 2*core || w.s.Original.Memory != 600*mib {
		t.Errorf("the original is %+v", w.s.Original)
	}
	if len(w.closed) != 2 || len(w.kept) != 2 || w.s.LastChange.Action.Actor != knowledge.ActorExternal {
		t.Errorf("recorded %+v", w.closed)
	}
	if r := w.cpu(22 * core / 10); r.Acted || r.Reason.Rule != knowledge.RuleExternal {
		t.Errorf("%+v", r)
	}
	if w.exec.Repairs != 0 || w.kernel.CPU != 2*core {
		t.Errorf("repaired %d, kernel %s", w.exec.Repairs, w.kernel.CPU)
	}
	w.pass(10 * time.Minute)
	if r := w.cpu(22 * core / 10); !r.Acted {
		t.Errorf("never resumed: %s", r.Reason)
	}
}

// Row 64: a value outside of the policy stays until they change it.
func TestExternalOutsideThePolicy(t *testing.T) {
	w := newWorld(t)
	w.s.Marks.Quota, w.s.Marks.QuotaSet = core, true
	w.person(7*core, 512*mib)
	w.notice()
	w.pass(24 * time.Hour)
	if r := w.cpu(6 * core); r.Acted || r.Reason.Rule != knowledge.RulePinned || w.kernel.CPU != 7*core {
		t.Errorf("%+v, kernel %s", r, w.kernel.CPU)
	}
	w.person(5*core, 512*mib)
	w.notice()
	if w.s.Marks.Pinned {
		t.Error("pinned although it is within the policy again")
	}
}

// ENGINE.md 12 and 14: what the Engine does not have is drift, and repaired;
// each time later, so that two writers do not fight.
func TestDrift(t *testing.T) {
	w := newWorld(t)
	w.cpu(12 * core / 10)
	w.pass(time.Second)
	w.kernel.CPU = core // systemd's daemon-reload
	w.pass(time.Second)
	w.notice()
	if w.kernel.CPU != 12*core/10 || w.exec.Repairs != 1 || !w.s.Marks.ExternalUntil.IsZero() {
		t.Fatalf("kernel %s, repaired %d, external %s", w.kernel.CPU, w.exec.Repairs, w.s.Marks.ExternalUntil)
	}
	for range 3600 {
		w.kernel.CPU = core
		w.pass(time.Second)
		w.notice()
	}
	if n := w.exec.Repairs; n < 8 || n > 30 {
		t.Errorf("%d repairs in an hour of fighting", n)
	}
}

func TestMemoryDrift(t *testing.T) {
	w := newWorld(t)
	w.kernel.Memory = 300 * mib
	w.pass(time.Second)
	w.notice()
	if w.kernel.Memory != 512*mib || w.calls["memory"] != 0 || w.exec.Repairs != 1 {
		t.Errorf("kernel %s after %d updates", w.kernel.Memory, w.calls["memory"])
	}
}

// What an update that failed left in the kernel is the daemon's: the update is sent again, and
// the kernel is not reset to what the Engine has.
func TestMemoryThatTheEngineMissed(t *testing.T) {
	for _, err := range []error{errGone, errors.New("the Engine hung up")} {
		w := newWorld(t)
		w.exec.Rules.Actuator = knowledge.ActuatorEngine
		w.fail, w.partly = err, true
		w.memory(700 * mib)
		w.settle()
		if w.kernel.Memory != 700*mib || w.engine.Memory != 512*mib {
			t.Fatalf("kernel %s, Engine %s", w.kernel.Memory, w.engine.Memory)
		}
		w.fail, w.partly, w.s.Gone = nil, false, false // it started again
		for range 60 {
			w.pass(time.Second)
			w.notice()
		}
		if w.kernel.Memory != 700*mib || w.engine.Memory != 700*mib {
			t.Errorf("%v: kernel %s, Engine %s", err, w.kernel.Memory, w.engine.Memory)
		}
		w.kernel.Memory = 300 * mib // and this is drift again
		w.pass(10 * time.Minute)
		w.notice()
		if w.kernel.Memory != 700*mib {
			t.Errorf("%v: drifted to %s", err, w.kernel.Memory)
		}
	}
}

// Nothing is repaired where nothing may be changed: observe, opted out, safe mode.
func TestNoRepairWhereNothingMayBeChanged(t *testing.T) {
	for name, set := range map[string]func(*world){
		"observe":   func(w *world) { w.s.Policy.Mode = knowledge.ModeObserve },
		"bad label": func(w *world) { w.s.Policy.Problems = []string{"x"} },
		"opted out": func(w *world) { w.s.Policy.Managed = false },
		"row 53":    func(w *world) { w.exec.Host.Crashes = 3 },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.cpu(12 * core / 10)
			set(w)
			w.kernel.CPU, w.kernel.Memory = core, 300*mib
			w.pass(time.Second)
			w.notice()
			if w.kernel.CPU != core || w.kernel.Memory != 300*mib || w.exec.Repairs != 0 {
				t.Errorf("kernel %s, %s, repaired %d", w.kernel.CPU, w.kernel.Memory, w.exec.Repairs)
			}
		})
	}
}

// What the kernel rounds is neither drift nor an external change.
func TestRoundingIsNoChange(t *testing.T) {
	w := newWorld(t)
	w.cpu(knowledge.FromCores(1.234))
	w.kernel.CPU = knowledge.FromCores(1.24) // systemd: up to whole percents
	w.kernel.Memory = 512*mib - 4096
	w.pass(time.Second)
	w.notice()
	if w.calls["inspect"] != 0 || w.exec.Repairs != 0 {
		t.Errorf("calls %v, repaired %d", w.calls, w.exec.Repairs)
	}
}

// A container that is met for the first time is taken as it is.
func TestFirstMeetingChangesNothing(t *testing.T) {
	w := newWorld(t)
	w.s.Marks = Marks{}
	w.s.OriginalKept, w.s.engine.settled = false, false
	w.engine.CPU, w.kernel.CPU = 3*core, 3*core
	w.pass(time.Second)
	w.exec.Inspect(w.now, w.s)
	w.settle()
	w.notice()
	if w.kernel.CPU != 3*core || !w.s.Marks.ExternalUntil.IsZero() || w.s.Original.CPU != 3*core || len(w.closed) != 0 {
		t.Errorf("kernel %s, marks %+v, original %+v", w.kernel.CPU, w.s.Marks, w.s.Original)
	}
}

// Row 3: killed before the marks were saved: what is in force stays, and is not taken for
// a person's change.
func TestTheNextLifeTakesTheKernelsLimits(t *testing.T) {
	w := newWorld(t)
	w.s.engine.settled, w.s.Adopt = false, true
	w.kernel.CPU, w.kernel.Memory = core/2, 300*mib // of the start before; the marks do not have it
	w.pass(time.Second)
	w.exec.Inspect(w.now, w.s)
	w.settle()
	w.pass(time.Minute)
	w.notice()
	if w.kernel.CPU != core/2 || w.kernel.Memory != 300*mib || !w.s.Marks.ExternalUntil.IsZero() || w.exec.Repairs != 0 ||
		w.engine.CPU != core {
		t.Errorf("kernel %s, %s, external %s, Engine %s", w.kernel.CPU, w.kernel.Memory, w.s.Marks.ExternalUntil,
			w.engine.CPU)
	}
}

// heldBack makes an inspect whose answer comes in after all that is done before the
// returned function: the Engine answered it at once, and the loop hears of it late.
func (w *world) heldBack() (come func()) {
	w.t.Helper()
	w.exec.Inspect(w.now, w.s)
	after := <-w.exec.workers.Results()
	return func() {
		w.exec.workers.Finish(after)
		w.settle()
		w.pass(0)
	}
}

// An inspect that was answered before an update of the daemon's own, and arrives after
// it, has outdated limits: they are no external change. A real one is seen by the next
// inspect.
func TestAnAnswerFromBeforeAnUpdateIsNobodysChange(t *testing.T) {
	for name, adopt := range map[string]bool{"without a crash": false, "after a crash": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.s.Adopt, w.s.engine.settled = adopt, !adopt
			asked := func(r knowledge.Resource, to int64) {
				t.Helper()
				d := w.decide(r, to, knowledge.ActorUser)
				done := false
				if r := w.exec.Apply(w.now, w.s, d, func(knowledge.Record) { done = true }); !r.Acted {
					t.Fatalf("not done: %s", r.Reason)
				}
				for !done {
					w.exec.workers.Finish(<-w.exec.workers.Results())
				}
			}
			come := w.heldBack()
			asked(knowledge.ResourceCPU, int64(12*core/10))
			come()
			come = w.heldBack()
			asked(knowledge.ResourceMemory, int64(600*mib))
			come()
			w.exec.Inspect(w.now, w.s)
			w.settle()
			w.notice()
			if w.s.LastChange.Action.Actor != knowledge.ActorUser || !w.s.Marks.ExternalUntil.IsZero() ||
				w.s.Original.CPU != core || w.s.Unread {
				t.Errorf("external until %s, the original %+v, unread %v, newest %+v", w.s.Marks.ExternalUntil, w.s.Original,
					w.s.Unread, w.s.LastChange.Action)
			}
			if m := &w.s.Marks; w.s.Adopt || m.Engine.CPU != 12*core/10 || m.Engine.Memory != 600*mib {
				t.Errorf("adopt %v, the Engine is thought to hold %+v", w.s.Adopt, m.Engine)
			}
			come = w.heldBack()
			w.person(2*core, 600*mib)
			asked(knowledge.ResourceMemory, int64(650*mib))
			come()
			if !w.s.Unread {
				t.Error("no inspect is planned")
			}
			w.exec.Inspect(w.now, w.s)
			w.settle()
			if w.s.LastChange.Action.Actor != knowledge.ActorExternal || w.s.Original.CPU != 2*core {
				t.Errorf("a person's change is lost: %+v", w.s.LastChange.Action)
			}
		})
	}
}
