package execute

import (
	"context"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

const (
	// driftAgain is how soon the same drift may be repaired again; it doubles to
	// driftMost, or two writers would overwrite each other all the time.
	driftAgain = time.Second
	driftMost  = 5 * time.Minute
)

// drift remembers repairs of one container.
type drift struct {
	next  time.Time
	wait  time.Duration
	count int
	seen  bool // a difference that has not been explained yet
}

// Compare compares the limits in force with those that should be. It is called after the
// limits were read with a sample. Where they differ, the Engine's record tells why: a record
// that is none of ours was changed by a person or by Compose; else it is drift (systemd's
// daemon-reload, an update of something else, another container runtime) and is repaired.
func (e *Executor) Compare(now time.Time, c *Container) {
	if c.InFlight || c.engine.busy || c.inspection.running || c.Unread || c.Gone || !c.Marks.EngineKnown || c.cut.on {
		return
	}
	if c.Unsure() {
		e.Inspect(now, c)
	}
	if !c.engine.settled && c.Inspected {
		e.settle(now, c)
	}
	if !c.Policy.Acts() || e.Host.Crashes > 0 {
		return // nothing is repaired where nothing may be changed
	}
	if !c.drifted(knowledge.ResourceCPU) && !c.drifted(knowledge.ResourceMemory) || now.Before(c.drift.next) {
		return
	}
	c.drift.seen = true
	e.Inspect(now, c)
}

// expected is the limit that should be in force; 0: none, or any.
func (c *Container) expected(r knowledge.Resource) int64 {
	if v, set := c.Marks.inForce(r); set {
		return v
	}
	return c.Marks.start(r)
}

// drifted reports whether another limit is in force than should be. No limit is never
// drift: the Engine has it as all that the host has.
func (c *Container) drifted(r knowledge.Resource) bool {
	want, is := c.expected(r), c.Limit(r)
	return want != 0 && (is == 0 || !same(r, is, want))
}

// compare compares the Engine's record with what was sent to it, after an inspect during
// which no update was in progress.
func (e *Executor) compare(now time.Time, c *Container, l knowledge.Limits) {
	m := &c.Marks
	if !m.EngineKnown || c.Adopt {
		m.Engine, m.EngineKnown, c.Unsaved = l, true, true
		c.drift = drift{}
		e.settle(now, c)
		return
	}
	if !c.engine.settled {
		c.drift = drift{} // what differs now was left by an earlier start of the daemon: settle
		defer e.settle(now, c)
	}
	e.resolve(now, c, &l)
	amendShares(now, e, c, l.Shares)
	cpu, mem := c.foreign(now, knowledge.ResourceCPU, &l), c.foreign(now, knowledge.ResourceMemory, &l)
	c.forgetRefused()
	if cpu || mem {
		e.external(now, c, l, cpu, mem)
		return
	}
	m.Engine = l
	if c.drift.seen {
		c.drift.seen = false
		e.repair(now, c)
	}
}

// foreign reports whether the Engine's record was changed by others: it holds neither what
// it held, nor what was sent since without an answer.
func (c *Container) foreign(now time.Time, r knowledge.Resource, l *knowledge.Limits) bool {
	is := limitOf(l, r)
	return !same(r, is, c.Marks.start(r)) && !c.wasSent(now, r, is)
}

// Settled reports whether kernel and Engine were compared since the daemon started.
func (c *Container) Settled() bool { return c.engine.settled }

// settle looks once, after the start, at what is in force: what the daemon that ended set
// last, or what a restart of the container or others put back. It stays, and the reflex
// goes on from there.
func (e *Executor) settle(now time.Time, c *Container) {
	if !e.readBack(c) {
		return // not measured yet: Compare comes here again
	}
	if c.Adopt && c.OriginalKept && c.Window.MemoryHigh != 0 {
		e.liftHigh(c) // left behind by a crashed daemon
	}
	adopt := c.Adopt
	c.engine.settled, c.Adopt = true, false
	for r := range knowledge.Resource(len(c.retry)) {
		if _, set := c.Marks.inForce(r); set || adopt {
			c.takeInForce(r)
		}
	}
}

// external takes over an external change: automation does not touch it for the
// policy's time, and a restore goes back to it.
func (e *Executor) external(now time.Time, c *Container, l knowledge.Limits, cpu, mem bool) {
	m := &c.Marks
	before := m.Engine
	inForce := [2]int64{c.expected(knowledge.ResourceCPU), c.expected(knowledge.ResourceMemory)}
	m.Engine = l
	c.drift = drift{}
	e.readBack(c)
	for r, changed := range [2]bool{cpu, mem} {
		if changed {
			m.setInForce(knowledge.Resource(r), limitOf(&l, knowledge.Resource(r)))
			m.Asked[r], m.Before[r], m.Restore[r] = 0, 0, false
		}
	}
	if !c.Policy.Acts() {
		return // not managed: only shown
	}
	e.reapply(c)                     // of the other resource, too
	c.Unsaved, e.Urgent = true, true // a person's change must survive a crash
	if c.cut.on {
		e.cancelCut(now, c, "the container was changed externally")
	}
	for r, changed := range [2]bool{cpu, mem} {
		if changed {
			c.Hold(now, "", knowledge.Resource(r), inForce[r])
		}
	}
	if mem {
		m.OOMAnswered = now
	}
	m.Pinned = outside(c.Policy.CPU, l.CPU) && cpu || outside(c.Policy.Memory, l.Memory) && mem
	c.watches = [2]*watch{}
	if c.OriginalKept {
		c.amendOriginal(&l, cpu, mem)
	}
	if cpu {
		e.recordExternal(now, c, knowledge.ResourceCPU, int64(before.CPU), int64(l.CPU))
	}
	if mem {
		e.recordExternal(now, c, knowledge.ResourceMemory, int64(before.Memory), int64(l.Memory))
	}
}

// amendOriginal takes over what others set.
func (c *Container) amendOriginal(l *knowledge.Limits, cpu, mem bool) {
	o, was, is := &c.Original, &c.Original.Recorded, &l.Recorded
	if cpu {
		o.CPU, o.Dialect, o.Period = l.CPU, l.Dialect, l.Period
		was.NanoCPUs, was.Quota, was.Period = is.NanoCPUs, is.Quota, is.Period
		o.Lost[knowledge.ResourceCPU] = time.Time{}
	}
	if mem {
		o.Memory, o.MemorySwap = l.Memory, l.MemorySwap
		was.Memory, was.MemorySwap = is.Memory, is.MemorySwap
		o.Lost[knowledge.ResourceMemory] = time.Time{}
	}
}

// AsOriginal reports whether the Engine has the original limit on record, field by field where
// that is known.
func (c *Container) AsOriginal(r knowledge.Resource) bool {
	was, is := c.Original.Recorded, c.Marks.Engine.Recorded // the latter as inspected last
	none := knowledge.Recorded{}
	start, original := c.Marks.start(r), limitOf(&c.Original.Limits, r)
	switch {
	case !same(r, start, original):
		return false
	case was == none && original != 0 || is == none && start != 0:
		return true // of an earlier version
	case r == knowledge.ResourceMemory:
		return was.Memory == is.Memory && was.MemorySwap == is.MemorySwap
	}
	return was.NanoCPUs == is.NanoCPUs && was.Quota == is.Quota && was.Period == is.Period
}

func outside[T ~int64](r knowledge.Range[T], v T) bool {
	return v != 0 && (v < r.Min || (r.Max > 0 && v > r.Max))
}

// recordExternal records an external change, and the new original limits.
func (e *Executor) recordExternal(now time.Time, c *Container, r knowledge.Resource, from, to int64) {
	a := knowledge.Action{
		Kind: knowledge.ActionResize, ID: c.ID, Name: c.Name, Service: c.Service,
		Actor: knowledge.ActorExternal, At: now,
		Reason: knowledge.Because(knowledge.RuleExternal, c.Policy.YieldFor.Seconds()),
		Resize: knowledge.Resize{Resource: r, Verb: Verb(from, to), From: from, To: to},
	}
	original := knowledge.Original{ID: a.ID, Name: a.Name, Service: a.Service, At: now,
		Limits: c.Original.Limits, Lost: c.Original.Lost}
	keep := c.OriginalKept
	e.workers.Do(func(context.Context) func() {
		seq, err := e.journal.Begin(a)
		a.Seq = seq
		o := knowledge.Outcome{Seq: seq, Result: knowledge.ResultApplied, At: now, Kernel: to, Engine: to}
		if err == nil {
			err = e.journal.End(o)
		}
		if keep && err == nil {
			err = e.journal.Amend(original)
		}
		return func() {
			c.LastChange = knowledge.Record{Action: a, Outcome: o}
			e.logAction(c, a, o.Result, "")
			if err != nil {
				e.log.Debug().Err(err).Msg("cannot persist an external change")
			}
		}
	})
}

// lostFor is when the originals of a container were lost that existed before: the limits
// found now may be the daemon's own, or those of the other one that changed it until then.
func lostFor(lost, other time.Time, info *knowledge.Container) [2]time.Time {
	if !info.Created.Before(lost) || other.After(lost) {
		lost = other
	}
	return [2]time.Time{lost, lost}
}

// DropOriginal drops the original limits of a container that was removed.
func (e *Executor) DropOriginal(c *Container) {
	c.abandon(e.now(), e.close)
	if !c.OriginalKept {
		return
	}
	id := c.ID
	e.workers.Do(func(context.Context) func() {
		if err := e.journal.Drop(id); err != nil {
			return func() { e.log.Debug().Err(err).Msg("cannot drop the original limits of a removed container") }
		}
		return nil
	})
}

// repair sets drifted limits again. Repeats wait longer each time.
func (e *Executor) repair(now time.Time, c *Container) {
	d := &c.drift
	if d.wait == 0 || now.Sub(d.next) > driftMost {
		d.wait = driftAgain
	}
	d.next, d.wait = now.Add(d.wait), min(d.wait*2, driftMost)
	d.count++
	e.Repairs++
	e.meter.DriftRepaired()
	for r := range knowledge.Resource(len(c.retry)) {
		if c.drifted(r) {
			e.repairLimit(now, c, r)
		}
	}
}

func (e *Executor) repairLimit(now time.Time, c *Container, r knowledge.Resource) {
	from, to, scale := c.Limit(r), c.expected(r), 1.0
	if r == knowledge.ResourceCPU {
		scale = 1e-9
	}
	if c.wasSent(now, r, from) && !e.writesKernel(c) {
		from, to = to, from // an own update that reached the kernel and not the record
	}
	a := e.Apply(now, c, knowledge.Decision{
		ID: c.ID, Resource: r, Actor: knowledge.ActorRepair, At: now, Verb: Verb(from, to), From: from, To: to,
		Reason: knowledge.Because(knowledge.RuleDrift, float64(from)*scale, float64(to)*scale),
	}, nil)
	if !a.Acted && a.Reason.Rule == knowledge.RuleWorkingSet { // more is in use by now
		c.takeInForce(r)
	}
}

// Touched reports whether the daemon changed a resource that is not as it was: the
// Engine has another value than the original, or the kernel another one than the Engine.
func (c *Container) Touched(r knowledge.Resource, host *Host) bool {
	start, original := c.Marks.start(r), limitOf(&c.Original.Limits, r)
	if in, set := c.Marks.inForce(r); set && in != 0 && !same(r, in, start) {
		return true
	}
	return !same(r, start, original) && start != host.all(r)
}
