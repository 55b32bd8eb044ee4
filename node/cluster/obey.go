package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/node/cluster/claim"
	"github.com/effiscale/effiscale/node/cluster/member"
	"github.com/effiscale/effiscale/node/cluster/relay"
	"github.com/effiscale/effiscale/node/cluster/trust"
)

// Declared is an intent with the votes of those who agree to its cuts.
type Declared struct {
	Intent knowledge.Intent `cbor:"1,keyasint"`
	Votes  []trust.Vote     `cbor:"2,keyasint,omitempty"`
}

// heard is the newest intent of a service that this host obeys.
type heard struct {
	term knowledge.Term
	seq  uint64
	at   time.Time
}

// handlers are the calls that peers may make.
func (c *Cluster) handlers() map[string]relay.Handler {
	all := map[string]relay.Handler{
		"reports": {Serve: c.takeReports, MaxBody: 4 << 20},
		"terms":   {Serve: c.tellTerms},
		"intents": {Serve: c.takeIntents, MaxBody: 4 << 20},
		"votes":   {Serve: c.vote},
		"images":  {Serve: c.tellImages},
	}
	maps.Copy(all, c.o.Handlers)
	return all
}

// seal signs what is for the present life of a node. One that started anew and was
// not heard of since refuses it, and is told again.
func (c *Cluster) seal(kind string, to knowledge.NodeID, v any) ([]byte, error) {
	p, ok := c.members.Peer(to)
	if !ok {
		return nil, relay.ErrUnknown
	}
	return c.sealer.Seal(kind, to, uint64(p.Started), v)
}

// open reads a signed message and holds its signer against the caller.
func (c *Cluster) open(from knowledge.NodeID, kind string, body []byte, v any) (knowledge.Version, error) {
	if c.left.Load() {
		return knowledge.Version{}, errors.New("this node has left the cluster")
	}
	if err := c.outcast(from); err != nil {
		return knowledge.Version{}, err
	}
	signer, version, err := c.opener.Open(body, kind, v)
	switch {
	case err != nil:
		return version, err
	case signer != from:
		return version, fmt.Errorf("%w: %s speaks for %s", trust.ErrSigner, from.Short(), signer.Short())
	}
	return version, nil
}

// outcast says no to who is no member any more, though gossip knows it for days: its key
// may have been taken away, or its name be another's. One that gossip has lost of late may
// be there all the same, and is heard (see lives).
func (c *Cluster) outcast(from knowledge.NodeID) error {
	p, _ := c.members.Peer(from)
	switch {
	case p.Alive:
		return nil
	case p.Status == "refused" || p.Status == "replaced":
		return &relay.Error{Status: http.StatusForbidden, Text: "another node has the name of the one that calls"}
	case !givenUp(c.o.Now(), &p):
		return nil
	}
	c.members.Seek(from)
	return &relay.Error{Status: http.StatusForbidden, Text: fmt.Sprintf("gossip has not heard the node that calls for more than %v: it is looked for, and may call again when it is heard", stableAfter)}
}

// givenUp: gossip lost it so long ago that to answer calls does not make it a member.
func givenUp(now time.Time, p *member.Peer) bool {
	return !p.Alive && now.Sub(p.Since) > stableAfter
}

// sendIntents is one message to one host, and its answer: the services of which
// that host has seen a higher term.
func (c *Cluster) sendIntents(ctx context.Context, to knowledge.NodeID, batch map[knowledge.ServiceKey]Declared) error {
	for key, d := range batch { // a claim that ended takes its intents with it
		if held, ok := c.book.Held(key); !ok || held.Term != d.Intent.Term {
			delete(batch, key)
		}
	}
	if len(batch) == 0 {
		return nil
	}
	higher := map[knowledge.ServiceKey]knowledge.Term{}
	for range stepsMost {
		refused, err := c.declare(ctx, to, batch)
		if err != nil {
			return err
		}
		behind, steps := map[knowledge.ServiceKey]Declared{}, map[knowledge.ServiceKey]Declared{}
		for key, seen := range refused {
			d, said := batch[key]
			switch {
			case !said: // of what it was not told it has no say
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
		if _, err = c.declare(ctx, to, steps); err != nil {
			return err
		}
		batch = behind
	}
	if len(higher) > 0 {
		c.back(func() { c.superseded(higher) })
	}
	return nil
}

// stepsMost bounds how often one message is said again to a host for which its terms
// are leaps: it is led up to them. The rest comes with its next report.
const stepsMost = 16

// declare tells a host, and returns the terms for which it refused.
func (c *Cluster) declare(ctx context.Context, to knowledge.NodeID, batch map[knowledge.ServiceKey]Declared) (refused map[knowledge.ServiceKey]knowledge.Term, err error) {
	b, err := c.seal("intents", to, slices.Collect(maps.Values(batch)))
	if err != nil {
		return nil, err
	}
	answer, err := c.relay.Call(ctx, to, "intents", b)
	if err != nil {
		return nil, err
	}
	err = trust.Unmarshal(answer, &refused)
	return refused, err
}

// superseded ends claims of which a host has seen a higher term.
func (c *Cluster) superseded(refused map[knowledge.ServiceKey]knowledge.Term) {
	for key, t := range refused {
		held, ok := c.book.Held(key)
		s := c.services[key]
		if s == nil || !ok || !t.After(held.Term) {
			continue
		}
		if t = claim.Step(held.Term, t); t.After(s.heard) {
			s.heard = t
		}
		s.yield(c.o.Now())
		c.count.Superseded++
		c.log.Debug().Str("service", string(key)).Stringer("term", held.Term).Stringer("by", t).Dur("yield_ms", s.duel).Msg("a host obeys a later term than this node's")
		c.book.End(key, claim.ErrSuperseded)
		c.intents.drop(key)
	}
}

// takeIntents answers an owner that plans for this host.
func (c *Cluster) takeIntents(ctx context.Context, from knowledge.NodeID, body []byte) ([]byte, error) {
	var declared declarations
	if _, err := c.open(from, "intents", body, &declared); err != nil {
		return nil, err
	}
	for i := range declared {
		in := &declared[i].Intent
		switch {
		case in.Host != c.self:
			return nil, errors.New("an intent for another host")
		case in.Term.Owner != from:
			return nil, errors.New("an intent in another node's term")
		case !knowledge.ValidName(string(in.Service)):
			return nil, errors.New("an intent for a service without a name")
		}
	}
	refused, err := c.obey(ctx, declared)
	if err != nil {
		return nil, err
	}
	return trust.Marshal(refused)
}

// obey admits the terms, which are on the disk then, and hands the newest intents
// to the loop.
func (c *Cluster) obey(ctx context.Context, declared []Declared) (map[knowledge.ServiceKey]knowledge.Term, error) {
	select {
	case c.turns <- struct{}{}:
		defer func() { <-c.turns }()
	case <-ctx.Done():
		return nil, errBusy
	}
	// Terms of what does not run here would fill the disk with inventions.
	err := c.do(ctx, func() {
		declared = slices.DeleteFunc(declared, func(d Declared) bool {
			s := c.services[d.Intent.Service]
			return s == nil || !s.mine
		})
	})
	if err != nil || len(declared) == 0 {
		return nil, err
	}
	batch := make(map[knowledge.ServiceKey]knowledge.Term, len(declared))
	for i := range declared {
		in := &declared[i].Intent
		if in.Term.After(batch[in.Service]) {
			batch[in.Service] = in.Term
		}
	}
	refused, saveErr := c.terms.Admit(batch)
	var todo []knowledge.Intent
	err = c.do(ctx, func() {
		now := c.o.Now()
		c.count.IntentsRefused += uint64(len(refused))
		for i := range declared {
			in := &declared[i].Intent
			if _, no := refused[in.Service]; no || in.Term != batch[in.Service] {
				continue
			}
			last := c.obeyed[in.Service]
			if in.Term == last.term && in.Seq < last.seq || last.term.After(in.Term) {
				continue // an older word that came late
			}
			if _, known := c.obeyed[in.Service]; !known && len(c.obeyed) >= servicesMost {
				continue
			}
			if in.Term != last.term {
				c.shown = nil
			}
			c.obeyed[in.Service] = heard{term: in.Term, seq: in.Seq, at: now}
			todo = append(todo, *in)
		}
		c.count.IntentsObeyed += uint64(len(todo))
	})
	if err != nil {
		return refused, err
	}
	if err = c.checkCuts(ctx, declared, todo); err == nil {
		_, err = c.host.ApplyIntents(ctx, todo)
	}
	// What is new and could not be written down is refused; what was known is obeyed.
	return refused, errors.Join(err, saveErr)
}

// obeyOwn is obey for what this node declares for its own host.
func (c *Cluster) obeyOwn(declared []Declared) {
	c.job(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, sendWithin)
		defer cancel()
		refused, err := c.obey(ctx, declared)
		if err != nil && ctx.Err() == nil {
			c.log.Debug().Err(err).Msg("this host did not take its own envelopes; it is told again")
		}
		if len(refused) > 0 {
			c.back(func() { c.superseded(refused) })
		}
	})
}

// forgetTerms keeps the terms of the services that are known now, off the goroutine,
// when there are too many.
func (c *Cluster) forgetTerms() {
	if !c.terms.Crowded() {
		return
	}
	known := make(map[knowledge.ServiceKey]bool, len(c.services))
	for key := range c.services {
		known[key] = true
	}
	c.job(func(context.Context) {
		if err := c.terms.Forget(func(key knowledge.ServiceKey) bool { return known[key] }); err != nil {
			c.log.Debug().Err(err).Msg("terms of services that are gone are kept")
		}
	})
}
