package actor

import (
	"context"
	"errors"
	"sync"
	"testing"
)

var errEnded = errors.New("ended")

// serve runs calls until ctx ends.
func serve(ctx context.Context, a *Actor) {
	defer a.Ended()
	for {
		select {
		case f := <-a.Calls():
			f()
		case <-ctx.Done():
			return
		}
	}
}

// Calls run one at a time, each once.
func TestCallsDoNotOverlap(t *testing.T) {
	for _, room := range []int{0, 8} {
		a := New(room, errEnded)
		ctx, cancel := context.WithCancel(t.Context())
		go serve(ctx, a)
		n := 0 // the goroutine's
		var group sync.WaitGroup
		for i := range 100 {
			group.Go(func() {
				if i%2 == 0 {
					a.Post(ctx, func() { n++ })
				} else if err := a.Do(ctx, func() { n++ }); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		var got int
		for got < 100 { // posted calls come before this one
			if err := a.Do(ctx, func() { got = n }); err != nil {
				t.Fatal(err)
			}
		}
		cancel()
		<-a.Stopped()
		if err := a.Do(t.Context(), func() { t.Error("it runs after the end") }); !errors.Is(err, errEnded) {
			t.Errorf("after the end: %v", err)
		}
	}
}

// A call whose caller gave up does not run later.
func TestWhatWasGivenUpDoesNotRun(t *testing.T) {
	a := New(1, errEnded)
	ctx, cancel := context.WithCancel(t.Context())
	answer := make(chan error)
	go func() { answer <- a.Do(ctx, func() { t.Error("it runs") }) }()
	for len(a.calls) == 0 { // until it is queued
	}
	full, stop := context.WithCancel(t.Context())
	stop()
	if err := a.Do(full, func() {}); !errors.Is(err, context.Canceled) {
		t.Errorf("a full queue: %v", err)
	}
	cancel()
	if err := <-answer; !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
	(<-a.Calls())()
	if a.Post(t.Context(), func() {}); len(a.calls) != 1 {
		t.Error("no room after the queue was read")
	}
	if a.Post(full, func() {}) || a.TryPost(func() {}) {
		t.Error("posted to a full queue")
	}
	(<-a.Calls())()
	if !a.TryPost(func() {}) {
		t.Error("no room after the queue was read again")
	}
}

// A call that began is waited for, although its caller's context ended.
func TestACallThatBeganIsWaitedFor(t *testing.T) {
	a := New(0, errEnded)
	ctx, cancel := context.WithCancel(t.Context())
	done := false
	answer := make(chan error)
	go func() { answer <- a.Do(ctx, func() { cancel(); done = true }) }()
	(<-a.Calls())()
	if err := <-answer; err != nil || !done {
		t.Errorf("%v, %v", err, done)
	}
}
