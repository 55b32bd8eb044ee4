package demo

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

const (
	// timeout is how long a client waits; slower is an error.
	timeout = 2 * time.Second
	// maxWaiting bounds the requests in progress: at the peak of 200 a second and
	// the full timeout 400 would wait; a request beyond the bound is an error.
	maxWaiting = 512
	// holdEvery is the step of a leak.
	holdEvery = 200 * time.Millisecond
)

// latencies is a histogram for several goroutines.
type latencies struct {
	mu   sync.Mutex // guards hist
	hist *hdrhistogram.Histogram
}

func newLatencies() *latencies {
	return &latencies{hist: hdrhistogram.New(100, int64(2*timeout/time.Microsecond), 3)}
}

func (l *latencies) add(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	// What lies beyond the highest value is recorded as that.
	_ = l.hist.RecordValue(min(max(d.Microseconds(), 100), int64(2*timeout/time.Microsecond)))
}

// quantile is the latency that a share q, 0..1, of the requests stayed under.
func (l *latencies) quantile(q float64) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Duration(l.hist.ValueAtQuantile(100*q)) * time.Microsecond
}

func (l *latencies) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hist.Reset()
}

// generator sends requests at a rate that does not depend on the service: an open loop.
// A closed one would be slowed by what it measures.
type generator struct {
	plan   *scenario
	client *http.Client
	// target is the service's address, host:port; it changes when the container
	// had to be started anew.
	target  atomic.Pointer[string]
	born    atomic.Pointer[time.Time] // start of the service's present process
	all     *latencies
	recent  *latencies // since the last tick
	sent    atomic.Int64
	failed  atomic.Int64
	waiting atomic.Int64
}

func newGenerator(p *scenario, born time.Time) *generator {
	g := &generator{plan: p, all: newLatencies(), recent: newLatencies(), client: &http.Client{
		Timeout:   timeout,
		Transport: &http.Transport{MaxIdleConnsPerHost: maxWaiting, MaxConnsPerHost: maxWaiting, DisableCompression: true},
	}}
	g.target.Store(new(string))
	g.born.Store(&born)
	return g
}

// run sends until the plan or the context ends, and waits for the requests in progress.
func (g *generator) run(ctx context.Context) {
	defer g.client.CloseIdleConnections()
	var wg sync.WaitGroup
	defer wg.Wait()
	leakCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	wg.Go(func() { g.leak(leakCtx) })
	start := time.Now()
	due := start
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		for now := time.Now(); !due.After(now); {
			x := due.Sub(start).Seconds() / g.plan.each.Seconds()
			if x >= 1 {
				return
			}
			at := due
			wg.Go(func() { g.request(ctx, at) })
			due = due.Add(time.Duration(float64(workPerRequest) / g.plan.demand(x)))
		}
		timer.Reset(time.Until(due))
	}
}

// request is one request that was due at an instant. Its latency counts from
// there, also when the generator itself was late (no coordinated omission).
func (g *generator) request(ctx context.Context, due time.Time) {
	if g.waiting.Add(1) > maxWaiting {
		g.waiting.Add(-1)
		g.sent.Add(1)
		g.failed.Add(1)
		return
	}
	defer g.waiting.Add(-1)
	err := g.call(ctx, http.MethodGet, "/work")
	if ctx.Err() != nil {
		return
	}
	took := time.Since(due)
	g.sent.Add(1)
	g.all.add(took)
	g.recent.add(took)
	if err != nil {
		g.failed.Add(1)
	}
}

// leak sets the memory that the service holds, again and again.
func (g *generator) leak(ctx context.Context) {
	tick := time.NewTicker(holdEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if b := g.plan.held(time.Since(*g.born.Load())); b > 0 {
			_ = g.call(ctx, http.MethodPost, fmt.Sprintf("/hold/%d", b))
		}
	}
}

func (g *generator) call(ctx context.Context, method, path string) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+*g.target.Load()+path, nil)
	if err != nil {
		return err
	}
	resp, err := g.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<16)); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the service answered %s", resp.Status)
	}
	return nil
}
