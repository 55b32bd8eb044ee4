package dockertest

import (
	"strconv"
	"sync"
	"time"

	"github.com/effiscale/effiscale/docker"
	"github.com/effiscale/effiscale/knowledge"
)

// record is the Engine's record of a container's limits, in its units.
type record struct {
	NanoCPUs, Quota, Period, Shares int64
	Memory, Swap, Reservation       int64
}

func recordOf(l knowledge.Limits) record {
	if w := l.Recorded; w != (knowledge.Recorded{}) {
		l.Memory, l.MemorySwap = knowledge.Bytes(w.Memory), knowledge.Bytes(w.MemorySwap)
	}
	r := record{Shares: l.Shares, Memory: int64(l.Memory), Swap: int64(l.MemorySwap),
		Reservation: int64(l.Reservation)}
	if r.Memory > 0 && r.Swap == 0 {
		r.Swap = 2 * r.Memory // daemon/daemon_unix.go, adaptContainerSettings
	}
	switch w := l.Recorded; {
	case w != (knowledge.Recorded{}):
		r.NanoCPUs, r.Quota, r.Period = w.NanoCPUs, w.Quota, w.Period
	case l.CPU == 0:
	case l.Dialect == docker.CPUQuota:
		p := l.Period
		if p == 0 {
			p = knowledge.DefaultPeriod
		}
		r.Period = p.Microseconds()
		r.Quota = int64(l.CPU) * r.Period / 1e9
	default:
		r.NanoCPUs = int64(l.CPU)
	}
	return r
}

// cgroup is what the kernel holds of one running container.
type cgroup struct {
	quota, period int64 // µs; quota -1: none
	shares        int64
	memory, swap  int64 // bytes; 0: no limit
	high          int64 // v2 memory.high; 0: none

	anon, cache           int64
	usage, throttledTime  time.Duration
	periods, throttled    uint64
	max, highs, oom, kill uint64
	carry                 time.Duration // of the running CFS period
}

const page = 4096

// load is what a start writes into a new cgroup. A stored quota of -1 overrides NanoCPUs.
func load(r record) cgroup {
	k := cgroup{quota: -1, period: 100_000, shares: 1024}
	k.cpu(r)
	if r.Shares > 0 {
		k.shares = r.Shares
	}
	k.memory = r.Memory / page * page
	k.swap = max(r.Swap, 0) / page * page
	return k
}

func (k *cgroup) cpu(r record) {
	if r.NanoCPUs > 0 {
		k.period = 100_000
		k.quota = r.NanoCPUs * k.period / 1e9
	}
	if r.Period > 0 {
		k.period = r.Period
	}
	if r.Quota != 0 {
		k.quota = r.Quota
	}
}

func (k *cgroup) limits() knowledge.Limits {
	l := knowledge.Limits{
		Period: time.Duration(k.period) * time.Microsecond,
		Shares: k.shares,
		Memory: knowledge.Bytes(k.memory), MemorySwap: knowledge.Bytes(k.swap),
	}
	if k.quota > 0 {
		l.CPU = knowledge.NanoCPU(k.quota * 1e9 / k.period)
	}
	return l
}

// container is one container.
type container struct {
	id       knowledge.ContainerID
	spec     Spec
	state    string
	made     time.Time
	started  time.Time
	exit     int
	restarts int
	pid      int
	oomKills int  // of all its starts
	oomed    bool // State.OOMKilled
	record   record
	before   record // the record before the last update, for StaleInspect
	k        cgroup
	updating int // requests in progress

	demand float64 // cores
	growth float64 // bytes a second
	psiCPU float64
	psiMem float64
	files  map[string]string // path to the content last written
	dirs   []string
}

// machine is the host: its kernel, and the Engine's state.
type machine struct {
	tree
	hub
	containers map[knowledge.ContainerID]*container
	images     map[string]string // tag to id
	networks   map[string]*subnet
	seq        int
	pid        int
	busy       time.Duration // CPU time of the host
}

func (b *container) running() bool { return b.state == "running" || b.state == "paused" }

func (m *machine) begin(b *container) {
	if b.running() {
		return
	}
	m.pid++
	b.pid, b.state, b.started, b.oomed = m.pid, "running", time.Now(), false
	b.k = load(b.record)
	m.makeFiles(b)
	m.emit(b, "start")
}

// stop ends the main process by a signal of a person.
func (m *machine) stop(b *container, code int) {
	m.emit(b, "kill", "signal", "15")
	m.end(b, code)
	m.emit(b, "stop")
}

// end ends the main process and removes the cgroup.
func (m *machine) end(b *container, code int) {
	if !b.running() {
		return
	}
	m.dropFiles(b)
	b.state, b.exit, b.pid, b.k = "exited", code, 0, cgroup{}
	m.emit(b, "die", "exitCode", strconv.Itoa(code))
}

func (m *machine) remove(b *container) {
	m.end(b, 137)
	delete(m.containers, b.id)
	for _, n := range m.networks {
		delete(n.on, b.id)
	}
	m.emit(b, "destroy")
}

// SetUsage sets how many cores the container would use.
func (e *Engine) SetUsage(id knowledge.ContainerID, cores float64) {
	e.with(id, func(b *container) { b.demand = cores })
}

// SetMemory sets its anonymous memory; more than its limit is an OOM kill.
func (e *Engine) SetMemory(id knowledge.ContainerID, anon knowledge.Bytes) {
	e.with(id, func(b *container) { e.charge(b, int64(anon), b.k.cache) })
}

// SetCache sets its page cache; what exceeds the limit is reclaimed.
func (e *Engine) SetCache(id knowledge.ContainerID, cache knowledge.Bytes) {
	e.with(id, func(b *container) { e.charge(b, b.k.anon, int64(cache)) })
}

// SetGrowth lets its anonymous memory grow with time.
func (e *Engine) SetGrowth(id knowledge.ContainerID, bytesPerSecond float64) {
	e.with(id, func(b *container) { b.growth = bytesPerSecond })
}

// SetPressure sets the "some avg10" of its CPU and memory pressure, in percent.
func (e *Engine) SetPressure(id knowledge.ContainerID, cpu, memory float64) {
	e.with(id, func(b *container) {
		b.psiCPU, b.psiMem = cpu, memory
		e.writeFiles(b)
	})
}

// charge sets the container's memory, reclaims and kills. The lock is held.
func (m *machine) charge(b *container, anon, cache int64) {
	if !b.running() {
		return
	}
	m.adopt(b)
	k := &b.k
	k.anon, k.cache = anon, cache
	if k.high > 0 && k.anon+k.cache > k.high {
		k.highs++
		k.cache = max(min(k.cache, k.high-k.anon), 0)
	}
	if k.memory > 0 && k.anon+k.cache > k.memory {
		k.max++
		k.cache = max(min(k.cache, k.memory-k.anon), 0)
		if k.anon > k.memory {
			m.oomKill(b)
		}
	}
	m.writeFiles(b)
}

func (m *machine) oomKill(b *container) {
	b.oomKills++
	b.k.oom++
	b.k.kill++
	b.k.anon, b.k.cache = 0, 0
	m.emit(b, "oom")
	if b.spec.Survives {
		return
	}
	m.end(b, 137)
	b.oomed = true
	if b.spec.Restart {
		b.restarts++
		m.begin(b)
		b.oomed = true
	}
}

// Advance lets d pass for every container. CPU bandwidth is per CFS period, as in
// sched-bwc.rst: what exceeds the quota of a period is throttled time (summed over CPUs).
// The remainder of a period is kept for the next call.
func (e *Engine) Advance(d time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, b := range e.containers {
		if !b.running() {
			continue
		}
		e.adopt(b)
		if b.state == "running" {
			e.busy += b.k.run(min(b.demand, float64(e.o.NCPU)), d)
			if b.growth != 0 {
				grown := b.k.anon + int64(b.growth*d.Seconds())
				e.charge(b, max(grown, 0), b.k.cache)
			}
		}
		if b.running() {
			e.writeFiles(b)
		}
	}
	e.writeHost()
}

// run lets a container with a demand of cores run for d; the result is the CPU time used.
func (k *cgroup) run(cores float64, d time.Duration) (got time.Duration) {
	if cores <= 0 {
		k.carry = 0
		return 0
	}
	period := time.Duration(k.period) * time.Microsecond
	k.carry += d
	n := k.carry / period
	k.carry -= n * period
	if k.quota <= 0 {
		got = time.Duration(cores * float64(n*period))
		k.usage += got
		return got
	}
	want := time.Duration(cores * float64(period))
	have := min(want, time.Duration(k.quota)*time.Microsecond)
	got = have * n
	k.usage += got
	k.periods += uint64(n)
	if want > have {
		k.throttled += uint64(n)
		k.throttledTime += (want - have) * n
	}
	return got
}

// Live calls Advance every step until the test ends or stop is called.
func (e *Engine) Live(step time.Duration) (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(step)
		defer tick.Stop()
		for last := time.Now(); ; {
			select {
			case <-done:
				return
			case now := <-tick.C:
				e.Advance(now.Sub(last))
				last = now
			}
		}
	}()
	stop = sync.OnceFunc(func() { close(done); <-ended })
	e.t.Cleanup(stop)
	return stop
}

// Kernel is what the kernel holds; zero limits for a container that does not run.
func (e *Engine) Kernel(id knowledge.ContainerID) (l knowledge.Limits) {
	e.with(id, func(b *container) {
		if b.running() {
			e.adopt(b)
			l = b.k.limits()
		}
	})
	return l
}

// SetKernel writes CPU, period, shares and memory to the kernel without the Engine, as a
// person or systemd would; CPU and memory 0: no limit.
func (e *Engine) SetKernel(id knowledge.ContainerID, l knowledge.Limits) {
	e.with(id, func(b *container) {
		e.adopt(b)
		r := recordOf(l)
		r.NanoCPUs, r.Quota = 0, -1
		if l.CPU > 0 {
			if r.Period == 0 {
				r.Period = 100_000
			}
			r.Quota = int64(l.CPU) * r.Period / 1e9
		}
		anon, k := b.k.anon, load(r)
		b.k.quota, b.k.period, b.k.shares, b.k.memory, b.k.swap = k.quota, k.period, k.shares, k.memory, k.swap
		e.writeLimits(b)
		e.charge(b, anon, b.k.cache)
	})
}

// DaemonReload is systemd's: with its driver every running container gets the Engine's
// values, the quota rounded up to whole percent of a CPU (runc, addCpuQuota), and loses
// memory.high (systemd 252).
func (e *Engine) DaemonReload() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.o.Driver != "systemd" {
		return
	}
	for _, b := range e.containers {
		if b.running() {
			e.adopt(b)
			k := load(b.record)
			if percent := k.period / 100; k.quota > 0 {
				k.quota = (k.quota + percent - 1) / percent * percent
			}
			b.k.quota, b.k.period, b.k.shares, b.k.high = k.quota, k.period, k.shares, 0
			e.writeLimits(b)
		}
	}
}

// OOMKills counts the OOM kills in the container, over all its starts.
func (e *Engine) OOMKills(id knowledge.ContainerID) (n int) {
	e.with(id, func(b *container) { n = b.oomKills })
	return n
}
