package execute

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/effiscale/effiscale/knowledge"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// Each guard, alone and in its place: rows 37, 38, 53, 57, 60, 63, 64, 68, 74.
func TestGuards(t *testing.T) {
	const cpu, mem = knowledge.ResourceCPU, knowledge.ResourceMemory
	C := func(c float64) int64 { return int64(knowledge.FromCores(c)) }
	M := func(m int64) int64 { return m * int64(mib) }
	for _, test := range []struct {
		name     string
		guard    string // that changes the value; "": none
		resource knowledge.Resource
		to, want int64
		actor    knowledge.Actor
		set      func(*Container, *Host, *Rules, *knowledge.Decision)
	}{
		{"all is well", "", cpu, C(1.4), C(1.4), 0, nil},
		{"all is well, down", "", mem, M(400), M(400), 0, nil},
		{"recommend", "mode", cpu, C(1.2), C(1), 0, func(c *Container, _ *Host, _ *Rules,
			_ *knowledge.Decision) {
			c.Policy.Mode = knowledge.ModeRecommend
		}},
		{"observe, and a person asks", "mode", cpu, C(1.2), C(1), knowledge.ActorUser,
			func(c *Container, _ *Host, _ *Rules, _ *knowledge.Decision) { c.Policy.Mode = knowledge.ModeObserve }},
		{"observe, and drift", "mode", cpu, C(1.2), C(1), knowledge.ActorRepair,
			func(c *Container, _ *Host, _ *Rules, _ *knowledge.Decision) { c.Policy.Mode = knowledge.ModeObserve }},
		{"observe, and restore", "", cpu, C(1.2), C(1.2), knowledge.ActorRestore,
			func(c *Container, _ *Host, _ *Rules, _ *knowledge.Decision) { c.Policy.Mode = knowledge.ModeObserve }},
		{"not opted in", "mode", mem, M(600), M(512), 0, func(c *Container, _ *Host, _ *Rules,
			_ *knowledge.Decision) {
			c.Policy.Managed = false
		}},
		{"row 57: a bad label", "mode", mem, M(600), M(512), 0,
			func(c *Container, _ *Host, _ *Rules, _ *knowledge.Decision) { c.Policy.Problems = []string{"cpu.max"} }},
		{"paused", "paused", cpu, C(1.2), C(1), 0, func(c *Container, _ *Host, _ *Rules,
			_ *knowledge.Decision) {
			c.Pause = &knowledge.Pause{On: true}
		}},
		{"paused, and a person asks", "", cpu, C(1.2), C(1.2), knowledge.ActorUser,
			func(c *Container, _ *Host, _ *Rules, _ *knowledge.Decision) { c.Pause = &knowledge.Pause{On: true} }},
		{"cuts paused", "paused", cpu, C(0.8), C(1), 0, func(c *Container, _ *Host, _ *Rules, _ *knowledge.Decision) {
			c.Pause = &knowledge.Pause{On: true, OnlyDown: true}
		}},
		{"cuts paused, growth", "", cpu, C(1.2), C(1.2), 0, func(c *Container, _ *Host, _ *Rules, _ *knowledge.Decision) {
			c.Pause = &knowledge.Pause{On: true, OnlyDown: true}
		}},
		{"the pause ran out", "", cpu, C(0.8), C(0.8), 0, func(c *Container, _ *Host, _ *Rules, _ *knowledge.Decision) {
			c.Pause = &knowledge.Pause{On: true, Until: noon}
		}},
		{"row 53: safe mode", "safe-mode", cpu, C(1.2), C(1), 0,
			func(_ *Container, h *Host, _ *Rules, _ *knowledge.Decision) { h.Crashes = 3 }},
		{"row 74: late", "late", cpu, C(1.2), C(1), 0, func(_ *Container, h *Host, _ *Rules,
			_ *knowledge.Decision) {
			h.Late = 2 * time.Second
		}},
		{"exited", "running", cpu, C(1.2), C(1), 0, func(c *Container, _ *Host, _ *Rules,
			_ *knowledge.Decision) {
			c.State = knowledge.StateExited
		}},
		{"restarting, and restore", "running", cpu, C(1.2), C(1), knowledge.ActorRestore,
			func(c *Container, _ *Host, _ *Rules, _ *knowledge.Decision) {
				c.State = knowledge.StateRestarting
			}},
		{"row 65: restarting, after an OOM kill", "", mem, M(600), M(600), 0,
			func(c *Container, _ *Host, _ *Rules, d *knowledge.Decision) {
				c.State, d.Reason.Rule = knowledge.StateRestarting, knowledge.RuleOOM
			}},
		{"row 65: restarting, and less after an OOM kill", "running", mem, M(400), M(512), 0,
			func(c *Container, _ *Host, _ *Rules, d *knowledge.Decision) {
				c.State, d.Reason.Rule = knowledge.StateRestarting, knowledge.RuleOOM
			}},
		{"row 65: removed, after an OOM kill", "running", mem, M(600), M(512), 0,
			func(c *Container, _ *Host, _ *Rules, d *knowledge.Decision) {
				c.State, d.Reason.Rule = knowledge.StateDead, knowledge.RuleOOM
			}},
		{"row 65: respect ends with an OOM kill", "", mem, M(700), M(700), 0,
			func(c *Container, _ *Host, _ *Rules, d *knowledge.Decision) {
				c.Marks.ExternalUntil, d.Reason.Rule, d.Boost, c.Window.LastOOM = noon.Add(time.Minute), knowledge.RuleOOM, true,
					noon
			}},
		{"exited, and restore", "", cpu, C(1.2), C(1.2), knowledge.ActorRestore,
			func(c *Container, _ *Host, _ *Rules, _ *knowledge.Decision) { c.State = knowledge.StateExited }},
		{"a GPU", "hazard", mem, M(600), M(512), 0, func(c *Container, _ *Host, _ *Rules,
			_ *knowledge.Decision) {
			c.Hazards = []string{"gpu"}
		}},
		{"a GPU, allowed", "", mem, M(600), M(600), 0, func(c *Container, _ *Host, _ *Rules, _ *knowledge.Decision) {
			c.Hazards, c.Policy.Allow = []string{"gpu"}, []string{"gpu"}
		}},
		{"row 63: a person's change", "external-change", cpu, C(1.2), C(1), 0,
			func(c *Container, _ *Host, _ *Rules, _ *knowledge.Decision) {
				c.Marks.ExternalUntil = noon.Add(time.Minute)
			}},
		{"row 63: it ran out", "", cpu, C(1.2), C(1.2), 0, func(c *Container, _ *Host, _ *Rules,
			_ *knowledge.Decision) {
			c.Marks.ExternalUntil = noon
		}},
		{"row 64: outside the policy", "external-change", cpu, C(1.2), C(1), 0,
			func(c *Container, _ *Host, _ *Rules, _ *knowledge.Decision) { c.Marks.Pinned = true }},
		{"row 65: respect ends where the kernel kills", "", mem, M(700), M(700), 0,
			func(c *Container, _ *Host, _ *Rules, d *knowledge.Decision) {
				c.Marks.ExternalUntil, c.Finding.Memory, d.Boost = noon.Add(time.Minute), knowledge.SymptomCritical, true
			}},
		{"in flight", "in-flight", mem, M(600), M(512), 0, func(c *Container, _ *Host, _ *Rules,
			_ *knowledge.Decision) {
			c.InFlight = true
		}},
		{"in flight, the kernel file is free", "", cpu, C(1.2), C(1.2), 0,
			func(c *Container, _ *Host, _ *Rules, _ *knowledge.Decision) { c.InFlight = true }},
		{"row 30: refused a moment ago", "retry", mem, M(600), M(512), 0,
			func(c *Container, _ *Host, _ *Rules, _ *knowledge.Decision) { c.retry[mem].at = noon.Add(time.Second) }},
		{"row 30: the Engine refused, the kernel does not", "", cpu, C(1.2), C(1.2), 0,
			func(c *Container, _ *Host, _ *Rules, _ *knowledge.Decision) { c.retry[cpu].at = noon.Add(time.Second) }},
		{"row 30: refused, and there is no other way", "retry", cpu, C(1.2), C(1), 0,
			func(c *Container, _ *Host, r *Rules, _ *knowledge.Decision) {
				c.retry[cpu].at, r.Actuator = noon.Add(time.Second), knowledge.ActuatorEngine
			}},
		{"row 26: Engine down, memory grows by its file", "", mem, M(600), M(600), 0,
			func(_ *Container, h *Host, _ *Rules, _ *knowledge.Decision) { h.EngineDown = noon.Add(-time.Minute) }},
		{"row 26: Engine down, the quota grows by its file", "", cpu, C(1.2), C(1.2), 0,
			func(_ *Container, h *Host, _ *Rules, _ *knowledge.Decision) { h.EngineDown = noon.Add(-time.Minute) }},
		{"row 26: Engine down, no cut", "engine", cpu, C(0.8), C(1), 0,
			func(_ *Container, h *Host, _ *Rules, _ *knowledge.Decision) { h.EngineDown = noon.Add(-time.Minute) }},
		{"row 27: Engine restarted, no cut", "engine", cpu, C(0.8), C(1), 0,
			func(_ *Container, h *Host, _ *Rules, _ *knowledge.Decision) {
				h.EngineRestarted = noon.Add(-time.Minute)
			}},
		{"row 27: long ago", "", cpu, C(0.8), C(0.8), 0, func(_ *Container, h *Host, _ *Rules, _ *knowledge.Decision) {
			h.EngineRestarted = noon.Add(-EngineHold)
		}},
		{"row 38: old evidence", "evidence", cpu, C(0.8), C(1), 0,
			func(c *Container, _ *Host, _ *Rules, _ *knowledge.Decision) {
				c.Window.At = noon.Add(-16 * time.Second)
			}},
		{"no evidence", "evidence", mem, M(400), M(512), 0, func(c *Container, _ *Host, _ *Rules,
			_ *knowledge.Decision) {
			c.Window.Have = 0
		}},
		{"over the maximum", "bounds", cpu, C(9), C(6), 0, func(_ *Container, _ *Host, _ *Rules,
			d *knowledge.Decision) {
			d.Boost = true
		}},
		{"under the minimum", "bounds", mem, M(10), M(150), knowledge.ActorUser, nil}, // and then the working set
		{"a person's raise over a maximum that lies below", "bounds", cpu, C(2), C(1), knowledge.ActorUser,
			func(c *Container, _ *Host, _ *Rules, _ *knowledge.Decision) { c.Policy.CPU.Max = core / 2 }},
		{"row 68: the host's cores", "host-cpu", cpu, C(1.4), C(1.2), 0,
			func(_ *Container, h *Host, _ *Rules, _ *knowledge.Decision) { h.CPUPool = 12 * core / 10 }},
		{"step up", "step", cpu, C(4), C(1.5), 0, nil},
		{"step up, a boost", "", cpu, C(4), C(4), 0, func(_ *Container, _ *Host, _ *Rules,
			d *knowledge.Decision) {
			d.Boost = true
		}},
		{"step down", "step", cpu, C(0.1), C(0.7), 0, nil},
		{"working set", "working-set", mem, M(400), M(464), 0, func(c *Container, _ *Host, _ *Rules, _ *knowledge.Decision) {
			c.Window.Hard = 396 * mib
			c.Window.Hard = 400 * mib
		}},
		{"working set over the limit", "working-set", mem, M(400), M(512), 0,
			func(c *Container, _ *Host, _ *Rules, _ *knowledge.Decision) { c.Window.Hard = 500 * mib }},
		{"a first limit that cannot hold the use", "working-set", mem, M(100), 0, 0,
			func(c *Container, _ *Host, _ *Rules, d *knowledge.Decision) {
				d.From, c.Window.MemoryLimit, c.Policy.Memory.Max, c.Window.Hard = 0, 0, 100*mib, 200*mib
			}},
		{"raised floor", "raised-floor", cpu, C(0.7), C(0.9), 0,
			func(c *Container, _ *Host, _ *Rules, _ *knowledge.Decision) {
				c.Marks.Raised[cpu] = RaisedFloor{Value: C(0.9), Until: noon.Add(time.Hour)}
			}},
		{"raised floor, over the limit", "raised-floor", cpu, C(0.7), C(1), 0,
			func(c *Container, _ *Host, _ *Rules, _ *knowledge.Decision) {
				c.Marks.Raised[cpu] = RaisedFloor{Value: C(2), Until: noon.Add(time.Hour)}
			}},
		{"raised floor, over", "", cpu, C(0.7), C(0.7), 0, func(c *Container, _ *Host, _ *Rules, _ *knowledge.Decision) {
			c.Marks.Raised[cpu] = RaisedFloor{Value: C(2), Until: noon}
		}},
		{"row 68: the host's memory", "host-memory", mem, M(700), M(608), 0,
			func(_ *Container, h *Host, _ *Rules, _ *knowledge.Decision) { h.MemoryFree = 100 * mib }},
		{"row 68: the host is full", "host-memory", mem, M(700), M(512), 0,
			func(_ *Container, h *Host, _ *Rules, _ *knowledge.Decision) { h.MemoryFree = -gib }},
		{"the day's cuts are spent", "shrink-budget", mem, M(400), M(512), 0,
			func(c *Container, _ *Host, _ *Rules, _ *knowledge.Decision) {
				c.Marks.Day, c.Marks.Shrinks = noon.Unix()/86400, 48
			}},
		{"they were yesterday's", "", mem, M(400), M(400), 0, func(c *Container, _ *Host, _ *Rules, _ *knowledge.Decision) {
			c.Marks.Day, c.Marks.Shrinks = noon.Unix()/86400-1, 48
		}},
		{"rate", "rate", cpu, C(1.2), C(1), 0, func(c *Container, _ *Host, _ *Rules, _ *knowledge.Decision) {
			for range 61 {
				c.rate.add(noon)
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, h, r := usualSubject(noon), usualHost(), usualRules()
			c.Probe = probe{}
			d := knowledge.Decision{ID: c.ID, Resource: test.resource, Actor: test.actor, At: noon, From: c.Limit(test.resource),
				To: test.to}
			if test.set != nil {
				test.set(&c, &h, &r, &d)
			}
			d.Verb = Verb(d.From, d.To)
			got := Admit(&Request{Now: noon, Decision: &d, Container: &c, Host: &h, Rules: &r})
			if got.Allowed != test.want || got.Guard != test.guard {
				t.Errorf("allowed %d by %q (%s), want %d by %q", got.Allowed, got.Guard, got.Reason, test.want, test.guard)
			}
			found := false
			for _, v := range Explain(&Request{Now: noon, Decision: &d, Container: &c, Host: &h, Rules: &r}) {
				found = found || v.Guard == test.guard && !v.Allowed && v.Reason.String() != "" && !v.Reason.IsZero()
			}
			if test.guard != "" && !found {
				t.Errorf("explain does not name %q", test.guard)
			}
		})
	}
}

// Whatever is wished, by whomever, in whatever state: what passes is within the
// policy, over the working set, under the host's budget, in the direction of the
// wish; and nothing passes where nothing may be changed.
func TestJudgeHoldsItsBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, h, r := usualSubject(noon), usualHost(), usualRules()
		c.Probe = probe{}
		res := knowledge.Resource(rapid.IntRange(0, 1).Draw(t, "resource"))
		unit, lo, hi := int64(core/100), int64(c.Policy.CPU.Min), int64(c.Policy.CPU.Max)
		if res == knowledge.ResourceMemory {
			unit, lo, hi = int64(mib), int64(c.Policy.Memory.Min), int64(c.Policy.Memory.Max)
		}
		from := rapid.Int64Range(lo, hi).Draw(t, "from")
		if rapid.IntRange(0, 5).Draw(t, "unlimited") == 0 {
			from = 0
		}
		to := rapid.Int64Range(unit, 2*hi).Draw(t, "to")
		c.Window.Hard = knowledge.Bytes(rapid.Int64Range(0, int64(5*gib)).Draw(t, "working set"))
		h.MemoryFree = knowledge.Bytes(rapid.Int64Range(-int64(gib), int64(4*gib)).Draw(t, "free"))
		c.Window.At = noon.Add(-time.Duration(rapid.Int64Range(0, int64(30*time.Second)).Draw(t, "age")))
		c.Policy.Mode = knowledge.Mode(rapid.IntRange(0, 3).Draw(t, "mode"))
		c.Policy.Managed = rapid.IntRange(0, 9).Draw(t, "managed") > 0
		c.Pause = &knowledge.Pause{On: rapid.IntRange(0, 9).Draw(t, "paused") == 0}
		h.Crashes = rapid.IntRange(-9, 1).Draw(t, "crashes")
		c.Marks.Raised[res] = RaisedFloor{Value: rapid.Int64Range(0, 2*hi).Draw(t, "raised"), Until: noon.Add(time.Hour)}
		actor := rapid.SampledFrom([]knowledge.Actor{knowledge.ActorReflex, knowledge.ActorDeliberation, knowledge.ActorUser,
			knowledge.ActorUndo}).Draw(t, "actor")
		d := knowledge.Decision{
			ID: c.ID, Resource: res, Actor: actor, At: noon, From: from, To: to, Verb: Verb(from, to),
			Boost: rapid.Bool().Draw(t, "boost"),
		}
		got := Admit(&Request{Now: noon, Decision: &d, Container: &c, Host: &h, Rules: &r})
		if got.Allowed == from {
			if from != to && got.Guard == "" {
				t.Fatalf("held without a reason")
			}
			return
		}
		v := got.Allowed
		switch {
		case !c.Policy.Acts():
			t.Fatal("changed where nothing may be changed")
		case actor <= knowledge.ActorDeliberation && (c.Pause.On || h.Crashes > 0):
			t.Fatal("changed while paused or in safe mode")
		case v < lo || v > hi:
			t.Fatalf("%d is outside of %d..%d", v, lo, hi)
		case Verb(from, v) != d.Verb:
			t.Fatalf("a %s became a %s", d.Verb, Verb(from, v))
		case res == knowledge.ResourceCPU && v > int64(h.CPUPool):
			t.Fatal("beyond the host's cores")
		}
		shrinks := from == 0 || v < from
		if shrinks && c.Window.At.Before(noon.Add(-r.EvidenceAge)) {
			t.Fatal("a cut from old evidence")
		}
		if shrinks && actor <= knowledge.ActorDeliberation && v < c.Marks.Raised[res].Value {
			t.Fatal("a cut under the raised floor")
		}
		if res == knowledge.ResourceMemory {
			if shrinks && knowledge.Bytes(v) < c.Window.Hard {
				t.Fatal("a cut under the working set")
			}
			if !shrinks && v-from > int64(max(h.MemoryFree, 0)) {
				t.Fatal("more than the host has")
			}
		}
		if actor <= knowledge.ActorDeliberation && !d.Boost && from != 0 {
			if float64(v) > 1.5*float64(from)+1 || float64(v) < 0.7*float64(from)-1 {
				t.Fatalf("a step from %d to %d", from, v)
			}
		}
		again := Admit(&Request{Now: noon, Decision: &knowledge.Decision{
			ID: d.ID, Resource: res, Actor: actor, At: noon, From: from, To: v, Verb: d.Verb, Boost: d.Boost,
		}, Container: &c, Host: &h, Rules: &r})
		if again.Allowed != v {
			t.Fatalf("what was allowed (%d) becomes %d when it is asked for", v, again.Allowed)
		}
	})
}

func TestRateCountsTheLastMinute(t *testing.T) {
	var r rate
	for i := range 60 {
		r.add(noon.Add(time.Duration(i) * time.Second))
	}
	for _, c := range []struct {
		after time.Duration
		want  float64
	}{{59 * time.Second, 60}, {60 * time.Second, 60}, {90 * time.Second, 30}, {119 * time.Second, 1}, {3 * time.Minute, 0},
		{-24 * time.Hour, 0}} {
		x := r
		if got := x.count(noon.Add(c.after)); got != c.want {
			t.Errorf("after %s: %v, want %v", c.after, got, c.want)
		}
	}
}
