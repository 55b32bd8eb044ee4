package execute

import (
	"context"
	"time"

	"github.com/rs/zerolog"

	"github.com/effiscale/effiscale/knowledge"
)

const (
	// engineEvery is how often, at most, the Engine gets a quota that the kernel already
	// has: an update costs dockerd and runc about 30 ms of CPU.
	engineEvery = time.Second
	// engineWithin is how long the Engine may lag behind the kernel.
	engineWithin = 60 * time.Second
	// engineQuiet: a quota that did not change for so long is sent early.
	engineQuiet = 10 * time.Second
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
	outcome  func(c *Container, r knowledge.Resource, reverted bool)
	lost     time.Time // when originals were lost; zero: never
	now      func() time.Time
	syncedAt time.Time
	sample   knowledge.Sample // of the limits that were read back last
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
	if r.Allowed == d.From {
		return r
	}
	if small(&d, r.Allowed) {
		if r.Guard == "" {
			r.Guard = "small-change"
		}
		r.Allowed = d.From
		return r
	}
	if !c.OriginalKept {
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
		wait = e.memory(now, c, a, done)
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
	id, name, service := c.ID, c.Name, c.Service
	known, before := c.Marks.EngineKnown, c.seen
	c.inspection.running = e.workers.Do(func(ctx context.Context) func() {
		info, err := e.engine.Inspect(ctx, id)
		var keepErr error
		if err == nil && keep {
			keepErr = e.journal.Keep(knowledge.Original{ID: id, Name: name, Service: service, At: now,
				Limits: info.Limits, Lost: e.lostFor(&info)})
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
				c.OriginalKept, c.Original = true, Original{info.Limits, e.lostFor(&info)}
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
	if c.Unread = c.Marks.EngineKnown && (c.InFlight || c.seen.updates != updates); !c.Unread {
		e.compare(e.now(), c, info.Limits)
	}
}

// writeQuota writes the kernel file at once. It returns false where that is not
// possible, and the Engine must be asked.
func (e *Executor) writeQuota(c *Container, to knowledge.NanoCPU) bool {
	if e.Rules.Actuator != knowledge.ActuatorKernel || c.Probe == nil || c.KernelRefused != "" {
		return false
	}
	if err := c.Probe.SetQuota(to, 0); err != nil {
		if invalid(err) {
			c.refuse(e.now(), &knowledge.Resize{From: int64(c.Window.Quota), To: int64(to)}, err)
			c.LastError, c.LastErrorAt = err.Error(), e.now()
			e.log.Warn().Err(err).Str("container", c.Name).Float64("cores", to.Cores()).Msg("the kernel refused a CPU quota")
			return false
		}
		c.KernelRefused = err.Error()
		e.log.Warn().Err(err).Str("container", c.Name).Msg("cannot write the quota file; using the Engine instead")
		return false
	}
	e.readBack(c)
	c.Marks.Quota, c.Marks.QuotaSet = to, true
	return true
}

// readBack reads the limits in force into the window.
func (e *Executor) readBack(c *Container) bool {
	if c.Probe == nil {
		return false
	}
	s := &e.sample
	s.Have = 0
	if err := c.Probe.Read(s, knowledge.HasLimits); err != nil || s.Have&knowledge.HasLimits == 0 {
		return false
	}
	w := c.Window
	w.Quota, w.Period = s.Quota, s.Period
	w.MemoryLimit, w.MemoryHigh = s.MemoryLimit, s.MemoryHigh
	return true
}

// cpu changes the quota. The reason says why it could not be now; zero: it is done, or
// in progress.
func (e *Executor) cpu(now time.Time, c *Container, a knowledge.Action, done func(knowledge.Record)) knowledge.Reason {
	if done == nil && e.writeQuota(c, knowledge.NanoCPU(a.Resize.To)) {
		c.moves.add(a, int64(c.Window.Quota))
		if c.sync.dirtySince.IsZero() {
			c.sync.dirtySince = now
		}
		e.applied(now, c, a)
		result := knowledge.ResultApplied
		if !sameCPU(c.Window.Quota, knowledge.NanoCPU(a.Resize.To)) {
			result = knowledge.ResultAdjusted
		}
		c.LastChange = knowledge.Record{Action: a, Outcome: knowledge.Outcome{Result: result, At: now,
			Kernel: int64(c.Window.Quota)}}
		e.meter.Action("cpu-kernel", result.String(), 0)
		e.logAction(c, a, result, "")
		return knowledge.Reason{}
	}
	if f := &c.retry[knowledge.ResourceCPU].refused; done == nil && f.at.Equal(now) && f.to == a.Resize.To {
		return knowledge.Reason{Rule: knowledge.RuleRefused, Note: f.text} // the Engine's write would be the same
	}
	if c.InFlight {
		return knowledge.Because(knowledge.RuleInFlight)
	}
	wait := engineCut - now.Sub(c.Marks.LastShrink[knowledge.ResourceCPU])
	if done == nil && a.Resize.Verb == knowledge.Shrink && wait > 0 {
		return knowledge.Because(knowledge.RuleCooldown, wait.Seconds())
	}
	e.writeQuota(c, knowledge.NanoCPU(a.Resize.To))
	l := c.Marks.Engine
	l.CPU, l.Period = knowledge.NanoCPU(a.Resize.To), c.Window.Period
	return e.send(c, a, done, func(ctx context.Context) error {
		return e.engine.UpdateCPU(ctx, a.ID, l)
	})
}

func (e *Executor) memory(now time.Time, c *Container, a knowledge.Action,
	done func(knowledge.Record)) knowledge.Reason {
	switch {
	case c.InFlight, c.cut.on && a.Resize.Verb == knowledge.Shrink && done == nil:
		return knowledge.Because(knowledge.RuleInFlight)
	case c.cut.on: // a request for memory, or of a person, does not wait for a cut
		e.cancelCut(now, c, "another limit was requested meanwhile")
	}
	if a.Resize.Verb == knowledge.Shrink && a.Resize.From != 0 && done == nil && e.lowerHighFirst(c, a) {
		return knowledge.Reason{}
	}
	return e.sendMemory(c, a, done)
}

func (e *Executor) sendMemory(c *Container, a knowledge.Action, done func(knowledge.Record)) knowledge.Reason {
	mem := knowledge.Bytes(a.Resize.To)
	swap := c.swapFor(mem, e.Host.Memory)
	return e.send(c, a, done, func(ctx context.Context) error {
		return e.engine.UpdateMemory(ctx, a.ID, mem, swap)
	})
}

// swapFor keeps the container's own swap allowance beside a new memory limit.
// Docker's default, where none was set, is as much swap as memory.
func (c *Container) swapFor(mem, hostMemory knowledge.Bytes) knowledge.Bytes {
	l := c.Marks.Engine
	if c.OriginalKept {
		l.Memory, l.MemorySwap = c.Original.Memory, c.Original.MemorySwap
	}
	switch {
	case l.MemorySwap < 0: // unlimited: -1 would be stored and not applied
		return mem + hostMemory
	case l.MemorySwap > 0 && l.Memory > 0:
		return mem + max(l.MemorySwap-l.Memory, 0)
	}
	return 2 * mem
}

// send takes an action through the journal and the Engine: recorded, sent, read
// back, closed. One at a time for each container.
func (e *Executor) send(c *Container, a knowledge.Action, done func(knowledge.Record),
	call func(context.Context) error) knowledge.Reason {
	started := e.now()
	c.InFlight = e.workers.Do(func(ctx context.Context) func() {
		var beginErr error
		if a.Seq == 0 { // the first step of a memory cut recorded it already
			a.Seq, beginErr = e.journal.Begin(a)
		}
		err := call(ctx)
		return func() { e.sent(c, a, attempt{started: started, err: err, unwritten: beginErr, done: done}) }
	})
	if !c.InFlight {
		return knowledge.Because(knowledge.RuleInFlight)
	}
	return knowledge.Reason{}
}

// attempt is how a call of the Engine went.
type attempt struct {
	started   time.Time
	err       error // of the call
	unwritten error // of the journal: the action is in memory only
	done      func(knowledge.Record)
}

// sent closes an action on the loop's goroutine.
func (e *Executor) sent(c *Container, a knowledge.Action, t attempt) {
	c.InFlight = false
	c.seen.updates++
	if a.Resize.Resource == knowledge.ResourceMemory {
		c.Promised, c.sync.unconfirmed = 0, 0
		if t.err != nil {
			c.sync.unconfirmed = knowledge.Bytes(a.Resize.To)
		}
	}
	err := t.err
	now := e.now()
	read := e.readBack(c)
	o := knowledge.Outcome{
		Seq: a.Seq, At: now, Took: now.Sub(t.started), Kernel: c.Limit(a.Resize.Resource), Engine: a.Resize.To,
	}
	if c.Probe == nil { // it does not run: no limit is in force
		o.Kernel = 0
	}
	switch {
	case err == nil:
		o.Result = knowledge.ResultApplied
		c.engineUpdated(a, &e.Host)
		if read && a.Resize.To != 0 && !same(a.Resize.Resource, o.Kernel, a.Resize.To) {
			o.Result = knowledge.ResultAdjusted
		}
		c.retry[a.Resize.Resource].failures, c.retry[a.Resize.Resource].at, c.seen.notFound = 0, time.Time{}, 0
		e.applied(now, c, a)
	case e.engine.Gone(err):
		o.Result, o.Message = knowledge.ResultSuperseded, "the container was removed"
		c.Gone = true
		if c.seen.notFound++; c.seen.notFound > 1 { // the Engine reports it of one that exists
			c.retry[a.Resize.Resource].at = now.Add(inspectAgain << min(c.seen.notFound, 6))
		}
	default:
		o.Result, o.Message = knowledge.ResultFailed, err.Error()
		if e.engine.Refused(err) {
			o.Result = knowledge.ResultRefused
			c.refuse(now, &a.Resize, err)
		}
		o.Engine = 0
		c.backOff(now, a.Resize.Resource, err)
	}
	e.rewriteQuota(c)
	if t.unwritten != nil && o.Message == "" {
		o.Message = "not persisted: " + t.unwritten.Error()
	}
	c.LastChange = knowledge.Record{Action: a, Outcome: o}
	e.meter.Action(a.Resize.Resource.String(), o.Result.String(), o.Took)
	e.logAction(c, a, o.Result, o.Message)
	e.close(o, func() {
		if t.done != nil {
			t.done(knowledge.Record{Action: a, Outcome: o})
		}
	})
}

// close writes the outcome, and then calls then.
func (e *Executor) close(o knowledge.Outcome, then func()) {
	queued := e.workers.Do(func(context.Context) func() {
		if err := e.journal.End(o); err != nil {
			return func() { e.log.Debug().Err(err).Msg("cannot persist an outcome"); then() }
		}
		return then
	})
	if !queued {
		then()
	}
}

func (c *Container) engineUpdated(a knowledge.Action, host *Host) {
	c.Marks.EngineKnown, c.Unsaved = true, true
	if a.Resize.Resource == knowledge.ResourceCPU {
		c.Marks.Engine.CPU = knowledge.NanoCPU(a.Resize.To)
		if a.Resize.To == 0 { // the Engine has no limit as all the host's cores
			c.Marks.Engine.CPU = knowledge.NanoCPU(host.CPUs) * knowledge.OneCPU
		}
		c.Marks.Quota, c.Marks.QuotaSet = knowledge.NanoCPU(a.Resize.To), true
		c.sync.dirtySince = time.Time{}
		return
	}
	swap := c.swapFor(knowledge.Bytes(a.Resize.To), host.Memory)
	c.Marks.Engine.Memory, c.Marks.Engine.MemorySwap = knowledge.Bytes(a.Resize.To), swap
	if a.Resize.To == 0 { // the Engine cannot remove a limit: it becomes the host's memory
		c.Marks.Engine.Memory = host.Memory
	}
}

// rewriteQuota writes the quota again after an Engine update put its own there.
func (e *Executor) rewriteQuota(c *Container) {
	if !c.Marks.QuotaSet || c.Marks.Quota == 0 || c.Window.Quota == 0 || sameCPU(c.Window.Quota, c.Marks.Quota) {
		return
	}
	e.writeQuota(c, c.Marks.Quota)
}

// applied notes an action that is in force, and watches a cut.
func (e *Executor) applied(now time.Time, c *Container, a knowledge.Action) {
	if a.Resize.Resource == knowledge.ResourceMemory &&
		(a.Actor == knowledge.ActorUser || a.Reason.Rule == knowledge.RuleOOM) {
		c.Marks.OOMAnswered = now
	}
	if a.Actor == knowledge.ActorRestore || a.Actor == knowledge.ActorUser {
		c.watches[a.Resize.Resource] = nil // a person's limit is not undone
	}
	if a.Resize.Verb == knowledge.Shrink {
		c.Marks.LastShrink[a.Resize.Resource] = now
		if followsUse(&a) {
			c.watch(now, a)
		}
		if a.Resize.Resource == knowledge.ResourceMemory && a.Resize.From != 0 {
			if day := now.Unix() / 86400; day != c.Marks.Day {
				c.Marks.Day, c.Marks.Shrinks = day, 0
			}
			c.Marks.Shrinks++
		}
		return
	}
	c.Marks.LastGrow[a.Resize.Resource] = now
	c.watches[a.Resize.Resource] = nil
}

func (c *Container) backOff(now time.Time, r knowledge.Resource, err error) {
	wait := min(retryFirst<<min(c.retry[r].failures, 6), retryMost)
	c.retry[r].failures++
	c.retry[r].at = now.Add(wait)
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
