package execute

import (
	"context"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

const (
	// driftAgain is how soon the same drift may be repaired again; it doubles to
	// driftMost, so that two writers do not fight.
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

// Compare looks at what the kernel holds against what was put there. It is called
// after the limits were read with a sample. A difference that the Engine knows of
// was made by a person or by Compose; one that it does not know of is drift
// (systemd's daemon-reload, another container runtime) and is repaired.
func (e *Executor) Compare(now time.Time, s *Subject) {
	if s.InFlight || s.inspecting || s.Unread || s.Gone || !s.Marks.EngineKnown || s.probing.on {
		return
	}
	if !s.settled && s.Container.Inspected {
		e.settle(now, s)
	}
	if !s.Policy.Acts() || e.Host.Crashes > 0 {
		return // who only watches puts nothing back
	}
	w := s.Window
	cpu := s.Marks.QuotaSet && !s.quotaAsSet()
	mem := s.Marks.Engine.Memory != 0 && !same(knowledge.ResourceMemory, int64(w.MemoryLimit), int64(s.Marks.Engine.Memory))
	if !cpu && !mem {
		return
	}
	if now.Before(s.drift.next) {
		return
	}
	s.drift.seen = true
	e.Meet(now, s)
}

// quotaAsSet: lifting is asked of the Engine as "all cores", so both count.
func (s *Subject) quotaAsSet() bool {
	if s.Marks.Quota == 0 {
		return true
	}
	return s.Window.Quota != 0 && sameCPU(s.Window.Quota, s.Marks.Quota)
}

// compare is asked after an inspect that no update of ours came between: is what the
// Engine holds what we put there?
func (e *Executor) compare(now time.Time, s *Subject, l knowledge.Limits) {
	m := &s.Marks
	if !m.EngineKnown || s.Adopt {
		m.Engine, m.EngineKnown, s.Unsaved = l, true, true
		s.drift = drift{}
		e.settle(now, s)
		return
	}
	first := !s.settled
	if first {
		s.drift = drift{} // what differs now was left by an earlier life: settle
		defer e.settle(now, s)
	}
	// The quota that we put into the kernel is ours in the Engine, too, whether we
	// know that it arrived there or not.
	cpu := !sameCPU(l.CPU, m.Engine.CPU) && !((s.Dirty() || first && m.QuotaSet) && sameCPU(l.CPU, m.Quota))
	mem := !same(knowledge.ResourceMemory, int64(l.Memory), int64(m.Engine.Memory))
	if cpu || mem {
		e.external(now, s, l, cpu, mem)
		return
	}
	m.Engine.CPU, m.Engine.CPUField, m.Engine.Period, m.Engine.Shares = l.CPU, l.CPUField, l.Period, l.Shares
	m.Engine.MemorySwap = l.MemorySwap
	if s.drift.seen {
		s.drift.seen = false
		e.repair(now, s)
	}
}

// Settled reports whether kernel and Engine were compared in this life.
func (s *Subject) Settled() bool { return s.settled }

// settle looks once in a life for a quota that the kernel holds and the Engine
// was never told of, because the daemon or the Engine ended before: the kernel's
// stays, and the Engine follows.
func (e *Executor) settle(now time.Time, s *Subject) {
	if !e.readBack(s) {
		return // not measured yet: Compare comes here again
	}
	if s.Adopt && s.OriginalKept && s.Window.MemoryHigh != 0 {
		e.liftHigh(s) // the first step of a cut that nobody lived to take back
	}
	m, quota := &s.Marks, s.Window.Quota
	ours := m.QuotaSet || s.Adopt
	s.settled, s.Adopt = true, false
	if !ours || quota == 0 || !s.Policy.Acts() {
		return
	}
	m.Quota, m.QuotaSet, s.Unsaved = quota, true, true
	if !sameCPU(m.Engine.CPU, quota) && !s.Dirty() {
		s.dirtySince = now
	}
}

// external takes somebody else's change as it is: it is left alone for the
// policy's time, and it is what a restore goes back to.
func (e *Executor) external(now time.Time, s *Subject, l knowledge.Limits, cpu, mem bool) {
	m := &s.Marks
	before := m.Engine
	m.Engine = l
	s.drift = drift{}
	e.readBack(s)
	if cpu { // else the Engine still has to be told of a quota of ours
		s.dirtySince = time.Time{}
		m.Quota, m.QuotaSet = l.CPU, l.CPU != 0
	}
	if !s.Policy.Acts() {
		return // not ours: only shown
	}
	e.keepQuota(s)                   // the reflex may have written between their update and this
	s.Unsaved, e.Urgent = true, true // a crash must not forget a person's wish
	if s.probing.on {
		e.endProbe(now, s, "somebody else changed the container")
	}
	m.ExternalUntil = now.Add(s.Policy.YieldFor)
	if mem {
		m.OOMAnswered = now
	}
	m.Pinned = outside(s.Policy.CPU, l.CPU) && cpu || outside(s.Policy.Memory, l.Memory) && mem
	s.watches = [2]watch{}
	if s.OriginalKept {
		if cpu {
			s.Original.CPU, s.Original.CPUField, s.Original.Period = l.CPU, l.CPUField, l.Period
		}
		if mem {
			s.Original.Memory, s.Original.MemorySwap = l.Memory, l.MemorySwap
		}
	}
	if cpu {
		e.note(now, s, knowledge.ResourceCPU, int64(before.CPU), int64(l.CPU))
	}
	if mem {
		e.note(now, s, knowledge.ResourceMemory, int64(before.Memory), int64(l.Memory))
	}
}

func outside[T ~int64](r knowledge.Range[T], v T) bool {
	return v != 0 && (v < r.Min || (r.Max > 0 && v > r.Max))
}

// note records a change that somebody else made, and the new way back.
func (e *Executor) note(now time.Time, s *Subject, r knowledge.Resource, from, to int64) {
	a := knowledge.Action{
		ID: s.Container.ID, Name: s.Container.Name, Service: s.Container.Service, Resource: r,
		Verb: Verb(from, to), Actor: knowledge.ActorExternal, At: now, From: from, To: to,
		Reason: knowledge.Because(knowledge.RuleExternal, s.Policy.YieldFor.Seconds()),
	}
	original := knowledge.Original{ID: a.ID, Name: a.Name, Service: a.Service, Limits: s.Original, At: now}
	keep := s.OriginalKept
	e.hands.Do(func(context.Context) func() {
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
			s.LastChange = knowledge.Record{Action: a, Outcome: o}
			e.say(s, a, o.Result, "")
			if err != nil {
				e.log.Debug().Err(err).Msg("a change by somebody else is kept in memory only")
			}
		}
	})
}

// Forget drops the way back of a container that is no more.
func (e *Executor) Forget(s *Subject) {
	if !s.OriginalKept {
		return
	}
	id := s.Container.ID
	e.hands.Do(func(context.Context) func() {
		if err := e.journal.Drop(id); err != nil {
			return func() { e.log.Debug().Err(err).Msg("the limits of a removed container are dropped later") }
		}
		return nil
	})
}

// repair puts back what drifted: the quota by the kernel file, memory by the
// Engine. Repeats wait longer each time.
func (e *Executor) repair(now time.Time, s *Subject) {
	d := &s.drift
	if d.wait == 0 || now.Sub(d.next) > driftMost {
		d.wait = driftAgain
	}
	d.next, d.wait = now.Add(d.wait), min(d.wait*2, driftMost)
	d.count++
	e.repaired++
	e.meter.DriftRepaired()
	m := &s.Marks
	if m.QuotaSet && !s.quotaAsSet() {
		was := s.Window.Quota
		reason := knowledge.Because(knowledge.RuleDrift, was.Cores(), m.Quota.Cores())
		a := knowledge.Action{
			ID: s.Container.ID, Name: s.Container.Name, Service: s.Container.Service, Resource: knowledge.ResourceCPU,
			Verb: Verb(int64(was), int64(m.Quota)), Actor: knowledge.ActorRepair, At: now, From: int64(was), To: int64(m.Quota), Reason: reason,
		}
		if e.quotaMoves(s, m.Quota) {
			s.fold.add(a, int64(s.Window.Quota))
			s.LastChange = knowledge.Record{Action: a, Outcome: knowledge.Outcome{Result: knowledge.ResultApplied, At: now, Kernel: int64(s.Window.Quota)}}
			e.say(s, a, knowledge.ResultApplied, "")
		} else {
			e.Apply(now, s, decision(a), nil)
		}
	}
	if from, to := int64(s.Window.MemoryLimit), int64(m.Engine.Memory); to != 0 && !same(knowledge.ResourceMemory, from, to) {
		if s.untold != 0 && same(knowledge.ResourceMemory, from, int64(s.untold)) {
			from, to = to, from // our own: it got as far as the kernel, and the Engine is behind
		}
		e.Apply(now, s, knowledge.Decision{
			ID: s.Container.ID, Resource: knowledge.ResourceMemory, Actor: knowledge.ActorRepair, At: now,
			Verb: Verb(from, to), From: from, To: to, Reason: knowledge.Because(knowledge.RuleDrift, float64(from), float64(to)),
		}, nil)
	}
}

func decision(a knowledge.Action) knowledge.Decision {
	return knowledge.Decision{
		ID: a.ID, Resource: a.Resource, Verb: a.Verb, Actor: a.Actor, At: a.At, From: a.From, To: a.To, Reason: a.Reason,
	}
}

// Repaired is how many drifts were repaired since the start.
func (e *Executor) Repaired() int { return e.repaired }

// Touched reports whether a resource was changed by us and is not as it was: the
// Engine holds something else than the original, or the kernel something else
// than the Engine.
func (e *Executor) Touched(s *Subject, r knowledge.Resource) bool {
	if r == knowledge.ResourceMemory {
		return !same(r, int64(s.Marks.Engine.Memory), int64(s.Original.Memory)) && s.Marks.Engine.Memory != e.Host.Memory
	}
	all := knowledge.NanoCPU(e.Host.CPUs) * knowledge.OneCPU
	return s.Dirty() || !sameCPU(s.Marks.Engine.CPU, s.Original.CPU) && s.Marks.Engine.CPU != all
}
