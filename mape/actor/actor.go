// Package actor runs functions on a goroutine that owns some state, so that the state
// needs no lock. The goroutine receives from Calls and runs what comes; others use Do,
// Post and TryPost.
package actor

import (
	"context"
	"sync/atomic"
)

// Actor is the queue of calls to one goroutine.
type Actor struct {
	calls   chan func()
	stopped chan struct{}
	err     error // of calls after the end
}

// New makes a queue with room for that many calls that wait; stopped is the error of
// Do after Ended.
func New(room int, stopped error) *Actor {
	return &Actor{calls: make(chan func(), room), stopped: make(chan struct{}), err: stopped}
}

// Calls are the functions that the goroutine has to run.
func (a *Actor) Calls() <-chan func() { return a.calls }

// Ended is called by the goroutine when it ends, once.
func (a *Actor) Ended() { close(a.stopped) }

// Stopped is closed when the goroutine has ended.
func (a *Actor) Stopped() <-chan struct{} { return a.stopped }

// Do runs f on the goroutine and waits for it. With an error f has not run and never
// will.
func (a *Actor) Do(ctx context.Context, f func()) error {
	ran := make(chan struct{})
	var taken atomic.Bool // by the goroutine, or by the caller that gave up
	select {
	case a.calls <- func() {
		if taken.CompareAndSwap(false, true) {
			f()
			close(ran)
		}
	}:
	case <-a.stopped:
		return a.err
	case <-ctx.Done():
		return ctx.Err()
	}
	var err error
	select {
	case <-ran:
		return nil
	case <-a.stopped:
		err = a.err
	case <-ctx.Done():
		err = ctx.Err()
	}
	if taken.CompareAndSwap(false, true) {
		return err
	}
	<-ran
	return nil
}

// Post queues f without waiting for it. It reports false when ctx or the goroutine
// ended first: f never runs then.
func (a *Actor) Post(ctx context.Context, f func()) bool {
	select {
	case a.calls <- f:
		return true
	case <-a.stopped:
	case <-ctx.Done():
	}
	return false
}

// TryPost queues f where there is room. It reports false where there is none: f never
// runs then.
func (a *Actor) TryPost(f func()) bool {
	select {
	case a.calls <- f:
		return true
	default:
		return false
	}
}
