package execute

import (
	"context"
	"time"

	"github.com/rs/zerolog"

	"github.com/effiscale/effiscale/knowledge"
)

const (
	// engineEvery is how often, at most, the Engine is told of a quota that the
	// kernel already has: an update costs dockerd and runc about 30 ms of CPU.
	engineEvery = time.Second
	// engineWithin is how long the Engine may lag behind the kernel.
	engineWithin = 60 * time.Second
	// engineQuiet: a quota that did not move for so long is worth telling early.
	engineQuiet = 10 * time.Second
	// retryFirst and retryMost bound the back-off after a refusal or failure.
	retryFirst = 15 * time.Second
	retryMost  = 10 * time.Minute
	// meetAgain is how soon an inspect that failed is tried again; it doubles, to a
	// minute.
	meetAgain = time.Second
	// engineCut is how seldom a cut goes through the Engine where it is the only
	// way, to spare it.
	engineCut = 15 * time.Second
)

// Executor does what the guards let pass, for all containers of a host.
type Executor struct {
	Host  Host
	Rules Rules
	// Urgent: marks have changed that should be on the disk soon; whoever saves
	// them takes it back.
	Urgent bool

	engine  Engine
	journal Journal
	hands   *Hands
	meter   Meter
	log     zerolog.Logger
	// outcome tells learning how an action ended: reverted or not.
	outcome  func(s *Subject, r knowledge.Resource, reverted bool)
	now      func() time.Time
	lastLazy time.Time
	repaired int
}

// Options hand an Executor what it works with.
type Options struct {
	Engine  Engine
	Journal Journal
	Hands   *Hands
	Meter   Meter
	Log     zerolog.Logger
	Rules   Rules
	Now     func() time.Time
	Outcome func(s *Subject, r knowledge.Resource, reverted bool)
}

// New makes an Executor.
func New(o Options) *Executor {
	return &Executor{
		Rules: o.Rules, engine: o.Engine, journal: o.Journal, hands: o.Hands,
		meter: o.Meter, log: o.Log, now: o.Now, outcome: o.Outcome,
	}
}

// Apply judges a decision and does what is left of it. done, when not nil, is
// called on the loop's goroutine once the action is closed.
func (e *Executor) Apply(now time.Time, s *Subject, d knowledge.Decision, done func(knowledge.Record)) Ruling {
	c := Case{Now: now, D: &d, S: s, Host: &e.Host, Rules: &e.Rules}
	r := Judge(&c)
	if r.Allowed == d.From {
		return r
	}
	if e.small(&d, r.Allowed) {
		if r.Guard == "" {
			r.Guard = "small-change"
		}
		r.Allowed = d.From
		return r
	}
	if !s.OriginalKept {
		e.Meet(now, s) // the way back first
		r.Allowed, r.Guard, r.Reason = d.From, "original", knowledge.Because(knowledge.RuleOriginal)
		return r
	}
	a := knowledge.Action{
		ID: s.Container.ID, Name: s.Container.Name, Service: s.Container.Service,
		Resource: d.Resource, Verb: Verb(d.From, r.Allowed), Actor: d.Actor, At: now,
		From: d.From, To: r.Allowed, Reason: d.Reason, Key: d.Key,
	}
	var wait knowledge.Reason
	if d.Resource == knowledge.ResourceMemory {
		wait = e.memory(now, s, a, done)
	} else {
		wait = e.cpu(now, s, a, done)
	}
	if r.Acted = wait.IsZero(); !r.Acted { // another one is on its way
		r.Allowed, r.Guard, r.Reason = d.From, "in-flight", wait
		return r
	}
	if d.Resource == knowledge.ResourceMemory && d.From != 0 && r.Allowed > d.From {
		e.Host.MemoryFree -= knowledge.Bytes(r.Allowed - d.From) // until it is counted anew
		s.Promised = knowledge.Bytes(r.Allowed)
	}
	if !c.repairs() && !d.Boost {
		s.rate.add(now)
	}
	return r
}

// small reports a change that is not worth making: what guards left of a wish
// may be next to nothing.
func (e *Executor) small(d *knowledge.Decision, to int64) bool {
	if d.From == 0 || to == 0 {
		return false
	}
	diff := max(to-d.From, d.From-to)
	if d.Resource == knowledge.ResourceMemory {
		return diff < int64(knowledge.MiB)
	}
	return diff < int64(knowledge.OneCPU/1000)
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

// Meet learns what the Engine knows of a container, and where it will be managed
// puts its limits on the disk before anything is changed.
func (e *Executor) Meet(now time.Time, s *Subject) {
	if s.inspecting || s.Gone || now.Before(s.meetAt) {
		return
	}
	keep := s.Policy.Acts() && !s.OriginalKept
	id, name, service := s.Container.ID, s.Container.Name, s.Container.Service
	known, heard, lives := s.Marks.EngineKnown, s.heard, s.lives
	s.inspecting = e.hands.Do(func(ctx context.Context) func() {
		c, err := e.engine.Inspect(ctx, id)
		var keepErr error
		if err == nil && keep {
			keepErr = e.journal.Keep(knowledge.Original{ID: id, Name: name, Service: service, Limits: c.Limits, At: now})
		}
		return func() {
			s.inspecting = false
			if err != nil {
				if e.engine.Gone(err) {
					s.Gone = true
				}
				s.meetAt = e.now().Add(meetAgain << min(s.meetFailures, 6))
				s.meetFailures++
				return
			}
			s.meetAt, s.meetFailures = time.Time{}, 0
			if s.lives != lives { // of a life that has ended meanwhile
				c.State, c.PID, c.Inspected = s.Container.State, 0, false
			}
			e.met(s, c, heard)
			if keep {
				if keepErr != nil { // a full disk stops learning, never scaling
					e.log.Warn().Err(keepErr).Str("container", name).Msg("the original limits are kept in memory only")
				}
				s.OriginalKept, s.Original = true, c.Limits
				if !known {
					s.Marks.Since = now
				}
			}
		}
	})
}

// met takes over what an inspect told; heard is what s.heard was when it was asked.
func (e *Executor) met(s *Subject, c knowledge.Container, heard int) {
	if c.ID != s.Container.ID {
		return
	}
	state := s.Container.State
	s.Container = c
	if c.State == knowledge.StateUnknown {
		s.Container.State = state
	}
	if s.Probe != nil {
		s.Probe.SetPID(c.PID)
	}
	if s.Unread = s.Marks.EngineKnown && (s.InFlight || s.heard != heard); !s.Unread {
		e.compare(e.now(), s, c.Limits)
	}
}

// quotaMoves is the reflex's way: the kernel file, at once. It returns false
// when the kernel will not have it, and the Engine must be asked.
func (e *Executor) quotaMoves(s *Subject, to knowledge.NanoCPU) bool {
	if e.Rules.Actuator != knowledge.ActuatorKernel || s.Probe == nil || s.KernelRefused != "" {
		return false
	}
	if err := s.Probe.SetQuota(to, 0); err != nil {
		s.KernelRefused = err.Error()
		e.log.Warn().Err(err).Str("container", s.Container.Name).Msg("cannot write the quota; the Engine will be asked instead")
		return false
	}
	e.readBack(s)
	s.Marks.Quota, s.Marks.QuotaSet = to, true
	return true
}

// readBack reads the limits in force into the window.
func (e *Executor) readBack(s *Subject) bool {
	if s.Probe == nil {
		return false
	}
	s.sample.Have = 0
	if err := s.Probe.Limits(&s.sample); err != nil || s.sample.Have&knowledge.HasLimits == 0 {
		return false
	}
	w := s.Window
	w.Quota, w.Period = s.sample.Quota, s.sample.Period
	w.MemoryLimit, w.MemoryHigh = s.sample.MemoryLimit, s.sample.MemoryHigh
	return true
}

// cpu moves the quota. The reason says why it could not be now; zero: it is done,
// or on its way.
func (e *Executor) cpu(now time.Time, s *Subject, a knowledge.Action, done func(knowledge.Record)) knowledge.Reason {
	if done == nil && e.quotaMoves(s, knowledge.NanoCPU(a.To)) {
		s.fold.add(a, int64(s.Window.Quota))
		if s.dirtySince.IsZero() {
			s.dirtySince = now
		}
		e.took(now, s, a)
		result := knowledge.ResultApplied
		if !sameCPU(s.Window.Quota, knowledge.NanoCPU(a.To)) {
			result = knowledge.ResultAdjusted
		}
		s.LastChange = knowledge.Record{Action: a, Outcome: knowledge.Outcome{Result: result, At: now, Kernel: int64(s.Window.Quota)}}
		e.meter.Action("cpu-kernel", result.String(), 0)
		e.say(s, a, result, "")
		return knowledge.Reason{}
	}
	if s.InFlight {
		return knowledge.Because(knowledge.RuleInFlight)
	}
	if wait := engineCut - now.Sub(s.Marks.LastShrink[knowledge.ResourceCPU]); done == nil && a.Verb == knowledge.Shrink && wait > 0 {
		return knowledge.Because(knowledge.RuleCooldown, wait.Seconds())
	}
	e.quotaMoves(s, knowledge.NanoCPU(a.To))
	l := s.Marks.Engine
	l.CPU, l.Period = knowledge.NanoCPU(a.To), s.Window.Period
	return e.send(s, a, done, func(ctx context.Context) error {
		_, err := e.engine.UpdateCPU(ctx, a.ID, l)
		return err
	})
}

func (e *Executor) memory(now time.Time, s *Subject, a knowledge.Action, done func(knowledge.Record)) knowledge.Reason {
	switch {
	case s.InFlight, s.probing.on && a.Verb == knowledge.Shrink && done == nil:
		return knowledge.Because(knowledge.RuleInFlight)
	case s.probing.on: // who needs memory, or asks for a limit, does not wait for a cut
		e.endProbe(now, s, "another limit was wanted meanwhile")
	}
	if a.Verb == knowledge.Shrink && a.From != 0 && done == nil && e.probe(s, a) {
		return knowledge.Reason{}
	}
	return e.sendMemory(s, a, done)
}

func (e *Executor) sendMemory(s *Subject, a knowledge.Action, done func(knowledge.Record)) knowledge.Reason {
	mem := knowledge.Bytes(a.To)
	swap := e.swapFor(s, mem)
	return e.send(s, a, done, func(ctx context.Context) error {
		_, err := e.engine.UpdateMemory(ctx, a.ID, mem, swap)
		return err
	})
}

// swapFor keeps the container's own swap allowance beside a new memory limit.
// Docker's default, where none was set, is as much swap as memory.
func (e *Executor) swapFor(s *Subject, mem knowledge.Bytes) knowledge.Bytes {
	l := s.Marks.Engine
	if s.OriginalKept {
		l.Memory, l.MemorySwap = s.Original.Memory, s.Original.MemorySwap
	}
	switch {
	case l.MemorySwap < 0: // unlimited: -1 would be stored and not applied
		return mem + e.Host.Memory
	case l.MemorySwap > 0 && l.Memory > 0:
		return mem + max(l.MemorySwap-l.Memory, 0)
	}
	return 2 * mem
}

// send takes an action through the journal and the Engine: recorded, sent, read
// back, closed. One at a time for each container.
func (e *Executor) send(s *Subject, a knowledge.Action, done func(knowledge.Record), call func(context.Context) error) knowledge.Reason {
	started := e.now()
	s.InFlight = e.hands.Do(func(ctx context.Context) func() {
		var beginErr error
		if a.Seq == 0 { // the first step of a memory cut recorded it already
			a.Seq, beginErr = e.journal.Begin(a)
		}
		err := call(ctx)
		return func() { e.sent(s, a, attempt{started: started, err: err, unwritten: beginErr, done: done}) }
	})
	if !s.InFlight {
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
func (e *Executor) sent(s *Subject, a knowledge.Action, t attempt) {
	s.InFlight = false
	s.heard++
	if a.Resource == knowledge.ResourceMemory {
		s.Promised, s.untold = 0, 0
		if t.err != nil {
			s.untold = knowledge.Bytes(a.To)
		}
	}
	err := t.err
	now := e.now()
	read := e.readBack(s)
	o := knowledge.Outcome{Seq: a.Seq, At: now, Took: now.Sub(t.started), Kernel: s.Limit(a.Resource), Engine: a.To}
	if s.Probe == nil { // it does not run: the kernel holds nothing
		o.Kernel = 0
	}
	switch {
	case err == nil:
		o.Result = knowledge.ResultApplied
		e.engineHolds(s, a)
		if read && a.To != 0 && !same(a.Resource, o.Kernel, a.To) {
			o.Result = knowledge.ResultAdjusted
		}
		s.failures[a.Resource], s.retryAt[a.Resource], s.lost = 0, time.Time{}, 0
		e.took(now, s, a)
	case e.engine.Gone(err):
		o.Result, o.Message = knowledge.ResultSuperseded, "the container went away"
		s.Gone = true
		if s.lost++; s.lost > 1 { // the Engine says so of one that lives
			s.retryAt[a.Resource] = now.Add(meetAgain << min(s.lost, 6))
		}
	default:
		o.Result, o.Message = knowledge.ResultFailed, err.Error()
		if e.engine.Refused(err) {
			o.Result = knowledge.ResultRefused
		}
		o.Engine = 0
		e.backOff(now, s, a.Resource, err)
	}
	e.keepQuota(s)
	if t.unwritten != nil && o.Message == "" {
		o.Message = "recorded in memory only: " + t.unwritten.Error()
	}
	s.LastChange = knowledge.Record{Action: a, Outcome: o}
	e.meter.Action(a.Resource.String(), o.Result.String(), o.Took)
	e.say(s, a, o.Result, o.Message)
	e.close(o, func() {
		if t.done != nil {
			t.done(knowledge.Record{Action: a, Outcome: o})
		}
	})
}

// close writes the outcome, and then tells whoever waits.
func (e *Executor) close(o knowledge.Outcome, then func()) {
	queued := e.hands.Do(func(context.Context) func() {
		if err := e.journal.End(o); err != nil {
			return func() { e.log.Debug().Err(err).Msg("an outcome is kept in memory only"); then() }
		}
		return then
	})
	if !queued {
		then()
	}
}

func (e *Executor) engineHolds(s *Subject, a knowledge.Action) {
	s.Marks.EngineKnown, s.Unsaved = true, true
	if a.Resource == knowledge.ResourceCPU {
		s.Marks.Engine.CPU = knowledge.NanoCPU(a.To)
		if a.To == 0 { // lifting is asked of the Engine as all the host's cores
			s.Marks.Engine.CPU = knowledge.NanoCPU(e.Host.CPUs) * knowledge.OneCPU
		}
		if s.Marks.Engine.CPUField == knowledge.CPUFieldNone {
			s.Marks.Engine.CPUField = knowledge.CPUFieldNano
		}
		s.Marks.Quota, s.Marks.QuotaSet = knowledge.NanoCPU(a.To), true
		s.dirtySince = time.Time{}
		return
	}
	swap := e.swapFor(s, knowledge.Bytes(a.To))
	s.Marks.Engine.Memory, s.Marks.Engine.MemorySwap = knowledge.Bytes(a.To), swap
	if a.To == 0 { // no limit can be taken away again: it becomes the host's memory
		s.Marks.Engine.Memory = e.Host.Memory
	}
}

// keepQuota writes the quota again after an Engine update put its own there.
func (e *Executor) keepQuota(s *Subject) {
	if !s.Marks.QuotaSet || s.Marks.Quota == 0 || s.Window.Quota == 0 || sameCPU(s.Window.Quota, s.Marks.Quota) {
		return
	}
	e.quotaMoves(s, s.Marks.Quota)
}

// took notes an action that is in force, and watches a cut.
func (e *Executor) took(now time.Time, s *Subject, a knowledge.Action) {
	if a.Resource == knowledge.ResourceMemory && (a.Actor == knowledge.ActorUser || a.Reason.Rule == knowledge.RuleOOM) {
		s.Marks.OOMAnswered = now
	}
	if a.Actor == knowledge.ActorRestore || a.Actor == knowledge.ActorUser {
		s.watches[a.Resource] = watch{} // what a person asked for is not undone
	}
	if a.Verb == knowledge.Shrink {
		s.Marks.LastShrink[a.Resource] = now
		if ownWish(&a) {
			s.watch(now, a)
		}
		if a.Resource == knowledge.ResourceMemory && a.From != 0 {
			if day := now.Unix() / 86400; day != s.Marks.Day {
				s.Marks.Day, s.Marks.Shrinks = day, 0
			}
			s.Marks.Shrinks++
		}
		return
	}
	s.Marks.LastGrow[a.Resource] = now
	s.watches[a.Resource] = watch{}
}

// ownWish: only a cut that the container's own use asked for can be taken back.
// What the policy's ceiling or a full host asks for holds, however it feels.
func ownWish(a *knowledge.Action) bool {
	switch a.Actor {
	case knowledge.ActorReflex, knowledge.ActorDeliberation:
		return a.From != 0 && a.Reason.Rule != knowledge.RulePoolShort && a.Reason.Rule != knowledge.RuleAboveCeiling
	}
	return false
}

func (e *Executor) backOff(now time.Time, s *Subject, r knowledge.Resource, err error) {
	wait := min(retryFirst<<min(s.failures[r], 6), retryMost)
	s.failures[r]++
	s.retryAt[r] = now.Add(wait)
	s.LastError, s.LastErrorAt = err.Error(), now
}

func (e *Executor) say(s *Subject, a knowledge.Action, result knowledge.Result, message string) {
	ev := e.log.Info()
	if result == knowledge.ResultFailed || result == knowledge.ResultRefused {
		ev = e.log.Warn()
	}
	ev = ev.Str("container", a.Name).Str("service", string(a.Service)).
		Stringer("resource", a.Resource).Stringer("actor", a.Actor).Stringer("result", result)
	if a.Resource == knowledge.ResourceCPU {
		ev = ev.Float64("from_cores", knowledge.NanoCPU(a.From).Cores()).Float64("to_cores", knowledge.NanoCPU(a.To).Cores())
	} else {
		ev = ev.Int64("from_bytes", a.From).Int64("to_bytes", a.To)
	}
	if message != "" {
		ev = ev.Str("message_from", message)
	}
	ev.Str("why", a.Reason.String()).Msg(a.Verb.String())
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
