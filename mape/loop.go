// Package mape is the loop: monitor, analyse, plan, execute, over knowledge.
//
// One goroutine owns everything in a Loop. It ticks ten times a second; each
// tick reads the containers that are due and takes each through the phases. The
// reflex needs no network and no Engine; the deliberation is the same loop on a
// slower clock, over services instead of containers. What takes time is done by
// execute.Workers and comes back as a closure.
package mape

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape/execute"
	"github.com/effiscale/effiscale/mape/image"
	"github.com/effiscale/effiscale/mape/monitor"
	"github.com/effiscale/effiscale/mape/plan"
	"github.com/effiscale/effiscale/mape/service"
)

const (
	// tickEvery is the reflex's clock: one CFS period of 100 ms.
	tickEvery = 100 * time.Millisecond
	// lateBy is how late a tick may come before nothing is decided in it.
	lateBy = time.Second
	// frozenFor is a gap after which even rates are taken anew: the daemon was
	// stopped, or the machine slept.
	frozenFor = 3 * time.Second
	// eventsKept bounds the queue of the Engine's events; when it overflows the
	// listing repairs what was lost.
	eventsKept = 1024
	// inspectPerTick bounds inspects of containers that nobody manages, per tick.
	inspectPerTick = 4
	// listApart and meetApart are the least time between two listings, and between
	// two inspects of one container, however many events ask for them.
	listApart    = 500 * time.Millisecond
	inspectApart = time.Second
	// foldsKept bounds the records that wait for a disk that does not answer.
	foldsKept = 4096
)

// ErrStopped is the answer of a loop that has ended.
var ErrStopped = errors.New("the loop has stopped")

// Engine is what the loop needs of the Docker Engine beside execution's part.
type Engine interface {
	execute.Resizer
	List(ctx context.Context) ([]knowledge.Container, error)
	// State tells whether the Engine answers, since when, and what it last said.
	State() (connected bool, since time.Time, lastErr string)
}

// Memory is the store as the loop needs it.
type Store interface {
	execute.Journal
	// Commit writes one interval in one transaction.
	Commit(b Batch) error
}

// Batch is what one interval leaves for the disk, already packed.
type Batch struct {
	service.Packed
	Images map[image.CopyKey]image.StoredCopy // of this host and of others
	Marks  map[knowledge.ContainerID][]byte
	Folds  []knowledge.Record
	Alive  []knowledge.ContainerID // all containers that exist
}

// Meter counts what the loop does.
type Meter interface {
	execute.Meter
	ObserveLoop(phase string, d time.Duration)
	Decision(direction, resource, rule string)
	Rejected(why string)
}

// Attach opens a container's kernel files, or whatever stands in for them.
type Attach func(info knowledge.Container) (execute.Probe, error)

// HostReader reads the whole host's use.
type HostReader func() (cpu knowledge.NanoCPU, used, available knowledge.Bytes, ok bool)

// Settings are the configuration as the loop needs it; they can be exchanged
// while it runs.
type Settings struct {
	Cadence         monitor.Cadence
	StaleAfter      int
	ListEvery       time.Duration
	DeliberateEvery time.Duration
	FlushEvery      time.Duration
	Rules           execute.Rules
	CPUReserve      float64 // share of the host that stays free
	MemoryReserve   float64
	MemoryLeast     knowledge.Bytes // kept free at least
	Overcommit      float64         // φ: sum of quotas over grantable cores
	Policy          func(knowledge.Container) knowledge.Policy
}

// Options hand a Loop its surroundings.
type Options struct {
	Engine  Engine
	Store   Store
	Attach  Attach
	HostUse HostReader
	Host    knowledge.Host
	// Node is whose part of an image's profile is this host's; "": none is kept.
	Node knowledge.NodeID
	// Seal signs this host's part of an image's profile; nil: it has no signature.
	Seal image.Sign
	// Owners plan for what is managed here; nil: this loop does.
	Owners   Owners
	Meter    Meter
	Log      zerolog.Logger
	Now      func() time.Time
	Settings Settings
	// Crashes above 0 is safe mode.
	Crashes int
	// Restored is what the store remembered.
	Restored Restored
	// OnReady is called once, after the first full pass.
	OnReady func()
	// OnTick is called after each tick, for the watchdog.
	OnTick func()
}

// Loop watches and steers all containers of one host.
type Loop struct {
	o       Options
	set     Settings
	workers *execute.Workers
	exec    *execute.Executor

	containers map[knowledge.ContainerID]*container
	order      []*container
	due        []int64 // nanoseconds since begin, beside order: the walk touches no container that is not due
	services   *service.Registry
	images     *image.Set
	cadence    monitor.Cadence
	scratch    knowledge.Sample // of containers at rest
	shares     []plan.Share
	sharers    []*container
	decided    []*container // whose wishes are from this tick
	subjects   []*execute.Container
	folds      []knowledge.Record

	begin, lastTick          time.Time
	listAt, deliberateAt     time.Time
	reportedAt               time.Time
	unreported               bool      // something has come of which no owner was told
	listBegan                time.Time // of the newest listing
	flushAt, hostAt          time.Time
	listing, ready, flushing bool
	listed                   bool
	engineUp                 bool
	hostCPU                  knowledge.NanoCPU
	hostUsed, hostAvailable  knowledge.Bytes
	storeErr, listErr        string

	events   chan knowledge.Event
	overflow atomic.Bool
	queue    chan func()
	stopped  chan struct{}
}

// New makes a loop; Run starts it.
func New(o Options) *Loop {
	if o.Now == nil {
		o.Now = time.Now
	}
	l := &Loop{
		o: o, set: o.Settings, cadence: o.Settings.Cadence,
		containers: map[knowledge.ContainerID]*container{},
		services:   service.NewRegistry(),
		images:     image.NewSet(o.Node, o.Seal),
		events:     make(chan knowledge.Event, eventsKept),
		queue:      make(chan func()),
		stopped:    make(chan struct{}),
		engineUp:   true,
	}
	l.workers = execute.NewWorkers(context.Background(), 4, 4096)
	l.exec = execute.New(execute.Options{
		Engine: o.Engine, Journal: o.Store, Workers: l.workers, Meter: o.Meter, Log: o.Log,
		Rules: o.Settings.Rules, Now: o.Now, Outcome: l.learnOutcome,
	})
	l.exec.Host = execute.Host{CPUs: o.Host.CPUs, Memory: o.Host.Memory, Crashes: o.Crashes}
	l.exec.Host.CPUPool, l.exec.Host.Owned = l.pool(), o.Owners != nil
	l.begin = o.Now()
	l.lastTick, l.flushAt = l.begin, l.begin
	l.restore()
	return l
}

// restore takes over what the store has of services and images. Containers take over
// theirs when they are listed.
func (l *Loop) restore() {
	r := &l.o.Restored
	unusable := l.services.Restore(l.begin, l.set.DeliberateEvery, service.Stored{
		Profiles: r.Profiles, Series: r.Series, Pauses: r.Pauses, Models: r.Models, Recent: r.Recent,
	})
	for key, err := range unusable {
		l.o.Log.Warn().Err(err).Str("service", string(key)).Msg("cannot use the stored models; learning them again")
	}
	l.images.Restore(l.begin, r.Images)
}

// Emit takes an event of the Engine; it never blocks.
func (l *Loop) Emit(ev knowledge.Event) {
	select {
	case l.events <- ev:
	default:
		l.overflow.Store(true)
	}
}

// Do runs f on the loop's goroutine and waits for it.
func (l *Loop) Do(ctx context.Context, f func()) error {
	ran := make(chan struct{})
	select {
	case l.queue <- func() { f(); close(ran) }:
		<-ran
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-l.stopped:
		return ErrStopped
	}
}

// Run ticks until ctx ends, then tells the Engine what it does not know yet,
// saves, and returns. No container is changed by the end of the loop.
func (l *Loop) Run(ctx context.Context) {
	defer close(l.stopped)
	l.lastTick = l.o.Now() // what came between New and Run was no late pass
	ticker := time.NewTicker(tickEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			l.end()
			return
		case <-ticker.C:
			l.Tick(l.o.Now())
			if l.o.OnTick != nil {
				l.o.OnTick()
			}
		case ev := <-l.events:
			l.event(l.o.Now(), ev)
		case after := <-l.workers.Results():
			l.workers.Finish(after)
		case ask := <-l.queue:
			ask()
		}
	}
}

// Stopped is closed when the loop has ended and saved.
func (l *Loop) Stopped() <-chan struct{} { return l.stopped }

// endWithin bounds the Engine updates at the end; systemd and people wait.
const endWithin = 900 * time.Millisecond

func (l *Loop) end() {
	ctx, cancel := context.WithTimeout(context.Background(), endWithin)
	defer cancel()
	for l.workers.Open() > 0 && ctx.Err() == nil {
		select {
		case after := <-l.workers.Results():
			l.workers.Finish(after)
		case <-ctx.Done():
		}
	}
	told, left := l.exec.Flush(ctx, l.subjects)
	if err := l.o.Store.Commit(l.pack(l.o.Now(), true)); err != nil {
		l.o.Log.Warn().Err(err).Msg("cannot save what was learned")
	}
	l.workers.Close()
	for _, c := range l.order {
		if c.Probe != nil {
			_ = c.Probe.Close()
		}
	}
	l.o.Log.Info().Int("told", told).Int("left", left).Msg("the Engine knows the limits in force")
}

// Tick is one pass of the loop: monitor, analyse, plan, execute, remember.
func (l *Loop) Tick(now time.Time) {
	gap := now.Sub(l.lastTick)
	l.lastTick = now
	l.exec.Host.Late = 0
	if gap > lateBy {
		l.exec.Host.Late = gap
		l.resume(now, gap)
	}
	l.listIfDue(now)
	started := l.o.Now()
	read := l.measure(now)
	if read > 0 {
		l.o.Meter.ObserveLoop("measure", l.o.Now().Sub(started))
	}
	l.grant(now)
	l.act(now)
	l.exec.SyncEngine(now, l.subjects)
	l.perSecond(now)
	if l.elapsed(&l.deliberateAt, now, l.set.DeliberateEvery) {
		started = l.o.Now()
		l.deliberate(now)
		l.o.Meter.ObserveLoop("deliberate", l.o.Now().Sub(started))
	} else {
		l.reportNew(now)
		l.services.ForecastPending(now, l.set.DeliberateEvery, l.o.Now)
	}
	l.remember(now)
}

// wake is what happens after a gap: the daemon was frozen or starved. What was
// decided before is dropped, and rates begin anew.
func (l *Loop) resume(now time.Time, gap time.Duration) {
	l.o.Log.Warn().Dur("late_ms", gap).Msg("this pass comes late; nothing is decided from old readings")
	if gap < frozenFor {
		return
	}
	for i, c := range l.order {
		c.track.Restart()
		l.due[i] = 0
	}
	l.listAt = time.Time{}
}

// elapsed reports whether an interval has passed since *at, and starts the next one.
func (l *Loop) elapsed(at *time.Time, now time.Time, every time.Duration) bool {
	if !at.IsZero() && now.Sub(*at) < every {
		return false
	}
	*at = now
	return true
}

// perSecond keeps the guards' view of the host current.
func (l *Loop) perSecond(now time.Time) {
	if !l.elapsed(&l.hostAt, now, time.Second) {
		return
	}
	if l.o.HostUse != nil {
		if cpu, used, available, ok := l.o.HostUse(); ok {
			l.hostCPU, l.hostUsed, l.hostAvailable = cpu, used, available
		}
	}
	h := &l.exec.Host
	h.MemoryFree = l.memoryFree()
	up, since, _ := l.o.Engine.State()
	switch {
	case up && !l.engineUp:
		h.EngineDown, h.EngineRestarted = time.Time{}, now
		l.listAt = time.Time{}
		l.o.Log.Info().Msg("the Docker Engine answers again; everything is read anew")
	case !up && h.EngineDown.IsZero():
		h.EngineDown = since
		if h.EngineDown.IsZero() {
			h.EngineDown = now
		}
		l.o.Log.Warn().Msg("the Docker Engine does not answer; measuring goes on")
	case up:
		h.EngineDown = time.Time{}
	}
	l.engineUp = up
}

// pool is how many cores may be granted as quota in all.
func (l *Loop) pool() knowledge.NanoCPU {
	return knowledge.FromCores(float64(l.o.Host.CPUs) * (1 - l.set.CPUReserve) * l.set.Overcommit)
}

// memoryFree is how much more the host's memory budget can promise: what it has,
// less the reserve, less every limit that was promised and the use of those
// without one, less what runs outside of containers.
func (l *Loop) memoryFree() knowledge.Bytes {
	total := l.o.Host.Memory
	reserve := max(knowledge.Bytes(float64(total)*l.set.MemoryReserve), l.set.MemoryLeast)
	promised, inside := knowledge.Bytes(0), knowledge.Bytes(0)
	for _, c := range l.order {
		if c.Probe == nil { // exited: it holds nothing
			continue
		}
		w := &c.track.Window
		inside += w.WorkingSet
		if w.MemoryLimit > 0 && c.Policy.Acts() {
			promised += max(w.MemoryLimit, w.WorkingSet, c.Promised)
		} else {
			promised += w.WorkingSet
		}
	}
	outside := knowledge.Bytes(0)
	if l.hostAvailable > 0 {
		outside = max(total-l.hostAvailable-inside, 0)
	}
	return total - reserve - outside - promised
}
