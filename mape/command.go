package mape

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape/execute"
)

// ScaleRequest is a limit that a person asks for: To, or Factor times the one in force.
type ScaleRequest struct {
	Resource knowledge.Resource
	To       int64
	Factor   float64
	By       string
	DryRun   bool
	Key      string
}

// ScaleResult is what the guards let pass of a request, and what was done.
type ScaleResult struct {
	Admission execute.Admission
	Record    knowledge.Record // zero when nothing was done
	From      int64
}

// Scale sets a limit of one container, through every guard. It returns when the action
// is closed.
func (l *Loop) Scale(ctx context.Context, ref string, req ScaleRequest) (ScaleResult, error) {
	var from int64
	var before, during execute.Marks
	asked := l.o.Now()
	admission, record, err := l.change(ctx, func(done func(knowledge.Record)) (execute.Admission, error) {
		c, err := l.containers.find(ref)
		if err != nil {
			return execute.Admission{}, err
		}
		now := l.o.Now()
		l.readNow(now, c)
		if c.measurable() && c.Window.Have&knowledge.HasLimits == 0 && now.Sub(asked) < measuredWithin {
			return execute.Admission{Reason: knowledge.Because(knowledge.RuleInFlight)}, nil // it was just started
		}
		d := c.requestedLimit(now, req)
		from = d.From
		if req.DryRun {
			return execute.Admit(l.exec.Request(now, &c.Container, &d)), nil
		}
		a := l.exec.Apply(now, &c.Container, d, done)
		if a.Acted {
			c.changed, l.exec.Urgent = true, true
			before = c.Marks
			c.Hold(now, cmp.Or(req.By, "request"), req.Resource, d.From)
			c.Marks.Pinned = false
			during = c.Marks
			d.To = a.Allowed
			c.reflex.Applied(now, d)
		}
		return a, nil
	})
	if record.Outcome.Result == knowledge.ResultRefused {
		_ = l.Do(ctx, func() { // while nobody else's change is kept since
			c, err := l.containers.find(ref)
			if err == nil && c.Marks.ExternalUntil.Equal(during.ExternalUntil) && c.Marks.HeldBy == during.HeldBy {
				c.EndHold(&before)
			}
		})
	}
	return ScaleResult{Admission: admission, Record: record, From: from}, err
}

// measuredWithin is how long a request waits for the first reading of a container.
const measuredWithin = 5 * time.Second

// change runs try on the loop's goroutine until no other action on the container, and
// no inspect of it, is in the way, and waits until the action that try began is closed.
// When ctx ends first, the admission names what was in the way.
func (l *Loop) change(
	ctx context.Context, try func(done func(knowledge.Record)) (execute.Admission, error),
) (execute.Admission, knowledge.Record, error) {
	type answer struct {
		admission execute.Admission
		err       error
	}
	answers := make(chan answer, 1)
	closed := make(chan knowledge.Record, 1)
	var last answer // the loop's until it is sent
	attempt := func() (done bool) {
		if last.admission.Reason.IsZero() || ctx.Err() == nil {
			last.admission, last.err = try(func(r knowledge.Record) { closed <- r })
			if busy(&last.admission) {
				return false
			}
		}
		answers <- last
		return true
	}
	err := l.Do(ctx, func() {
		if !attempt() {
			l.waiting = append(l.waiting, attempt)
		}
	})
	if err != nil {
		return execute.Admission{}, knowledge.Record{}, err
	}
	var a answer
	select {
	case a = <-answers:
	case <-l.Stopped():
		return execute.Admission{}, knowledge.Record{}, ErrStopped
	}
	if a.err != nil || !a.admission.Acted {
		return a.admission, knowledge.Record{}, a.err
	}
	select {
	case r := <-closed:
		return a.admission, r, nil
	case <-ctx.Done():
		return a.admission, knowledge.Record{}, ctx.Err()
	case <-l.Stopped():
		return a.admission, knowledge.Record{}, ErrStopped
	}
}

// retryWaiting tries the changes again that waited for another action or inspect.
func (l *Loop) retryWaiting() {
	if len(l.waiting) > 0 {
		l.waiting = slices.DeleteFunc(l.waiting, func(attempt func() bool) bool { return attempt() })
	}
}

// busy: the guards would let it pass, only not in this instant.
func busy(a *execute.Admission) bool {
	return !a.Acted && (a.Reason.Rule == knowledge.RuleInFlight || a.Reason.Rule == knowledge.RuleOriginal)
}

// readNow reads a container before a person's request is judged: an idle one was last
// read seconds ago, and a limit under its present use is refused on cgroup v1 and kills
// on v2.
func (l *Loop) readNow(now time.Time, c *container) {
	if c.Probe == nil {
		return
	}
	s := &l.scratch // of the bounds a routine reading may have what was read some seconds ago
	if _ = c.Probe.Read(s, knowledge.HasBounds); s.Have&knowledge.HasBounds != 0 {
		c.Window.Bounds = s.Bounds
	}
	if now.Sub(c.reading.memory.at) < tickEvery {
		return
	}
	c.reading.slow.Soon() // limits and memory too
	c.reading.memory = part{}
	l.observe(now, c)
}

// requestedLimit is a person's request as a decision.
func (c *container) requestedLimit(now time.Time, req ScaleRequest) knowledge.Decision {
	from := c.Limit(req.Resource)
	to := req.To
	if req.Factor > 0 {
		base := from
		if base == 0 { // no limit yet: what is in use is what grows or shrinks
			base = int64(c.Window.UsageMax)
			if req.Resource == knowledge.ResourceMemory {
				base = int64(c.Window.WorkingSet)
			}
		}
		to = int64(float64(base) * req.Factor)
	}
	why := knowledge.Because(knowledge.RuleUser, req.Factor)
	why.Note = req.By
	return knowledge.Decision{
		ID: c.ID, Resource: req.Resource, Verb: execute.Verb(from, to), Actor: knowledge.ActorUser, At: now,
		From: from, To: to, Reason: why, Key: req.Key,
	}
}

// Pauses are the pauses of services, by name.
type Pauses = map[knowledge.ServiceKey]knowledge.Pause

// Resumed is what the end of a pause ended.
type Resumed struct {
	NotPaused bool     // none of the services was paused
	Holds     []string // containers whose limits were kept after a change of them
}

// Pause stops automation of a service, or with "" of all services. It returns all
// pauses that are active then, and what a resume ended.
func (l *Loop) Pause(
	ctx context.Context, key knowledge.ServiceKey, p knowledge.Pause,
) (pauses Pauses, ended Resumed, err error) {
	doErr := l.Do(ctx, func() {
		found, paused, now := false, false, l.o.Now()
		for s := range l.services.All() {
			if (key == "" || s.Key == key) && (s.Replicas.Total > 0 || s.Pause.On) {
				paused = paused || s.Pause.Active(now)
				s.Pause = p
				found = true
				if !p.On {
					ended.Holds = append(ended.Holds, l.containers.endHold(now, s)...)
				}
			}
		}
		if key != "" && !found {
			err = fmt.Errorf("%w or service %q on this host: `effiscale status` lists them", ErrUnknown, string(key))
			return
		}
		pauses, ended.NotPaused = l.services.Pauses(now), !paused
	})
	return pauses, ended, errors.Join(doErr, err)
}

// RestoreResult is how the restore of one container went.
type RestoreResult struct {
	Name    string
	Records []knowledge.Record
	Err     string
}

// Restore puts the named container, or with "" all, back to the limits that they
// had, and pauses their services so that they stay there. save gets all pauses that
// are active then, before the first change.
func (l *Loop) Restore(ctx context.Context, ref string, save func(Pauses)) (out []RestoreResult, err error) {
	var todo []*container
	var pauses Pauses
	doErr := l.Do(ctx, func() {
		if ref == "" {
			todo = slices.Clone(l.containers.order)
		} else if c, findErr := l.containers.find(ref); findErr != nil {
			err = findErr
		} else {
			todo = append(todo, c)
		}
		for _, c := range todo {
			if c.OriginalKept && c.Policy.Claimed == "" { // else nothing is restored
				c.service.Pause = knowledge.Pause{On: true}
			}
		}
		pauses = l.services.Pauses(l.o.Now())
	})
	if err = errors.Join(doErr, err); err != nil {
		return nil, err
	}
	save(pauses)
	for _, c := range todo {
		if one, did := l.restoreOne(ctx, c); did {
			out = append(out, one)
		}
	}
	return out, nil
}

// restoreOne restores both resources, one after the other; did is false where both
// have their original limits.
func (l *Loop) restoreOne(ctx context.Context, c *container) (one RestoreResult, did bool) {
	var failed []string
	var part [2]bool // not all of it was restored
	for r := range c.planned {
		var need bool
		a, record, err := l.change(ctx, func(done func(knowledge.Record)) (a execute.Admission, _ error) {
			one.Name = c.Name
			a, need = l.restoreLimit(c, knowledge.Resource(r), done)
			return a, nil
		})
		switch {
		case err != nil:
			one.Err = err.Error()
			return one, true
		case !need:
			continue
		case !a.Acted:
			failed, part[r] = append(failed, a.Reason.String()), true
		default:
			one.Records = append(one.Records, record)
			if !a.Reason.IsZero() { // not all of it
				failed, part[r] = append(failed, a.Reason.String()), true
			}
			if text := record.Outcome.Message; text != "" {
				failed, part[r] = append(failed, knowledge.Resource(r).String()+": "+text), true
			}
		}
		did = true
	}
	_ = l.Do(ctx, func() {
		for r, not := range part {
			if not && !c.AsOriginal(knowledge.Resource(r)) {
				failed = append(failed, c.leftOnRecord(knowledge.Resource(r)))
			}
		}
		one.Err = strings.Join(failed, "; ")
		if why := c.unknownOriginal(); why != "" && one.Err == "" {
			one.Name, one.Err, did = c.Name, why, true
		}
		l.exec.RestoreShares(l.o.Now(), &c.Container)
		c.changed = c.changed || len(one.Records) > 0
	})
	return one, did
}

// leftOnRecord is what a container starts with, where that is not its original limit.
func (c *container) leftOnRecord(r knowledge.Resource) string {
	text := func(limit int64) string {
		switch {
		case limit == 0:
			return "no limit"
		case r == knowledge.ResourceMemory:
			return knowledge.Bytes(limit).String()
		}
		return knowledge.NanoCPU(limit).String() + " cores"
	}
	original := int64(c.Original.CPU)
	if r == knowledge.ResourceMemory {
		original = int64(c.Original.Memory)
	}
	return fmt.Sprintf("%s: the Engine's record is not restored: it starts with %s, originally %s", r,
		text(c.Starts(r)), text(original))
}

// unknownOriginal is what a restore cannot know of a container; empty: it knows all.
func (c *container) unknownOriginal() string {
	if !c.OriginalKept || c.Original.Lost == [2]time.Time{} {
		return ""
	}
	what, at := "limits", c.Original.Lost[knowledge.ResourceCPU]
	switch {
	case at.IsZero():
		what, at = "memory limit", c.Original.Lost[knowledge.ResourceMemory]
	case c.Original.Lost[knowledge.ResourceMemory].IsZero():
		what = "CPU limit"
	}
	return fmt.Sprintf("its original %s: unknown, the knowledge file was lost, or another "+
		"daemon managed it, at %s. It has what was found then: "+
		"recreate the container, or set its limits with docker update", what, at.UTC().Format(time.RFC3339))
}

// restoreLimit sets a resource's original limit; need is false where it is in force.
func (l *Loop) restoreLimit(
	c *container, r knowledge.Resource, done func(knowledge.Record),
) (a execute.Admission, need bool) {
	if !c.OriginalKept || c.Gone && c.Probe == nil {
		return a, false
	}
	from, to, start := c.Limit(r), int64(c.Original.CPU), int64(c.Marks.Engine.CPU)
	if r == knowledge.ResourceMemory {
		to, start = int64(c.Original.Memory), int64(c.Marks.Engine.Memory)
	}
	there := inForce(r, from, to)
	if c.AsOriginal(r) && (there && inForce(r, start, to) || to == 0 && !c.Touched(r, &l.exec.Host)) {
		return a, false
	}
	now := l.o.Now()
	l.readNow(now, c)
	d := knowledge.Decision{
		ID: c.ID, Resource: r, Actor: knowledge.ActorRestore, At: now,
		From: from, To: to, Reason: knowledge.Because(knowledge.RuleRestore),
	}
	if there { // and it starts with another one
		d.From = start
	}
	d.Verb = execute.Verb(d.From, to)
	a = l.exec.Apply(now, &c.Container, d, done)
	if a.Acted {
		c.changed = true
	}
	return a, true
}

// inForce reports whether the limit is what the kernel makes of another one: whole pages, and
// whole microseconds in each period of at most a second.
func inForce(r knowledge.Resource, is, want int64) bool {
	most := 64 * int64(knowledge.KiB)
	if r == knowledge.ResourceCPU {
		most = int64(knowledge.OneCPU/knowledge.NanoCPU(time.Second/time.Microsecond)) / 2
	}
	return max(is-want, want-is) < most
}

// Reload takes new settings: all that could fail was done before.
func (l *Loop) Reload(ctx context.Context, s Settings) error {
	return l.Do(ctx, func() {
		l.set = s
		l.exec.Rules = s.Rules
		l.exec.Host.CPUPool = l.set.cpuPool(l.o.Host)
		now := l.o.Now()
		for _, c := range l.containers.order {
			claimed := c.Policy.Claimed
			c.Policy = s.Policy(c.Container.Container)
			if c.Policy.Claimed = claimed; c.Probe != nil {
				c.claimCgroup(now)
			}
			switch {
			case !c.measurable():
				c.detach()
			case c.Probe == nil:
				c.reading.attachAt = time.Time{}
				l.attach(now, c)
			case c.Policy.Acts() && !c.OriginalKept:
				l.exec.Inspect(now, &c.Container)
			}
			l.containers.readSoon(c)
		}
		l.cadence = s.Cadence.Spread(l.containers.managed())
		l.deliberateAt = time.Time{}
	})
}

// Watch starts or stops measuring one container by name; already is true where
// nothing changed.
func (l *Loop) Watch(ctx context.Context, ref string, on bool) (already bool, err error) {
	err = l.with(ctx, ref, func(c *container) {
		already = c.measurable() == on
		c.watched, c.unwatched = on, !on
		if on && c.Probe == nil {
			c.reading.attachAt = time.Time{}
			l.attach(l.o.Now(), c)
		}
		if !on {
			c.detach()
		}
	})
	return already, err
}
