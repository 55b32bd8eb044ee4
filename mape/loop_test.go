package mape

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape/execute"
)

var usual = knowledge.Limits{CPU: core, Memory: 256 * mib, MemorySwap: 512 * mib}

// The main job in virtual time: a container comes, is met, grows within two
// periods of a surge, is cut when it rests, and grows again.
func TestTheLifeOfAContainer(t *testing.T) {
	h := newHost(t, options{})
	b := h.run("web", usual, nil)
	b.demand = 0.5
	h.until(2*time.Second, "met and measured", func() bool {
		c := h.container(b)
		return c != nil && c.OriginalKept && c.Window.Samples >= 3 && c.Envelope.CPU.Max > 0
	})
	if o := h.kept[b.c.ID]; o.Limits.Memory != 256*mib {
		t.Errorf("the original limits: %+v", o)
	}
	h.pass(20 * time.Second)
	b.demand = 3
	took := h.until(time.Second, "a quota for 3 cores", func() bool { return b.kernel.CPU >= 3*core })
	if took > 500*time.Millisecond {
		t.Errorf("a sufficient quota after %s", took)
	}
	b.demand = 0
	h.until(5*time.Minute, "rest at the floor", func() bool { return b.kernel.CPU <= core/20+core/100 })
	if b.kernel.CPU < core/20 {
		t.Errorf("cut to %s, under the policy's minimum", b.kernel.CPU)
	}
	b.demand = 1
	h.until(time.Second, "back up", func() bool { return b.kernel.CPU >= core })
	h.pass(2 * time.Minute)
	if b.engine.CPU < 3*core || h.calls["cpu"] > 2 { // as much as it needed; it needed no more since
		t.Errorf("it starts with %s after %d Engine updates", b.engine.CPU, h.calls["cpu"])
	}
}

// A short host is shared by weight, nothing falls under the floor, the sum stays
// within the pool, and what the pool took does not count as a harmful cut.
func TestAShortHostIsSharedByWeight(t *testing.T) {
	h := newHost(t, options{})
	var boxes []*box
	for _, weight := range []int{10, 20, 40, 80} {
		b := h.run(fmt.Sprintf("w%d", weight), usual, map[string]string{"weight": fmt.Sprint(weight)})
		b.demand = 4
		boxes = append(boxes, b)
	}
	quiet := h.run("quiet", usual, nil)
	quiet.demand = 0.02
	h.pass(3 * time.Minute)
	pool, sum := h.loop.set.cpuPool(h.loop.o.Host), knowledge.NanoCPU(0)
	for i, b := range boxes {
		sum += b.kernel.CPU
		if b.kernel.CPU < core/20 {
			t.Errorf("%s starves at %s", b.c.Name, b.kernel.CPU)
		}
		if i > 0 && b.kernel.CPU < boxes[i-1].kernel.CPU {
			t.Errorf("%s has %s, the lighter %s %s", b.c.Name, b.kernel.CPU, boxes[i-1].c.Name, boxes[i-1].kernel.CPU)
		}
		if f := h.container(b).Marks.Raised[knowledge.ResourceCPU]; f.Times != 0 {
			t.Errorf("%s: the pool's cut was undone %d times", b.c.Name, f.Times)
		}
	}
	if sum+quiet.kernel.CPU > pool+pool/20 {
		t.Errorf("%s granted of %s", sum+quiet.kernel.CPU, pool)
	}
	boxes[3].demand, boxes[2].demand, boxes[1].demand = 0, 0, 0
	h.until(2*time.Minute, "the one that still works gets the host", func() bool { return boxes[0].kernel.CPU > 3*core })
}

// Row 67: a load that swings with any of the loop's periods is not chased: few
// changes of direction, and none of them leaves it throttled for long.
func TestOscillatingLoad(t *testing.T) {
	for _, period := range []time.Duration{200 * time.Millisecond, time.Second, 5 * time.Second, 10 * time.Second,
		30 * time.Second} {
		t.Run(period.String(), func(t *testing.T) {
			h := newHost(t, options{})
			b := h.run("web", usual, nil)
			turns, last, way := 0, b.kernel.CPU, 0
			for i := range int(10 * time.Minute / tickEvery) {
				b.demand = 0.2
				if time.Duration(i)*tickEvery%period < period/2 {
					b.demand = 1.5
				}
				h.tick()
				if d := b.kernel.CPU - last; d != 0 {
					now := 1
					if d < 0 {
						now = -1
					}
					if now != way && i > int(time.Minute/tickEvery) {
						turns++
					}
					way, last = now, b.kernel.CPU
				}
			}
			if turns > 12 { // nine minutes: less than one in 45 s
				t.Errorf("%d changes of direction in nine minutes", turns)
			}
		})
	}
}

// Row 68: a host that is full defers growth, and explains it.
func TestAFullHostDefers(t *testing.T) {
	h := newHost(t, options{memory: 2 * gib, policy: func(p *knowledge.Policy) { p.Memory.Max = gib }})
	var boxes []*box
	for i := range 6 {
		boxes = append(boxes, h.run(fmt.Sprint("db", i), knowledge.Limits{CPU: core, Memory: 200 * mib,
			MemorySwap: 200 * mib}, nil))
	}
	h.pass(5 * time.Second)
	deferred := false
	for range 60 {
		for _, b := range boxes {
			b.anon = min(b.anon+8*mib, b.kernel.Memory-4*mib)
		}
		h.pass(time.Second)
		sum := knowledge.Bytes(0)
		for _, b := range boxes {
			sum += b.kernel.Memory
			deferred = deferred || h.container(
				b).planned[knowledge.ResourceMemory].Admission.Reason.Rule == knowledge.RuleHostMemory
		}
		if budget := 2*gib - 512*mib; sum > budget {
			t.Fatalf("%s promised of %s", sum, budget)
		}
	}
	if !deferred {
		t.Error("nothing was deferred, or it was not explained")
	}
	for _, b := range boxes[:3] { // exited containers hold nothing
		h.remove(b)
		h.emit(knowledge.EventDie, b)
	}
	h.until(10*time.Second, "room again", func() bool { return h.loop.exec.Host.MemoryFree > 300*mib })
}

// A limit as high as the host's memory, which a restore of an unlimited container leaves, does not
// take the memory from all others.
func TestALimitOfTheWholeHostPromisesNothing(t *testing.T) {
	h := newHost(t, options{memory: 2 * gib, policy: func(p *knowledge.Policy) { p.Memory.Max = gib }})
	h.run("restored", knowledge.Limits{CPU: core, Memory: 2 * gib, MemorySwap: 4 * gib}, nil)
	b := h.run("web", usual, nil)
	h.pass(5 * time.Second)
	if free := h.loop.exec.Host.MemoryFree; free < gib {
		t.Errorf("free: %s", free)
	}
	before := b.kernel.Memory
	for range 60 {
		b.anon = min(b.anon+8*mib, b.kernel.Memory-4*mib)
		h.pass(time.Second)
	}
	if b.kernel.Memory <= before {
		t.Errorf("stays at %s", before)
	}
}

// High limits of containers that use little are no reservations: they do not keep another one from
// the memory that is free, and count again as they are used.
func TestUnusedMemoryLimitsCostNothing(t *testing.T) {
	h := newHost(t, options{memory: 8 * gib, policy: func(p *knowledge.Policy) { p.Memory.Max = 4 * gib }})
	var idle []*box
	for i := range 3 {
		b := h.run(fmt.Sprint("idle", i), knowledge.Limits{CPU: core, Memory: 4 * gib, MemorySwap: 4 * gib}, nil)
		b.anon = 50 * mib
		idle = append(idle, b)
	}
	b := h.run("web", usual, nil)
	h.pass(5 * time.Second)
	for range 60 {
		b.anon = min(b.anon+8*mib, b.kernel.Memory-4*mib)
		h.pass(time.Second)
	}
	if b.s.OOMKills > 0 || b.kernel.Memory < 500*mib {
		t.Errorf("a limit of %s for %s, %d kills", b.kernel.Memory, b.anon, b.s.OOMKills)
	}
	for _, b := range idle {
		b.anon, b.demand = min(3*gib, b.kernel.Memory-4*mib), 0.5
	}
	h.pass(30 * time.Second)
	sum := knowledge.Bytes(0)
	for _, b := range idle {
		sum += b.kernel.Memory
	}
	if free := h.loop.exec.Host.MemoryFree; sum > 6*gib && free > 0 {
		t.Errorf("free: %s", free)
	}
}

// Row 66: a leak grows to its ceiling and no further; the host is asked no more.
func TestALeakEndsAtItsCeiling(t *testing.T) {
	h := newHost(t, options{policy: func(p *knowledge.Policy) { p.Memory.Max = gib }})
	b := h.run("leak", usual, nil)
	b.demand = 0.2
	h.pass(5 * time.Second)
	for b.anon < gib-8*mib {
		b.anon = min(b.anon+512*1024, b.kernel.Memory-mib)
		h.tick()
		if b.s.OOMKills > 0 {
			t.Fatalf("killed at %s", b.kernel.Memory)
		}
	}
	before := h.calls["memory"]
	h.pass(5 * time.Minute)
	if b.kernel.Memory != gib || h.calls["memory"] > before+1 {
		t.Errorf("limit %s, %d more updates", b.kernel.Memory, h.calls["memory"]-before)
	}
	if rule := h.container(b).planned[knowledge.ResourceMemory].Decision.Reason.Rule; rule != knowledge.RuleAtMax &&
		rule != knowledge.RuleLeak {
		t.Errorf("reason: %s", rule)
	}
}

// A reader of files fills any limit with page cache, and gets no more memory for it.
func TestPageCacheIsNotFed(t *testing.T) {
	h := newHost(t, options{})
	b := h.run("reader", usual, nil)
	b.demand, b.anon = 0.3, 60*mib
	h.pass(5 * time.Second)
	for range 600 {
		b.cache += 64 * mib
		h.pass(time.Second)
	}
	if b.kernel.Memory > 256*mib {
		t.Errorf("grew to %s for %s of anonymous memory", b.kernel.Memory, b.anon)
	}
}

// Row 65: after an OOM kill more memory at once, and no cut for an hour.
func TestOOMKill(t *testing.T) {
	h := newHost(t, options{})
	b := h.run("java", usual, nil)
	b.demand, b.anon = 0.2, 100*mib
	h.pass(30 * time.Second)
	b.anon = 400 * mib
	h.tick()
	h.emit(knowledge.EventOOM, b)
	took := h.until(2*time.Second, "more memory", func() bool { return b.kernel.Memory >= 356*mib })
	t.Logf("raised to %s after %s", b.kernel.Memory, took)
	b.anon = 30 * mib
	limit := b.kernel.Memory
	h.pass(58 * time.Minute)
	if b.kernel.Memory < limit {
		t.Errorf("cut to %s within the hour", b.kernel.Memory)
	}
}

// Row 31: without events the listing finds what came and what went.
func TestTheListRepairsLostEvents(t *testing.T) {
	h := newHost(t, options{})
	a := h.run("a", usual, nil)
	h.pass(time.Second)
	b := h.run("b", usual, nil)
	h.remove(a)
	h.until(31*time.Second, "b is known", func() bool { return h.container(b) != nil })
	if h.container(a) != nil || len(h.loop.containers.order) != 1 || len(h.loop.containers.due) != 1 {
		t.Errorf("a is still there: %d containers", len(h.loop.containers.order))
	}
	for range 2 * eventsKept { // more than the queue holds
		h.loop.Emit(knowledge.Event{Kind: knowledge.EventUpdate, ID: b.c.ID})
	}
	c := h.run("c", usual, nil)
	h.until(time.Second, "c is known after an overflow", func() bool { return h.container(c) != nil })
}

// Row 31: without events, a container whose cgroup went away is seen to have ended within seconds,
// also where the Engine says so a moment later than the kernel. One that keeps its state costs no
// listing for ever.
func TestAnEndWithoutEvents(t *testing.T) {
	h := newHost(t, options{})
	b := h.run("web", usual, map[string]string{"managed": "no"}) // which is read seldom
	stuck := h.run("stuck", usual, nil)
	h.pass(40 * time.Second)
	b.gone = true
	h.until(20*time.Second, "its files are missed", func() bool { return h.container(b).Probe == nil })
	h.pass(time.Second)
	b.c.State = knowledge.StateExited
	h.until(4*time.Second, "it ended", func() bool { return h.container(b).State == knowledge.StateExited })
	stuck.gone = true
	h.pass(2 * time.Minute)
	before := h.calls["list"]
	h.pass(5 * time.Minute)
	if n := h.calls["list"] - before; n > 11 {
		t.Errorf("%d listings in five minutes", n)
	}
}

// Row 34: a container of the same name is another one; the service goes on.
func TestRecreatedUnderTheSameName(t *testing.T) {
	h := newHost(t, options{})
	a := h.run("web", usual, nil)
	a.demand = 0.8
	h.pass(90 * time.Second)
	seen := h.container(a).service.Profile.ObservedFor()
	h.container(a).Marks.ExternalUntil = h.now.Add(time.Hour)
	h.remove(a)
	h.emit(knowledge.EventDestroy, a)
	b := h.run("web", usual, nil)
	h.emit(knowledge.EventStart, b)
	h.pass(2 * time.Second)
	c := h.container(b)
	if c == nil || !c.Marks.ExternalUntil.IsZero() || c.Window.Samples > 60 {
		t.Fatalf("another one's past: %+v", c.Marks)
	}
	if _, left := h.kept[a.c.ID]; left || len(h.kept) != 1 {
		t.Errorf("original limits: %+v, want the new container's alone", h.kept)
	}
	if c.service.Profile.ObservedFor() < seen || seen < time.Minute {
		t.Errorf("the service was observed for %s before, %s now", seen, c.service.Profile.ObservedFor())
	}
}

// Row 32: 1000 containers come and go each minute: nothing is left behind.
func TestChurn(t *testing.T) {
	h := newHost(t, options{})
	before := runtime.NumGoroutine()
	var live []*box
	for minute := range 4 {
		for i := range 1000 {
			b := h.run(fmt.Sprintf("job-%d-%d", minute, i), usual, nil)
			b.demand = 0.1
			h.emit(knowledge.EventCreate, b)
			h.emit(knowledge.EventStart, b)
			live = append(live, b)
			if len(live) > 20 {
				h.remove(live[0])
				h.emit(knowledge.EventDie, live[0])
				h.emit(knowledge.EventDestroy, live[0])
				live = live[1:]
			}
			if i%2 == 0 {
				h.tick()
			}
		}
	}
	h.pass(time.Minute)
	l := h.loop
	if len(l.containers.byID) != 20 || len(l.containers.order) != 20 || len(l.containers.due) != 20 {
		t.Errorf("%d containers, %d, %d", len(l.containers.byID), len(l.containers.order), len(l.containers.due))
	}
	services, maxIdle := 0, 512
	for range l.services.All() {
		services++
	}
	if services > maxIdle+20 {
		t.Errorf("%d services are kept", services)
	}
	if len(l.saving.folds) > 100 {
		t.Errorf("%d folds wait", len(l.saving.folds))
	}
	if n := runtime.NumGoroutine(); n > before+2 {
		t.Errorf("%d goroutines, %d before", n, before)
	}
	seconds := int(h.now.Sub(begin) / time.Second)
	if n := h.calls["list"]; n > 2*seconds+2 {
		t.Errorf("%d listings in %d s", n, seconds)
	}
}

// A storm of external updates leads to one inspect a second.
func TestAStormOfUpdates(t *testing.T) {
	h := newHost(t, options{})
	b := h.run("web", usual, nil)
	h.pass(5 * time.Second)
	before := h.calls["inspect"]
	for range 100 {
		for range 50 {
			h.emit(knowledge.EventUpdate, b)
		}
		h.tick()
	}
	if n := h.calls["inspect"] - before; n < 9 || n > 12 {
		t.Errorf("%d inspects in ten seconds of 500 updates a second", n)
	}
}

// Row 38: files that do not change: no cut is made of old readings.
func TestFrozenReadings(t *testing.T) {
	h := newHost(t, options{})
	b := h.run("web", usual, nil)
	b.demand = 0.9
	h.pass(30 * time.Second)
	quota := b.kernel.CPU
	b.frozen = true // the same instant, again and again
	h.pass(2 * time.Minute)
	c := h.container(b)
	if b.kernel.CPU < quota {
		t.Errorf("cut from %s to %s", quota, b.kernel.CPU)
	}
	if c.Finding.Quality != knowledge.QualityStale {
		t.Errorf("quality %s", c.Finding.Quality)
	}
	b.frozen, b.at = false, h.now
	h.until(10*time.Second, "good again", func() bool { return c.Finding.Quality == knowledge.QualityGood })
}

// Row 36: one invalid file hides no other, and is counted.
func TestOneBadFile(t *testing.T) {
	h := newHost(t, options{})
	b := h.run("web", usual, nil)
	b.demand = 0.5
	b.broken = errors.New("pids.current: garbage")
	h.pass(20 * time.Second)
	c := h.container(b)
	if c.Probe == nil || c.Finding.Quality != knowledge.QualityGood || h.rejected == 0 {
		t.Errorf("probe %v, quality %s, %d rejected", c.Probe, c.Finding.Quality, h.rejected)
	}
	if !h.loop.ready {
		t.Error("never ready")
	}
}

// Row 41: every instant from which an interval is taken carries the monotonic
// clock, which no jump of the wall clock moves.
func TestIntervalsAreMonotonic(t *testing.T) {
	h := newHost(t, options{})
	h.now = time.Now()
	h.boot(options{})
	b := h.run("web", usual, nil)
	b.at = h.now
	b.demand = 0.5
	h.pass(20 * time.Second)
	b.demand = 3
	h.pass(20 * time.Second)
	c := h.container(b)
	for name, at := range map[string]time.Time{
		"tick": h.loop.ticks.last, "list": h.loop.listing.at, "flush": h.loop.saving.at, "deliberation": h.loop.deliberateAt,
		"window":              c.Window.At,
		"begin of the window": c.Window.Since, "growth": c.Marks.LastGrow[0], "slow tier": c.reading.slow.At(),
		"wish": c.planned[0].Since, "envelope": c.Envelope.At,
	} {
		if at == at.Round(0) {
			t.Errorf("%s: %s is wall time only", name, at)
		}
	}
}

// Rows 41 and 61: marks of a start whose clock was ahead are corrected.
func TestMarksOfTheFuture(t *testing.T) {
	m := execute.Marks{
		ExternalUntil: begin.Add(24 * time.Hour), LastOOM: begin.Add(24 * time.Hour),
		Raised:   [2]execute.RaisedFloor{{Until: begin.Add(999 * time.Hour)}},
		LastGrow: [2]time.Time{begin.Add(time.Hour), begin.Add(-time.Hour)},
	}
	m.Bound(begin, 10*time.Minute)
	if m.ExternalUntil.Sub(begin) != 10*time.Minute || m.LastOOM.After(begin) ||
		m.Raised[0].Until.Sub(begin) != 24*time.Hour ||
		m.LastGrow[0].After(begin) || m.LastGrow[1] != begin.Add(-time.Hour) {
		t.Errorf("%+v", m)
	}
}

// Row 53 and the modes: where nothing may be changed, nothing is, whatever happens.
func TestNothingIsChanged(t *testing.T) {
	for name, o := range map[string]options{
		"row 53: safe mode": {crashes: 3},
		"observe":           {policy: func(p *knowledge.Policy) { p.Mode = knowledge.ModeObserve }},
		"recommend":         {policy: func(p *knowledge.Policy) { p.Mode = knowledge.ModeRecommend }},
		"a bad label":       {policy: func(p *knowledge.Policy) { p.Problems = []string{"cpu.max"} }},
		"weight, observe": {policy: func(p *knowledge.Policy) {
			p.Mode, p.CPUMode = knowledge.ModeObserve, knowledge.CPUWeight
		}},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t, o)
			b := h.run("web", usual, nil)
			other := h.run("free", knowledge.Limits{}, nil)
			for i := range 600 {
				b.demand, other.demand = float64(i%3), float64(i%4)
				b.anon = min(b.anon+mib, 250*mib)
				if i == 300 {
					b.kernel.CPU, b.kernel.Memory = core/2, 300*mib // drift
				}
				h.pass(time.Second)
			}
			if h.writes != 0 || len(h.begun) != 0 {
				t.Errorf("%d writes, %d actions", h.writes, len(h.begun))
			}
			if w := h.container(b).Window; w.Samples < 100 {
				t.Errorf("only %d readings", w.Samples)
			}
		})
	}
}

// Rows 6 and 74: a pass that comes late decides nothing; after a longer gap rates
// start again and everything is listed again.
func TestLatePasses(t *testing.T) {
	for _, gap := range []time.Duration{1500 * time.Millisecond, 12 * time.Second} {
		t.Run(gap.String(), func(t *testing.T) {
			h := newHost(t, options{})
			b := h.run("web", usual, nil)
			b.demand = 0.5
			h.pass(30 * time.Second)
			b.demand = 4
			lists, quota := h.calls["list"], b.kernel.CPU
			h.now = h.now.Add(gap - tickEvery)
			h.tick()
			if b.kernel.CPU != quota {
				t.Errorf("decided in the late pass: %s", b.kernel.CPU)
			}
			if gap > frozenFor && (h.calls["list"] != lists+1 || h.container(b).Window.Samples > 1) {
				t.Errorf("%d listings, %d samples", h.calls["list"]-lists, h.container(b).Window.Samples)
			}
			h.until(time.Second, "growth afterwards", func() bool { return b.kernel.CPU > quota })
		})
	}
}

// Row 61: twenty restarts under a steady load change nothing.
func TestRestartsChangeNothing(t *testing.T) {
	h := newHost(t, options{})
	b := h.run("web", knowledge.Limits{CPU: 2 * core, Memory: 256 * mib, MemorySwap: 512 * mib}, nil)
	b.demand, b.anon = 1.2, 150*mib
	h.pass(30 * time.Minute)
	writes := h.writes
	kernel := b.kernel
	for range 20 {
		h.end()
		marks := map[knowledge.ContainerID][]byte{b.c.ID: h.marks[b.c.ID]}
		h.now = h.now.Add(3 * time.Second)
		h.boot(options{restored: Restored{Marks: marks, Originals: h.kept}})
		h.pass(20 * time.Second)
	}
	if h.writes != writes || b.kernel != kernel {
		t.Errorf("%d writes by restarts alone: %+v, was %+v", h.writes-writes, b.kernel, kernel)
	}
	if !h.container(b).OriginalKept || h.container(b).Marks.Since.IsZero() {
		t.Error("the past is lost")
	}
}

// Row 26 and 27: with the Engine gone measuring and growth go on; after its
// return everything is listed, and nothing is cut for a while.
func TestTheEngineGoes(t *testing.T) {
	h := newHost(t, options{})
	b := h.run("web", usual, nil)
	b.demand = 0.5
	h.pass(30 * time.Second)
	h.mu.Lock()
	h.down = true
	h.mu.Unlock()
	h.pass(5 * time.Second)
	b.demand = 2
	h.until(time.Second, "growth by the kernel file", func() bool { return b.kernel.CPU >= 2*core })
	b.demand = 0.1
	quota := b.kernel.CPU
	calls := h.calls["list"] + h.calls["inspect"] + h.calls["cpu"]
	h.pass(2 * time.Minute)
	if b.kernel.CPU != quota {
		t.Errorf("cut to %s without an Engine", b.kernel.CPU)
	}
	if n := h.calls["list"] + h.calls["inspect"] + h.calls["cpu"] - calls; n > 150 {
		t.Errorf("%d calls in two minutes: a storm", n)
	}
	h.mu.Lock()
	h.down = false
	h.mu.Unlock()
	h.pass(4 * time.Minute)
	if b.kernel.CPU != quota {
		t.Errorf("cut to %s right after the Engine's return", b.kernel.CPU)
	}
	h.until(3*time.Minute, "the cut", func() bool { return b.kernel.CPU < quota })
}

// cpu = weight: no quota, and a share that follows demand once it is known.
func TestWeightMode(t *testing.T) {
	h := newHost(t, options{policy: func(p *knowledge.Policy) { p.CPUMode = knowledge.CPUWeight }})
	b := h.run("batch", knowledge.Limits{Memory: 256 * mib}, nil)
	b.demand = 3
	h.pass(50 * time.Second)
	if h.calls["shares"] != 0 {
		t.Errorf("weighed %d times before it was watched for a minute", h.calls["shares"])
	}
	h.pass(30 * time.Second)
	if b.kernel.Shares < 3000 || b.kernel.Shares > 3300 {
		t.Errorf("%d shares for 3 cores", b.kernel.Shares)
	}
	h.loop.exec.RestoreShares(h.now, &h.container(b).Container)
	h.settle()
	if b.kernel.Shares != 1024 {
		t.Errorf("%d shares after the restore", b.kernel.Shares)
	}
}

// Questions to a loop that ends are answered, all of them.
func TestAskingALoopThatEnds(t *testing.T) {
	h := newHost(t, options{})
	h.loop.o.Now = time.Now
	b := h.run("web", usual, nil)
	ctx, cancel := context.WithCancel(t.Context())
	go h.loop.Run(ctx)
	answers := make(chan error, 64)
	for range cap(answers) {
		go func() {
			for {
				_, err := h.loop.Scale(t.Context(), b.c.Name, ScaleRequest{Resource: knowledge.ResourceCPU, Factor: 1.1,
					DryRun: true})
				if errors.Is(err, ErrStopped) {
					answers <- err
					return
				}
			}
		}()
	}
	<-time.After(20 * time.Millisecond)
	cancel()
	for range cap(answers) {
		select {
		case <-answers:
		case <-time.After(10 * time.Second):
			t.Fatal("a caller waits for ever")
		}
	}
	<-h.loop.Stopped()
}

func TestFindingByName(t *testing.T) {
	h := newHost(t, options{})
	a, b := h.run("web", usual, nil), h.run("db", usual, nil)
	h.pass(time.Second)
	for ref, want := range map[string]*box{"web": a, "db": b, string(b.c.ID): b} {
		if c, err := h.loop.containers.find(ref); err != nil || c != h.container(want) {
			t.Errorf("%q: %v", ref, err)
		}
	}
	for ref, want := range map[string]error{"we": ErrUnknown, "": ErrUnknown, "../web": ErrUnknown,
		string(a.c.ID[:12]): ErrAmbiguous, string(a.c.ID[:5]): ErrUnknown} {
		if _, err := h.loop.containers.find(ref); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", ref, err, want)
		}
	}
}

// A pass that itself took long (the daemon was stopped or starved in it) is
// noticed in the next one.
func TestALongPass(t *testing.T) {
	h := newHost(t, options{})
	var ahead time.Duration // the loop's goroutine's
	h.loop.o.Now = func() time.Time { return time.Now().Add(ahead) }
	h.run("web", usual, nil)
	late := make(chan time.Duration, 1)
	passes := 0
	h.loop.o.OnTick = func() {
		switch passes++; passes {
		case 3:
			ahead = 5 * time.Second
		case 4:
			late <- h.loop.exec.Host.Late
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	go h.loop.Run(ctx)
	select {
	case gap := <-late:
		if gap < 5*time.Second || gap > 15*time.Second {
			t.Errorf("after a pass of 5 s the next one is %s late", gap)
		}
	case <-time.After(20 * time.Second):
		t.Error("no fourth pass")
	}
	cancel()
	<-h.loop.Stopped()
}
