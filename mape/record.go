package mape

import (
	"context"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/knowledge/profile"
	"github.com/effiscale/effiscale/mape/execute"
)

// saving is the state of the commits to the store.
type saving struct {
	at      time.Time // of the newest commit
	running bool
	err     string             // of the newest commit; empty: it went well
	folds   []knowledge.Record // of containers that are gone
}

// record writes what an interval left, in one transaction, by a worker.
func (l *Loop) record(now time.Time) {
	l.checkReady()
	s := &l.saving
	if l.exec.Urgent && now.Sub(s.at) >= time.Second && !s.running {
		l.exec.Urgent, s.at = false, time.Time{}
	}
	if s.running || !elapsed(&s.at, now, l.set.FlushEvery) {
		return
	}
	batch := l.pack(now, false)
	s.running = l.workers.Do(func(context.Context) func() {
		err := l.o.Store.Commit(batch)
		return func() { l.committed(batch, err) }
	})
}

// committed ends a commit. A failed batch is not tried again: the next one has newer
// records of the same.
func (l *Loop) committed(b Batch, err error) {
	l.saving.running, l.saving.err = false, ""
	if err == nil {
		return
	}
	l.saving.err = err.Error()
	l.services.Unsaved(b.Packed)
	l.images.Unsaved(b.Images)
	for id := range b.Marks {
		if c := l.containers.byID[id]; c != nil {
			c.changed = true
		}
	}
}

// pack takes what changed since the last commit; with all, everything.
func (l *Loop) pack(now time.Time, all bool) Batch {
	b := Batch{
		Packed: l.services.Pack(now, all), Images: l.images.Pack(now, all),
		Marks: map[knowledge.ContainerID][]byte{}, Folds: l.saving.folds,
		Alive: make([]knowledge.ContainerID, 0, len(l.containers.order)),
	}
	l.saving.folds = nil
	for _, c := range l.containers.order {
		b.Alive = append(b.Alive, c.ID)
		if moves := c.TakeQuotaMoves(now); len(moves) > 0 {
			b.Folds = append(b.Folds, moves...)
			c.changed = true
		}
		if (!c.changed && !c.Unsaved && !all) || !c.Marks.EngineKnown {
			continue
		}
		c.changed, c.Unsaved = false, false
		if m, err := c.packMarks(); err == nil {
			b.Marks[c.ID] = m
		}
	}
	return b
}

// learnOutcome takes in how a cut ended.
func (l *Loop) learnOutcome(c *execute.Container, r knowledge.Resource, reverted bool) {
	learn := func(p *profile.Profile) {
		p.AddOutcome(r, knowledge.Shrink, knowledge.ResultApplied)
		if reverted {
			p.AddOutcome(r, knowledge.Shrink, knowledge.ResultReverted)
		}
	}
	if c := l.containers.byID[c.ID]; c != nil {
		c.learn(learn)
		return
	}
	l.services.Get(c.Service).Learn(learn) // it is gone; its service stays
}

// checkReady calls OnReady once the first full pass is done: the listing was read and
// every container that could be measured was.
func (l *Loop) checkReady() {
	if l.ready || !l.listing.done {
		return
	}
	for _, c := range l.containers.order {
		if c.Probe != nil && c.Window.Samples == 0 && !c.reading.tried {
			return
		}
	}
	l.ready = true
	if l.o.OnReady != nil {
		l.o.OnReady()
	}
}

// Unadopted reports whether limits that a crashed daemon left were not compared with the
// Engine, because this one ended too soon: the next one has to. It is for after the
// loop's end.
func (l *Loop) Unadopted() bool {
	if !l.o.Restored.Unclean {
		return false
	}
	for _, c := range l.containers.order {
		if c.Adopt && !c.Gone && c.Policy.Acts() {
			return true
		}
	}
	return !l.listing.done
}
