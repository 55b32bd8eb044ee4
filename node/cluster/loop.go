package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/effiscale/effiscale/mape/actor"
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
	calls  *actor.Actor
	jobs   sync.WaitGroup
	ctx    context.Context // of the jobs
	cancel context.CancelFunc
}

func newLoop() *loop {
	l := &loop{calls: actor.New(queueMost, errStopped)}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

// do runs f on the goroutine and waits for it. With an error f has not run, and never will.
func (l *loop) do(ctx context.Context, f func()) error {
	err := l.calls.Do(ctx, f)
	if err != nil && err != errStopped {
		return fmt.Errorf("%w: %w", errBusy, err)
	}
	return err
}

// spawn runs f beside the goroutine; its result comes back by post.
func (l *loop) spawn(f func(ctx context.Context)) {
	l.jobs.Go(func() { f(l.ctx) })
}

// post queues a closure; it is dropped when the cluster ends.
func (l *loop) post(f func()) { l.calls.Post(l.ctx, f) }
