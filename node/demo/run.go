package demo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/effiscale/effiscale/docker"
	"github.com/effiscale/effiscale/docker/cgroup"
	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/node/api"
)

const (
	// upWithin bounds the start of the service.
	upWithin = 30 * time.Second
	// seenWithin bounds how long the daemon may take to see the container.
	seenWithin = 30 * time.Second
	// lookEvery is how often the daemon is asked for its decisions.
	lookEvery = 250 * time.Millisecond
)

// result is the outcome of one run.
type result struct {
	sent, failed int64
	p50, p99     time.Duration
	throttled    time.Duration // summed over CPUs
	reservedCPU  float64       // core-seconds of limit
	reservedMem  float64       // GiB-seconds of limit
	peakCPU      float64       // highest limit, cores
	peakMem      knowledge.Bytes
	kills        int
	demand       []float64 // one point a tick, cores
	limit        []float64
	use          []float64
	memory       []float64 // MiB
	memLimit     []float64
	others       float64 // cores that the rest of the host used meanwhile
}

// add takes the figures of one second for the chart.
func (r *result) add(t tick) {
	r.demand = append(r.demand, t.demand)
	r.limit = append(r.limit, t.limit)
	r.use = append(r.use, t.use)
	r.memory = append(r.memory, float64(t.memory)/float64(knowledge.MiB))
	r.memLimit = append(r.memLimit, float64(t.memLimit)/float64(knowledge.MiB))
}

// run is one of the two runs. One goroutine owns it; the generator has its own.
type run struct {
	*demo
	id      knowledge.ContainerID
	name    string
	daemon  *api.Client
	scaled  bool
	sampler *sampler
	gen     *generator
	start   time.Time
	prev    knowledge.Sample
	res     result
	// throttledBefore is the throttled time of processes that were killed.
	throttledBefore time.Duration
	// usedBefore is the CPU time of processes that were killed.
	usedBefore time.Duration
	usage      *cgroup.HostReader // nil: kernel files cannot be read
	before     cgroup.HostSample  // of the start
	lastCPU    knowledge.NanoCPU
	lastMem    knowledge.Bytes
}

// play starts the service, runs the load and gathers the result.
func (r *run) play(ctx context.Context) (result, error) {
	defer r.sampler.close()
	r.screen.begin(r.scaled)
	r.gen = newGenerator(&r.plan, time.Now())
	if err := r.up(ctx); err != nil {
		return r.res, err
	}
	if r.daemon != nil {
		if err := r.seen(ctx); err != nil {
			return r.res, err
		}
	}
	if r.cgroup != nil {
		if usage, err := r.cgroup.OpenUsage(); err == nil && usage.Read(&r.before) == nil {
			r.usage = usage
			defer usage.Close()
		}
	}
	r.start, r.lastCPU, r.lastMem = time.Now(), r.plan.limits.CPU, r.plan.limits.Memory
	loadCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.gen.run(loadCtx)
	}()
	err := r.watch(ctx, done)
	cancel()
	<-done
	r.res.sent, r.res.failed = r.gen.sent.Load(), r.gen.failed.Load()
	r.res.p50, r.res.p99 = r.gen.all.quantile(0.5), r.gen.all.quantile(0.99)
	r.res.throttled = r.throttledBefore + r.prev.ThrottledTime
	return r.res, err
}

// up starts the container and waits until the service answers.
func (r *run) up(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, upWithin)
	defer cancel()
	if err := r.engine.Start(ctx, r.id); err != nil {
		return err
	}
	born := time.Now()
	r.gen.born.Store(&born)
	if err := r.sampler.attach(ctx, r.id); err != nil {
		return err
	}
	targets, err := r.engine.Endpoints(ctx, r.id, servePort)
	if errors.Is(err, docker.ErrNoNetwork) {
		return fmt.Errorf("the demo sends its requests over the Docker Engine's bridge, and the Engine at %s has none: "+
			"start it without --bridge=none (\"bridge\": \"none\" in daemon.json), or name another Engine by DOCKER_HOST: %w",
			r.Host, err)
	}
	if err != nil {
		return err
	}
	slices.Reverse(targets) // the container's own address first: it needs no proxy
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		for _, t := range targets {
			r.gen.target.Store(&t)
			if err = r.gen.call(ctx, "POST", "/hold/0"); err == nil {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the demo's service does not answer on %v within %s: %v", targets, upWithin, err)
		case <-tick.C:
		}
	}
}

// seen waits until the daemon manages the container.
func (r *run) seen(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, seenWithin)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		v, err := view(ctx, r.daemon, r.name)
		if err == nil && v.Managed && !v.SampledAt.IsZero() {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the demo's daemon does not manage container %s within %s: %v %s", r.name, seenWithin, err, v.Why)
		case <-tick.C:
		}
	}
}

// watch samples, shows the figures, and starts a killed service again, until the load has
// ended.
func (r *run) watch(ctx context.Context, done <-chan struct{}) error {
	sample := time.NewTicker(r.sampler.pace())
	defer sample.Stop()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	window := r.prev
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-done:
			return r.others()
		case <-sample.C:
			if r.sample(ctx) != nil {
				if err := r.revive(ctx); err != nil {
					return err
				}
				window = knowledge.Sample{}
			}
			if window.At.IsZero() {
				window = r.prev
			}
		case <-tick.C:
			r.tick(window)
			window = r.prev
		case <-look.C:
			if r.daemon != nil {
				r.decisions(ctx)
			}
		}
	}
}

// others records what the rest of the host used while the load ran.
func (r *run) others() error {
	var after cgroup.HostSample
	if r.usage == nil || r.usage.Read(&after) != nil {
		return nil
	}
	if dt := after.At.Sub(r.before.At); dt > 0 {
		r.res.others = max(0, (after.Busy-r.before.Busy-r.usedBefore-r.prev.CPUUsage).Seconds()/dt.Seconds())
	}
	return nil
}

// sample reads once and adds what was reserved since the last time.
func (r *run) sample(ctx context.Context) error {
	s, err := r.sampler.read(ctx)
	if err != nil {
		return err
	}
	if dt := s.At.Sub(r.prev.At).Seconds(); !r.prev.At.IsZero() && dt > 0 {
		r.res.reservedCPU += r.prev.Quota.Cores() * dt
		r.res.reservedMem += float64(r.prev.MemoryLimit) / float64(knowledge.GiB) * dt
	}
	r.res.peakCPU = max(r.res.peakCPU, s.Quota.Cores())
	r.res.peakMem = max(r.res.peakMem, s.MemoryLimit)
	r.prev = s
	return nil
}

// revive starts the service again when its container has ended: with these loads only the
// kernel's out-of-memory killer ends it.
func (r *run) revive(ctx context.Context) error {
	c, err := r.engine.Inspect(ctx, r.id)
	if err != nil {
		return err
	}
	if c.State == knowledge.StateRunning {
		return nil // a reading that failed once
	}
	r.res.kills++
	r.throttledBefore += r.prev.ThrottledTime
	r.usedBefore += r.prev.CPUUsage
	r.prev = knowledge.Sample{Quota: r.prev.Quota, MemoryLimit: r.prev.MemoryLimit} // limits stay
	r.screen.decision("killed by the kernel: out of memory at " + r.plan.limits.Memory.String() + "; started again")
	return r.up(ctx)
}

// tick shows what happened since the window's sample.
func (r *run) tick(window knowledge.Sample) {
	x := min(time.Since(r.start).Seconds()/r.plan.each.Seconds(), 1)
	t := tick{scaled: r.scaled, at: time.Since(r.start), x: x, demand: r.plan.demand(x),
		limit: r.prev.Quota.Cores(), memory: r.prev.MemoryUsage, memLimit: r.prev.MemoryLimit,
		p99: r.gen.recent.quantile(0.99), failed: r.gen.failed.Load()}
	r.gen.recent.reset()
	if dt := r.prev.At.Sub(window.At).Seconds(); !window.At.IsZero() && dt > 0 {
		t.use = (r.prev.CPUUsage - window.CPUUsage).Seconds() / dt
		if periods := r.prev.Periods - window.Periods; periods > 0 && r.prev.Periods > window.Periods {
			t.throttled = float64(r.prev.Throttled-window.Throttled) / float64(periods)
		}
	}
	r.res.add(t)
	r.screen.tick(t)
}

// decisions shows the changes since the last call, with the daemon's reasons. A call that
// fails is repeated at the next one.
func (r *run) decisions(ctx context.Context) {
	v, err := view(ctx, r.daemon, r.name)
	if err != nil || v.CPULimit == nil || v.MemoryLimit == nil {
		return
	}
	cpu, mem := knowledge.FromCores(*v.CPULimit), knowledge.Bytes(*v.MemoryLimit)
	if cpu != r.lastCPU {
		r.screen.decision(fmt.Sprintf("cpu %s -> %s cores: %s", r.lastCPU, cpu, why(v, "cpu")))
	}
	if mem != r.lastMem {
		r.screen.decision(fmt.Sprintf("memory %s -> %s: %s", r.lastMem, mem, why(v, "memory")))
	}
	r.lastCPU, r.lastMem = cpu, mem
}

// why is the reason of the last change of a resource.
func why(v api.ContainerView, resource string) string {
	if c := v.LastChange; c != nil && c.Resource == resource && c.Why != "" {
		return c.Why
	}
	return v.Why
}
