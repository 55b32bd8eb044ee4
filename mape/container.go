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

// Planned is what the planner decided for one resource, and what the guards let pass.
type Planned struct {
	Decision  knowledge.Decision
	Admission execute.Admission
	Since     time.Time // since when this rule holds
}

// container is one container in the loop.
type container struct {
	execute.Container
	service *service.Service
	image   *image.Image // nil: it has no name, or there are too many
	reading reading
	track   monitor.Track
	ring    *history.Ring
	reflex  plan.Reflex
	planned [2]Planned
	request cpuRequest

	endings   endings
	slot      int       // in containerSet
	decidedAt time.Time // the tick of planned
	lastRule  [2]knowledge.Rule
	watched   bool // measuring was asked for by name
	unwatched bool // … or refused
	inspect   bool // the Engine reported a change: it has to be inspected
	inspected time.Time
	settled   bool      // its start was measured
	changed   bool      // its marks differ from what is on the disk
	claimAt   time.Time // another daemon changes it; not claimed before
}

// reading is the state of a container's measurements.
type reading struct {
	sample      knowledge.Sample
	counted     counters // what the history has
	rest        rest
	life        life
	slow        monitor.Slow
	oom         oomEvent
	used        time.Duration   // CPU time at the reading before
	couldRun    time.Time       // it was asked whether it can run
	firstHard   knowledge.Bytes // memory that reclaim cannot take, at the first reading since a start
	memory      part
	throttle    part
	begun       bool // the CPU time was read, the rest not yet
	cpuAlone    bool // its CPU time can be read alone
	firstSlow   bool
	source      paced
	tried       bool      // it was read, or could not be, at least once
	attachAt    time.Time // not before, after a failure
	lostAt      time.Time // the files went away, and there are no others; zero: there are
	attachError string
}

// paced is a source of samples whose readings are new only so often: the Engine's statistics.
type paced interface{ Every() time.Duration }

// memoryCut reports whether its memory limit is below the one that it had, or starts with: a load
// that it would have had room for may fill it.
func (c *container) memoryCut() bool {
	limit := c.Window.MemoryLimit
	below := func(other knowledge.Bytes) bool { // the kernel rounds to pages of up to 64 KiB
		return other == 0 || other-limit >= 64*knowledge.KiB
	}
	return limit > 0 && (below(c.Marks.Engine.Memory) || c.OriginalKept && below(c.Original.Memory))
}

// managed: it is measured and acted upon.
func (c *container) managed() bool { return c.Policy.Acts() && c.Probe != nil }

// claimAgain is when a container that another daemon changes is tried again. That one, restarted,
// or after a restart of the container, gets it back by then.
const claimAgain = 30 * time.Second

// claimer is a source of samples by which the daemons of a host agree which one changes a
// container.
type claimer interface {
	// Claim returns the process that has it; "": this one.
	Claim() (by string)
	Unclaim()
}

// claimCgroup makes this daemon the one that changes the container, unless another one does. It is
// measured by all.
func (c *container) claimCgroup(now time.Time) {
	source, ok := c.Probe.(claimer)
	switch {
	case !ok:
		c.Policy.Claimed = ""
	case !c.Policy.MayAct():
		source.Unclaim()
		c.Policy.Claimed = ""
	case c.Policy.Claimed == "" || !now.Before(c.claimAt):
		was := c.Policy.Claimed
		if c.Policy.Claimed = source.Claim(); c.Policy.Claimed != "" {
			c.claimAt, c.OtherAt = now.Add(claimAgain), now
		} else if was != "" { // the changes of meanwhile are that daemon's, and no user's
			c.Marks.EngineKnown, c.inspect = false, true
		}
	}
}

// measurable: it runs, or is paused, and is not switched off.
func (c *container) measurable() bool {
	if c.unwatched || c.Policy.Mode == knowledge.ModeOff && !c.watched {
		return false
	}
	return c.State.Runs()
}

// waitsForStart: it does not run, and may be started again.
func (c *container) waitsForStart() bool {
	switch c.State {
	case knowledge.StateExited, knowledge.StateRestarting, knowledge.StateCreated:
		return true
	}
	return false
}

// join makes the container one of a service's.
func (c *container) join(now time.Time, s *service.Service) {
	if c.service != nil {
		c.service.Replicas.Leave(now, c.Probe != nil)
	}
	c.service = s
	s.Replicas.Join(c.Probe != nil)
	c.Pause = &s.Pause
	c.Service = s.Key
}

// detach closes the source of samples.
func (c *container) detach() {
	if c.Probe == nil {
		return
	}
	_ = c.Probe.Close()
	c.Probe = nil
	c.service.Replicas.Measured--
	c.track.Restart()
}

// learn calls f with each profile that this container adds to: its service's and
// its image's.
func (c *container) learn(f func(*profile.Profile)) {
	c.service.Learn(f)
	if c.image != nil {
		c.image.Learn(f)
	}
}

// learnStart learns how long the service takes from its start until it is healthy or
// settled.
func (c *container) learnStart(now time.Time) {
	if c.settled || c.Finding.Starting || c.Window.Samples < 3 {
		return
	}
	c.settled = true
	if at := c.StartedAt; !at.IsZero() && now.Sub(at) < time.Hour && now.After(at) {
		c.learn(func(p *profile.Profile) { p.AddStart(now, now.Sub(at)) })
	}
}

// plan keeps a decision, and since when its rule holds.
func (c *container) plan(now time.Time, d knowledge.Decision) {
	p := &c.planned[d.Resource]
	if p.Decision.Reason.Rule != d.Reason.Rule || p.Since.IsZero() {
		p.Since = now
	}
	p.Decision, p.Admission = d, execute.Admission{Allowed: d.To}
}

// facts are what the planner needs to know of the container's service and image.
func (c *container) facts(now time.Time) plan.Facts {
	f := c.service.Facts(&c.Policy)
	if need, limit, ok := c.reflex.MemorySize(now, c.Window, &c.Policy); ok {
		f.MemoryNeed, f.MemoryLimit = need, limit
	}
	if f.NeedsImage() {
		f.Image = c.image.Facts(&c.Policy)
	}
	c.service.AddForecast(now, &f, &c.Policy, c.ring)
	return f
}

// storedMarks is what the disk has of one container.
type storedMarks struct {
	*execute.Marks
	Growth *plan.MemoryGrowth `json:"climb,omitempty"`
}

func (c *container) packMarks() ([]byte, error) {
	return json.Marshal(storedMarks{&c.Marks, c.reflex.MemoryGrowth()})
}

// restoreMarks takes over what an earlier start of the daemon packed, or nothing.
func (c *container) restoreMarks(now time.Time, b []byte) {
	if json.Unmarshal(b, &storedMarks{&c.Marks, c.reflex.MemoryGrowth()}) != nil {
		c.Marks, *c.reflex.MemoryGrowth() = execute.Marks{}, plan.MemoryGrowth{}
		return
	}
	c.reflex.MemoryGrowth().Bound(now)
	answered := !c.Marks.OOMAnswered.Before(c.Marks.LastOOM) // by the clock of then
	c.Marks.Bound(now, c.Policy.YieldFor)
	c.Window.LastOOM = c.Marks.LastOOM
	if answered {
		c.reflex.HandledOOM(c.Marks.LastOOM)
	}
}
