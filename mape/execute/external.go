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

// Compare compares the limits in force with those that were set. It is called after the
// limits were read with a sample. A difference that the Engine's record has too was made
// by a person or by Compose; another one is drift (systemd's daemon-reload, another
// container runtime) and is repaired.
func (e *Executor) Compare(now time.Time, c *Container) {
	if c.InFlight || c.inspection.running || c.Unread || c.Gone || !c.Marks.EngineKnown || c.cut.on {
		return
	}
	if !c.sync.settled && c.Inspected {
		e.settle(now, c)
	}
	if !c.Policy.Acts() || e.Host.Crashes > 0 {
		return // nothing is repaired where nothing may be changed
	}
	w := c.Window
	cpu := c.Marks.QuotaSet && !c.quotaAsSet()
	mem := c.Marks.Engine.Memory != 0 && !same(knowledge.ResourceMemory, int64(w.MemoryLimit),
		int64(c.Marks.Engine.Memory))
	if !cpu && !mem {
		return
	}
	if now.Before(c.drift.next) {
		return
	}
	c.drift.seen = true
	e.Inspect(now, c)
}

// quotaAsSet: the Engine has no limit as "all cores", so both count.
func (c *Container) quotaAsSet() bool {
	if c.Marks.Quota == 0 {
		return true
	}
	return c.Window.Quota != 0 && sameCPU(c.Window.Quota, c.Marks.Quota)
}

// compare compares the Engine's record with what was set, after an inspect during
// which no update was in progress.
func (e *Executor) compare(now time.Time, c *Container, l knowledge.Limits) {
	m := &c.Marks
	if !m.EngineKnown || c.Adopt {
		m.Engine, m.EngineKnown, c.Unsaved = l, true, true
		c.drift = drift{}
		e.settle(now, c)
		return
	}
	first := !c.sync.settled
	if first {
		c.drift = drift{} // what differs now was left by an earlier start of the daemon: settle
		defer e.settle(now, c)
	}
	// The quota that was written to the kernel is the daemon's in the Engine, too, also
	// where the answer to its update was lost.
	cpu := !sameCPU(l.CPU, m.Engine.CPU) && !((c.Dirty() || first && m.QuotaSet) && sameCPU(l.CPU, m.Quota))
	mem := !same(knowledge.ResourceMemory, int64(l.Memory), int64(m.Engine.Memory))
	if cpu || mem {
		e.external(now, c, l, cpu, mem)
		return
	}
	m.Engine.CPU, m.Engine.Dialect, m.Engine.Period, m.Engine.Shares = l.CPU, l.Dialect, l.Period, l.Shares
	m.Engine.MemorySwap = l.MemorySwap
	if c.drift.seen {
		c.drift.seen = false
		e.repair(now, c)
	}
}

// Settled reports whether kernel and Engine were compared since the daemon started.
func (c *Container) Settled() bool { return c.sync.settled }

// settle looks once, after the start, for a quota that the kernel has and the Engine
// never got, because the daemon or the Engine ended before: the kernel's stays, and the
// Engine follows.
func (e *Executor) settle(now time.Time, c *Container) {
	if !e.readBack(c) {
		return // not measured yet: Compare comes here again
	}
	if c.Adopt && c.OriginalKept && c.Window.MemoryHigh != 0 {
		e.liftHigh(c) // left behind by a crashed daemon
	}
	m, quota := &c.Marks, c.Window.Quota
	ours := m.QuotaSet || c.Adopt
	c.sync.settled, c.Adopt = true, false
	if !ours || quota == 0 || !c.Policy.Acts() {
		return
	}
	m.Quota, m.QuotaSet, c.Unsaved = quota, true, true
	if !sameCPU(m.Engine.CPU, quota) && !c.Dirty() {
		c.sync.dirtySince = now
	}
}

// external takes over an external change: automation does not touch it for the
// policy's time, and a restore goes back to it.
func (e *Executor) external(now time.Time, c *Container, l knowledge.Limits, cpu, mem bool) {
	m := &c.Marks
	before := m.Engine
	m.Engine = l
	c.drift = drift{}
	e.readBack(c)
	if cpu { // else a quota of the daemon still has to be sent
		c.sync.dirtySince = time.Time{}
		m.Quota, m.QuotaSet = l.CPU, l.CPU != 0
	}
	if !c.Policy.Acts() {
		return // not managed: only shown
	}
	e.rewriteQuota(c)                // the reflex may have written between their update and this
	c.Unsaved, e.Urgent = true, true // a person's change must survive a crash
	if c.cut.on {
		e.cancelCut(now, c, "the container was changed externally")
	}
	m.ExternalUntil = now.Add(c.Policy.YieldFor)
	if mem {
		m.OOMAnswered = now
	}
	m.Pinned = outside(c.Policy.CPU, l.CPU) && cpu || outside(c.Policy.Memory, l.Memory) && mem
	c.watches = [2]*watch{}
	if c.OriginalKept {
		if cpu {
			c.Original.CPU, c.Original.Dialect, c.Original.Period = l.CPU, l.Dialect, l.Period
			c.Original.Lost[knowledge.ResourceCPU] = time.Time{}
		}
		if mem {
			c.Original.Memory, c.Original.MemorySwap = l.Memory, l.MemorySwap
			c.Original.Lost[knowledge.ResourceMemory] = time.Time{}
		}
	}
	if cpu {
		e.recordExternal(now, c, knowledge.ResourceCPU, int64(before.CPU), int64(l.CPU))
	}
	if mem {
		e.recordExternal(now, c, knowledge.ResourceMemory, int64(before.Memory), int64(l.Memory))
	}
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
// found now may be the daemon's own.
func (e *Executor) lostFor(info *knowledge.Container) (at [2]time.Time) {
	if info.Created.Before(e.lost) {
		at = [2]time.Time{e.lost, e.lost}
	}
	return at
}

// DropOriginal drops the original limits of a container that was removed.
func (e *Executor) DropOriginal(c *Container) {
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

// repair sets drifted limits again: the quota by the kernel file, memory by the Engine.
// Repeats wait longer each time.
func (e *Executor) repair(now time.Time, c *Container) {
	d := &c.drift
	if d.wait == 0 || now.Sub(d.next) > driftMost {
		d.wait = driftAgain
	}
	d.next, d.wait = now.Add(d.wait), min(d.wait*2, driftMost)
	d.count++
	e.Repairs++
	e.meter.DriftRepaired()
	m := &c.Marks
	if m.QuotaSet && !c.quotaAsSet() {
		was := c.Window.Quota
		reason := knowledge.Because(knowledge.RuleDrift, was.Cores(), m.Quota.Cores())
		a := knowledge.Action{
			Kind: knowledge.ActionResize, ID: c.ID, Name: c.Name, Service: c.Service,
			Actor: knowledge.ActorRepair, At: now, Reason: reason,
			Resize: knowledge.Resize{
				Resource: knowledge.ResourceCPU, Verb: Verb(int64(was), int64(m.Quota)),
				From: int64(was), To: int64(m.Quota),
			},
		}
		if e.writeQuota(c, m.Quota) {
			c.moves.add(a, int64(c.Window.Quota))
			c.LastChange = knowledge.Record{Action: a, Outcome: knowledge.Outcome{Result: knowledge.ResultApplied, At: now,
				Kernel: int64(c.Window.Quota)}}
			e.logAction(c, a, knowledge.ResultApplied, "")
		} else {
			e.Apply(now, c, decision(a), nil)
		}
	}
	if from, to := int64(c.Window.MemoryLimit), int64(m.Engine.Memory); to != 0 &&
		!same(knowledge.ResourceMemory, from, to) {
		if c.sync.unconfirmed != 0 && same(knowledge.ResourceMemory, from, int64(c.sync.unconfirmed)) {
			from, to = to, from // an own update that reached the kernel and not the record
		}
		e.Apply(now, c, knowledge.Decision{
			ID: c.ID, Resource: knowledge.ResourceMemory, Actor: knowledge.ActorRepair, At: now,
			Verb: Verb(from, to), From: from, To: to, Reason: knowledge.Because(knowledge.RuleDrift, float64(from), float64(to)),
		}, nil)
	}
}

func decision(a knowledge.Action) knowledge.Decision {
	return knowledge.Decision{
		ID: a.ID, Resource: a.Resize.Resource, Verb: a.Resize.Verb, Actor: a.Actor, At: a.At,
		From: a.Resize.From, To: a.Resize.To, Reason: a.Reason,
	}
}

// Touched reports whether the daemon changed a resource that is not as it was: the
// Engine has another value than the original, or the kernel another one than the Engine.
func (e *Executor) Touched(c *Container, r knowledge.Resource) bool {
	if r == knowledge.ResourceMemory {
		return !same(r, int64(c.Marks.Engine.Memory), int64(c.Original.Memory)) && c.Marks.Engine.Memory != e.Host.Memory
	}
	all := knowledge.NanoCPU(e.Host.CPUs) * knowledge.OneCPU
	return c.Dirty() || !sameCPU(c.Marks.Engine.CPU, c.Original.CPU) && c.Marks.Engine.CPU != all
}
