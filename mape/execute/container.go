// Package execute does what was decided, and only what its guards let pass. It works on
// one container at a time: admit, record, change, read back, watch, undo.
//
// Every method of Executor runs on the loop's goroutine. Calls of the Engine and the
// disk go to Workers, whose results come back as closures for that same goroutine. So
// there is one writer per container and no lock.
package execute

import (
	"context"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// Resizer is what execution needs of a container engine: one implementation is docker.Client.
type Resizer interface {
	Inspect(ctx context.Context, id knowledge.ContainerID) (knowledge.Container, error)
	// UpdateCPU sets the quota; l.CPU 0 removes it.
	UpdateCPU(ctx context.Context, id knowledge.ContainerID, l knowledge.Limits) error
	// UpdateMemory sets memory and memory+swap in one request; mem 0 removes the limit.
	UpdateMemory(ctx context.Context, id knowledge.ContainerID, mem, swap knowledge.Bytes) error
	// Restore sets a limit as it was recorded; left names what cannot be set back.
	Restore(ctx context.Context, id knowledge.ContainerID, r knowledge.Resource,
		l knowledge.Limits) (left string, err error)
	UpdateShares(ctx context.Context, id knowledge.ContainerID, shares int64) error
	// Gone and Refused classify an error: the container was removed; the Engine or the
	// kernel refused the value. Any other error may be temporary; with a method Unsent() bool
	// it tells that the call did not reach the Engine.
	Gone(err error) bool
	Refused(err error) bool
}

// Probe is one container's kernel files. It is used by the loop's goroutine only, but for
// SetQuota and SetMemory, which workers call too. Their error is an fs.ErrNotExist when
// the container ended; a new start of it is never written.
type Probe interface {
	// Read reads groups of signals into s, and sets in s.Have which could be read.
	Read(s *knowledge.Sample, groups knowledge.Signals) error
	// SetQuota sets the CPU quota; 0 lifts it.
	SetQuota(q knowledge.NanoCPU, period time.Duration) error
	// SetMemory sets the limits of memory, and of memory and swap together; mem 0 lifts
	// both, total -1 that of swap. It lasts as long as the kernel reclaims. The error is
	// EBUSY when what is in use cannot be reclaimed.
	SetMemory(mem, total knowledge.Bytes) error
	SetHigh(b knowledge.Bytes) error
	Writable() bool
	SetPID(pid int)
	Close() error
}

// Journal is the durable memory of actions.
type Journal interface {
	// Begin records an action before it is sent; it is on the disk when Begin
	// returns. A store that is degraded returns an error and a usable number.
	Begin(a knowledge.Action) (seq uint64, err error)
	End(o knowledge.Outcome) error
	// Keep records the limits that a container had before the first change.
	Keep(o knowledge.Original) error
	// Amend replaces them after an external change.
	Amend(o knowledge.Original) error
	// Drop forgets them: they were restored, or the container was removed.
	Drop(id knowledge.ContainerID) error
}

// Meter counts what is done.
type Meter interface {
	Action(kind, result string, took time.Duration)
	DriftRepaired()
}

// Container is one container of this host, as execution needs it.
type Container struct {
	knowledge.Container // as the Engine reports it
	Input
	Marks Marks

	// OriginalKept: the limits of before the first change, Original, are on the disk.
	OriginalKept bool
	Original     Original
	InFlight     bool // an update is in progress
	// Promised is the memory limit that is being set; 0: none.
	Promised knowledge.Bytes
	Gone     bool // it was removed
	// Adopt: the daemon ended before without saving. The limits of the Engine and the
	// kernel are then taken as they are: what the marks do not have is far more likely
	// the daemon's own work than a person's.
	Adopt bool
	// Unread: an update was in progress during the newest inspect, which may have been
	// answered before it: its limits were not used.
	Unread bool
	// Unsaved: the marks differ from what is on the disk.
	Unsaved bool
	// KernelRefused says why the kernel files cannot be written; empty: they can.
	KernelRefused string
	// LastError is the last refusal or failure, for explain; empty: none since.
	LastError   string
	LastErrorAt time.Time
	// LastChange is the newest change, for status.
	LastChange knowledge.Record

	retry      [2]retry // per resource
	inspection inspection
	seen       seen
	engine     engineState
	moves      quotaMoves
	watches    [2]*watch // of the newest cut of each resource; nil: none
	cut        pendingCut
	drift      drift
	rate       rate
}

// Original is what a container was allowed before its first change.
type Original struct {
	knowledge.Limits
	// Lost, by resource: the record was lost then, or another daemon changed the container, and
	// the limits are those found afterwards.
	Lost [2]time.Time
}

// Input is what the loop sets of a container before it calls the executor.
type Input struct {
	Policy   knowledge.Policy
	Window   *knowledge.Window
	Finding  knowledge.Finding
	Envelope knowledge.Envelope
	// DeclaredAt is when the service's owner last declared the envelope; zero: not
	// since the daemon started.
	DeclaredAt time.Time
	// OtherAt is when another daemon was last seen to change it; zero: none was.
	OtherAt time.Time
	Probe   Probe
	Pause   *knowledge.Pause // of its service; nil: none
}

// retry spaces the attempts after a refusal or failure.
type retry struct {
	at       time.Time
	failures int
	refused  *refusal // nil: none
}

// after is the time of the next attempt after one that failed now.
func (r *retry) after(now time.Time) {
	r.at = now.Add(min(retryFirst<<min(r.failures, 6), retryMost))
	r.failures++
}

// inspection is the state of the inspects of one container.
type inspection struct {
	running   bool
	notBefore time.Time // after a failure
	failures  int
}

// seen counts what makes an answer of the Engine outdated.
type seen struct {
	updates  int // that were answered
	exits    int
	notFound int // updates in a row that found no container
}

// engineState is the state of the Engine's record and its updates.
type engineState struct {
	settled  bool // it was compared with the kernel's files since the daemon started
	busy     bool // what the container starts with is being updated
	updated  time.Time
	over     [2]time.Time // since when more than the record is in force, per resource
	retry    retry
	refused  [2]*refusal // of what it starts with, per resource
	sharesAt time.Time
	shares   int64     // as sent last
	unclear  []unclear // updates without a clear answer
}

// Limit is the limit in force for a resource, as the kernel holds it; 0: none.
func (c *Container) Limit(r knowledge.Resource) int64 {
	if r == knowledge.ResourceMemory {
		return int64(c.Window.MemoryLimit)
	}
	return int64(c.Window.Quota)
}

// Starts is the limit that the container starts with, by the Engine's record.
func (c *Container) Starts(r knowledge.Resource) int64 { return c.Marks.start(r) }

// Watched reports whether a change is being watched, or the first step of a cut: the
// container has to be sampled often.
func (c *Container) Watched(now time.Time) bool {
	for _, w := range c.watches {
		if w != nil && now.Before(w.until) {
			return true
		}
	}
	return c.cut.on
}

// TakeQuotaMoves returns the quota moves since the last call: a record for those in one
// direction, none for those that ended where they began.
func (c *Container) TakeQuotaMoves(now time.Time) (out []knowledge.Record) {
	add := func(f fold) {
		out = append(out, knowledge.Record{Action: f.action, Outcome: knowledge.Outcome{
			Result: knowledge.ResultApplied, At: now, Kernel: f.kernel, Engine: int64(c.Marks.Engine.CPU),
		}})
	}
	for _, f := range c.moves.done {
		add(f)
	}
	if c.moves.moved() {
		add(c.moves.fold)
	}
	c.moves = quotaMoves{}
	return out
}

// quotaMoves gathers the reflex's quota moves between two commits.
type quotaMoves struct {
	fold
	done []fold // foldsMost at most
}

// fold is a row of moves as one action.
type fold struct {
	action knowledge.Action
	kernel int64
}

// foldsMost bounds the changes of direction that are recorded between two commits.
const foldsMost = 8

// moved: it did not end where it began.
func (f *fold) moved() bool {
	r := &f.action.Resize
	return r.Count > 0 && !r.Resource.Same(r.From, r.To)
}

func (m *quotaMoves) add(a knowledge.Action, kernel int64) {
	if m.moved() && m.action.Resize.Verb != a.Resize.Verb && len(m.done) < foldsMost-1 {
		m.done, m.fold = append(m.done, m.fold), fold{}
	}
	if m.action.Resize.Count == 0 {
		m.action = a
	}
	m.action.At, m.action.Reason = a.At, a.Reason
	r := &m.action.Resize
	r.To = a.Resize.To
	r.Count++
	switch {
	case r.To > r.From:
		r.Verb = knowledge.Grow
	case r.To < r.From:
		r.Verb = knowledge.Shrink
	}
	m.kernel = kernel
}

// rate counts actions in the running minute and the one before.
type rate struct {
	minute   int64
	now, old int
}

func (r *rate) roll(now time.Time) {
	m := now.Unix() / 60
	if m == r.minute {
		return
	}
	r.old = r.now
	if m != r.minute+1 {
		r.old = 0
	}
	r.now, r.minute = 0, m
}

func (r *rate) add(now time.Time) { r.roll(now); r.now++ }

// count estimates the actions of the last 60 s from the two buckets.
func (r *rate) count(now time.Time) float64 {
	r.roll(now)
	return float64(r.now) + float64(r.old)*float64(60-now.Unix()%60)/60
}

// Exited notes that the container ended: an inspect that was in progress, and updates
// that found no process, are of the time before.
func (c *Container) Exited() {
	c.seen.exits++
	if c.seen.notFound > 0 {
		c.seen.notFound, c.retry[0].at, c.retry[1].at = 0, time.Time{}, time.Time{}
	}
}

// sameCPU compares quotas as the kernel rounds them: to a microsecond of the
// period, and with the systemd driver up to a whole percent of a core.
func sameCPU(a, b knowledge.NanoCPU) bool {
	return max(a-b, b-a) <= max(b/100, knowledge.OneCPU/100)
}

func same(r knowledge.Resource, a, b int64) bool {
	if r == knowledge.ResourceCPU {
		return sameCPU(knowledge.NanoCPU(a), knowledge.NanoCPU(b))
	}
	return max(a-b, b-a) < 64*int64(knowledge.KiB) // page sizes up to 64 KiB
}

// Verb is what going from one limit to another does; 0 is no limit.
func Verb(from, to int64) knowledge.Verb {
	switch {
	case from == to:
		return knowledge.Hold
	case to == 0 || (from != 0 && to > from):
		return knowledge.Grow
	}
	return knowledge.Shrink
}
