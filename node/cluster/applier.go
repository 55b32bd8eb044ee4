package cluster

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/node/cluster/trust"
)

// termsOf are terms of services.
type termsOf = map[knowledge.ServiceKey]knowledge.Term

// Declared is an intent with the votes of those who agree to its cuts.
type Declared struct {
	Intent knowledge.Intent `cbor:"1,keyasint"`
	Votes  []trust.Vote     `cbor:"2,keyasint,omitempty"`
}

// applier applies the intents of the owners that plan for this host.
type applier struct {
	c *Cluster
	// turns is held while intents are applied: they reach the loop in the order in which
	// their terms were admitted.
	turns chan struct{}
	// uncertified counts cuts that no quorum had agreed to.
	uncertified atomic.Uint64

	// Owned by the goroutine.
	applied map[knowledge.ServiceKey]applied
	shown   map[knowledge.ServiceKey]knowledge.Term // of applied, in the views; nil: it has changed
}

// applied is the newest intent of a service.
type applied struct {
	term knowledge.Term
	seq  uint64
	at   time.Time
}

func newApplier(c *Cluster) *applier {
	return &applier{c: c, turns: make(chan struct{}, 1), applied: map[knowledge.ServiceKey]applied{}}
}

// terms are those of the intents in force.
func (a *applier) terms() map[knowledge.ServiceKey]knowledge.Term {
	if a.shown == nil {
		a.shown = make(map[knowledge.ServiceKey]knowledge.Term, len(a.applied))
		for key, is := range a.applied {
			a.shown[key] = is.term
		}
	}
	return a.shown
}

// expire forgets services that are not known any more.
func (a *applier) expire(known map[knowledge.ServiceKey]*service) {
	for key := range a.applied {
		if known[key] == nil {
			delete(a.applied, key)
			a.shown = nil
		}
	}
}

// takeIntents answers an owner that plans for this host.
func (a *applier) takeIntents(ctx context.Context, from knowledge.NodeID, body []byte) ([]byte, error) {
	var declared declarations
	if _, err := a.c.open(from, "intents", body, &declared); err != nil {
		return nil, err
	}
	for i := range declared {
		in := &declared[i].Intent
		switch {
		case in.Host != a.c.self:
			return nil, errors.New("an intent for another host")
		case in.Term.Owner != from:
			return nil, errors.New("an intent in another node's term")
		case !knowledge.ValidService(in.Service):
			return nil, errors.New("an intent for a service without a name")
		}
	}
	refused, err := a.apply(ctx, declared)
	if err != nil {
		return nil, err
	}
	return trust.Marshal(refused)
}

// apply admits the terms, which are on the disk then, and hands the newest intents
// to the loop.
func (a *applier) apply(ctx context.Context, declared []Declared) (termsOf, error) {
	select {
	case a.turns <- struct{}{}:
		defer func() { <-a.turns }()
	case <-ctx.Done():
		return nil, errBusy
	}
	// Terms of what does not run here would fill the disk with inventions.
	err := a.c.do(ctx, func() {
		declared = slices.DeleteFunc(declared, func(d Declared) bool {
			s := a.c.owner.services[d.Intent.Service]
			return s == nil || !s.local
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
	refused, saveErr := a.c.terms.Admit(batch)
	var todo []knowledge.Intent
	if err = a.c.do(ctx, func() { todo = a.newest(declared, batch, refused) }); err != nil {
		return refused, err
	}
	if err = a.c.attestation.checkCuts(ctx, declared, todo); err == nil {
		_, err = a.c.host.ApplyIntents(ctx, todo)
	}
	// What is new and could not be saved is refused; what was known is applied.
	return refused, errors.Join(err, saveErr)
}

// newest are the intents in admitted terms that are not older than those in force.
func (a *applier) newest(declared []Declared, batch, refused termsOf) (todo []knowledge.Intent) {
	now := a.c.o.Now()
	a.c.count.IntentsRefused += uint64(len(refused))
	for i := range declared {
		in := &declared[i].Intent
		if _, no := refused[in.Service]; no || in.Term != batch[in.Service] {
			continue
		}
		last, known := a.applied[in.Service]
		if in.Term == last.term && in.Seq < last.seq || last.term.After(in.Term) {
			continue // an older message that came late
		}
		if !known && len(a.applied) >= servicesMost {
			continue
		}
		if in.Term != last.term {
			a.shown = nil
		}
		a.applied[in.Service] = applied{term: in.Term, seq: in.Seq, at: now}
		todo = append(todo, *in)
	}
	a.c.count.IntentsObeyed += uint64(len(todo))
	return todo
}

// applyOwn is apply for this node's intents for its own host.
func (a *applier) applyOwn(declared []Declared) {
	a.c.spawn(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, sendWithin)
		defer cancel()
		refused, err := a.apply(ctx, declared)
		if err != nil && ctx.Err() == nil {
			a.c.log.Debug().Err(err).Msg("cannot apply own intents, retrying")
		}
		if len(refused) > 0 {
			a.c.post(func() { a.c.owner.superseded(refused) })
		}
	})
}
