// Package claim keeps the promise that at most one node plans for a service in a
// term. Terms are those that a host has seen: it obeys the highest, for ever, also over
// restarts. A Claims is what this node owns: scopes that end with a cause.
//
// A takeover: ask the service's hosts for Highest, Claims.Take above the answers, and
// send intents with the claim's term; each host Admits it before it obeys.
package claim

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"sync"
	"sync/atomic"

	"github.com/effiscale/effiscale/knowledge"
)

const (
	// forgetAbove is how many services a host remembers the terms of before Forget
	// drops any: 100 bytes each, in memory and on the disk.
	forgetAbove = 10_000
	// termsMost is where a host learns of no further service. A node knows 20,000
	// services at most; more are a peer's invention.
	termsMost = 40_000
)

var (
	// ErrFull: terms of too many services are known; new services are not admitted.
	ErrFull = errors.New("too many services")
	// ErrExhausted: a service's round cannot grow any more, which 2^64 takeovers
	// would explain, and a lying peer more easily.
	ErrExhausted = errors.New("there is no higher term")
)

// Saver is the disk. SaveTerms adds to what was saved before, over older terms of
// the same services; all of it, or nothing, is durable when it returns nil. The zero
// Term takes a service off. What is kept under Floor is no service: its round is
// above those of all that were taken off. Calls come one at a time and in order.
type Saver interface {
	SaveTerms(map[knowledge.ServiceKey]knowledge.Term) error
}

// Floor is the key under which Forget saves its floor; no service has it for a name.
const Floor knowledge.ServiceKey = ""

// termsOf are terms of services.
type termsOf = map[knowledge.ServiceKey]knowledge.Term

// Terms are the highest terms that a host has seen. A term counts as seen only once
// it is saved.
type Terms struct {
	saver   Saver
	most    int // see forgetAbove
	refused atomic.Uint64
	// turn is held while terms are raised, so that saves are in order. It is a
	// channel, not a mutex, because the disk is waited for in it.
	turn chan struct{}

	mu      sync.Mutex // guards what follows; never held across a call out
	highest map[knowledge.ServiceKey]knowledge.Term
	// floor is above every round that was forgotten. A service without a term has
	// this round: a forgotten term stays refused, and is never taken again.
	floor uint64
}

// NewTerms begins with the terms that were saved in earlier starts.
func NewTerms(kept map[knowledge.ServiceKey]knowledge.Term, s Saver) *Terms {
	t := &Terms{saver: s, most: forgetAbove, turn: make(chan struct{}, 1)}
	t.highest = map[knowledge.ServiceKey]knowledge.Term{}
	for key, term := range kept {
		switch {
		case key == Floor:
			t.floor = term.Round
		case !term.IsZero():
			t.highest[key] = term
		}
	}
	return t
}

// Highest is the highest term seen of a service, the zero Term when there was none.
// Of a service that may have been forgotten it has a round, but no owner.
func (t *Terms) Highest(key knowledge.ServiceKey) knowledge.Term {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.seen(key)
}

// seen needs mu.
func (t *Terms) seen(key knowledge.ServiceKey) knowledge.Term {
	if term, ok := t.highest[key]; ok {
		return term
	}
	return knowledge.Term{Round: t.floor}
}

// leapMost is how far above the highest seen a term may be. Each takeover is one
// round, so a larger step is false, and would leave no term above it.
//
// A smaller false term, at one host, brings that host and then the owner above it, and the
// owner's term is a leap for every other host. So no host refuses a leap for good: the owner
// comes up by leapMost in each takeover, and leads a host up in such steps. To leave no term,
// a lying node has to lie 2^32 times.
const leapMost = 1 << 32

// Leaps reports whether a term is further above another than takeovers can bring it.
func Leaps(seen, next knowledge.Term) bool {
	return next.Round > seen.Round && next.Round-seen.Round > leapMost
}

// Step is next where it is no leap above seen, or else the highest round that is none.
func Step(seen, next knowledge.Term) knowledge.Term {
	if Leaps(seen, next) {
		next.Round = seen.Round + leapMost
	}
	return next
}

// Admit judges terms: those at least as high as the highest seen are admitted, and
// the higher ones are saved, all at once, before it returns. The refused ones come
// back with the highest seen. With an error, which is the disk's or ErrFull, higher
// ones are among the refused; equal ones are not.
func (t *Terms) Admit(batch termsOf) (refused termsOf, err error) {
	refused, higher, err := t.judge(batch)
	defer func() {
		for key, seen := range refused {
			if seen.After(batch[key]) || Leaps(seen, batch[key]) {
				t.refused.Add(1)
			}
		}
	}()
	if len(higher) == 0 {
		return refused, err
	}
	t.turn <- struct{}{}
	defer func() { <-t.turn }()
	if refused, higher, err = t.judge(batch); len(higher) == 0 { // others had their turn before
		return refused, err
	}
	if saveErr := t.raise(higher); saveErr != nil {
		for key := range higher {
			refused[key] = t.Highest(key)
		}
		err = errors.Join(err, saveErr)
	}
	return refused, err
}

func (t *Terms) judge(batch termsOf) (refused, higher termsOf, err error) {
	refused, higher = termsOf{}, termsOf{}
	t.mu.Lock()
	defer t.mu.Unlock()
	left := termsMost - len(t.highest)
	for key, term := range batch {
		seen := t.seen(key)
		if !term.After(seen) || Leaps(seen, term) {
			if term != seen {
				refused[key] = seen
			}
			continue
		}
		if _, known := t.highest[key]; !known {
			if left <= 0 {
				refused[key], err = seen, fmt.Errorf("cannot admit a term: %w: at most %d", ErrFull, termsMost)
				continue
			}
			left--
		}
		higher[key] = term
	}
	return refused, higher, err
}

// raise saves higher terms and then counts them as seen. It needs the turn.
func (t *Terms) raise(higher map[knowledge.ServiceKey]knowledge.Term) error {
	if err := t.saver.SaveTerms(higher); err != nil {
		return fmt.Errorf("cannot save the terms of %d services: %w", len(higher), err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	maps.Copy(t.highest, higher)
	return nil
}

// take makes terms of self, each above the given one and all that were seen of its
// service, and saves them at once. Services whose terms cannot grow are left out,
// with an error.
func (t *Terms) take(self knowledge.NodeID, above termsOf) (termsOf, error) {
	t.turn <- struct{}{}
	defer func() { <-t.turn }()
	taken := make(termsOf, len(above))
	var err error
	for key, a := range above {
		seen := t.Highest(key)
		round := max(Step(seen, a).Round, seen.Round)
		if round == math.MaxUint64 {
			err = fmt.Errorf("cannot take service %.60q: %w", string(key), ErrExhausted)
			continue
		}
		taken[key] = knowledge.Term{Round: round + 1, Owner: self}
	}
	if len(taken) == 0 {
		return nil, err
	}
	if saveErr := t.raise(taken); saveErr != nil {
		return nil, errors.Join(err, saveErr)
	}
	return taken, err
}

// Refused counts the terms that were refused because a higher one was seen.
func (t *Terms) Refused() uint64 { return t.refused.Load() }

// Crowded reports whether Forget has something to do.
func (t *Terms) Crowded() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.highest) > t.most
}

// Forget drops services for which keep is false, as many as there are above 10,000,
// from the disk, too, and raises the floor above their rounds. It waits for the disk;
// with an error none is dropped, but the floor is up: the disk may have written in spite
// of its error, and a lower floor must never come after that.
func (t *Terms) Forget(keep func(knowledge.ServiceKey) bool) error {
	all := t.All()
	if len(all) <= t.most {
		return nil
	}
	for key := range all {
		if keep(key) {
			delete(all, key)
		}
	}
	t.turn <- struct{}{} // nothing is raised meanwhile
	defer func() { <-t.turn }()
	gone, floor := t.choose(all)
	if len(gone) == 0 {
		return nil
	}
	gone[Floor] = knowledge.Term{Round: floor}
	t.mu.Lock()
	t.floor = floor
	t.mu.Unlock()
	if err := t.saver.SaveTerms(gone); err != nil {
		return fmt.Errorf("cannot forget the terms of %d services: %w", len(gone)-1, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for key := range gone {
		delete(t.highest, key)
	}
	return nil
}

// choose takes as many as are too many of those that did not change.
func (t *Terms) choose(from termsOf) (gone termsOf, floor uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	gone, floor = termsOf{}, t.floor
	for key, term := range from {
		if len(gone) >= len(t.highest)-t.most {
			break
		}
		if t.highest[key] == term {
			gone[key] = knowledge.Term{}
			floor = max(floor, term.Round, term.Round+1) // the last one does not wrap
		}
	}
	return gone, floor
}

// All is a copy of the highest terms seen.
func (t *Terms) All() map[knowledge.ServiceKey]knowledge.Term {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.highest)
}

// Try saves the floor once more, to test whether terms can be saved now. A floor of one is
// below every term.
func (t *Terms) Try() error {
	t.turn <- struct{}{}
	defer func() { <-t.turn }()
	t.mu.Lock()
	floor := max(t.floor, 1)
	t.mu.Unlock()
	if err := t.saver.SaveTerms(map[knowledge.ServiceKey]knowledge.Term{Floor: {Round: floor}}); err != nil {
		return fmt.Errorf("cannot save a term: %w", err)
	}
	t.mu.Lock()
	t.floor = floor
	t.mu.Unlock()
	return nil
}
