package mape

import (
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape/plan"
)

const (
	// requestFor is how long a request for more counts in the pool: two containers
	// that lack CPU request it at different instants, and each would else be granted
	// what the other got before.
	requestFor = 10 * time.Second
	// poolStep is the least change that the pool makes, as a part of the quota: what the
	// others use moves all the time, and a share need not follow each move.
	poolStep = 10
)

// cpuRequest is the highest quota that a container requested of late, before the pool
// was shared.
type cpuRequest struct {
	quota knowledge.NanoCPU
	at    time.Time
	held  bool // the quota holds it back: it is throttled
}

// note takes in a request for more. A request is a step from the present quota, so
// a container that was granted little would request less each time: demand counts, and the
// highest of the last seconds.
func (r *cpuRequest) note(now time.Time, quota knowledge.NanoCPU, held bool) {
	old := now.Sub(r.at) >= requestFor
	r.held = held || r.held && !old
	if quota >= r.quota || old {
		r.quota, r.at = quota, now
	}
}

// cpuNeed is what a container would use if it could, and an eighth to spare.
func (c *container) cpuNeed() knowledge.NanoCPU { return c.Finding.Demand + c.Finding.Demand/8 }

// claim is what a container takes of the host: what it requests, or requested a short time
// ago, else what it used in the last seconds and an eighth to spare. A quota that is not
// used takes nothing from anybody.
func (c *container) claim(now time.Time) knowledge.NanoCPU {
	d := &c.planned[knowledge.ResourceCPU].Decision
	uses := c.Window.UsageMean + c.Window.UsageMean/8
	if c.Window.Quota > 0 {
		uses = min(uses, c.Window.Quota)
	}
	claim := uses
	if d.Verb == knowledge.Grow {
		claim = max(claim, c.requestedNow())
	}
	if now.Sub(c.request.at) < requestFor && d.Verb != knowledge.Shrink {
		claim = max(claim, c.request.quota)
	}
	return c.atMost(claim)
}

// requestedNow is the quota that a decision to grow requests of the pool.
func (c *container) requestedNow() knowledge.NanoCPU {
	p := &c.planned[knowledge.ResourceCPU]
	d := &p.Decision
	switch {
	case p.Admission.Guard != "" && p.Admission.Allowed > 0: // what a guard refuses is no request
		return knowledge.NanoCPU(p.Admission.Allowed)
	case d.Boost && d.To > 0: // a boost aims high on purpose; others are not to pay for that
		return min(knowledge.NanoCPU(d.To), max(c.Window.Quota*3/2, c.cpuNeed()))
	case d.Verb != knowledge.Hold && d.To > 0 && d.From > 0:
		return knowledge.NanoCPU(d.To)
	}
	return c.Window.UsageMax // a first limit
}

// atMost is a quota within the policy's bound and those of the cgroups around.
func (c *container) atMost(quota knowledge.NanoCPU) knowledge.NanoCPU {
	for _, top := range [...]knowledge.NanoCPU{c.Policy.CPU.Max, c.Window.Bounds.CPU} {
		if top > 0 {
			quota = min(quota, top)
		}
	}
	return quota
}

// pool shares the host's cores; it is kept between ticks for its memory alone.
type pool struct {
	shares []plan.Share
	of     []*container // the containers of shares
}

// sharePool shares the host's cores among what is used and requested, when that is more
// than there is. What is granted replaces what was decided.
func (l *Loop) sharePool(now time.Time) {
	grows := false
	for _, c := range l.decided {
		d := &c.planned[knowledge.ResourceCPU].Decision
		if d.Verb == knowledge.Grow {
			grows = true
			held := c.Finding.Boost || c.Window.ThrottleRatio > 0
			c.request.note(now, c.atMost(max(c.requestedNow(), c.cpuNeed())), held)
		}
	}
	if !grows {
		return
	}
	p, capacity := &l.pool, l.set.cpuPool(l.o.Host)
	if total := p.gather(now, l.containers.order); total <= capacity {
		p.trim(capacity - total)
		return
	}
	plan.Pool(capacity, p.shares)
	held := 0
	for _, c := range p.of {
		if c.heldBack(now) {
			held++
		}
	}
	for i, c := range p.of {
		others := held
		if c.heldBack(now) {
			others--
		}
		fresh := c.Window.At.Add(l.set.Rules.EvidenceAge).After(now)
		if c.grant(p.shares[i], now, capacity, fresh && others > 0) && !c.decidedAt.Equal(now) {
			c.decidedAt = now
			l.decided = append(l.decided, c)
		}
	}
}

// gather collects all claims and returns their sum.
func (p *pool) gather(now time.Time, all []*container) (total knowledge.NanoCPU) {
	p.shares, p.of = p.shares[:0], p.of[:0]
	for _, c := range all {
		if !c.managed() || c.Policy.CPUMode != knowledge.CPUQuota {
			continue
		}
		want := c.claim(now)
		total += want
		least := max(c.Policy.CPU.Min, min(c.Envelope.CPU.Min, want))
		p.shares = append(p.shares, plan.Share{Min: least, Want: want, Weight: c.Policy.Weight})
		p.of = append(p.of, c)
	}
	return total
}

// heldBack reports whether a container is throttled, now or a short time ago.
func (c *container) heldBack(now time.Time) bool {
	return c.request.held && now.Sub(c.request.at) < requestFor
}

// trim keeps boosts, which aim higher than their need, to what is not claimed.
func (p *pool) trim(spare knowledge.NanoCPU) {
	for i, c := range p.of {
		d := &c.planned[knowledge.ResourceCPU].Decision
		if d.Verb != knowledge.Grow || d.To == 0 {
			continue
		}
		if most := int64(p.shares[i].Want + spare); d.To > most {
			d.To = max(most, d.From)
		}
		spare -= max(knowledge.NanoCPU(d.To)-p.shares[i].Want, 0)
	}
}

// grant cuts a decision to what the pool grants. Where others are held back it also cuts
// the quota of a container that uses more than its share, and returns true: growth alone
// would serve the first request.
func (c *container) grant(s plan.Share, now time.Time, capacity knowledge.NanoCPU, mayCut bool) (cuts bool) {
	d := &c.planned[knowledge.ResourceCPU].Decision
	quota := c.Window.Quota
	if s.Grant >= s.Want && d.To <= int64(s.Grant) || quota == 0 || d.Verb != knowledge.Grow && s.Grant >= s.Want {
		return false
	}
	reason := knowledge.Because(knowledge.RulePoolShort, s.Want.Cores(), s.Grant.Cores(), capacity.Cores())
	least := max(quota/poolStep, plan.LeastChange(quota))
	if d.Verb == knowledge.Grow && s.Grant >= quota+least {
		d.To, d.Reason = min(d.To, int64(s.Grant)), reason
		return false
	}
	next := knowledge.Decision{
		ID: c.ID, Resource: knowledge.ResourceCPU, Actor: knowledge.ActorReflex,
		At: now, From: int64(quota), To: int64(quota), Reason: reason,
	}
	if cuts = mayCut && s.Grant < s.Want && quota >= s.Grant+least; cuts {
		next.Verb, next.To = knowledge.Shrink, int64(s.Grant)
	}
	if cuts || d.Verb == knowledge.Grow {
		*d = next
	}
	return cuts
}
