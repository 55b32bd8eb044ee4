package mape

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape/execute"
	"github.com/effiscale/effiscale/mape/image"
	"github.com/effiscale/effiscale/mape/monitor"
)

const (
	core = knowledge.OneCPU
	mib  = knowledge.MiB
	gib  = knowledge.GiB
)

var begin = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// host is a machine in virtual time: its kernel, its Engine and its disk, as the
// loop's interfaces show them.
type host struct {
	t    testing.TB
	loop *Loop
	now  time.Time

	mu       sync.Mutex // guards what follows: the Engine is called by workers
	boxes    map[knowledge.ContainerID]*box
	order    []*box
	calls    map[string]int
	writes   int // of quotas and limits, by whatever way
	down     bool
	seq      uint64
	begun    []knowledge.Action
	ended    []knowledge.Outcome
	kept     map[knowledge.ContainerID]knowledge.Original
	marks    map[knowledge.ContainerID][]byte
	models   map[knowledge.ServiceKey][]byte
	images   map[knowledge.ImageKey]int         // how often each was written
	image    []byte                             // the last one that was
	copies   map[image.CopyKey]image.StoredCopy // of images, of all hosts
	full     bool                               // the disk is
	rejected int
}

// box is one container: what it wants, what it may, and its counters.
type box struct {
	cpuReads, memoryReads int
	stoppedReads          int
	boundsReads           int // alone, on purpose
	detailReads, detached int // of memory's detail; without the use of the same instant
	h                     *host
	c                     knowledge.Container
	demand                float64 // cores
	anon                  knowledge.Bytes
	cache                 knowledge.Bytes
	kernel                knowledge.Limits
	engine                knowledge.Limits
	gone                  bool // the cgroup is
	dying                 bool // an update finds no process any more
	frozen                bool // its files say the same for ever
	broken                error
	refuses               error  // every quota
	noMemory              bool   // its file of the memory in use cannot be read
	claimedBy             string // another daemon
	inner                 knowledge.InnerKill
	bounds                knowledge.Bounds
	processes             []string
	mapped                knowledge.Mapped
	stopped               knowledge.StopCause
	every                 time.Duration // between two new readings, as of the Engine's statistics; 0: any

	at time.Time
	s  knowledge.Sample // counters and levels
}

type options struct {
	settings func(*Settings)
	policy   func(*knowledge.Policy)
	crashes  int
	restored Restored
	cpus     int
	memory   knowledge.Bytes
	node     knowledge.NodeID // "": self
	signed   bool             // copies of images are
}

func usualSettings() Settings {
	return Settings{
		Cadence: monitor.Cadence{Hot: 100 * time.Millisecond, Busy: time.Second, Idle: 5 * time.Second,
			Slow: 10 * time.Second, Budget: 0.01},
		StaleAfter: 3, ListEvery: 30 * time.Second, DeliberateEvery: 10 * time.Second, FlushEvery: 15 * time.Second,
		Rules: execute.Rules{StepUp: 1.5, StepDown: 0.7, ActionsPerMinute: 60, EvidenceAge: 15 * time.Second,
			Actuator: knowledge.ActuatorKernel},
		CPUReserve: 0.05, MemoryReserve: 0.1, MemoryLeast: 512 * mib, Overcommit: 1,
	}
}

func usualPolicy() knowledge.Policy {
	return knowledge.Policy{
		Managed: true, Mode: knowledge.ModeAuto, CPU: knowledge.Range[knowledge.NanoCPU]{Min: core / 20},
		Memory: knowledge.Range[knowledge.Bytes]{Min: 32 * mib}, ThrottleTarget: 0.06, CPUPercentile: 0.95,
		MemoryPercentile: 0.98,
		MemoryShrink:     true, ShrinksPerDay: 48, ObserveFirst: time.Minute,
		ShrinkAfter: 10 * time.Minute,
		OOMProtect:  time.Hour, YieldFor: 10 * time.Minute, Weight: 50,
	}
}

func newHost(t testing.TB, o options) *host {
	h := &host{
		t: t, now: begin, boxes: map[knowledge.ContainerID]*box{}, calls: map[string]int{},
		images: map[knowledge.ImageKey]int{}, copies: map[image.CopyKey]image.StoredCopy{},
		models: map[knowledge.ServiceKey][]byte{}, kept: map[knowledge.ContainerID]knowledge.Original{},
		marks: map[knowledge.ContainerID][]byte{},
	}
	h.boot(o)
	return h
}

// boot starts the daemon.
func (h *host) boot(o options) {
	set, policy := usualSettings(), usualPolicy()
	if o.settings != nil {
		o.settings(&set)
	}
	if o.policy != nil {
		o.policy(&policy)
	}
	if o.cpus == 0 {
		o.cpus = 4
	}
	if o.memory == 0 {
		o.memory = 8 * gib
	}
	set.Policy = func(info knowledge.Container) knowledge.Policy {
		p, floor := policy, 0.0
		if w := info.Labels["weight"]; w != "" {
			_, _ = fmt.Sscan(w, &p.Weight)
		}
		if f := info.Labels["floor"]; f != "" {
			_, _ = fmt.Sscan(f, &floor)
			p.CPU.Min = knowledge.FromCores(floor)
		}
		p.Managed = info.Labels["managed"] != "no"
		return p
	}
	if o.node == "" {
		o.node = "self"
	}
	var seal image.Sign
	if o.signed {
		seal = sealOf(o.node)
	}
	h.loop = New(Options{
		Engine: h, Store: h, Attach: h.attach, Host: knowledge.Host{CPUs: o.cpus, Memory: o.memory, SwapLimit: true},
		Node: o.node, Seal: seal, Meter: meter{h}, Log: zerolog.Nop(), Now: func() time.Time { return h.now }, Settings: set,
		Crashes: o.crashes, Restored: o.restored,
	})
	h.t.Cleanup(h.loop.workers.Close)
}

// end stops the daemon in order.
func (h *host) end() {
	h.loop.end()
}

// run makes a container of limits, as `docker run` does.
func (h *host) run(name string, l knowledge.Limits, labels map[string]string) *box {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seq++
	b := &box{h: h, at: h.now, anon: 20 * mib, kernel: l, engine: l}
	if b.engine.CPU != 0 {
		b.engine.Dialect = 1
	}
	b.c = knowledge.Container{
		ID: knowledge.ContainerID(fmt.Sprintf("%064x", h.seq)), Name: name, Service: knowledge.ServiceKey(name),
		State: knowledge.StateRunning, Labels: labels, Created: h.now,
	}
	h.boxes[b.c.ID] = b
	h.order = append(h.order, b)
	return b
}

// remove ends a container and takes it off the list.
func (h *host) remove(b *box) {
	h.mu.Lock()
	defer h.mu.Unlock()
	b.gone = true
	delete(h.boxes, b.c.ID)
	for i, o := range h.order {
		if o == b {
			h.order = append(h.order[:i:i], h.order[i+1:]...)
			break
		}
	}
}

// tick is one pass, and all that it started.
func (h *host) tick() {
	h.now = h.now.Add(tickEvery)
	h.loop.Tick(h.now)
	h.settle()
}

func (h *host) settle() {
	h.t.Helper()
	for h.loop.workers.Open() > 0 {
		select {
		case after := <-h.loop.workers.Results():
			h.loop.workers.Finish(after)
		case <-time.After(10 * time.Second):
			h.t.Fatal("a job does not come back")
		}
	}
}

func (h *host) pass(d time.Duration) {
	for range d / tickEvery {
		h.tick()
	}
}

// until passes time until ok holds; it fails after most.
func (h *host) until(most time.Duration, what string, ok func() bool) time.Duration {
	h.t.Helper()
	from := h.now
	for !ok() {
		if h.now.Sub(from) >= most {
			h.t.Fatalf("not within %s: %s", most, what)
		}
		h.tick()
	}
	return h.now.Sub(from)
}

func (h *host) container(b *box) *container { return h.loop.containers.byID[b.c.ID] }

// pause pauses or resumes a container's service.
func (h *host) pause(b *box, p knowledge.Pause) {
	s := h.container(b).service
	if s.Pause = p; !p.On {
		h.loop.containers.endHold(h.now, s)
	}
}

func (h *host) emit(kind knowledge.EventKind, b *box) {
	if kind == knowledge.EventOOM && !b.gone { // the kernel counted it
		b.s.OOMKills++
		b.s.OOM++
	}
	h.event(kind, b)
}

// event is one that the Engine sends alone.
func (h *host) event(kind knowledge.EventKind, b *box) {
	h.loop.event(h.now, knowledge.Event{Kind: kind, ID: b.c.ID, Name: b.c.Name, At: h.now})
}

// The Engine.

func (h *host) List(context.Context) ([]knowledge.Container, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls["list"]++
	if h.down {
		return nil, errors.New("no Engine")
	}
	out := make([]knowledge.Container, 0, len(h.order))
	for _, b := range h.order {
		out = append(out, b.c)
	}
	return out, nil
}

func (h *host) State() (bool, time.Time, string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return !h.down, begin, ""
}

var errGone = errors.New("gone")

func (h *host) call(what string, id knowledge.ContainerID, do func(*box)) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls[what]++
	b := h.boxes[id]
	switch {
	case h.down:
		return errors.New("no Engine")
	case b == nil:
		return errGone
	}
	do(b)
	return nil
}

func (h *host) Inspect(_ context.Context, id knowledge.ContainerID) (info knowledge.Container, err error) {
	err = h.call("inspect", id, func(b *box) {
		info = b.c
		info.Inspected, info.PID, info.Limits = true, 1, b.engine
	})
	return info, err
}

func (h *host) UpdateCPU(_ context.Context, id knowledge.ContainerID, l knowledge.Limits) error {
	return h.call("cpu", id, func(b *box) {
		b.advance(h.now)
		if l.CPU == 0 {
			l.CPU = knowledge.NanoCPU(h.loop.o.Host.CPUs) * core
		}
		b.kernel.CPU, b.engine.CPU, b.engine.Dialect = l.CPU, l.CPU, 1
	})
}

func (h *host) UpdateMemory(_ context.Context, id knowledge.ContainerID, mem, swap knowledge.Bytes) error {
	dying := false
	err := h.call("memory", id, func(b *box) {
		if dying = b.dying; dying {
			return
		}
		h.writes++
		b.kernel.Memory, b.engine.Memory, b.engine.MemorySwap = mem, mem, swap
	})
	if dying {
		err = errGone
	}
	return err
}

func (h *host) Restore(
	ctx context.Context, id knowledge.ContainerID, r knowledge.Resource, l knowledge.Limits,
) (left string, err error) {
	if r == knowledge.ResourceMemory {
		return "", h.UpdateMemory(ctx, id, l.Memory, l.MemorySwap)
	}
	return "", h.UpdateCPU(ctx, id, l)
}

func (h *host) UpdateShares(_ context.Context, id knowledge.ContainerID, shares int64) error {
	return h.call("shares", id, func(b *box) { h.writes++; b.kernel.Shares, b.engine.Shares = shares, shares })
}

func (h *host) Gone(err error) bool { return errors.Is(err, errGone) }
func (h *host) Refused(error) bool  { return false }

// The disk.

func (h *host) Begin(a knowledge.Action) (uint64, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.begun = append(h.begun, a)
	return uint64(len(h.begun)), nil
}

func (h *host) End(o knowledge.Outcome) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ended = append(h.ended, o)
	return nil
}

func (h *host) Keep(o knowledge.Original) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.kept[o.ID] = o
	return nil
}

func (h *host) Amend(o knowledge.Original) error { return h.Keep(o) }

func (h *host) Drop(id knowledge.ContainerID) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.kept, id)
	return nil
}

func (h *host) Commit(b Batch) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls["commit"]++
	for id, m := range b.Marks {
		h.marks[id] = m
	}
	for key, packed := range b.Models {
		h.models[key] = packed
	}
	if h.full {
		return errors.New("the disk is full")
	}
	for at, c := range b.Images {
		h.copies[at] = c
		if at.Host == h.loop.o.Node {
			h.images[at.Image]++
			h.image = c.Packed
		}
	}
	return nil
}

type meter struct{ h *host }

func (m meter) Action(string, string, time.Duration) {}
func (m meter) DriftRepaired()                       {}
func (m meter) ObserveLoop(string, time.Duration)    {}
func (m meter) Decision(string, string, string)      {}
func (m meter) Rejected(string)                      { m.h.rejected++ }

// The kernel.

func (h *host) attach(info knowledge.Container) (execute.Probe, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	b := h.boxes[info.ID]
	if b == nil || b.gone {
		return nil, errGone
	}
	if b.every > 0 {
		return &pacedBox{box: b, usual: b.every}, nil
	}
	return b, nil
}

// pacedBox has new readings only so often.
type pacedBox struct {
	*box
	usual time.Duration
	last  time.Time
}

func (p *pacedBox) Every() time.Duration { return p.usual }

func (p *pacedBox) Read(s *knowledge.Sample, groups knowledge.Signals) error {
	if groups&knowledge.HasCPU == 0 || p.h.now.Sub(p.last) < p.every {
		s.Have &^= groups
		return nil
	}
	p.last = p.h.now
	return p.box.Read(s, knowledge.FastTier|knowledge.SlowTier)
}

// advance lets the kernel account for the time since the last look: bandwidth
// control by CFS periods of 100 ms.
func (b *box) advance(now time.Time) {
	d := now.Sub(b.at)
	b.at = now
	if d <= 0 || b.frozen {
		return
	}
	quota := b.kernel.CPU.Cores()
	use := b.demand
	if quota > 0 {
		use = min(use, quota)
		if b.demand > 0 {
			n := uint64(max(d/knowledge.DefaultPeriod, 1))
			b.s.Periods += n
			if b.demand > quota {
				b.s.Throttled += n
				b.s.ThrottledTime += time.Duration((b.demand - quota) * float64(d))
			}
		}
	}
	b.s.CPUUsage += time.Duration(use * float64(d))
	if b.kernel.Memory > 0 {
		if b.anon > b.kernel.Memory {
			b.s.OOMKills++
			b.s.OOM++
			b.anon = 20 * mib
		}
		if b.anon+b.cache > b.kernel.Memory {
			b.s.MaxEvents++
		}
		b.cache = min(b.cache, b.kernel.Memory-b.anon)
	}
	b.s.At = now
}

func (b *box) fill(s *knowledge.Sample, have knowledge.Signals) error {
	b.h.mu.Lock()
	defer b.h.mu.Unlock()
	if b.gone {
		return errGone
	}
	b.advance(b.h.now)
	before := s.Have
	*s = b.s
	s.MemoryUsage, s.Anon, s.InactiveFile, s.File = b.anon+b.cache, b.anon, b.cache, b.cache
	s.Reclaimable, s.CleanFile = b.cache, b.cache
	s.Bounds, s.Stopped = b.bounds, b.stopped
	s.Quota, s.Period, s.MemoryLimit = b.kernel.CPU, knowledge.DefaultPeriod, b.kernel.Memory
	s.Have = before | have
	return b.broken
}

// told are the groups that a box has.
const told = knowledge.FastTier | knowledge.HasMemoryStat | knowledge.HasOOM | knowledge.HasLimits

func (b *box) Processes() ([]string, knowledge.Mapped) { return b.processes, b.mapped }

func (b *box) Read(s *knowledge.Sample, groups knowledge.Signals) error {
	if groups&knowledge.HasCPU != 0 {
		b.cpuReads++
	}
	if groups&knowledge.HasMemory != 0 {
		b.memoryReads++
	}
	if groups&knowledge.HasMemoryStat != 0 {
		b.detailReads++
		if groups&knowledge.HasMemory == 0 {
			b.detached++
		}
	}
	if groups&knowledge.HasStopped != 0 {
		b.stoppedReads++
		s.Stopped = b.stopped
		s.Have |= knowledge.HasStopped
	}
	if groups&knowledge.HasBounds != 0 { // also where its own cgroup is gone
		s.Bounds = b.bounds
		s.Have |= knowledge.HasBounds
		if groups&knowledge.HasLimits == 0 {
			b.boundsReads++
		}
	}
	if b.noMemory && groups&knowledge.HasMemory != 0 {
		s.Have &^= groups
		return errors.Join(b.fill(s, groups&told&^knowledge.HasMemory), errors.New("no memory file"))
	}
	return b.fill(s, groups&told)
}
func (b *box) SetHigh(knowledge.Bytes) error { return errors.ErrUnsupported }
func (b *box) Writable() bool                { return true }
func (b *box) SetPID(int)                    {}
func (b *box) Close() error                  { return nil }

func (b *box) SetMemory(mem, total knowledge.Bytes) error {
	b.h.mu.Lock()
	defer b.h.mu.Unlock()
	if b.gone || b.dying {
		return fs.ErrNotExist
	}
	b.advance(b.h.now)
	b.h.writes++
	b.kernel.Memory, b.kernel.MemorySwap = mem, total
	return nil
}

func (b *box) SetQuota(q knowledge.NanoCPU, _ time.Duration) error {
	b.h.mu.Lock()
	defer b.h.mu.Unlock()
	if b.refuses != nil {
		return b.refuses
	}
	b.advance(b.h.now)
	b.h.writes++
	b.kernel.CPU = q
	return nil
}
