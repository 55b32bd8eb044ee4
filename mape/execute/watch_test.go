package execute

import (
	"slices"
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// A cut that does harm is undone at once, the floor is raised for an hour and
// doubles with each repeat, to a day.
func TestUndoOfACutThatHurt(t *testing.T) {
	w := newWorld(t)
	for i, hours := range []int{1, 2, 4, 8, 16, 24, 24} {
		if r := w.cpu(8 * core / 10); !r.Acted {
			t.Fatalf("cut %d: %s", i, r.Reason)
		}
		w.pass(3 * time.Second)
		w.s.Window.ThrottleRatio = 0.6
		w.exec.Review(w.now, w.s)
		if w.kernel.CPU != core {
			t.Fatalf("cut %d: the kernel holds %s", i, w.kernel.CPU)
		}
		f := w.s.Marks.Raised[knowledge.ResourceCPU]
		if f.Value != int64(core) || f.Until.Sub(w.now) != time.Duration(hours)*time.Hour || f.Times != i+1 {
			t.Fatalf("cut %d: raised %+v for %s, want %d h", i, f, f.Until.Sub(w.now), hours)
		}
		w.s.Window.ThrottleRatio = 0
		w.pass(time.Minute)
		if r := w.cpu(8 * core / 10); r.Acted || r.Reason.Rule != knowledge.RuleRaisedFloor {
			t.Fatalf("cut again: %+v", r)
		}
		w.now = f.Until
		w.pass(0)
	}
	if len(w.learned) != 7 || !w.learned[0] {
		t.Errorf("learned %v", w.learned)
	}
	w.pass(8 * 24 * time.Hour)
	w.cpu(8 * core / 10)
	w.pass(3 * time.Second)
	w.s.Window.ThrottleRatio = 0.6
	w.exec.Review(w.now, w.s)
	if f := w.s.Marks.Raised[knowledge.ResourceCPU]; f.Times != 1 {
		t.Errorf("after a week it still counts %d", f.Times)
	}
}

func TestWhatCountsAsHurt(t *testing.T) {
	const cpu, mem = knowledge.ResourceCPU, knowledge.ResourceMemory
	for _, c := range []struct {
		name     string
		resource knowledge.Resource
		after    time.Duration
		set      func(*Container)
		undone   bool
	}{
		{"nothing", cpu, 10 * time.Second, func(*Container) {}, false},
		{"throttled at the same load", cpu, 3 * time.Second, func(c *Container) { c.Window.ThrottleRatio = 0.5 }, true},
		{"throttled, too early to say", cpu, time.Second, func(c *Container) { c.Window.ThrottleRatio = 0.5 }, false},
		{"throttled by a load that grew", cpu, 3 * time.Second,
			func(c *Container) { c.Window.ThrottleRatio, c.Window.Usage = 0.5, 2*core }, false},
		{"throttled within the target", cpu, 3 * time.Second, func(c *Container) { c.Window.ThrottleRatio = 0.2 }, false},
		{"unhealthy", cpu, time.Second, func(c *Container) { c.Health = knowledge.HealthUnhealthy }, true},
		{"restarted", mem, time.Second, func(c *Container) { c.Restarts++ }, true},
		{"row 65: killed", mem, time.Second, func(c *Container) { c.Window.LastOOM = c.Window.At }, true},
		{"pressure", mem, time.Second, func(c *Container) { c.Window.MemoryPressure.Some10 = 1.5 }, true},
		{"a little pressure", mem, time.Second, func(c *Container) { c.Window.MemoryPressure.Some10 = 0.9 }, false},
		{"refaults", mem, time.Second, func(c *Container) { c.Window.RefaultRate = 1100 }, true},
		{"throttled after a memory cut", mem, 3 * time.Second, func(c *Container) { c.Window.ThrottleRatio = 0.5 }, false},
		{"after the watch", cpu, 31 * time.Second, func(c *Container) {}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.v1 = true
			from := w.s.Limit(c.resource)
			if r := w.exec.Apply(w.now, w.s, w.decide(c.resource, from*8/10, knowledge.ActorReflex), nil); !r.Acted {
				t.Fatalf("%+v", r)
			}
			w.settle()
			w.pass(c.after)
			c.set(w.s)
			w.exec.Review(w.now, w.s)
			w.settle()
			w.pass(0)
			if back := w.s.Limit(c.resource) == from; back != c.undone {
				t.Errorf("undone: %v", back)
			}
			if raised := w.s.Marks.Raised[c.resource].Value != 0; raised != c.undone {
				t.Errorf("floor raised: %v", raised)
			}
			if c.undone != w.reverted() && c.resource == mem {
				t.Errorf("the record says %+v", w.closed)
			}
		})
	}
}

func (w *world) reverted() bool {
	for _, o := range w.closed {
		if o.Result == knowledge.ResultReverted {
			return true
		}
	}
	return false
}

// Several cuts in a row are undone together; growth ends the watch.
func TestCutsInARow(t *testing.T) {
	w := newWorld(t)
	for _, to := range []knowledge.NanoCPU{9, 8, 7} {
		w.cpu(to * core / 10)
		w.pass(3 * time.Second)
	}
	w.s.Window.ThrottleRatio = 0.9
	w.exec.Review(w.now, w.s)
	if w.kernel.CPU != core {
		t.Errorf("back to %s, want 1.00", w.kernel.CPU)
	}
	w.s.Window.ThrottleRatio = 0
	w.s.Marks.Raised = [2]RaisedFloor{}
	w.cpu(9 * core / 10)
	w.cpu(11 * core / 10)
	if w.s.Watched(w.now) {
		t.Error("growth leaves a watch behind")
	}
}

// What the policy's ceiling, a full host or a person asks for holds, however it
// feels: an undo would fight it for ever.
func TestCutsThatAreNotTakenBack(t *testing.T) {
	for _, rule := range []knowledge.Rule{knowledge.RulePoolShort, knowledge.RuleAboveCeiling} {
		w := newWorld(t)
		d := w.decide(knowledge.ResourceCPU, int64(8*core/10), knowledge.ActorReflex)
		d.Reason = knowledge.Because(rule, 1, 0.8, 4)
		w.exec.Apply(w.now, w.s, d, nil)
		w.pass(3 * time.Second)
		w.s.Window.ThrottleRatio = 0.9
		w.exec.Review(w.now, w.s)
		if w.kernel.CPU != 8*core/10 || w.s.Marks.Raised[0].Times != 0 {
			t.Errorf("%s: kernel %s, floor %+v", rule, w.kernel.CPU, w.s.Marks.Raised[0])
		}
	}
	w := newWorld(t)
	w.exec.Apply(w.now, w.s, w.decide(knowledge.ResourceCPU, int64(8*core/10), knowledge.ActorUser),
		func(knowledge.Record) {})
	w.settle()
	w.pass(3 * time.Second)
	w.s.Window.ThrottleRatio = 0.9
	w.exec.Review(w.now, w.s)
	if w.kernel.CPU != 8*core/10 {
		t.Errorf("a person's cut is undone to %s", w.kernel.CPU)
	}
}

// An undo that meets an update in progress waits for it.
func TestUndoWaitsForTheWriter(t *testing.T) {
	w := newWorld(t)
	w.v1 = true
	w.memory(400 * mib)
	w.settle()
	w.pass(time.Second)
	w.s.InFlight = true
	w.s.Window.MemoryPressure.Some10 = 5
	w.exec.Review(w.now, w.s)
	w.s.InFlight = false
	w.pass(time.Second)
	w.exec.Review(w.now, w.s)
	w.settle()
	if w.kernel.Memory != 512*mib {
		t.Errorf("the kernel holds %s", w.kernel.Memory)
	}
}

// Memory is cut in two steps where there is memory.high: recorded, lowered, watched
// for 5 s, and then followed by the limit.
func TestTwoSteps(t *testing.T) {
	w := newWorld(t)
	if r := w.memory(400 * mib); !r.Acted {
		t.Fatalf("%+v", r)
	}
	w.settle()
	w.happened("record memory", "high 400 MiB")
	if r := w.memory(380 * mib); r.Acted {
		t.Error("a second cut during the first")
	}
	w.pass(4 * time.Second)
	w.exec.Review(w.now, w.s)
	w.settle()
	w.happened()
	w.pass(time.Second)
	w.exec.Review(w.now, w.s)
	w.settle()
	w.happened("high 0 B", "limit 400 MiB", "close applied")
	if w.kernel.Memory != 400*mib || w.high != 0 || len(w.open) != 0 || w.s.Marks.Shrinks != 1 {
		t.Errorf("kernel %s, high %s, open %v, shrinks %d", w.kernel.Memory, w.high, w.open, w.s.Marks.Shrinks)
	}
	if !w.s.Watched(w.now) {
		t.Error("the cut is not watched")
	}
}

// A cut without the bounds of a step, as after a start, is not refused for them at its end; and
// after a cut that was canceled the next one has a first step, too, before the files are read again.
func TestTwoStepsAfterAStart(t *testing.T) {
	w := newWorld(t)
	d := w.decide(knowledge.ResourceMemory, int64(200*mib), knowledge.ActorReflex)
	d.Boost = true
	if r := w.exec.Apply(w.now, w.s, d, nil); !r.Acted || r.Allowed != int64(200*mib) {
		t.Fatalf("%+v", r)
	}
	w.settle()
	w.s.Window.MemoryHigh = w.high // a sample meanwhile
	w.pass(highStep)
	w.exec.Review(w.now, w.s)
	w.settle()
	w.happened("record memory", "high 200 MiB", "high 0 B", "limit 200 MiB", "close applied")

	w = newWorld(t)
	w.memory(400 * mib)
	w.settle()
	w.s.Window.MemoryHigh = w.high
	w.exec.cancelCut(w.now, w.s, "test")
	w.settle()
	w.now = w.now.Add(time.Second)
	w.memory(400 * mib)
	w.settle()
	w.happened("record memory", "high 400 MiB", "high 0 B", "close refused", "record memory", "high 400 MiB")
}

func TestTheFirstStepIsFelt(t *testing.T) {
	for name, feel := range map[string]func(*knowledge.Window){
		"pressure":    func(w *knowledge.Window) { w.MemoryPressure.Some10 = 0.7 },
		"refaults":    func(w *knowledge.Window) { w.RefaultRate = 300 },
		"working set": func(w *knowledge.Window) { w.Hard = 390 * mib },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.memory(400 * mib)
			w.settle()
			w.pass(time.Second)
			feel(w.s.Window)
			w.exec.Review(w.now, w.s)
			w.settle()
			w.happened("record memory", "high 400 MiB", "high 0 B", "close refused")
			f := w.s.Marks.Raised[knowledge.ResourceMemory]
			if w.kernel.Memory != 512*mib || f.Value != int64(512*mib) || f.Times != 1 || len(w.open) != 0 {
				t.Errorf("kernel %s, floor %+v, open %v", w.kernel.Memory, f, w.open)
			}
		})
	}
}

// Growth during the first step does not wait; nor does the end of the daemon, a
// person, or an external change. memory.high is removed each time.
func TestTheFirstStepGivesWay(t *testing.T) {
	for name, come := range map[string]func(*world){
		"growth": func(w *world) { w.memory(600 * mib) },
		"a person": func(w *world) {
			w.exec.Apply(w.now, w.s, w.decide(knowledge.ResourceMemory, int64(600*mib), knowledge.ActorUser),
				func(knowledge.Record) {})
		},
		"the end of the daemon": func(w *world) { w.exec.End(w.now, slices.Values([]*Container{w.s})) },
		"external change": func(w *world) {
			w.kernel.Memory, w.engine.Memory = 800*mib, 800*mib
			w.exec.Inspect(w.now, w.s)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.memory(400 * mib)
			w.settle()
			w.pass(time.Second)
			come(w)
			w.settle()
			if w.high != 0 || w.s.cut.on || len(w.open) != 0 {
				t.Errorf("high %s, probing %v, open %v", w.high, w.s.cut.on, w.open)
			}
			if w.kernel.Memory < 512*mib {
				t.Errorf("cut anyway: %s", w.kernel.Memory)
			}
		})
	}
}

// Row 3: killed between the two steps: the next start finds memory.high lowered,
// and lifts it.
func TestANextLifeLiftsTheFirstStep(t *testing.T) {
	w := newWorld(t)
	w.high = 400 * mib
	w.s.Adopt, w.s.engine.settled = true, false
	w.pass(time.Second)
	w.exec.Inspect(w.now, w.s)
	w.settle()
	if w.high != 0 {
		t.Errorf("memory.high stays at %s", w.high)
	}
}
