package execute

import (
	"errors"
	"slices"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

const (
	// sentFor is how long a limit that was sent without an answer may still arrive: a stopped
	// Engine executes what it was sent when it goes on.
	sentFor = time.Hour
	// sentMost bounds what is remembered of one container.
	sentMost = 16
	// unclearFor is how long the record is read again until an update without an answer counts
	// as not done. An Engine that was stopped answers no inspect either, and then executes both
	// within a second.
	unclearFor = 10 * time.Second
)

// Sent is a limit that was sent to the Engine without an answer: the Engine may have it, or
// get it yet.
type Sent struct {
	Resource knowledge.Resource `json:"resource"`
	Limit    int64              `json:"limit"`
	At       time.Time          `json:"at"`
	// Refused: the next inspect tells whether it is on record all the same.
	Refused bool `json:"refused,omitempty"`
}

// noteSent remembers a limit before it is sent.
func (c *Container) noteSent(now time.Time, r knowledge.Resource, limit int64) {
	m := &c.Marks
	m.Sent = slices.DeleteFunc(m.Sent, func(s Sent) bool {
		return s.Resource == r && s.Limit == limit || now.Sub(s.At) > sentFor
	})
	if len(m.Sent) >= sentMost {
		m.Sent = slices.Delete(m.Sent, 0, 1)
	}
	m.Sent = append(m.Sent, Sent{Resource: r, Limit: limit, At: now})
	c.Unsaved = true
}

// answered notes the answer to an update. What was refused may be on record all the same, by what
// stands before the Engine's socket: the record is read.
func (c *Container) answered(engine Resizer, r knowledge.Resource, limit int64, err error) {
	if !isClear(engine, err) {
		return
	}
	m, refused := &c.Marks, engine.Refused(err)
	for i := range m.Sent {
		if s := &m.Sent[i]; refused && s.Resource == r && s.Limit == limit {
			s.Refused, c.Unread = true, true
		}
	}
	if !refused {
		m.Sent = slices.DeleteFunc(m.Sent, func(s Sent) bool { return s.Resource == r && s.Limit == limit })
	}
	c.Unsaved = true
}

// forgetRefused is for after the record was read.
func (c *Container) forgetRefused() {
	c.Marks.Sent = slices.DeleteFunc(c.Marks.Sent, func(s Sent) bool { return s.Refused })
}

// wasSent reports whether a limit is one that was sent without an answer.
func (c *Container) wasSent(now time.Time, r knowledge.Resource, limit int64) bool {
	return slices.ContainsFunc(c.Marks.Sent, func(s Sent) bool {
		return s.Resource == r && now.Sub(s.At) <= sentFor && same(r, s.Limit, limit)
	})
}

// unclear is an action that stays open until the Engine's record tells how it ended.
type unclear struct {
	action knowledge.Action
	at     time.Time // of the end of the call
	err    string
}

// Unsure reports whether the Engine's record has to be read to know how an update ended.
func (c *Container) Unsure() bool { return len(c.engine.unclear) > 0 && !c.InFlight && !c.engine.busy }

// isClear reports whether an update's end is known from its answer.
func isClear(engine Resizer, err error) bool {
	unsent, ok := errors.AsType[interface {
		error
		Unsent() bool
	}](err)
	return err == nil || engine.Refused(err) || ok && unsent.Unsent()
}

// failed is the outcome of an update that was not done, or whose action stays open because that
// is not known.
func (c *Container) failed(now time.Time, engine Resizer, a knowledge.Action, err error) knowledge.Outcome {
	o := knowledge.Outcome{Seq: a.Seq, At: now, Took: now.Sub(a.At), Result: knowledge.ResultFailed, Message: err.Error()}
	switch {
	case engine.Refused(err):
		o.Result = knowledge.ResultRefused
	case !isClear(engine, err) && len(c.engine.unclear) < sentMost:
		c.engine.unclear = append(c.engine.unclear, unclear{a, now, err.Error()})
		o.Result, o.Message = knowledge.ResultOpen, "not known yet whether it was done: "+err.Error()
	}
	return o
}

// abandon closes the actions without an answer of a container that was removed.
func (c *Container) abandon(now time.Time, end func(knowledge.Outcome, func())) {
	for _, u := range c.engine.unclear {
		end(knowledge.Outcome{Seq: u.action.Seq, At: now, Result: knowledge.ResultSuperseded,
			Message: "the container was removed: " + u.err}, func() {})
	}
	c.engine.unclear = nil
}

// resolve closes actions without an answer by what the Engine has on record. The newest one
// that it has is applied, with it those before it are superseded; what it does not have after
// unclearFor was not done.
func (e *Executor) resolve(now time.Time, c *Container, l *knowledge.Limits) {
	open := c.engine.unclear
	if len(open) == 0 {
		return
	}
	var found [2]int
	for i := range open {
		r := open[i].action.Resize.Resource
		if same(r, limitOf(l, r), open[i].action.Resize.To) {
			found[r] = i + 1
		}
	}
	var left []unclear
	for i := range open {
		u := &open[i]
		r := u.action.Resize.Resource
		o := knowledge.Outcome{Seq: u.action.Seq, At: now, Took: now.Sub(u.action.At), Engine: limitOf(l, r)}
		if c.Probe != nil {
			o.Kernel = c.Limit(r)
		}
		switch {
		case i+1 == found[r]:
			o.Result, o.Message = knowledge.ResultApplied, "found in the Engine's record; the answer was lost: "+u.err
			c.engineUpdated(r, u.action.Resize.To, &e.Host)
			if !u.action.Resize.Start {
				c.applied(now, u.action)
			}
		case i < found[r]:
			o.Result, o.Message = knowledge.ResultSuperseded, "a newer update is in the Engine's record: "+u.err
		case now.Sub(u.at) >= unclearFor:
			o.Result, o.Message = knowledge.ResultFailed, "not in the Engine's record afterwards: "+u.err
		default:
			left = append(left, *u)
			continue
		}
		if c.LastChange.Action.Seq == u.action.Seq {
			c.LastChange.Outcome = o
		}
		e.meter.Action(r.String(), o.Result.String(), o.Took)
		e.logAction(c, u.action, o.Result, o.Message)
		e.close(o, func() {})
	}
	c.engine.unclear = left
}
