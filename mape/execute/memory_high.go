package execute

import (
	"context"
	"fmt"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// highStep is how long a lowered memory.high is watched before the limit follows.
const highStep = 5 * time.Second

// pendingCut is a memory cut whose first step is made: memory.high is lowered first and
// watched, and the limit follows later. A limit below need kills; memory.high below need
// only slows down.
type pendingCut struct {
	on       bool
	action   knowledge.Action
	boost    bool      // as decided: without the bounds of a step
	until    time.Time // zero: it is being recorded, and not lowered yet
	pressure float64
	refaults float64
}

// lowerHighFirst records a cut and then makes its first step. It returns false where the
// kernel has no memory.high.
func (e *Executor) lowerHighFirst(c *Container, a knowledge.Action, boost bool) bool {
	if e.Rules.Actuator != knowledge.ActuatorKernel || c.Probe == nil || c.Window.MemoryHigh != 0 {
		return false
	}
	if err := c.Probe.SetHigh(0); err != nil { // its present value: is there such a file?
		return false
	}
	c.cut = pendingCut{on: true, action: a, boost: boost}
	c.InFlight = e.workers.Do(func(context.Context) func() {
		seq, err := e.journal.Begin(a)
		return func() {
			c.InFlight = false
			c.cut.action.Seq = seq
			e.lowerHigh(e.now(), c, err)
		}
	})
	c.cut.on = c.InFlight
	return c.InFlight
}

// lowerHigh makes the first step.
func (e *Executor) lowerHigh(now time.Time, c *Container, unwritten error) {
	p := &c.cut
	if c.Probe == nil {
		e.cancelCut(now, c, "the container was removed")
		return
	}
	if err := c.Probe.SetHigh(knowledge.Bytes(p.action.Resize.To)); err != nil {
		e.cancelCut(now, c, err.Error())
		return
	}
	if unwritten != nil {
		e.log.Debug().Err(unwritten).Str("container", c.Name).Msg("cannot persist a memory cut")
	}
	p.until = now.Add(highStep)
	p.pressure, p.refaults = c.Window.MemoryPressure.Some10, c.Window.RefaultRate
}

// cancelCut removes memory.high again and closes the cut, which is not made.
func (e *Executor) cancelCut(now time.Time, c *Container, why string) {
	a := c.cut.action
	c.cut = pendingCut{}
	e.liftHigh(c)
	c.LastError, c.LastErrorAt = "memory cut canceled: "+why, now
	o := knowledge.Outcome{
		Seq: a.Seq, Result: knowledge.ResultRefused, At: now, Took: now.Sub(a.At),
		Kernel: c.Limit(a.Resize.Resource), Message: why,
	}
	c.LastChange = knowledge.Record{Action: a, Outcome: o}
	e.meter.Action(a.Resize.Resource.String(), o.Result.String(), o.Took)
	e.close(o, func() {})
}

func (e *Executor) liftHigh(c *Container) {
	if c.Probe == nil {
		return
	}
	if err := c.Probe.SetHigh(0); err != nil {
		e.log.Warn().Err(err).Str("container", c.Name).Msg("cannot remove memory.high")
		return
	}
	c.Window.MemoryHigh = 0 // or the next cut would do without its first step
}

// reviewHigh lets the limit follow the first step, or cancels the cut.
func (e *Executor) reviewHigh(now time.Time, c *Container) {
	p := &c.cut
	if !p.on || p.until.IsZero() {
		return
	}
	a, w := p.action, c.Window
	resource, to := a.Resize.Resource, a.Resize.To
	if w.MemoryPressure.Some10 > p.pressure+0.5 || w.RefaultRate > 4*p.refaults+200 ||
		w.InUse() > knowledge.Bytes(to)*95/100 {
		e.cancelCut(now, c, fmt.Sprintf(
			"with memory.high at %s it waits for memory %.1f%% of the time and reads %.0f pages/s again",
			knowledge.Bytes(to), w.MemoryPressure.Some10, w.RefaultRate))
		c.raise(now, resource, c.Limit(resource))
		e.log.Info().Str("container", c.Name).Str("reason", c.LastError).Msg("memory cut canceled")
		return
	}
	if now.Before(p.until) || c.InFlight {
		return
	}
	d := knowledge.Decision{
		ID: a.ID, Resource: resource, Verb: a.Resize.Verb, Actor: a.Actor, At: now,
		From: c.Limit(resource), To: to, Boost: p.boost, Reason: a.Reason,
	}
	r := Admit(e.Request(now, c, &d))
	if r.Allowed != to {
		e.cancelCut(now, c, "meanwhile: "+r.Reason.String())
		return
	}
	c.cut = pendingCut{}
	e.liftHigh(c)
	a.Resize.From = d.From
	e.send(c, a, nil)
}
