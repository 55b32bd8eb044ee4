package quorum

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/effiscale/effiscale/knowledge"
)

// Kind is what a request asks for.
type Kind uint8

// The kinds.
const (
	Fetch   Kind = iota // the list in force
	Prepare             // a promise to accept nothing below the ballot
	Accept              // the next list
	Decide              // the next list was accepted by a majority
)

// Request is one question of a proposer. Base is its list in force; a voter that is
// behind takes it over first.
type Request struct {
	Kind   Kind   `cbor:"1,keyasint"`
	Base   List   `cbor:"2,keyasint"`
	Ballot Ballot `cbor:"3,keyasint"`
	Next   List   `cbor:"4,keyasint"`
}

// Response is a voter's answer. Without OK, List is newer than the proposer's, or
// Promised is above its ballot.
type Response struct {
	OK       bool       `cbor:"1,keyasint"`
	List     List       `cbor:"2,keyasint"`
	Promised Ballot     `cbor:"3,keyasint"`
	Accepted []Accepted `cbor:"4,keyasint,omitempty"`
}

// Ask makes a call to another node.
type Ask func(ctx context.Context, to knowledge.NodeID, req Request) (Response, error)

// Answer serves a request. What it promises or accepts is on the disk before it returns.
func (q *Quorum) Answer(ctx context.Context, req Request) (Response, error) {
	var res Response
	err := q.change(ctx, func(r Record) (Record, error) {
		var err error
		r, res, err = q.answer(r, req)
		return r, err
	})
	return res, err
}

func (q *Quorum) answer(r Record, req Request) (Record, Response, error) {
	if req.Kind == Fetch {
		return r, Response{OK: true, List: r.Counted()}, nil
	}
	for _, l := range []List{req.Base, req.Next} {
		if err := l.check(); err != nil {
			return r, Response{}, err
		}
		if l.Number > r.highest(l.Origin) {
			return r, Response{}, fmt.Errorf("voter list number %d is too far above %d", l.Number, r.Number)
		}
	}
	if req.Kind == Decide {
		return r.adopt(q.self, req.Next), Response{OK: true}, nil
	}
	if r = r.adopt(q.self, req.Base); !req.Base.equal(r.list()) {
		return r, Response{List: r.Counted()}, nil
	}
	if req.Ballot.compare(r.Promised) < 0 {
		return r, Response{Promised: r.Promised}, nil
	}
	r.Promised = req.Ballot
	if req.Kind == Accept {
		if req.Next.Number <= r.Number {
			return r, Response{}, errors.New("the number of the proposed voter list is not higher")
		}
		r.Next = []Accepted{{List: req.Next, Ballot: req.Ballot}}
	}
	return r, Response{OK: true, Accepted: slices.Clone(r.Next)}, nil
}

// propose tries to agree on the next list with the voters of the one in force. A list
// that some have accepted already goes first. It returns the list that was decided.
func (q *Quorum) propose(ctx context.Context, members []knowledge.NodeID, ask Ask) (List, error) {
	r := q.Record()
	next := List{Number: r.Number + 1, Members: members, Origin: r.Origin}
	if r.Number == 0 {
		next.Origin = uint64(q.began.UnixNano())
	}
	if err := next.check(); err != nil {
		return List{}, err
	}
	req := Request{Kind: Prepare, Base: r.list(), Ballot: Ballot{Round: r.Promised.Round + 1, Node: q.self}, Next: next}
	// The own promise is durable first: no ballot is used twice, also not after a restart.
	if own, err := q.Answer(ctx, req); err != nil || !own.OK {
		return List{}, errors.Join(errBehind, err)
	}
	promises, err := q.poll(ctx, r, req, ask)
	if err != nil {
		return List{}, err
	}
	var highest *Accepted
	for _, p := range promises {
		for _, a := range p.Accepted {
			if highest == nil || a.Ballot.compare(highest.Ballot) > 0 {
				highest = &a
			}
		}
	}
	if highest != nil {
		next = highest.List
	}
	req.Kind, req.Next = Accept, next
	if _, err = q.poll(ctx, r, req, ask); err != nil {
		return List{}, err
	}
	req.Kind = Decide
	sent := make(chan struct{})
	q.spawn(func() {
		defer close(sent)
		q.announce(ctx, req, ask)
	})
	_, err = q.Answer(ctx, req)
	<-sent
	return next, err
}

// poll asks all voters at once, this node too, and returns the answers of a majority. An
// error is that there is none; where a voter refused it, why.
func (q *Quorum) poll(ctx context.Context, r Record, req Request, ask Ask) ([]Response, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type answer struct {
		Response
		err error
	}
	voters := r.voters()
	answers := make(chan answer, len(voters))
	for _, id := range voters {
		q.spawn(func() {
			var a answer
			if id == q.self {
				a.Response, a.err = q.Answer(ctx, req)
			} else {
				a.Response, a.err = ask(ctx, id, req)
			}
			answers <- a
		})
	}
	var oks []Response
	var refused error
	for range voters {
		a := <-answers
		switch {
		case a.err != nil:
			refused = a.err
		case a.OK:
			if oks = append(oks, a.Response); 2*len(oks) > len(voters) {
				return oks, nil
			}
		case a.List.Number > 0:
			refused = errBehind
		default: // another proposer: its round is to be above
			refused = q.raise(ctx, req.Base, a.Promised)
		}
	}
	return nil, fmt.Errorf("%d of %d voters agreed: %w", len(oks), len(voters), refused)
}

// raise notes a higher ballot, so that the next proposal is above it.
func (q *Quorum) raise(ctx context.Context, base List, b Ballot) error {
	err := q.change(ctx, func(r Record) (Record, error) {
		if r.list().equal(base) && b.compare(r.Promised) > 0 && b.Round < 1<<62 {
			r.Promised = b
		}
		return r, nil
	})
	return errors.Join(errors.New("another node proposes a list at the same time"), err)
}

// announce sends the decision. A node that misses it sees the number in gossip.
func (q *Quorum) announce(ctx context.Context, req Request, ask Ask) {
	to := slices.Concat(req.Base.Members, req.Next.Members)
	slices.Sort(to)
	to = slices.DeleteFunc(slices.Compact(to), func(id knowledge.NodeID) bool { return id == q.self })
	done := make(chan struct{}, len(to))
	for _, id := range to {
		q.spawn(func() {
			_, _ = ask(ctx, id, req)
			done <- struct{}{}
		})
	}
	for range to {
		select {
		case <-done:
		case <-ctx.Done():
			return
		}
	}
}

// learn takes over the newer list of another node. One that follows the list cannot make
// this node a voter: an operator may have reset it.
func (q *Quorum) learn(ctx context.Context, from knowledge.NodeID, ask Ask) (List, error) {
	res, err := ask(ctx, from, Request{Kind: Fetch})
	if err != nil {
		return List{}, err
	}
	if res.List.Number == 0 || res.List.Has(q.self) && !res.List.Has(from) {
		return List{}, errNoList
	}
	_, err = q.Answer(ctx, Request{Kind: Decide, Base: res.List, Next: res.List})
	return res.List, err
}
