package execute

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/effiscale/effiscale/knowledge"
)

const (
	core = knowledge.OneCPU
	mib  = knowledge.MiB
	gib  = knowledge.GiB
)

var (
	errGone    = errors.New("no such container")
	errRefused = errors.New("the kernel refused")
	errSick    = errors.New("500 internal error")
)

// unsent is the error of a call to an Engine that is down.
type unsent struct{}

func (unsent) Error() string { return "the Engine is down" }
func (unsent) Unsent() bool  { return true }

// world is a container, its kernel and its Engine, as the executor's interfaces show
// them, with a log of everything that happens in order.
type world struct {
	t    *testing.T
	now  time.Time
	exec *Executor
	s    *Container

	mu      sync.Mutex // guards what follows: the Engine is called by workers
	log     []string
	kernel  knowledge.Limits
	high    knowledge.Bytes
	engine  knowledge.Limits
	id      knowledge.ContainerID
	calls   map[string]int
	fail    error             // of every update
	partly  bool              // a failed memory update is in the kernel anyway
	lost    bool              // … and in the record: the answer was lost
	left    string            // what a restore cannot set back
	inspect error             // of every inspect
	rewrite knowledge.NanoCPU // an update of the Engine leaves this quota in the kernel
	broken  error             // the kernel's files
	full    error             // the file of the memory limit
	systemd bool              // each update puts the whole record in force
	used    knowledge.Bytes   // … and less than this kills
	kills   int
	started time.Time
	v1      bool  // no memory.high
	disk    error // the journal
	seq     uint64
	open    map[uint64]knowledge.Action
	closed  []knowledge.Outcome
	kept    []knowledge.Original
	writing int // updates of the container in progress
	most    int // at once
	learned []bool
}

func (w *world) say(format string, a ...any) { w.log = append(w.log, fmt.Sprintf(format, a...)) }

// Inspect and the updates are the Engine.
func (w *world) Inspect(_ context.Context, id knowledge.ContainerID) (knowledge.Container, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls["inspect"]++
	info := knowledge.Container{ID: id, Name: "web", Service: "web", State: knowledge.StateRunning, Inspected: true,
		PID: 7, Limits: w.engine, StartedAt: w.started}
	return info, w.inspect
}

func (w *world) update(what string, do func()) error {
	w.mu.Lock()
	w.calls[what]++
	w.writing++
	w.most = max(w.most, w.writing)
	w.say("send %s", what)
	w.mu.Unlock()
	runtime.Gosched() // an overlap would show
	w.mu.Lock()
	defer w.mu.Unlock()
	w.writing--
	if w.fail != nil {
		if w.partly || w.lost {
			do()
		}
		return w.fail
	}
	do()
	if w.systemd {
		w.kernel, w.high = w.engine, 0
		if w.engine.MemorySwap == w.engine.Memory { // as runc 1.1
			w.kernel.MemorySwap = -1
		}
		if w.used > w.kernel.Memory {
			w.kills++
		}
	}
	return nil
}

func (w *world) UpdateCPU(_ context.Context, _ knowledge.ContainerID, l knowledge.Limits) error {
	return w.update("cpu", func() {
		if l.CPU == 0 {
			l.CPU = 8 * core
		}
		w.kernel.CPU, w.engine.CPU, w.engine.Dialect = l.CPU, l.CPU, l.Dialect
		if w.rewrite != 0 {
			w.kernel.CPU = w.rewrite
		}
	})
}

func (w *world) UpdateMemory(_ context.Context, _ knowledge.ContainerID, mem, swap knowledge.Bytes) error {
	return w.update("memory", func() {
		if mem == 0 {
			mem = 16 * gib
		}
		w.kernel.Memory, w.kernel.MemorySwap = mem, swap
		if !w.partly {
			w.engine.Memory, w.engine.MemorySwap = mem, swap
		}
		if w.rewrite != 0 {
			w.kernel.CPU = w.rewrite
		}
	})
}

func (w *world) Restore(
	_ context.Context, _ knowledge.ContainerID, r knowledge.Resource, l knowledge.Limits,
) (left string, err error) {
	err = w.update("restore", func() {
		left = w.left
		if l.CPU == 0 {
			l.CPU = 8 * core
		}
		if l.Memory == 0 {
			l.Memory = 16 * gib
		}
		if r == knowledge.ResourceMemory {
			w.kernel.Memory, w.engine.Memory, w.engine.MemorySwap = l.Memory, l.Memory, l.MemorySwap
			w.kernel.MemorySwap = l.MemorySwap
			if l.MemorySwap < 0 { // which the Engine does not pass to the kernel
				w.kernel.MemorySwap = l.Memory + 16*gib
			}
			return
		}
		w.kernel.CPU, w.engine.CPU, w.engine.Dialect = l.CPU, l.CPU, l.Dialect
	})
	return left, err
}

func (w *world) UpdateShares(_ context.Context, _ knowledge.ContainerID, shares int64) error {
	return w.update("shares", func() {
		w.kernel.Shares, w.engine.Shares = shares, shares
		if w.rewrite != 0 {
			w.kernel.CPU = w.rewrite
		}
	})
}

func (w *world) Gone(err error) bool    { return errors.Is(err, errGone) }
func (w *world) Refused(err error) bool { return errors.Is(err, errRefused) }

// probe is the kernel's files.
type probe struct{ *world }

func (p probe) Writable() bool { return p.broken == nil }
func (p probe) SetPID(int)     {}
func (p probe) Close() error   { return nil }

func (p probe) Read(s *knowledge.Sample, groups knowledge.Signals) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if groups&knowledge.HasLimits == 0 {
		return nil
	}
	s.Quota, s.Period, s.MemoryLimit, s.MemoryHigh = p.kernel.CPU, knowledge.DefaultPeriod, p.kernel.Memory, p.high
	s.Have |= knowledge.HasLimits
	return nil
}

func (p probe) SetQuota(q knowledge.NanoCPU, _ time.Duration) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.broken != nil {
		return p.broken
	}
	p.kernel.CPU = q
	p.say("quota %s", q)
	return nil
}

func (p probe) SetMemory(mem, total knowledge.Bytes) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.full != nil:
		return p.full
	case p.broken != nil:
		return p.broken
	}
	p.kernel.Memory, p.kernel.MemorySwap = mem, total
	p.say("limit %s", mem)
	return nil
}

func (p probe) SetHigh(b knowledge.Bytes) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.v1 {
		return errors.ErrUnsupported
	}
	if b != p.high {
		p.high = b
		p.say("high %s", b)
	}
	return nil
}

// Begin, End, Keep and Drop are the journal.
func (w *world) Begin(a knowledge.Action) (uint64, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seq++
	w.open[w.seq] = a
	w.say("record %s", a.Resize.Resource)
	return w.seq, w.disk
}

func (w *world) End(o knowledge.Outcome) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, ok := w.open[o.Seq]; !ok && o.Result != knowledge.ResultReverted {
		w.t.Errorf("an action that is not open is closed: %+v", o)
	}
	delete(w.open, o.Seq)
	w.closed = append(w.closed, o)
	w.say("close %s", o.Result)
	return w.disk
}

func (w *world) Keep(o knowledge.Original) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.kept = append(w.kept, o)
	w.say("keep")
	return w.disk
}

func (w *world) Amend(o knowledge.Original) error { return w.Keep(o) }

func (w *world) Drop(knowledge.ContainerID) error { return nil }

type meter struct{}

func (meter) Action(string, string, time.Duration) {}
func (meter) DriftRepaired()                       {}

// newWorld is a managed container of 1 core and 512 MiB that was met already, on
// a host of 8 cores and 16 GiB.
func newWorld(t *testing.T) *world {
	limits := knowledge.Limits{CPU: core, Dialect: 1, Period: knowledge.DefaultPeriod, Memory: 512 * mib,
		MemorySwap: 768 * mib}
	w := &world{
		t: t, now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), id: "c0ffee",
		kernel: limits, engine: limits, calls: map[string]int{}, open: map[uint64]knowledge.Action{},
	}
	hands := NewWorkers(t.Context(), 4, 64)
	t.Cleanup(hands.Close)
	w.exec = New(Options{
		Engine: w, Journal: w, Workers: hands, Meter: meter{}, Log: zerolog.Nop(), Rules: usualRules(),
		Now:     func() time.Time { return w.now },
		Outcome: func(_ *Container, _ knowledge.Resource, reverted bool) { w.learned = append(w.learned, reverted) },
	})
	w.exec.Host = usualHost()
	c := usualSubject(w.now)
	c.Probe = probe{w}
	c.Marks.Engine, c.Marks.EngineKnown = limits, true
	c.Original = Original{Limits: limits}
	c.engine.settled = true
	w.s = &c
	return w
}

func usualRules() Rules {
	return Rules{StepUp: 1.5, StepDown: 0.7, ActionsPerMinute: 60, EvidenceAge: 15 * time.Second,
		Actuator: knowledge.ActuatorKernel}
}

func usualHost() Host {
	return Host{CPUs: 8, Memory: 16 * gib, CPUPool: 7 * core, MemoryFree: 8 * gib}
}

func usualSubject(now time.Time) Container {
	return Container{
		Container: knowledge.Container{ID: "c0ffee", Name: "web", Service: "web", State: knowledge.StateRunning,
			Inspected: true},
		Input: Input{Policy: knowledge.Policy{
			Managed: true, Mode: knowledge.ModeAuto, CPU: knowledge.Range[knowledge.NanoCPU]{Min: core / 20, Max: 6 * core},
			Memory: knowledge.Range[knowledge.Bytes]{Min: 32 * mib, Max: 4 * gib}, ShrinksPerDay: 48, YieldFor: 10 * time.Minute,
			ThrottleTarget: 0.06,
		},
			Window: &knowledge.Window{
				ID: "c0ffee", At: now, Since: now.Add(-time.Hour), Samples: 100, Have: ^knowledge.Signals(0), Quota: core,
				Period: knowledge.DefaultPeriod,
				Usage:  core / 2, UsageMax: core / 2, Usage60: core / 2,
				WindowMemory: knowledge.WindowMemory{WorkingSet: 100 * mib, Hard: 100 * mib, MemoryLimit: 512 * mib},
			}},
		OriginalKept: true,
	}
}

// settle brings back every job that is in progress, and what follows from it.
func (w *world) settle() {
	w.t.Helper()
	deadline := time.After(10 * time.Second)
	for w.exec.workers.Open() > 0 {
		select {
		case after := <-w.exec.workers.Results():
			w.exec.workers.Finish(after)
		case <-deadline:
			w.t.Fatalf("%d jobs do not come back", w.exec.workers.Open())
		}
	}
}

// pass lets time go by with a fresh reading at its end.
func (w *world) pass(d time.Duration) {
	w.now = w.now.Add(d)
	w.s.Window.At = w.now
	w.exec.readBack(w.s)
}

func (w *world) decide(r knowledge.Resource, to int64, actor knowledge.Actor) knowledge.Decision {
	from := w.s.Limit(r)
	return knowledge.Decision{
		ID: w.id, Resource: r, Verb: Verb(from, to), Actor: actor, At: w.now, From: from, To: to,
		Reason: knowledge.Because(knowledge.RuleSettled),
	}
}

func (w *world) cpu(to knowledge.NanoCPU) Admission {
	return w.exec.Apply(w.now, w.s, w.decide(knowledge.ResourceCPU, int64(to), knowledge.ActorReflex), nil)
}

func (w *world) memory(to knowledge.Bytes) Admission {
	return w.exec.Apply(w.now, w.s, w.decide(knowledge.ResourceMemory, int64(to), knowledge.ActorReflex), nil)
}

// happened checks the log since the last call.
func (w *world) happened(want ...string) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Equal(w.log, want) {
		w.t.Errorf("happened: %q\nwant:     %q", w.log, want)
	}
	w.log = nil
}
