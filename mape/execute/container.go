// Package execute does what was decided, and only what its guards let pass. It
// knows one container at a time: judge, record, act, read back, watch, undo.
//
// Every method of Executor runs on the loop's goroutine; what takes time goes to
// Workers, which bring back a closure for that same goroutine. So there is
// one writer per container and no lock.
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
	// UpdateMemory sets memory and memory+swap in one request; mem 0 lifts it.
	UpdateMemory(ctx context.Context, id knowledge.ContainerID, mem, swap knowledge.Bytes) error
	UpdateShares(ctx context.Context, id knowledge.ContainerID, shares int64) error
	// Gone and Refused classify an error: the container is no more; the Engine or
	// the kernel said no to the value. Anything else may pass.
	Gone(err error) bool
	Refused(err error) bool
}

// Probe is one container's kernel files. It is used by the loop's goroutine only.
type Probe interface {
	// Read reads groups of signals into s, and says in s.Have which could be read.
	Read(s *knowledge.Sample, groups knowledge.Signals) error
	SetQuota(q knowledge.NanoCPU, period time.Duration) error
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
	// Amend replaces them by what somebody else chose.
	Amend(o knowledge.Original) error
	// Drop forgets them: they are in force again, or the container is gone.
	Drop(id knowledge.ContainerID) error
}

// Meter counts what is done.
type Meter interface {
	Action(kind, result string, took time.Duration)
	DriftRepaired()
}

// Marks are what must survive a restart of the daemon for one container.
type Marks struct {
	// Engine is what the Engine is known to hold: what we last sent or read.
	// A difference found later was made by somebody else.
	Engine      knowledge.Limits `json:"engine"`
	EngineKnown bool             `json:"engine_known"`
	// Quota is what we last wrote to the kernel; 0 with QuotaSet: lifted.
	Quota    knowledge.NanoCPU `json:"quota"`
	QuotaSet bool              `json:"quota_set"`
	// ExternalUntil: somebody else's change is respected until then.
	ExternalUntil time.Time `json:"external_until,omitzero"`
	// Pinned: their value lies outside the policy; it stays until they change it.
	Pinned bool `json:"pinned,omitempty"`
	// Floors raised by cuts that hurt, per resource.
	Raised [2]RaisedFloor `json:"raised"`
	// Shrinks counts memory cuts of Day (days since 1970, UTC).
	Day     int64     `json:"day"`
	Shrinks int       `json:"shrinks"`
	LastOOM time.Time `json:"last_oom,omitzero"`
	// OOMAnswered is when the limit last followed from a kill, or a person chose it.
	OOMAnswered time.Time `json:"oom_answered,omitzero"`
	// LastShrink and LastGrow per resource, for cool-downs.
	LastShrink [2]time.Time `json:"last_shrink"`
	LastGrow   [2]time.Time `json:"last_grow"`
	// Managed since.
	Since time.Time `json:"since,omitzero"`
}

// Bound brings marks of an earlier life to what a clock that was set back in
// between cannot have made: nothing was done in the future, and nothing lasts
// longer than it may.
func (m *Marks) Bound(now time.Time, yield time.Duration) {
	past := func(t *time.Time) {
		if t.After(now) {
			*t = now
		}
	}
	past(&m.LastOOM)
	past(&m.OOMAnswered)
	past(&m.Since)
	for r := range m.Raised {
		past(&m.LastGrow[r])
		past(&m.LastShrink[r])
		if most := now.Add(raisedMost); m.Raised[r].Until.After(most) {
			m.Raised[r].Until = most
		}
	}
	if most := now.Add(yield); m.ExternalUntil.After(most) {
		m.ExternalUntil = most
	}
}

// RaisedFloor keeps a cut from being repeated.
type RaisedFloor struct {
	Value int64     `json:"value"`
	Until time.Time `json:"until,omitzero"`
	Times int       `json:"times"` // each doubles the hour
}

// Container is one container of this host, as execution needs it.
type Container struct {
	knowledge.Container // as the Engine reports it
	Policy              knowledge.Policy
	Window              *knowledge.Window
	Finding             knowledge.Finding
	Envelope            knowledge.Envelope
	// Ruled is when the service's owner last declared the envelope; zero: not in
	// this life of the daemon.
	DeclaredAt time.Time
	Probe      Probe
	Pause      *knowledge.Pause // of its service; nil: none
	Marks      Marks

	// OriginalKept: the way back is on the disk.
	OriginalKept bool
	Original     knowledge.Limits
	InFlight     bool
	// Promised is the memory limit that is on its way; 0: none.
	Promised knowledge.Bytes
	Gone     bool
	// Adopt: an earlier life of the daemon ended without saving. What the Engine
	// and the kernel hold is then taken as it is, for what the marks do not know
	// of is far more likely its own work than a person's.
	Adopt bool
	// Unread: an update of ours was under way beside the newest inspect, which may
	// have been answered before it: what it told of limits was not looked at.
	Unread bool
	// Unsaved: the marks differ from what is on the disk.
	Unsaved bool
	// KernelRefused says why the kernel file cannot be written; empty: it can.
	KernelRefused string
	// LastError is the last refusal or failure, for explain; empty: none since.
	LastError   string
	LastErrorAt time.Time
	retryAt     [2]time.Time // after a refusal or failure, per resource
	failures    [2]int
	// LastChange is the newest change, for status.
	LastChange knowledge.Record

	dirtySince time.Time // the kernel is ahead of the Engine since then
	fold       fold
	watches    [2]watch
	cut        pendingCut
	inspecting bool
	updates    int // answers to updates that came back
	exits      int // that ended
	lost       int // updates in a row that found no process
	// meetAt: not before may an inspect be tried again after a failure.
	meetAt       time.Time
	meetFailures int
	settled      bool // kernel and Engine were compared once in this life
	drift        drift
	// untold is the memory limit that the newest update asked for and the Engine said it
	// did not set; 0: it did.
	unconfirmed knowledge.Bytes
	rate        rate
	sharesAt    time.Time
}

// Limit is the limit in force for a resource, as the kernel holds it; 0: none.
func (c *Container) Limit(r knowledge.Resource) int64 {
	if r == knowledge.ResourceMemory {
		return int64(c.Window.MemoryLimit)
	}
	return int64(c.Window.Quota)
}

// Watched reports whether a change is being watched, or a step is under way: the
// container wants to be sampled often.
func (c *Container) Watched(now time.Time) bool {
	return c.cut.on || now.Before(c.watches[0].until) || now.Before(c.watches[1].until)
}

// TakeFold returns the quota moves since the last call as one record.
func (c *Container) TakeFold(now time.Time) (knowledge.Record, bool) { return c.fold.take(now, c) }

// fold gathers the reflex's quota moves between two commits.
type fold struct {
	action knowledge.Action
	kernel int64
}

func (f *fold) add(a knowledge.Action, kernel int64) {
	if f.action.Resize.Count == 0 {
		f.action = a
	}
	f.action.At, f.action.Reason = a.At, a.Reason
	r := &f.action.Resize
	r.To = a.Resize.To
	r.Count++
	switch {
	case r.To > r.From:
		r.Verb = knowledge.Grow
	case r.To < r.From:
		r.Verb = knowledge.Shrink
	}
	f.kernel = kernel
}

func (f *fold) take(now time.Time, c *Container) (knowledge.Record, bool) {
	if f.action.Resize.Count == 0 {
		return knowledge.Record{}, false
	}
	r := knowledge.Record{
		Action: f.action,
		Outcome: knowledge.Outcome{
			Result: knowledge.ResultApplied, At: now, Kernel: f.kernel, Engine: int64(c.Marks.Engine.CPU),
		},
	}
	*f = fold{}
	return r, true
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

// Ended notes the end of a life: what an inspect tells that was asked for before, and
// what an update found that found no process, is of that life.
func (c *Container) Exited() {
	c.exits++
	if c.lost > 0 {
		c.lost, c.retryAt = 0, [2]time.Time{}
	}
}
