package mape

import (
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape/execute"
)

// reactionSpan is the half of the time over which the loop remembers how slow it was.
const reactionSpan = time.Minute

// reaction is how long it takes at worst from one reading of a container in need until the
// correction that the next one decides is in force: the interval, the lateness of the tick and
// the Engine's update.
type reaction struct {
	ticks, updates worst
}

// worst is the longest of the last one to two spans.
type worst struct {
	at          time.Time // of the running span
	now, before time.Duration
}

func (w *worst) add(at time.Time, d time.Duration) {
	if since := at.Sub(w.at); since >= reactionSpan {
		w.before = w.now
		if since >= 2*reactionSpan {
			w.before = 0
		}
		w.at, w.now = at, 0
	}
	w.now = max(w.now, d)
}

func (w *worst) most() time.Duration { return max(w.now, w.before) }

// ticked takes in how late a tick came.
func (r *reaction) ticked(now time.Time, late time.Duration) { r.ticks.add(now, max(late, 0)) }

// take takes in how long the newest change of a container's memory took, and returns the
// reaction.
func (r *reaction) take(now time.Time, c *execute.Container) time.Duration {
	took := time.Duration(0)
	if a := &c.LastChange; a.Action.Resize.Resource == knowledge.ResourceMemory &&
		a.Action.Resize.Verb == knowledge.Grow && now.Sub(a.Outcome.At) < reactionSpan {
		took = a.Outcome.Took
	}
	r.updates.add(now, took)
	return tickEvery + r.ticks.most() + r.updates.most()
}
