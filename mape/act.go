package mape

import (
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape/execute"
	"github.com/effiscale/effiscale/mape/plan"
)

// grant shares the host's pool of cores among the decisions of this tick, when it is
// too short for all of them. What is granted replaces what was wanted.
func (l *Loop) grant(now time.Time) {
	grows := false
	for _, c := range l.decided {
		d := &c.planned[knowledge.ResourceCPU].Decision
		if d.Verb == knowledge.Grow || (d.From == 0 && d.To != 0) {
			grows = true
			c.noteRequest(now, c.requestedNow())
		}
	}
	if !grows {
		return
	}
	capacity := l.pool()
	l.shares, l.sharers = l.shares[:0], l.sharers[:0]
	total := knowledge.NanoCPU(0)
	for _, c := range l.order {
		if !c.Policy.Acts() || c.Probe == nil || c.Policy.CPUMode != knowledge.CPUQuota {
			continue
		}
		want := c.requested(now)
		total += want
		l.shares = append(l.shares, plan.Share{Min: max(c.Policy.CPU.Min, min(c.Envelope.CPU.Min, want)), Want: want, Weight: c.Policy.Weight})
		l.sharers = append(l.sharers, c)
	}
	if total <= capacity {
		l.trim(capacity - total)
		return
	}
	plan.Pool(capacity, l.shares)
	for i, c := range l.sharers {
		l.grantOne(now, c, l.shares[i], capacity)
	}
}

// trim keeps boosts, which aim higher than their claim, to what nobody claims.
func (l *Loop) trim(spare knowledge.NanoCPU) {
	for i, c := range l.sharers {
		d := &c.planned[knowledge.ResourceCPU].Decision
		if most := int64(l.shares[i].Want + spare); d.Verb == knowledge.Grow && d.To > most {
			spare -= knowledge.NanoCPU(most) - l.shares[i].Want
			d.To = most
		} else if d.Verb == knowledge.Grow {
			spare -= max(knowledge.NanoCPU(d.To)-l.shares[i].Want, 0)
		}
	}
}

const (
	// hungerFor is how long a wish for more counts in the pool: two that starve
	// ask at different instants, and each would else take back what the other got.
	requestKept = 10 * time.Second
	// poolStep is the least change that the pool makes, as a part of the quota.
	poolStep = 50
)

// hungry notes a wish for more. What is asked for is a step from the quota that
// there is, so whoever was granted little would ask for less each time: demand
// counts, and the highest of the last seconds.
func (c *container) noteRequest(now time.Time, to knowledge.NanoCPU) {
	want := min(max(to, c.claim()), c.Policy.CPU.Max)
	if want >= c.requestedMax || now.Sub(c.requestedMaxAt) >= requestKept {
		c.requestedMax, c.requestedMaxAt = want, now
	}
}

// claim is what a container would use if it could, and an eighth to spare.
func (c *container) claim() knowledge.NanoCPU { return c.Finding.Demand + c.Finding.Demand/8 }

// wanted is the quota that a container asks for, or asked for a short time ago.
func (c *container) requested(now time.Time) knowledge.NanoCPU {
	want := c.requestedNow()
	if now.Sub(c.requestedMaxAt) < requestKept && c.planned[knowledge.ResourceCPU].Decision.Verb != knowledge.Shrink {
		want = max(want, c.requestedMax)
	}
	return want
}

// wantedNow is the quota that a container asks for; one without a limit counts as its use.
func (c *container) requestedNow() knowledge.NanoCPU {
	w := &c.planned[knowledge.ResourceCPU]
	d := &w.Decision
	switch {
	case w.Admission.Guard != "" && w.Admission.Allowed > 0: // a guard's no is no claim on the pool
		return knowledge.NanoCPU(w.Admission.Allowed)
	case d.Boost && d.To > 0: // a boost aims high on purpose; others are not to pay for that
		return min(knowledge.NanoCPU(d.To), max(c.Window.Quota*3/2, c.claim()))
	case d.Verb != knowledge.Hold && d.To > 0:
		return knowledge.NanoCPU(d.To)
	case c.Window.Quota > 0:
		return c.Window.Quota
	}
	return c.Window.UsageMax
}

// grantOne cuts a wish to what the pool grants, and takes back what others hold
// beyond their share: growth alone would serve whoever asked first.
func (l *Loop) grantOne(now time.Time, c *container, s plan.Share, capacity knowledge.NanoCPU) {
	w := &c.planned[knowledge.ResourceCPU]
	d := &w.Decision
	quota := c.Window.Quota
	if quota == 0 && d.Verb == knowledge.Hold || s.Grant >= s.Want && d.To <= int64(s.Grant) {
		return
	}
	reason := knowledge.Because(knowledge.RulePoolShort, s.Want.Cores(), s.Grant.Cores(), capacity.Cores())
	if d.Verb == knowledge.Grow && s.Grant > quota+quota/poolStep {
		d.To, d.Reason = int64(s.Grant), reason
		return
	}
	if quota > s.Grant+s.Grant/poolStep && c.Window.At.Add(l.set.Rules.EvidenceAge).After(now) {
		*d = knowledge.Decision{
			ID: c.ID, Resource: knowledge.ResourceCPU, Verb: knowledge.Shrink, Actor: knowledge.ActorReflex,
			At: now, From: int64(quota), To: int64(s.Grant), Reason: reason,
		}
		if !c.decidedAt.Equal(now) { // it rested in this tick
			c.decidedAt = now
			l.decided = append(l.decided, c)
		}
		return
	}
	if d.Verb == knowledge.Grow {
		*d = knowledge.Decision{
			ID: c.ID, Resource: knowledge.ResourceCPU, Actor: knowledge.ActorReflex,
			At: now, From: int64(quota), To: int64(quota), Reason: reason,
		}
	}
}

// act hands the decisions of this tick to execution.
func (l *Loop) act(now time.Time) {
	for _, c := range l.decided {
		if c.Probe == nil {
			continue
		}
		for r := range c.planned {
			l.try(now, c, &c.planned[r])
		}
		l.shareOut(now, c)
	}
}

func (l *Loop) try(now time.Time, c *container, w *Planned) {
	d := &w.Decision
	if d.Verb == knowledge.Hold || d.To == d.From {
		w.Admission = execute.Admission{Allowed: d.From}
		return
	}
	w.Admission = l.exec.Apply(now, &c.Container, *d, nil)
	if rule := d.Reason.Rule; c.lastRule[d.Resource] != rule {
		c.lastRule[d.Resource] = rule
		l.o.Meter.Decision(d.Verb.String(), d.Resource.String(), string(rule))
	}
	if !w.Admission.Acted {
		return
	}
	c.changed = true
	done := *d
	done.To = w.Admission.Allowed
	c.reflex.Applied(now, done)
}

// shareOut is cpu = "weight": no hard limit, and a share that follows demand.
func (l *Loop) shareOut(now time.Time, c *container) {
	if c.Policy.CPUMode != knowledge.CPUWeight || !c.Policy.Acts() {
		return
	}
	shares, _ := c.reflex.Weight(now, c.Marks.Engine.Shares, &c.Finding, c.Window, &c.Policy)
	if shares != c.Marks.Engine.Shares && l.exec.SetShares(now, &c.Container, shares) {
		c.reflex.Weighed(now)
	}
}
