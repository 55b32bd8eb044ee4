// Package mape is the loop: monitor, analyse, plan, execute, over knowledge.
//
// One goroutine owns everything in a Loop. It ticks when a container is due, at most
// ten times a second and at least once; each tick takes the containers that are due
// through the phases. This reflex needs no network and no Engine; the deliberation is the
// same loop on a slower clock, over services instead of containers. Calls of the Engine
// and the disk are made by execute.Workers; their results come back to the goroutine as
// closures.
package mape

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape/actor"
	"github.com/effiscale/effiscale/mape/execute"
	"github.com/effiscale/effiscale/mape/image"
	"github.com/effiscale/effiscale/mape/monitor"
	"github.com/effiscale/effiscale/mape/service"
)

const (
	// tickEvery is the reflex's clock: one CFS period of 100 ms.
	tickEvery = 100 * time.Millisecond
	// pauseMost is the longest time between two ticks, when nothing is due sooner.
	pauseMost = time.Second
	// lateBy is how late a tick may come before nothing is decided in it.
	lateBy = time.Second
	// frozenFor is a gap after which rates start again: the daemon was stopped, or the
	// machine slept.
	frozenFor = 3 * time.Second
	// eventsKept bounds the queue of the Engine's events; when it overflows the
	// listing repairs what was lost.
	eventsKept = 1024
	// endWithin bounds the wait for updates at the end; systemd and people wait.
	endWithin = 900 * time.Millisecond
)

// ErrStopped is the error of calls to a loop that has ended.
var ErrStopped = errors.New("the loop has stopped")

// Loop measures all containers of one host and sets the limits of those that opted in.
type Loop struct {
	*actor.Actor // calls that read or change what follows
	eventQueue
	imageExchange

	o       Options
	set     Settings
	workers *execute.Workers
	exec    *execute.Executor

	containers *containerSet
	services   *service.Registry
	cadence    monitor.Cadence
	scratch    knowledge.Sample // of containers at rest
	pool       pool
	reaction   reaction
	decided    []*container         // with decisions of this tick
	waiting    []func() (done bool) // changes that wait for another action on the container

	host         hostUse
	listing      listing
	reports      reports
	saving       saving
	begin        time.Time
	ticks        schedule
	deliberateAt time.Time
	ready        bool // the first full pass is done
}

// schedule is when the loop ticked, and when Run plans to.
type schedule struct {
	last time.Time
	next time.Time     // zero: Run plans nothing
	took time.Duration // the last one
}

// since is how long ago the last tick was, without the time that Run meant to sleep.
func (s *schedule) since(now time.Time) time.Duration {
	if s.next.IsZero() {
		return now.Sub(s.last)
	}
	return max(tickEvery, s.took) + now.Sub(s.next)
}

// eventQueue are the Engine's events that wait for the loop.
type eventQueue struct {
	events   chan knowledge.Event
	overflow *atomic.Bool // some were lost
}

// Emit takes an event of the Engine; it never blocks.
func (q eventQueue) Emit(ev knowledge.Event) {
	select {
	case q.events <- ev:
	default:
		q.overflow.Store(true)
	}
}

// New makes a loop; Run starts it.
func New(o Options) *Loop {
	if o.Now == nil {
		o.Now = time.Now
	}
	calls := actor.New(0, ErrStopped)
	l := &Loop{
		Actor: calls, imageExchange: imageExchange{calls, image.NewSet(o.Node, o.Seal), o.Now},
		o: o, set: o.Settings, cadence: o.Settings.Cadence, host: hostUse{engineUp: true},
		containers: newContainerSet(), services: service.NewRegistry(),
		eventQueue: eventQueue{make(chan knowledge.Event, eventsKept), new(atomic.Bool)},
	}
	l.workers = execute.NewWorkers(context.Background(), 4, 4096)
	l.exec = execute.New(execute.Options{
		Engine: o.Engine, Journal: o.Store, Workers: l.workers, Meter: o.Meter, Log: o.Log,
		Rules: o.Settings.Rules, Now: o.Now, Outcome: l.learnOutcome, Lost: o.Restored.Lost,
	})
	l.exec.Host = execute.Host{CPUs: o.Host.CPUs, Memory: o.Host.Memory, Crashes: o.Crashes,
		PutsBack: execute.PutsBack(&o.Host)}
	l.exec.Host.CPUPool, l.exec.Host.Owned = l.set.cpuPool(l.o.Host), o.Owners != nil
	l.begin = o.Now()
	l.ticks.last, l.saving.at = l.begin, l.begin
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

// Run ticks until ctx ends, then waits for what is in progress, saves, and returns. No
// container is changed by the end of the loop.
func (l *Loop) Run(ctx context.Context) {
	defer l.Ended()
	l.ticks.last = l.o.Now() // what came between New and Run was no late pass
	l.ticks.next = l.ticks.last.Add(tickEvery)
	timer := time.NewTimer(tickEvery)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			l.end()
			return
		case <-timer.C:
			started := l.o.Now()
			l.Tick(started)
			if l.o.OnTick != nil {
				l.o.OnTick()
			}
			now := l.o.Now()
			pause := l.untilNext(now)
			l.ticks.next, l.ticks.took = now.Add(pause), now.Sub(started)
			timer.Reset(pause)
			continue
		case ev := <-l.events:
			l.event(l.o.Now(), ev)
		case result := <-l.workers.Results():
			l.workers.Finish(result)
			l.retryWaiting()
		case call := <-l.Calls():
			call()
		}
		if soon := l.o.Now().Add(tickEvery); l.ticks.next.After(soon) { // what came may be urgent
			l.ticks.next = soon
			timer.Reset(tickEvery)
		}
	}
}

// untilNext is how long the loop may sleep: until the next container is due.
func (l *Loop) untilNext(now time.Time) time.Duration {
	if !l.ready || l.reports.pending || l.listing.at.IsZero() || l.exec.Urgent || l.services.Pending() ||
		len(l.waiting) > 0 {
		return tickEvery
	}
	return min(max(l.containers.next-now.Sub(l.begin), tickEvery/10), pauseMost)
}

// Tick is one pass of the loop: monitor, analyse, plan, execute, record.
func (l *Loop) Tick(now time.Time) {
	l.checkLate(now)
	l.listIfDue(now)
	l.measure(now) // monitor, analyse and plan each container that is due
	l.sharePool(now)
	l.execute(now)
	l.watchHost(now)
	l.deliberate(now)
	l.record(now)
}

// checkLate keeps decisions out of a late tick. After a long gap (the daemon was
// frozen or starved) rates start again.
func (l *Loop) checkLate(now time.Time) {
	gap := l.ticks.since(now)
	if gap < frozenFor { // longer, nothing ran at all
		l.reaction.ticked(now, gap-tickEvery)
	}
	l.ticks.last = now
	l.exec.Host.Late = 0
	if gap <= lateBy {
		return
	}
	l.exec.Host.Late = gap
	l.o.Log.Warn().Dur("gap_ms", gap).Msg("tick is late; no decisions from old readings")
	if gap < frozenFor {
		return
	}
	for i, c := range l.containers.order {
		c.track.Restart()
		l.containers.due[i] = 0
	}
	l.listing.at = time.Time{}
}

// elapsed reports whether an interval has passed since *at, and starts the next one.
func elapsed(at *time.Time, now time.Time, every time.Duration) bool {
	if !at.IsZero() && now.Sub(*at) < every {
		return false
	}
	*at = now
	return true
}

// end waits for what is in progress, and saves.
func (l *Loop) end() {
	ctx, cancel := context.WithTimeout(context.Background(), endWithin)
	defer cancel()
	l.host.at = time.Time{} // does the Engine answer now?
	l.watchHost(l.o.Now())
	for ctx.Err() == nil {
		l.exec.End(l.o.Now(), l.containers.all)
		if l.workers.Open() == 0 {
			break
		}
		select {
		case result := <-l.workers.Results():
			l.workers.Finish(result)
		case <-ctx.Done():
		}
	}
	if err := l.o.Store.Commit(l.pack(l.o.Now(), true)); err != nil {
		l.o.Log.Warn().Err(err).Msg("cannot save at shutdown")
	}
	l.workers.Close()
	for _, c := range l.containers.order {
		if c.Probe != nil {
			_ = c.Probe.Close()
		}
	}
}
