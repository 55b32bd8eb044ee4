// Package quorum decides whether this side of a partitioned cluster has a majority.
//
// A majority is more than half of a numbered list of voters that is on their disks. The
// list changes by agreement only: list n+1 is decided by single-decree Paxos (Lamport,
// "Paxos Made Simple", 2001) among the voters of list n, as in "Reconfiguring a State
// Machine" (Lamport, Malkhi, Zhou, 2010). So of every majority of list n at least one
// voter has accepted list n+1 on its disk and gossips that, and a node with such a voter in
// sight does not count by list n. ARCHITECTURE.md, "The majority", has the rules and
// the proof.
//
// Look counts the voters in sight and finds what is due, Act does it by calls to other nodes,
// and Answer serves them. Remove and Reset are an operator's orders.
package quorum

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

const (
	// joinAfter is how long a new node must be alive before it becomes a voter,
	// foundAfter that of the nodes of a new cluster.
	joinAfter, foundAfter = time.Minute, 5 * time.Second
	// dropAfter is how long a voter must be gone before the others drop it: longer than a
	// reboot, and shorter than a fleet takes to be replaced.
	dropAfter = 10 * time.Minute
	// retryAfter is the wait between two proposals, and between the first voter in order
	// and the next one that proposes in its place.
	retryAfter = 10 * time.Second
	// settleWithin is how long a change of the list may be half done before the nodes that
	// see it have no majority: two writes of a slow disk.
	settleWithin = 8 * time.Second
	// ahead bounds how far above the own number one in gossip is believed, aheadFirst that
	// of a node that was in no list yet: a lying member must not use up the numbers.
	ahead, aheadFirst = 1 << 20, 1 << 40
)

// Gossip are the numbers that a node gossips. Number and Sum are of the list that it votes in.
// Next is above Number while it has accepted a next list that it does not know to be decided,
// or follows a newer list. Origin is that of its cluster.
type Gossip struct{ Number, Next, Sum, Origin uint64 }

// Peer is a member of the cluster as gossip has it.
type Peer struct {
	ID    knowledge.NodeID
	Name  string
	Alive bool
	Since time.Time // since when it is alive, or gone
	Gossip
	// Votes: it answers proposals. Earlier versions do not; while one is alive the list
	// does not change.
	Votes bool
}

// Status is the result of a Look.
type Status struct {
	Majority bool
	List     List // in force here
	Alive    int  // voters in sight, this node included
	Voters   int  // of the list, without removed ones
	// Pending: a change of the list is under way.
	Pending bool
	// unfollow: the voters in sight have another list than the one that this node follows.
	unfollow bool
	// learn is a node with a newer list, "" when there is none.
	learn knowledge.NodeID
	// propose are the members of the list that this node is to propose now; nil: none.
	propose []knowledge.NodeID
}

// Due reports whether there is something to Act on.
func (s Status) Due() bool { return s.unfollow || s.learn != "" || s.propose != nil }

// Quorum is one node's part. Look is called by one goroutine; all else may be called by
// several.
type Quorum struct {
	self knowledge.NodeID
	save func(context.Context, Record) error
	// spawn runs a call beside others.
	spawn func(func())

	// turn is held while the record is changed and saved. A channel, because the disk is
	// waited for.
	turn   chan struct{}
	mu     sync.Mutex // guards record
	record Record     // as it is on the disk; never changed, only replaced

	// Of Look.
	began     time.Time
	majority  bool
	unsettled time.Time // since when a half-done or newer list is in sight
	disputed  time.Time // since when the followed list is no voter's
	due       time.Time // since when a change is due
	proposed  time.Time
}

// New begins with the record of an earlier start. save makes a record durable before it
// returns nil.
func New(self knowledge.NodeID, r Record, now time.Time, save func(context.Context, Record) error) *Quorum {
	return &Quorum{
		self: self, save: save, spawn: func(f func()) { go f() }, turn: make(chan struct{}, 1),
		record: load(self, r), began: now,
	}
}

// Record is the state on the disk; gossip carries its numbers.
func (q *Quorum) Record() Record {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.record.clone()
}

// current is the record, for reading only.
func (q *Quorum) current() Record {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.record
}

// Gossip are the numbers for other nodes.
func (q *Quorum) Gossip() Gossip {
	r := q.current()
	counted := r.Counted()
	g := Gossip{Number: r.Number, Next: counted.Number, Sum: r.list().Sum(), Origin: counted.Origin}
	for _, a := range r.Next {
		g.Next = max(g.Next, a.Number)
	}
	return g
}

// Look counts the voters in sight, and returns what is due next.
func (q *Quorum) Look(now time.Time, peers []Peer) Status {
	r := q.current()
	l := look{q: q, now: now, r: r, list: r.Counted(), peers: peers}
	l.sum = l.list.Sum()
	l.count()
	s := Status{List: l.list, Alive: l.alive, Voters: len(l.voters), Pending: l.pending, learn: l.learn}
	enough := 2*l.alive > len(l.voters)
	switch unsettled := l.pending || l.newer; {
	case !unsettled:
		q.unsettled = time.Time{}
	case q.unsettled.IsZero():
		q.unsettled = now
	}
	// A majority that was there stays while a change takes its course; a new one waits for it.
	settled := q.unsettled.IsZero() || q.majority && now.Sub(q.unsettled) < settleWithin
	q.majority = enough && settled
	s.Majority = q.majority
	s.unfollow = len(r.Follows) > 0 && l.disputed()
	if enough && !l.newer && !l.older && !(l.returned && 2*l.alive <= len(l.list.Members)) {
		s.propose = l.propose()
	} else {
		q.due = time.Time{}
	}
	return s
}

// look is one Look.
type look struct {
	q       *Quorum
	now     time.Time
	r       Record
	list    List
	sum     uint64
	peers   []Peer
	voters  []knowledge.NodeID
	alive   int
	newer   bool // a newer list is in sight
	pending bool
	older   bool // a node that does not vote is in sight
	// returned: an operator declared one gone for good that is alive.
	returned bool
	learn    knowledge.NodeID
}

// ahead reports whether this node's list is newer than all that a peer of its cluster knows.
func (l *look) ahead(p *Peer) bool {
	return p.Next < l.list.Number || p.Next == l.list.Number && (p.Number < p.Next || p.Sum < l.sum)
}

// disputed reports whether voters of the followed list are in sight, and all have another
// one: an operator reset them.
func (l *look) disputed() bool {
	voters, confirmed := false, false
	for i := range l.peers {
		p := &l.peers[i]
		if p.Alive {
			voters = voters || l.list.Has(p.ID)
			confirmed = confirmed || p.Origin == l.list.Origin &&
				(p.Number > l.list.Number || p.Number == l.list.Number && p.Sum == l.sum)
		}
	}
	if !voters || confirmed {
		l.q.disputed = time.Time{}
		return false
	}
	if l.q.disputed.IsZero() {
		l.q.disputed = l.now
	}
	return l.now.Sub(l.q.disputed) >= settleWithin
}

// believable reports whether the numbers of a peer can be.
func (l *look) believable(p *Peer) bool {
	return p.Number <= p.Next && p.Next <= l.r.highest(p.Origin)
}

func (l *look) count() {
	l.voters = l.r.voters()
	l.pending = len(l.r.Next) > 0 && len(l.r.Follows) == 0
	there := map[knowledge.NodeID]bool{l.q.self: true}
	best := uint64(0)
	for i := range l.peers {
		p := &l.peers[i]
		if !p.Alive || p.ID == l.q.self {
			continue
		}
		there[p.ID] = true
		l.older = l.older || !p.Votes && (p.Number > 0 || l.list.Has(p.ID))
		if !l.believable(p) {
			continue
		}
		switch {
		case p.Next == 0: // no list
		case l.list.Number > 0 && p.Origin > l.list.Origin: // it will learn this node's
		case p.Origin == l.list.Origin && p.Number == l.list.Number && p.Sum == l.sum:
			l.pending = l.pending || p.Next > p.Number
		case l.list.Number > 0 && p.Origin == l.list.Origin && l.ahead(p): // it will learn this node's
		default:
			l.newer = true
			if p.Votes && (l.learn == "" || p.Next > best) {
				l.learn, best = p.ID, p.Next
			}
		}
	}
	for _, id := range l.r.Removed {
		if there[id] { // it was not gone for good
			l.voters, l.returned = append(l.voters, id), true
		}
	}
	for _, id := range l.voters {
		if there[id] {
			l.alive++
		}
	}
}

// propose is the next list, where it is due and this node is the one to propose it: the
// first voter in order, or a later one when those before it did not.
func (l *look) propose() []knowledge.NodeID {
	next := l.next()
	if !l.list.Has(l.q.self) || !l.pending && slices.Equal(next, l.list.Members) {
		l.q.due = time.Time{}
		return nil
	}
	if l.q.due.IsZero() {
		l.q.due = l.now
	}
	rank := 0
	for i := range l.peers {
		p := &l.peers[i]
		if p.Alive && p.ID < l.q.self && (l.list.Has(p.ID) || l.list.Number == 0 && p.Votes) {
			rank++
		}
	}
	wait := time.Duration(rank) * retryAfter
	if l.pending { // the proposer has a moment to end what it began
		wait += retryAfter / 5
	}
	if len(l.r.Removed) > 0 && !l.returned { // an operator's order was given here
		wait = 0
	}
	if l.now.Sub(l.q.due) < wait || !l.q.proposed.IsZero() && l.now.Sub(l.q.proposed) < retryAfter {
		return nil
	}
	l.q.proposed = l.now
	return next
}

// next are the members of the list that fits the nodes in sight: voters that are not gone
// for long, and nodes that have stayed. A node that took the name of a voter that is gone
// takes its place.
func (l *look) next() []knowledge.NodeID {
	after := joinAfter
	if l.list.Number == 0 {
		after = foundAfter
	}
	known, came := map[knowledge.NodeID]*Peer{}, map[string]bool{}
	var next []knowledge.NodeID
	for i := range l.peers {
		p := &l.peers[i]
		known[p.ID] = p
		if !p.Alive || p.ID == l.q.self || l.list.Has(p.ID) {
			continue
		}
		if l.list.Number == 0 && l.now.Sub(p.Since) < after {
			return l.list.Members // a new cluster begins with all nodes that start together
		}
		if p.Votes && l.now.Sub(p.Since) >= after {
			next, came[p.Name] = append(next, p.ID), true
		}
	}
	for _, id := range l.list.Members {
		p := known[id]
		gone := l.q.began
		if p != nil && p.Since.After(gone) {
			gone = p.Since
		}
		switch {
		case id == l.q.self || p != nil && p.Alive:
			next = append(next, id)
		case slices.Contains(l.r.Removed, id) || p != nil && came[p.Name] || l.now.Sub(gone) >= dropAfter:
		default:
			next = append(next, id)
		}
	}
	slices.Sort(next)
	return slices.Compact(next)
}

// change saves a changed record, and then it is the one in force.
func (q *Quorum) change(ctx context.Context, f func(Record) (Record, error)) error {
	select {
	case q.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-q.turn }()
	old := q.Record()
	r, err := f(old)
	if err != nil || r.Equal(old) {
		return err
	}
	if err := q.save(ctx, r.clone()); err != nil {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.record = r
	return nil
}

// Remove counts voters no more that an operator declared gone for good, so that the rest
// can agree on a list without them. The caller has to know that they are.
func (q *Quorum) Remove(ctx context.Context, ids ...knowledge.NodeID) error {
	return q.change(ctx, func(r Record) (Record, error) {
		if len(r.Follows) > 0 && slices.ContainsFunc(ids, r.Follows[0].Has) {
			return r, errors.New("this node is not a voter yet: run the command on another one")
		}
		for _, id := range ids {
			if r.list().Has(id) && id != q.self && !slices.Contains(r.Removed, id) {
				r.Removed = append(r.Removed, id)
			}
		}
		return r, nil
	})
}

// Reset forgets the list: this node counts from itself, as one of a new cluster.
func (q *Quorum) Reset(ctx context.Context) error {
	return q.change(ctx, func(Record) (Record, error) { return Record{Members: []knowledge.NodeID{q.self}}, nil })
}

// Act does what a Look found due, one thing at a time. It returns the list in force where it
// has changed.
func (q *Quorum) Act(ctx context.Context, s Status, ask Ask) (List, error) {
	switch {
	case s.unfollow:
		return List{}, q.change(ctx, func(r Record) (Record, error) {
			r.Follows = nil
			return r, nil
		})
	case s.learn != "":
		return q.learn(ctx, s.learn, ask)
	case s.propose != nil:
		return q.propose(ctx, s.propose, ask)
	}
	return List{}, nil
}

var (
	errBehind = errors.New("another node has a newer list of voters")
	errNoList = errors.New("the other node has no newer list of voters")
)
