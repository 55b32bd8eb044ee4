package execute

import (
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// looks lets time pass as the loop does: limits are read and compared each second.
func (w *world) looks(d time.Duration) {
	w.t.Helper()
	for end := w.now.Add(d); w.now.Before(end); {
		w.pass(time.Second)
		w.notice()
	}
}

// notExternal checks that no own change was taken for somebody else's.
func (w *world) notExternal() {
	w.t.Helper()
	if m := &w.s.Marks; !m.ExternalUntil.IsZero() {
		w.t.Errorf("an own change is somebody else's until %s", m.ExternalUntil)
	}
	if w.s.Original.CPU != core || w.s.Original.Memory != 512*mib || len(w.kept) != 0 {
		w.t.Errorf("the original became %+v", w.s.Original)
	}
}

func (w *world) last() (o knowledge.Outcome) {
	if len(w.closed) > 0 {
		o = w.closed[len(w.closed)-1]
	}
	return o
}

// Row 108: the Engine executes an update, and its answer is lost. The action stays open until an
// inspect finds the limit in the Engine's record.
func TestRow108AnswerLost(t *testing.T) {
	for name, change := range map[string]func(w *world) bool{
		"memory": func(w *world) bool { return w.memory(700 * mib).Acted },
		"cpu":    func(w *world) bool { return w.cpu(2 * core).Acted },
		"scale": func(w *world) bool {
			d := w.decide(knowledge.ResourceMemory, int64(700*mib), knowledge.ActorUser)
			return w.exec.Apply(w.now, w.s, d, func(r knowledge.Record) {
				if r.Outcome.Result != knowledge.ResultOpen || r.Outcome.Message == "" {
					w.t.Errorf("the caller is told %+v", r.Outcome)
				}
			}).Acted
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := freeWorld(t)
			w.exec.Rules.Actuator = knowledge.ActuatorEngine
			w.fail, w.lost = errSick, true
			if !change(w) {
				t.Fatal("not done")
			}
			w.settle()
			if len(w.closed) != 0 {
				t.Errorf("closed before it is known: %+v", w.closed)
			}
			w.fail, w.lost = nil, false
			w.looks(5 * time.Second)
			w.notExternal()
			if o := w.last(); o.Result != knowledge.ResultApplied || len(w.open) != 0 {
				t.Errorf("closed as %+v, %d open", o, len(w.open))
			}
			if o := w.s.LastChange.Outcome; o.Result != knowledge.ResultApplied {
				t.Errorf("the newest change stays %+v", o)
			}
			if asked := w.s.Marks.Asked[knowledge.ResourceMemory]; (asked != 0) != (name == "scale") {
				t.Errorf("requested by a user: %d", asked)
			}
			if !w.s.OriginalKept ||
				!w.s.Touched(knowledge.ResourceCPU, &w.exec.Host) && !w.s.Touched(knowledge.ResourceMemory, &w.exec.Host) {
				t.Error("a restore would find nothing to do")
			}
		})
	}
}

// Row 108: several updates are sent to a stopped Engine, which executes them when it goes on, in
// any order.
func TestRow108ManyAnswersLost(t *testing.T) {
	for _, order := range [][]knowledge.Bytes{{600, 700, 800}, {800, 600, 700}, {700}} {
		w := freeWorld(t)
		w.exec.Rules.Actuator = knowledge.ActuatorEngine
		w.fail = errSick
		for _, m := range []knowledge.Bytes{600, 700, 800} {
			d := w.decide(knowledge.ResourceMemory, int64(m*mib), knowledge.ActorRepair) // no back-off
			if a := w.exec.Apply(w.now, w.s, d, nil); !a.Acted {
				t.Fatalf("%+v", a)
			}
			w.settle()
			w.pass(20 * time.Second)
		}
		w.fail = nil
		for _, m := range order {
			w.engine.Memory, w.kernel.Memory = m*mib, m*mib
			w.looks(3 * time.Second)
			w.notExternal()
		}
		w.looks(2 * time.Minute)
		w.notExternal()
		if len(w.open) != 0 {
			t.Errorf("%v: %d actions stay open", order, len(w.open))
		}
		for _, o := range w.closed {
			want := [...]knowledge.Result{knowledge.ResultSuperseded, knowledge.ResultApplied, knowledge.ResultFailed}[o.Seq-1]
			if len(order) == 1 && o.Result != want { // of the second one is found
				t.Errorf("closed as %+v", o)
			}
		}
	}
}

// Row 108: an update that is not in the record afterwards was not done; one that comes
// later all the same is still not somebody else's.
func TestRow108NotDone(t *testing.T) {
	w := freeWorld(t)
	w.exec.Rules.Actuator = knowledge.ActuatorEngine
	w.fail = errSick
	w.memory(700 * mib)
	w.settle()
	w.fail = nil
	w.looks(5 * time.Second)
	if len(w.closed) != 0 {
		t.Errorf("closed after five seconds: %+v", w.closed)
	}
	w.looks(time.Minute)
	if o := w.last(); o.Result != knowledge.ResultFailed {
		t.Errorf("closed as %+v", o)
	}
	w.engine.Memory, w.kernel.Memory = 700*mib, 700*mib
	w.looks(5 * time.Second)
	w.notExternal()
}

// Row 108: what does not reach the Engine has failed at once.
func TestRow108NotSent(t *testing.T) {
	w := freeWorld(t)
	w.exec.Rules.Actuator = knowledge.ActuatorEngine
	w.fail = unsent{}
	w.memory(700 * mib)
	w.settle()
	if o := w.last(); o.Result != knowledge.ResultFailed || len(w.s.Marks.Sent) != 0 {
		t.Errorf("%+v, %+v", o, w.s.Marks.Sent)
	}
}

// Row 108: a value that was never sent is somebody else's, also while an answer is missing.
func TestRow108SomebodyElse(t *testing.T) {
	w := freeWorld(t)
	w.exec.Rules.Actuator = knowledge.ActuatorEngine
	w.fail, w.lost = errSick, true
	w.memory(700 * mib)
	w.settle()
	w.fail, w.lost = nil, false
	w.person(core, 900*mib)
	w.looks(3 * time.Second)
	if w.s.Marks.ExternalUntil.IsZero() || w.s.Original.Memory != 900*mib {
		t.Errorf("until %s, original %+v", w.s.Marks.ExternalUntil, w.s.Original)
	}
}

// Row 108: the answer to a raise of what the container starts with is lost.
func TestRow108AnswerToARaiseLost(t *testing.T) {
	for _, done := range []bool{true, false} {
		w := freeWorld(t)
		w.fail, w.lost = errSick, done
		w.memory(900 * mib)
		w.settle()
		w.keeps(5 * time.Second)
		w.fail, w.lost = nil, false
		w.keeps(3 * time.Minute)
		w.notExternal()
		if w.engine.Memory != 1035*mib || len(w.open) != 0 {
			t.Errorf("done %v: on record %s, %d open", done, w.engine.Memory, len(w.open))
		}
	}
}

// Row 108: the daemon ended between an update and its answer. It finds its own limit, the
// former one, or one that it sent before.
func TestRow108AnswerLostAcrossARestart(t *testing.T) {
	for _, found := range []knowledge.Bytes{512, 700, 800} {
		w := freeWorld(t)
		w.exec.Rules.Actuator = knowledge.ActuatorEngine
		w.fail = errSick
		w.memory(700 * mib)
		w.settle()
		w.pass(20 * time.Second)
		w.memory(800 * mib)
		w.settle()
		w.fail = nil
		marks := w.s.Marks
		w.engine.Memory, w.kernel.Memory = found*mib, found*mib
		limits := w.s.Original
		*w.s = usualSubject(w.now) // what the marks keep
		w.s.Probe, w.s.Marks = probe{w}, marks
		w.s.Original = limits
		w.looks(5 * time.Second)
		if !w.s.Marks.ExternalUntil.IsZero() || w.s.Original.Memory != 512*mib {
			t.Errorf("found %s: until %s, original %s", found*mib, w.s.Marks.ExternalUntil, w.s.Original.Memory)
		}
	}
}

// Row 109: the Engine is down when a person sets a limit. It is recorded, written to the
// kernel, told so, and the Engine gets it when it is back.
func TestRow109InForceAndTheEngineIsTold(t *testing.T) {
	for _, err := range []error{errSick, unsent{}} {
		for r, to := range []int64{int64(2 * core), int64(700 * mib)} {
			w := freeWorld(t)
			w.fail = err
			w.exec.Host.EngineDown = w.now
			var told knowledge.Record
			d := w.decide(knowledge.Resource(r), to, knowledge.ActorUser)
			if a := w.exec.Apply(w.now, w.s, d, func(rec knowledge.Record) { told = rec }); !a.Acted {
				t.Fatalf("%+v", a)
			}
			w.settle()
			if len(w.log) < 2 || w.log[0] != "record "+knowledge.Resource(r).String() {
				t.Errorf("the journal was not first: %q", w.log)
			}
			if told.Outcome.Result != knowledge.ResultApplied || told.Outcome.Message == "" || told.Outcome.Kernel != to {
				t.Errorf("told %+v", told.Outcome)
			}
			w.fail, w.exec.Host.EngineDown = nil, time.Time{}
			w.s.Pause = &knowledge.Pause{On: true} // also of a paused service
			w.keeps(3 * time.Minute)
			if got := limitOf(&w.engine, knowledge.Resource(r)); got != to {
				t.Errorf("the Engine has %d, want %d", got, to)
			}
		}
	}
}

// Row 109: a cut by a person while the Engine is down is in force as well.
func TestRow109CutWhileTheEngineIsDown(t *testing.T) {
	w := freeWorld(t)
	w.fail, w.exec.Host.EngineDown = unsent{}, w.now
	a := w.exec.Apply(w.now, w.s, w.decide(knowledge.ResourceCPU, int64(core/2), knowledge.ActorUser),
		func(knowledge.Record) {})
	w.settle()
	if !a.Acted || w.kernel.CPU != core/2 {
		t.Errorf("%+v, kernel %s", a, w.kernel.CPU)
	}
}

// Row 109: a restore while the Engine does not answer: in force, and the record follows.
func TestRow109RestoreIsTold(t *testing.T) {
	w := freeWorld(t)
	w.memory(900 * mib)
	w.settle()
	w.keeps(steadyFor + time.Second)
	if w.engine.Memory != 1035*mib {
		t.Fatalf("on record %s", w.engine.Memory)
	}
	w.fail = errSick
	var told knowledge.Record
	d := w.decide(knowledge.ResourceMemory, int64(512*mib), knowledge.ActorRestore)
	if a := w.exec.Apply(w.now, w.s, d, func(rec knowledge.Record) { told = rec }); !a.Acted {
		t.Fatalf("%+v", a)
	}
	w.settle()
	if w.kernel.Memory != 512*mib || told.Outcome.Result != knowledge.ResultApplied || told.Outcome.Message == "" {
		t.Errorf("in force %s, told %+v", w.kernel.Memory, told.Outcome)
	}
	w.fail, w.s.Pause = nil, &knowledge.Pause{On: true}
	w.exec.Inspect(w.now, w.s)
	w.settle()
	w.keeps(3 * time.Minute)
	if w.engine.Memory != 512*mib || w.kernel.Memory != 512*mib {
		t.Errorf("on record %s, in force %s", w.engine.Memory, w.kernel.Memory)
	}
}

// Row 108: what was sent without an answer is bounded in number, saved before it is sent, and
// after an hour such a value is somebody else's.
func TestRow108SentIsBounded(t *testing.T) {
	w := freeWorld(t)
	w.exec.Rules.Actuator = knowledge.ActuatorEngine
	w.fail = errSick
	for i := range 3 * sentMost {
		w.s.Unsaved = false
		w.exec.Apply(w.now, w.s, w.decide(knowledge.ResourceMemory, int64(600+10*i)*int64(mib), knowledge.ActorRepair), nil)
		if !w.s.Unsaved {
			t.Fatal("sent before it is saved")
		}
		w.settle()
	}
	if n, m := len(w.s.Marks.Sent), len(w.s.engine.unclear); n > sentMost || m > sentMost {
		t.Errorf("%d values and %d actions are kept", n, m)
	}
	newest := w.s.Marks.Sent[len(w.s.Marks.Sent)-1].Limit
	w.fail = nil
	w.looks(time.Minute)
	w.notExternal()
	w.pass(sentFor)
	w.person(core, knowledge.Bytes(newest))
	w.looks(3 * time.Second)
	if w.s.Marks.ExternalUntil.IsZero() {
		t.Error("a change an hour later is taken for an own one")
	}
}

// Row 108: a refused update was not done, and the same value by somebody else is external.
func TestRow108RefusedIsClear(t *testing.T) {
	w := freeWorld(t)
	w.exec.Rules.Actuator = knowledge.ActuatorEngine
	w.fail = errRefused
	w.memory(700 * mib)
	w.settle()
	w.fail = nil
	w.exec.Inspect(w.now, w.s) // as the loop does where a record is unread
	w.settle()
	w.person(core, 700*mib)
	w.looks(3 * time.Second)
	if w.s.Marks.ExternalUntil.IsZero() {
		t.Error("a refused value that somebody else set is taken for an own one")
	}
}

// Row 108: an answer says refused, and the Engine has the update all the same: a proxy before its
// socket made the answer.
func TestRow108RefusedAndDone(t *testing.T) {
	for _, by := range []knowledge.Actuator{knowledge.ActuatorEngine, knowledge.ActuatorKernel} {
		w := freeWorld(t)
		w.exec.Rules.Actuator = by
		w.fail, w.lost = errRefused, true
		w.memory(700 * mib)
		w.settle()
		w.keeps(30 * time.Second)
		w.fail, w.lost = nil, false
		if !w.s.Unread && w.engine.Memory == 512*mib {
			t.Error("nothing was sent")
		}
		w.exec.Inspect(w.now, w.s)
		w.settle()
		w.looks(3 * time.Second)
		w.notExternal()
	}
}

// Row 108: the Engine answers that a running container does not exist: the outcome reports what is in
// force.
func TestRow108MissingAndInForce(t *testing.T) {
	w := freeWorld(t)
	w.fail = errGone
	var got knowledge.Record
	w.exec.Apply(w.now, w.s, knowledge.Decision{ID: w.s.ID, Resource: knowledge.ResourceCPU, Verb: knowledge.Grow,
		Actor: knowledge.ActorUser, At: w.now, From: int64(w.kernel.CPU), To: 2 * int64(core)},
		func(r knowledge.Record) { got = r })
	w.settle()
	if w.kernel.CPU != 2*core || got.Outcome.Result != knowledge.ResultApplied || got.Outcome.Message == "" || !w.s.Gone {
		t.Errorf("kernel %s, %+v, gone: %v", w.kernel.CPU, got.Outcome, w.s.Gone)
	}
}

// Row 108: the daemon ends while the answer to a raise of what the container starts with is
// missing; the Engine executes it afterwards.
func TestRow108AnswerToARaiseLostAcrossARestart(t *testing.T) {
	w := freeWorld(t)
	w.fail = errSick
	w.memory(900 * mib)
	w.settle()
	w.keeps(10 * time.Second)
	if w.calls["memory"] == 0 {
		t.Fatal("nothing was sent")
	}
	marks, original := w.s.Marks, w.s.Original
	w.fail, w.engine.Memory = nil, knowledge.Bytes(marks.Sent[0].Limit)
	*w.s = usualSubject(w.now)
	w.s.Probe, w.s.Marks, w.s.Original = probe{w}, marks, original
	w.exec.Inspect(w.now, w.s)
	w.settle()
	w.keeps(5 * time.Second)
	w.notExternal()
}

// Row 108: the actions without an answer of a container that was removed are closed.
func TestRow108Removed(t *testing.T) {
	w := freeWorld(t)
	w.exec.Rules.Actuator = knowledge.ActuatorEngine
	w.fail = errSick
	w.memory(700 * mib)
	w.settle()
	w.exec.DropOriginal(w.s)
	w.settle()
	if o := w.last(); o.Result != knowledge.ResultSuperseded || len(w.open) != 0 {
		t.Errorf("closed as %+v, %d open", o, len(w.open))
	}
}
