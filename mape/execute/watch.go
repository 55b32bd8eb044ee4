package execute

import (
	"fmt"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

const (
	// watchFor is how long a cut is watched before it counts as good.
	watchFor = 30 * time.Second
	// raisedFor is how long a floor stays raised after the first cut that did harm;
	// each repeat doubles it.
	raisedFor = time.Hour
	// raisedMost bounds the doubling: a day.
	raisedMost = 24 * time.Hour
	// raisedForget: after a week without harm the count starts over.
	raisedForget = 7 * 24 * time.Hour
)

// watch is what a container was like before a cut.
type watch struct {
	until  time.Time
	at     time.Time
	action knowledge.Action

	throttled float64
	peak      knowledge.NanoCPU
	pressure  float64
	refaults  float64
	restarts  int
	health    knowledge.Health
	lastOOM   time.Time
}

func (c *Container) watch(now time.Time, a knowledge.Action) {
	w := c.watches[a.Resize.Resource]
	from := a.Resize.From
	if w != nil && now.Before(w.until) && w.action.Resize.From > from {
		from = w.action.Resize.From // several cuts in a row are undone together
	}
	win := c.Window
	a.Resize.From = from
	c.watches[a.Resize.Resource] = &watch{
		until: now.Add(watchFor), at: now, action: a,
		throttled: win.ThrottleRatio, peak: max(win.UsageMax, win.Usage60), pressure: win.MemoryPressure.Some10,
		refaults: win.RefaultRate, restarts: c.Restarts, health: c.Health,
		lastOOM: win.LastOOM,
	}
}

// followsUse: only a cut that follows the container's own use can be undone, not one
// that follows from the policy's ceiling or a full host.
func followsUse(a *knowledge.Action) bool {
	switch a.Actor {
	case knowledge.ActorReflex, knowledge.ActorDeliberation:
		return a.Resize.From != 0 && a.Reason.Rule != knowledge.RulePoolShort && a.Reason.Rule != knowledge.RuleAboveCeiling
	}
	return false
}

// Review checks the cuts that are watched: it undoes those that did harm, and reports the
// others as good. It is called after each sample of the container.
func (e *Executor) Review(now time.Time, c *Container) {
	e.reviewHigh(now, c)
	if c.Pause.Active(now) && !c.Pause.OnlyDown {
		c.watches = [2]*watch{} // nothing is changed, not even by an undo
		return
	}
	for r := range c.watches {
		w := c.watches[r]
		if w == nil {
			continue
		}
		if harm := w.harm(now, c); harm != "" {
			if c.InFlight && r == int(knowledge.ResourceMemory) {
				continue // one writer: the undo follows the update that is in progress
			}
			e.undo(now, c, w, harm)
			continue
		}
		if !now.Before(w.until) {
			c.watches[r] = nil
			if e.outcome != nil {
				e.outcome(c, knowledge.Resource(r), false)
			}
		}
	}
}

// harm names what became worse since the cut and follows from it: a load that grew does
// not.
func (w *watch) harm(now time.Time, c *Container) string {
	win := c.Window
	switch {
	case c.Restarts > w.restarts:
		return "it was restarted"
	case c.Health == knowledge.HealthUnhealthy && w.health != knowledge.HealthUnhealthy:
		return "its health check fails"
	case win.LastOOM.After(w.at) && !win.LastOOM.Equal(w.lastOOM):
		return "the kernel killed one of its processes for memory"
	}
	if w.action.Resize.Resource == knowledge.ResourceMemory {
		switch {
		case win.MemoryPressure.Some10 > w.pressure+1:
			return fmt.Sprintf("it waits for memory %.1f%% of the time, %.1f%% before", win.MemoryPressure.Some10, w.pressure)
		case win.RefaultRate > 10*w.refaults+1000: // 1000 pages/s is 4 MiB/s read again
			return fmt.Sprintf("%.0f pages/s of its working set have to be read again, %.0f before", win.RefaultRate, w.refaults)
		}
		return ""
	}
	settled := now.Sub(w.at) >= 2*time.Second
	target := max(c.Envelope.ThrottleTarget, c.Policy.ThrottleTarget)
	same := win.Demand() <= w.peak+w.peak/10
	if settled && same && win.ThrottleRatio > w.throttled+3*target+0.05 {
		return fmt.Sprintf("%.0f%% of its periods are throttled at the load that it had before, %.0f%% then",
			win.ThrottleRatio*100, w.throttled*100)
	}
	return ""
}

// undo undoes a cut and raises the floor.
func (e *Executor) undo(now time.Time, c *Container, w *watch, harm string) {
	a := w.action
	r, limit := a.Resize.Resource, a.Resize.From
	c.raise(now, r, limit)
	c.watches[r] = nil
	if e.outcome != nil {
		e.outcome(c, r, true)
	}
	if a.Seq != 0 {
		o := knowledge.Outcome{Seq: a.Seq, Result: knowledge.ResultReverted, At: now, Message: harm}
		e.close(o, func() {})
	}
	e.meter.Action(r.String(), knowledge.ResultReverted.String(), 0)
	from := c.Limit(r)
	if from != 0 && from >= limit {
		return // it has grown back already
	}
	reason := knowledge.Reason{Rule: knowledge.RuleHurt, Args: [4]float64{now.Sub(a.At).Seconds()}, Note: harm}
	e.Apply(now, c, knowledge.Decision{
		ID: c.ID, Resource: r, Verb: knowledge.Grow, Actor: knowledge.ActorUndo, At: now,
		From: from, To: limit, Boost: true, Reason: reason,
	}, nil)
}

func (c *Container) raise(now time.Time, r knowledge.Resource, value int64) {
	c.Marks.Raised[r].raise(now, value)
	c.Unsaved = true
}
