package execute

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/effiscale/effiscale/knowledge"
)

// I4: recorded, sent, read back, closed, in this order; and the waiter gets the record last.
func TestOrderOfAnAction(t *testing.T) {
	w := newWorld(t)
	told := knowledge.Record{}
	d := w.decide(knowledge.ResourceMemory, int64(700*mib), knowledge.ActorUser)
	r := w.exec.Apply(w.now, w.s, d, func(rec knowledge.Record) { told = rec; w.say("told") })
	if !r.Acted || !w.s.InFlight {
		t.Fatalf("%+v", r)
	}
	w.settle()
	w.happened("record memory", "limit 700 MiB", "send memory", "close applied", "told")
	if told.Outcome.Kernel != int64(700*mib) || told.Action.Seq == 0 || w.s.InFlight || len(w.open) != 0 {
		t.Errorf("told %+v, open %v", told, w.open)
	}
	if w.kernel.MemorySwap != (700+256)*mib {
		t.Errorf("memory+swap is %s: the allowance of 256 MiB went", w.kernel.MemorySwap)
	}
}

func TestSwapAllowance(t *testing.T) {
	for _, c := range []struct {
		name         string
		memory, swap knowledge.Bytes
		to, want     knowledge.Bytes
	}{
		{"none of it", 512 * mib, 512 * mib, 700 * mib, 700 * mib},
		{"some of it", 512 * mib, 768 * mib, 400 * mib, 656 * mib},
		{"never set", 512 * mib, 0, 700 * mib, 1400 * mib},
		{"unlimited: -1 must never be sent", 512 * mib, -1, 700 * mib, -1},
		{"no limit at all", 0, 0, 700 * mib, 1400 * mib},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.s.Original.Memory, w.s.Original.MemorySwap = c.memory, c.swap
			if got := w.s.swapFor(c.to); got != c.want {
				t.Errorf("%s beside %s, want %s", got, c.to, c.want)
			}
		})
	}
}

// The quota goes to the kernel at once, and into one folded record.
func TestQuotaMovesAreFolded(t *testing.T) {
	w := newWorld(t)
	for _, c := range []float64{1.2, 1.4, 1.5, 1.2, 1.4, 1.2, 1.2001} {
		if r := w.cpu(knowledge.FromCores(c)); !r.Acted && c != 1.2001 {
			t.Fatalf("%+v", r)
		}
		w.pass(time.Second)
	}
	w.happened("quota 1.20", "quota 1.40", "quota 1.50", "quota 1.20", "quota 1.40", "quota 1.20")
	var got []knowledge.Resize
	for _, rec := range w.s.TakeQuotaMoves(w.now) {
		got = append(got, rec.Action.Resize)
	}
	cores := func(c float64) int64 { return int64(knowledge.FromCores(c)) }
	want := []knowledge.Resize{ // a record for each direction
		{Verb: knowledge.Grow, From: cores(1), To: cores(1.5), Count: 3},
		{Verb: knowledge.Shrink, From: cores(1.5), To: cores(1.2), Count: 1},
		{Verb: knowledge.Grow, From: cores(1.2), To: cores(1.4), Count: 1},
		{Verb: knowledge.Shrink, From: cores(1.4), To: cores(1.2), Count: 1},
	}
	if !slices.Equal(got, want) {
		t.Errorf("folded: %+v", got)
	}
	if again := w.s.TakeQuotaMoves(w.now); len(again) > 0 {
		t.Error("folded twice")
	}
	if w.calls["cpu"] != 0 {
		t.Errorf("%d calls of the Engine", w.calls["cpu"])
	}
}

// Row 30 and ENGINE.md 1: an update that failed may be in the kernel in part; the
// kernel is re-read, and the next try waits longer each time. No storm.
func TestFailedUpdate(t *testing.T) {
	for name, c := range map[string]struct {
		err    error
		result knowledge.Result
		least  int // tries in an hour; of a value that was refused not again
	}{"refused": {errRefused, knowledge.ResultRefused, 1}, "failed": {errSick, knowledge.ResultFailed, 6}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.exec.Rules.Actuator = knowledge.ActuatorEngine
			w.fail, w.partly = c.err, true
			w.memory(700 * mib)
			w.settle()
			for c.err == errSick && len(w.closed) == 0 && w.s.Marks.ExternalUntil.IsZero() {
				w.pass(time.Second) // it is not known before
				w.notice()
			}
			if len(w.closed) != 1 || w.closed[0].Result != c.result || w.closed[0].Kernel != int64(700*mib) ||
				w.closed[0].Message == "" {
				t.Fatalf("closed as %+v", w.closed)
			}
			if w.s.Window.MemoryLimit != 700*mib {
				t.Errorf("the window still holds %s", w.s.Window.MemoryLimit)
			}
			w.partly, w.kernel.Memory = false, 512*mib
			begin := w.now
			for w.now.Sub(begin) < time.Hour {
				w.pass(time.Second)
				w.memory(700 * mib)
				w.settle()
			}
			if n := w.calls["memory"]; n < c.least || n > 13 {
				t.Errorf("%d tries in an hour", n)
			}
			w.fail = nil
			w.pass(10 * time.Minute)
			if r := w.memory(700 * mib); !r.Acted {
				t.Errorf("it never tries again: %s", r.Reason)
			}
			w.settle()
			if w.s.retry[knowledge.ResourceMemory].failures != 0 {
				t.Error("success does not end the back-off")
			}
		})
	}
}

// Row 33: the container went away during the update: superseded, and no retry.
func TestGoneDuringTheUpdate(t *testing.T) {
	w := newWorld(t)
	w.exec.Rules.Actuator = knowledge.ActuatorEngine
	w.fail = errGone
	w.memory(700 * mib)
	w.settle()
	if w.closed[0].Result != knowledge.ResultSuperseded || !w.s.Gone {
		t.Errorf("%+v, gone %v", w.closed, w.s.Gone)
	}
	w.exec.Inspect(w.now, w.s)
	w.exec.KeepStart(w.now.Add(time.Hour), w.s)
	if w.calls["inspect"]+w.calls["cpu"] != 0 || w.calls["memory"] != 1 {
		t.Errorf("calls %v", w.calls)
	}
}

// I3: one writer for each container, whatever is asked for in whatever order.
func TestOneWriter(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t)
		w.exec.Rules.Actuator = rapid.SampledFrom([]knowledge.Actuator{knowledge.ActuatorEngine,
			knowledge.ActuatorKernel}).Draw(rt, "actuator")
		w.v1 = rapid.Bool().Draw(rt, "v1")
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			switch rapid.IntRange(0, 6).Draw(rt, "what") {
			case 0:
				w.cpu(knowledge.FromCores(rapid.Float64Range(0.1, 6).Draw(rt, "cores")))
			case 1:
				w.memory(knowledge.Bytes(rapid.Int64Range(200, 4000).Draw(rt, "mib")) * mib)
			case 2:
				d := w.decide(knowledge.ResourceCPU, int64(2*core), knowledge.ActorUser)
				w.exec.Apply(w.now, w.s, d, func(knowledge.Record) {})
			case 3:
				w.exec.SetShares(w.now, w.s, rapid.Int64Range(2, 4000).Draw(rt, "shares"))
			case 4:
				w.exec.KeepStart(w.now, w.s)
			case 5:
				w.exec.Review(w.now, w.s)
				w.pass(time.Duration(rapid.IntRange(0, 60000).Draw(rt, "ms")) * time.Millisecond)
			case 6:
				if w.exec.workers.Open() > 0 {
					w.exec.workers.Finish(<-w.exec.workers.Results())
				}
			}
		}
		w.settle()
		if w.most > 1 {
			rt.Fatalf("%d updates at once", w.most)
		}
		if len(w.open) > 1 || len(w.open) == 1 && !w.s.cut.on {
			rt.Fatalf("left open: %v", w.open)
		}
	})
}

// The Engine puts its own, older quota into the kernel with each of its updates:
// ours comes back at once.
func TestQuotaSurvivesAnEngineUpdate(t *testing.T) {
	w := newWorld(t)
	w.cpu(14 * core / 10)
	w.rewrite = core
	w.happened("quota 1.40")
	w.exec.SetShares(w.now, w.s, 2048)
	w.settle()
	w.happened("send shares", "quota 1.40")
	if w.kernel.CPU != 14*core/10 || w.s.Window.Quota != 14*core/10 {
		t.Errorf("kernel %s, window %s", w.kernel.CPU, w.s.Window.Quota)
	}
}

// Before the first change the original limits are on the disk.
func TestOriginalFirst(t *testing.T) {
	w := newWorld(t)
	w.s.OriginalKept, w.s.Original = false, Original{}
	if r := w.cpu(12 * core / 10); r.Acted || r.Reason.Rule != knowledge.RuleOriginal {
		t.Fatalf("%+v", r)
	}
	w.settle()
	w.happened("keep")
	if !w.s.OriginalKept || w.kept[0].Limits.Memory != 512*mib {
		t.Fatalf("kept %+v", w.kept)
	}
	if r := w.cpu(12 * core / 10); !r.Acted {
		t.Errorf("%+v", r)
	}
}

// Row 49: a full disk stops learning, never scaling.
func TestFullDisk(t *testing.T) {
	w := newWorld(t)
	w.disk = errors.New("no space left on device")
	w.s.OriginalKept = false
	w.memory(700 * mib)
	w.settle()
	r := w.memory(700 * mib)
	w.settle()
	if !r.Acted || w.kernel.Memory != 700*mib {
		t.Errorf("%+v, kernel %s", r, w.kernel.Memory)
	}
	if w.s.LastChange.Outcome.Result != knowledge.ResultApplied || w.s.LastChange.Outcome.Message == "" {
		t.Errorf("%+v", w.s.LastChange.Outcome)
	}
}

// Row 30: an inspect that fails is tried again, more and more seldom.
func TestInspectBacksOff(t *testing.T) {
	w := newWorld(t)
	w.inspect = errSick
	for range 600 {
		w.exec.Inspect(w.now, w.s)
		w.settle()
		w.pass(time.Second)
	}
	if n := w.calls["inspect"]; n < 8 || n > 20 {
		t.Errorf("%d inspects in ten minutes", n)
	}
	w.inspect = nil
	w.pass(2 * time.Minute)
	w.exec.Inspect(w.now, w.s)
	w.settle()
	w.exec.Inspect(w.now, w.s)
	w.settle()
	if w.s.inspection.failures != 0 {
		t.Error("success does not end the back-off")
	}
}

// With the kernel file closed to us the Engine is asked, and spared: cuts come
// each 15 s at most, growth at once.
func TestActuatorEngine(t *testing.T) {
	w := newWorld(t)
	w.broken = errors.New("permission denied")
	if r := w.cpu(14 * core / 10); !r.Acted || w.s.KernelRefused == "" {
		t.Fatalf("%+v, refused %q", r, w.s.KernelRefused)
	}
	w.settle()
	if w.kernel.CPU != 14*core/10 || w.engine.CPU != 14*core/10 {
		t.Fatalf("kernel %s, Engine %s", w.kernel.CPU, w.engine.CPU)
	}
	cuts := 0
	for range 60 {
		w.pass(time.Second)
		if r := w.cpu(w.s.Window.Quota * 9 / 10); r.Acted {
			cuts++
		} else if r.Reason.IsZero() {
			t.Fatal("held without a reason")
		}
		w.settle()
	}
	if cuts > 5 || cuts < 3 {
		t.Errorf("%d cuts in a minute", cuts)
	}
	if r := w.cpu(w.s.Window.Quota * 13 / 10); !r.Acted {
		t.Errorf("growth waits: %+v", r)
	}
	w.settle()
}

// A person's request that meets another action waits and is not dropped.
func TestUserWaits(t *testing.T) {
	w := newWorld(t)
	w.memory(700 * mib)
	d := w.decide(knowledge.ResourceCPU, int64(2*core), knowledge.ActorUser)
	r := w.exec.Apply(w.now, w.s, d, func(knowledge.Record) {})
	if r.Acted || r.Reason.Rule != knowledge.RuleInFlight {
		t.Errorf("%+v", r)
	}
	w.settle()
	r = w.exec.Apply(w.now, w.s, d, func(knowledge.Record) {})
	w.settle()
	if !r.Acted || w.engine.CPU != 2*core || w.kernel.CPU != 2*core {
		t.Errorf("%+v, engine %s", r, w.engine.CPU)
	}
}

// The first limit of an unlimited container: a cut from nothing, both fields of
// memory in one call.
func TestFirstLimit(t *testing.T) {
	w := newWorld(t)
	w.kernel, w.engine = knowledge.Limits{}, knowledge.Limits{}
	w.s.Original, w.s.Marks.Engine = Original{}, knowledge.Limits{}
	w.pass(time.Second)
	if r := w.cpu(2 * core); !r.Acted || w.kernel.CPU != 2*core {
		t.Fatalf("%+v", r)
	}
	if r := w.memory(300 * mib); !r.Acted {
		t.Fatalf("%+v", r)
	}
	w.settle()
	if w.kernel.Memory != 300*mib || w.kernel.MemorySwap != 600*mib {
		t.Errorf("%s, with swap %s", w.kernel.Memory, w.kernel.MemorySwap)
	}
	if w.s.watches[0] != nil || w.s.watches[1] != nil {
		t.Error("a first limit is no cut to be undone")
	}
}

// Restore to no limit: the Engine cannot take a limit away, so all of the host
// counts as none; the marks say so, and nothing is repaired afterwards.
func TestRestoreToUnlimited(t *testing.T) {
	w := newWorld(t)
	w.s.Original = Original{}
	for _, r := range []knowledge.Resource{knowledge.ResourceCPU, knowledge.ResourceMemory} {
		d := knowledge.Decision{ID: w.id, Resource: r, Verb: knowledge.Grow, Actor: knowledge.ActorRestore, At: w.now,
			From: w.s.Limit(r)}
		if got := w.exec.Apply(w.now, w.s, d, func(knowledge.Record) {}); !got.Acted {
			t.Fatalf("%s: %+v", r, got)
		}
		w.settle()
	}
	if w.engine.CPU != 8*core || w.engine.Memory != 16*gib || w.kernel.CPU != 0 || w.kernel.Memory != 0 {
		t.Errorf("the Engine holds %s cores, %s; the kernel %s, %s", w.engine.CPU, w.engine.Memory, w.kernel.CPU,
			w.kernel.Memory)
	}
	if w.s.Touched(knowledge.ResourceCPU, &w.exec.Host) || w.s.Touched(knowledge.ResourceMemory, &w.exec.Host) {
		t.Errorf("still touched: %+v", w.s.Marks)
	}
	w.pass(time.Minute)
	w.exec.Compare(w.now, w.s)
	w.settle()
	if w.exec.Repairs != 0 {
		t.Error("a restore is repaired away")
	}
}

// Two growths in one second do not both get the host's last memory.
func TestHostMemoryIsGrantedOnce(t *testing.T) {
	w := newWorld(t)
	w.exec.Host.MemoryFree = 300 * mib
	w.memory(700 * mib) // 188 MiB of 300
	other := usualSubject(w.now)
	other.Probe, other.Window = probe{w}, &knowledge.Window{ID: "b", At: w.now, Have: ^knowledge.Signals(0),
		WindowMemory: knowledge.WindowMemory{MemoryLimit: 512 * mib}}
	d := w.decide(knowledge.ResourceMemory, int64(700*mib), knowledge.ActorReflex)
	d.From = int64(512 * mib)
	if r := Admit(&Request{Now: w.now, Decision: &d, Container: &other, Host: &w.exec.Host,
		Rules: &w.exec.Rules}); r.Allowed != int64((512+112)*mib) {
		t.Errorf("the second one gets %s", knowledge.Bytes(r.Allowed))
	}
	w.settle()
}

func TestHandsAreBounded(t *testing.T) {
	hands := NewWorkers(t.Context(), 1, 4)
	block := make(chan struct{})
	ran := 0
	for i := range 10 {
		ok := hands.Do(func(context.Context) func() { <-block; return func() { ran++ } })
		if ok != (i < 4) {
			t.Errorf("job %d: %v", i, ok)
		}
	}
	close(block)
	for hands.Open() > 0 {
		hands.Finish(<-hands.Results())
	}
	hands.Close()
	if ran != 4 {
		t.Errorf("%d ran", ran)
	}
}
