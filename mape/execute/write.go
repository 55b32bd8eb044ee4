package execute

import (
	"context"
	"errors"
	"io/fs"
	"syscall"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// change is an action on its way: where it is written, and how that went.
type change struct {
	action  knowledge.Action
	done    func(knowledge.Record)
	started time.Time
	kernel  bool             // the kernel's file is written
	engine  bool             // the Engine's record is, after it
	busy    bool             // … which is being updated already
	record  knowledge.Limits // what the record becomes
	swap    knowledge.Bytes  // memory and swap together, beside a memory limit
	cover   cover            // is put on record first

	original *knowledge.Limits // of a restore
	left     string            // what the Engine cannot set back

	unwritten error // of the journal: the action is in memory only
	refused   error // of the kernel's file
	err       error // of the Engine
}

// writesKernel reports whether the limits in force of a container are set in the kernel's
// files. Where they cannot be, the Engine's record is the limit in force.
func (e *Executor) writesKernel(c *Container) bool {
	return e.Rules.Actuator == knowledge.ActuatorKernel && c.Probe != nil && c.KernelRefused == ""
}

// cannotWrite: the kernel's files are not for this process to write, and the Engine is
// used instead. Other errors are the kernel's answer to the value.
func cannotWrite(err error) bool {
	return err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.EBUSY) && !invalid(err)
}

// writeQuota writes the kernel file at once. It returns false where that is not
// possible, and the Engine must be asked.
func (e *Executor) writeQuota(c *Container, to knowledge.NanoCPU) bool {
	if !e.writesKernel(c) {
		return false
	}
	if err := c.Probe.SetQuota(to, 0); err != nil {
		if !invalid(err) {
			e.refuseKernel(c, err)
			return false
		}
		c.refuse(e.now(), &knowledge.Resize{From: int64(c.Window.Quota), To: int64(to)}, err)
		c.LastError, c.LastErrorAt = err.Error(), e.now()
		e.log.Warn().Err(err).Str("container", c.Name).Float64("cores", to.Cores()).Msg("the kernel refused a CPU quota")
		return false
	}
	e.readBack(c)
	c.Marks.Quota, c.Marks.QuotaSet = to, true
	return true
}

func (e *Executor) refuseKernel(c *Container, err error) {
	c.KernelRefused = err.Error()
	e.log.Warn().Err(err).Str("container", c.Name).Msg("cannot write the kernel's files; using the Engine instead")
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
		c.applied(now, a)
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
	if f := c.retry[knowledge.ResourceCPU].refused; done == nil && f != nil && f.at.Equal(now) && f.to == a.Resize.To {
		return knowledge.Reason{Rule: knowledge.RuleRefused, Note: f.text} // the Engine's write would be the same
	}
	wait := engineCut - now.Sub(c.Marks.LastShrink[knowledge.ResourceCPU])
	if done == nil && a.Resize.Verb == knowledge.Shrink && wait > 0 {
		return knowledge.Because(knowledge.RuleCooldown, wait.Seconds())
	}
	return e.send(c, a, done)
}

func (e *Executor) memory(now time.Time, c *Container, a knowledge.Action, boost bool,
	done func(knowledge.Record)) knowledge.Reason {
	automatic := done == nil && a.Actor != knowledge.ActorRepair
	switch {
	case c.InFlight, c.cut.on && a.Resize.Verb == knowledge.Shrink && done == nil:
		return knowledge.Because(knowledge.RuleInFlight)
	case c.cut.on: // a request for memory, or of a person, does not wait for a cut
		e.cancelCut(now, c, "another limit was requested meanwhile")
	}
	if a.Resize.Verb == knowledge.Shrink && a.Resize.From != 0 && automatic && e.lowerHighFirst(c, a, boost) {
		return knowledge.Reason{}
	}
	return e.send(c, a, done)
}

// swapFor keeps the container's own swap allowance beside a new memory limit.
// Docker's default, where none was set, is as much swap as memory.
func (c *Container) swapFor(mem knowledge.Bytes) knowledge.Bytes {
	l := c.Marks.Engine
	if c.OriginalKept {
		l.Memory, l.MemorySwap = c.Original.Memory, c.Original.MemorySwap
	}
	switch {
	case l.MemorySwap < 0:
		return -1
	case l.MemorySwap > 0 && l.Memory > 0:
		return mem + max(l.MemorySwap-l.Memory, 0)
	}
	return 2 * mem
}

// send takes an action through the journal to the kernel's file, and to the Engine where
// what the container starts with changes too: recorded, written, read back, closed. One
// at a time for each container.
func (e *Executor) send(c *Container, a knowledge.Action, done func(knowledge.Record)) knowledge.Reason {
	r := a.Resize.Resource
	ch := &change{action: a, done: done, started: e.now(), kernel: e.writesKernel(c), record: c.Marks.Engine,
		busy: c.engine.busy}
	if c.InFlight || c.engine.busy && (done != nil || !ch.kernel) {
		return knowledge.Because(knowledge.RuleInFlight)
	}
	person := a.Actor == knowledge.ActorUser || a.Actor == knowledge.ActorRestore
	ch.engine = !ch.kernel || person && !same(r, c.Marks.start(r), a.Resize.To) && !c.Marks.keepsStart(&a)
	l := c.Original.Limits
	part := c.Probe != nil && !same(r, a.Resize.To, limitOf(&l, r))
	if a.Actor == knowledge.ActorRestore && (ch.kernel || !part) {
		// On v2 an update below what is in use kills.
		ch.original, ch.engine = &l, !part && !c.AsOriginal(r)
	}
	if r == knowledge.ResourceMemory {
		ch.record.Memory, ch.swap = knowledge.Bytes(a.Resize.To), c.swapFor(knowledge.Bytes(a.Resize.To))
	} else {
		ch.record.CPU = knowledge.NanoCPU(a.Resize.To)
	}
	if ch.engine {
		ch.cover = c.cover(r, &e.Host, ch.kernel)
		ch.cover.note(ch.started, c)
		c.noteSent(ch.started, r, a.Resize.To)
	}
	probe := c.Probe
	c.InFlight = e.workers.Do(func(ctx context.Context) func() {
		if ch.action.Seq == 0 { // the first step of a memory cut recorded it already
			ch.action.Seq, ch.unwritten = e.journal.Begin(ch.action)
		}
		ch.write(ctx, e.engine, probe)
		return func() { e.sent(c, ch) }
	})
	if !c.InFlight {
		return knowledge.Because(knowledge.RuleInFlight)
	}
	return knowledge.Reason{}
}

// keepsStart reports whether a person asked for more than is in force, by a factor, and the
// container starts with more than that.
func (m *Marks) keepsStart(a *knowledge.Action) bool {
	start := m.start(a.Resize.Resource)
	up := a.Actor == knowledge.ActorUser && a.Reason.Rule == knowledge.RuleUser && a.Reason.Args[0] > 1
	return up && (start == 0 || a.Resize.To < start)
}

// write is the worker's part of send.
func (ch *change) write(ctx context.Context, engine Resizer, probe Probe) {
	memory := ch.action.Resize.Resource == knowledge.ResourceMemory
	if ch.kernel {
		if memory {
			ch.refused = ch.setMemory(probe)
		} else {
			ch.refused = probe.SetQuota(ch.record.CPU, 0)
		}
		ch.kernel = ch.refused == nil
		ch.engine = ch.engine && ch.kernel || cannotWrite(ch.refused) && !ch.busy
	}
	if ch.engine {
		if ch.err = ch.cover.send(ctx, engine, ch.action.ID); ch.err != nil {
			return
		}
	}
	switch {
	case !ch.engine:
	case ch.original != nil:
		ch.left, ch.err = engine.Restore(ctx, ch.action.ID, ch.action.Resize.Resource, *ch.original)
		if ch.kernel && memory && ch.swap < 0 && ch.err == nil { // the Engine does not pass it on
			ch.refused = probe.SetMemory(ch.record.Memory, ch.swap)
		}
	case memory:
		ch.err = engine.UpdateMemory(ctx, ch.action.ID, ch.record.Memory, ch.swap)
	default:
		ch.err = engine.UpdateCPU(ctx, ch.action.ID, ch.record)
	}
}

// reclaimer gives back page cache, so that a limit below what is in use can be set.
type reclaimer interface {
	Reclaim(to knowledge.Bytes) error
}

// setMemory writes the memory limit; a restore may take what is page cache.
func (ch *change) setMemory(probe Probe) error {
	files, ok := probe.(reclaimer)
	if ok && ch.original != nil && ch.action.Resize.Verb == knowledge.Shrink {
		if err := files.Reclaim(ch.record.Memory); err != nil {
			return kernelRefused{err}
		}
	}
	return probe.SetMemory(ch.record.Memory, ch.swap)
}

// kernelRefused is the kernel's answer to a value.
type kernelRefused struct{ error }

// Is makes it none of the errors of a file that cannot be written.
func (kernelRefused) Is(err error) bool { return err == syscall.EBUSY }

// sent closes an action on the loop's goroutine.
func (e *Executor) sent(c *Container, ch *change) {
	a, now := ch.action, e.now()
	r := a.Resize.Resource
	c.InFlight = false
	if r == knowledge.ResourceMemory {
		c.Promised = 0
	}
	if ch.engine {
		c.seen.updates++
		c.answered(e.engine, r, a.Resize.To, ch.err)
		ch.cover.sent(e, c)
	}
	if cannotWrite(ch.refused) {
		e.refuseKernel(c, ch.refused)
		if ch.engine {
			ch.refused = nil
		}
	}
	read := e.readBack(c)
	o := knowledge.Outcome{Seq: a.Seq, At: now, Took: now.Sub(ch.started), Kernel: c.Limit(r)}
	if c.Probe == nil { // it does not run: no limit is in force
		o.Kernel = 0
	}
	err := errors.Join(ch.refused, ch.err)
	gone := e.engine.Gone(err)
	switch {
	case err == nil, ch.kernel && (read || !gone) && (a.Actor == knowledge.ActorUser || ch.original != nil):
		c.Gone = gone // the listing tells whether it is
		o.Result, o.Message = knowledge.ResultApplied, c.done(now, ch, &e.Host, e.engine.Refused(err))
		if read && a.Resize.To != 0 && !same(r, o.Kernel, a.Resize.To) {
			o.Result = knowledge.ResultAdjusted
		}
	case errors.Is(err, fs.ErrNotExist):
		o.Result, o.Message = knowledge.ResultSuperseded, "the container ended"
	case gone:
		o.Result, o.Message = knowledge.ResultSuperseded, "the container was removed"
		c.Gone = true
		if c.seen.notFound++; c.seen.notFound > 1 { // the Engine reports it of one that exists
			c.retry[r].at = now.Add(inspectAgain << min(c.seen.notFound, 6))
		}
	default:
		if ch.refused != nil {
			o.Result, o.Message = knowledge.ResultRefused, err.Error()
		} else {
			o = c.failed(now, e.engine, a, err)
			o.Kernel = c.Limit(r)
		}
		if o.Result == knowledge.ResultRefused {
			c.refuse(now, &a.Resize, err)
		}
		c.backOff(now, r, err)
	}
	o.Engine = c.Marks.start(r)
	if c.Probe != nil && (ch.kernel || ch.engine && ch.err == nil) {
		c.Marks.setInForce(r, a.Resize.To)
		c.Unsaved = true
	}
	e.reapply(c)
	if ch.unwritten != nil && o.Message == "" {
		o.Message = "not persisted: " + ch.unwritten.Error()
	}
	c.LastChange = knowledge.Record{Action: a, Outcome: o}
	e.meter.Action(r.String(), o.Result.String(), o.Took)
	e.logAction(c, a, o.Result, o.Message)
	done := func() {
		if ch.done != nil {
			ch.done(knowledge.Record{Action: a, Outcome: o})
		}
	}
	if o.Result == knowledge.ResultOpen {
		done()
		return
	}
	e.close(o, done)
}

// done takes over a change that is in force, and returns what is to be told of it. refused: the
// Engine refused its part; else KeepStart tries that again.
func (c *Container) done(now time.Time, ch *change, host *Host, refused bool) (message string) {
	a := ch.action
	r := a.Resize.Resource
	if ch.engine && ch.err == nil {
		c.engineUpdated(r, a.Resize.To, host)
	}
	if ch.original != nil {
		c.Marks.Restore[r] = ch.err != nil && !refused
		c.Unread = c.Unread || ch.engine // what the record is now
	}
	c.retry[r].failures, c.retry[r].at, c.seen.notFound = 0, time.Time{}, 0
	c.applied(now, a)
	if ch.err == nil {
		return ch.left
	}
	c.LastError, c.LastErrorAt = ch.err.Error(), now
	if refused {
		return "in force; the Engine refused to update what it starts with: " + ch.err.Error()
	}
	return "in force; the Engine is updated when it answers: " + ch.err.Error()
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

// engineUpdated takes over that the Engine has a limit on record. It has no limit as all
// that the host has.
func (c *Container) engineUpdated(r knowledge.Resource, to int64, host *Host) {
	c.Marks.EngineKnown, c.Unsaved = true, true
	if r == knowledge.ResourceMemory {
		c.Marks.Engine.MemorySwap = c.swapFor(knowledge.Bytes(to))
	}
	if to == 0 {
		to = host.all(r)
	}
	c.Marks.setStart(r, to)
}

// reapply writes the limits again that should be in force, after an update of the Engine:
// on cgroup v2 with the systemd driver each one puts the whole record in force.
func (e *Executor) reapply(c *Container) {
	m := &c.Marks
	if !e.writesKernel(c) {
		return
	}
	if m.QuotaSet && !sameCPU(c.Window.Quota, m.Quota) {
		e.writeQuota(c, m.Quota)
	}
	to, probe, swap := m.Memory, c.Probe, c.swapFor(m.Memory)
	is := same(knowledge.ResourceMemory, int64(c.Window.MemoryLimit), int64(to))
	noSwap := e.Host.PutsBack && to != 0 && swap == to // runc 1.1 does not tell systemd: no bound is in force
	if !m.MemorySet || c.InFlight || c.cut.on || is && !noSwap {
		return
	}
	c.InFlight = e.workers.Do(func(context.Context) func() {
		err := probe.SetMemory(to, swap)
		return func() {
			c.InFlight = false
			e.readBack(c)
			if err != nil && c.Probe == probe { // more is in use by now: the plan decides again
				e.log.Debug().Err(err).Str("container", c.Name).Msg("cannot set the memory limit again")
				c.takeInForce(knowledge.ResourceMemory)
			}
		}
	})
}

// takeInForce takes the kernel's limit for the one that should be in force. Where it is
// higher than before, it may settle there again.
func (c *Container) takeInForce(r knowledge.Resource) {
	m := &c.Marks
	was, set := m.inForce(r)
	is := c.Limit(r)
	if set && was > 0 && (is == 0 || is > was) && !same(r, is, was) {
		m.Before[r] = was
	}
	m.setInForce(r, is)
	c.Unsaved = true
}

// applied notes an action that is in force, and watches a cut.
func (c *Container) applied(now time.Time, a knowledge.Action) {
	r, m := a.Resize.Resource, &c.Marks
	if r == knowledge.ResourceMemory &&
		(a.Actor == knowledge.ActorUser || a.Reason.Rule == knowledge.RuleOOM) {
		m.OOMAnswered = now
	}
	switch a.Actor {
	case knowledge.ActorUser:
		c.watches[r] = nil // a person's limit is not undone
		if m.Before[r] = 0; !c.Marks.keepsStart(&a) {
			m.Asked[r] = a.Resize.To
		}
	case knowledge.ActorRestore:
		c.watches[r] = nil
		m.Asked[r], m.Before[r] = 0, 0
	}
	if a.Resize.Verb == knowledge.Shrink {
		m.LastShrink[r] = now
		if a.Resize.To <= m.Before[r]+m.Before[r]/20 {
			m.Before[r] = 0
		}
		if followsUse(&a) {
			c.watch(now, a)
		}
		if r == knowledge.ResourceMemory && a.Resize.From != 0 {
			if day := now.Unix() / 86400; day != m.Day {
				m.Day, m.Shrinks = day, 0
			}
			m.Shrinks++
		}
		return
	}
	m.LastGrow[r], m.Before[r] = now, 0
	c.watches[r] = nil
}
