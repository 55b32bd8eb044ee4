package node

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/effiscale/effiscale/docker/cgroup"
	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape/execute"
)

// probes opens what containers are measured by.
type probes struct {
	kernel *cgroup.Host // nil: cannot be read
	engine *record
	log    zerolog.Logger
	turns  chan struct{} // tokens for the containers whose statistics are requested
	once   sync.Once     // the fall-back is logged once
	// missing counts looks for kernel files that are not there; the loop's goroutine only.
	missing map[knowledge.ContainerID]int
}

const (
	// missingMost is how often, a second or more apart, the kernel files of a running
	// container are looked for before the Engine's statistics replace them.
	missingMost = 3
	// missingKept bounds the containers whose looks are counted.
	missingKept = 1024
)

func newProbes(kernel *cgroup.Host, engine containerEngine, log zerolog.Logger) *probes {
	return &probes{kernel: kernel, engine: newRecord(engine), log: log, turns: make(chan struct{}, statsAtOnce),
		missing: map[knowledge.ContainerID]int{}}
}

// attach opens a container's kernel files; where there are none, the Engine's statistics
// replace them.
func (p *probes) attach(c knowledge.Container) (execute.Probe, error) {
	if p.kernel == nil {
		return newStatsProbe(p.engine, c.ID, p.turns), nil
	}
	files, err := p.kernel.Attach(c)
	if err == nil {
		return files, nil
	}
	if !errors.Is(err, cgroup.ErrNotFound) || !c.Inspected || c.PID <= 0 {
		return nil, err
	}
	if len(p.missing) >= missingKept {
		clear(p.missing)
	}
	if p.missing[c.ID]++; p.missing[c.ID] < missingMost { // most likely it is just going away
		return nil, err
	}
	delete(p.missing, c.ID)
	p.once.Do(func() {
		p.log.Warn().Err(err).Str("container", c.Name).Msg("container has no kernel files; sampling the Engine's statistics")
	})
	return newStatsProbe(p.engine, c.ID, p.turns), nil
}

// statsEvery is how often the Engine is asked where kernel files cannot be read:
// one answer takes it a second (Engine 20.10).
const statsEvery = 5 * time.Second

// statsAtOnce bounds the requests at a time. The Engine's client has sixteen connections:
// updates must find one, and a request that waits for its turn there looks like an Engine
// that does not answer.
const statsAtOnce = 8

// statsProbe replaces kernel files: the Engine's one-shot statistics, and the limits of its
// record, read beside the loop. It cannot write, so every change goes through the Engine.
type statsProbe struct {
	id     knowledge.ContainerID
	record *record
	cancel context.CancelFunc
	mu     sync.Mutex // guards what follows
	sample knowledge.Sample
	fresh  bool
	every  time.Duration // between the newest two answers
	err    error
}

var _ execute.Probe = (*statsProbe)(nil)

// newStatsProbe requests statistics of one container when it gets one of the shared turns.
func newStatsProbe(r *record, id knowledge.ContainerID, turns chan struct{}) *statsProbe {
	ctx, cancel := context.WithCancel(context.Background())
	p := &statsProbe{id: id, record: r, cancel: cancel, every: statsEvery}
	r.follow(id)
	go p.poll(ctx, turns)
	return p
}

func (p *statsProbe) poll(ctx context.Context, turns chan struct{}) {
	for {
		select {
		case turns <- struct{}{}:
		case <-ctx.Done():
			return
		}
		var s knowledge.Sample
		_, err := p.record.Inspect(ctx, p.id) // the limits, which statistics do not have
		if err == nil || !p.record.Gone(err) {
			err = p.record.Stats(ctx, p.id, &s)
		}
		<-turns
		p.mu.Lock()
		switch {
		case err == nil:
			if gap := s.At.Sub(p.sample.At); !p.sample.At.IsZero() {
				p.every = max(statsEvery, gap)
			}
			p.sample, p.fresh, p.err = s, true, nil
		case p.record.Gone(err):
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
// CPU time is asked for; between answers there is nothing new. The limits are those of the
// Engine's record, and missing while that is not known.
func (p *statsProbe) Read(s *knowledge.Sample, groups knowledge.Signals) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return p.err
	}
	if groups&knowledge.HasCPU != 0 && p.fresh {
		*s, p.fresh = p.sample, false
		groups |= knowledge.HasLimits
	}
	if groups&knowledge.HasLimits == 0 {
		return nil
	}
	s.Have &^= knowledge.HasLimits
	if l, ok := p.record.limits(p.id); ok {
		s.Quota, s.Period, s.MemoryLimit, s.MemoryHigh = l.CPU, l.Period, l.Memory, 0
		s.Have |= knowledge.HasLimits
	}
	return nil
}

// Every is the time between two answers: longer where many containers wait for theirs.
func (p *statsProbe) Every() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.every
}

var errNoKernel = errors.New("no kernel files to write")

func (p *statsProbe) SetQuota(knowledge.NanoCPU, time.Duration) error { return errNoKernel }
func (p *statsProbe) SetMemory(_, _ knowledge.Bytes) error            { return errNoKernel }
func (p *statsProbe) SetHigh(knowledge.Bytes) error                   { return errNoKernel }
func (p *statsProbe) Writable() bool                                  { return false }
func (p *statsProbe) SetPID(int)                                      {}

// Close ends the polling.
func (p *statsProbe) Close() error {
	p.cancel()
	p.record.forget(p.id)
	return nil
}
