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
	"github.com/effiscale/effiscale/node/cluster/ring"
)

const (
	// servicesMost bounds the services that a node knows of, hostsMost the hosts of
	// one: further ones are not planned for here, and their reports are refused.
	servicesMost, hostsMost = 20_000, 512
	// perHostMost bounds the services, and the replicas, that one host may report: one
	// node must not crowd out the others.
	perHostMost = 4096
	// freshFor is how many intervals a report is evidence, keptFor how many it is
	// remembered.
	freshFor, keptFor = 3, 12
	// warnEvery is how often one peer is warned of; warnedMost bounds those of a while.
	warnEvery, warnedMost = time.Minute, 1024
)

// owner plans for the services that the ring assigns to this node.
type owner struct {
	c         *Cluster
	services  map[knowledge.ServiceKey]*service
	tallies   map[knowledge.NodeID]tally // of each host
	warned    map[knowledge.NodeID]time.Time
	expiredAt time.Time
	reports   outbox[plan.Report]
	intents   outbox[Declared]
	unowned   bool // a service came that may have no owner yet
}

func newOwner(c *Cluster) *owner {
	o := &owner{
		c: c, services: map[knowledge.ServiceKey]*service{},
		tallies: map[knowledge.NodeID]tally{}, warned: map[knowledge.NodeID]time.Time{},
	}
	o.reports = newOutbox(c, "reports", o.sendReports)
	o.intents = newOutbox(c, "intents", o.sendIntents)
	return o
}

func (o *owner) tick(now time.Time) {
	o.takeDue(now)
	o.planDue(now)
	o.expire(now)
	o.reports.retry(now)
	o.intents.retry(now)
}

// copies is R.
func (o *owner) copies() int {
	if o.c.o.Attest {
		return replicasAttested
	}
	return replicas
}

// owners are the first R nodes of a service.
func (o *owner) owners(key knowledge.ServiceKey) []knowledge.NodeID {
	return o.c.placement.ring.Owners(make([]knowledge.NodeID, 0, replicasAttested), key, o.copies())
}

// ownReports sends this host's reports to the owners of each service.
func (o *owner) ownReports(reports []plan.Report) {
	now := o.c.o.Now()
	for _, s := range o.services {
		s.local = false
	}
	for _, r := range reports {
		s := o.service(r.Service)
		if s == nil {
			continue
		}
		s.local = true
		if err := o.learn(now, s, r); err != nil {
			o.c.count.Dropped++
			continue
		}
		for _, id := range o.owners(s.key) {
			if id != o.c.self {
				o.reports.put(id, s.key, r)
			}
		}
	}
	o.reports.flush(now)
	o.takeDue(now)
	o.planDue(now)
}

// ringChanged drops intents of services that are others' now, and sends reports to the new
// owners at once.
func (o *owner) ringChanged(old *ring.Ring) {
	for key, s := range o.services {
		if owner := o.c.placement.ring.Owner(key); owner != o.c.self {
			o.intents.drop(key)
			s.agree(owner)
		}
		r := s.reports[o.c.self]
		if !s.local || r == nil {
			continue
		}
		for _, id := range o.owners(key) {
			if id != o.c.self && old.Rank(key, id, o.copies()) < 0 {
				o.reports.put(id, key, r.Report)
			}
		}
	}
	o.reports.flush(o.c.o.Now())
}

// returned makes plans due for hosts that come into sight: a report may be here before
// its host is, and what is planned for others meanwhile leaves it out.
func (o *owner) returned(alive []knowledge.NodeID) {
	var back []knowledge.NodeID
	for _, id := range alive {
		if !o.c.liveness.sees(id) {
			back = append(back, id)
		}
	}
	for _, s := range o.services {
		for _, id := range back {
			s.dirty = s.dirty || s.reports[id] != nil
		}
	}
}

func (o *owner) service(key knowledge.ServiceKey) *service {
	s := o.services[key]
	if s == nil {
		if len(o.services) >= servicesMost {
			o.c.count.Dropped++
			return nil
		}
		s = &service{key: key, reports: map[knowledge.NodeID]*hostReport{}}
		o.services[key] = s
	}
	return s
}

// learn takes one report over, where its host has not reported too much.
func (o *owner) learn(now time.Time, s *service, r plan.Report) error {
	last, all := s.reports[r.Host], o.tallies[r.Host]
	if last == nil {
		all.services++
	} else {
		all.replicas -= len(last.Replicas)
	}
	all.replicas += len(r.Replicas)
	switch {
	case last == nil && len(s.reports) >= hostsMost:
		return fmt.Errorf("more than %d hosts run it", hostsMost)
	case r.Host != o.c.self && (all.services > perHostMost || all.replicas > perHostMost):
		return fmt.Errorf("its host reports more than %d services or replicas", perHostMost)
	}
	o.tallies[r.Host] = all
	if len(s.reports) == 0 {
		o.unowned = true
	}
	s.reports[r.Host] = &hostReport{Report: r, at: now}
	s.dirty = true
	return nil
}

// sendReports is one message of this host to one owner.
func (o *owner) sendReports(ctx context.Context, to knowledge.NodeID,
	batch map[knowledge.ServiceKey]plan.Report) error {
	b, err := o.c.seal("reports", to, slices.Collect(maps.Values(batch)))
	if err != nil {
		return err
	}
	_, err = o.c.relay.Call(ctx, to, "reports", b)
	return err
}

// takeReports answers a host that reports to this node.
func (o *owner) takeReports(ctx context.Context, from knowledge.NodeID, body []byte) ([]byte, error) {
	var reports reportList
	version, err := o.c.open(from, "reports", body, &reports)
	if err != nil {
		return nil, err
	}
	var refused error
	warn := false
	err = o.c.do(ctx, func() {
		now := o.c.o.Now()
		for i := range reports {
			r := &reports[i]
			r.Version = version
			if err := o.takeReport(now, from, r); err != nil {
				o.c.count.ReportsRefused++
				refused = fmt.Errorf("service %.60q: %w", string(r.Service), err)
			}
		}
		warn = refused != nil && o.mayWarn(now, from)
		if o.unowned {
			o.takeDue(now)
		}
		o.planDue(now)
	})
	if err == nil && warn { // the sender gets no error: it would send the same again
		o.c.log.Warn().Err(refused).Str("peer", from.Short()).Msg("rejected invalid report")
	}
	return nil, err
}

// mayWarn reports whether a peer was not warned of lately, and notes that it is now.
func (o *owner) mayWarn(now time.Time, of knowledge.NodeID) bool {
	if at, again := o.warned[of]; again && now.Sub(at) < warnEvery {
		return false
	}
	old := func(_ knowledge.NodeID, at time.Time) bool { return now.Sub(at) >= warnEvery }
	maps.DeleteFunc(o.warned, old)
	if len(o.warned) >= warnedMost {
		return false
	}
	o.warned[of] = now
	return true
}

func (o *owner) takeReport(now time.Time, from knowledge.NodeID, r *plan.Report) error {
	if r.Host != from {
		return errors.New("the report is for another host than the sender")
	}
	var prev *plan.Report
	if s := o.services[r.Service]; s != nil && s.reports[from] != nil {
		if prev = &s.reports[from].Report; !r.Version.After(prev.Version) {
			return nil // an older message that came late
		}
	}
	if err := r.Check(prev); err != nil {
		return err
	}
	p, _ := o.c.members.Peer(from)
	if p.Cores > 0 && knowledge.NanoCPU(r.CPUs)*knowledge.OneCPU > p.Cores {
		return fmt.Errorf("the report has %d cores, gossip has %s", r.CPUs, p.Cores)
	}
	s := o.service(r.Service)
	if s == nil {
		return errors.New("too many services")
	}
	if err := o.learn(now, s, *r); err != nil {
		if len(s.reports) == 0 && !s.taking {
			delete(o.services, s.key)
		}
		return err
	}
	o.c.count.ReportsTaken++
	return nil
}

// within reports whether a report came in the last n intervals: its host's or this
// node's, whichever are longer.
func (o *owner) within(now time.Time, r *hostReport, n time.Duration) bool {
	return now.Sub(r.at) <= n*max(o.c.o.DeliberateEvery, r.Every)
}

// fresh are the reports of a service that are evidence now.
func (o *owner) fresh(now time.Time, s *service) (fresh []*hostReport) {
	for _, r := range s.reports {
		if o.within(now, r, freshFor) {
			fresh = append(fresh, r)
		}
	}
	return fresh
}

// planDue plans for each claimed service of which there is news.
func (o *owner) planDue(now time.Time) {
	var local []Declared
	for _, key := range o.c.claims.Keys() {
		s := o.services[key]
		if s == nil || !s.dirty {
			continue
		}
		held, ok := o.c.claims.Get(key)
		if !ok {
			continue
		}
		s.dirty = false
		local = append(local, o.plan(now, s, held)...)
	}
	o.intents.flush(now)
	if len(local) > 0 {
		o.c.applier.applyOwn(local)
	}
}

// plan is one deliberation: intents for this host are returned, the others are queued.
func (o *owner) plan(now time.Time, s *service, held *claim.Claim) (local []Declared) {
	fresh := o.fresh(now, s)
	reports := make([]plan.Report, len(fresh))
	for i, r := range fresh {
		reports[i] = r.Report
	}
	s.seq++
	for i, r := range fresh {
		if !o.c.liveness.sees(r.Host) || !r.due(held.Term) { // one that is not seen gets its intent when it is
			continue
		}
		r.planned = held.Term
		in := knowledge.Intent{Service: s.key, Host: r.Host, Term: held.Term, Seq: s.seq}
		in.Envelopes = plan.Declare(now, reports, r.Host)
		d := Declared{Intent: in}
		switch {
		case in.Host == o.c.self:
			local = append(local, d)
		case o.c.o.Attest && o.c.placement.ring.Len() >= replicasAttested && cuts(&reports[i], &in):
			o.c.attestation.certify(s, d)
		default:
			o.send(d)
		}
	}
	return local
}

func (o *owner) send(d Declared) {
	o.intents.put(d.Intent.Host, d.Intent.Service, d)
	o.c.count.IntentsSent++
}

// expire forgets hosts that report no more, and services without any.
func (o *owner) expire(now time.Time) {
	if now.Sub(o.expiredAt) < o.c.o.DeliberateEvery {
		return
	}
	o.expiredAt = now
	for key, s := range o.services {
		for id, r := range s.reports {
			if !o.within(now, r, keptFor) {
				o.forget(s, id)
			}
		}
		if len(s.reports) == 0 && !s.taking {
			delete(o.services, key)
			o.c.claims.End(key, claim.ErrMoved)
		}
	}
	o.c.liveness.expire()
	o.c.applier.expire(o.services)
	o.forgetTerms()
}

// forget drops a host's report of a service.
func (o *owner) forget(s *service, host knowledge.NodeID) {
	all := o.tallies[host]
	all.services--
	all.replicas -= len(s.reports[host].Replicas)
	if o.tallies[host] = all; all.services == 0 {
		delete(o.tallies, host)
	}
	delete(s.reports, host)
}

// forgetTerms keeps the terms of the services that are known now, off the goroutine,
// when there are too many.
func (o *owner) forgetTerms() {
	if !o.c.terms.Crowded() {
		return
	}
	known := make(map[knowledge.ServiceKey]bool, len(o.services))
	for key := range o.services {
		known[key] = true
	}
	o.c.spawn(func(context.Context) {
		if err := o.c.terms.Forget(func(key knowledge.ServiceKey) bool { return known[key] }); err != nil {
			o.c.log.Debug().Err(err).Msg("cannot drop terms of unknown services")
		}
	})
}
