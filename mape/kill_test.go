package mape

import (
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// small is what a container of these tests is made with.
func small() knowledge.Limits {
	return knowledge.Limits{CPU: core / 2, Memory: 64 * mib, MemorySwap: 64 * mib}
}

// calm is a host whose container has run for a while.
func calm(t *testing.T, o options) (*host, *box) {
	h := newHost(t, o)
	b := h.run("java", small(), nil)
	h.pass(5 * time.Second)
	return h, b
}

// raised is a host whose container lost a process to the kernel at 256 MiB, survives, and
// has more now.
func raised(t *testing.T) (*host, *box) {
	h := newHost(t, options{})
	b := h.run("java", knowledge.Limits{CPU: core / 2, Memory: 256 * mib, MemorySwap: 256 * mib}, nil)
	h.pass(5 * time.Second)
	h.emit(knowledge.EventOOM, b)
	h.until(2*time.Second, "more", func() bool { return b.engine.Memory >= 356*mib })
	return h, b
}

// start starts b with the limits that the Engine has on record.
func (h *host) start(b *box) {
	h.mu.Lock()
	b.c.State, b.gone, b.kernel, b.c.StartedAt = knowledge.StateRunning, false, b.engine, h.now
	h.mu.Unlock()
	h.emit(knowledge.EventStart, b)
}

// kill is the kernel's end of the only process: the cgroup goes with it, and the
// Engine waits before it starts the container again.
func (h *host) kill(b *box) {
	h.mu.Lock()
	b.c.State, b.gone = knowledge.StateRestarting, true
	b.c.Restarts++
	h.mu.Unlock()
	h.emit(knowledge.EventOOM, b)
	h.emit(knowledge.EventDie, b)
}

// stop ends b in order, without a restart.
func (h *host) stop(b *box) {
	h.mu.Lock()
	b.c.State, b.gone = knowledge.StateExited, true
	h.mu.Unlock()
	h.emit(knowledge.EventDie, b)
}

// byHand is a person's `docker update`, before its event.
func (h *host) byHand(b *box, mem knowledge.Bytes) {
	h.mu.Lock()
	defer h.mu.Unlock()
	b.kernel.Memory, b.engine.Memory, b.engine.MemorySwap = mem, mem, mem
}

// Row 65: what leaps over its limit dies within milliseconds of each start, too
// early to be measured. It gets more between two starts, a step a kill, up to its
// maximum, and is not touched while it runs.
func TestKilledBeforeItIsMeasured(t *testing.T) {
	h := newHost(t, options{policy: func(p *knowledge.Policy) { p.Memory.Max = 256 * mib }})
	b := h.run("java", small(), nil)
	h.pass(time.Second)
	for _, want := range []knowledge.Bytes{164 * mib, 256 * mib, 256 * mib} {
		h.start(b)
		h.kill(b)
		h.pass(500 * time.Millisecond) // the Engine's first delays are not longer
		if at := b.engine.Memory; max(at-want, want-at) > 16*mib {
			t.Errorf("the next start begins with %s, want about %s", at, want)
		}
		h.pass(2 * time.Second)
	}
	if n := h.calls["memory"]; n != 2 {
		t.Errorf("%d updates for two steps", n)
	}
	if r := h.container(b).planned[knowledge.ResourceMemory].Decision.Reason.Rule; r != knowledge.RuleAtMax {
		t.Errorf("at the maximum: %q", r)
	}
	h.start(b)
	b.anon = 90 * mib
	h.pass(30 * time.Second)
	if n := h.calls["memory"]; n != 2 || b.engine.Memory != 256*mib {
		t.Errorf("alive: %d updates, %s", n, b.engine.Memory)
	}
}

// Rows 33 and 65: the update of a container that ended meanwhile is superseded; the one
// for the next start is a new one.
func TestKilledDuringTheUpdate(t *testing.T) {
	h, b := calm(t, options{})
	b.dying = true
	h.emit(knowledge.EventOOM, b)
	h.until(2*time.Second, "an action", func() bool { return len(h.ended) > 0 })
	if got := h.ended[len(h.ended)-1].Result; got != knowledge.ResultSuperseded {
		t.Fatalf("the update of a container that ends is %s", got)
	}
	b.dying = false
	h.kill(b)
	h.until(2*time.Second, "more memory for the next start", func() bool { return b.engine.Memory >= 164*mib })
	if n := h.calls["memory"]; n != 1 {
		t.Errorf("%d updates", n)
	}
}

// Rows 61 and 65: a kill that was answered is not answered again by a restart of the
// daemon, and one that was not still is; whether the container runs or not.
func TestAKillIsAnsweredOnce(t *testing.T) {
	for _, c := range []struct {
		name     string
		answered bool
		lives    bool
	}{{"answered, alive", true, true}, {"answered, dead", true, false}, {"not answered, alive", false, true},
		{"not answered, dead", false, false}} {
		t.Run(c.name, func(t *testing.T) {
			h, b := calm(t, options{})
			h.down = !c.answered
			h.kill(b)
			h.pass(5 * time.Second)
			h.down = false
			before, want := b.engine.Memory, c.answered
			if raised := before > 64*mib; raised != want {
				t.Fatalf("raised before the restart: %v, want %v", raised, want)
			}
			h.end()
			h.boot(options{restored: Restored{Marks: h.marks, Originals: h.kept}})
			if c.lives {
				h.start(b)
			}
			h.pass(time.Minute)
			if raised := b.engine.Memory > before; raised == want {
				t.Errorf("from %s to %s after the restart", before, b.engine.Memory)
			}
		})
	}
}

// Rows 65 and 68: a crash loop is given no more than the host has.
func TestKilledBeyondTheHost(t *testing.T) {
	h := newHost(t, options{memory: 6 * gib})
	big := h.run("big", knowledge.Limits{CPU: core / 2, Memory: 5000 * mib, MemorySwap: 5000 * mib}, nil)
	big.anon = 4200 * mib
	b := h.run("java", small(), nil)
	h.pass(10 * time.Second)
	free := h.loop.exec.Host.MemoryFree
	for range 20 {
		h.start(b)
		h.kill(b)
		h.pass(3 * time.Second)
	}
	t.Logf("before the last start: limit %s, free %s", b.engine.Memory, h.loop.exec.Host.MemoryFree)
	h.start(b)
	h.pass(3 * time.Second)
	t.Logf("free at first %s; limit now %s; free now %s", free, b.engine.Memory, h.loop.exec.Host.MemoryFree)
	if b.engine.Memory > 64*mib+free {
		t.Errorf("promised %s beyond the %s that were free", b.engine.Memory-64*mib-free, free)
	}
}

// Row 65: a kill that is reported twice is one kill.
func TestTwoEventsOfOneKill(t *testing.T) {
	h, b := calm(t, options{})
	h.kill(b)
	h.pass(300 * time.Millisecond)
	h.emit(knowledge.EventOOM, b)
	h.pass(3 * time.Second)
	t.Logf("%s after one exit", b.engine.Memory)
	if b.engine.Memory > 200*mib {
		t.Errorf("two steps for one end")
	}
}

// Row 65: a cut that killed is known as harmful, also where the limit of the next start is raised first.
func TestACutThatKilled(t *testing.T) {
	h := newHost(t, options{})
	b := h.run("java", knowledge.Limits{CPU: core / 2, Memory: 1024 * mib, MemorySwap: 1024 * mib}, nil)
	b.anon = 300 * mib
	h.pass(5 * time.Second)
	h.until(40*time.Minute, "a cut", func() bool { return b.kernel.Memory < 1024*mib })
	h.pass(3 * time.Second)
	c := h.container(b)
	cut := b.kernel.Memory
	if !c.Watched(h.now) {
		t.Fatal("not watched")
	}
	h.kill(b)
	h.pass(3 * time.Second)
	h.start(b)
	h.pass(20 * time.Second)
	if f := c.Marks.Raised[knowledge.ResourceMemory]; f.Value == 0 {
		t.Errorf("cut to %s, killed, now %s: no floor was raised", cut, b.engine.Memory)
	}
}

// Row 65: an inspect that was asked for before the end does not make the container run.
func TestInspectOfTheLifeBefore(t *testing.T) {
	h, b := calm(t, options{})
	h.start(b)                        // Meet begins
	time.Sleep(20 * time.Millisecond) // its answer waits
	h.kill(b)
	h.settle()
	h.loop.listing.at, h.loop.listing.began = h.now, h.now // the listing was answered before, too
	h.pass(3 * time.Second)
	if b.engine.Memory == 64*mib {
		t.Errorf("not raised within 3 s; state %s", h.container(b).Container.State)
	}
}

// Row 33: the Engine reports for ever that there is no process, and the container runs.
func TestNoProcessForLong(t *testing.T) {
	h, b := calm(t, options{})
	b.dying = true
	h.emit(knowledge.EventOOM, b)
	h.pass(time.Minute)
	t.Logf("%d updates in a minute", h.calls["memory"])
	if n := h.calls["memory"]; n > 10 {
		t.Errorf("%d updates in a minute", n)
	}
}

// Row 33: removed after the kill, and no event reports it.
func TestKilledAndRemoved(t *testing.T) {
	h, b := calm(t, options{})
	h.kill(b)
	h.remove(b)
	h.pass(29 * time.Second)
	t.Logf("%d updates, %d actions begun", h.calls["memory"], len(h.begun))
	if n := h.calls["memory"]; n > 1 {
		t.Errorf("%d updates of a container that is not there", n)
	}
}

// A container whose measuring was stopped by name runs: it is not changed.
func TestUnwatchedIsNotDown(t *testing.T) {
	h, b := calm(t, options{})
	c := h.container(b)
	c.watched, c.unwatched = false, true // what Watch does
	c.detach()
	h.emit(knowledge.EventOOM, b)
	h.pass(5 * time.Second)
	if n := h.calls["memory"]; n != 0 {
		t.Errorf("%d memory updates of a running container that is not watched: %s", n, b.kernel.Memory)
	}
}

// Row 65: a kill that was answered while it lived asks for nothing when it is stopped.
func TestStoppedAfterAKill(t *testing.T) {
	h, b := raised(t)
	h.pass(20 * time.Minute)
	n, before := h.calls["memory"], b.engine.Memory
	h.stop(b)
	h.pass(time.Minute)
	if h.calls["memory"] != n || b.engine.Memory != before {
		t.Errorf("a container that a person stopped went to %s", b.engine.Memory)
	}
}

// What is recorded of a change for the next start, and what is wanted when the hour is over.
func TestRecordOfTheNextLife(t *testing.T) {
	h, b := calm(t, options{})
	h.kill(b)
	h.pass(2 * time.Second)
	o := h.ended[len(h.ended)-1]
	t.Logf("result %s kernel %s engine %s; status limit %s; planned %+v", o.Result, knowledge.Bytes(o.Kernel),
		knowledge.Bytes(o.Engine), h.container(b).Window.MemoryLimit, h.container(b).planned[1])
	if o.Kernel != 0 && o.Kernel != o.Engine {
		t.Errorf("the record says applied, and that the kernel holds %s", knowledge.Bytes(o.Kernel))
	}
	h.pass(2 * time.Hour)
	w := h.container(b).planned[1]
	if w.Decision.Reason.Rule == knowledge.RuleOOM {
		t.Errorf("two hours later it still requests %s: %s", knowledge.Bytes(w.Decision.To), w.Decision.Reason)
	}
}

// The modes: nothing is changed where nothing may be.
func TestKilledWhereNothingMayBeChanged(t *testing.T) {
	for _, m := range []knowledge.Mode{knowledge.ModeOff, knowledge.ModeObserve, knowledge.ModeRecommend} {
		h, b := calm(t, options{policy: func(p *knowledge.Policy) { p.Mode = m }})
		h.kill(b)
		h.pass(5 * time.Second)
		if h.calls["memory"] != 0 {
			t.Errorf("%v", m)
		}
	}
}

// Rows 53 and 65: the daemon is killed after the answer.
func TestCrashAfterTheAnswer(t *testing.T) {
	h := newHost(t, options{})
	b := h.run("java", small(), nil)
	h.pass(20 * time.Second)
	h.kill(b)
	h.pass(20 * time.Second)
	before := b.engine.Memory
	h.boot(options{restored: Restored{Marks: h.marks, Originals: h.kept, Unclean: true}})
	h.start(b)
	h.pass(time.Minute)
	if b.engine.Memory != before {
		t.Errorf("from %s to %s after a crash", before, b.engine.Memory)
	}
}

// Rows 53 and 65: the daemon is killed before it could answer.
func TestCrashBeforeTheAnswer(t *testing.T) {
	h := newHost(t, options{})
	b := h.run("java", small(), nil)
	h.pass(20 * time.Second)
	h.down = true
	h.kill(b)
	h.pass(60 * time.Second)
	h.down = false
	before := b.engine.Memory
	h.boot(options{restored: Restored{Marks: h.marks, Originals: h.kept, Unclean: true}})
	h.start(b)
	h.pass(time.Minute)
	if b.engine.Memory == before {
		t.Errorf("a kill that was not answered is forgotten with a crash")
	}
}

// Rows 41 and 65: grown, then killed and not answered; the clock is set back before the
// next start.
func TestAKillBeforeTheClockWentBack(t *testing.T) {
	for _, back := range []time.Duration{0, 30 * time.Minute} {
		h, b := calm(t, options{})
		b.anon = 61 * mib
		h.pass(5 * time.Second) // grown once
		b.anon = 20 * mib
		h.pass(5 * time.Second)
		h.down = true
		h.kill(b)
		h.pass(2 * time.Second)
		h.down = false
		h.end()
		before := b.engine.Memory
		h.now = h.now.Add(-back)
		h.boot(options{restored: Restored{Marks: h.marks, Originals: h.kept}})
		h.start(b)
		h.pass(time.Minute)
		if b.engine.Memory <= before {
			t.Errorf("%s back: not answered: %s, grew at first to %s", back, b.engine.Memory, before)
		}
	}
}

// Row 65: a kill at a limit below that of the next start needs no answer, and a restart of the
// daemon does not take it for a kill at the limit of that start.
func TestAKillBelowTheNextStart(t *testing.T) {
	for _, dead := range []bool{false, true} {
		o := options{policy: func(p *knowledge.Policy) {
			p.Memory, p.MemorySource = knowledge.Range[knowledge.Bytes]{Min: 64 * mib, Max: 400 * mib}, "label"
			p.Ceiling.Memory = 400 * mib
		}}
		h := newHost(t, o)
		b := h.run("java", knowledge.Limits{CPU: core}, nil)
		h.until(3*time.Minute, "a first limit", func() bool { return b.kernel.Memory > 0 && b.kernel.Memory < 200*mib })
		h.kill(b)
		if dead {
			h.pass(5 * time.Second)
		}
		h.start(b)
		h.pass(10 * time.Second)
		h.end()
		o.restored = Restored{Marks: h.marks, Originals: h.kept}
		h.boot(o)
		h.pass(30 * time.Second)
		if d := h.container(b).planned[knowledge.ResourceMemory].Decision; d.Reason.Rule == knowledge.RuleAtMax ||
			b.kernel.Memory > 400*mib {
			t.Errorf("dead %v: %s of %s: %s", dead, d.Verb, b.kernel.Memory, d.Reason)
		}
	}
}
