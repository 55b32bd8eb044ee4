package execute

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// Quiet for ten seconds, or late: then the Engine gets what the kernel has.
func TestTheEngineFollows(t *testing.T) {
	w := newWorld(t)
	w.cpu(12 * core / 10)
	subjects := []*Container{w.s}
	for range 100 { // ten seconds of ticks
		w.pass(100 * time.Millisecond)
		w.exec.SyncEngine(w.now, slices.Values(subjects))
	}
	w.settle()
	if w.calls["cpu"] != 0 {
		t.Errorf("updated after %d calls while it may still move", w.calls["cpu"])
	}
	w.pass(time.Second)
	w.exec.SyncEngine(w.now, slices.Values(subjects))
	w.settle()
	if w.calls["cpu"] != 1 || w.engine.CPU != 12*core/10 || w.s.Dirty() {
		t.Errorf("%d calls, the Engine holds %s, dirty %v", w.calls["cpu"], w.engine.CPU, w.s.Dirty())
	}
	if len(w.open)+len(w.closed) != 0 {
		t.Error("the lazy update is no action of its own")
	}
}

// One that never rests is sent within a minute anyway.
func TestTheEngineFollowsWithinAMinute(t *testing.T) {
	w := newWorld(t)
	begin, behind := w.now, time.Duration(0)
	for w.now.Sub(begin) < 10*time.Minute {
		if w.now.Sub(begin)%(2*time.Second) == 0 {
			q := core + knowledge.NanoCPU(w.now.Sub(begin)/time.Second%40)*core/100
			w.cpu(max(q, w.s.Window.Quota*8/10))
			w.s.watches = [2]*watch{}
		}
		w.exec.SyncEngine(w.now, slices.Values([]*Container{w.s}))
		w.settle()
		if w.s.Dirty() {
			behind = max(behind, w.now.Sub(w.s.sync.dirtySince))
		}
		w.pass(500 * time.Millisecond)
	}
	if behind > engineWithin {
		t.Errorf("the Engine was behind for %s", behind)
	}
	if n := w.calls["cpu"]; n < 8 || n > 20 {
		t.Errorf("%d updates in ten minutes of moves each 2 s", n)
	}
}

// At most one update a second for the whole host, the longest behind first, and
// none is forgotten.
func TestFollowHasABudget(t *testing.T) {
	w := newWorld(t)
	subjects := make([]*Container, 50)
	for i := range subjects {
		c := usualSubject(w.now)
		c.ID = knowledge.ContainerID(fmt.Sprintf("%064d", i))
		c.Probe = probe{w}
		c.Marks.Engine, c.Marks.Quota, c.Marks.QuotaSet = w.engine, 2*core, true
		c.sync.dirtySince = w.now.Add(-time.Duration(i) * time.Second)
		subjects[i] = &c
	}
	w.now = w.now.Add(time.Hour)
	for second := range 50 {
		for range 10 {
			w.exec.SyncEngine(w.now, slices.Values(subjects))
			w.settle()
			w.now = w.now.Add(100 * time.Millisecond)
		}
		if n := w.calls["cpu"]; n != second+1 {
			t.Fatalf("%d updates after %d s", n, second+1)
		}
		if c := subjects[len(subjects)-1-second]; c.Dirty() {
			t.Fatalf("second %d: not the one that waits longest", second)
		}
	}
}

// Row 30: an Engine that refuses is asked more and more seldom, and the kernel's
// quota goes on moving.
func TestARefusalOfTheLazyUpdate(t *testing.T) {
	w := newWorld(t)
	w.cpu(12 * core / 10)
	w.fail = errSick
	for range 3600 {
		w.exec.SyncEngine(w.now, slices.Values([]*Container{w.s}))
		w.settle()
		w.pass(time.Second)
	}
	if n := w.calls["cpu"]; n < 6 || n > 13 {
		t.Errorf("%d tries in an hour", n)
	}
	if r := w.cpu(15 * core / 10); !r.Acted {
		t.Errorf("an Engine that fails keeps a container from growing: %s", r.Reason)
	}
	if !w.s.Dirty() {
		t.Error("it is forgotten that the Engine is behind")
	}
	w.fail = nil
	w.pass(time.Hour)
	w.exec.SyncEngine(w.now, slices.Values([]*Container{w.s}))
	w.settle()
	if w.engine.CPU != 15*core/10 {
		t.Errorf("the Engine holds %s", w.engine.CPU)
	}
}

// The quota that moves while an older one is being sent stays, and
// is sent again.
func TestAMoveDuringTheLazyUpdate(t *testing.T) {
	w := newWorld(t)
	w.cpu(12 * core / 10)
	w.pass(11 * time.Second)
	w.exec.SyncEngine(w.now, slices.Values([]*Container{w.s}))
	w.cpu(15 * core / 10)
	w.settle()
	if w.kernel.CPU != 15*core/10 || !w.s.Dirty() {
		t.Fatalf("kernel %s, dirty %v", w.kernel.CPU, w.s.Dirty())
	}
	w.pass(11 * time.Second)
	w.exec.SyncEngine(w.now, slices.Values([]*Container{w.s}))
	w.settle()
	if w.engine.CPU != 15*core/10 || w.s.Dirty() {
		t.Errorf("the Engine holds %s, dirty %v", w.engine.CPU, w.s.Dirty())
	}
}

// Row 4: at the end the Engine gets all that it does not have.
func TestFlush(t *testing.T) {
	w := newWorld(t)
	w.cpu(12 * core / 10)
	clean := usualSubject(w.now)
	clean.Marks.Engine = w.engine
	gone := usualSubject(w.now)
	gone.Gone, gone.sync.dirtySince = true, w.now
	sent, left := w.exec.Flush(t.Context(), slices.Values([]*Container{w.s, &clean, &gone}))
	if sent != 1 || left != 0 || w.engine.CPU != 12*core/10 || w.s.Dirty() {
		t.Errorf("sent %d, left %d, the Engine holds %s", sent, left, w.engine.CPU)
	}
	w.cpu(14 * core / 10)
	w.fail = errSick
	if sent, left := w.exec.Flush(t.Context(), slices.Values([]*Container{w.s})); sent != 0 || left != 1 {
		t.Errorf("sent %d, left %d by an Engine that fails", sent, left)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if sent, left := w.exec.Flush(ended, slices.Values([]*Container{w.s})); sent+left != 1 {
		t.Errorf("sent %d, left %d without time", sent, left)
	}
}

// cpu = weight: a share moves by a fifth at least, each half minute at most, and
// not at all where nothing may be changed.
func TestWeigh(t *testing.T) {
	w := newWorld(t)
	if w.exec.SetShares(w.now, w.s, 1100) {
		t.Error("a tenth is not worth a call")
	}
	if !w.exec.SetShares(w.now, w.s, 2048) {
		t.Fatal("refused")
	}
	w.settle()
	if w.kernel.Shares != 2048 || w.s.Marks.Engine.Shares != 2048 {
		t.Fatalf("kernel %d, marks %d", w.kernel.Shares, w.s.Marks.Engine.Shares)
	}
	w.pass(29 * time.Second)
	if w.exec.SetShares(w.now, w.s, 512) {
		t.Error("too soon")
	}
	w.pass(time.Second)
	for name, set := range map[string]func(*Executor, *Container){
		"original": func(_ *Executor, c *Container) { c.OriginalKept = false },
		"paused":   func(_ *Executor, c *Container) { c.Pause = &knowledge.Pause{On: true} },
		"external": func(_ *Executor, c *Container) { c.Marks.ExternalUntil = w.now.Add(time.Second) },
		"pinned":   func(_ *Executor, c *Container) { c.Marks.Pinned = true },
		"observe":  func(_ *Executor, c *Container) { c.Policy.Mode = knowledge.ModeObserve },
		"safe":     func(e *Executor, _ *Container) { e.Host.Crashes = 3 },
		"late":     func(e *Executor, _ *Container) { e.Host.Late = time.Second },
		"down":     func(e *Executor, _ *Container) { e.Host.EngineDown = w.now },
	} {
		c, host := *w.s, w.exec.Host
		set(w.exec, &c)
		if w.exec.SetShares(w.now, &c, 512) {
			t.Errorf("%s: weighed", name)
		}
		w.exec.Host = host
	}
	w.fail = errSick
	w.exec.SetShares(w.now, w.s, 512)
	w.settle()
	if w.s.LastError == "" || w.s.Marks.Engine.Shares != 2048 || w.s.InFlight {
		t.Errorf("after a failure: %q, %d", w.s.LastError, w.s.Marks.Engine.Shares)
	}
}

// A daemon that ends before it compared what a crashed one left in the kernel
// does so at its end: the next one would take the Engine's older limit for true.
func TestFlushAdoptsWhatAKilledLifeLeft(t *testing.T) {
	w := newWorld(t)
	w.kernel.CPU = core / 2
	w.s.Adopt, w.s.sync.settled = true, false
	if sent, left := w.exec.Flush(t.Context(), slices.Values([]*Container{w.s})); sent != 1 || left != 0 ||
		w.engine.CPU != core/2 {
		t.Errorf("sent %d, left %d, the Engine holds %v, the kernel %v", sent, left, w.engine.CPU, w.kernel.CPU)
	}
}
