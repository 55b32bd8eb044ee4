package plan_test

import (
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape/plan"
)

// Row 115: page cache and caches of names fill any limit and are no need, also where the kernel
// counts the cache as active; what is missed is.
func TestRow115CacheIsNoNeed(t *testing.T) {
	for name, edit := range map[string]func(w *knowledge.Window){
		"COPY, VACUUM, a dump": func(w *knowledge.Window) { w.WorkingSet, w.Cache = 380*mib, 300*mib },
		"failed look-ups":      func(w *knowledge.Window) { w.WorkingSet, w.Cache = 384*mib, 0 },
		"reclaim costs time":   func(w *knowledge.Window) { w.Cache, w.MemoryPressure.Some10 = 300*mib, 40 },
		"a scan that is repeated now and then": func(w *knowledge.Window) {
			w.Cache, w.RefaultRate, w.MemoryPressure.Some10 = 300*mib, 100, 40
		},
		"a file that is read twice": func(w *knowledge.Window) {
			w.Cache, w.RefaultRate, w.MemoryPressure.Some10 = 300*mib, 10000, 40
		},
		"refaults that cost nothing": func(w *knowledge.Window) { w.Cache, w.RefaultRate = 300*mib, 10000 },
	} {
		b := newBench()
		b.w.Have |= knowledge.HasMemoryPressure
		b.w.MemoryLimit, b.w.MemoryUsage, b.w.Hard, b.w.AnonPeak = 384*mib, 384*mib, 80*mib, 80*mib
		b.w.MaxEvents, b.w.Growth = 9, 0
		edit(&b.w)
		for i := range 600 {
			b.later(time.Second)
			if name == "a file that is read twice" && i > 10 {
				b.w.RefaultRate, b.w.MemoryPressure.Some10 = 0, 0
			}
			b.w.LastMemoryEvent = b.now
			if d := b.memory(); d.Verb == knowledge.Grow {
				t.Fatalf("%s: grows to %s: %s", name, knowledge.Bytes(d.To), d.Reason)
			}
		}
	}
	b := newBench()
	b.w.MemoryLimit, b.w.MemoryUsage, b.w.Hard, b.w.Cache, b.w.AnonPeak = 384*mib, 384*mib, 80*mib, 300*mib, 80*mib
	b.w.RefaultRate, b.w.LastRefault = 10000, b.now
	expect(t, "without a measure of waiting refaults decide", b.missing(), knowledge.Grow, knowledge.RuleCacheMissed)
	b.w.Have |= knowledge.HasMemoryPressure
	b.w.MemoryPressure.Some10 = 5
	expect(t, "it waits for what it reads again", b.missing(), knowledge.Grow, knowledge.RuleCacheMissed)
	b.w.RefaultRate, b.w.Hard, b.w.Cache = 0, 320*mib, 60*mib
	expect(t, "it waits, and there is little else to take", b.memory(), knowledge.Grow, knowledge.RuleMemoryPressure)
}

// A limit goes down to what is needed although active page cache fills it, a tenth at a time, and
// stops where the cache is missed.
func TestCacheIsGivenBackUntilItIsMissed(t *testing.T) {
	b := newBench()
	b.w.MemoryLimit, b.w.MemoryUsage, b.w.WorkingSet, b.w.Hard = 1024*mib, 1000*mib, 990*mib, 80*mib
	b.w.AnonPeak, b.w.Cache, b.w.Growth = 80*mib, 900*mib, 0
	for range 60 {
		b.later(time.Minute)
		d := b.memory()
		if d.Verb == knowledge.Grow {
			t.Fatalf("grows: %+v", d)
		}
		if d.Verb == knowledge.Shrink {
			b.apply(d)
		}
		b.w.MemoryUsage = min(b.w.MemoryUsage, b.w.MemoryLimit)
		b.w.WorkingSet, b.w.Cache = b.w.MemoryUsage, b.w.MemoryUsage-b.w.Hard
		if b.w.Cache < 300*mib {
			b.w.RefaultRate, b.w.LastRefault = 200, b.now
		}
	}
	if b.w.MemoryLimit > 400*mib || b.w.MemoryLimit < 320*mib {
		t.Errorf("300 MiB of its cache are used, and the limit of 80 MiB and those is %s", b.w.MemoryLimit)
	}
}

// Row 116: a small container keeps the limit of its file, and no limit is raised to the default
// minimum; one that somebody asked for is, with that reason.
func TestRow116NoGrowthWithoutNeed(t *testing.T) {
	for _, c := range []struct {
		name   string
		limit  knowledge.Bytes
		use    knowledge.Bytes
		source string
		want   knowledge.Rule
		to     knowledge.Bytes
	}{
		{"sleep", 48 * mib, 400 * knowledge.KiB, "default", "", 48 * mib},
		{"sleep, below the default minimum", 16 * mib, 400 * knowledge.KiB, "default", "", 16 * mib},
		{"sleep, below a minimum of its own", 16 * mib, 400 * knowledge.KiB, "label", knowledge.RuleAtMin, 32 * mib},
		{"nginx", 48 * mib, 5 * mib, "default", "", 48 * mib},
		{"python", 48 * mib, 30 * mib, "default", "", 48 * mib},
		{"python, nearly full", 48 * mib, 44 * mib, "default", knowledge.RuleMemoryTight, 58 * mib},
	} {
		b := newBench()
		b.p.Memory.Min, b.p.MemorySource = 32*mib, c.source
		b.w.MemoryLimit, b.w.MemoryUsage, b.w.Hard, b.w.WorkingSet = c.limit, c.use, c.use, c.use
		b.w.Anon, b.w.AnonPeak = c.use, c.use
		b.e = plan.Deliberate(b.now, plan.Facts{ObservedFor: 3 * time.Hour, MemoryNeed: c.use, CPU: core / 100}, &b.p,
			smallHost, b.e)
		d := b.memory()
		if d.Verb == knowledge.Grow && d.Reason.Rule != c.want || d.Verb != knowledge.Grow && c.want != "" {
			t.Errorf("%s: %v, %s; want %q", c.name, d.Verb, d.Reason, c.want)
		}
		if d.Verb != knowledge.Shrink && knowledge.Bytes(d.To) > c.to {
			t.Errorf("%s: to %s, %s", c.name, knowledge.Bytes(d.To), d.Reason)
		}
	}
}

// The reason of a reduction is what it follows: the present use, what was learned, or the policy's
// minimum; and a would-be limit is not raised to the default minimum either.
func TestReasonsOfAReduction(t *testing.T) {
	b := newBench()
	b.p.Memory.Min, b.p.MemorySource = 32*mib, "default"
	b.w.MemoryLimit, b.w.Hard, b.w.AnonPeak, b.w.WorkingSet = 40*mib, mib, mib, mib
	d := b.memory()
	expect(t, "room for a load", d, knowledge.Hold, knowledge.RuleMemoryFloor)
	if text := d.Reason.String(); text != "would be 9 MiB; 39 MiB above the use are left for a load to come" {
		t.Errorf("room for a load: %s", text)
	}
	b.p.Memory.Min, b.w.MemoryLimit = 96*mib, 128*mib
	expect(t, "to the policy's minimum", b.memory(), knowledge.Shrink, knowledge.RuleAtMin)
	b.p.Memory.Min = 32 * mib
	b.w.MemoryLimit, b.w.Hard = 1024*mib, 200*mib
	if d := b.memory(); d.Reason.String() != "uses 200 MiB, and a margin of 64 MiB" {
		t.Errorf("by the use: %s", d.Reason)
	}
	b.e = plan.Deliberate(b.now, plan.Facts{ObservedFor: 3 * time.Hour, MemoryNeed: 400 * mib, CPU: core}, &b.p,
		smallHost, b.e)
	if d := b.memory(); d.Reason.String() != "needs 400 MiB by its history, and a margin of 74 MiB" {
		t.Errorf("by what was learned: %s", d.Reason)
	}
	b.w.MemoryLimit, b.w.Hard = 16*mib, mib
	b.e = plan.Deliberate(b.now, plan.Facts{}, &b.p, smallHost, knowledge.Envelope{})
	if _, d := plan.WouldBe(b.now, plan.Facts{}, &b.w, &b.e, &b.p); knowledge.Bytes(d.To) > 16*mib {
		t.Errorf("it would be raised to %s: %s", knowledge.Bytes(d.To), d.Reason)
	}
}

// Row 117: a raise that is not used is reverted after two minutes, says why, and is not repeated
// soon; one that is used stays, and so does one after an OOM kill.
func TestRow117UnusedIsReverted(t *testing.T) {
	raised := func(use knowledge.Bytes) *bench {
		b := newBench()
		b.w.Have |= knowledge.HasMemoryPressure
		b.w.MemoryLimit, b.w.MemoryUsage, b.w.Hard, b.w.AnonPeak, b.w.Growth = 512*mib, 505*mib, 200*mib, 0, 0
		b.w.Cache, b.w.RefaultRate, b.w.MemoryPressure.Some10 = 300*mib, 2000, 4
		d := b.missing()
		expect(t, "the cache is missed", d, knowledge.Grow, knowledge.RuleCacheMissed)
		b.apply(d)
		b.w.RefaultRate, b.w.MemoryPressure.Some10, b.w.Hard, b.w.LastRefault = 0, 0, use, b.now
		return b
	}
	b := raised(200 * mib)
	b.later(time.Minute)
	expect(t, "a minute later", b.memory(), knowledge.Hold, knowledge.RuleMemoryNotCalm)
	b.later(time.Minute)
	d := b.memory()
	expect(t, "two minutes later", d, knowledge.Shrink, knowledge.RuleUnused)
	if knowledge.Bytes(d.To) != 512*mib {
		t.Errorf("reverted to %s", knowledge.Bytes(d.To))
	}
	b.apply(d)
	b.w.RefaultRate, b.w.MemoryPressure.Some10 = 2000, 4
	b.later(5 * time.Minute)
	if d := b.memory(); d.Verb != knowledge.Hold {
		t.Errorf("five minutes later it is raised again: %s", d.Reason)
	}
	b.w.Hard = 480 * mib
	expect(t, "what it needs it gets", b.memory(), knowledge.Grow, knowledge.RuleMemoryTight)

	b.w.Hard, b.w.RefaultRate, b.w.MemoryPressure.Some10 = 200*mib, 0, 0
	b.apply(knowledge.Decision{Resource: knowledge.ResourceMemory, Verb: knowledge.Grow, From: int64(512 * mib),
		To: int64(700 * mib), Reason: knowledge.Because(knowledge.RuleTimeToFull)})
	b.later(3 * time.Minute)
	expect(t, "the second raise stays longer", b.memory(), knowledge.Hold, knowledge.RuleMemoryNotCalm)
	b.later(2 * time.Minute)
	expect(t, "and is reverted, too", b.memory(), knowledge.Shrink, knowledge.RuleUnused)

	b = raised(520 * mib)
	b.w.MemoryUsage = 520 * mib
	b.later(5 * time.Minute)
	if d := b.memory(); d.Verb == knowledge.Shrink {
		t.Errorf("it is used, and reverted: %s", d.Reason)
	}
	b.w.Hard = 200 * mib // the use was short
	b.later(5 * time.Minute)
	if d := b.memory(); d.Reason.Rule == knowledge.RuleUnused {
		t.Errorf("it was used, and is reverted: %s", d.Reason)
	}

	b = raised(200 * mib)
	b.w.LastOOM, b.w.OOMKills = b.now, 1
	d = b.memory()
	expect(t, "killed", d, knowledge.Grow, knowledge.RuleOOM)
	b.apply(d)
	b.w.OOMKills = 0
	b.later(10 * time.Minute)
	expect(t, "ten minutes after a kill", b.memory(), knowledge.Hold, knowledge.RuleMemoryNotCalm)
}
