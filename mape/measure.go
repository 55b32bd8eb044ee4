package mape

import (
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/knowledge/profile"
	"github.com/effiscale/effiscale/mape/analyse"
	"github.com/effiscale/effiscale/mape/monitor"
)

// measure reads the containers that are due, and takes each through analysis and plan.
func (l *Loop) measure(now time.Time) {
	started := l.o.Now()
	at, set := now.Sub(l.begin), l.containers
	set.next = at + pauseMost
	l.decided = l.decided[:0]
	inspects, read := 0, 0
	for i, dueAt := range set.due {
		if dueAt > at {
			set.next = min(set.next, dueAt)
			continue
		}
		c := set.order[i]
		if c.Probe == nil {
			if c.measurable() && !now.Before(c.reading.attachAt) {
				l.attach(now, c)
			}
			if c.Probe == nil {
				if c.Unsure() {
					l.exec.Inspect(now, &c.Container)
				}
				set.readAgain(c, at, l.atRest(now, c))
				continue
			}
		}
		stale := !c.Inspected || c.inspect || c.Unread && !c.InFlight || c.Unsure()
		if stale && now.Sub(c.inspected) >= inspectApart && inspects < inspectPerTick {
			inspects++
			c.inspect, c.inspected = false, now
			l.exec.Inspect(now, &c.Container)
		}
		read++
		if dueAt != 0 && l.resting(at, c) {
			set.readAgain(c, at, c.reading.rest.every)
			continue
		}
		l.observe(now, c)
		l.decide(now, c)
		every := l.cadence.Next(&c.Finding, c.Window, c.Policy.Acts(), c.Watched(now))
		if c.memoryCut() && c.Policy.Acts() {
			every = l.cadence.AfterCut(c.Window, every)
		}
		if c.Window.Stopped != knowledge.StopNone {
			every = stoppedEvery
		}
		c.startRest(at, &l.cadence, every)
		set.readAgain(c, at, every)
	}
	if read > 0 {
		l.o.Meter.ObserveLoop("measure", l.o.Now().Sub(started))
	}
}

const (
	// restMost is how long a container that does nothing goes without a whole
	// reading: its CPU time alone is read meanwhile.
	restMost = 10 * time.Second
)

// rest is what a container that does nothing is compared with.
type rest struct {
	until time.Duration // a whole reading is due then, since the loop began
	every time.Duration
	at    time.Time // of the newest reading that found nothing; zero: none
}

// startRest lets the next readings of a container that is calm look at its CPU time
// alone.
func (c *container) startRest(at time.Duration, cadence *monitor.Cadence, every time.Duration) {
	c.reading.rest = rest{every: every}
	if c.Probe == nil || !c.reading.cpuAlone || c.Window.Stopped != knowledge.StopNone ||
		c.Finding.Quality != knowledge.QualityGood ||
		every < min(cadence.Busy, cadence.Idle) || c.InFlight || c.Unread || c.Unsure() ||
		!c.Inspected && c.Policy.Acts() {
		return
	}
	for r := range c.planned {
		if c.planned[r].Decision.Verb != knowledge.Hold {
			return
		}
	}
	c.reading.rest.until = onGrid(at, restMost, c.slot)
}

// resting reads the CPU time of a container that was calm, and reports whether it
// stood still. What moved gets a whole reading, and until when it stood still is
// part of the history: use is not spread over the time before.
func (l *Loop) resting(at time.Duration, c *container) bool {
	if at >= c.reading.rest.until || c.inspect {
		return false
	}
	s := &l.scratch
	s.Have = 0
	if err := c.Probe.Read(s, knowledge.HasCPU); err != nil || s.Have&knowledge.HasCPU == 0 {
		return false
	}
	last := &c.reading.sample
	if used := s.CPUUsage - last.CPUUsage; used < 0 || used > monitor.Still {
		if !c.reading.rest.at.IsZero() {
			last.At = c.reading.rest.at
			last.Have &^= knowledge.SlowTier // limits may have been written meanwhile
			l.fold(c)
		}
		last.At, last.CPUUsage, last.Have = s.At, s.CPUUsage, s.Have
		if s.Have&knowledge.HasThrottle != 0 {
			last.Periods, last.Throttled, last.ThrottledTime = s.Periods, s.Throttled, s.ThrottledTime
		}
		c.reading.begun = true
		return false
	}
	c.reading.rest.at, c.Window.At = s.At, s.At
	return true
}

// atRest looks after a managed container that does not run: what it starts with next. One
// that was killed for memory gets a higher limit: a program that is killed within
// milliseconds of each start is never measured. It returns when to check again. The
// container is inspected first: a person may have changed the limit meanwhile.
func (l *Loop) atRest(now time.Time, c *container) (again time.Duration) {
	again = time.Second
	if !c.Policy.Acts() || !c.waitsForStart() {
		return again
	}
	killed := !c.Window.LastOOM.IsZero()
	switch {
	case c.Gone && killed: // the listing shows whether it still exists
		l.listing.at = time.Time{}
		return again
	case c.Gone:
		return again
	case c.InFlight && killed:
		return tickEvery
	case !c.Inspected || c.Unread || c.inspect:
		c.inspect, c.Inspected = false, false
		l.exec.Inspect(now, &c.Container)
		if killed {
			again = tickEvery
		}
		return again
	case !killed:
		l.exec.KeepStart(now, &c.Container)
		return again
	}
	l.exec.Review(now, &c.Container) // a cut that led to the kill did harm
	if c.Window.MemoryLimit == 0 {   // it was not measured by this daemon
		c.Window.MemoryLimit = c.Marks.Engine.Memory
	}
	d := c.reflex.AfterKill(now, c.Window, c.Marks.Engine.Memory, &c.Envelope, &c.Policy)
	c.oomCovered(now, c.Marks.Engine.Memory)
	if d.Reason.Rule == "" {
		d.Reason = knowledge.Reason{Rule: knowledge.RuleNotRunning, Note: c.State.String()}
	}
	c.plan(now, d)
	l.apply(now, c, &c.planned[knowledge.ResourceMemory])
	l.exec.KeepStart(now, &c.Container)
	return again
}

// observe reads one container into its window.
func (l *Loop) observe(now time.Time, c *container) {
	s := &c.reading.sample
	err := c.readFast(now)
	c.reading.tried = true
	if err == nil {
		err = c.readSlow(now, &l.cadence)
	}
	if err != nil && s.Have&knowledge.HasCPU == 0 {
		l.lost(now, c, err)
		return
	}
	if err != nil { // one file is invalid; the others are used
		l.o.Meter.Rejected("unreadable")
	}
	c.notice(now)
	if l.fold(c) && s.Have&knowledge.HasLimits != 0 {
		l.exec.Compare(now, &c.Container)
	}
}

const (
	// memoryEvery is how often memory is read of a container that is watched ten
	// times a second for its CPU alone.
	memoryEvery = 500 * time.Millisecond
	// memoryMost and throttleMost are how long memory and throttling are taken as they
	// were of a container that used too little CPU time to change them.
	memoryMost, throttleMost = 5 * time.Second, 10 * time.Second
)

// readFast reads CPU, throttling where there may have been some, and memory unless it was
// read just now and is in no hurry.
func (c *container) readFast(now time.Time) error {
	s, r := &c.reading.sample, &c.reading
	if !r.begun {
		s.Have = 0
		if err := c.Probe.Read(s, knowledge.HasCPU); err != nil || s.Have == 0 {
			return err
		}
	}
	r.begun = false
	r.cpuAlone = s.Have&^(knowledge.HasCPU|knowledge.HasThrottle) == 0
	more := knowledge.Signals(0)
	if s.Have&knowledge.HasThrottle == 0 {
		if r.firstSlow || now.Sub(r.throttle.at) >= throttleMost || monitor.MayThrottle(c.Window, s.CPUUsage-r.throttle.cpu) {
			more, r.throttle = knowledge.HasThrottle, part{now, s.CPUUsage}
		} else {
			s.Have |= c.Window.Have & knowledge.HasThrottle // as it was
		}
	}
	f := &c.Finding
	calm := f.Memory < knowledge.SymptomTight && (f.TimeToFull == 0 || f.TimeToFull > 30*time.Second)
	wait := min(memoryEvery, monitor.FillTime(c.Window))
	if !monitor.MayGrow(c.Window, s.CPUUsage-r.memory.cpu) && !c.Watched(now) {
		wait = memoryMost
	}
	if s.Have&knowledge.HasMemory == 0 && !(calm && c.Window.Samples >= 3 && now.Sub(r.memory.at) < wait) {
		more, r.memory = more|knowledge.HasMemory, part{now, s.CPUUsage}
	}
	if more == 0 {
		return nil
	}
	return c.Probe.Read(s, more)
}

// part is when a part of the fast tier was read, and the CPU time used until then.
type part struct {
	at  time.Time
	cpu time.Duration
}

// readSlow reads the part of the slow tier that is due.
func (c *container) readSlow(now time.Time, cadence *monitor.Cadence) error {
	acts, watched := c.Policy.Acts(), c.Watched(now)
	every := cadence.SlowEvery(c.Window, acts)
	if watched {
		every = cadence.Slow
	}
	s := &c.reading.sample
	groups := c.reading.slow.Due(now, c.Window, s.MemoryUsage, every, watched || acts && !c.Settled())
	if s.Have&knowledge.HasMemory != 0 && monitor.Full(c.Window, s.MemoryUsage) {
		groups |= knowledge.HasMemoryStat | knowledge.HasOOM
	}
	if groups == 0 {
		return nil
	}
	if groups&knowledge.HasMemoryStat != 0 { // the two are compared, and must be of one instant
		groups |= knowledge.HasMemory
	}
	err := c.Probe.Read(s, groups)
	if !c.reading.firstSlow {
		return err
	}
	c.reading.slow.Start(now, every, c.slot)
	c.reading.firstSlow = false
	return err
}

// fold takes the sample into the window, and what a minute leaves into the profile.
func (l *Loop) fold(c *container) bool {
	if c.reading.sample.Have == 0 { // the Engine's statistics have nothing new
		return false
	}
	accepted, minute := c.track.Observe(&c.reading.sample, l.o.Host.CPUs)
	if !accepted {
		l.o.Meter.Rejected("absurd")
		return false
	}
	c.growsFromStart()
	w := c.Window
	if w.OOMKills > 0 {
		c.Marks.LastOOM, c.changed = w.LastOOM, true
	}
	if c.oomRead() {
		c.reading.oom.logOther(w.At, c, l.o.Log)
	}
	if minute.Closed && minute.Peak > 0 {
		c.learn(func(p *profile.Profile) { p.AddMemoryPeak(w.At, minute.Peak) })
	}
	c.second(l.o.Host.CPUs)
	return true
}

// secondLeast is a second of use, less what two passes may lie off their time: at
// a reading each second none is left out.
const secondLeast = 950 * time.Millisecond

// counters are a container's at one instant.
type counters struct {
	at        time.Time
	cpu, held time.Duration
	throttled uint64
}

// second takes in about a second of use at a time, whatever the cadence: bursts of
// 100 ms are the reflex's business, not history's. Demand is what was used and what
// the quota held back, a lower bound while it was throttled.
func (c *container) second(hostCPUs int) {
	w, from := c.Window, c.reading.counted
	if w.Stopped != knowledge.StopNone {
		return
	}
	to := counters{w.At, c.reading.sample.CPUUsage, c.reading.sample.ThrottledTime, c.reading.sample.Throttled}
	if w.Samples < 2 || from.at.IsZero() || to.cpu < from.cpu || to.held < from.held || to.throttled < from.throttled {
		c.reading.counted = to
		return
	}
	dt := to.at.Sub(from.at)
	if dt < secondLeast {
		return
	}
	c.reading.counted = to
	cpus := float64(hostCPUs)
	use := min(float64(to.cpu-from.cpu)/float64(dt), 1.1*cpus)
	demand := use + min(float64(to.held-from.held)/float64(dt), cpus)
	censored := to.throttled > from.throttled
	c.learn(func(p *profile.Profile) {
		p.AddCPU(w.At, demand, dt, censored)
		p.AddGrowth(w.At, w.Growth)
	})
	c.service.ObserveDemand(demand, censored, w.WorkingSet)
	c.service.ObserveHarm(w, &c.Policy, use, dt)
	point := knowledge.Point{
		At: w.At.UnixNano(), CPU: float32(use), Demand: float32(demand), CPULimit: float32(w.Quota.Cores()),
		Throttled: float32(w.ThrottleRatio), WorkingSet: w.WorkingSet, MemoryLimit: w.MemoryLimit,
	}
	c.ring.Add(point)
	c.service.Series.Add(point, dt, c.service.Replicas.Measured)
}

// lost is what happens when the files cannot be read: the cgroup went away with
// its container, or the container was restarted and has a new one.
func (l *Loop) lost(now time.Time, c *container, err error) {
	c.reading.attachError = err.Error()
	l.o.Meter.Rejected("unreadable")
	c.oomEnded(now, l.o.Log)
	c.detach()
	c.Inspected = false // it may have been started again
	c.reading.attachAt, c.reading.lostAt = now.Add(200*time.Millisecond), now
	l.listing.at = time.Time{}
}

// interval is the time between two answers of a source that sets it itself; 0: it does not.
func (r *reading) interval() time.Duration {
	if r.source == nil {
		return 0
	}
	return r.source.Every()
}

const (
	// growthKnown is how long a container is read until its growth is measured, at the least.
	growthKnown = time.Second
	// growthAssumed bounds the growth that is assumed until then, in bytes a second: what a program
	// takes at once at its start is not taken again.
	growthAssumed = 100e6
)

// growsFromStart takes the mean since the start for the growth of memory that is not measured yet,
// and no more than the readings so far have: a program that fills its limit at 100 MB/s from its
// start on is at 64 MiB before.
func (c *container) growsFromStart() {
	w := c.Window
	age := w.At.Sub(c.StartedAt)
	if c.StartedAt.IsZero() || age <= 0 || w.At.Sub(w.Since) >= growthKnown {
		return
	}
	grows := min(float64(w.Hard)/age.Seconds(), growthAssumed)
	if since := w.At.Sub(w.Since); since > 0 {
		grows = min(grows, float64(w.Hard-c.reading.firstHard)/since.Seconds())
	} else {
		c.reading.firstHard = w.Hard
	}
	w.Growth = max(w.Growth, grows)
}

// decide takes one window through analysis and planning.
func (l *Loop) decide(now time.Time, c *container) {
	maxAge := time.Duration(l.set.StaleAfter) * max(l.cadence.Idle, time.Second, c.reading.interval())
	c.Finding = analyse.Assess(now, c.Window, &c.Policy, &c.Container.Container, maxAge)
	if c.Finding.Memory >= knowledge.SymptomTight && c.Probe != nil && !c.track.FreshDetail() {
		// Page cache counts as use until memory.stat says otherwise, and what was read in an
		// earlier pass may be of before an own cut: read it before memory is granted.
		if l.readMemory(now, c) {
			c.Finding = analyse.Assess(now, c.Window, &c.Policy, &c.Container.Container, maxAge)
		}
	}
	if c.Probe == nil {
		return
	}
	c.decidedAt = now
	l.decided = append(l.decided, c)
	if c.Window.Stopped != knowledge.StopNone {
		c.decideStopped(now)
		return
	}
	c.learnStart(now)
	c.lookAtProcesses(now)
	life := &c.reading.life
	c.Window.Reserved, c.Window.Planned = life.reserved(&c.reading.sample), life.mapped.Planned
	c.Window.Reaction = l.reaction.take(now, &c.Container)
	l.exec.Review(now, &c.Container)
	c.reflex.Before = c.Marks.Before
	cpu := c.reflex.CPU(now, &c.Finding, c.Window, &c.Envelope, &c.Policy)
	mem := c.reflex.Memory(now, &c.Finding, c.Window, &c.Envelope, &c.Policy)
	c.oomCovered(now, c.Window.MemoryLimit)
	if mem.Reason.Rule == knowledge.RuleUnused && c.reading.life.runtime.Heap {
		mem.Reason.Note = c.reading.life.runtime.Name
	}
	if mem.Verb == knowledge.Shrink && c.Policy.Acts() &&
		c.reading.sample.Have&knowledge.HasMemory == 0 && !l.readMemory(now, c) {
		// The guards compare a cut with what is in use now.
		mem.Verb, mem.To, mem.Reason = knowledge.Hold, mem.From, knowledge.Because(knowledge.RuleMissing)
	}
	c.reading.oom.nameOther(now, c.Window, &mem)
	c.plan(now, cpu)
	c.plan(now, mem)
}

// readMemory reads the memory in use and its detail, and reports whether they are in the
// window.
func (l *Loop) readMemory(now time.Time, c *container) bool {
	s := &c.reading.sample
	s.Have &= knowledge.HasCPU | knowledge.HasThrottle // of the same instant
	c.reading.memory = part{now, s.CPUUsage}
	err := c.Probe.Read(s, knowledge.HasMemory|knowledge.HasMemoryStat|knowledge.HasOOM)
	return err == nil && s.Have&knowledge.HasMemory != 0 && l.fold(c)
}
