package mape

import (
	"context"
	"encoding/json"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/knowledge/profile"
	"github.com/effiscale/effiscale/mape/execute"
	"github.com/effiscale/effiscale/mape/plan"
)

func (l *Loop) envelope(now time.Time, c *container) {
	c.Envelope = plan.Deliberate(now, c.facts(now), &c.Policy, l.o.Host, c.Envelope)
}

// facts are what the planner needs to know of a container.
func (c *container) facts(now time.Time) plan.Facts {
	f := c.service.Facts(&c.Policy)
	if need, limit, ok := c.reflex.MemorySize(now, c.Window, &c.Policy); ok {
		f.MemoryNeed, f.MemoryLimit = need, limit
	}
	if f.NeedsImage() {
		f.Image = c.image.Facts(&c.Policy)
	}
	c.service.AddForecast(now, &f, &c.Policy, c.ring)
	return f
}

// learnOutcome is told how a cut ended.
func (l *Loop) learnOutcome(c *execute.Container, r knowledge.Resource, reverted bool) {
	learn := func(p *profile.Profile) {
		p.AddOutcome(r, knowledge.Shrink, knowledge.ResultApplied)
		if reverted {
			p.AddOutcome(r, knowledge.Shrink, knowledge.ResultReverted)
		}
	}
	if c := l.containers[c.ID]; c != nil {
		c.learn(learn)
		return
	}
	l.services.Get(c.Service).Learn(learn) // it is gone; its service stays
}

// remember writes what an interval left, in one transaction, beside the loop.
func (l *Loop) remember(now time.Time) {
	l.markReady()
	if l.exec.Urgent && now.Sub(l.flushAt) >= time.Second && !l.flushing {
		l.exec.Urgent, l.flushAt = false, time.Time{}
	}
	if l.flushing || !l.elapsed(&l.flushAt, now, l.set.FlushEvery) {
		return
	}
	batch := l.pack(now, false)
	l.flushing = l.workers.Do(commit(l, batch))
}

// kept is what the disk has of one container.
type kept struct {
	*execute.Marks
	Climb *plan.Climb `json:"climb,omitempty"`
}

// pack takes what changed since the last commit.
func (l *Loop) pack(now time.Time, all bool) Batch {
	b := Batch{
		Packed: l.services.Pack(now, all), Images: l.images.Pack(now, all),
		Marks: map[knowledge.ContainerID][]byte{}, Folds: l.folds,
	}
	l.folds = nil
	b.Alive = make([]knowledge.ContainerID, 0, len(l.order))
	for _, c := range l.order {
		b.Alive = append(b.Alive, c.ID)
		if r, ok := c.TakeFold(now); ok {
			b.Folds = append(b.Folds, r)
			c.changed = true
		}
		if (!c.changed && !c.Unsaved && !all) || !c.Marks.EngineKnown {
			continue
		}
		c.changed, c.Unsaved = false, false
		if m, err := json.Marshal(kept{&c.Marks, c.reflex.Climb()}); err == nil {
			b.Marks[c.ID] = m
		}
	}
	return b
}

// unsaved marks what a failed commit held, so that the next one has it as it is then.
func (l *Loop) unsaved(b Batch) {
	l.services.Unsaved(b.Packed)
	l.images.Unsaved(b.Images)
	for id := range b.Marks {
		if c := l.containers[id]; c != nil {
			c.changed = true
		}
	}
}

// commit is the job that writes a batch. The same batch is not tried again: the
// next one overwrites the same records with newer ones.
func commit(l *Loop, b Batch) func(context.Context) func() {
	return func(context.Context) func() {
		err := l.o.Store.Commit(b)
		return func() {
			l.flushing = false
			l.storeErr = ""
			if err != nil {
				l.storeErr = err.Error()
				l.unsaved(b)
			}
		}
	}
}

// markReady tells once that the first full pass is done: the listing was read
// and every container that could be measured was.
func (l *Loop) markReady() {
	if l.ready || !l.listed {
		return
	}
	for _, c := range l.order {
		if c.Probe != nil && c.Window.Samples == 0 && !c.tried {
			return
		}
	}
	l.ready = true
	if l.o.OnReady != nil {
		l.o.OnReady()
	}
}
