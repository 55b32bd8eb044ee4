package execute

import (
	"context"
	"iter"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

const (
	// updateApart is the least time between two updates of what one container starts with:
	// each costs dockerd and runc about 30 ms of CPU.
	updateApart = 2 * time.Second
	// steadyFor and followMost: the record follows a limit in force that has not grown for
	// so long, or has been above the record for so long. A rise of half a minute is one or
	// two updates, not one a step; until then a restart has what the last one had, and the
	// end of the process or of the daemon does not wait.
	steadyFor  = 10 * time.Second
	followMost = 30 * time.Second
	// exposedMost is how long less memory than is in use may be on record where others put the
	// record in force.
	exposedMost = 3 * time.Second
	// cpuAhead and memoryAhead are how far the record is raised beyond the limit in force,
	// so that a need that creeps up does not ask the Engine at each step. On cgroup v1 an
	// update puts the record in force for some 30 ms: so memory is not raised by more.
	cpuAhead    = 1.25
	memoryAhead = 1.15
	// Where the kernel's files cannot be written, a cut changes what the container starts
	// with, and is raised again when it ends; a restart may be faster. So a cut leaves a
	// part of what it started with, which need not be more than these.
	startShare  = 4
	startCPU    = knowledge.OneCPU
	startMemory = 512 * knowledge.MiB
)

// KeepStart lets the Engine's record follow: what a container starts with is the upper
// bound that the policy names, else its original limit, and more where it needs more. It
// is not cut to follow the need: a program that sizes itself at its start would stay small
// for its whole run.
func (e *Executor) KeepStart(now time.Time, c *Container) {
	if !e.mayUpdate(now, c) {
		return
	}
	// Of a paused service the record still follows what its containers have.
	paused := c.Pause.Active(now) && !c.Pause.OnlyDown && !c.owes()
	for r := range knowledge.Resource(len(c.retry)) {
		if !c.Marks.Restore[r] || paused {
			continue
		}
		if first := c.cover(r, &e.Host, e.writesKernel(c)); first.limit != 0 {
			e.sendStart(now, c, knowledge.ResourceMemory, int64(first.limit), becauseInForce)
			return
		}
		e.sendStart(now, c, r, limitOf(&c.Original.Limits, r), becauseOriginal)
		return
	}
	for r := range knowledge.Resource(len(c.retry)) {
		to, why := c.startLimit(now, r, &e.Host, e.writesKernel(c))
		if why != becauseInForce {
			c.engine.over[r] = time.Time{}
		}
		if c.engine.refused[r].repeats(now, c, r, to) || paused && why != becauseInForce {
			continue
		}
		if why == "" || why == becauseInForce && !e.ending && !c.overdue(now, r, e.Host.PutsBack) {
			continue
		}
		if first := c.cover(r, &e.Host, e.writesKernel(c)); first.limit != 0 {
			r, to, why = knowledge.ResourceMemory, int64(first.limit), becauseInForce
			if c.engine.refused[r].repeats(now, c, r, to) {
				return
			}
		}
		e.sendStart(now, c, r, to, why)
		return
	}
}

// mayUpdate reports whether what a container starts with may be changed now. One that cannot run
// keeps its limits: on cgroup v1 an update puts the record in force for a moment.
func (e *Executor) mayUpdate(now time.Time, c *Container) bool {
	known := c.OriginalKept && c.Marks.EngineKnown && !c.Unread && !c.inspection.running && !c.Gone
	if c.State.Runs() {
		known = known && c.Inspected && c.engine.settled && c.Probe != nil
	} else { // after an exit there is no time to inspect it first
		known = known && (c.Inspected || c.engine.settled)
	}
	d := knowledge.Decision{Verb: knowledge.Grow, Actor: knowledge.ActorDeliberation, To: 1}
	_, hazard := guardHazard(e.Request(now, c, &d), 1)
	return known && hazard.IsZero() && c.Policy.Acts() && !c.InFlight && !c.engine.busy && !c.cut.on &&
		e.Host.EngineDown.IsZero() && e.Host.Crashes == 0 && (c.Window.Stopped == knowledge.StopNone || e.ending) &&
		now.Sub(c.engine.updated) >= updateApart && !now.Before(c.engine.retry.at)
}

// overdue reports whether the record should follow the limit in force, which is above it, now.
// Where others put the record in force, one below what is in use would kill, and follows soon.
func (c *Container) overdue(now time.Time, r knowledge.Resource, putsBack bool) bool {
	over := &c.engine.over[r]
	if over.IsZero() {
		*over = now
	}
	if putsBack && now.Sub(*over) >= exposedMost && !c.fits(r, c.Marks.start(r)) {
		return true
	}
	oom := c.Window.LastOOM // the next start may be near
	return r == knowledge.ResourceMemory && !oom.IsZero() && now.Sub(oom) < followMost ||
		now.Sub(c.Marks.LastGrow[r]) >= steadyFor || now.Sub(*over) >= followMost
}

// owes reports whether a person's request is in force, and not on record yet.
func (c *Container) owes() bool {
	m := &c.Marks
	for r, asked := range m.Asked {
		if m.Restore[r] || asked != 0 && !same(knowledge.Resource(r), m.start(knowledge.Resource(r)), asked) {
			return true
		}
	}
	return false
}

// Unrecorded reports whether a person's limit is in force, and not on record.
func (m *Marks) Unrecorded(r knowledge.Resource) (limit int64, missing bool) {
	in, set := m.inForce(r)
	asked := m.Asked[r]
	return asked, asked != 0 && set && same(r, in, asked) && !same(r, m.start(r), asked)
}

// startLimit is what a container should start with, and why that is not what it would
// start with now; "": it is. kernel: the limits in force are set in the kernel.
func (c *Container) startLimit(now time.Time, r knowledge.Resource, host *Host, kernel bool) (to int64, why string) {
	m, all := &c.Marks, host.all(r)
	if all == 0 { // the Engine has not described the host yet
		return 0, ""
	}
	// No limit is all that the host has.
	bounded := func(limit int64) int64 {
		if limit <= 0 {
			return all
		}
		return min(limit, all)
	}
	have := bounded(m.start(r))
	want, exact, why := c.startTarget(now, r, kernel)
	want = bounded(want)
	if why == becauseCeiling { // within what the cgroups around it allow
		want = min(want, bounded(c.outer(r)))
	}
	in, set := m.inForce(r)
	in = min(bounded(in), bounded(c.outer(r)))
	if set && kernel && in > want && why != becauseCeiling {
		m.Asked[r] = 0
		want, exact, why = in, false, becauseInForce
		if want > have {
			want = max(min(bounded(ahead(c, r, in, host.PutsBack)), bounded(c.outer(r))), want)
		}
	}
	if was := m.Before[r]; !c.State.Runs() && was > want && why != becauseCeiling {
		want, exact, why = bounded(was), false, "the limit in force when it ended"
	}
	if least := int64(m.Engine.Reservation); r == knowledge.ResourceMemory && want < least {
		want, exact, why = least, false, "its memory reservation"
	}
	more := m.start(r) > all && m.Engine.Dialect == knowledge.DialectCores && r == knowledge.ResourceCPU
	switch {
	case more:
		return all, "the host's CPUs"
	case same(r, have, want), !exact && have > want, exact && have > want && !c.fits(r, want):
		return 0, ""
	case want == all:
		return 0, why
	}
	return want, why
}

// ahead is somewhat more than a limit in force, within the policy's bounds. Where the record is
// put in force, also by an update that a stalled Engine executes late, memory is ahead by its growth.
func ahead(c *Container, r knowledge.Resource, limit int64, putsBack bool) int64 {
	to, most := int64(float64(limit)*cpuAhead), int64(c.Policy.CPU.Max)
	if r == knowledge.ResourceMemory {
		to, most = int64(float64(limit)*memoryAhead), int64(c.Policy.Memory.Max)
		if putsBack {
			to = max(to, limit+int64(min(c.Window.Growth*followMost.Seconds(), float64(limit))))
		}
		to = to / int64(knowledge.MiB) * int64(knowledge.MiB)
	}
	if most > 0 {
		to = min(to, most)
	}
	return to
}

// outer is the bound of the cgroups around the container's; 0: none.
func (c *Container) outer(r knowledge.Resource) int64 {
	if r == knowledge.ResourceMemory {
		return int64(c.Window.Bounds.Memory)
	}
	return int64(c.Window.Bounds.CPU)
}

const (
	becauseCeiling  = "the policy's upper bound"
	becauseOriginal = "its original limit"
	becauseInForce  = "the limit in force"
)

// startTarget is what a container should start with whatever it needs; exact: no more.
func (c *Container) startTarget(now time.Time, r knowledge.Resource, kernel bool) (to int64, exact bool, why string) {
	m := &c.Marks
	ceiling := limitOf(&c.Policy.Ceiling, r)
	if r == knowledge.ResourceCPU && c.Policy.CPUMode == knowledge.CPUWeight { // it has no quota
		ceiling = 0
	}
	switch {
	case c.State.Runs() && !kernel, now.Before(m.ExternalUntil) && m.Asked[r] == 0, m.Pinned:
		return m.start(r), true, "" // the limit in force, or a person's
	case m.Asked[r] != 0:
		return m.Asked[r], true, "a person's request"
	case ceiling != 0:
		return ceiling, true, becauseCeiling
	}
	return limitOf(&c.Original.Limits, r), false, becauseOriginal
}

// fits reports whether less memory to start with may be put on record: an update puts the
// record in force, if only until the kernel's file is written again.
func (c *Container) fits(r knowledge.Resource, to int64) bool {
	if r == knowledge.ResourceCPU || c.Probe == nil {
		return true
	}
	w := c.Window
	use := w.InUse()
	return w.Have&knowledge.HasMemoryStat != 0 && int64(use+knowledge.MemoryRoom(use)) <= to
}

// leastStart is the lowest limit that an action may leave in the Engine's record.
func (c *Container) leastStart(r knowledge.Resource, automatic bool) int64 {
	least := int64(0)
	if r == knowledge.ResourceMemory {
		least = int64(c.Marks.Engine.Reservation)
	}
	if !automatic {
		return least
	}
	target, most := limitOf(&c.Original.Limits, r), int64(startCPU)
	if ceiling := limitOf(&c.Policy.Ceiling, r); ceiling != 0 {
		target = ceiling
	}
	if r == knowledge.ResourceMemory {
		most = int64(startMemory)
	}
	if target > 0 {
		most = min(most, target/startShare)
	}
	return max(least, most)
}

// sendStart records what a container is to start with, and sends it to the Engine. What is
// in force stays in force.
func (e *Executor) sendStart(now time.Time, c *Container, r knowledge.Resource, to int64, why string) {
	m := &c.Marks
	if e.writesKernel(c) && c.State.Runs() && c.Window.Have&knowledge.HasLimits != 0 {
		for r := range knowledge.Resource(len(c.retry)) {
			if _, set := m.inForce(r); !set {
				m.setInForce(r, c.Limit(r))
			}
		}
	}
	from := m.start(r)
	a := knowledge.Action{
		Kind: knowledge.ActionResize, ID: c.ID, Name: c.Name, Service: c.Service, Actor: knowledge.ActorDeliberation,
		At: now, Reason: knowledge.Reason{Rule: knowledge.RuleStartLimit, Note: why},
		Resize: knowledge.Resize{Resource: r, Verb: Verb(from, to), From: from, To: to, Start: true},
	}
	limits := m.Engine
	if r == knowledge.ResourceMemory {
		limits.Memory, limits.MemorySwap = knowledge.Bytes(to), c.swapFor(knowledge.Bytes(to))
	} else {
		limits.CPU = knowledge.NanoCPU(to)
	}
	original, restore := c.Original.Limits, m.Restore[r]
	c.noteSent(now, r, to)
	c.engine.updated = now
	c.engine.busy = e.workers.Do(func(ctx context.Context) func() {
		seq, unwritten := e.journal.Begin(a)
		a.Seq = seq
		var err error
		switch {
		case restore:
			_, err = e.engine.Restore(ctx, a.ID, r, original)
		case r == knowledge.ResourceMemory:
			err = e.engine.UpdateMemory(ctx, a.ID, limits.Memory, limits.MemorySwap)
		default:
			err = e.engine.UpdateCPU(ctx, a.ID, limits)
		}
		return func() { e.startSent(c, a, now, unwritten, err) }
	})
}

// startSent closes it on the loop's goroutine.
func (e *Executor) startSent(c *Container, a knowledge.Action, begun time.Time, unwritten, err error) {
	r, now, g := a.Resize.Resource, e.now(), &c.engine
	g.busy = false
	c.seen.updates++
	c.answered(e.engine, r, a.Resize.To, err)
	e.readBack(c)
	o := knowledge.Outcome{Seq: a.Seq, At: now, Took: now.Sub(begun)}
	if c.Probe != nil {
		o.Kernel = c.Limit(r)
	}
	switch {
	case err == nil:
		o.Result = knowledge.ResultApplied
		c.engineUpdated(r, a.Resize.To, &e.Host)
		c.Marks.Restore[r] = false
		g.retry = retry{}
		if unwritten != nil {
			o.Message = "not persisted: " + unwritten.Error()
		}
	case e.engine.Gone(err): // the listing tells whether it is
		o.Result, o.Message = knowledge.ResultSuperseded, "the container was removed"
		c.Gone = true
		g.retry.after(now)
	default:
		o = c.failed(now, e.engine, a, err)
		if g.retry.after(now); o.Result == knowledge.ResultRefused {
			g.refused[r] = c.refusal(now, &a.Resize, err)
		}
		c.LastError, c.LastErrorAt = "cannot update what it starts with: "+err.Error(), now
	}
	o.Engine = c.Marks.start(r)
	e.reapply(c)
	e.meter.Action(r.String()+"-engine", o.Result.String(), o.Took)
	e.logAction(c, a, o.Result, o.Message)
	if o.Result != knowledge.ResultOpen {
		e.close(o, func() {})
	}
}

// Restarted takes over that the container's process ended, or was started again: what was
// written for the one before is in force no more.
func (e *Executor) Restarted(now time.Time, c *Container) {
	if c.cut.on {
		e.cancelCut(now, c, "the container ended")
	}
	c.Marks.restarted()
	c.engine.updated, c.drift, c.Unsaved = time.Time{}, drift{}, true
}

// End is for the end of the daemon, called until nothing is in progress: the first steps of
// cuts are taken back, and what a container starts with is raised to what it has. The loop
// has stopped.
func (e *Executor) End(now time.Time, containers iter.Seq[*Container]) {
	e.ending = true
	for c := range containers {
		if c.cut.on {
			e.cancelCut(now, c, "the daemon stops")
		}
		for r := range knowledge.Resource(len(c.retry)) {
			if in, set := c.Marks.inForce(r); set && in > c.Marks.start(r) && c.Marks.start(r) != 0 {
				if c.engine.updated = (time.Time{}); c.engine.retry.failures == 0 {
					e.KeepStart(now, c)
				}
				break
			}
		}
	}
}
