package execute

import (
	"errors"
	"fmt"
	"testing"

	"github.com/effiscale/effiscale/knowledge"
)

// cached is a probe of a container whose memory is mostly page cache.
type cached struct {
	probe
	kept knowledge.Bytes // cannot be reclaimed
}

func (p cached) Reclaim(to knowledge.Bytes) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.say("reclaim %s", to)
	if to < p.kept {
		return fmt.Errorf("%s are in use and cannot be reclaimed", p.kept)
	}
	return nil
}

func (w *world) restore(r knowledge.Resource) (a Admission, rec knowledge.Record) {
	d := w.decide(r, limitOf(&w.s.Original.Limits, r), knowledge.ActorRestore)
	a = w.exec.Apply(w.now, w.s, d, func(got knowledge.Record) { rec = got })
	w.settle()
	return a, rec
}

// Row 107: page cache does not keep a restore from the original limit: it is given back first.
// What is in use does, and has its reason.
func TestRow107RestoreReclaims(t *testing.T) {
	for _, actuator := range []knowledge.Actuator{knowledge.ActuatorKernel, knowledge.ActuatorEngine} {
		w := freeWorld(t)
		w.s.Original.Memory, w.s.Original.MemorySwap = 256*mib, 256*mib
		w.s.Probe = cached{probe{w}, 200 * mib}
		w.kernel.Memory, w.engine.Memory = 727*mib, 727*mib
		w.s.Marks.Engine.Memory = 727 * mib
		w.s.Window.WorkingSet, w.s.Window.Hard = 380*mib, 80*mib
		w.exec.Rules.Actuator = actuator
		w.pass(0)
		a, rec := w.restore(knowledge.ResourceMemory)
		if actuator == knowledge.ActuatorEngine { // the kernel's files are not for it to write
			if w.engine.Memory != 399*mib || a.Reason.Rule != knowledge.RuleWorkingSet {
				t.Errorf("through the Engine: %+v, on record %s", a, w.engine.Memory)
			}
			continue
		}
		if w.kernel.Memory != 256*mib || w.engine.Memory != 256*mib || rec.Outcome.Result != knowledge.ResultApplied {
			t.Errorf("in force %s, on record %s: %+v, %+v", w.kernel.Memory, w.engine.Memory, a, rec.Outcome)
		}
		if !w.s.Unread {
			t.Error("the record is not read again after a restore")
		}
		w.happened("record memory", "reclaim 256 MiB", "limit 256 MiB", "send restore", "close applied")
	}
}

// Row 107: what cannot be reclaimed is not taken, neither in the kernel nor by an update.
func TestRow107RestoreDoesNotKill(t *testing.T) {
	w := freeWorld(t)
	w.s.Original.Memory = 256 * mib
	w.s.Probe = cached{probe{w}, 300 * mib} // more than the last sample tells
	w.kernel.Memory, w.engine.Memory, w.s.Marks.Engine.Memory = 727*mib, 727*mib, 727*mib
	w.s.Window.WorkingSet, w.s.Window.Hard = 380*mib, 80*mib
	w.pass(0)
	_, rec := w.restore(knowledge.ResourceMemory)
	if rec.Outcome.Result != knowledge.ResultRefused || rec.Outcome.Message == "" || w.kernel.Memory != 727*mib ||
		w.engine.Memory != 727*mib {
		t.Errorf("%+v: in force %s, on record %s", rec.Outcome, w.kernel.Memory, w.engine.Memory)
	}
	w.s.Window.Hard = 400 * mib
	a, _ := w.restore(knowledge.ResourceMemory)
	if a.Allowed != int64(420*mib) || a.Reason.Rule != knowledge.RuleWorkingSet || w.kernel.Memory != 420*mib ||
		w.engine.Memory != 727*mib {
		t.Errorf("%+v: in force %s, on record %s", a, w.kernel.Memory, w.engine.Memory)
	}
}

// Row 107: the message of the outcome names what the Engine cannot set back, or its error. The
// kernel has the original limit in each case.
func TestRow107WhatIsLeft(t *testing.T) {
	for name, c := range map[string]struct {
		left string
		fail error
	}{"left": {left: "the record keeps NanoCpus"}, "refused": {fail: errRefused}, "failed": {fail: errors.New("no answer")}} {
		w := freeWorld(t)
		w.s.Original = Original{}
		w.left, w.fail = c.left, c.fail
		_, rec := w.restore(knowledge.ResourceCPU)
		if rec.Outcome.Result > knowledge.ResultAdjusted || rec.Outcome.Message == "" || w.kernel.CPU != 0 {
			t.Errorf("%s: %+v, kernel %s", name, rec.Outcome, w.kernel.CPU)
		}
		if again := w.s.Marks.Restore[knowledge.ResourceCPU]; again != (name == "failed") {
			t.Errorf("%s: restored again later: %t", name, again)
		}
	}
}

// Row 107: page cache is reclaimed for a restore only, not for a cut by a user.
func TestRow107OnlyARestoreReclaims(t *testing.T) {
	w := freeWorld(t)
	w.s.Probe = cached{probe{w}, 0}
	w.exec.Apply(w.now, w.s, w.decide(knowledge.ResourceMemory, int64(300*mib), knowledge.ActorUser),
		func(knowledge.Record) {})
	w.settle()
	w.happened("record memory", "limit 300 MiB", "send memory", "close applied")
}

// Row 107: limits that agree after rounding, and not field by field, are restored.
func TestRow107FieldByField(t *testing.T) {
	was := knowledge.Recorded{NanoCPUs: int64(core), Quota: 100_000, Period: 100_000, Memory: 512 << 20, MemorySwap: -1}
	for name, c := range map[string]struct {
		change   func(is *knowledge.Recorded)
		cpu, mem bool // the limit is as it was
	}{
		"same":     {func(*knowledge.Recorded) {}, true, true},
		"nanocpus": {func(is *knowledge.Recorded) { is.NanoCPUs = 0 }, false, true},
		"quota":    {func(is *knowledge.Recorded) { is.Quota = 50_000 }, false, true},
		"period":   {func(is *knowledge.Recorded) { is.Period = 0 }, false, true},
		"memory":   {func(is *knowledge.Recorded) { is.Memory -= 4096 }, true, false},
		"swap":     {func(is *knowledge.Recorded) { is.MemorySwap = 16 << 30 }, true, false},
	} {
		w := freeWorld(t)
		w.s.Original.Recorded, w.s.Marks.Engine.Recorded = was, was
		c.change(&w.s.Marks.Engine.Recorded)
		if cpu, mem := w.s.AsOriginal(knowledge.ResourceCPU), w.s.AsOriginal(knowledge.ResourceMemory); cpu != c.cpu ||
			mem != c.mem {
			t.Errorf("%s: as original: cpu %t, memory %t", name, cpu, mem)
		}
	}
	w := freeWorld(t)
	w.s.Original.Recorded = was
	w.s.Marks.Engine.Recorded = was     // of the newest inspect
	w.s.Marks.Engine.Memory = 600 * mib // sent since
	if w.s.AsOriginal(knowledge.ResourceMemory) {
		t.Error("compared with what was inspected before the newest update")
	}
}

// Row 107: swap without a limit is in force again at once; the Engine only has it on record.
func TestRow107UnlimitedSwap(t *testing.T) {
	w := freeWorld(t)
	w.s.Original.MemorySwap, w.kernel.MemorySwap = -1, 16*gib
	w.kernel.Memory, w.engine.Memory, w.s.Marks.Engine.Memory = 600*mib, 600*mib, 600*mib
	if _, rec := w.restore(knowledge.ResourceMemory); rec.Outcome.Result != knowledge.ResultApplied ||
		w.kernel.Memory != 512*mib || w.kernel.MemorySwap != -1 {
		t.Errorf("%+v, kernel %s, with swap %d", rec.Outcome, w.kernel.Memory, w.kernel.MemorySwap)
	}
}
