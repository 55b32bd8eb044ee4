package execute

import (
	"context"
	"fmt"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// highStep is how long a lowered memory.high is watched before the limit follows.
const highStep = 5 * time.Second

// probing is the first half of a memory shrink where the kernel has memory.high:
// lowered first, watched, and only then followed by the limit, because
// a limit below need kills and a high mark below need only slows down.
type probing struct {
	on       bool
	action   knowledge.Action
	until    time.Time // zero: it is being recorded, and not lowered yet
	pressure float64
	refaults float64
}

// probe records a cut, and then makes its first step. It returns false where the
// kernel has no memory.high.
func (e *Executor) probe(s *Subject, a knowledge.Action) bool {
	if e.Rules.Actuator != knowledge.ActuatorKernel || s.Probe == nil || s.Window.MemoryHigh != 0 {
		return false
	}
	if err := s.Probe.SetHigh(0); err != nil { // what it has: is there such a file?
		return false
	}
	s.probing = probing{on: true, action: a}
	s.InFlight = e.hands.Do(func(context.Context) func() {
		seq, err := e.journal.Begin(a)
		return func() {
			s.InFlight = false
			s.probing.action.Seq = seq
			e.lowerHigh(e.now(), s, err)
		}
	})
	s.probing.on = s.InFlight
	return s.InFlight
}

// lowerHigh is the first step itself.
func (e *Executor) lowerHigh(now time.Time, s *Subject, unwritten error) {
	p := &s.probing
	if s.Probe == nil {
		e.endProbe(now, s, "the container went away")
		return
	}
	if err := s.Probe.SetHigh(knowledge.Bytes(p.action.To)); err != nil {
		e.endProbe(now, s, err.Error())
		return
	}
	if unwritten != nil {
		e.log.Debug().Err(unwritten).Str("container", s.Container.Name).Msg("a memory cut is recorded in memory only")
	}
	p.until = now.Add(highStep)
	p.pressure, p.refaults = s.Window.MemoryPressure.Some10, s.Window.RefaultRate
}

// endProbe lifts memory.high again and closes the cut, which is not made.
func (e *Executor) endProbe(now time.Time, s *Subject, why string) {
	a := s.probing.action
	s.probing = probing{}
	e.liftHigh(s)
	s.LastError, s.LastErrorAt = "a memory cut was not made: "+why, now
	o := knowledge.Outcome{
		Seq: a.Seq, Result: knowledge.ResultRefused, At: now, Took: now.Sub(a.At),
		Kernel: s.Limit(a.Resource), Message: why,
	}
	s.LastChange = knowledge.Record{Action: a, Outcome: o}
	e.meter.Action(a.Resource.String(), o.Result.String(), o.Took)
	e.close(o, func() {})
}

func (e *Executor) liftHigh(s *Subject) {
	if s.Probe == nil {
		return
	}
	if err := s.Probe.SetHigh(0); err != nil {
		e.log.Warn().Err(err).Str("container", s.Container.Name).Msg("cannot lift memory.high again")
	}
}

// reviewHigh follows the first step with the limit, or takes it back.
func (e *Executor) reviewHigh(now time.Time, s *Subject) {
	p := &s.probing
	if !p.on || p.until.IsZero() {
		return
	}
	a, w := p.action, s.Window
	if w.MemoryPressure.Some10 > p.pressure+0.5 || w.RefaultRate > 4*p.refaults+200 || w.WorkingSet > knowledge.Bytes(a.To)*95/100 {
		e.endProbe(now, s, fmt.Sprintf("with memory.high at %s it waits for memory %.1f%% of the time and reads %.0f pages/s again",
			knowledge.Bytes(a.To), w.MemoryPressure.Some10, w.RefaultRate))
		s.raise(now, a.Resource, s.Limit(a.Resource))
		e.log.Info().Str("container", s.Container.Name).Str("why", s.LastError).Msg("memory stays: the first step of a cut was felt")
		return
	}
	if now.Before(p.until) || s.InFlight {
		return
	}
	d := knowledge.Decision{
		ID: a.ID, Resource: a.Resource, Verb: a.Verb, Actor: a.Actor, At: now, From: s.Limit(a.Resource), To: a.To, Reason: a.Reason,
	}
	r := Judge(&Case{Now: now, D: &d, S: s, Host: &e.Host, Rules: &e.Rules})
	if r.Allowed != a.To {
		e.endProbe(now, s, "meanwhile: "+r.Reason.String())
		return
	}
	s.probing = probing{}
	e.liftHigh(s)
	a.From = d.From
	e.sendMemory(s, a, nil)
}
