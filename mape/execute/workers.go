package execute

import (
	"context"
	"sync"
)

// Workers call the Engine and the disk while the loop goes on measuring. The function
// that a job returns runs on the loop's goroutine.
type Workers struct {
	ctx    context.Context
	cancel context.CancelFunc
	jobs   chan func(context.Context) func()
	done   chan func()
	group  sync.WaitGroup
	// limit bounds what is queued: a job or two for each container.
	limit int
	open  int // jobs whose results were not finished yet; loop's goroutine only
}

// NewWorkers starts workers that end with ctx or Close.
func NewWorkers(ctx context.Context, workers, limit int) *Workers {
	ctx, cancel := context.WithCancel(ctx)
	h := &Workers{
		ctx: ctx, cancel: cancel, limit: limit,
		jobs: make(chan func(context.Context) func(), limit),
		done: make(chan func(), limit),
	}
	for range workers {
		h.group.Go(h.run)
	}
	return h
}

func (h *Workers) run() {
	for {
		select {
		case <-h.ctx.Done():
			return
		case job := <-h.jobs:
			if after := job(h.ctx); after != nil {
				h.done <- after
			} else {
				h.done <- func() {}
			}
		}
	}
}

// Do queues a job. It reports false when too many are waiting: try again later.
func (h *Workers) Do(job func(ctx context.Context) func()) bool {
	if h.open >= h.limit {
		return false
	}
	h.open++
	h.jobs <- job
	return true
}

// Results are the functions that finished jobs returned; pass each to Finish on the
// loop's goroutine.
func (h *Workers) Results() <-chan func() { return h.done }

// Finish runs the result of a job.
func (h *Workers) Finish(after func()) {
	h.open--
	after()
}

// Open is how many jobs are in progress.
func (h *Workers) Open() int { return h.open }

// Close ends the workers and waits for the jobs that run.
func (h *Workers) Close() {
	h.cancel()
	h.group.Wait()
}
