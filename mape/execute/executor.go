package execute

import (
	"context"
	"time"

	"github.com/rs/zerolog"

	"github.com/effiscale/effiscale/knowledge"
)

const (
	// retryFirst and retryMost bound the back-off after a refusal or failure.
	retryFirst = 15 * time.Second
	retryMost  = 10 * time.Minute
	// inspectAgain is how soon an inspect that failed is tried again; it doubles, to a
	// minute.
	inspectAgain = time.Second
	// engineCut is the least time between two cuts through the Engine where the kernel
	// file cannot be written: each costs the Engine CPU.
	engineCut = 15 * time.Second
)

// Executor changes limits as far as the guards allow, for all containers of a host.
type Executor struct {
	Host  Host
	Rules Rules
	// Urgent: marks changed that should be on the disk soon; who saves them resets it.
	Urgent bool
	// Repairs counts repaired drifts since the start.
	Repairs int

	engine  Resizer
	journal Journal
	workers *Workers
	meter   Meter
	log     zerolog.Logger
	// outcome gets the end of each cut: reverted or not.
	outcome func(c *Container, r knowledge.Resource, reverted bool)
	lost    time.Time // when originals were lost; zero: never
	ending  bool      // the daemon stops
	now     func() time.Time
	sample  knowledge.Sample // of the limits that were read back last
}

// Options are what an Executor works with.
type Options struct {
	Engine  Resizer
	Journal Journal
	Workers *Workers
	Meter   Meter
	Log     zerolog.Logger
	Rules   Rules
	Now     func() time.Time
	Outcome func(c *Container, r knowledge.Resource, reverted bool)
	Lost    time.Time // when originals were lost; zero: never
}

// New makes an Executor.
func New(o Options) *Executor {
	return &Executor{
		Rules: o.Rules, engine: o.Engine, journal: o.Journal, workers: o.Workers,
		meter: o.Meter, log: o.Log, now: o.Now, outcome: o.Outcome, lost: o.Lost,
	}
}

// Request is a decision about a container as the guards need it.
func (e *Executor) Request(now time.Time, c *Container, d *knowledge.Decision) *Request {
	return &Request{Now: now, Decision: d, Container: c, Host: &e.Host, Rules: &e.Rules}
}

// Apply asks the guards about a decision and does what they let pass. done, when not
// nil, is called on the loop's goroutine once the action is closed.
func (e *Executor) Apply(now time.Time, c *Container, d knowledge.Decision, done func(knowledge.Record)) Admission {
	req := e.Request(now, c, &d)
	r := Admit(req)
	exact := d.Actor == knowledge.ActorRestore && r.Allowed == d.To
	if r.Allowed == d.From && !(exact && !c.AsOriginal(d.Resource)) {
		return r
	}
	if small(&d, r.Allowed) && !exact {
		if r.Guard == "" {
			r.Guard = "small-change"
		}
		r.Allowed = d.From
		return r
	}
	if !c.OriginalKept || c.Probe != nil && !c.Inspected {
		e.Inspect(now, c) // the original limits are recorded before the first change
		r.Allowed, r.Guard, r.Reason = d.From, "original", knowledge.Because(knowledge.RuleOriginal)
		return r
	}
	a := knowledge.Action{
		Kind: knowledge.ActionResize, ID: c.ID, Name: c.Name, Service: c.Service,
		Actor: d.Actor, At: now, Reason: d.Reason, Key: d.Key,
		Resize: knowledge.Resize{
			Resource: d.Resource, Verb: Verb(d.From, r.Allowed), From: d.From, To: r.Allowed,
		},
	}
	var wait knowledge.Reason
	if d.Resource == knowledge.ResourceMemory {
		wait = e.memory(now, c, a, d.Boost, done)
	} else {
		wait = e.cpu(now, c, a, done)
	}
	if r.Acted = wait.IsZero(); !r.Acted { // another update is in progress
		r.Allowed, r.Guard, r.Reason = d.From, "in-flight", wait
		return r
	}
	if d.Resource == knowledge.ResourceMemory && d.From != 0 && r.Allowed > d.From {
		e.Host.MemoryFree -= knowledge.Bytes(r.Allowed - d.From) // until the next count
		c.Promised = knowledge.Bytes(r.Allowed)
	}
	if !req.restores() && !d.Boost {
		c.rate.add(now)
	}
	return r
}

// small reports a change that is not worth making: guards may leave next to nothing.
func small(d *knowledge.Decision, to int64) bool {
	if d.From == 0 || to == 0 {
		return false
	}
	diff := max(to-d.From, d.From-to)
	if d.Resource == knowledge.ResourceMemory {
		return diff < int64(knowledge.MiB)
	}
	return diff < int64(knowledge.OneCPU/200) || d.Resource.Same(d.From, to)
}

// Inspect reads a container's record in the Engine. Of one that will be managed it
// puts the limits on the disk before anything is changed.
func (e *Executor) Inspect(now time.Time, c *Container) {
	if c.inspection.running || c.Gone || now.Before(c.inspection.notBefore) {
		return
	}
	keep := c.Policy.Acts() && !c.OriginalKept
	id, name, service, lost := c.ID, c.Name, c.Service, [2]time.Time{}
	known, before := c.Marks.EngineKnown, c.seen
	other := c.OtherAt
	c.inspection.running = e.workers.Do(func(ctx context.Context) func() {
		info, err := e.engine.Inspect(ctx, id)
		var keepErr error
		if err == nil && keep {
			lost = lostFor(e.lost, other, &info)
			keepErr = e.journal.Keep(knowledge.Original{ID: id, Name: name, Service: service, At: now,
				Limits: info.Limits, Lost: lost})
		}
		return func() {
			c.inspection.running = false
			if err != nil {
				if e.engine.Gone(err) {
					c.Gone = true
				}
				c.inspection.notBefore = e.now().Add(inspectAgain << min(c.inspection.failures, 6))
				c.inspection.failures++
				return
			}
			c.inspection.notBefore, c.inspection.failures = time.Time{}, 0
			if c.seen.exits != before.exits { // it ended meanwhile
				info.State, info.PID, info.Inspected = c.State, 0, false
			}
			e.inspected(c, info, before.updates)
			if keep {
				if keepErr != nil { // a full disk stops learning, never scaling
					e.log.Warn().Err(keepErr).Str("container", name).Msg("cannot persist the original limits; keeping them in memory")
				}
				c.OriginalKept, c.Original = true, Original{info.Limits, lost}
				if !known {
					c.Marks.Since = now
				}
			}
		}
	})
}

// inspected takes over the answer of an inspect; updates is what c.seen.updates was when
// it was sent.
func (e *Executor) inspected(c *Container, info knowledge.Container, updates int) {
	if info.ID != c.ID {
		return
	}
	state := c.State
	c.Container = info
	if info.State == knowledge.StateUnknown {
		c.State = state
	}
	if c.Probe != nil {
		c.Probe.SetPID(info.PID)
	}
	if m, at := &c.Marks, info.StartedAt; info.Inspected && !at.IsZero() && !m.Started.Equal(at) {
		if !m.Started.IsZero() { // it was started again, and no event told of it
			e.Restarted(e.now(), c)
		}
		m.Started, c.Unsaved = at, true
	}
	busy := c.InFlight || c.engine.busy
	if c.Unread = c.Marks.EngineKnown && (busy || c.seen.updates != updates); !c.Unread {
		e.compare(e.now(), c, info.Limits)
	}
}

func (c *Container) backOff(now time.Time, r knowledge.Resource, err error) {
	c.retry[r].after(now)
	c.LastError, c.LastErrorAt = err.Error(), now
}

func (e *Executor) logAction(c *Container, a knowledge.Action, result knowledge.Result, message string) {
	ev := e.log.Info()
	if result == knowledge.ResultFailed || result == knowledge.ResultRefused {
		ev = e.log.Warn()
	}
	ev = ev.Str("container", a.Name).Str("service", string(a.Service)).
		Stringer("resource", a.Resize.Resource).Stringer("actor", a.Actor).Stringer("result", result)
	if a.Resize.Resource == knowledge.ResourceCPU {
		ev = ev.Float64("from_cores", knowledge.NanoCPU(a.Resize.From).Cores()).
			Float64("to_cores", knowledge.NanoCPU(a.Resize.To).Cores())
	} else {
		ev = ev.Int64("from_bytes", a.Resize.From).Int64("to_bytes", a.Resize.To)
	}
	if message != "" {
		ev = ev.Str("detail", message)
	}
	ev.Str("reason", a.Reason.String()).Msg(a.Resize.Verb.String())
}
