package plan_test

import (
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape/analyse"
	"github.com/effiscale/effiscale/mape/monitor"
	"github.com/effiscale/effiscale/mape/plan"
)

// epoch is where the fluid world's clock begins.
var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

const tick = time.Millisecond

// fluid is a container and its kernel as a fluid model: work arrives, runs as
// far as the quota of the running period lets it, and waits otherwise. It counts
// as CFS bandwidth control does: a period's throttling is counted at its end,
// the waiting time when the CPUs are released.
type fluid struct {
	load    func(t time.Duration) float64 // cores of work that arrive
	working func(t time.Duration) knowledge.Bytes
	threads float64 // how many CPUs it can use at once

	at      time.Duration
	phase   time.Duration // of the CFS period
	quota   knowledge.NanoCPU
	limit   knowledge.Bytes
	backlog float64 // core-seconds
	spent   float64 // core-seconds in the running period
	held    float64 // thread-seconds of waiting, not counted yet
	ran     bool
	dry     bool // throttled in this period

	usage, waited      time.Duration
	periods, throttled uint64
	oomKills           uint64
	onset              time.Duration // when it was first made to wait
	delayed            float64       // worst backlog over load: seconds
}

const cfsPeriod = knowledge.DefaultPeriod

func (k *fluid) step() {
	dt := tick.Seconds()
	arriving := k.load(k.at)
	k.backlog += arriving * dt
	threads := min(k.threads, k.backlog/dt)
	run := threads * dt
	if budget := k.quota.Cores() * cfsPeriod.Seconds(); k.quota > 0 && k.spent+run > budget {
		run = max(budget-k.spent, 0)
		if threads > 0 {
			if !k.dry && k.onset == 0 {
				k.onset = k.at
			}
			k.dry = true
			k.held += (threads - run/dt) * dt
		}
	}
	k.spent += run
	k.backlog -= run
	k.usage += time.Duration(run * 1e9)
	k.ran = k.ran || run > 0 || k.dry
	if arriving > 0 {
		k.delayed = max(k.delayed, k.backlog/arriving)
	}
	if k.working != nil && k.limit > 0 && k.working(k.at) > k.limit {
		k.oomKills++
	}
	k.at += tick
	if (k.at+k.phase)%cfsPeriod == 0 {
		k.endPeriod()
	}
}

func (k *fluid) endPeriod() {
	if k.ran {
		k.periods++
	}
	if k.dry {
		k.throttled++
	}
	k.release()
	k.spent, k.ran = 0, false
}

func (k *fluid) release() {
	k.waited += time.Duration(k.held * 1e9)
	k.held, k.dry = 0, false
}

// setQuota refills and releases at once, as tg_set_cfs_bandwidth does.
func (k *fluid) setQuota(q knowledge.NanoCPU) {
	k.quota, k.spent = q, 0
	k.release()
}

func (k *fluid) sample() knowledge.Sample {
	s := knowledge.Sample{
		At:       epoch.Add(k.at),
		Have:     knowledge.HasCPU | knowledge.HasThrottle | knowledge.HasLimits,
		CPUUsage: k.usage, Periods: k.periods, Throttled: k.throttled, ThrottledTime: k.waited,
		Quota: k.quota, Period: cfsPeriod,
	}
	if k.working != nil {
		w := k.working(k.at)
		s.Have |= knowledge.HasMemory | knowledge.HasMemoryStat | knowledge.HasOOM | knowledge.HasMemoryPressure
		s.MemoryUsage, s.Anon, s.MemoryLimit, s.OOMKills = w, w, k.limit, k.oomKills
	}
	return s
}

// world is the loop around a fluid: samples, thinks, and acts after a delay.
type world struct {
	fluid
	policy    knowledge.Policy
	envelope  knowledge.Envelope
	container knowledge.Container
	cpus      int
	every     func(f *knowledge.Finding, w *knowledge.Window) time.Duration
	cpuTakes  time.Duration // an action's delay
	memTakes  time.Duration
	stepUp    float64 // the guards' bound outside boosts; 0: none

	track   monitor.Track
	reflex  plan.Reflex
	next    time.Duration
	flying  [2]*knowledge.Decision
	lands   [2]time.Duration
	done    []knowledge.Decision
	finding knowledge.Finding
}

func at100ms(*knowledge.Finding, *knowledge.Window) time.Duration { return 100 * time.Millisecond }

func (h *world) now() time.Time { return epoch.Add(h.at) }

// run lets the world go on for d.
func (h *world) run(d time.Duration) {
	for end := h.at + d; h.at < end; {
		h.step()
		h.land()
		if h.at >= h.next {
			h.think()
		}
	}
}

func (h *world) think() {
	s := h.sample()
	h.track.Observe(&s, h.cpus)
	w := &h.track.Window
	h.finding = analyse.Assess(h.now(), w, &h.policy, &h.container, 10*time.Second)
	h.next = h.at + h.every(&h.finding, w)
	for i, d := range [...]knowledge.Decision{
		h.reflex.CPU(h.now(), &h.finding, w, &h.envelope, &h.policy),
		h.reflex.Memory(h.now(), &h.finding, w, &h.envelope, &h.policy),
	} {
		if d.Verb == knowledge.Hold || h.flying[i] != nil {
			continue
		}
		if h.stepUp > 0 && !d.Boost && d.From > 0 {
			d.To = min(d.To, int64(float64(d.From)*h.stepUp))
		}
		h.flying[i] = &d
		h.lands[i] = h.at + [...]time.Duration{h.cpuTakes, h.memTakes}[i]
	}
}

func (h *world) land() {
	for i, d := range h.flying {
		if d == nil || h.at < h.lands[i] {
			continue
		}
		h.flying[i] = nil
		if d.Resource == knowledge.ResourceCPU {
			h.setQuota(knowledge.NanoCPU(d.To))
		} else {
			h.limit = knowledge.Bytes(d.To)
		}
		h.reflex.Applied(h.now(), *d)
		h.done = append(h.done, *d)
	}
}

// serving is the default policy on a host with so many cores.
func serving(cpus int) knowledge.Policy {
	return knowledge.Policy{
		Managed: true, Mode: knowledge.ModeAuto,
		CPU: knowledge.Range[knowledge.NanoCPU]{Min: knowledge.OneCPU / 20,
			Max: knowledge.NanoCPU(cpus) * knowledge.OneCPU},
		Memory: knowledge.Range[knowledge.Bytes]{Min: 32 * knowledge.MiB, Max: 8 * knowledge.GiB},

		ThrottleTarget: 0.06, CPUPercentile: 0.95, MemoryPercentile: 0.98, MemoryShrink: true,
		ShrinksPerDay: 100, ObserveFirst: time.Minute,
		ShrinkAfter: 10 * time.Minute, OOMProtect: time.Hour, Weight: 50,
	}
}

func newWorld(cpus int) *world {
	h := &world{policy: serving(cpus), cpus: cpus, every: at100ms, cpuTakes: tick, memTakes: 100 * time.Millisecond,
		stepUp: 1.5}
	h.threads = float64(cpus)
	h.load = func(time.Duration) float64 { return 0 }
	h.envelope = plan.Deliberate(epoch, plan.Facts{}, &h.policy, knowledge.Host{CPUs: cpus, Memory: 16 * knowledge.GiB},
		knowledge.Envelope{})
	return h
}
