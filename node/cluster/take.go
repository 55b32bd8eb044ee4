package cluster

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/node/cluster/claim"
	"github.com/effiscale/effiscale/node/cluster/member"
	"github.com/effiscale/effiscale/node/cluster/trust"
)

// take asks the hosts of each service for the highest term that they have seen,
// and claims a higher one. Where none of several answers, this node is the one that
// cannot be trusted: it hears nobody, and may still be heard.
func (c *Cluster) take(todo map[knowledge.ServiceKey][]knowledge.NodeID) {
	asks := map[knowledge.NodeID][]knowledge.ServiceKey{}
	above := map[knowledge.ServiceKey]knowledge.Term{}
	for key, hosts := range todo {
		above[key] = c.services[key].heard
		for _, h := range hosts {
			if h != c.self && c.sees(h) {
				asks[h] = append(asks[h], key)
			}
		}
	}
	c.job(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, askWithin)
		defer cancel()
		answers := make(chan map[knowledge.ServiceKey]knowledge.Term, len(asks))
		silent := map[knowledge.ServiceKey]bool{}
		for to, keys := range asks {
			for _, key := range keys {
				silent[key] = true
			}
			c.job(func(context.Context) { answers <- c.askTerms(ctx, to, keys) })
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
		c.back(func() {
			for key := range silent {
				delete(above, key)
				if s := c.services[key]; s != nil {
					s.taking, s.takeAt = false, c.o.Now().Add(askWithin)
				}
			}
			c.claim(above)
		})
	})
}

// claim takes what is still this node's, off the goroutine: a term is on the disk
// before it is used.
func (c *Cluster) claim(above map[knowledge.ServiceKey]knowledge.Term) {
	for key := range above {
		s := c.services[key]
		if s == nil || !c.mayOwn(key) {
			delete(above, key)
			if s != nil {
				s.taking = false
			}
		}
	}
	c.job(func(context.Context) {
		claims, err := c.book.TakeAll(above)
		c.back(func() { c.claimed(above, claims, err) })
	})
}

// mayTake reports whether this node may take anything over: one that was frozen has to
// look around first.
func (c *Cluster) mayTake() bool { return c.state.settled && c.state.state != member.Leaving }

// mayOwn reports whether a service is this node's to plan for: much may have changed
// since it asked.
func (c *Cluster) mayOwn(key knowledge.ServiceKey) bool {
	return c.mayTake() && c.ring.Owner(key) == c.self
}

func (c *Cluster) claimed(asked map[knowledge.ServiceKey]knowledge.Term, claims map[knowledge.ServiceKey]*claim.Claim, err error) {
	if err != nil {
		c.log.Warn().Err(err).Msg("a term cannot be written down, so it is not used")
	}
	if err != nil && !errors.Is(err, claim.ErrFull) && !errors.Is(err, claim.ErrExhausted) && !errors.Is(err, claim.ErrStopped) {
		c.unfit()
	}
	now := c.o.Now()
	for key := range asked {
		if s := c.services[key]; s != nil {
			s.taking, s.tookAt = false, now
			if err != nil {
				s.yield(now)
			}
		}
	}
	for key := range claims {
		s := c.services[key]
		if s == nil || !c.mayOwn(key) {
			c.book.End(key, claim.ErrMoved)
			continue
		}
		s.seq, s.dirty = 0, true
		c.count.Takeovers++
		c.log.Debug().Str("service", string(key)).Stringer("term", claims[key].Term).Msg("took a service over")
	}
	c.planDue(now)
}

// askTerms asks one host; nobody waits for one that does not answer: it refuses
// what is too low by itself.
func (c *Cluster) askTerms(ctx context.Context, to knowledge.NodeID, keys []knowledge.ServiceKey) map[knowledge.ServiceKey]knowledge.Term {
	out := map[knowledge.ServiceKey]knowledge.Term{}
	for part := range slices.Chunk(keys, batchMost) {
		b, err := trust.Marshal(part)
		if err != nil {
			return out
		}
		answer, err := c.relay.Call(ctx, to, "terms", b)
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

// tellTerms answers a node that takes over.
func (c *Cluster) tellTerms(_ context.Context, _ knowledge.NodeID, body []byte) ([]byte, error) {
	var keys []knowledge.ServiceKey
	if err := trust.Unmarshal(body, &keys); err != nil {
		return nil, err
	}
	out := make(map[knowledge.ServiceKey]knowledge.Term, min(len(keys), batchMost))
	for _, key := range keys[:min(len(keys), batchMost)] {
		out[key] = c.terms.Highest(key)
	}
	return trust.Marshal(out)
}
