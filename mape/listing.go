package mape

import (
	"context"
	"slices"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/knowledge/history"
	"github.com/effiscale/effiscale/mape/execute"
	"github.com/effiscale/effiscale/mape/monitor"
)

const (
	// listApart and inspectApart are the least time between two listings, and between
	// two inspects of one container, however many events ask for them.
	listApart    = 500 * time.Millisecond
	inspectApart = time.Second
	// lostApart and lostWithin are how often, and for how long, the list is read for a container
	// whose control group is gone while the Engine has it running: the kernel is ahead of the
	// Engine, and an event tells only where the Engine sends events.
	lostApart  = 3 * time.Second
	lostWithin = 30 * time.Second
	// inspectPerTick bounds inspects of containers that are not managed, per tick.
	inspectPerTick = 4
	// foldsKept bounds the records that wait for a disk that does not answer.
	foldsKept = 4096
)

// listing is the state of the Engine's list of containers.
type listing struct {
	at      time.Time // of the newest one, as the interval counts it; zero: it is due
	began   time.Time
	running bool
	done    bool   // there was one
	err     string // of the newest one; empty: it went well
	// waiting want to know when a listing that begins from now on is done; served are those of
	// the one that is running.
	waiting, served []chan struct{}
}

// fresh makes a listing due, and returns what is closed when it is done.
func (s *listing) fresh() <-chan struct{} {
	done := make(chan struct{})
	s.at = time.Time{}
	s.waiting = append(s.waiting, done)
	return done
}

// answer tells those who waited for the listing that is done.
func (s *listing) answer() {
	for _, done := range s.served {
		close(done)
	}
	s.served = nil
}

// listIfDue asks for the listing. Events only make it come sooner.
func (l *Loop) listIfDue(now time.Time) {
	if l.overflow.Swap(false) {
		l.listing.at = time.Time{}
	}
	s := &l.listing
	if s.running || now.Sub(s.began) < listApart || !s.at.IsZero() && now.Sub(s.at) < l.set.ListEvery {
		return
	}
	s.at, s.began = now, now
	if s.running = l.workers.Do(l.list); s.running {
		s.served, s.waiting = s.waiting, nil
	}
}

// list is the job that reads the listing.
func (l *Loop) list(ctx context.Context) func() {
	list, err := l.o.Engine.List(ctx)
	return func() {
		l.listing.running = false
		defer l.listing.answer()
		now := l.o.Now()
		if err != nil {
			// The Engine's client backs off: calls fail at once while it is gone, and
			// its events tell when it is back.
			l.o.Log.Debug().Err(err).Msg("cannot list containers")
			l.listing.err = err.Error()
			l.listing.at = now.Add(time.Second - l.set.ListEvery)
			return
		}
		l.listing.err = ""
		l.reconcile(now, list)
	}
}

// reconcile makes the loop's containers those of the listing.
func (l *Loop) reconcile(now time.Time, list []knowledge.Container) {
	l.services.Migrate(list)
	seen := make(map[knowledge.ContainerID]bool, len(list))
	for i := range list {
		info := &list[i]
		seen[info.ID] = true
		if c := l.containers.byID[info.ID]; c != nil {
			l.refresh(now, c, info)
		} else if info.State != knowledge.StateDead {
			l.add(now, info)
		}
	}
	for _, c := range slices.Clone(l.containers.order) {
		if !seen[c.ID] {
			l.remove(c)
		}
	}
	l.cadence = l.set.Cadence.Spread(l.containers.managed())
	l.listing.done = true
	l.services.Forget(now)
	l.images.Forget(now)
}

// refresh updates a known container from a listing.
func (l *Loop) refresh(now time.Time, c *container, info *knowledge.Container) {
	restarted := info.State != c.State && info.State == knowledge.StateRunning
	c.State, c.Name, c.Health, c.ExitCode = info.State, info.Name, info.Health, info.ExitCode
	if info.Service != c.service.Key {
		c.join(now, l.services.Get(info.Service))
	}
	c.Gone = false
	if restarted || (c.Probe == nil && c.measurable()) {
		l.attach(now, c)
	}
	if !c.measurable() {
		c.detach()
	}
	if c.Policy.Claimed != "" && c.Probe != nil && !now.Before(c.claimAt) {
		if c.claimCgroup(now); c.Policy.Acts() {
			l.exec.Inspect(now, &c.Container)
		}
	}
}

// add takes a container in. Its limits and its files are read at once, the
// Engine is asked only where something may be changed.
func (l *Loop) add(now time.Time, info *knowledge.Container) {
	c := &container{ring: history.NewRing(history.RingPoints)}
	c.Container.Container = *info
	c.Window = &c.track.Window
	c.Window.ID = info.ID
	c.Policy = l.set.Policy(*info)
	c.join(now, l.services.Get(info.Service))
	c.image = l.images.Use(now, info.Image)
	r := &l.o.Restored
	if b, ok := r.Marks[info.ID]; ok {
		c.restoreMarks(now, b)
		delete(r.Marks, info.ID)
	}
	c.Adopt = r.Unclean && !l.listing.done
	if o, ok := r.Originals[info.ID]; ok {
		c.OriginalKept, c.Original = true, execute.Original{Limits: o.Limits, Lost: o.Lost}
	}
	if last, ok := r.Last[info.ID]; ok {
		c.LastChange = last
		if c.Adopt {
			c.AdoptRequest(last)
		}
	}
	l.setEnvelope(now, c)
	l.containers.add(c)
	l.containers.readFirst(c, l.o.Now().Sub(l.begin))
	if c.measurable() {
		l.attach(now, c)
	}
}

// attach opens the source of a container's samples. A container whose cgroup cannot be
// found without its process id is inspected first.
func (l *Loop) attach(now time.Time, c *container) {
	c.detach()
	if c.Policy.Claimed != "" {
		c.claimAt = now.Add(claimAgain)
	}
	if now.Before(c.reading.attachAt) {
		return
	}
	p, err := l.o.Attach(c.Container.Container)
	if err != nil {
		c.reading.attachError = err.Error()
		c.reading.attachAt = now.Add(time.Second)
		if !c.Inspected {
			l.exec.Inspect(now, &c.Container)
		}
		if now.Sub(c.reading.lostAt) < lostWithin && now.Sub(l.listing.began) >= lostApart {
			l.listing.at = time.Time{}
		}
		return
	}
	c.Probe, c.reading.attachError, c.reading.firstSlow = p, "", true
	c.reading.lostAt = time.Time{}
	c.claimCgroup(now)
	if c.Policy.Acts() && !c.Inspected {
		l.exec.Inspect(now, &c.Container)
	}
	c.reading.source, _ = p.(paced)
	c.reading.slow, c.reading.rest, c.reading.begun = monitor.Slow{}, rest{}, false
	c.reading.life = life{}
	c.reading.memory, c.reading.throttle = part{}, part{}
	c.service.Replicas.Measured++
	l.reports.pending = l.reports.pending || l.owned(c) && c.DeclaredAt.IsZero()
	c.KernelRefused = ""
	if l.set.Rules.Actuator == knowledge.ActuatorKernel && !p.Writable() {
		c.KernelRefused = "the quota file cannot be written by this process"
	}
	l.containers.readFirst(c, l.o.Now().Sub(l.begin))
}

// remove forgets a container; what its service learned stays.
func (l *Loop) remove(c *container) {
	now := l.o.Now()
	c.detach()
	if len(l.saving.folds) < foldsKept {
		l.saving.folds = append(l.saving.folds, c.TakeQuotaMoves(now)...)
	}
	c.service.Replicas.Leave(now, false)
	if c.image != nil {
		c.image.Release(now)
	}
	l.containers.remove(c)
	c.Gone = true
	l.exec.DropOriginal(&c.Container)
}

// event takes one event of the Engine.
func (l *Loop) event(now time.Time, ev knowledge.Event) {
	c := l.containers.byID[ev.ID]
	switch ev.Kind {
	case knowledge.EventResync, knowledge.EventCreate, knowledge.EventStart, knowledge.EventRename:
		if c != nil && ev.Kind == knowledge.EventStart {
			l.started(now, c)
		}
		l.listing.at = time.Time{}
	case knowledge.EventDestroy:
		if c != nil {
			l.remove(c)
		}
		return
	}
	if c == nil {
		return
	}
	switch ev.Kind {
	case knowledge.EventDie:
		c.State, c.PID, c.Inspected, c.ExitCode = knowledge.StateExited, 0, false, ev.ExitCode
		c.endings.died(now)
		c.Exited()
		c.oomEnded(now, l.o.Log)
		l.exec.Restarted(now, &c.Container)
		l.exec.KeepStart(now, &c.Container) // its restart may follow at once
		c.detach()
		l.containers.readSoon(c)
	case knowledge.EventKill:
		c.endings.asked = now
	case knowledge.EventStop:
		c.endings.stopped(now)
	case knowledge.EventPause:
		c.State = knowledge.StatePaused
		l.containers.readSoon(c)
	case knowledge.EventUnpause:
		c.State = knowledge.StateRunning
		l.containers.readSoon(c)
	case knowledge.EventHealth:
		l.containers.inspectSoon(c)
	case knowledge.EventOOM:
		c.oomEvent(now, l.o.Log)
		l.containers.readSoon(c)
	case knowledge.EventUpdate:
		if !c.InFlight { // else it is most likely our own
			l.containers.inspectSoon(c)
		}
	}
}

// started takes over that the Engine started a known container.
func (l *Loop) started(now time.Time, c *container) {
	c.State = knowledge.StateRunning
	c.Inspected = false
	c.settled, c.reading.attachAt = false, time.Time{}
	l.exec.Restarted(now, &c.Container)
	c.Window.Quota, c.Window.MemoryLimit = c.Marks.Engine.CPU, c.Marks.Engine.Memory // until they are read
	if c.Policy.Acts() {
		l.exec.Host.MemoryFree -= c.Marks.Engine.Memory // until the next count
	}
	c.service.Restarted()
	l.attach(now, c)
}
