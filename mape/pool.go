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
	// poolStep is the least change that the pool makes, as a part of the quota.
	poolStep = 50
)

// cpuRequest is the highest quota that a container requested of late, before the pool
// was shared.
type cpuRequest struct {
	quota knowledge.NanoCPU
	at    time.Time
}

// note takes in a request for more. A request is a step from the present quota, so
// a container that was granted little would request less each time: demand counts, and the
// highest of the last seconds.
func (r *cpuRequest) note(now time.Time, quota knowledge.NanoCPU) {
	if quota >= r.quota || now.Sub(r.at) >= requestFor {
		r.quota, r.at = quota, now
	}
}

// cpuNeed is what a container would use if it could, and an eighth to spare.
func (c *container) cpuNeed() knowledge.NanoCPU { return c.Finding.Demand + c.Finding.Demand/8 }

// requestedCPU is the quota that a container requests, or requested a short time ago.
func (c *container) requestedCPU(now time.Time) knowledge.NanoCPU {
	quota := c.requestedNow()
	if now.Sub(c.request.at) < requestFor && c.planned[knowledge.ResourceCPU].Decision.Verb != knowledge.Shrink {
		quota = max(quota, c.request.quota)
	}
	return quota
}

// requestedNow is the quota that a container requests; without a limit its use.
func (c *container) requestedNow() knowledge.NanoCPU {
	p := &c.planned[knowledge.ResourceCPU]
	d := &p.Decision
	switch {
	case p.Admission.Guard != "" && p.Admission.Allowed > 0: // what a guard refuses is no request
		return knowledge.NanoCPU(p.Admission.Allowed)
	case d.Boost && d.To > 0: // a boost aims high on purpose; others are not to pay for that
		return min(knowledge.NanoCPU(d.To), max(c.Window.Quota*3/2, c.cpuNeed()))
	case d.Verb != knowledge.Hold && d.To > 0:
		return knowledge.NanoCPU(d.To)
	case c.Window.Quota > 0:
		return c.Window.Quota
	}
	return c.Window.UsageMax
}

// pool shares the host's cores; it is kept between ticks for its memory alone.
type pool struct {
	shares []plan.Share
	of     []*container // the containers of shares
}

// sharePool shares the host's cores among the requests of this tick, when there are too
// few for all. What is granted replaces what was decided.
func (l *Loop) sharePool(now time.Time) {
	grows := false
	for _, c := range l.decided {
		d := &c.planned[knowledge.ResourceCPU].Decision
		if d.Verb == knowledge.Grow || (d.From == 0 && d.To != 0) {
			grows = true
			c.request.note(now, min(max(c.requestedNow(), c.cpuNeed()), c.Policy.CPU.Max))
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
	for i, c := range p.of {
		fresh := c.Window.At.Add(l.set.Rules.EvidenceAge).After(now)
		if c.grant(now, p.shares[i], capacity, fresh) && !c.decidedAt.Equal(now) {
			c.decidedAt = now
			l.decided = append(l.decided, c)
		}
	}
}

// gather collects all requests and returns their sum.
func (p *pool) gather(now time.Time, all []*container) (total knowledge.NanoCPU) {
	p.shares, p.of = p.shares[:0], p.of[:0]
	for _, c := range all {
		if !c.managed() || c.Policy.CPUMode != knowledge.CPUQuota {
			continue
		}
		want := c.requestedCPU(now)
		total += want
		least := max(c.Policy.CPU.Min, min(c.Envelope.CPU.Min, want))
		p.shares = append(p.shares, plan.Share{Min: least, Want: want, Weight: c.Policy.Weight})
		p.of = append(p.of, c)
	}
	return total
}

// trim keeps boosts, which aim higher than their need, to what is not requested.
func (p *pool) trim(spare knowledge.NanoCPU) {
	for i, c := range p.of {
		d := &c.planned[knowledge.ResourceCPU].Decision
		if most := int64(p.shares[i].Want + spare); d.Verb == knowledge.Grow && d.To > most {
			spare -= knowledge.NanoCPU(most) - p.shares[i].Want
			d.To = most
		} else if d.Verb == knowledge.Grow {
			spare -= max(knowledge.NanoCPU(d.To)-p.shares[i].Want, 0)
		}
	}
}

// grant cuts a decision to what the pool grants. With fresh evidence it cuts a
// container to its share, and returns true: growth alone would serve the first request.
func (c *container) grant(now time.Time, s plan.Share, capacity knowledge.NanoCPU, fresh bool) (cuts bool) {
	d := &c.planned[knowledge.ResourceCPU].Decision
	quota := c.Window.Quota
	if quota == 0 && d.Verb == knowledge.Hold || s.Grant >= s.Want && d.To <= int64(s.Grant) {
		return false
	}
	reason := knowledge.Because(knowledge.RulePoolShort, s.Want.Cores(), s.Grant.Cores(), capacity.Cores())
	if d.Verb == knowledge.Grow && s.Grant > quota+quota/poolStep {
		d.To, d.Reason = int64(s.Grant), reason
		return false
	}
	next := knowledge.Decision{
		ID: c.ID, Resource: knowledge.ResourceCPU, Actor: knowledge.ActorReflex,
		At: now, From: int64(quota), To: int64(quota), Reason: reason,
	}
	if cuts = fresh && quota > s.Grant+s.Grant/poolStep; cuts {
		next.Verb, next.To = knowledge.Shrink, int64(s.Grant)
	}
	if cuts || d.Verb == knowledge.Grow {
		*d = next
	}
	return cuts
}
