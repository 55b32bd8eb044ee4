package mape

import (
	"context"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/knowledge/profile"
	"github.com/effiscale/effiscale/mape/analyse"
	"github.com/effiscale/effiscale/mape/execute"
)

// list is the job that reads the listing.
func (l *Loop) list(ctx context.Context) func() {
	list, err := l.o.Engine.List(ctx)
	return func() {
		l.listing = false
		now := l.o.Now()
		if err != nil {
			// The next try comes with the back-off of the Engine's own door: calls
			// fail at once while it is gone, and its events tell when it is back.
			l.o.Log.Debug().Err(err).Msg("cannot list containers")
			l.listErr = err.Error()
			l.listAt = now.Add(time.Second - l.set.ListEvery)
			return
		}
		l.listErr = ""
		l.reconcile(now, list)
	}
}

// measure reads the containers that are due and says what is wrong with them. It
// returns how many were read.
func (l *Loop) measure(now time.Time) (read int) {
	at := int64(now.Sub(l.begin))
	l.thought = l.thought[:0]
	inspects := 0
	for i := 0; i < len(l.due); i++ {
		if l.due[i] > at {
			continue
		}
		u := l.order[i]
		if u.Probe == nil {
			if l.measured(u) && !now.Before(u.attachAt) {
				l.attach(now, u)
			}
			if u.Probe == nil {
				l.due[i] = at + int64(l.afterKill(now, u))
				continue
			}
		}
		if (!u.Container.Inspected || u.meet || u.Unread && !u.InFlight) && now.Sub(u.metAt) >= meetApart && inspects < inspectPerTick {
			inspects++
			u.meet, u.metAt = false, now
			l.exec.Meet(now, &u.Subject)
		}
		l.observe(now, u)
		l.think(now, u)
		read++
		acted := u.Policy.Acts()
		l.due[i] = at + int64(l.cadence.Next(&u.Finding, u.Window, acted, u.Watched(now)))
	}
	return read
}

// afterKill gives a container that was killed for memory, and waits for its next
// life, a higher limit: what dies within milliseconds of each start is never
// measured. It says when to look again. The Engine is asked first: a person may have
// changed the limit meanwhile.
func (l *Loop) afterKill(now time.Time, u *unit) (again time.Duration) {
	again = time.Second
	if u.Window.LastOOM.IsZero() || !u.Policy.Acts() || !u.down() {
		return again
	}
	if u.Gone { // is it still there? the listing tells
		l.listAt = time.Time{}
		return again
	}
	if u.InFlight {
		return tickEvery
	}
	if !u.Container.Inspected || u.Unread || u.meet {
		u.meet = false
		u.Container.Inspected = false
		l.exec.Meet(now, &u.Subject)
		return tickEvery
	}
	l.exec.Review(now, &u.Subject)               // a cut that killed is one that hurt
	u.Window.MemoryLimit = u.Marks.Engine.Memory // what the next life begins with
	d := u.reflex.AfterKill(now, u.Window, &u.Envelope, &u.Policy)
	if d.Reason.Rule == "" {
		d.Reason = knowledge.Reason{Rule: knowledge.RuleNotRunning, Note: u.Container.State.String()}
	}
	l.wish(now, u, d)
	l.try(now, u, &u.wishes[knowledge.ResourceMemory])
	return again
}

// down: it waits for its next life.
func (u *unit) down() bool {
	switch u.Container.State {
	case knowledge.StateExited, knowledge.StateRestarting, knowledge.StateCreated:
		return true
	}
	return false
}

// observe reads one container into its window.
func (l *Loop) observe(now time.Time, u *unit) {
	s := &u.sample
	s.Have = 0
	err := l.readFast(now, u)
	u.tried = true
	slow := u.firstSlow || now.Sub(u.slowAt) >= l.cadence.SlowEvery(u.Window, u.Policy.Acts())
	if err == nil && slow {
		err = l.readSlow(now, u)
	}
	if err != nil && s.Have&knowledge.HasCPU == 0 {
		l.lost(now, u, err)
		return
	}
	if err != nil { // one file makes no sense; the others do
		l.o.Meter.Rejected("unreadable")
	}
	if l.fold(u) && slow {
		l.exec.Compare(now, &u.Subject)
	}
}

// cpuReader is a probe that can read CPU without memory.
type cpuReader interface {
	CPU(s *knowledge.Sample) error
}

// memoryEvery is how often memory is read of a container that is watched ten
// times a second for its CPU alone.
const memoryEvery = 500 * time.Millisecond

// readFast reads CPU, and memory unless it was read just now and is in no hurry.
func (l *Loop) readFast(now time.Time, u *unit) error {
	c, ok := u.Probe.(cpuReader)
	calm := u.Finding.Memory < knowledge.SymptomTight && (u.Finding.TimeToFull == 0 || u.Finding.TimeToFull > 30*time.Second)
	if ok && calm && u.Window.Samples >= 3 && now.Sub(u.memoryAt) < memoryEvery {
		return c.CPU(&u.sample)
	}
	u.memoryAt = now
	return u.Probe.Fast(&u.sample)
}

func (l *Loop) readSlow(now time.Time, u *unit) error {
	u.slowAt = now
	if u.firstSlow { // spread the next ones, or a thousand would be due at once for ever
		every := l.cadence.SlowEvery(u.Window, u.Policy.Acts())
		u.slowAt = now.Add(-time.Duration(u.slot%100) * every / 100)
	}
	err := u.Probe.Slow(&u.sample)
	// What the kernel holds when a container starts again is taken as it is: a
	// restart is no reason to change anything. A restart of the daemon is told from
	// somebody else's change first.
	if u.firstSlow && u.Settled() && u.Marks.QuotaSet && u.sample.Have&knowledge.HasLimits != 0 {
		u.Marks.Quota = u.sample.Quota
	}
	u.firstSlow = false
	return err
}

// fold takes the sample into the window, and what a minute leaves into the profile.
func (l *Loop) fold(u *unit) bool {
	if u.sample.Have == 0 { // the Engine's statistics have nothing new
		return false
	}
	accepted, minute := u.track.Observe(&u.sample, l.o.Host.CPUs)
	if !accepted {
		l.o.Meter.Rejected("absurd")
		return false
	}
	w := u.Window
	if w.OOMKills > 0 {
		u.Marks.LastOOM, u.changed = w.LastOOM, true
	}
	if minute.Closed && minute.Peak > 0 {
		u.teach(func(p *profile.Profile) { p.AddMemoryPeak(w.At, minute.Peak) })
	}
	l.second(u)
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
func (l *Loop) second(u *unit) {
	w, from := u.Window, u.from
	to := counters{w.At, u.sample.CPUUsage, u.sample.ThrottledTime, u.sample.Throttled}
	if w.Samples < 2 || from.at.IsZero() || to.cpu < from.cpu || to.held < from.held || to.throttled < from.throttled {
		u.from = to
		return
	}
	dt := to.at.Sub(from.at)
	if dt < secondLeast {
		return
	}
	u.from = to
	cpus := float64(l.o.Host.CPUs)
	use := min(float64(to.cpu-from.cpu)/float64(dt), 1.1*cpus)
	demand := use + min(float64(to.held-from.held)/float64(dt), cpus)
	censored := to.throttled > from.throttled
	u.teach(func(p *profile.Profile) {
		p.AddCPU(w.At, demand, dt, censored)
		p.AddGrowth(w.At, w.Growth)
	})
	u.service.interval.add(demand, censored)
	u.service.interval.memory = max(u.service.interval.memory, w.WorkingSet)
	u.harm(use, dt)
	point := knowledge.Point{
		At: w.At.UnixNano(), CPU: float32(use), Demand: float32(demand), CPULimit: float32(w.Quota.Cores()),
		Throttled: float32(w.ThrottleRatio), WorkingSet: w.WorkingSet, MemoryLimit: w.MemoryLimit,
	}
	u.ring.Add(point)
	u.service.series.Add(point, dt, u.service.live)
}

// lost is what happens when the files cannot be read: the cgroup went away with
// its container, or the container was restarted and has a new one.
func (l *Loop) lost(now time.Time, u *unit, err error) {
	u.attachError = err.Error()
	l.o.Meter.Rejected("unreadable")
	l.detach(u)
	u.attachAt = now.Add(200 * time.Millisecond)
	l.listAt = time.Time{}
}

// think takes one window through analysis and planning.
func (l *Loop) think(now time.Time, u *unit) {
	maxAge := time.Duration(l.set.StaleAfter) * max(l.cadence.Idle, time.Second)
	u.Finding = analyse.Assess(now, u.Window, &u.Policy, &u.Container, maxAge)
	if u.Finding.Memory >= knowledge.SymptomTight && u.Probe != nil && !u.track.FreshDetail() {
		// Page cache counts as use until memory.stat says otherwise: look before
		// memory is given away for it.
		u.sample.Have = 0
		if u.Probe.Memory(&u.sample) == nil && l.fold(u) {
			u.Finding = analyse.Assess(now, u.Window, &u.Policy, &u.Container, maxAge)
		}
	}
	if u.Probe == nil {
		return
	}
	l.measureStart(now, u)
	l.exec.Review(now, &u.Subject)
	cpu := u.reflex.CPU(now, &u.Finding, u.Window, &u.Envelope, &u.Policy)
	mem := u.reflex.Memory(now, &u.Finding, u.Window, &u.Envelope, &u.Policy)
	l.wish(now, u, cpu)
	l.wish(now, u, mem)
	u.thoughtAt = now
	l.thought = append(l.thought, u)
}

// wish keeps what is wanted, and since when for this reason.
func (l *Loop) wish(now time.Time, u *unit, d knowledge.Decision) {
	w := &u.wishes[d.Resource]
	if w.Decision.Reason.Rule != d.Reason.Rule || w.Since.IsZero() {
		w.Since = now
	}
	w.Decision, w.Ruling = d, execute.Ruling{Allowed: d.To}
}

// measureStart learns how long the service takes from its start until it is
// healthy or settled.
func (l *Loop) measureStart(now time.Time, u *unit) {
	if u.settled || u.Finding.Starting || u.Window.Samples < 3 {
		return
	}
	u.settled = true
	if at := u.Container.StartedAt; !at.IsZero() && now.Sub(at) < time.Hour && now.After(at) {
		u.teach(func(p *profile.Profile) { p.AddStart(now, now.Sub(at)) })
	}
}
