package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape/plan"
	"github.com/effiscale/effiscale/node/cluster/claim"
	"github.com/effiscale/effiscale/node/cluster/member"
)

const (
	// servicesMost bounds the services that a node knows of, hostsMost the hosts of
	// one: further ones are not planned for here, and said so.
	servicesMost, hostsMost = 20_000, 512
	// toldMost bounds the services, and the replicas, that one host may tell of: what
	// one node says must not crowd out the others.
	toldMost = 4096
	// freshFor is how many intervals a report is evidence, keptFor how many it is
	// remembered.
	freshFor, keptFor = 3, 12
	// askWithin bounds the question for the highest term, one and a half doubtWithin
	// the one whether the owner of before is really gone.
	askWithin, doubtWithin = 500 * time.Millisecond, 800 * time.Millisecond
	// spareFor is how long an owner that answered a direct call is left alone,
	// whatever gossip says.
	spareFor = 3 * time.Second
	// doubtAgain is the wait before one is asked again that gossip has back.
	doubtAgain = 500 * time.Millisecond
)

// copies is R.
func (c *Cluster) copies() int {
	if c.o.Attest {
		return copiesAttested
	}
	return copies
}

// owners are the first R nodes of a service.
func (c *Cluster) owners(key knowledge.ServiceKey) []knowledge.NodeID {
	return c.ring.Owners(make([]knowledge.NodeID, 0, copiesAttested), key, c.copies())
}

// ownReports hands this host's reports to the owners of each service.
func (c *Cluster) ownReports(reports []plan.Report) {
	now := c.o.Now()
	for _, s := range c.services {
		s.mine = false
	}
	for _, r := range reports {
		s := c.service(r.Service)
		if s == nil {
			continue
		}
		s.mine = true
		if err := c.learn(now, s, r); err != nil {
			c.count.Dropped++
			continue
		}
		c.tell(s, r)
	}
	c.reports.flush(now)
	c.takeDue(now)
	c.planDue(now)
}

func (c *Cluster) tell(s *service, r plan.Report) {
	for _, id := range c.owners(s.key) {
		if id != c.self {
			c.reports.put(id, s.key, r)
		}
	}
}

// resend tells the new owners at once what they do not know yet.
func (c *Cluster) resend(old interface {
	Rank(key knowledge.ServiceKey, id knowledge.NodeID, n int) int
}) {
	for _, s := range c.services {
		h := s.reports[c.self]
		if !s.mine || h == nil {
			continue
		}
		for _, id := range c.owners(s.key) {
			if id != c.self && old.Rank(s.key, id, c.copies()) < 0 {
				c.reports.put(id, s.key, h.Report)
			}
		}
	}
	c.reports.flush(c.o.Now())
}

func (c *Cluster) service(key knowledge.ServiceKey) *service {
	s := c.services[key]
	if s == nil {
		if len(c.services) >= servicesMost {
			c.count.Dropped++
			return nil
		}
		s = &service{key: key, reports: map[knowledge.NodeID]*held{}}
		c.services[key] = s
	}
	return s
}

// learn takes one report over, where its host has not told of too much.
func (c *Cluster) learn(now time.Time, s *service, r plan.Report) error {
	last, all := s.reports[r.Host], c.heardOf[r.Host]
	if last == nil {
		all.services++
	} else {
		all.replicas -= len(last.Replicas)
	}
	all.replicas += len(r.Replicas)
	switch {
	case last == nil && len(s.reports) >= hostsMost:
		return fmt.Errorf("more than %d hosts run it", hostsMost)
	case r.Host != c.self && (all.services > toldMost || all.replicas > toldMost):
		return fmt.Errorf("its host tells of more than %d services or replicas", toldMost)
	}
	c.heardOf[r.Host] = all
	if len(s.reports) == 0 {
		c.unowned = true
	}
	s.reports[r.Host] = &held{Report: r, at: now}
	s.dirty = true
	return nil
}

// sendReports is one message of this host to one owner.
func (c *Cluster) sendReports(ctx context.Context, to knowledge.NodeID, batch map[knowledge.ServiceKey]plan.Report) error {
	b, err := c.seal("reports", to, slices.Collect(maps.Values(batch)))
	if err != nil {
		return err
	}
	_, err = c.relay.Call(ctx, to, "reports", b)
	return err
}

// takeReports answers a host that reports to this node.
func (c *Cluster) takeReports(ctx context.Context, from knowledge.NodeID, body []byte) ([]byte, error) {
	var reports reportList
	version, err := c.open(from, "reports", body, &reports)
	if err != nil {
		return nil, err
	}
	var refused error
	say := false
	err = c.do(ctx, func() {
		now := c.o.Now()
		for i := range reports {
			r := &reports[i]
			r.Version = version
			if err := c.takeReport(now, from, r); err != nil {
				c.count.ReportsRefused++
				refused = fmt.Errorf("service %.60q: %w", string(r.Service), err)
			}
		}
		say = refused != nil && c.mayWarn(now, from)
		if c.unowned {
			c.takeDue(now)
		}
		c.planDue(now)
	})
	if err == nil && say { // said, and not asked for again: it would be no better
		c.log.Warn().Err(refused).Str("peer", from.Short()).Msg("a report makes no sense and is ignored")
	}
	return nil, err
}

// warnEvery is how often one peer is warned of; warnedMost bounds those of a while.
const warnEvery, warnedMost = time.Minute, 1024

// mayWarn reports whether a peer was not warned of lately, and notes that it is now.
func (c *Cluster) mayWarn(now time.Time, of knowledge.NodeID) bool {
	if at, again := c.warned[of]; again && now.Sub(at) < warnEvery {
		return false
	}
	maps.DeleteFunc(c.warned, func(_ knowledge.NodeID, at time.Time) bool { return now.Sub(at) >= warnEvery })
	if len(c.warned) >= warnedMost {
		return false
	}
	c.warned[of] = now
	return true
}

func (c *Cluster) takeReport(now time.Time, from knowledge.NodeID, r *plan.Report) error {
	if r.Host != from {
		return errors.New("a node reports for another host")
	}
	var prev *plan.Report
	if s := c.services[r.Service]; s != nil && s.reports[from] != nil {
		if prev = &s.reports[from].Report; !r.Version.After(prev.Version) {
			return nil // an older word that came late
		}
	}
	if err := r.Check(prev); err != nil {
		return err
	}
	if cores := c.coresOf(from); cores > 0 && knowledge.NanoCPU(r.CPUs)*knowledge.OneCPU > cores {
		return fmt.Errorf("%d cores, and its membership says %s", r.CPUs, cores)
	}
	s := c.service(r.Service)
	if s == nil {
		return errors.New("too many services")
	}
	if err := c.learn(now, s, *r); err != nil {
		if len(s.reports) == 0 && !s.taking {
			delete(c.services, s.key)
		}
		return err
	}
	c.count.ReportsTaken++
	return nil
}

// takeDue begins the takeover of what the ring gives this node and it does not
// claim yet.
func (c *Cluster) takeDue(now time.Time) {
	if !c.mayTake() {
		return
	}
	c.unowned = false
	todo := map[knowledge.ServiceKey][]knowledge.NodeID{}
	for key, s := range c.services {
		if s.taking || len(s.reports) == 0 || now.Before(s.takeAt) || c.ring.Owner(key) != c.self {
			continue
		}
		if _, holds := c.book.Held(key); holds {
			continue
		}
		s.taking = true
		todo[key] = slices.Collect(maps.Keys(s.reports))
	}
	if len(todo) > 0 {
		c.take(todo)
	}
}

// lives reports whether a member is there. Of one that gossip has lost it is asked
// directly, and it counts until that question is answered, and for a minute where it
// answers: gossip loses packets, and a node that is slow, while a call comes through. One that did not answer is asked
// again when gossip has it back, and counts when it answers: a node that hears
// nobody is still heard.
func (c *Cluster) lives(now time.Time, p *member.Peer) bool {
	seen := c.alive[p.ID]
	doubt := !seen.at.IsZero() && !seen.alive
	switch {
	case p.Alive && !doubt:
		if !seen.asking {
			delete(c.alive, p.ID)
		}
		return true
	case p.Status == "left" || p.Relay == "" || givenUp(now, p):
		return false // what it says is refused: its services are to be others'
	case p.Alive && (seen.asking || now.Sub(seen.at) < doubtAgain):
		return false
	case p.Alive:
	case seen.asking || !seen.at.IsZero() && (!seen.alive || now.Sub(seen.at) < spareFor):
		return seen.asking && !doubt || seen.alive
	}
	id := p.ID
	c.alive[id] = probe{asking: true, alive: seen.alive, at: seen.at}
	c.job(func(ctx context.Context) {
		err := c.askAlive(ctx, id)
		c.back(func() {
			c.alive[id] = probe{alive: err == nil, at: c.o.Now()}
			if err == nil && !doubt {
				c.count.FalseAlarms++
			}
			c.log.Debug().Err(err).Str("peer", id.Short()).Bool("is_back", doubt).Msg("gossip lost a member, or has it back; it was asked directly")
			c.adopt(c.o.Now())
		})
	})
	return !doubt
}

// askAlive asks twice, the second time beside the first one: a refusal is an answer,
// silence may be a lost packet.
func (c *Cluster) askAlive(ctx context.Context, id knowledge.NodeID) error {
	ctx, cancel := context.WithTimeout(ctx, doubtWithin+doubtWithin/2)
	defer cancel()
	answers := make(chan error, 2)
	ask := func(context.Context) { answers <- c.relay.Alive(ctx, id) }
	c.job(ask)
	select {
	case err := <-answers:
		return err
	case <-time.After(doubtWithin / 2):
	}
	c.job(ask)
	err := <-answers
	if err != nil && ctx.Err() == nil {
		err = <-answers
	}
	return err
}

func (c *Cluster) failed(id knowledge.NodeID) bool {
	p, ok := c.members.Peer(id)
	return ok && !p.Alive && p.Status != "left"
}

// planDue plans for each claimed service of which there is news.
func (c *Cluster) planDue(now time.Time) {
	var mine []Declared
	for _, key := range c.book.Keys() {
		s := c.services[key]
		if s == nil || !s.dirty {
			continue
		}
		held, ok := c.book.Held(key)
		if !ok {
			continue
		}
		s.dirty = false
		mine = append(mine, c.plan(now, s, held)...)
	}
	c.intents.flush(now)
	if len(mine) > 0 {
		c.obeyOwn(mine)
	}
}

// plan is one deliberation: what is declared for this host comes back, the rest is
// on its way.
func (c *Cluster) plan(now time.Time, s *service, held *claim.Claim) (mine []Declared) {
	var fresh []plan.Report
	var due []bool
	for _, h := range s.reports {
		if c.within(now, h, freshFor) {
			sees := c.sees(h.Host)
			fresh, due = append(fresh, h.Report), append(due, sees && h.due(held.Term))
			if sees { // one that is not is told when it is
				h.planned = held.Term
			}
		}
	}
	s.seq++
	for i := range fresh {
		if !due[i] {
			continue
		}
		in := knowledge.Intent{Service: s.key, Host: fresh[i].Host, Term: held.Term, Seq: s.seq, Envelopes: plan.Declare(now, fresh, fresh[i].Host)}
		d := Declared{Intent: in}
		switch {
		case in.Host == c.self:
			mine = append(mine, d)
		case c.o.Attest && c.ring.Len() >= copiesAttested && cuts(&fresh[i], &in):
			c.certify(s, d)
		default:
			c.intents.put(in.Host, s.key, d)
			c.count.IntentsSent++
		}
	}
	return mine
}

// expire forgets hosts that report no more, and services without any.
func (c *Cluster) expire(now time.Time) {
	if now.Sub(c.expired) < c.o.DeliberateEvery {
		return
	}
	c.expired = now
	for key, s := range c.services {
		for id, h := range s.reports {
			if !c.within(now, h, keptFor) {
				c.forget(s, id)
			}
		}
		if len(s.reports) == 0 && !s.taking {
			delete(c.services, key)
			c.book.End(key, claim.ErrMoved)
		}
	}
	for id, p := range c.alive {
		if !p.asking && (p.alive && !c.failed(id) || !c.known(id)) {
			delete(c.alive, id)
		}
	}
	for key := range c.obeyed {
		if c.services[key] == nil {
			delete(c.obeyed, key)
			c.shown = nil
		}
	}
	c.forgetTerms()
}
