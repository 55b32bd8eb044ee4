package mape

import (
	"encoding/json"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/knowledge/history"
	"github.com/effiscale/effiscale/knowledge/profile"
	"github.com/effiscale/effiscale/mape/execute"
	"github.com/effiscale/effiscale/mape/monitor"
	"github.com/effiscale/effiscale/mape/plan"
)

// Wish is what the planner wants of one resource, and what came of it.
type Wish struct {
	Decision knowledge.Decision
	Ruling   execute.Ruling
	Since    time.Time // since when this rule holds
}

// unit is one container in the loop.
type unit struct {
	execute.Subject
	track   monitor.Track
	reflex  plan.Reflex
	ring    *history.Ring
	service *service
	image   *image // nil: not known, or one too many
	sample  knowledge.Sample
	wishes  [2]Wish
	// hunger is the quota last wished for, before the pool was asked, and when.
	hunger   knowledge.NanoCPU
	hungerAt time.Time

	slot        int // in order and due
	slowAt      time.Time
	memoryAt    time.Time
	attachAt    time.Time // not before, after a failure
	attachError string
	watched     bool // monitoring was asked for by name
	unwatched   bool // … or refused
	meet        bool // the Engine told of a change: it is to be inspected
	metAt       time.Time
	firstSlow   bool
	tried       bool      // it was read, or could not be, at least once
	from        counters  // use is in the history up to here
	thoughtAt   time.Time // the tick that its wishes are from
	settled     bool      // its start was measured
	changed     bool      // its marks differ from what is on the disk
	lastRule    [2]knowledge.Rule
}

// service is the containers that do the same work, and what is known of it.
type service struct {
	key      knowledge.ServiceKey
	profile  *profile.Profile
	series   *history.Series
	pause    execute.Pause
	units    int
	live     int // of units, those that are measured
	dirty    bool
	lastSeen time.Time
	// interval is demand since the last deliberation, foresight what is expected
	// next; nil: it never moved.
	interval    interval
	leastMemory knowledge.Bytes
	foresight   *foresight
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
	Pauses    map[knowledge.ServiceKey]execute.Pause
	Last      map[knowledge.ContainerID]knowledge.Record
	// Unclean: the last life ended without saving.
	Unclean bool
}

func (l *Loop) restoreServices() {
	for key, p := range l.o.Restored.Profiles {
		l.service(key).profile = p
	}
	for key, s := range l.o.Restored.Series {
		l.service(key).series = s
	}
	for key, p := range l.o.Restored.Pauses {
		l.service(key).pause = p
	}
	l.restoreModels()
	for key, s := range l.o.Restored.Images {
		if len(l.images) < imagesMost && l.o.Node != "" {
			l.images[key] = newImage(l.begin, l.o.Node, s)
		}
	}
}

// service finds or makes the service of that name.
func (l *Loop) service(key knowledge.ServiceKey) *service {
	s := l.services[key]
	if s == nil {
		s = &service{key: key, profile: profile.New(), series: history.NewSeries()}
		l.services[key] = s
	}
	return s
}

// reconcile makes the loop's containers those of the listing.
func (l *Loop) reconcile(now time.Time, list []knowledge.Container) {
	seen := make(map[knowledge.ContainerID]bool, len(list))
	for i := range list {
		c := &list[i]
		seen[c.ID] = true
		if u := l.units[c.ID]; u != nil {
			l.refresh(now, u, c)
		} else if c.State != knowledge.StateDead {
			l.add(now, c)
		}
	}
	for _, u := range append([]*unit(nil), l.order...) {
		if !seen[u.Container.ID] {
			l.remove(u)
		}
	}
	l.cadence = l.set.Cadence.Spread(l.managed())
	l.listed = true
	l.forgetServices(now)
	l.forgetImages()
}

// servicesIdle bounds the services that are remembered without a container: the
// store has them all the same, up to its own bound. 512 at 12 KB are 6 MB.
const servicesIdle = 512

// forgetServices drops the services that were gone longest.
func (l *Loop) forgetServices(now time.Time) {
	var idle []*service
	for _, s := range l.services {
		if s.units == 0 && !s.pause.Active(now) && !s.dirty {
			idle = append(idle, s)
		}
	}
	if len(idle) <= servicesIdle {
		return
	}
	knowledge.SortFunc(idle, func(a, b *service) int { return a.lastSeen.Compare(b.lastSeen) })
	for _, s := range idle[:len(idle)-servicesIdle] {
		if s.foresight != nil {
			l.foresights--
		}
		delete(l.services, s.key)
	}
}

func (l *Loop) managed() (n int) {
	for _, u := range l.order {
		if u.Policy.Acts() && u.Probe != nil {
			n++
		}
	}
	return n
}

// refresh takes over what a listing tells of a known container.
func (l *Loop) refresh(now time.Time, u *unit, c *knowledge.Container) {
	old := &u.Container
	restarted := c.State != old.State && c.State == knowledge.StateRunning
	old.State, old.Name, old.Health = c.State, c.Name, c.Health
	if c.Service != u.service.key {
		l.enter(u, c.Service)
	}
	u.Gone = false
	if restarted || (u.Probe == nil && l.measured(u)) {
		l.attach(now, u)
	}
	if !l.measured(u) {
		l.detach(u)
	}
}

// measured: a container that runs, or is paused, and is not switched off.
func (l *Loop) measured(u *unit) bool {
	if u.unwatched || u.Policy.Mode == knowledge.ModeOff && !u.watched {
		return false
	}
	return u.Container.State.Runs()
}

func (l *Loop) enter(u *unit, key knowledge.ServiceKey) {
	if u.service != nil {
		u.service.leave(u)
	}
	u.service = l.service(key)
	u.service.units++
	if u.Probe != nil {
		u.service.live++
	}
	u.Pause = &u.service.pause
	u.Container.Service = key
}

// add takes a container in. Its limits and its files are read at once, the
// Engine is asked only where something may be changed.
func (l *Loop) add(now time.Time, c *knowledge.Container) {
	u := &unit{ring: history.NewRing(history.RingPoints), slot: len(l.order)}
	u.Container = *c
	u.Window = &u.track.Window
	u.Window.ID = c.ID
	u.Policy = l.set.Policy(*c)
	l.enter(u, c.Service)
	if u.image = l.image(now, c.Image); u.image != nil {
		u.image.units++
	}
	if b, ok := l.o.Restored.Marks[c.ID]; ok {
		if json.Unmarshal(b, &kept{&u.Marks, u.reflex.Climb()}) == nil {
			u.reflex.Climb().Bound(now)
			answered := !u.Marks.OOMAnswered.Before(u.Marks.LastOOM) // by that life's clock
			u.Marks.Bound(now, u.Policy.YieldFor)
			u.Window.LastOOM = u.Marks.LastOOM
			if answered {
				u.reflex.Answered(u.Marks.LastOOM)
			}
		} else {
			u.Marks, *u.reflex.Climb() = execute.Marks{}, plan.Climb{}
		}
		delete(l.o.Restored.Marks, c.ID)
	}
	u.Adopt = l.o.Restored.Unclean && !l.listed
	if o, ok := l.o.Restored.Originals[c.ID]; ok {
		u.OriginalKept, u.Original = true, o.Limits
	}
	if r, ok := l.o.Restored.Last[c.ID]; ok {
		u.LastChange = r
	}
	l.envelope(now, u)
	l.units[c.ID] = u
	l.order = append(l.order, u)
	l.due = append(l.due, l.stagger(u.slot))
	l.subjects = append(l.subjects, &u.Subject)
	if l.measured(u) {
		l.attach(now, u)
	}
}

// stagger spreads first readings over the next tick, so that a thousand
// containers are not all due in the same instant for ever.
func (l *Loop) stagger(slot int) int64 {
	return int64(l.o.Now().Sub(l.begin)) + int64(slot%10)*int64(tickEvery)
}

// attach opens the container's files. A container whose cgroup cannot be found
// without its process id is inspected first.
func (l *Loop) attach(now time.Time, u *unit) {
	l.detach(u)
	if now.Before(u.attachAt) {
		return
	}
	if u.Policy.Acts() && !u.Container.Inspected {
		l.exec.Meet(now, &u.Subject)
	}
	p, err := l.o.Attach(u.Container)
	if err != nil {
		u.attachError = err.Error()
		u.attachAt = now.Add(time.Second)
		if !u.Container.Inspected {
			l.exec.Meet(now, &u.Subject)
		}
		return
	}
	u.Probe, u.attachError, u.firstSlow = p, "", true
	u.service.live++
	l.newcomers = l.newcomers || l.owned(u) && u.Ruled.IsZero()
	u.KernelRefused = ""
	if l.set.Rules.Actuator == knowledge.ActuatorKernel && !p.Writable() {
		u.KernelRefused = "the quota file cannot be written by this process"
	}
	l.due[u.slot] = l.stagger(u.slot)
}

func (l *Loop) detach(u *unit) {
	if u.Probe == nil {
		return
	}
	_ = u.Probe.Close()
	u.Probe = nil
	u.service.live--
	u.track.Restart()
}

func (s *service) leave(u *unit) {
	s.units--
	if u.Probe != nil {
		s.live--
	}
}

// remove forgets a container; what its service learned stays.
func (l *Loop) remove(u *unit) {
	l.detach(u)
	if r, ok := u.TakeFold(l.o.Now()); ok && len(l.folds) < foldsKept {
		l.folds = append(l.folds, r)
	}
	u.service.units--
	u.service.lastSeen = l.o.Now()
	if u.image != nil {
		u.image.units--
		u.image.lastSeen = l.o.Now()
	}
	delete(l.units, u.Container.ID)
	last := len(l.order) - 1
	l.order[u.slot], l.due[u.slot], l.subjects[u.slot] = l.order[last], l.due[last], l.subjects[last]
	l.order[u.slot].slot = u.slot
	l.order, l.due, l.subjects = l.order[:last], l.due[:last], l.subjects[:last]
	l.order[:last+1][last], l.subjects[:last+1][last] = nil, nil
	u.Gone = true
	l.exec.Forget(&u.Subject)
}

// sameKill: an OOM event this soon after a kill that is known is that kill. The kernel
// counts it, the Engine tells of it, and at times again after the end.
const sameKill = time.Second

// event takes one hint of the Engine.
func (l *Loop) event(now time.Time, ev knowledge.Event) {
	u := l.units[ev.ID]
	switch ev.Kind {
	case knowledge.EventResync, knowledge.EventCreate, knowledge.EventStart, knowledge.EventRename:
		if u != nil && ev.Kind == knowledge.EventStart {
			u.Container.State = knowledge.StateRunning
			u.Container.Inspected = false
			u.Container.Restarts++
			u.settled, u.attachAt = false, time.Time{}
			if u.Policy.Acts() {
				l.exec.Host.MemoryFree -= u.Window.MemoryLimit // until it is counted anew
			}
			if f := u.service.foresight; f != nil {
				f.tracker.Restarted()
			}
			l.attach(now, u)
		}
		l.listAt = time.Time{}
	case knowledge.EventDestroy:
		if u != nil {
			l.remove(u)
		}
		return
	}
	if u == nil {
		return
	}
	switch ev.Kind {
	case knowledge.EventDie:
		u.Container.State, u.Container.PID, u.Container.Inspected = knowledge.StateExited, 0, false
		u.Ended()
		l.detach(u)
		l.due[u.slot] = 0
	case knowledge.EventPause:
		u.Container.State = knowledge.StatePaused
	case knowledge.EventUnpause:
		u.Container.State = knowledge.StateRunning
	case knowledge.EventHealth:
		l.meetSoon(u)
	case knowledge.EventOOM:
		if last := u.Window.LastOOM; !last.IsZero() && now.Sub(last) < sameKill {
			break
		}
		u.track.MarkOOM(now)
		u.Marks.LastOOM, u.changed = now, true
		u.slowAt = time.Time{}
		l.due[u.slot] = 0
	case knowledge.EventUpdate:
		if !u.InFlight { // else it is most likely our own
			l.meetSoon(u)
		}
	}
}

// meetSoon lets the next pass inspect a container. A storm of events about it
// leads to one inspect a second.
func (l *Loop) meetSoon(u *unit) {
	u.meet = true
	l.due[u.slot] = 0
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
	l.listing = l.hands.Do(l.list)
}
