package mape

import (
	"encoding/json"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/knowledge/history"
	"github.com/effiscale/effiscale/knowledge/profile"
	"github.com/effiscale/effiscale/mape/execute"
	"github.com/effiscale/effiscale/mape/image"
	"github.com/effiscale/effiscale/mape/monitor"
	"github.com/effiscale/effiscale/mape/plan"
	"github.com/effiscale/effiscale/mape/service"
)

// Wish is what the planner wants of one resource, and what came of it.
type Planned struct {
	Decision  knowledge.Decision
	Admission execute.Admission
	Since     time.Time // since when this rule holds
}

// container is one container in the loop.
type container struct {
	execute.Container
	track   monitor.Track
	reflex  plan.Reflex
	ring    *history.Ring
	service *service.Service
	image   *image.Image // nil: not known, or one too many
	sample  knowledge.Sample
	planned [2]Planned
	// hunger is the quota last wished for, before the pool was asked, and when.
	requestedMax   knowledge.NanoCPU
	requestedMaxAt time.Time

	slot        int // in order and due
	rest        rest
	slow        monitor.Slow
	memoryAt    time.Time
	throttleAt  time.Time
	attachAt    time.Time // not before, after a failure
	attachError string
	watched     bool // monitoring was asked for by name
	unwatched   bool // … or refused
	inspect     bool // the Engine told of a change: it is to be inspected
	inspectedAt time.Time
	firstSlow   bool
	cpuAlone    bool      // its CPU time can be read alone
	tried       bool      // it was read, or could not be, at least once
	from        counters  // use is in the history up to here
	decidedAt   time.Time // the tick that its wishes are from
	settled     bool      // its start was measured
	changed     bool      // its marks differ from what is on the disk
	lastRule    [2]knowledge.Rule
}

// learn calls f with each profile that this container adds to: its service's and
// its image's.
func (c *container) learn(f func(*profile.Profile)) {
	c.service.Learn(f)
	if c.image != nil {
		c.image.Learn(f)
	}
}

// Restored is what the store remembered of earlier lives.
type Restored struct {
	Profiles map[knowledge.ServiceKey]*profile.Profile
	Series   map[knowledge.ServiceKey]*history.Series
	Marks    map[knowledge.ContainerID][]byte
	Images   map[knowledge.ImageKey]*profile.Shared
	Models   map[knowledge.ServiceKey][]byte
	// Recent are the last hours by the minute, oldest first, of services with models.
	Recent    map[knowledge.ServiceKey][]history.Bucket
	Originals map[knowledge.ContainerID]knowledge.Original
	Pauses    map[knowledge.ServiceKey]knowledge.Pause
	Last      map[knowledge.ContainerID]knowledge.Record
	// Unclean: the last life ended without saving.
	Unclean bool
}

// reconcile makes the loop's containers those of the listing.
func (l *Loop) reconcile(now time.Time, list []knowledge.Container) {
	seen := make(map[knowledge.ContainerID]bool, len(list))
	for i := range list {
		info := &list[i]
		seen[info.ID] = true
		if c := l.containers[info.ID]; c != nil {
			l.refresh(now, c, info)
		} else if info.State != knowledge.StateDead {
			l.add(now, info)
		}
	}
	for _, c := range append([]*container(nil), l.order...) {
		if !seen[c.ID] {
			l.remove(c)
		}
	}
	l.cadence = l.set.Cadence.Spread(l.managed())
	l.listed = true
	l.services.Forget(now)
	l.images.Forget(now)
}

func (l *Loop) managed() (n int) {
	for _, c := range l.order {
		if c.Policy.Acts() && c.Probe != nil {
			n++
		}
	}
	return n
}

// refresh takes over what a listing tells of a known container.
func (l *Loop) refresh(now time.Time, c *container, info *knowledge.Container) {
	old := &c.Container
	restarted := info.State != old.State && info.State == knowledge.StateRunning
	old.State, old.Name, old.Health = info.State, info.Name, info.Health
	if info.Service != c.service.Key {
		c.join(now, l.services.Get(info.Service))
	}
	c.Gone = false
	if restarted || (c.Probe == nil && l.measured(c)) {
		l.attach(now, c)
	}
	if !l.measured(c) {
		l.detach(c)
	}
}

// measured: a container that runs, or is paused, and is not switched off.
func (l *Loop) measured(c *container) bool {
	if c.unwatched || c.Policy.Mode == knowledge.ModeOff && !c.watched {
		return false
	}
	return c.State.Runs()
}

// join makes a container one of a service's.
func (c *container) join(now time.Time, s *service.Service) {
	if c.service != nil {
		c.service.Replicas.Leave(now, c.Probe != nil)
	}
	c.service = s
	s.Replicas.Join(c.Probe != nil)
	c.Pause = &s.Pause
	c.Service = s.Key
}

// add takes a container in. Its limits and its files are read at once, the
// Engine is asked only where something may be changed.
func (l *Loop) add(now time.Time, info *knowledge.Container) {
	c := &container{ring: history.NewRing(history.RingPoints), slot: len(l.order)}
	c.Container.Container = *info
	c.Window = &c.track.Window
	c.Window.ID = info.ID
	c.Policy = l.set.Policy(*info)
	c.join(now, l.services.Get(info.Service))
	c.image = l.images.Use(now, info.Image)
	if b, ok := l.o.Restored.Marks[info.ID]; ok {
		if json.Unmarshal(b, &kept{&c.Marks, c.reflex.Climb()}) == nil {
			c.reflex.Climb().Bound(now)
			answered := !c.Marks.OOMAnswered.Before(c.Marks.LastOOM) // by that life's clock
			c.Marks.Bound(now, c.Policy.YieldFor)
			c.Window.LastOOM = c.Marks.LastOOM
			if answered {
				c.reflex.Answered(c.Marks.LastOOM)
			}
		} else {
			c.Marks, *c.reflex.Climb() = execute.Marks{}, plan.Climb{}
		}
		delete(l.o.Restored.Marks, info.ID)
	}
	c.Adopt = l.o.Restored.Unclean && !l.listed
	if o, ok := l.o.Restored.Originals[info.ID]; ok {
		c.OriginalKept, c.Original = true, o.Limits
	}
	if r, ok := l.o.Restored.Last[info.ID]; ok {
		c.LastChange = r
	}
	l.envelope(now, c)
	l.containers[info.ID] = c
	l.order = append(l.order, c)
	l.due = append(l.due, l.stagger(c.slot))
	l.subjects = append(l.subjects, &c.Container)
	if l.measured(c) {
		l.attach(now, c)
	}
}

// stagger spreads first readings over the next tick, so that a thousand
// containers are not all due in the same instant for ever.
func (l *Loop) stagger(slot int) int64 {
	return int64(l.o.Now().Sub(l.begin)) + int64(slot%10)*int64(tickEvery)
}

// attach opens the container's files. A container whose cgroup cannot be found
// without its process id is inspected first.
func (l *Loop) attach(now time.Time, c *container) {
	l.detach(c)
	if now.Before(c.attachAt) {
		return
	}
	if c.Policy.Acts() && !c.Inspected {
		l.exec.Inspect(now, &c.Container)
	}
	p, err := l.o.Attach(c.Container.Container)
	if err != nil {
		c.attachError = err.Error()
		c.attachAt = now.Add(time.Second)
		if !c.Inspected {
			l.exec.Inspect(now, &c.Container)
		}
		return
	}
	c.Probe, c.attachError, c.firstSlow = p, "", true
	c.service.Replicas.Measured++
	c.slow, c.rest = monitor.Slow{}, rest{}
	l.unreported = l.unreported || l.owned(c) && c.DeclaredAt.IsZero()
	c.KernelRefused = ""
	if l.set.Rules.Actuator == knowledge.ActuatorKernel && !p.Writable() {
		c.KernelRefused = "the quota file cannot be written by this process"
	}
	l.due[c.slot] = l.stagger(c.slot)
}

func (l *Loop) detach(c *container) {
	if c.Probe == nil {
		return
	}
	_ = c.Probe.Close()
	c.Probe = nil
	c.service.Replicas.Measured--
	c.track.Restart()
}

// remove forgets a container; what its service learned stays.
func (l *Loop) remove(c *container) {
	l.detach(c)
	if r, ok := c.TakeFold(l.o.Now()); ok && len(l.folds) < foldsKept {
		l.folds = append(l.folds, r)
	}
	c.service.Replicas.Leave(l.o.Now(), false)
	if c.image != nil {
		c.image.Release(l.o.Now())
	}
	delete(l.containers, c.ID)
	last := len(l.order) - 1
	l.order[c.slot], l.due[c.slot], l.subjects[c.slot] = l.order[last], l.due[last], l.subjects[last]
	l.order[c.slot].slot = c.slot
	l.order, l.due, l.subjects = l.order[:last], l.due[:last], l.subjects[:last]
	l.order[:last+1][last], l.subjects[:last+1][last] = nil, nil
	c.Gone = true
	l.exec.DropOriginal(&c.Container)
}

// sameKill: an OOM event this soon after a kill that is known is that kill. The kernel
// counts it, the Engine tells of it, and at times again after the end.
const sameKill = time.Second

// event takes one hint of the Engine.
func (l *Loop) event(now time.Time, ev knowledge.Event) {
	c := l.containers[ev.ID]
	switch ev.Kind {
	case knowledge.EventResync, knowledge.EventCreate, knowledge.EventStart, knowledge.EventRename:
		if c != nil && ev.Kind == knowledge.EventStart {
			c.State = knowledge.StateRunning
			c.Inspected = false
			c.Restarts++
			c.settled, c.attachAt = false, time.Time{}
			if c.Policy.Acts() {
				l.exec.Host.MemoryFree -= c.Window.MemoryLimit // until it is counted anew
			}
			c.service.Restarted()
			l.attach(now, c)
		}
		l.listAt = time.Time{}
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
		c.State, c.PID, c.Inspected = knowledge.StateExited, 0, false
		c.Exited()
		l.detach(c)
		l.due[c.slot] = 0
	case knowledge.EventPause:
		c.State = knowledge.StatePaused
	case knowledge.EventUnpause:
		c.State = knowledge.StateRunning
	case knowledge.EventHealth:
		l.inspectSoon(c)
	case knowledge.EventOOM:
		if last := c.Window.LastOOM; !last.IsZero() && now.Sub(last) < sameKill {
			break
		}
		c.track.MarkOOM(now)
		c.Marks.LastOOM, c.changed = now, true
		c.slow.Soon()
		l.due[c.slot] = 0
	case knowledge.EventUpdate:
		if !c.InFlight { // else it is most likely our own
			l.inspectSoon(c)
		}
	}
}

// meetSoon lets the next pass inspect a container. A storm of events about it
// leads to one inspect a second.
func (l *Loop) inspectSoon(c *container) {
	c.inspect = true
	l.due[c.slot] = 0
}

// listIfDue asks for the listing: the truth that events only shorten the way to.
func (l *Loop) listIfDue(now time.Time) {
	if l.overflow.Swap(false) {
		l.listAt = time.Time{}
	}
	if l.listing || now.Sub(l.listBegan) < listApart || (!l.listAt.IsZero() && now.Sub(l.listAt) < l.set.ListEvery) {
		return
	}
	l.listAt, l.listBegan = now, now
	l.listing = l.workers.Do(l.list)
}
