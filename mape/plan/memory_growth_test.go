package plan_test

import (
	"encoding/json"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape/analyse"
	"github.com/effiscale/effiscale/mape/plan"
)

const mib, gib = knowledge.MiB, knowledge.GiB

// climber is one container under a limit, read every few seconds.
type climber struct {
	w      knowledge.Window
	reflex plan.Reflex
	now    time.Time
	cuts   int
}

func newClimber(limit knowledge.Bytes) *climber {
	return &climber{now: epoch, w: knowledge.Window{
		Have:  knowledge.HasCPU | knowledge.HasMemory | knowledge.HasMemoryStat | knowledge.HasOOM | knowledge.HasLimits,
		Since: epoch, Samples: 100,
		WindowMemory: knowledge.WindowMemory{MemoryLimit: limit},
	}}
}

// read lets time pass, with so much in use, of which cache can be taken.
func (c *climber) read(t interface{ Fatalf(string, ...any) }, dt time.Duration, use, cache knowledge.Bytes,
	p *knowledge.Policy) {
	c.now = c.now.Add(dt)
	w := &c.w
	w.At, w.Interval = c.now, dt
	w.MemoryUsage, w.WorkingSet = use+cache, use
	w.Anon, w.Hard, w.AnonPeak = use, use, use
	w.Samples++
	e := knowledge.Envelope{MemoryCeiling: 64 * knowledge.GiB}
	if need, limit, ok := c.reflex.MemorySize(c.now, w, p); ok {
		e = plan.Deliberate(c.now, plan.Facts{ObservedFor: c.now.Sub(epoch), MemoryNeed: need, MemoryLimit: limit}, p,
			knowledge.Host{CPUs: 1, Memory: 64 * knowledge.GiB}, e)
	}
	f := analyse.Assess(c.now, w, p, nil, time.Minute)
	d := c.reflex.Memory(c.now, &f, w, &e, p)
	if d.Verb == knowledge.Hold {
		return
	}
	to := knowledge.Bytes(d.To)
	if d.Verb == knowledge.Shrink {
		c.cuts++
		if to < use+use*15/100 || to < use+8*knowledge.MiB {
			t.Fatalf("%v: cut to %s with %s in use", c.now.Sub(epoch), to, use)
		}
	}
	c.reflex.Applied(c.now, d)
	w.MemoryLimit = to
}

func memoryPolicy() *knowledge.Policy {
	p := serving(4)
	p.MemoryShrink, p.ShrinkAfter, p.Memory = true, 10*time.Minute, knowledge.Range[knowledge.Bytes]{}
	return &p
}

// What is steady ends with no more than the guard's 15 % above its use, but only once
// it was watched, and only without a cache.
func TestMemoryGrowthLearnsTheMargin(t *testing.T) {
	for _, c := range []struct {
		name  string
		cache knowledge.Bytes
		most  float64
	}{{"no cache", 0, 1.155}, {"cache", gib, 1.5}} {
		m, p := newClimber(4*gib), memoryPolicy()
		for range 6 * 360 { // six hours
			m.read(t, 10*time.Second, gib, c.cache, p)
		}
		got := float64(m.w.MemoryLimit) / float64(gib)
		if got > c.most || c.cache > 0 && got < 1.2 {
			t.Errorf("%s: a limit of %.3f of use", c.name, got)
		}
	}
}

// A leak that begins anew gives its memory back within the hour; a service that
// jumped once keeps the room of its jump.
func TestMemoryGrowthFollowsWhatCreepsAndKeepsWhatJumps(t *testing.T) {
	leak, jump, p := newClimber(4*gib), newClimber(4*gib), memoryPolicy()
	for i := range 4 * 360 {
		leak.read(t, 10*time.Second, gib/4+knowledge.Bytes(i)*knowledge.MiB, 0, p)
		use := gib / 4
		if i > 180 && i < 200 {
			use = 2 * gib
		}
		jump.read(t, 10*time.Second, use, 0, p)
	}
	for range 360 {
		leak.read(t, 10*time.Second, gib/4, 0, p)
		jump.read(t, 10*time.Second, gib/4, 0, p)
	}
	if leak.w.MemoryLimit > gib/2 {
		t.Errorf("an hour after the leak began anew at 256 MiB the limit is %s", leak.w.MemoryLimit)
	}
	if jump.w.MemoryLimit < 2*gib {
		t.Errorf("it jumps to 2 GiB, and its limit is %s", jump.w.MemoryLimit)
	}
}

// Whatever memory does, a cut leaves use and room, asking twice is the same as
// once, and what was learned survives the disk.
func TestMemoryGrowthAnything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, p := newClimber(8*gib), memoryPolicy()
		level := rapid.Int64Range(1<<20, 1<<32)
		use := knowledge.Bytes(level.Draw(t, "use"))
		for range rapid.IntRange(1, 60).Draw(t, "phases") {
			if rapid.Bool().Draw(t, "jump") {
				use = knowledge.Bytes(level.Draw(t, "use"))
			}
			dt := time.Duration(rapid.Int64Range(int64(time.Second), int64(2*time.Hour)).Draw(t, "dt"))
			for range rapid.IntRange(1, 40).Draw(t, "reads") {
				m.read(t, dt, use, 0, p)
				use = use * 101 / 100
			}
		}
		before := *m.reflex.MemoryGrowth()
		b, err := json.Marshal(before)
		if err != nil {
			t.Fatal(err)
		}
		var back plan.Reflex
		if err := json.Unmarshal(b, back.MemoryGrowth()); err != nil {
			t.Fatal(err)
		}
		back.MemoryGrowth().Bound(m.now)
		need, limit, ok := m.reflex.MemorySize(m.now, &m.w, p)
		if n, l, o := back.MemorySize(m.now, &m.w, p); n != need || l != limit || o != ok {
			t.Fatalf("from the disk %s %s %v, before %s %s %v", n, l, o, need, limit, ok)
		}
		if ok && (limit < need || need < m.w.WorkingSet) {
			t.Fatalf("%s in use, a need of %s, a limit of %s", m.w.WorkingSet, need, limit)
		}
	})
}

// A class that is never sized below its highest use learns no smaller margin, and after
// a gap what was learned holds again only when it was watched for an hour.
func TestMemoryGrowthTrustsOnlyWhatItSaw(t *testing.T) {
	m, p := newClimber(4*gib), memoryPolicy()
	size := func(p *knowledge.Policy) bool {
		_, _, ok := m.reflex.MemorySize(m.now, &m.w, p)
		return ok
	}
	hour := func() {
		for range 361 {
			m.read(t, 10*time.Second, gib, 0, p)
		}
	}
	hour()
	most := *p
	most.MemoryPercentile = 1
	if !size(p) || size(&most) {
		t.Fatalf("learned after an hour: %v, for a class that keeps the highest peak: %v", size(p), size(&most))
	}
	for _, gap := range []time.Duration{2 * time.Hour, 20 * 24 * time.Hour} {
		m.now = m.now.Add(gap)
		m.read(t, 10*time.Second, gib, 0, p)
		if size(p) {
			t.Errorf("trusted at once after %v unseen", gap)
		}
		if hour(); !size(p) {
			t.Errorf("not trusted an hour after %v unseen", gap)
		}
	}
}

// Where the cache comes and goes around a tenth of the use, the rule does not.
func TestMemoryGrowthDoesNotFlip(t *testing.T) {
	m, p := newClimber(4*gib), memoryPolicy()
	for range 400 {
		m.read(t, 10*time.Second, gib, 0, p)
	}
	for i := range 400 {
		m.read(t, 10*time.Second, gib, gib*knowledge.Bytes(9+i%5)/100, p)
		if _, _, ok := m.reflex.MemorySize(m.now, &m.w, p); !ok {
			t.Fatalf("given up at %d %% of cache", 9+i%5)
		}
	}
	m.read(t, 10*time.Second, gib, gib, p)
	if _, _, ok := m.reflex.MemorySize(m.now, &m.w, p); ok {
		t.Error("half of the use is cache, and the margin is the learned one")
	}
}

func TestMemoryGrowthBound(t *testing.T) {
	for name, spoil := range map[string]func(*plan.MemoryGrowth){
		"a place that is none": func(c *plan.MemoryGrowth) { c.At = 99 },
		"less than nothing":    func(c *plan.MemoryGrowth) { c.Spans[3].Rise = -1 },
		"of tomorrow":          func(c *plan.MemoryGrowth) { c.SpanAt = epoch.Add(48 * time.Hour) },
	} {
		c := plan.MemoryGrowth{Since: epoch, SpanAt: epoch}
		c.Bound(epoch)
		if c.Since.IsZero() {
			t.Fatal("what is good was forgotten")
		}
		spoil(&c)
		if c.Bound(epoch); c != (plan.MemoryGrowth{}) {
			t.Errorf("%s: %+v", name, c)
		}
	}
}
