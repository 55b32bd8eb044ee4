package cluster

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
)

// queueMost bounds the closures that wait for the goroutine.
const queueMost = 1024

var (
	errBusy    = errors.New("overloaded, retry later")
	errStopped = errors.New("shutting down")
)

// loop is the goroutine that owns the state of this package: what takes time runs beside
// it, and its result comes back as a closure.
type loop struct {
	queue   chan func()
	stopped chan struct{} // closed when the goroutine ends
	jobs    sync.WaitGroup
	ctx     context.Context // of the jobs
	cancel  context.CancelFunc
}

func newLoop() *loop {
	l := &loop{queue: make(chan func(), queueMost), stopped: make(chan struct{})}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

// do runs f on the goroutine and waits for it. With an error f has not run, and never will.
func (l *loop) do(ctx context.Context, f func()) error {
	ran := make(chan struct{})
	var begun atomic.Bool // by the goroutine, or never by the caller
	select {
	case l.queue <- func() {
		if begun.CompareAndSwap(false, true) {
			f()
			close(ran)
		}
	}:
	case <-l.stopped:
		return errStopped
	case <-ctx.Done():
		return errBusy
	}
	var err error
	select {
	case <-ran:
		return nil
	case <-l.stopped:
		err = errStopped
	case <-ctx.Done():
		err = ctx.Err()
	}
	if begun.CompareAndSwap(false, true) {
		return err
	}
	<-ran
	return nil
}

// spawn runs f beside the goroutine; its result comes back by post.
func (l *loop) spawn(f func(ctx context.Context)) {
	l.jobs.Go(func() { f(l.ctx) })
}

// post queues a closure; it is dropped when the cluster ends.
func (l *loop) post(f func()) {
	select {
	case l.queue <- f:
	case <-l.stopped:
	case <-l.ctx.Done():
	}
}
