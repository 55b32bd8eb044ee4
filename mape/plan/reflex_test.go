package plan_test

import (
	"math"
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape/analyse"
	"github.com/effiscale/effiscale/mape/plan"
	"pgregory.net/rapid"
)

// drawWindow is a container as a stranger would have it: mostly possible, at
// times absurd.
func drawWindow(t *rapid.T, now time.Time) knowledge.Window {
	cpu := func(name string) knowledge.NanoCPU {
		return knowledge.NanoCPU(rapid.OneOf(rapid.Int64Range(0, int64(4*core)), rapid.Int64Range(0, int64(64*core)),
			rapid.SampledFrom([]int64{0, 0, -1, math.MaxInt64})).Draw(t, name))
	}
	size := func(name string) knowledge.Bytes {
		return knowledge.Bytes(rapid.OneOf(rapid.Int64Range(0, int64(512*knowledge.MiB)),
			rapid.Int64Range(0, int64(8*knowledge.GiB)), rapid.SampledFrom([]int64{0, 0, -1, math.MaxInt64})).Draw(t, name))
	}
	ratio := func(name string) float64 {
		return rapid.OneOf(rapid.Just(0.0), rapid.Just(0.0), rapid.Float64Range(0, 1),
			rapid.SampledFrom([]float64{math.NaN(), math.Inf(1), -1, 1e308})).Draw(t, name)
	}
	ago := func(name string) time.Time {
		if d := rapid.Int64Range(0, int64(2*time.Hour)).Draw(t, name); d%3 > 0 {
			return now.Add(-time.Duration(d))
		}
		return time.Time{}
	}
	w := knowledge.Window{
		ID: "x", At: now.Add(-time.Duration(rapid.Int64Range(0, int64(12*time.Second)).Draw(t, "age"))),
		Have: knowledge.HasCPU | knowledge.HasThrottle | knowledge.HasMemory | knowledge.HasMemoryStat |
			knowledge.HasMemoryPressure,
		Samples:  rapid.IntRange(1, 9).Draw(t, "samples"),
		Since:    now.Add(-time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "since"))),
		Interval: 100 * time.Millisecond, Period: cfsPeriod, Periods: 1,
		Usage: cpu("usage"), UsageMax: cpu("max"), UsageMean: cpu("mean"), UsageStd: cpu("std"), Usage60: cpu("peak60"),
		Missing: cpu("missing"), Quota: cpu("quota"),
		ThrottledPeriods: rapid.Uint64Range(0, 1).Draw(t, "throttled"), ThrottledRun: rapid.IntRange(0, 3).Draw(t, "run"),
		ThrottleRatio: ratio("ratio"),
		WindowMemory: knowledge.WindowMemory{MemoryUsage: size("memory"), WorkingSet: size("set"), Anon: size("anon"),
			Hard: size("hard"), AnonPeak: size("anonpeak"), MemoryLimit: size("limit"), Growth: 1e7 * ratio("growth"),
			RefaultRate: ratio("refaults"), LastOOM: ago("oom"), LastMemoryEvent: ago("event")},
	}
	w.MemoryPressure.Some10, w.MemoryPressure.Some60 = ratio("psi10"), ratio("psi60")
	if rapid.IntRange(0, 9).Draw(t, "signals") == 0 {
		w.Have = knowledge.Signals(rapid.Uint16().Draw(t, "have"))
	}
	return w
}

func drawPolicy(t *rapid.T) knowledge.Policy {
	p := serving(8)
	p.CPU.Min = knowledge.NanoCPU(rapid.Int64Range(0, int64(core)).Draw(t, "cpu.min"))
	p.CPU.Max = p.CPU.Min + knowledge.NanoCPU(rapid.Int64Range(int64(core/50), int64(16*core)).Draw(t, "cpu.more"))
	p.Memory.Min = knowledge.Bytes(rapid.Int64Range(0, int64(knowledge.GiB)).Draw(t, "memory.min"))
	p.Memory.Max = p.Memory.Min + knowledge.Bytes(rapid.Int64Range(int64(knowledge.MiB), int64(8*knowledge.GiB)).Draw(t,
		"memory.more"))
	p.MemoryShrink = rapid.Bool().Draw(t, "shrink")
	p.CPUTarget = rapid.SampledFrom([]float64{0, 0, 0.5, 0.9}).Draw(t, "cpu.target")
	p.MemoryTarget = rapid.SampledFrom([]float64{0, 0, 0.5, 0.9}).Draw(t, "memory.target")
	return p
}

func drawFacts(t *rapid.T) plan.Facts {
	f := plan.Facts{
		ObservedFor: time.Duration(rapid.Int64Range(0, int64(48*time.Hour)).Draw(t, "observed")),
		CPU:         knowledge.NanoCPU(rapid.Int64Range(0, int64(4*core)).Draw(t, "facts.cpu")),
		MemoryNeed:  knowledge.Bytes(rapid.Int64Range(0, int64(2*knowledge.GiB)).Draw(t, "facts.memory")),
	}
	f.CPUMax = 2 * f.CPU
	f.Image = plan.Image{
		ObservedFor: time.Duration(rapid.Int64Range(0, int64(100*time.Hour)).Draw(t, "image.observed")),
		CPU:         knowledge.NanoCPU(rapid.Int64Range(0, int64(16*core)).Draw(t, "image.cpu")),
		MemoryNeed:  knowledge.Bytes(rapid.Int64Range(0, int64(32*knowledge.GiB)).Draw(t, "image.memory")),
	}
	f.Image.CPUMax, f.Image.MemoryPeak = 2*f.Image.CPU, 2*f.Image.MemoryNeed
	return f
}

var smallHost = knowledge.Host{CPUs: 8, Memory: 16 * knowledge.GiB}

// Rows 36 and 57, the numbers: whatever was measured and whatever the labels
// said, a limit that moves stays inside policy and host, or comes nearer; memory
// is never set under the working set; only good evidence takes anything away.
func TestDecisionsAreInBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := epoch
		p := drawPolicy(t)
		e := plan.Deliberate(now, drawFacts(t), &p, smallHost, knowledge.Envelope{})
		var r plan.Reflex
		for range rapid.IntRange(1, 6).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.Int64Range(1, int64(15*time.Minute)).Draw(t, "later")))
			w := drawWindow(t, now)
			f := analyse.Assess(now, &w, &p, &knowledge.Container{StartedAt: now.Add(-time.Duration(rapid.Int64Range(0,
				int64(3*time.Minute)).Draw(t, "started")))}, 5*time.Second)
			cpu, memory := r.CPU(now, &f, &w, &e, &p), r.Memory(now, &f, &w, &e, &p)
			checkCPU(t, cpu, &f, &w, &e, &p)
			checkMemory(t, memory, &f, &w, &e, &p)
			if again := r.CPU(now, &f, &w, &e, &p); again != cpu {
				t.Fatalf("asked twice: %+v, then %+v", cpu, again)
			}
			if again := r.Memory(now, &f, &w, &e, &p); again != memory {
				t.Fatalf("asked twice: %+v, then %+v", memory, again)
			}
			r.Applied(now, cpu)
			r.Applied(now, memory)
		}
	})
}

func checkShape(t *rapid.T, d knowledge.Decision, f *knowledge.Finding) {
	switch {
	case d.Reason.IsZero():
		t.Fatalf("no reason: %+v", d)
	case d.Verb == knowledge.Hold && d.From != d.To,
		d.Verb == knowledge.Grow && d.To != 0 && d.To <= d.From,
		d.Verb == knowledge.Shrink && (d.To <= 0 || d.From != 0 && d.To >= d.From):
		t.Fatalf("the verb does not fit the numbers: %+v", d)
	case d.Verb != knowledge.Hold && f.Quality < knowledge.QualityWarming,
		d.Verb == knowledge.Shrink && f.Quality < knowledge.QualityGood:
		t.Fatalf("decided from %v evidence: %+v", f.Quality, d)
	}
	for _, v := range d.Reason.Args {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			t.Fatalf("a reason with %v: %+v", v, d)
		}
	}
}

func checkCPU(
	t *rapid.T, d knowledge.Decision, f *knowledge.Finding, w *knowledge.Window, e *knowledge.Envelope,
	p *knowledge.Policy,
) {
	checkShape(t, d, f)
	if d.Verb == knowledge.Hold {
		return
	}
	low, top := int64(min(max(p.CPU.Min, e.CPU.Min), p.CPU.Max)), int64(min(p.CPU.Max, e.CPU.Max))
	if d.To > top && d.To >= d.From || d.To < min(low, top) {
		t.Fatalf("outside %v..%v: %+v", low, top, d)
	}
	if d.Verb == knowledge.Shrink && d.From > 0 && d.To < d.From/2 {
		t.Fatalf("cut by more than half: %+v", d)
	}
	if d.From == 0 && d.To < int64(max(w.Usage, w.Usage60)) {
		t.Fatalf("a first limit under use: %+v", d)
	}
}

func checkMemory(
	t *rapid.T, d knowledge.Decision, f *knowledge.Finding, w *knowledge.Window, e *knowledge.Envelope,
	p *knowledge.Policy,
) {
	checkShape(t, d, f)
	if d.Verb == knowledge.Hold {
		return
	}
	top := int64(min(p.Memory.Max, e.MemoryCeiling))
	if d.To > top && d.To >= d.From || d.To < min(int64(p.Memory.Min), top) {
		t.Fatalf("outside %v..%v: %+v", p.Memory.Min, top, d)
	}
	if d.Verb != knowledge.Shrink {
		return
	}
	used := w.InUse()
	if knowledge.Bytes(d.To) < used+knowledge.MemoryRoom(used) || float64(d.To) < 1.25*float64(w.AnonPeak)-1 {
		t.Fatalf("too near a working set of %v and a peak of %v: %+v", used, w.AnonPeak, d)
	}
	if !p.MemoryShrink || d.Reason.Rule != knowledge.RuleUnused && float64(d.To) < 0.9*float64(d.From)-1 {
		t.Fatalf("must not, or not by so much: %+v", d)
	}
	if !w.LastOOM.IsZero() && d.At.Sub(w.LastOOM) < p.OOMProtect {
		t.Fatalf("row 65: shrinks %v after an OOM kill", d.At.Sub(w.LastOOM))
	}
}

// More need is never answered by a lower limit.
func TestMonotoneInNeed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := epoch.Add(time.Hour)
		p := drawPolicy(t)
		e := plan.Deliberate(now, drawFacts(t), &p, smallHost, knowledge.Envelope{})
		w := drawWindow(t, now)
		decide := func(w knowledge.Window) (cpu, memory int64, ok bool) {
			var r plan.Reflex
			early := w
			early.At, early.Since, early.ThrottleRatio = epoch, epoch, 0
			f := analyse.Assess(epoch, &early, &p, nil, time.Hour)
			r.CPU(epoch, &f, &early, &e, &p) // it has been watched for an hour
			f = analyse.Assess(now, &w, &p, nil, time.Minute)
			c, m := r.CPU(now, &f, &w, &e, &p), r.Memory(now, &f, &w, &e, &p)
			return c.To, m.To, f.Quality == knowledge.QualityGood && c.From > 0 && m.From > 0
		}
		more := w
		add := knowledge.NanoCPU(rapid.Int64Range(0, int64(core)).Draw(t, "more.cpu"))
		more.UsageMax, more.Missing = w.UsageMax+add, w.Missing+add
		more.WorkingSet += knowledge.Bytes(rapid.Int64Range(0, int64(knowledge.GiB)).Draw(t, "more.memory"))
		cpu, memory, ok := decide(w)
		cpu2, memory2, ok2 := decide(more)
		if ok && ok2 && (cpu2 < cpu || memory2 < memory) {
			t.Fatalf("more need, less granted: cpu %d then %d, memory %d then %d", cpu, cpu2, memory, memory2)
		}
	})
}

// FAULTS row 67, for any load: between a growth and the next cut lie ten seconds
// at least, and between two cuts one; the policy's own bounds alone are quicker.
func TestRow67NoCutInsideTheCooldown(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := newWorld(4)
		h.quota = knowledge.NanoCPU(rapid.Int64Range(int64(core/20), int64(4*core)).Draw(t, "quota"))
		loads := rapid.SliceOfN(rapid.Float64Range(0, 4), 1, 30).Draw(t, "loads")
		step := time.Duration(rapid.Int64Range(int64(50*time.Millisecond), int64(20*time.Second)).Draw(t, "step"))
		h.load = func(at time.Duration) float64 { return loads[int(at/step)%len(loads)] }
		h.run(25 * time.Second)
		var grew, cut time.Time
		for _, d := range h.done {
			if d.Verb == knowledge.Grow {
				grew = d.At
				continue
			}
			if !grew.IsZero() && d.At.Sub(grew) < 10*time.Second-tick {
				t.Fatalf("cut %v after a growth: %v", d.At.Sub(grew), h.done)
			}
			if !cut.IsZero() && d.At.Sub(cut) < time.Second-tick {
				t.Fatalf("cut %v after a cut", d.At.Sub(cut))
			}
			cut = d.At
		}
	})
}

// A person's cut, and the pool's, are not the captain's to undo.
func TestOnlyItsOwnCutIsUndone(t *testing.T) {
	for _, c := range []struct {
		rule knowledge.Rule
		want knowledge.Rule
	}{
		{knowledge.RuleSettled, knowledge.RuleUndoCut},
		{knowledge.RuleUser, knowledge.RuleThrottled},
		{knowledge.RulePoolShort, knowledge.RuleThrottled},
	} {
		p := serving(4)
		e := plan.Deliberate(epoch, plan.Facts{}, &p, smallHost, knowledge.Envelope{})
		var r plan.Reflex
		r.Applied(epoch, knowledge.Decision{Verb: knowledge.Shrink, From: int64(2 * core), To: int64(core),
			Reason: knowledge.Because(c.rule)})
		now := epoch.Add(2 * time.Second)
		w := knowledge.Window{Have: knowledge.HasCPU | knowledge.HasThrottle, At: now, Samples: 9, Quota: core, Usage: core,
			UsageMax: core, ThrottleRatio: 0.3}
		f := analyse.Assess(now, &w, &p, nil, time.Second)
		d := r.CPU(now, &f, &w, &e, &p)
		if d.Verb != knowledge.Grow || d.Reason.Rule != c.want {
			t.Errorf("after a cut for %q: %v %v, want %q", c.rule, d.Verb, d.Reason, c.want)
		}
		if c.want == knowledge.RuleUndoCut && d.To != int64(3*core) {
			t.Errorf("undone to %v, want 2 · 2 − 1 = 3", knowledge.NanoCPU(d.To))
		}
	}
}

// FAULTS row 68: however much a container asks for, its limit ends at what the
// host can spare.
func TestRow68NeverBeyondTheHost(t *testing.T) {
	p := serving(2)
	p.Memory.Max = 0
	host := knowledge.Host{CPUs: 2, Memory: 4 * knowledge.GiB}
	e := plan.Deliberate(epoch, plan.Facts{}, &p, host, knowledge.Envelope{})
	if want := 4*knowledge.GiB - 512*knowledge.MiB; e.MemoryCeiling != want {
		t.Fatalf("ceiling %v, want %v", e.MemoryCeiling, want)
	}
	var r plan.Reflex
	w := knowledge.Window{
		Have: knowledge.HasCPU | knowledge.HasMemory, At: epoch, Samples: 9, Quota: 2 * core,
		WindowMemory: knowledge.WindowMemory{MemoryLimit: 3 * knowledge.GiB, WorkingSet: 2900 * knowledge.MiB, Growth: 1e9},
	}
	f := analyse.Assess(epoch, &w, &p, nil, time.Second)
	d := r.Memory(epoch, &f, &w, &e, &p)
	if d.Verb != knowledge.Grow || knowledge.Bytes(d.To) != e.MemoryCeiling {
		t.Errorf("got %v to %v, want the ceiling", d.Verb, knowledge.Bytes(d.To))
	}
	w.MemoryLimit, w.WorkingSet = e.MemoryCeiling, e.MemoryCeiling
	if d = r.Memory(epoch, &f, &w, &e, &p); d.Verb != knowledge.Hold || d.Reason.Rule != knowledge.RuleAtMax {
		t.Errorf("at the ceiling: %v, %v", d.Verb, d.Reason)
	}
}

func TestShares(t *testing.T) {
	w := knowledge.Window{Have: knowledge.HasCPU | knowledge.HasCPUPressure, At: epoch, Since: epoch.Add(-time.Hour),
		Samples: 9, Usage60: 2 * core}
	p := serving(8)
	p.CPUMode = knowledge.CPUWeight
	for _, c := range []struct {
		name   string
		weight int
		psi    float64
		use    knowledge.NanoCPU
		want   int64
	}{
		{"two cores", 50, 0, 2 * core, 2048},
		{"twice the weight", 100, 0, 2 * core, 4096},
		{"waiting half the time", 50, 50, 2 * core, 3072},
		{"idle: the policy's minimum", 50, 0, 0, 51},
		{"the least", 1, 0, 0, 2},
		{"the most", 100, 100, 4096 * core, 262144},
		{"a garbage weight", -3, math.NaN(), 2 * core, 41},
	} {
		w.Usage60, w.CPUPressure.Some10, p.Weight = c.use, c.psi, c.weight
		if got := plan.Shares(&w, &p); got != c.want {
			t.Errorf("%s: %d shares, want %d", c.name, got, c.want)
		}
	}
}

// A share moves by a fifth or not at all, and not within 30 s of the last move.
func TestWeight(t *testing.T) {
	w := knowledge.Window{Have: knowledge.HasCPU, At: epoch, Since: epoch.Add(-time.Hour), Samples: 9, Usage60: 2 * core}
	p := serving(8)
	p.CPUMode = knowledge.CPUWeight
	f := analyse.Assess(epoch, &w, &p, nil, time.Hour)
	var r plan.Reflex
	for _, c := range []struct {
		after   time.Duration
		current int64
		want    int64
		rule    knowledge.Rule
	}{
		{0, 0, 2048, knowledge.RuleWeight},
		{10 * time.Second, 1024, 1024, knowledge.RuleCooldown},
		{30 * time.Second, 1800, 1800, knowledge.RuleWeight},
		{30 * time.Second, 1600, 2048, knowledge.RuleWeight},
	} {
		got, why := r.Weight(epoch.Add(c.after), c.current, &f, &w, &p)
		if got != c.want || why.Rule != c.rule {
			t.Errorf("after %v, from %d: %d (%v), want %d (%v)", c.after, c.current, got, why, c.want, c.rule)
		}
		if c.after == 0 {
			r.SharesApplied(epoch)
		}
	}
	w.Samples = 1
	f = analyse.Assess(epoch, &w, &p, nil, time.Hour)
	if got, _ := r.Weight(epoch.Add(time.Hour), 100, &f, &w, &p); got != 100 {
		t.Errorf("without evidence: %d shares", got)
	}
}

func steadyWorld() (now time.Time, f knowledge.Finding, w knowledge.Window, e knowledge.Envelope, p knowledge.Policy) {
	p = serving(8)
	e = plan.Deliberate(epoch, plan.Facts{}, &p, smallHost, knowledge.Envelope{})
	now = epoch.Add(time.Hour)
	w = knowledge.Window{
		Have: knowledge.HasCPU | knowledge.HasThrottle | knowledge.HasMemory | knowledge.HasMemoryStat, At: now, Since: epoch,
		Samples: 99, Interval: 100 * time.Millisecond,
		Quota: 2 * core, Usage: core, UsageMax: core, UsageMean: core, UsageStd: core / 10,
		WindowMemory: knowledge.WindowMemory{MemoryLimit: knowledge.GiB, WorkingSet: 200 * knowledge.MiB,
			MemoryUsage: 300 * knowledge.MiB, Hard: 200 * knowledge.MiB, Anon: 100 * knowledge.MiB,
			AnonPeak: 120 * knowledge.MiB},
	}
	f = analyse.Assess(now, &w, &p, nil, time.Second)
	return now, f, w, e, p
}

func TestReflexAllocatesNothing(t *testing.T) {
	now, f, w, e, p := steadyWorld()
	hot := w
	hot.ThrottledPeriods, hot.ThrottledRun, hot.Missing, hot.Growth, hot.LastOOM = 1, 2, core, 1e8, now
	for name, w := range map[string]*knowledge.Window{"calm": &w, "hot": &hot} {
		var r plan.Reflex
		if n := testing.AllocsPerRun(100, func() {
			f = analyse.Assess(now, w, &p, nil, time.Second)
			r.Applied(now, r.CPU(now, &f, w, &e, &p))
			r.Applied(now, r.Memory(now, &f, w, &e, &p))
		}); n != 0 {
			t.Errorf("%s: %v allocations, want 0", name, n)
		}
	}
}

// BenchmarkDecision is what one sample costs after it was read: a finding and
// two decisions.
func BenchmarkDecision(b *testing.B) {
	now, f, w, e, p := steadyWorld()
	var r plan.Reflex
	b.ReportAllocs()
	for b.Loop() {
		f = analyse.Assess(now, &w, &p, nil, time.Second)
		r.CPU(now, &f, &w, &e, &p)
		r.Memory(now, &f, &w, &e, &p)
	}
}
