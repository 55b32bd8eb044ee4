package plan_test

import (
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape/plan"
	"pgregory.net/rapid"
)

func TestDeliberate(t *testing.T) {
	host := knowledge.Host{CPUs: 4, Memory: 16 * knowledge.GiB}
	day := plan.Facts{ObservedFor: 24 * time.Hour, CPU: core, CPUMax: core * 3 / 2, MemoryNeed: knowledge.GiB,
		MemoryPeak: 1200 * knowledge.MiB}
	type want struct {
		floor, ceiling           knowledge.NanoCPU
		memory, memFloor, memTop knowledge.Bytes
		rule                     knowledge.Rule
	}
	for _, c := range []struct {
		name  string
		facts plan.Facts
		edit  func(p *knowledge.Policy)
		want  want
	}{
		{"nothing known", plan.Facts{}, nil, want{core / 20, 4 * core, 0, 32 * knowledge.MiB, 8 * knowledge.GiB,
			knowledge.RuleNoProfile}},
		{"known for 59 minutes", plan.Facts{ObservedFor: 59 * time.Minute, CPU: core}, nil,
			want{core / 20, 4 * core, 0, 32 * knowledge.MiB, 8 * knowledge.GiB, knowledge.RuleNoProfile}},
		// d = 0.15 + 0.15/√145 = 0.162: 1024 · 1.162 = 1190.4, up to 1191 MiB.
		{"known for a day", day, nil, want{core, 4 * core, 1191 * knowledge.MiB, knowledge.GiB, 8 * knowledge.GiB,
			knowledge.RuleProfile}},
		{"batch is bounded by its past", day,
			func(p *knowledge.Policy) { p.Class = knowledge.ClassBatch; day.CPUMax = core / 2 },
			want{core, 4 * core, 1191 * knowledge.MiB, knowledge.GiB, 8 * knowledge.GiB, knowledge.RuleProfile}},
		{"a floor over the policy's maximum", day, func(p *knowledge.Policy) {
			p.CPU.Max, p.Memory.Max = core/2,
				512*knowledge.MiB
		},
			want{core / 2, core / 2, 512 * knowledge.MiB, 512 * knowledge.MiB, 512 * knowledge.MiB, knowledge.RuleProfile}},
		{"the host is the ceiling", plan.Facts{}, func(p *knowledge.Policy) { p.CPU.Max, p.Memory.Max = 0, 0 },
			want{core / 20, 4 * core, 0, 32 * knowledge.MiB, 16*knowledge.GiB - 16*knowledge.GiB/10, knowledge.RuleNoProfile}},
		{"a target for memory", day, func(p *knowledge.Policy) { p.MemoryTarget = 0.5 },
			want{core, 4 * core, 2 * knowledge.GiB, knowledge.GiB, 8 * knowledge.GiB, knowledge.RuleProfile}},
		{"weights have no quota", day, func(p *knowledge.Policy) { p.CPUMode, p.CPU.Max = knowledge.CPUWeight, core },
			want{core / 20, 4 * core, 1191 * knowledge.MiB, knowledge.GiB, 8 * knowledge.GiB, knowledge.RuleProfile}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := serving(4)
			if c.edit != nil {
				c.edit(&p)
			}
			e := plan.Deliberate(epoch, c.facts, &p, host, knowledge.Envelope{Term: knowledge.Term{Round: 7}})
			got := want{e.CPU.Min, e.CPU.Max, e.Memory, e.MemoryFloor, e.MemoryCeiling, e.Reason.Rule}
			if d := got.memTop - c.want.memTop; d < 2 && d > -2 {
				got.memTop = c.want.memTop
			}
			if got != c.want {
				t.Errorf("got  %+v\nwant %+v", got, c.want)
			}
			if e.Term.Round != 7 || e.ThrottleTarget != p.ThrottleTarget || e.Learned != (got.rule == knowledge.RuleProfile) {
				t.Errorf("%+v", e)
			}
		})
	}
}

// A process gone mad in a batch job takes four times its peak, not the host.
func TestBatchCeiling(t *testing.T) {
	p := serving(64)
	p.Class = knowledge.ClassBatch
	facts := plan.Facts{ObservedFor: 25 * time.Hour, CPU: core, CPUMax: 2 * core}
	host := knowledge.Host{CPUs: 64, Memory: knowledge.GiB}
	if e := plan.Deliberate(epoch, facts, &p, host, knowledge.Envelope{}); e.CPU.Max != 8*core {
		t.Errorf("batch: ceiling %v, want 8", e.CPU.Max)
	}
	p.Class = knowledge.ClassServing
	if e := plan.Deliberate(epoch, facts, &p, host, knowledge.Envelope{}); e.CPU.Max != 64*core {
		t.Errorf("serving: ceiling %v, want the host's", e.CPU.Max)
	}
}

// An envelope is ordered and inside policy and host; asked again with the same
// facts, or with facts a little different, it does not move at all.
func TestEnvelopeDoesNotFlap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, facts := drawPolicy(t), drawFacts(t)
		prev := plan.Deliberate(epoch, drawFacts(t), &p, smallHost, knowledge.Envelope{})
		e := plan.Deliberate(epoch.Add(time.Minute), facts, &p, smallHost, prev)
		if e.CPU.Min > e.CPU.Max || e.MemoryFloor > e.MemoryCeiling || e.Memory > e.MemoryCeiling || e.CPU.Max > 8*core ||
			e.CPU.Max > p.CPU.Max {
			t.Fatalf("out of order: %+v", e)
		}
		if again := plan.Deliberate(epoch.Add(time.Hour), facts, &p, smallHost, e); again != e {
			t.Fatalf("the same facts, another envelope:\n%+v\n%+v", e, again)
		}
		facts.CPU += facts.CPU / 25
		facts.MemoryNeed -= facts.MemoryNeed / 15
		facts.ObservedFor += facts.ObservedFor / 100
		if facts.ObservedFor > 2*time.Hour && e.Learned && e.CPU.Min > 0 {
			if again := plan.Deliberate(epoch.Add(time.Hour), facts, &p, smallHost, e); again.CPU.Min != e.CPU.Min {
				t.Fatalf("a floor that moved from %v to %v for a change of 4 %%", e.CPU.Min, again.CPU.Min)
			}
		}
	})
}

func TestWouldBe(t *testing.T) {
	now, _, w, e, p := steadyWorld()
	w.Usage60 = core
	p.Managed, p.Mode = false, knowledge.ModeObserve
	hour := plan.Facts{ObservedFor: 2 * time.Hour, CPU: core / 2, MemoryNeed: 300 * knowledge.MiB}
	for _, c := range []struct {
		name        string
		facts       plan.Facts
		edit        func(w *knowledge.Window, p *knowledge.Policy)
		cpu, memory int64
		rules       [2]knowledge.Rule
	}{
		// 1 core · 1.3; 200 MiB · (1 + 0.15 + 0.15/√7) = 241.3, at least + 64 MiB: 264 MiB.
		{"by its use", plan.Facts{}, nil, int64(core * 13 / 10), int64(264 * knowledge.MiB),
			[2]knowledge.Rule{knowledge.RuleUsePeak, knowledge.RuleMemoryProfile}},
		{"by its profile", hour, nil, int64(core * 575 / 1000), int64(364 * knowledge.MiB),
			[2]knowledge.Rule{knowledge.RuleProfile, knowledge.RuleMemoryProfile}},
		{"too new", plan.Facts{}, func(w *knowledge.Window, _ *knowledge.Policy) { w.Since = now.Add(-time.Second) },
			int64(2 * core), int64(knowledge.GiB), [2]knowledge.Rule{knowledge.RuleWatching, knowledge.RuleWatching}},
		{"unlimited", hour, func(w *knowledge.Window, _ *knowledge.Policy) { w.Quota, w.MemoryLimit = 0, 0 },
			int64(core * 575 / 1000), int64(364 * knowledge.MiB), [2]knowledge.Rule{knowledge.RuleProfile,
				knowledge.RuleMemoryProfile}},
		{"fits", plan.Facts{}, func(w *knowledge.Window, _ *knowledge.Policy) {
			w.Quota, w.MemoryLimit = core*135/100, 272*knowledge.MiB
		}, int64(core * 135 / 100), int64(272 * knowledge.MiB), [2]knowledge.Rule{knowledge.RuleTolerance,
			knowledge.RuleTolerance}},
		{"never gives memory back", hour, func(_ *knowledge.Window, p *knowledge.Policy) { p.MemoryShrink = false },
			int64(core * 575 / 1000), int64(knowledge.GiB), [2]knowledge.Rule{knowledge.RuleProfile, knowledge.RuleTolerance}},
		{"weights", hour, func(_ *knowledge.Window, p *knowledge.Policy) { p.CPUMode = knowledge.CPUWeight }, 0,
			int64(364 * knowledge.MiB), [2]knowledge.Rule{knowledge.RuleNoCPULimit, knowledge.RuleMemoryProfile}},
		{"no memory read", hour, func(w *knowledge.Window, _ *knowledge.Policy) { w.Have = knowledge.HasCPU },
			int64(core * 575 / 1000), int64(knowledge.GiB), [2]knowledge.Rule{knowledge.RuleProfile, knowledge.RuleMissing}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, p := w, p
			if c.edit != nil {
				c.edit(&w, &p)
			}
			cpu, memory := plan.WouldBe(now, c.facts, &w, &e, &p)
			if cpu.To != c.cpu || memory.To != c.memory {
				t.Errorf("cpu %v, memory %v; want %v, %v", knowledge.NanoCPU(cpu.To), knowledge.Bytes(memory.To),
					knowledge.NanoCPU(c.cpu), knowledge.Bytes(c.memory))
			}
			if got := [2]knowledge.Rule{cpu.Reason.Rule, memory.Reason.Rule}; got != c.rules {
				t.Errorf("rules %v, want %v", got, c.rules)
			}
			for _, d := range [...]knowledge.Decision{cpu, memory} {
				if (d.Verb == knowledge.Hold) != (d.From == d.To) {
					t.Errorf("the verb does not fit the numbers: %+v", d)
				}
			}
		})
	}
}
