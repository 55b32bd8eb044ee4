package execute

import (
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// grow asks for more memory for a reason.
func (w *world) grow(to knowledge.Bytes, rule knowledge.Rule) Admission {
	d := w.decide(knowledge.ResourceMemory, int64(to), knowledge.ActorReflex)
	d.Reason, d.Boost = knowledge.Because(rule), rule == knowledge.RuleTimeToFull
	a := w.exec.Apply(w.now, w.s, d, nil)
	w.settle()
	return a
}

// Row 110: a hold after a change by hand keeps cuts and comfort from being made, and never a
// growth without which the kernel kills.
func TestRow110HoldNeverKills(t *testing.T) {
	for _, by := range []string{"", "cli root"} {
		w := freeWorld(t)
		w.v1 = true
		w.pass(0)
		if by == "" {
			w.person(core, 128*mib)
			w.notice()
		} else {
			w.kernel.Memory, w.engine.Memory, w.s.Marks.Engine.Memory = 128*mib, 128*mib, 128*mib
			w.s.Hold(w.now, by, knowledge.ResourceMemory, int64(512*mib))
			w.pass(time.Second)
		}
		w.s.Window.WorkingSet, w.s.Window.Hard = 60*mib, 60*mib
		rule := knowledge.RuleExternal
		if by != "" {
			rule = knowledge.RuleHeld
		}
		for _, comfort := range []knowledge.Rule{knowledge.RuleMemoryProfile, knowledge.RuleMemoryTight,
			knowledge.RuleMemoryPressure, knowledge.RuleOOM} {
			if a := w.grow(200*mib, comfort); a.Acted || a.Reason.Rule != rule {
				t.Errorf("%q: %s: %+v", by, comfort, a)
			}
		}
		if a := w.memory(100 * mib); a.Acted || a.Reason.Rule != rule {
			t.Errorf("%q: a cut: %+v", by, a)
		}
		w.s.Finding.TimeToFull = 5 * time.Second
		if a := w.grow(200*mib, knowledge.RuleTimeToFull); !a.Acted || w.kernel.Memory != 200*mib {
			t.Errorf("%q: it fills: %+v, kernel %s", by, a, w.kernel.Memory)
		}
		if a := w.grow(600*mib, knowledge.RuleMemoryTight); !a.Acted || w.kernel.Memory != 600*mib {
			t.Errorf("%q: beyond the value before: %+v, kernel %s", by, a, w.kernel.Memory)
		}
	}
}

// Row 110: a limit outside the policy is kept; against a kill it grows up to the value before.
func TestRow110PinnedGrowsToTheValueBefore(t *testing.T) {
	w := freeWorld(t)
	w.s.Policy.Memory.Min = 200 * mib
	w.person(core, 128*mib)
	w.notice()
	if !w.s.Marks.Pinned {
		t.Fatal("not outside the policy")
	}
	w.s.Finding.TimeToFull = 5 * time.Second
	if a := w.grow(900*mib, knowledge.RuleTimeToFull); !a.Acted || w.kernel.Memory != 512*mib {
		t.Errorf("%+v, kernel %s", a, w.kernel.Memory)
	}
	if a := w.grow(900*mib, knowledge.RuleTimeToFull); a.Acted || a.Reason.Rule != knowledge.RulePinned {
		t.Errorf("%+v", a)
	}
}

// Row 110: after an OOM kill during a hold the limit is raised; a kill before the change is no
// reason.
func TestRow110KilledDuringTheHold(t *testing.T) {
	for _, during := range []bool{true, false} {
		w := freeWorld(t)
		w.person(core, 128*mib)
		w.notice()
		w.s.Window.LastOOM = w.now.Add(-time.Hour)
		if during {
			w.pass(time.Second)
			w.s.Window.LastOOM = w.now
		}
		if a := w.grow(200*mib, knowledge.RuleOOM); a.Acted != during {
			t.Errorf("killed during the hold: %t: %+v", during, a)
		}
	}
}

// Row 106: a restore by a daemon that does not have the container changes nothing.
func TestRow106RestoreOfAClaimedContainer(t *testing.T) {
	w := freeWorld(t)
	w.cpu(core / 2)
	w.s.Policy.Claimed = "process 5"
	a, _ := w.restore(knowledge.ResourceCPU)
	if a.Acted || a.Reason.Rule != knowledge.RuleClaimed || w.kernel.CPU != core/2 {
		t.Errorf("%+v, in force %s", a, w.kernel.CPU)
	}
}
