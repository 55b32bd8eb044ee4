package plan_test

import (
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// Row 114: a limit is raised ahead of growth by the time until the next certain correction: by
// the time that the last corrections took, and never less than a minimum.
func TestRow114HorizonFollowsTheReaction(t *testing.T) {
	grows := func(reaction time.Duration) bool {
		b := newBench()
		b.w.MemoryLimit, b.w.MemoryUsage, b.w.Hard, b.w.AnonPeak = 512*mib, 400*mib, 400*mib, 0
		b.w.Growth, b.w.Reaction = float64(20*mib), reaction
		return b.memory().Verb == knowledge.Grow
	}
	if grows(100*time.Millisecond) || !grows(10*time.Second) {
		t.Error("the horizon does not follow the reaction")
	}
	b := newBench()
	b.w.MemoryLimit, b.w.MemoryUsage, b.w.Hard, b.w.AnonPeak = 512*mib, 400*mib, 400*mib, 0
	b.w.Growth = float64(400 * mib)
	expect(t, "fast growth, nothing measured yet", b.memory(), knowledge.Grow, knowledge.RuleTimeToFull)
}

// Row 115: refaults that lie far apart are no cache that is missed for long.
func TestRow115RefaultsApart(t *testing.T) {
	b := newBench()
	b.w.MemoryLimit, b.w.MemoryUsage, b.w.Hard, b.w.Cache, b.w.AnonPeak = 384*mib, 384*mib, 80*mib, 300*mib, 80*mib
	b.w.Growth = 0
	for range 20 {
		b.w.RefaultRate, b.w.LastRefault = 10000, b.now
		if d := b.memory(); d.Verb == knowledge.Grow {
			t.Fatalf("grows: %s", d.Reason)
		}
		b.later(15 * time.Second)
		b.w.RefaultRate = 0
		b.memory()
		b.later(15 * time.Second)
	}
}

// Row 115: a reading that may be page cache is not learned as need, and a first limit leaves the
// cache that is in use.
func TestRow115FirstLimitLeavesCache(t *testing.T) {
	b := newBench()
	b.w.MemoryLimit, b.w.MemoryUsage, b.w.WorkingSet, b.w.Hard = 0, 600*mib, 500*mib, 80*mib
	b.w.AnonPeak, b.w.Growth, b.w.Cache = 80*mib, 0, 500*mib
	b.later(time.Hour)
	d := b.memory()
	expect(t, "a first limit", d, knowledge.Shrink, knowledge.RuleFirstLimit)
	if to := knowledge.Bytes(d.To); to < 500*mib || to > 700*mib {
		t.Errorf("%s, with 500 MiB in use and cache", to)
	}
	b = newBench()
	b.w.MemoryLimit, b.w.MemoryUsage, b.w.WorkingSet, b.w.AnonPeak, b.w.Growth = gib, 900*mib, 900*mib, 0, 0
	for i := range 200 {
		b.later(time.Minute)
		b.w.Hard, b.w.Estimated = 100*mib, i%2 == 0
		if b.w.Estimated { // as long as memory.stat is not read, what is new counts as use
			b.w.Hard = 500 * mib
		}
		b.memory()
	}
	b.w.Hard, b.w.Estimated = 100*mib, false
	if high := b.r.MemoryGrowth().Spans[b.r.MemoryGrowth().At].High; high > 150*mib {
		t.Errorf("learned a use of %s", high)
	}
}

// Row 117: a raise is not reverted while there is memory pressure, nor soon after an OOM kill; one
// for page cache that was not used is not repeated for ten minutes.
func TestRow117NotReverted(t *testing.T) {
	raise := func(rule knowledge.Rule) *bench {
		b := newBench()
		b.w.MemoryLimit, b.w.MemoryUsage, b.w.Hard, b.w.AnonPeak, b.w.Growth = 512*mib, 300*mib, 200*mib, 0, 0
		b.w.Cache = 300 * mib
		b.apply(knowledge.Decision{Resource: knowledge.ResourceMemory, Verb: knowledge.Grow, From: int64(512 * mib),
			To: int64(700 * mib), Reason: knowledge.Because(rule)})
		return b
	}
	b := raise(knowledge.RuleTimeToFull)
	b.later(3 * time.Minute)
	expect(t, "nothing forbids it", b.memory(), knowledge.Shrink, knowledge.RuleUnused)
	b = raise(knowledge.RuleTimeToFull)
	b.later(3 * time.Minute)
	b.w.LastRefault = b.now.Add(-time.Minute)
	b.w.LastMemoryEvent = b.now.Add(-time.Minute)
	if d := b.memory(); d.Verb != knowledge.Hold {
		t.Errorf("a minute after memory pressure: %s %s", d.Verb, d.Reason)
	}
	b = raise(knowledge.RuleCacheMissed)
	b.later(3 * time.Minute)
	d := b.memory()
	expect(t, "unused", d, knowledge.Shrink, knowledge.RuleUnused)
	b.apply(d)
	b.w.MemoryUsage, b.w.RefaultRate = 512*mib, 2000
	for range 8 * 60 {
		b.later(time.Second)
		b.w.LastRefault = b.now
		if d := b.memory(); d.Verb == knowledge.Grow {
			t.Fatalf("raised again for page cache: %s", d.Reason)
		}
	}
	for range 4 * 60 {
		b.later(time.Second)
		b.w.LastRefault = b.now
		if b.memory().Verb == knowledge.Grow {
			return
		}
	}
	t.Error("not raised again for page cache after ten minutes")
}

// Row 123: a first CPU limit is not below the quota of an inner cgroup, and a floor is not above
// a parent's quota.
func TestRow123FirstLimitAndFloor(t *testing.T) {
	b := newBench()
	b.w.Quota, b.w.Bounds = 0, knowledge.Bounds{CPULeast: 3 * core, CPULeastBy: knowledge.BoundInner}
	b.later(time.Hour)
	if d := b.cpu(); knowledge.NanoCPU(d.To) < 3*core {
		t.Errorf("first limit %s: %s", knowledge.NanoCPU(d.To), d.Reason)
	}
	b = newBench()
	b.p.CPU.Min, b.p.CPUSource, b.w.Quota = 2*core, "label", core/2
	b.e.CPU.Min = 2 * core
	b.w.Bounds = knowledge.Bounds{CPU: core, CPUBy: knowledge.BoundParent}
	if d := b.cpu(); knowledge.NanoCPU(d.To) > core {
		t.Errorf("raised to %s: %s", knowledge.NanoCPU(d.To), d.Reason)
	}
}
