package demo

import (
	"context"
	"fmt"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape/analyse"
	"github.com/effiscale/effiscale/mape/monitor"
	"github.com/effiscale/effiscale/mape/plan"
)

const (
	// period is that of the CPU quota, and the step of the simulation.
	period = knowledge.DefaultPeriod
	// serviceMemory is what the service needs when it holds nothing.
	serviceMemory = 15 * knowledge.MiB
	// restartTakes is how long a killed service is away.
	restartTakes = 500 * time.Millisecond
	// liveSpeed is how much faster than the clock a simulation is shown on a terminal.
	liveSpeed = 10
	// deliberateEvery and staleAfter are the daemon's defaults.
	deliberateEvery = 10 * time.Second
	staleAfter      = 15 * time.Second
)

// simulation is one run against a simulated kernel. Time begins anew with it.
type simulation struct {
	*demo
	scaled bool
	at     time.Duration
	kernel knowledge.Sample // counters and limits
	born   time.Duration    // start of the service's present process
	// backlog is the work that waits, in core-seconds.
	backlog float64
	owed    float64 // requests that are due, a fraction of one
	all     *latencies
	recent  *latencies
	res     result

	track    monitor.Track
	reflex   plan.Reflex
	policy   knowledge.Policy
	envelope knowledge.Envelope
}

// simulate plays both runs in virtual time.
func (d *demo) simulate(ctx context.Context) (fixed, scaled result, err error) {
	for _, run := range []struct {
		scaled bool
		res    *result
	}{{false, &fixed}, {true, &scaled}} {
		d.screen.begin(run.scaled)
		s := d.newSimulation(run.scaled)
		if err := s.run(ctx); err != nil {
			return fixed, scaled, err
		}
		*run.res = s.res
	}
	return fixed, scaled, nil
}

func (d *demo) newSimulation(scaled bool) *simulation {
	s := &simulation{demo: d, scaled: scaled, all: newLatencies(), recent: newLatencies()}
	s.kernel.Have = knowledge.HasCPU | knowledge.HasThrottle | knowledge.HasMemory | knowledge.HasMemoryStat |
		knowledge.HasLimits | knowledge.HasOOM
	s.kernel.Quota, s.kernel.Period, s.kernel.MemoryLimit = d.plan.limits.CPU, period, d.plan.limits.Memory
	s.policy = knowledge.Policy{
		Managed: true, Mode: knowledge.ModeAuto, ThrottleTarget: 0.06, MemoryPercentile: 0.98, MemoryShrink: true,
		CPU: knowledge.Range[knowledge.NanoCPU]{
			Min: knowledge.OneCPU / 10, Max: knowledge.FromCores(d.plan.maxCPU),
		},
		Memory:        knowledge.Range[knowledge.Bytes]{Min: minMem, Max: d.plan.maxMem},
		ShrinksPerDay: 48, ShrinkAfter: 10 * time.Minute, OOMProtect: time.Hour, Weight: 50,
	}
	return s
}

// now is the time of the simulation.
func (s *simulation) now() time.Time { return time.Unix(1_700_000_000, 0).Add(s.at) }

func (s *simulation) run(ctx context.Context) error {
	window := s.kernel
	for s.at < s.plan.each {
		s.at += period
		s.work()
		s.memory()
		if s.scaled {
			s.decide()
		}
		if s.at%time.Second != 0 {
			continue
		}
		s.tick(window)
		window = s.kernel
		if err := s.pause(ctx); err != nil {
			return err
		}
	}
	s.res.p50, s.res.p99, s.res.throttled = s.all.quantile(0.5), s.all.quantile(0.99), s.kernel.ThrottledTime
	return nil
}

// pause lets a person see the picture change.
func (s *simulation) pause(ctx context.Context) error {
	if s.Plain {
		return ctx.Err()
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Second / liveSpeed):
		return nil
	}
}

// work passes one period of the quota: requests arrive, wait, and are served as far as the
// quota goes.
func (s *simulation) work() {
	demand := s.plan.demand(s.at.Seconds() / s.plan.each.Seconds())
	arrived := demand * period.Seconds()
	limit := min(s.kernel.Quota.Cores(), float64(s.plan.cores))
	if s.at-s.born < restartTakes && s.born > 0 {
		limit = 0
	}
	wait := timeout
	if limit > 0 {
		wait = min(time.Duration(s.backlog/limit*float64(time.Second)), timeout)
	}
	s.requests(arrived, wait)
	if wait >= timeout {
		arrived = 0 // those have given up
	}
	s.backlog += arrived
	served := min(s.backlog, limit*period.Seconds())
	s.backlog -= served
	s.kernel.CPUUsage += time.Duration(served * float64(time.Second))
	s.kernel.Periods++
	if s.backlog > 1e-9 {
		s.kernel.Throttled++
		held := min(s.backlog, float64(s.plan.cores)*period.Seconds()-served)
		s.kernel.ThrottledTime += time.Duration(max(held, 0) * float64(time.Second))
	}
	s.res.reservedCPU += s.kernel.Quota.Cores() * period.Seconds()
	s.res.reservedMem += float64(s.kernel.MemoryLimit) / float64(knowledge.GiB) * period.Seconds()
	s.res.peakCPU = max(s.res.peakCPU, s.kernel.Quota.Cores())
	s.res.peakMem = max(s.res.peakMem, s.kernel.MemoryLimit)
}

// requests counts those that arrive in a period, which all wait as long.
func (s *simulation) requests(work float64, wait time.Duration) {
	s.owed += work / workPerRequest.Seconds()
	for ; s.owed >= 1; s.owed-- {
		s.res.sent++
		s.all.add(wait + workPerRequest)
		s.recent.add(wait + workPerRequest)
		if wait >= timeout {
			s.res.failed++
		}
	}
}

// memory is what the service holds; over the limit the kernel kills it.
func (s *simulation) memory() {
	use := serviceMemory + s.plan.held(s.at-s.born)
	if use > s.kernel.MemoryLimit {
		s.res.kills++
		s.kernel.OOM++
		s.kernel.OOMKills++
		s.screen.decision("killed by the kernel: out of memory at " + s.kernel.MemoryLimit.String() + "; started again")
		s.born, s.backlog, use = s.at, 0, serviceMemory
	}
	s.kernel.At, s.kernel.MemoryUsage, s.kernel.Anon = s.now(), use, use
}

// decide is the daemon's loop: monitor, analyse, plan, and the new limit in force.
func (s *simulation) decide() {
	now, host := s.now(), knowledge.Host{CPUs: s.plan.cores, Memory: 8 * knowledge.GiB}
	s.track.Observe(&s.kernel, s.plan.cores)
	w := &s.track.Window
	if s.envelope.At.IsZero() || now.Sub(s.envelope.At) >= deliberateEvery {
		s.envelope = plan.Deliberate(now, plan.Facts{}, &s.policy, host, s.envelope)
	}
	f := analyse.Assess(now, w, &s.policy, nil, staleAfter)
	for _, d := range []knowledge.Decision{
		s.reflex.CPU(now, &f, w, &s.envelope, &s.policy), s.reflex.Memory(now, &f, w, &s.envelope, &s.policy),
	} {
		if d.Verb == knowledge.Hold || d.To == d.From || d.To == 0 {
			continue
		}
		s.reflex.Applied(now, d)
		if d.Resource == knowledge.ResourceMemory {
			s.screen.decision(fmt.Sprintf("memory %s -> %s: %s", knowledge.Bytes(d.From), knowledge.Bytes(d.To), d.Reason))
			s.kernel.MemoryLimit = knowledge.Bytes(d.To)
			continue
		}
		s.screen.decision(fmt.Sprintf("cpu %s -> %s cores: %s", knowledge.NanoCPU(d.From), knowledge.NanoCPU(d.To), d.Reason))
		s.kernel.Quota = knowledge.NanoCPU(d.To)
	}
}

// tick shows the second since the window's counters.
func (s *simulation) tick(window knowledge.Sample) {
	x := s.at.Seconds() / s.plan.each.Seconds()
	t := tick{
		scaled: s.scaled, at: s.at, x: x, demand: s.plan.demand(x), use: (s.kernel.CPUUsage - window.CPUUsage).Seconds(),
		limit: s.kernel.Quota.Cores(), memory: s.kernel.MemoryUsage, memLimit: s.kernel.MemoryLimit,
		throttled: float64(s.kernel.Throttled-window.Throttled) / float64(s.kernel.Periods-window.Periods),
		p99:       s.recent.quantile(0.99), failed: s.res.failed,
	}
	s.recent.reset()
	s.res.add(t)
	s.screen.tick(t)
}
