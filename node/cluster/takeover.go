package cluster

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/node/cluster/claim"
	"github.com/effiscale/effiscale/node/cluster/member"
	"github.com/effiscale/effiscale/node/cluster/trust"
)

// askWithin bounds the question for the highest term.
const askWithin = 500 * time.Millisecond

// takeDue begins the takeover of what the ring gives this node and it does not
// claim yet.
func (o *owner) takeDue(now time.Time) {
	if !o.mayTake() {
		return
	}
	o.unowned = false
	todo := map[knowledge.ServiceKey][]knowledge.NodeID{}
	for key, s := range o.services {
		if s.taking || len(s.reports) == 0 || now.Before(s.takeAt) || o.c.placement.ring.Owner(key) != o.c.self {
			continue
		}
		if _, claimed := o.c.claims.Get(key); claimed {
			continue
		}
		s.taking = true
		todo[key] = slices.Collect(maps.Keys(s.reports))
	}
	if len(todo) > 0 {
		o.take(todo)
	}
}

// mayTake reports whether this node may take anything over: one that stalled has to see
// the members first.
func (o *owner) mayTake() bool {
	p := o.c.participation
	return p.settled && p.state != member.Leaving
}

// mayOwn reports whether a service is this node's to plan for: much may have changed
// since it asked.
func (o *owner) mayOwn(key knowledge.ServiceKey) bool {
	return o.mayTake() && o.c.placement.ring.Owner(key) == o.c.self
}

// take asks the hosts of each service for the highest term that they have seen,
// and claims a higher one. Where none of several answers, this node is the one that
// cannot be trusted: it receives nothing, and may still be sending.
func (o *owner) take(todo map[knowledge.ServiceKey][]knowledge.NodeID) {
	c := o.c
	asks := map[knowledge.NodeID][]knowledge.ServiceKey{}
	above := map[knowledge.ServiceKey]knowledge.Term{}
	for key, hosts := range todo {
		above[key] = o.services[key].highest
		for _, h := range hosts {
			if h != c.self && c.liveness.sees(h) {
				asks[h] = append(asks[h], key)
			}
		}
	}
	c.spawn(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, askWithin)
		defer cancel()
		answers := make(chan map[knowledge.ServiceKey]knowledge.Term, len(asks))
		silent := map[knowledge.ServiceKey]bool{}
		for to, keys := range asks {
			for _, key := range keys {
				silent[key] = true
			}
			c.spawn(func(context.Context) { answers <- o.askTerms(ctx, to, keys) })
		}
		for range asks {
			for key, t := range <-answers {
				if _, asked := above[key]; !asked {
					continue
				}
				if delete(silent, key); t.After(above[key]) {
					above[key] = t
				}
			}
		}
		c.post(func() {
			for key := range silent {
				delete(above, key)
				if s := o.services[key]; s != nil {
					s.taking, s.takeAt = false, c.o.Now().Add(askWithin)
				}
			}
			o.claim(above)
		})
	})
}

// askTerms asks one host. One that does not answer is not waited for: it refuses
// what is too low by itself.
func (o *owner) askTerms(ctx context.Context, to knowledge.NodeID, keys []knowledge.ServiceKey) termsOf {
	out := termsOf{}
	for part := range slices.Chunk(keys, batchMost) {
		b, err := trust.Marshal(part)
		if err != nil {
			return out
		}
		answer, err := o.c.relay.Call(ctx, to, "terms", b)
		if err != nil {
			return out
		}
		var terms map[knowledge.ServiceKey]knowledge.Term
		if trust.Unmarshal(answer, &terms) != nil {
			return out
		}
		maps.Copy(out, terms)
	}
	return out
}

// claim takes what is still this node's, off the goroutine: a term is on the disk
// before it is used.
func (o *owner) claim(above termsOf) {
	for key := range above {
		s := o.services[key]
		if s == nil || !o.mayOwn(key) {
			delete(above, key)
			if s != nil {
				s.taking = false
			}
		}
	}
	o.c.spawn(func(context.Context) {
		claims, err := o.c.claims.TakeAll(above)
		o.c.post(func() { o.claimed(above, claims, err) })
	})
}

func (o *owner) claimed(asked termsOf, claims map[knowledge.ServiceKey]*claim.Claim, err error) {
	if err != nil {
		o.c.log.Warn().Err(err).Msg("cannot persist terms; services not taken over")
	}
	bound := errors.Is(err, claim.ErrFull) || errors.Is(err, claim.ErrExhausted)
	if err != nil && !bound && !errors.Is(err, claim.ErrStopped) {
		o.c.participation.cannotSave()
	}
	now := o.c.o.Now()
	for key := range asked {
		if s := o.services[key]; s != nil {
			s.taking, s.tookAt = false, now
			if err != nil {
				s.yield(now)
			}
		}
	}
	for key := range claims {
		s := o.services[key]
		if s == nil || !o.mayOwn(key) {
			o.c.claims.End(key, claim.ErrMoved)
			continue
		}
		s.seq, s.dirty = 0, true
		o.c.count.Takeovers++
		o.c.log.Debug().Str("service", string(key)).Stringer("term", claims[key].Term).Msg("service taken over")
	}
	o.planDue(now)
}

// sendIntents is one message to one host, and its answer: the services of which
// that host has seen a higher term.
func (o *owner) sendIntents(ctx context.Context, to knowledge.NodeID, batch map[knowledge.ServiceKey]Declared) error {
	for key, d := range batch { // a claim that ended takes its intents with it
		if held, ok := o.c.claims.Get(key); !ok || held.Term != d.Intent.Term {
			delete(batch, key)
		}
	}
	if len(batch) == 0 {
		return nil
	}
	higher := map[knowledge.ServiceKey]knowledge.Term{}
	for range stepsMost {
		refused, err := o.declare(ctx, to, batch)
		if err != nil {
			return err
		}
		behind, steps := map[knowledge.ServiceKey]Declared{}, map[knowledge.ServiceKey]Declared{}
		for key, seen := range refused {
			d, sent := batch[key]
			switch {
			case !sent: // a host refuses only what was sent to it
			case claim.Leaps(seen, d.Intent.Term):
				behind[key] = d
				d.Intent.Term, d.Votes = claim.Step(seen, d.Intent.Term), nil // signed under another term
				steps[key] = d
			default:
				higher[key] = seen
			}
		}
		if len(steps) == 0 {
			break
		}
		if _, err = o.declare(ctx, to, steps); err != nil {
			return err
		}
		batch = behind
	}
	if len(higher) > 0 {
		o.c.post(func() { o.superseded(higher) })
	}
	return nil
}

// stepsMost bounds how often one message is sent again to a host for which its terms
// are leaps: it is led up to them. The rest comes with its next report.
const stepsMost = 16

// declare sends intents to a host, and returns the terms for which it refused.
func (o *owner) declare(
	ctx context.Context, to knowledge.NodeID, batch map[knowledge.ServiceKey]Declared,
) (refused termsOf, err error) {
	b, err := o.c.seal("intents", to, slices.Collect(maps.Values(batch)))
	if err != nil {
		return nil, err
	}
	answer, err := o.c.relay.Call(ctx, to, "intents", b)
	if err != nil {
		return nil, err
	}
	err = trust.Unmarshal(answer, &refused)
	return refused, err
}

// superseded ends claims of which a host has seen a higher term.
func (o *owner) superseded(refused termsOf) {
	now := o.c.o.Now()
	for key, t := range refused {
		held, ok := o.c.claims.Get(key)
		s := o.services[key]
		if s == nil || !ok || !t.After(held.Term) {
			continue
		}
		if t = claim.Step(held.Term, t); t.After(s.highest) {
			s.highest = t
		}
		s.yield(now)
		o.c.count.Superseded++
		if o.c.placement.ring.Owner(key) == o.c.self {
			o.c.participation.presence.doubt() // this node or the other owner was disconnected
		}
		o.c.log.Debug().Str("service", string(key)).Stringer("term", held.Term).Stringer("by", t).
			Dur("backoff_ms", s.backoff).Msg("claim superseded by a later term")
		o.c.claims.End(key, claim.ErrSuperseded)
		o.intents.drop(key)
	}
}
