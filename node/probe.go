package node

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/effiscale/effiscale/docker"
	"github.com/effiscale/effiscale/docker/cgroup"
	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape/execute"
)

// statsEvery is how often the Engine is asked where kernel files cannot be read:
// one answer takes it a second (Engine 20.10).
const statsEvery = 5 * time.Second

// statsAtOnce bounds the containers that are asked about at a time. The Engine's
// door has sixteen connections: updates must find one, and a question that waits
// for its turn there looks like an Engine that does not answer.
const statsAtOnce = 8

// statsProbe stands in for kernel files: the Engine's one-shot statistics, read
// beside the loop. It cannot write, so every change goes through the Engine.
type statsProbe struct {
	cancel context.CancelFunc
	mu     sync.Mutex // guards what follows
	sample knowledge.Sample
	fresh  bool
	err    error
}

var _ execute.Probe = (*statsProbe)(nil)

// newStatsProbe asks about one container when it gets one of the shared turns.
func newStatsProbe(c *docker.Client, id knowledge.ContainerID, turns chan struct{}) *statsProbe {
	ctx, cancel := context.WithCancel(context.Background())
	p := &statsProbe{cancel: cancel}
	go p.poll(ctx, c, id, turns)
	return p
}

func (p *statsProbe) poll(ctx context.Context, c *docker.Client, id knowledge.ContainerID, turns chan struct{}) {
	for {
		select {
		case turns <- struct{}{}:
		case <-ctx.Done():
			return
		}
		var s knowledge.Sample
		err := c.Stats(ctx, id, &s)
		<-turns
		p.mu.Lock()
		switch {
		case err == nil:
			p.sample, p.fresh, p.err = s, true, nil
		case docker.IsGone(err):
			p.err = cgroup.ErrGone
		}
		p.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-time.After(statsEvery):
		}
	}
}

// Read returns the newest answer once, with all groups that it holds, when the
// CPU time is asked for; between answers there is nothing new. Of the limits only
// the memory limit is known.
func (p *statsProbe) Read(s *knowledge.Sample, groups knowledge.Signals) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return p.err
	}
	if groups&knowledge.HasCPU != 0 && p.fresh {
		*s, p.fresh = p.sample, false
	}
	if groups&knowledge.HasLimits != 0 {
		s.MemoryLimit, s.Quota = p.sample.MemoryLimit, p.sample.Quota
		s.Have |= p.sample.Have & knowledge.HasLimits
	}
	return nil
}

var errNoKernel = errors.New("no kernel files to write")

func (p *statsProbe) SetQuota(knowledge.NanoCPU, time.Duration) error { return errNoKernel }
func (p *statsProbe) SetHigh(knowledge.Bytes) error                   { return errNoKernel }
func (p *statsProbe) Writable() bool                                  { return false }
func (p *statsProbe) SetPID(int)                                      {}

// Close ends the polling.
func (p *statsProbe) Close() error {
	p.cancel()
	return nil
}
