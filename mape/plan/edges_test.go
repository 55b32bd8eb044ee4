package plan_test

import (
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape/analyse"
	"github.com/effiscale/effiscale/mape/plan"
)

// bench is a reflex with a window in its hands, at an instant of its own.
type bench struct {
	r   plan.Reflex
	now time.Time
	w   knowledge.Window
	e   knowledge.Envelope
	p   knowledge.Policy
}

func newBench() *bench {
	b := &bench{}
	b.now, _, b.w, b.e, b.p = steadyWorld()
	b.cpu() // the first look: what follows is not held for being new
	b.later(time.Minute)
	return b
}

func (b *bench) later(d time.Duration) {
	b.now = b.now.Add(d)
	b.w.At = b.now
}

func (b *bench) finding() knowledge.Finding {
	return analyse.Assess(b.now, &b.w, &b.p, nil, time.Second)
}

func (b *bench) cpu() knowledge.Decision {
	f := b.finding()
	return b.r.CPU(b.now, &f, &b.w, &b.e, &b.p)
}

func (b *bench) memory() knowledge.Decision {
	f := b.finding()
	return b.r.Memory(b.now, &f, &b.w, &b.e, &b.p)
}

// apply lets a decision take effect, 10 ms later.
func (b *bench) apply(d knowledge.Decision) {
	b.later(10 * time.Millisecond)
	if d.Resource == knowledge.ResourceCPU {
		b.w.Quota = knowledge.NanoCPU(d.To)
	} else {
		b.w.MemoryLimit = knowledge.Bytes(d.To)
	}
	b.r.Applied(b.now, d)
}

func (b *bench) throttle(held knowledge.NanoCPU) {
	b.w.Usage, b.w.UsageMax, b.w.Missing = b.w.Quota, b.w.Quota, held
	b.w.ThrottledPeriods, b.w.ThrottledRun, b.w.ThrottleRatio = 1, 1, 0.1
}

func (b *bench) quiet(use knowledge.NanoCPU) {
	b.w.Usage, b.w.UsageMax, b.w.UsageMean, b.w.UsageStd = use, use, use, 0
	b.w.Missing, b.w.ThrottledPeriods, b.w.ThrottledRun, b.w.ThrottleRatio = 0, 0, 0, 0
}

func expect(t *testing.T, what string, d knowledge.Decision, verb knowledge.Verb, rule knowledge.Rule) {
	t.Helper()
	if d.Verb != verb || d.Reason.Rule != rule {
		t.Errorf("%s: %v, %v (%v); want %v, %v", what, d.Verb, d.Reason, d.Reason.Rule, verb, rule)
	}
}

// The kernel rounds: what lies a rounding under its ceiling, over it, or under
// its floor is there.
func TestRoundingIsNoReasonToMove(t *testing.T) {
	b := newBench()
	b.w.Quota = b.e.CPU.Max - core/200
	b.throttle(4 * core)
	expect(t, "just under the ceiling", b.cpu(), knowledge.Hold, knowledge.RuleAtMax)
	b.w.Quota = b.e.CPU.Max + core/200
	b.quiet(b.w.Quota)
	expect(t, "just over the ceiling", b.cpu(), knowledge.Hold, knowledge.RuleSteady)
	b.w.Quota = b.e.CPU.Max + core
	expect(t, "well over the ceiling", b.cpu(), knowledge.Shrink, knowledge.RuleAboveCeiling)
	b.w.Quota = b.e.CPU.Min - core/200
	b.quiet(b.w.Quota)
	expect(t, "just under the floor", b.cpu(), knowledge.Hold, knowledge.RuleSteady)
	b.w.Quota = b.e.CPU.Min / 2
	expect(t, "well under the floor", b.cpu(), knowledge.Grow, knowledge.RuleBelowFloor)
}

// TestDefaultMinimum: the default minimum is no reason to raise a quota below it; one that
// somebody set, and a need, are. FAULTS row 116.
func TestDefaultMinimum(t *testing.T) {
	b := newBench()
	b.p.CPU.Min, b.p.CPUSource, b.e.CPU.Min = core/20, "default", core/20
	b.w.Quota = core / 50
	b.quiet(core / 1000)
	expect(t, "idle at the file's limit", b.cpu(), knowledge.Hold, knowledge.RuleAtMin)
	b.p.CPUSource = "label"
	expect(t, "below a minimum that was set", b.cpu(), knowledge.Grow, knowledge.RuleBelowFloor)
	b.p.CPUSource, b.e.CPU.Min = "default", core/4
	expect(t, "below a learned floor", b.cpu(), knowledge.Grow, knowledge.RuleBelowFloor)
}

// An interval that began before a boost throttles no second one; a fresh one does.
func TestNoBoostForTheQuotaBefore(t *testing.T) {
	b := newBench()
	b.throttle(core)
	d := b.cpu()
	expect(t, "the first", d, knowledge.Grow, knowledge.RuleBoost)
	b.apply(d)
	b.throttle(core)
	b.later(50 * time.Millisecond)
	if d := b.cpu(); d.Verb != knowledge.Hold {
		t.Errorf("boosted again for what was throttled before: %+v", d)
	}
	b.later(50 * time.Millisecond)
	expect(t, "a fresh interval", b.cpu(), knowledge.Grow, knowledge.RuleBoost)
}

// Growth soon after a cut is a regret: the wait doubles, and is forgotten.
func TestPatienceDoubles(t *testing.T) {
	b := newBench()
	for _, wait := range []time.Duration{10 * time.Second, 20 * time.Second, 40 * time.Second} {
		b.quiet(core / 2)
		b.w.Quota = 2 * core
		b.later(wait - time.Second)
		if wait > 10*time.Second {
			expect(t, "a second too early", b.cpu(), knowledge.Hold, knowledge.RuleCooldown)
		}
		b.later(time.Second)
		d := b.cpu()
		expect(t, "after "+wait.String(), d, knowledge.Shrink, knowledge.RuleSettled)
		b.apply(d)
		b.later(time.Second)
		b.throttle(2 * core)
		d = b.cpu()
		expect(t, "the regret", d, knowledge.Grow, knowledge.RuleUndoCut)
		b.apply(d)
	}
	b.quiet(core / 2)
	b.later(6 * time.Minute)
	b.apply(knowledge.Decision{Verb: knowledge.Grow, From: 1, To: int64(2 * core)})
	b.later(10 * time.Second)
	expect(t, "long after the last regret", b.cpu(), knowledge.Shrink, knowledge.RuleSettled)
}

// The captain's guard: an undo leaves a larger margin than it found.
func TestUndoWidensTheMargin(t *testing.T) {
	margin := func(undone knowledge.Rule) float64 {
		b := newBench()
		b.quiet(core / 2)
		d := b.cpu()
		expect(t, "the cut", d, knowledge.Shrink, knowledge.RuleSettled)
		b.apply(d)
		b.throttle(core / 100)
		b.w.ThrottleRatio = 0.9
		d = b.cpu()
		expect(t, "the undo", d, knowledge.Grow, knowledge.RuleUndoCut)
		d.Reason.Rule = undone
		b.apply(d)
		b.quiet(core / 2)
		b.later(time.Minute)
		return b.cpu().Reason.Args[1]
	}
	if undo, other := margin(knowledge.RuleUndoCut), margin(knowledge.RuleUser); undo <= other {
		t.Errorf("a margin of %v after an undo, %v without", undo, other)
	}
}

// One burst of cache that is missed asks for one raise, not for one at every look.
func TestOneRaiseForOneEvent(t *testing.T) {
	b := newBench()
	b.w.MemoryLimit, b.w.MemoryUsage, b.w.Hard, b.w.Cache = 256*mib, 250*mib, 190*mib, 60*mib
	b.w.Growth, b.w.Anon, b.w.AnonPeak, b.w.WorkingSet = 0, 0, 0, 240*mib
	b.w.MaxEvents, b.w.LastMemoryEvent = 3, b.now
	expect(t, "page cache at the limit", b.memory(), knowledge.Hold, knowledge.RuleSteady)
	b.w.RefaultRate, b.w.LastRefault = 1000, b.now
	expect(t, "it is read again", b.memory(), knowledge.Hold, knowledge.RuleSteady)
	d := b.missing()
	expect(t, "it is read again and again", d, knowledge.Grow, knowledge.RuleCacheMissed)
	b.apply(d)
	b.w.MemoryUsage = b.w.MemoryLimit * 95 / 100
	if d := b.memory(); d.Verb != knowledge.Hold {
		t.Errorf("raised again for the same: %+v", d)
	}
	expect(t, "still read again", b.missing(), knowledge.Grow, knowledge.RuleCacheMissed)
	b.w.Have |= knowledge.HasMemoryPressure
	expect(t, "no process waits for memory", b.memory(), knowledge.Hold, knowledge.RuleMemoryNotCalm)
	b.w.MemoryPressure.Some10 = 3
	expect(t, "processes wait for memory", b.missing(), knowledge.Grow, knowledge.RuleCacheMissed)
}

// missing is the decision after half a minute of such readings.
func (b *bench) missing() (d knowledge.Decision) {
	for range 30 {
		b.later(time.Second)
		d = b.memory()
	}
	return d
}

// After a growth nothing shrinks for as long as it must be calm, and after an
// OOM kill (FAULTS row 65) not even what lies over the kill's own floor.
func TestShrinkWaits(t *testing.T) {
	b := newBench()
	expect(t, "calm", b.memory(), knowledge.Shrink, knowledge.RuleMemoryProfile)
	b.r.Applied(b.now, knowledge.Decision{Resource: knowledge.ResourceMemory, Verb: knowledge.Grow,
		From: int64(knowledge.GiB) - 1, To: int64(knowledge.GiB)})
	b.later(b.p.ShrinkAfter - time.Second)
	expect(t, "soon after a growth", b.memory(), knowledge.Hold, knowledge.RuleMemoryNotCalm)
	b.later(time.Second)
	expect(t, "long after a growth", b.memory(), knowledge.Shrink, knowledge.RuleMemoryProfile)

	b.w.MemoryLimit, b.w.LastOOM, b.w.OOMKills = 128*knowledge.MiB, b.now, 1
	b.w.Hard, b.w.MemoryUsage, b.w.AnonPeak = 20*knowledge.MiB, 20*knowledge.MiB, 0
	expect(t, "row 65: killed", b.memory(), knowledge.Grow, knowledge.RuleOOM)
	b.w.MemoryLimit, b.w.OOMKills = knowledge.GiB, 0 // somebody was more generous
	b.later(b.p.OOMProtect - time.Second)
	expect(t, "row 65: 59 minutes later", b.memory(), knowledge.Hold, knowledge.RuleMemoryNotCalm)
	b.later(time.Second)
	expect(t, "row 65: an hour later", b.memory(), knowledge.Shrink, knowledge.RuleMemoryProfile)
}

// A container that is down gets more after a kill alone, and then what is known of it.
func TestRow65AfterKill(t *testing.T) {
	b := newBench()
	b.w.MemoryLimit, b.e.Memory = 64*knowledge.MiB, 512*knowledge.MiB
	after := func() knowledge.Decision { return b.r.AfterKill(b.now, &b.w, b.w.MemoryLimit, &b.e, &b.p) }
	expect(t, "no kill", after(), knowledge.Hold, "")
	b.w.LastOOM = b.now
	d := after()
	expect(t, "killed", d, knowledge.Grow, knowledge.RuleOOM)
	if knowledge.Bytes(d.To) < b.e.Memory || !d.Boost {
		t.Errorf("to %s, boost %v; the service is known to need %s", knowledge.Bytes(d.To), d.Boost, b.e.Memory)
	}
	b.later(b.p.OOMProtect)
	expect(t, "an hour later", after(), knowledge.Hold, "")
	b.w.MemoryLimit, b.w.LastOOM = 0, b.now
	expect(t, "without a limit", after(), knowledge.Hold, "")
}

// The learned envelope moves the reflex: a floor for the quota, a want for memory.
func TestEnvelopeMovesTheReflex(t *testing.T) {
	b := newBench()
	b.e = plan.Deliberate(b.now, plan.Facts{ObservedFor: 2 * time.Hour, CPU: 3 * core, MemoryNeed: 2 * knowledge.GiB},
		&b.p, smallHost, b.e)
	d := b.cpu()
	expect(t, "under the learned floor", d, knowledge.Grow, knowledge.RuleBelowFloor)
	b.apply(d)
	b.later(time.Minute)
	b.quiet(core)
	expect(t, "at the learned floor", b.cpu(), knowledge.Hold, knowledge.RuleProfile)
	d = b.memory()
	if d.Verb != knowledge.Grow || knowledge.Bytes(d.To) < b.e.Memory {
		t.Errorf("memory under the envelope's want of %v: %+v", b.e.Memory, d)
	}
}

// What cannot be measured is not zero: without throttling counters no cut,
// without memory detail no shrink, without memory no decision on it.
func TestUnknownIsNotZero(t *testing.T) {
	b := newBench()
	b.quiet(core / 10)
	b.w.Have &^= knowledge.HasThrottle
	expect(t, "no throttling counters", b.cpu(), knowledge.Hold, knowledge.RuleMissing)
	b.w.Have &^= knowledge.HasMemoryStat
	expect(t, "no memory detail", b.memory(), knowledge.Hold, knowledge.RuleMissing)
	b.w.Have &^= knowledge.HasMemory
	expect(t, "no memory", b.memory(), knowledge.Hold, knowledge.RuleMissing)
}

// FAULTS row 66: a leak is followed to the ceiling, named there, and costs no
// further action, though the kernel kills for it again and again (row 65).
func TestRow66LeakEndsAtItsCeiling(t *testing.T) {
	h := newWorld(2)
	h.every, h.limit, h.quota = near, 96*knowledge.MiB, core
	h.load = func(time.Duration) float64 { return 0.2 }
	h.policy.Memory.Max = 256 * knowledge.MiB
	h.working = func(at time.Duration) knowledge.Bytes { return 64*knowledge.MiB + knowledge.Bytes(1e6*at.Seconds()) }
	h.run(3 * time.Minute)
	if h.limit != 256*knowledge.MiB || h.oomKills > 0 {
		t.Fatalf("before it is full: limit %v, %d kills", h.limit, h.oomKills)
	}
	raises := len(h.done)
	w := &h.track.Window
	expect(t, "near the ceiling", h.reflex.Memory(h.now(), &h.finding, w, &h.envelope, &h.policy), knowledge.Hold,
		knowledge.RuleLeak)
	h.run(time.Minute)
	if h.oomKills == 0 || h.limit != 256*knowledge.MiB || len(h.done) != raises {
		t.Errorf("full: limit %v, %d kills, then %v", h.limit, h.oomKills, h.done[raises:])
	}
}
