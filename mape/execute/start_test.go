package execute

import (
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// freeWorld is a world whose guards let large steps pass.
func freeWorld(t *testing.T) *world {
	w := newWorld(t)
	w.exec.Rules.StepDown, w.exec.Rules.StepUp, w.s.Policy.ShrinksPerDay = 0.1, 10, 1000
	return w
}

// keeps lets time pass as the loop does: the limits are compared, and what the container
// starts with is kept.
func (w *world) keeps(d time.Duration) {
	w.t.Helper()
	for end := w.now.Add(d); w.now.Before(end); {
		w.pass(time.Second)
		if w.s.Unread {
			w.exec.Inspect(w.now, w.s)
			w.settle()
		}
		w.exec.Compare(w.now, w.s)
		w.exec.KeepStart(w.now, w.s)
		w.settle()
	}
}

// restart starts the container again, as the Engine does: the record is in force.
func (w *world) restart() {
	w.kernel, w.high = w.engine, 0
	w.started = w.now
	w.s.Inspected = false
	w.exec.Restarted(w.now, w.s)
	w.pass(time.Second)
	w.exec.Inspect(w.now, w.s)
	w.settle()
}

// starts checks what the Engine has on record, and what is in force.
func (w *world) starts(cpu knowledge.NanoCPU, mem knowledge.Bytes, nowCPU knowledge.NanoCPU, nowMem knowledge.Bytes) {
	w.t.Helper()
	if !sameCPU(w.engine.CPU, cpu) || w.engine.Memory != mem {
		w.t.Errorf("it starts with %s cores, %s; want %s, %s", w.engine.CPU, w.engine.Memory, cpu, mem)
	}
	if !sameCPU(w.kernel.CPU, nowCPU) || w.kernel.Memory != nowMem {
		w.t.Errorf("in force are %s cores, %s; want %s, %s", w.kernel.CPU, w.kernel.Memory, nowCPU, nowMem)
	}
}

// Row 101: a cut is the kernel's alone, growth up to the record too; what the container
// starts with stays, and no call of the Engine is made.
func TestACutIsTheKernelsAlone(t *testing.T) {
	for _, systemd := range []bool{false, true} {
		w := freeWorld(t)
		w.v1, w.systemd = !systemd, systemd
		w.cpu(core / 2)
		w.memory(300 * mib)
		w.settle()
		w.keeps(10 * time.Second)
		if systemd { // memory.high is lowered first, and the limit follows
			w.exec.Review(w.now, w.s)
			w.settle()
		}
		w.keeps(10 * time.Second)
		w.starts(core, 512*mib, core/2, 300*mib)
		w.cpu(9 * core / 10)
		w.memory(500 * mib)
		w.settle()
		w.keeps(10 * time.Second)
		w.starts(core, 512*mib, 9*core/10, 500*mib)
		if w.calls["cpu"]+w.calls["memory"] != 0 {
			t.Errorf("calls of the Engine: %v", w.calls)
		}
		w.restart()
		w.starts(core, 512*mib, core, 512*mib)
	}
}

// Row 101: need beyond the record raises it, soon and for good; what is in force is not
// what the Engine puts there.
func TestNeedRaisesTheRecord(t *testing.T) {
	for _, systemd := range []bool{false, true} {
		w := freeWorld(t)
		w.systemd, w.v1 = systemd, true
		w.cpu(core / 2)
		w.memory(700 * mib)
		w.settle()
		w.keeps(steadyFor + time.Second)
		w.starts(core, 804*mib, core/2, 700*mib)
		for _, to := range []knowledge.NanoCPU{core, 3 * core / 2, 2 * core} {
			w.cpu(to)
			w.pass(time.Second)
		}
		w.keeps(10 * time.Second)
		w.starts(5*core/2, 804*mib, 2*core, 700*mib)
		w.cpu(core / 2)
		w.memory(400 * mib)
		w.settle()
		w.keeps(time.Hour)
		w.starts(5*core/2, 804*mib, core/2, 400*mib)
		if n := w.calls["cpu"] + w.calls["memory"]; n != 2 {
			t.Errorf("%d calls of the Engine", n)
		}
		if !w.s.Marks.ExternalUntil.IsZero() || w.exec.Repairs != 0 {
			t.Errorf("external until %s, %d repairs", w.s.Marks.ExternalUntil, w.exec.Repairs)
		}
	}
}

// Row 101: on cgroup v2 with the systemd driver each update puts the whole record in force. Where
// more memory is in force, and in use, that would kill: it is put on record first.
func TestAnUpdateDoesNotKill(t *testing.T) {
	for name, update := range map[string]func(*world){
		"the record follows": func(w *world) { w.cpu(3 * core) },
		"a person": func(w *world) {
			w.exec.Apply(w.now, w.s, w.decide(knowledge.ResourceCPU, int64(3*core), knowledge.ActorUser),
				func(knowledge.Record) {})
		},
		"restore": func(w *world) {
			w.exec.Apply(w.now, w.s, w.decide(knowledge.ResourceCPU, int64(core), knowledge.ActorRestore),
				func(knowledge.Record) {})
		},
		"restore, later": func(w *world) { w.s.Marks.Restore[knowledge.ResourceCPU] = true },
		"shares":         func(w *world) { w.exec.SetShares(w.now, w.s, 2048) },
	} {
		t.Run(name, func(t *testing.T) {
			w := freeWorld(t)
			w.systemd, w.v1 = true, true
			w.cpu(2 * core)
			w.keeps(followMost + time.Second)
			sent := w.calls["cpu"] + w.calls["shares"]
			w.memory(700 * mib)
			w.settle()
			w.used = 650 * mib
			update(w)
			w.settle()
			w.keeps(steadyFor + 5*time.Second)
			if w.calls["cpu"]+w.calls["shares"] == sent && !strings.HasPrefix(name, "restore") {
				t.Error("no update")
			}
			if w.kills != 0 || w.kernel.Memory != 700*mib || w.engine.Memory < 700*mib {
				t.Errorf("%d kills; in force %s, on record %s", w.kills, w.kernel.Memory, w.engine.Memory)
			}
			if !w.s.Marks.ExternalUntil.IsZero() {
				t.Error("taken for a person's change")
			}
		})
	}
}

// Row 101: on cgroup v2 with the systemd driver an update takes away that there is no swap.
func TestAnUpdateLeavesNoSwap(t *testing.T) {
	for _, swap := range []knowledge.Bytes{512 * mib, 768 * mib} {
		w := freeWorld(t)
		w.systemd, w.v1, w.exec.Host.PutsBack = true, true, true
		w.engine.MemorySwap, w.kernel.MemorySwap = swap, swap
		w.s.Original.MemorySwap, w.s.Marks.Engine.MemorySwap = swap, swap
		w.cpu(2 * core)
		w.keeps(followMost + time.Second)
		if w.calls["cpu"] == 0 || w.kernel.Memory != 512*mib || w.kernel.MemorySwap != swap {
			t.Errorf("%d updates; in force %s, with swap %d", w.calls["cpu"], w.kernel.Memory, w.kernel.MemorySwap)
		}
	}
}

// Row 101: where systemd's daemon-reload puts the record in force, one below what is in use is
// raised within seconds.
func TestTheRecordCoversTheUse(t *testing.T) {
	for _, c := range []struct {
		putsBack bool
		used     knowledge.Bytes
		want     int
	}{{true, 650 * mib, 1}, {true, 300 * mib, 0}, {false, 650 * mib, 0}} {
		w := freeWorld(t)
		w.v1, w.exec.Host.PutsBack = true, c.putsBack
		w.memory(700 * mib)
		w.settle()
		w.s.Window.Hard, w.s.Window.WorkingSet = c.used, c.used
		w.s.Window.Have |= knowledge.HasMemoryStat
		w.keeps(exposedMost + time.Second)
		if w.calls["memory"] != c.want {
			t.Errorf("%+v: %d updates", c, w.calls["memory"])
		}
	}
	for growth, want := range map[float64]knowledge.Bytes{0: 804 * mib, 10 << 20: 1000 * mib, 1 << 40: 1400 * mib} {
		w := freeWorld(t)
		w.v1, w.exec.Host.PutsBack = true, true
		w.memory(700 * mib)
		w.settle()
		w.s.Window.Growth, w.s.Window.Hard, w.s.Window.WorkingSet = growth, 650*mib, 650*mib
		if w.keeps(exposedMost + time.Second); w.engine.Memory != want {
			t.Errorf("a growth of %g: on record %s", growth, w.engine.Memory)
		}
	}
	h := knowledge.Host{CgroupVersion: 2, CgroupDriver: "systemd"}
	if !PutsBack(&h) {
		t.Error("systemd on cgroup v2 does")
	}
	if h.CgroupDriver = "cgroupfs"; PutsBack(&h) {
		t.Error("cgroupfs does not")
	}
}

// Row 125: the record does not follow while the container is paused, and does afterwards or when the
// daemon stops.
func TestRow125NoUpdateWhilePaused(t *testing.T) {
	for _, ends := range []bool{false, true} {
		w := freeWorld(t)
		w.memory(700 * mib)
		w.settle()
		w.s.Window.Stopped = knowledge.StopPaused
		w.keeps(2 * followMost)
		if n := w.calls["memory"]; n != 0 {
			t.Errorf("%d updates of a paused container", n)
		}
		if w.exec.ending = ends; !ends {
			w.s.Window.Stopped = knowledge.StopNone
		}
		w.keeps(followMost + time.Second)
		if w.engine.Memory < 700*mib {
			t.Errorf("ending: %v, on record %s", ends, w.engine.Memory)
		}
	}
}

// Row 101: a ramp of half a minute is a few updates of the record, and a need that creeps up
// within what it was raised ahead is none.
func TestARampIsFewUpdates(t *testing.T) {
	for _, r := range []knowledge.Resource{knowledge.ResourceCPU, knowledge.ResourceMemory} {
		w := freeWorld(t)
		unit := int64(32 * mib)
		if r == knowledge.ResourceCPU {
			unit = int64(core) / 16
		}
		grow := func(to int64) {
			w.exec.Apply(w.now, w.s, w.decide(r, to, knowledge.ActorReflex), nil)
			w.settle()
		}
		for n := int64(17); n <= 46; n++ {
			grow(n * unit)
			w.keeps(time.Second)
		}
		w.keeps(time.Minute)
		sent := w.calls["cpu"] + w.calls["memory"]
		if got := limitOf(&w.engine, r); sent > 3 || got < 46*unit {
			t.Errorf("%s: %d updates, on record %d", r, sent, got)
		}
		for n := int64(46 * 8); n <= 50*8; n++ { // each much later
			grow(n * unit / 8)
			w.keeps(time.Minute)
		}
		if more := w.calls["cpu"] + w.calls["memory"] - sent; more > 1 {
			t.Errorf("%s: %d updates for a need that creeps up by 9 %%", r, more)
		}
	}
}

// Row 101: the end of a container, and that of the daemon, do not wait: the next start has
// what the last one had.
func TestTheRecordFollowsAtTheEnd(t *testing.T) {
	for _, what := range []string{"container", "daemon"} {
		w := freeWorld(t)
		w.cpu(3 * core / 2)
		w.memory(700 * mib)
		w.settle()
		w.exec.KeepStart(w.now, w.s)
		w.settle()
		if n := w.calls["cpu"] + w.calls["memory"]; n > 0 {
			t.Fatalf("%d updates in the middle of a rise", n)
		}
		if what == "container" {
			w.s.State, w.s.Inspected = knowledge.StateExited, false
			w.s.Exited()
			w.exec.Restarted(w.now, w.s)
			w.exec.KeepStart(w.now, w.s)
			w.settle()
			w.s.Probe, w.now = nil, w.now.Add(updateApart)
			w.exec.KeepStart(w.now, w.s)
			w.settle()
		} else {
			for range 3 {
				w.exec.End(w.now, slices.Values([]*Container{w.s}))
				w.settle()
			}
		}
		if w.engine.CPU < 3*core/2 || w.engine.Memory < 700*mib {
			t.Errorf("the %s ended: on record %s cores, %s", what, w.engine.CPU, w.engine.Memory)
		}
	}
}

// Row 101: what is put on record ahead of the need stays within the policy's bounds and those
// of the cgroups around.
func TestTheRecordIsAheadWithinBounds(t *testing.T) {
	for name, set := range map[string]func(*world){
		"policy": func(w *world) { w.s.Policy.Memory.Max = 750 * mib },
		"parent": func(w *world) { w.s.Window.Bounds.Memory = 750 * mib },
	} {
		w := freeWorld(t)
		set(w)
		w.memory(700 * mib)
		w.settle()
		w.keeps(time.Minute)
		if w.engine.Memory != 750*mib || w.calls["memory"] != 1 {
			t.Errorf("%s: on record %s after %d updates", name, w.engine.Memory, w.calls["memory"])
		}
	}
}

// Row 101: a growth beyond the record does not wait for the Engine, which may be ill; the
// record follows when it answers.
func TestGrowthDoesNotWaitForTheEngine(t *testing.T) {
	w := freeWorld(t)
	w.fail = errSick
	for mem := 600 * mib; mem <= 1200*mib; mem += 100 * mib {
		w.memory(mem)
		w.cpu(w.s.Window.Quota * 5 / 4)
		w.settle()
		w.keeps(time.Second)
	}
	if w.kernel.Memory != 1200*mib || w.kernel.CPU < 4*core || w.engine.Memory != 512*mib {
		t.Fatalf("in force %s cores, %s; on record %s", w.kernel.CPU, w.kernel.Memory, w.engine.Memory)
	}
	w.fail = nil
	w.keeps(10 * time.Minute)
	if w.engine.Memory != 1380*mib || w.engine.CPU < w.kernel.CPU || !w.s.Marks.ExternalUntil.IsZero() {
		t.Errorf("on record %s cores, %s", w.engine.CPU, w.engine.Memory)
	}
}

// Row 102: the policy's upper bound is what it starts with next, whatever it was made
// with; what is in force stays.
func TestTheCeilingIsWhatItStartsWith(t *testing.T) {
	for name, made := range map[string]knowledge.Limits{
		"no limit":   {},
		"less":       {CPU: core / 2, Dialect: 1, Memory: 256 * mib, MemorySwap: 256 * mib},
		"more":       {CPU: 6 * core, Dialect: 1, Memory: 2 * gib, MemorySwap: 2 * gib},
		"quota form": {CPU: core / 2, Dialect: 2, Period: 50 * time.Millisecond, Memory: 256 * mib, MemorySwap: -1},
	} {
		for _, systemd := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				w := freeWorld(t)
				w.systemd = systemd
				w.kernel, w.engine, w.s.Original.Limits, w.s.Marks.Engine = made, made, made, made
				w.s.Policy.Ceiling = knowledge.Limits{CPU: 2 * core, Memory: 400 * mib}
				w.keeps(10 * time.Second)
				w.starts(2*core, 400*mib, made.CPU, made.Memory)
				if w.engine.Dialect != made.Dialect && made.Dialect != 0 {
					t.Errorf("the form %d became %d", made.Dialect, w.engine.Dialect)
				}
				if w.calls["cpu"] != 1 || w.calls["memory"] != 1 {
					t.Errorf("calls %v", w.calls)
				}
				w.restart()
				w.starts(2*core, 400*mib, 2*core, 400*mib)
			})
		}
	}
}

// Row 102: a ceiling below the memory in use is not put on record before it fits: an update
// of the Engine puts it in force.
func TestTheCeilingWaitsUntilItFits(t *testing.T) {
	w := freeWorld(t)
	w.s.Policy.Ceiling.Memory = 128 * mib
	w.s.Window.WorkingSet, w.s.Window.Hard = 120*mib, 120*mib
	w.keeps(time.Minute)
	if w.calls["memory"] != 0 {
		t.Fatalf("calls %v", w.calls)
	}
	w.s.Window.WorkingSet, w.s.Window.Hard = 20*mib, 20*mib
	w.keeps(10 * time.Second)
	if w.engine.Memory != 128*mib {
		t.Errorf("on record %s", w.engine.Memory)
	}
}

// Row 101: what a container starts with is updated every two seconds at most, because each update
// costs the Engine CPU time.
func TestUpdatesOfTheRecordAreApart(t *testing.T) {
	w := freeWorld(t)
	w.s.Policy.Ceiling = knowledge.Limits{CPU: 2 * core, Memory: gib} // two updates
	for range 15 {
		w.pass(100 * time.Millisecond)
		w.exec.KeepStart(w.now, w.s)
		w.settle()
	}
	if n := w.calls["cpu"] + w.calls["memory"]; n != 1 {
		t.Errorf("%d updates within two seconds", n)
	}
	w.keeps(3 * time.Second)
	w.starts(2*core, gib, core, 512*mib)
}

// Row 102: a ceiling above what the cgroups around the container allow is not put on record.
func TestTheCeilingIsWithinTheCgroupsAround(t *testing.T) {
	w := freeWorld(t)
	w.s.Policy.Ceiling = knowledge.Limits{CPU: 4 * core, Memory: 2 * gib}
	w.s.Window.Bounds = knowledge.Bounds{CPU: 3 * core / 2, Memory: gib}
	w.keeps(time.Minute)
	w.starts(3*core/2, gib, core, 512*mib)
}

// What a person sets goes to both places, down and up, and stays there until it needs more.
func TestAPersonSetsBoth(t *testing.T) {
	for _, to := range []int64{2, 1} {
		w := freeWorld(t)
		w.s.Policy.Ceiling = knowledge.Limits{CPU: 4 * core, Memory: gib}
		w.keeps(10 * time.Second)
		cpu, mem := knowledge.NanoCPU(to)*core*3/4, knowledge.Bytes(to)*300*mib
		for r, limit := range [2]int64{int64(cpu), int64(mem)} {
			d := w.decide(knowledge.Resource(r), limit, knowledge.ActorUser)
			if a := w.exec.Apply(w.now, w.s, d, func(knowledge.Record) {}); !a.Acted {
				t.Fatalf("%+v", a)
			}
			w.settle()
		}
		w.s.Marks.ExternalUntil = w.now.Add(10 * time.Minute)
		w.starts(cpu, mem, cpu, mem)
		w.keeps(20 * time.Minute)
		w.starts(cpu, mem, cpu, mem)
		w.memory(mem + 100*mib)
		w.settle()
		w.keeps(10 * time.Second)
		w.starts(cpu, gib, cpu, mem+100*mib) // it needs more: the policy's bound holds again
	}
}

// A person who asks for more by a factor of what is in force gets no less at the next start;
// what a person asked for is kept over a crash in the same way.
func TestMoreByAFactorLowersNothing(t *testing.T) {
	for r, have := range [2]int64{int64(core / 5), int64(200 * mib)} {
		r := knowledge.Resource(r)
		for _, made := range []knowledge.Limits{
			{CPU: core, Dialect: 1, Memory: 512 * mib, MemorySwap: 768 * mib}, {},
		} {
			w := freeWorld(t)
			w.engine, w.s.Marks.Engine, w.s.Original.Limits = made, made, made
			w.kernel.CPU, w.kernel.Memory = core/5, 200*mib
			w.s.Marks.Quota, w.s.Marks.QuotaSet, w.s.Marks.Memory, w.s.Marks.MemorySet = core/5, true, 200*mib, true
			w.pass(0)
			start := limitOf(&made, r)
			ask := func(to int64) (rec knowledge.Record) {
				d := w.decide(r, to, knowledge.ActorUser)
				d.Reason = knowledge.Because(knowledge.RuleUser, 1.5)
				if a := w.exec.Apply(w.now, w.s, d, func(got knowledge.Record) { rec = got }); !a.Acted {
					t.Fatalf("%+v", a)
				}
				w.settle()
				w.keeps(time.Minute)
				return rec
			}
			rec := ask(have * 3 / 2)
			w.s.AdoptRequest(rec)
			w.keeps(time.Minute)
			if is := limitOf(&w.engine, r); is != start || !same(r, w.s.Limit(r), have*3/2) || w.s.Marks.Asked[r] != 0 {
				t.Errorf("%s: in force %d, starts with %d, was %d", r, w.s.Limit(r), is, start)
			}
			if start == 0 {
				continue
			}
			ask(start * 3 / 2)
			if is := limitOf(&w.engine, r); !same(r, is, start*3/2) || !same(r, w.s.Limit(r), is) {
				t.Errorf("%s: in force %d, starts with %d", r, w.s.Limit(r), is)
			}
		}
	}
}

// A user's limit is in force in the kernel while updates of the Engine fail: the outcome says so,
// and the Engine's record is updated later.
func TestARequestThatTheEngineDoesNotTake(t *testing.T) {
	w := freeWorld(t)
	w.fail = errSick
	var got knowledge.Record
	w.exec.Apply(w.now, w.s, w.decide(knowledge.ResourceCPU, int64(core/2), knowledge.ActorUser),
		func(r knowledge.Record) { got = r })
	w.settle()
	if got.Outcome.Result != knowledge.ResultApplied || got.Outcome.Message == "" || w.kernel.CPU != core/2 {
		t.Fatalf("%+v, in force %s", got.Outcome, w.kernel.CPU)
	}
	w.fail = nil
	w.keeps(time.Minute)
	w.starts(core/2, 512*mib, core/2, 512*mib)
}

// An update whose answer was lost is ours when it shows up later; the same by others is not.
func TestALostAnswerIsOurs(t *testing.T) {
	w := freeWorld(t)
	w.s.Policy.Ceiling.Memory = gib
	w.fail = errSick
	w.keeps(3 * time.Second)
	w.engine.Memory, w.kernel.Memory = gib, gib // it was done all the same, later
	w.fail = nil
	w.exec.Inspect(w.now, w.s)
	w.settle()
	w.keeps(5 * time.Second)
	if !w.s.Marks.ExternalUntil.IsZero() || w.s.Original.Memory != 512*mib || w.s.Marks.Engine.Memory != gib {
		t.Errorf("external until %s, original %s", w.s.Marks.ExternalUntil, w.s.Original.Memory)
	}
	w.person(core, 800*mib)
	w.exec.Inspect(w.now, w.s)
	w.settle()
	if w.s.Marks.ExternalUntil.IsZero() || w.s.Original.Memory != 800*mib {
		t.Errorf("a person's change is lost: original %s", w.s.Original.Memory)
	}
}

// Row 103: a process start after the last one is recognised without an event, too; what was
// in force is remembered, and nothing is repaired.
func TestANewStartIsRecognised(t *testing.T) {
	w := freeWorld(t)
	w.v1, w.started = true, w.now
	w.exec.Inspect(w.now, w.s)
	w.settle()
	w.cpu(core / 2)
	w.memory(300 * mib)
	w.settle()
	w.keeps(10 * time.Second)
	w.started, w.kernel = w.now, w.engine
	w.keeps(10 * time.Second)
	w.starts(core, 512*mib, core, 512*mib)
	m := &w.s.Marks
	if w.exec.Repairs != 0 || m.Before != [2]int64{int64(core / 2), int64(300 * mib)} || !m.ExternalUntil.IsZero() {
		t.Errorf("%d repairs, before %v", w.exec.Repairs, m.Before)
	}
	w.memory(320 * mib)
	w.settle()
	w.memory(310 * mib)
	w.settle()
	if m.Before[knowledge.ResourceMemory] != 0 {
		t.Errorf("it settled, and still goes to %d", m.Before[knowledge.ResourceMemory])
	}
}

// systemd's daemon-reload, and an update of something else, put the record back: drift,
// repaired at once, and nobody's change.
func TestTheRecordInForceIsDrift(t *testing.T) {
	w := freeWorld(t)
	w.v1 = true
	w.cpu(core / 2)
	w.memory(300 * mib)
	w.settle()
	w.keeps(10 * time.Second)
	w.kernel = w.engine
	w.keeps(3 * time.Second)
	w.starts(core, 512*mib, core/2, 300*mib)
	if w.exec.Repairs != 1 || !w.s.Marks.ExternalUntil.IsZero() {
		t.Errorf("%d repairs, external until %s", w.exec.Repairs, w.s.Marks.ExternalUntil)
	}
	w.kernel = w.engine
	w.s.Window.WorkingSet, w.s.Window.Hard = 450*mib, 450*mib // more than before by now
	w.keeps(5 * time.Minute)
	if w.kernel.Memory != 512*mib || w.calls["inspect"] > 10 {
		t.Errorf("in force %s after %d inspects", w.kernel.Memory, w.calls["inspect"])
	}
}

// Row 104: a record below the reservation is repaired, running or not; a person's request,
// a restore, and an engine that is the only way do not make one.
func TestNeverBelowTheReservation(t *testing.T) {
	for _, state := range []knowledge.RunState{knowledge.StateRunning, knowledge.StateExited} {
		w := freeWorld(t)
		w.engine.Memory, w.engine.Reservation = 100*mib, 200*mib // by an earlier version
		w.kernel.Memory = 100 * mib
		w.s.Original.Limits, w.s.Marks.Engine, w.s.State = w.engine, w.engine, state
		if state == knowledge.StateExited {
			w.s.Probe = nil
		}
		w.exec.KeepStart(w.now, w.s)
		w.settle()
		if w.engine.Memory != 200*mib {
			t.Errorf("%s: on record %s", state, w.engine.Memory)
		}
	}
	for _, actor := range []knowledge.Actor{knowledge.ActorUser, knowledge.ActorRestore} {
		w := freeWorld(t)
		w.engine.Reservation, w.s.Marks.Engine.Reservation = 400*mib, 400*mib
		w.exec.Apply(w.now, w.s, w.decide(knowledge.ResourceMemory, int64(300*mib), actor), func(knowledge.Record) {})
		w.settle()
		if w.engine.Memory < 400*mib {
			t.Errorf("%s: on record %s", actor, w.engine.Memory)
		}
	}
	w := freeWorld(t)
	w.v1 = true
	w.engine.Reservation, w.s.Marks.Engine.Reservation = 400*mib, 400*mib
	w.memory(300 * mib) // what is in force may be less
	w.settle()
	w.starts(core, 512*mib, core, 300*mib)
	w.exec.Rules.Actuator = knowledge.ActuatorEngine
	w.s.Window.MemoryLimit = 512 * mib
	w.memory(300 * mib)
	w.settle()
	if w.engine.Memory < 400*mib {
		t.Errorf("by the Engine: on record %s", w.engine.Memory)
	}
}

// More CPUs than the host has left are refused at a start.
func TestTheHostLostCPUs(t *testing.T) {
	w := freeWorld(t)
	w.engine.CPU, w.s.Marks.Engine.CPU, w.s.Original.CPU = 12*core, 12*core, 12*core
	w.kernel.CPU = 12 * core
	w.keeps(3 * time.Second)
	if w.engine.CPU != 8*core || !w.s.Marks.ExternalUntil.IsZero() {
		t.Errorf("on record %s cores", w.engine.CPU)
	}
}

// Where only the Engine can set limits, a cut changes what the container starts with, not
// below a floor, and the record is raised again when it ends.
func TestTheEngineAlone(t *testing.T) {
	w := freeWorld(t)
	w.exec.Rules.Actuator = knowledge.ActuatorEngine
	for range 20 {
		w.cpu(w.s.Window.Quota * 8 / 10)
		w.memory(w.s.Window.MemoryLimit * 9 / 10)
		w.settle()
		w.keeps(time.Minute)
	}
	w.starts(w.kernel.CPU, w.kernel.Memory, w.engine.CPU, w.engine.Memory)
	if w.engine.CPU > core/3 || w.engine.CPU < core/4 || w.engine.Memory > 200*mib {
		t.Fatalf("on record %s cores, %s", w.engine.CPU, w.engine.Memory)
	}
	w.s.Probe, w.s.State, w.s.Inspected = nil, knowledge.StateExited, false
	w.s.Exited()
	w.exec.Restarted(w.now, w.s)
	w.exec.KeepStart(w.now, w.s)
	w.settle()
	w.now = w.now.Add(updateApart)
	w.exec.KeepStart(w.now, w.s)
	w.settle()
	if w.engine.CPU != core || w.engine.Memory != 512*mib {
		t.Errorf("after its end: on record %s cores, %s", w.engine.CPU, w.engine.Memory)
	}
}

// Nothing is put on record where nothing may be changed.
func TestWhatItStartsWithIsNotOursToChange(t *testing.T) {
	for name, set := range map[string]func(*world){
		"observe":  func(w *world) { w.s.Policy.Mode = knowledge.ModeObserve },
		"paused":   func(w *world) { w.s.Pause = &knowledge.Pause{On: true} },
		"safe":     func(w *world) { w.exec.Host.Crashes = 3 },
		"down":     func(w *world) { w.exec.Host.EngineDown = w.now },
		"hazard":   func(w *world) { w.s.Hazards = []string{"gpu"} },
		"pinned":   func(w *world) { w.s.Marks.Pinned = true },
		"external": func(w *world) { w.s.Marks.ExternalUntil = w.now.Add(time.Hour) },
		"original": func(w *world) { w.s.OriginalKept = false },
		"weight":   func(w *world) { w.s.Policy.CPUMode, w.s.Policy.Ceiling.Memory = knowledge.CPUWeight, 0 },
	} {
		w := freeWorld(t)
		w.s.Policy.Ceiling = knowledge.Limits{CPU: 2 * core, Memory: gib}
		set(w)
		w.keeps(time.Minute)
		if w.calls["cpu"]+w.calls["memory"] != 0 {
			t.Errorf("%s: %v", name, w.calls)
		}
	}
}

// The kernel refuses a limit below what is in use: nothing is asked of the Engine, and the
// next try waits.
func TestTheKernelRefusesAMemoryLimit(t *testing.T) {
	w := freeWorld(t)
	w.v1, w.full = true, syscall.EBUSY
	w.memory(300 * mib)
	w.settle()
	if w.calls["memory"] != 0 || w.s.LastChange.Outcome.Result != knowledge.ResultRefused || w.s.KernelRefused != "" {
		t.Errorf("calls %v, %+v, %q", w.calls, w.s.LastChange.Outcome, w.s.KernelRefused)
	}
	if r := w.memory(300 * mib); r.Acted || r.Reason.Rule != knowledge.RuleRetry {
		t.Errorf("%+v", r)
	}
	w.full, w.broken = nil, syscall.EROFS // the files are not ours: the Engine is used
	w.pass(time.Minute)
	w.memory(300 * mib)
	w.settle()
	if w.calls["memory"] != 1 || w.engine.Memory >= 512*mib || w.s.KernelRefused == "" {
		t.Errorf("calls %v, on record %s, %q", w.calls, w.engine.Memory, w.s.KernelRefused)
	}
}
