package mape

import (
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape/execute"
	"github.com/effiscale/effiscale/mape/plan"
)

// grant shares the host's pool of cores among the wishes of this tick, when it is
// too short for all of them. What is granted replaces what was wanted.
func (l *Loop) grant(now time.Time) {
	grows := false
	for _, u := range l.thought {
		d := &u.wishes[knowledge.ResourceCPU].Decision
		if d.Verb == knowledge.Grow || (d.From == 0 && d.To != 0) {
			grows = true
			u.hungry(now, u.wantedNow())
		}
	}
	if !grows {
		return
	}
	capacity := l.pool()
	l.shares, l.sharers = l.shares[:0], l.sharers[:0]
	total := knowledge.NanoCPU(0)
	for _, u := range l.order {
		if !u.Policy.Acts() || u.Probe == nil || u.Policy.CPUMode != knowledge.CPUQuota {
			continue
		}
		want := u.wanted(now)
		total += want
		l.shares = append(l.shares, plan.Share{Min: max(u.Policy.CPU.Min, min(u.Envelope.CPU.Min, want)), Want: want, Weight: u.Policy.Weight})
		l.sharers = append(l.sharers, u)
	}
	if total <= capacity {
		l.trim(capacity - total)
		return
	}
	plan.Pool(capacity, l.shares)
	for i, u := range l.sharers {
		l.grantOne(now, u, l.shares[i], capacity)
	}
}

// trim keeps boosts, which aim higher than their claim, to what nobody claims.
func (l *Loop) trim(spare knowledge.NanoCPU) {
	for i, u := range l.sharers {
		d := &u.wishes[knowledge.ResourceCPU].Decision
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
	hungerFor = 10 * time.Second
	// poolStep is the least change that the pool makes, as a part of the quota.
	poolStep = 50
)

// hungry notes a wish for more. What is asked for is a step from the quota that
// there is, so whoever was granted little would ask for less each time: demand
// counts, and the highest of the last seconds.
func (u *unit) hungry(now time.Time, to knowledge.NanoCPU) {
	want := min(max(to, u.claim()), u.Policy.CPU.Max)
	if want >= u.hunger || now.Sub(u.hungerAt) >= hungerFor {
		u.hunger, u.hungerAt = want, now
	}
}

// claim is what a unit would use if it could, and an eighth to spare.
func (u *unit) claim() knowledge.NanoCPU { return u.Finding.Demand + u.Finding.Demand/8 }

// wanted is the quota that a unit asks for, or asked for a short time ago.
func (u *unit) wanted(now time.Time) knowledge.NanoCPU {
	want := u.wantedNow()
	if now.Sub(u.hungerAt) < hungerFor && u.wishes[knowledge.ResourceCPU].Decision.Verb != knowledge.Shrink {
		want = max(want, u.hunger)
	}
	return want
}

// wantedNow is the quota that a unit asks for; one without a limit counts as its use.
func (u *unit) wantedNow() knowledge.NanoCPU {
	w := &u.wishes[knowledge.ResourceCPU]
	d := &w.Decision
	switch {
	case w.Ruling.Guard != "" && w.Ruling.Allowed > 0: // a guard's no is no claim on the pool
		return knowledge.NanoCPU(w.Ruling.Allowed)
	case d.Boost && d.To > 0: // a boost aims high on purpose; others are not to pay for that
		return min(knowledge.NanoCPU(d.To), max(u.Window.Quota*3/2, u.claim()))
	case d.Verb != knowledge.Hold && d.To > 0:
		return knowledge.NanoCPU(d.To)
	case u.Window.Quota > 0:
		return u.Window.Quota
	}
	return u.Window.UsageMax
}

// grantOne cuts a wish to what the pool grants, and takes back what others hold
// beyond their share: growth alone would serve whoever asked first.
func (l *Loop) grantOne(now time.Time, u *unit, s plan.Share, capacity knowledge.NanoCPU) {
	w := &u.wishes[knowledge.ResourceCPU]
	d := &w.Decision
	quota := u.Window.Quota
	if quota == 0 && d.Verb == knowledge.Hold || s.Grant >= s.Want && d.To <= int64(s.Grant) {
		return
	}
	reason := knowledge.Because(knowledge.RulePoolShort, s.Want.Cores(), s.Grant.Cores(), capacity.Cores())
	if d.Verb == knowledge.Grow && s.Grant > quota+quota/poolStep {
		d.To, d.Reason = int64(s.Grant), reason
		return
	}
	if quota > s.Grant+s.Grant/poolStep && u.Window.At.Add(l.set.Rules.EvidenceAge).After(now) {
		*d = knowledge.Decision{
			ID: u.Container.ID, Resource: knowledge.ResourceCPU, Verb: knowledge.Shrink, Actor: knowledge.ActorReflex,
			At: now, From: int64(quota), To: int64(s.Grant), Reason: reason,
		}
		if !u.thoughtAt.Equal(now) { // it rested in this tick
			u.thoughtAt = now
			l.thought = append(l.thought, u)
		}
		return
	}
	if d.Verb == knowledge.Grow {
		*d = knowledge.Decision{
			ID: u.Container.ID, Resource: knowledge.ResourceCPU, Actor: knowledge.ActorReflex,
			At: now, From: int64(quota), To: int64(quota), Reason: reason,
		}
	}
}

// act hands the wishes of this tick to execution.
func (l *Loop) act(now time.Time) {
	for _, u := range l.thought {
		if u.Probe == nil {
			continue
		}
		for r := range u.wishes {
			l.try(now, u, &u.wishes[r])
		}
		l.shareOut(now, u)
	}
}

func (l *Loop) try(now time.Time, u *unit, w *Wish) {
	d := &w.Decision
	if d.Verb == knowledge.Hold || d.To == d.From {
		w.Ruling = execute.Ruling{Allowed: d.From}
		return
	}
	w.Ruling = l.exec.Apply(now, &u.Subject, *d, nil)
	if rule := d.Reason.Rule; u.lastRule[d.Resource] != rule {
		u.lastRule[d.Resource] = rule
		l.o.Meter.Decision(d.Verb.String(), d.Resource.String(), string(rule))
	}
	if !w.Ruling.Acted {
		return
	}
	u.changed = true
	done := *d
	done.To = w.Ruling.Allowed
	u.reflex.Applied(now, done)
}

// shareOut is cpu = "weight": no hard limit, and a share that follows demand.
func (l *Loop) shareOut(now time.Time, u *unit) {
	if u.Policy.CPUMode != knowledge.CPUWeight || !u.Policy.Acts() {
		return
	}
	shares, _ := u.reflex.Weight(now, u.Marks.Engine.Shares, &u.Finding, u.Window, &u.Policy)
	if shares != u.Marks.Engine.Shares && l.exec.Weigh(now, &u.Subject, shares) {
		u.reflex.Weighed(now)
	}
}
