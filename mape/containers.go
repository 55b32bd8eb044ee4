package mape

import (
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape/execute"
	"github.com/effiscale/effiscale/mape/service"
)

// ErrUnknown and ErrAmbiguous say why a reference names no container.
var (
	ErrUnknown   = errors.New("no such container")
	ErrAmbiguous = errors.New("more than one container")
)

// containerSet is all containers of this host.
type containerSet struct {
	byID  map[knowledge.ContainerID]*container
	order []*container
	// due is when each of order is read next, since the loop began. It lies apart so
	// that a tick touches no container that is not due. next is the earliest of them.
	due  []time.Duration
	next time.Duration
	// all are the containers as execution needs them; made once, because each tick uses
	// it.
	all iter.Seq[*execute.Container]
}

func newContainerSet() *containerSet {
	s := &containerSet{byID: map[knowledge.ContainerID]*container{}}
	s.all = func(yield func(*execute.Container) bool) {
		for _, c := range s.order {
			if !yield(&c.Container) {
				return
			}
		}
	}
	return s
}

func (s *containerSet) add(c *container) {
	c.slot = len(s.order)
	s.byID[c.ID] = c
	s.order = append(s.order, c)
	s.due = append(s.due, 0)
}

func (s *containerSet) remove(c *container) {
	delete(s.byID, c.ID)
	last := len(s.order) - 1
	s.order[c.slot], s.due[c.slot] = s.order[last], s.due[last]
	s.order[c.slot].slot = c.slot
	s.order[last] = nil
	s.order, s.due = s.order[:last], s.due[:last]
}

// readFirst spreads first readings over the next ticks: a thousand containers would
// else be due at the same instant for ever. at is now, as in due.
func (s *containerSet) readFirst(c *container, at time.Duration) {
	s.due[c.slot] = at + time.Duration(c.slot%10)*tickEvery
}

// readAgain makes the container due after about that time.
func (s *containerSet) readAgain(c *container, at, every time.Duration) {
	s.due[c.slot] = onGrid(at, every, c.slot)
	s.next = min(s.next, s.due[c.slot])
}

// onGrid is when what happens at an instant is due again. What is not urgent falls on
// whole seconds, so that the process sleeps in between, and slots that wait longer
// than one share the seconds evenly. Below a second all fall on the same ticks: a wake-up
// costs more than a look.
func onGrid(at, every time.Duration, slot int) time.Duration {
	grid := tickEvery
	if every >= time.Second {
		grid = time.Second
	}
	steps := max((every+grid/2)/grid, 1)
	next := (at+grid/2)/grid + steps
	if grid == time.Second {
		next -= ((next-time.Duration(slot))%steps + steps) % steps
	} else {
		next -= next % steps
	}
	if next*grid <= at {
		next += steps
	}
	return next * grid
}

// readSoon makes the container due in the next tick.
func (s *containerSet) readSoon(c *container) { s.due[c.slot] = 0 }

// inspectSoon lets the next tick inspect the container, at most once in inspectApart.
func (s *containerSet) inspectSoon(c *container) {
	c.inspect = true
	s.readSoon(c)
}

// of are the containers of a service.
func (s *containerSet) of(sv *service.Service) iter.Seq[*container] {
	return func(yield func(*container) bool) {
		for _, c := range s.order {
			if c.service == sv && !yield(c) {
				return
			}
		}
	}
}

// endHold lets automation change a service's containers again after changes by others, and
// returns those that it did not change until now.
func (s *containerSet) endHold(now time.Time, sv *service.Service) (held []string) {
	for c := range s.of(sv) {
		if c.Marks.Pinned || now.Before(c.Marks.ExternalUntil) {
			held = append(held, c.Name)
		}
		c.Marks.ExternalUntil, c.Marks.Pinned, c.changed = time.Time{}, false, true
	}
	return held
}

// managed is how many containers are measured and acted upon.
func (s *containerSet) managed() (n int) {
	for _, c := range s.order {
		if c.managed() {
			n++
		}
	}
	return n
}

// find resolves a full id, a unique prefix of at least 12 hex digits, or an exact name.
func (s *containerSet) find(ref string) (*container, error) {
	if c := s.byID[knowledge.ContainerID(ref)]; c != nil {
		return c, nil
	}
	var found *container
	for _, c := range s.order {
		if c.Name == ref {
			return c, nil
		}
		if len(ref) >= 12 && strings.HasPrefix(string(c.ID), ref) {
			if found != nil {
				return nil, fmt.Errorf("%w begin with %q: give more digits", ErrAmbiguous, ref)
			}
			found = c
		}
	}
	if found == nil {
		return nil, fmt.Errorf("%w %q on this host: `effiscale status` lists them", ErrUnknown, ref)
	}
	return found, nil
}
