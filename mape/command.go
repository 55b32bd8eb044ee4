package mape

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape/execute"
	"github.com/effiscale/effiscale/mape/service"
)

// ErrUnknown and ErrAmbiguous say why a reference names no container.
var (
	ErrUnknown   = errors.New("no such container")
	ErrAmbiguous = errors.New("more than one container")
)

// find resolves a full id, a unique prefix of at least 12 hex digits, or an exact
// name. It runs on the loop's goroutine.
func (l *Loop) find(ref string) (*container, error) {
	if c := l.containers[knowledge.ContainerID(ref)]; c != nil {
		return c, nil
	}
	var found *container
	for _, c := range l.order {
		if c.Name == ref {
			return c, nil
		}
		if len(ref) >= 12 && strings.HasPrefix(string(c.ID), ref) {
			if found != nil {
				return nil, fmt.Errorf("%w begin with %q: give more digits", ErrAmbiguous, ref)
			}
			found = c
		}
	}
	if found == nil {
		return nil, fmt.Errorf("%w %q on this host: `effiscale status` lists them", ErrUnknown, ref)
	}
	return found, nil
}

// Asked is what came of a limit that a person asked for.
type ScaleResult struct {
	Admission execute.Admission
	Record    knowledge.Record // zero when nothing was done
	From      int64
}

// Want says which limit is asked for: To, or Factor times the one in force.
type ScaleRequest struct {
	Resource knowledge.Resource
	To       int64
	Factor   float64
	By       string
	DryRun   bool
	Key      string
}

// Scale asks for a limit of one container, through every guard. It returns when
// the action is closed.
func (l *Loop) Scale(ctx context.Context, ref string, w ScaleRequest) (ScaleResult, error) {
	var out ScaleResult
	var findErr error
	closed := make(chan knowledge.Record, 1)
	waiting := false
	ask := func() {
		c, err := l.find(ref)
		if findErr = err; err != nil {
			return
		}
		now := l.o.Now()
		l.look(now, c)
		d := l.requested(now, c, w)
		out.From = d.From
		if w.DryRun {
			req := execute.Request{Now: now, Decision: &d, Container: &c.Container, Host: &l.exec.Host, Rules: &l.exec.Rules}
			out.Admission = execute.Admit(&req)
			return
		}
		out.Admission = l.exec.Apply(now, &c.Container, d, func(r knowledge.Record) { closed <- r })
		waiting = out.Admission.Acted
		if waiting {
			c.changed, l.exec.Urgent = true, true
			c.Marks.ExternalUntil = now.Add(c.Policy.YieldFor)
			c.Marks.Pinned = false
			d.To = out.Admission.Allowed
			c.reflex.Applied(now, d)
		}
	}
	for {
		if err := l.Do(ctx, ask); err != nil {
			return out, err
		}
		if findErr != nil {
			return out, findErr
		}
		// Another action on the container, or the reading of its original limits,
		// takes some tens of milliseconds: wait for it instead of refusing.
		if !busy(out.Admission) || waiting {
			break
		}
		select {
		case <-ctx.Done():
			return out, nil
		case <-time.After(50 * time.Millisecond):
		}
	}
	if !waiting {
		return out, nil
	}
	select {
	case out.Record = <-closed:
		return out, nil
	case <-ctx.Done():
		return out, ctx.Err()
	case <-l.stopped:
		return out, ErrStopped
	}
}

// look reads a container anew before a person's wish is judged: an idle one was
// last read seconds ago, and a limit under what it uses now is refused on cgroup
// v1 and kills on v2.
func (l *Loop) look(now time.Time, c *container) {
	if c.Probe == nil || now.Sub(c.memoryAt) < tickEvery {
		return
	}
	c.slow.Soon() // limits and memory too
	c.memoryAt = time.Time{}
	l.observe(now, c)
}

// busy: the guards would let it pass, only not in this instant.
func busy(r execute.Admission) bool {
	if r.Acted {
		return false
	}
	return r.Reason.Rule == knowledge.RuleInFlight || r.Reason.Rule == knowledge.RuleOriginal
}

func (l *Loop) requested(now time.Time, c *container, w ScaleRequest) knowledge.Decision {
	from := c.Limit(w.Resource)
	to := w.To
	if w.Factor > 0 {
		base := from
		if base == 0 { // no limit yet: what is in use is what grows or shrinks
			base = int64(c.Window.UsageMax)
			if w.Resource == knowledge.ResourceMemory {
				base = int64(c.Window.WorkingSet)
			}
		}
		to = int64(float64(base) * w.Factor)
	}
	d := knowledge.Decision{
		ID: c.ID, Resource: w.Resource, Actor: knowledge.ActorUser, At: now, From: from, To: to,
		Reason: knowledge.Reason{Rule: knowledge.RuleUser, Note: w.By}, Key: w.Key,
	}
	d.Verb = execute.Verb(from, to)
	return d
}

// Pause stops automation of a service, or with "" of all services. It returns what holds
// now.
func (l *Loop) Pause(ctx context.Context, key knowledge.ServiceKey, p knowledge.Pause) (pauses map[knowledge.ServiceKey]knowledge.Pause, err error) {
	doErr := l.Do(ctx, func() {
		if key == "" {
			for s := range l.services.All() {
				if s.Replicas.Total > 0 || s.Pause.On {
					l.pause(s, p)
				}
			}
			pauses = l.services.Pauses(l.o.Now())
			return
		}
		s := l.services.Lookup(key)
		if s == nil || s.Replicas.Total == 0 && !s.Pause.On {
			err = fmt.Errorf("%w or service %q on this host: `effiscale status` lists them", ErrUnknown, string(key))
			return
		}
		l.pause(s, p)
		pauses = l.services.Pauses(l.o.Now())
	})
	return pauses, errors.Join(doErr, err)
}

func (l *Loop) pause(s *service.Service, p knowledge.Pause) {
	s.Pause = p
	if p.On {
		return
	}
	for _, c := range l.order { // resuming ends the respect for others' changes too
		if c.service == s {
			c.Marks.ExternalUntil, c.Marks.Pinned, c.changed = time.Time{}, false, true
		}
	}
}

// RestoreResult is how the restore of one container went.
type RestoreResult struct {
	Name    string
	Records []knowledge.Record
	Err     string
}

// Restore puts the named container, or with "" all, back to the limits that they
// had, and pauses their services so that they stay there. keep is given all pauses
// that hold then, before anything is sent.
func (l *Loop) Restore(ctx context.Context, ref string, keep func(map[knowledge.ServiceKey]knowledge.Pause)) (out []RestoreResult, err error) {
	var todo []*container
	var pauses map[knowledge.ServiceKey]knowledge.Pause
	doErr := l.Do(ctx, func() {
		if ref == "" {
			todo = append(todo, l.order...)
		} else if c, findErr := l.find(ref); findErr != nil {
			err = findErr
		} else {
			todo = append(todo, c)
		}
		for _, c := range todo {
			if c.OriginalKept {
				l.pause(c.service, knowledge.Pause{On: true})
			}
		}
		pauses = l.services.Pauses(l.o.Now())
	})
	if err = errors.Join(doErr, err); err != nil {
		return nil, err
	}
	keep(pauses)
	for _, c := range todo {
		if one, did := l.restoreOne(ctx, c); did {
			out = append(out, one)
		}
	}
	return out, nil
}

// restoreOne sends both resources back, one after the other.
func (l *Loop) restoreOne(ctx context.Context, c *container) (one RestoreResult, did bool) {
	for r := range c.planned {
		resource := knowledge.Resource(r)
		closed := make(chan knowledge.Record, 1)
		var ruling execute.Admission
		var need bool
		for {
			err := l.Do(ctx, func() {
				one.Name = c.Name
				ruling, need = l.sendBack(c, resource, func(rec knowledge.Record) { closed <- rec })
			})
			if err != nil {
				one.Err = err.Error()
				return one, true
			}
			if !need || !busy(ruling) {
				break
			}
			select {
			case <-ctx.Done():
			case <-time.After(50 * time.Millisecond):
			}
		}
		if !need {
			continue
		}
		did = true
		if !ruling.Acted {
			one.Err = ruling.Reason.String()
			continue
		}
		select {
		case rec := <-closed:
			one.Records = append(one.Records, rec)
			if rec.Outcome.Result > knowledge.ResultAdjusted {
				one.Err = rec.Outcome.Message
			}
		case <-ctx.Done():
			one.Err = ctx.Err().Error()
			return one, true
		case <-l.stopped:
			one.Err = ErrStopped.Error()
			return one, true
		}
	}
	_ = l.Do(ctx, func() { l.exec.RestoreShares(l.o.Now(), &c.Container) })
	if did && one.Err == "" {
		_ = l.Do(ctx, func() { c.changed = true })
	}
	return one, did
}

// sendBack asks for a resource's original limit; need is false where it holds.
func (l *Loop) sendBack(c *container, r knowledge.Resource, done func(knowledge.Record)) (ruling execute.Admission, need bool) {
	if !c.OriginalKept || c.Gone {
		return ruling, false
	}
	to, engine := int64(c.Original.CPU), int64(c.Marks.Engine.CPU)
	if r == knowledge.ResourceMemory {
		to, engine = int64(c.Original.Memory), int64(c.Marks.Engine.Memory)
	}
	from := c.Limit(r)
	if from == to && engine == to {
		return ruling, false
	}
	if to == 0 && !l.exec.Touched(&c.Container, r) {
		return ruling, false
	}
	now := l.o.Now()
	l.look(now, c)
	d := knowledge.Decision{
		ID: c.ID, Resource: r, Actor: knowledge.ActorRestore, At: now,
		From: from, To: to, Reason: knowledge.Because(knowledge.RuleRestore),
	}
	if from == to { // the kernel has it, the Engine does not know yet
		d.From = engine
	}
	d.Verb = execute.Verb(d.From, to)
	ruling = l.exec.Apply(now, &c.Container, d, done)
	if ruling.Acted {
		c.changed = true
	}
	return ruling, true
}

// Reload takes new settings: all that could fail was done before.
func (l *Loop) Reload(ctx context.Context, s Settings) error {
	return l.Do(ctx, func() {
		l.set = s
		l.exec.Rules = s.Rules
		l.exec.Host.CPUPool = l.pool()
		now := l.o.Now()
		for _, c := range l.order {
			c.Policy = s.Policy(c.Container.Container)
			switch {
			case !l.measured(c):
				l.detach(c)
			case c.Probe == nil:
				c.attachAt = time.Time{}
				l.attach(now, c)
			case c.Policy.Acts() && !c.OriginalKept:
				l.exec.Inspect(now, &c.Container)
			}
			l.due[c.slot] = 0
		}
		l.cadence = s.Cadence.Spread(l.managed())
		l.deliberateAt = time.Time{}
	})
}

// Watch starts or stops measuring one container by name; already tells that
// nothing changed.
func (l *Loop) Watch(ctx context.Context, ref string, on bool) (already bool, err error) {
	doErr := l.Do(ctx, func() {
		c, findErr := l.find(ref)
		if err = findErr; err != nil {
			return
		}
		already = l.measured(c) == on
		c.watched, c.unwatched = on, !on
		if on && c.Probe == nil {
			c.attachAt = time.Time{}
			l.attach(l.o.Now(), c)
		}
		if !on {
			l.detach(c)
		}
	})
	return already, errors.Join(doErr, err)
}
