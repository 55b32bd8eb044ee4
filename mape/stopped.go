package mape

import (
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// stoppedEvery is how often a container that cannot run is read, and how often at most one
// that uses no CPU time is asked whether it can.
const stoppedEvery = time.Second

// notice finds out whether the container could run since the reading before. The time in
// which it could not is no evidence: rates begin again after it.
func (c *container) notice(now time.Time) {
	s, was := &c.reading.sample, c.Window.Stopped
	still := s.CPUUsage == c.reading.used
	c.reading.used = s.CPUUsage
	c.Window.Stopped = knowledge.StopNone
	switch {
	case c.State == knowledge.StatePaused:
		c.Window.Stopped = knowledge.StopPaused
	case still && (was != knowledge.StopNone || now.Sub(c.reading.couldRun) >= stoppedEvery):
		// Only what used no CPU time at all can have been stopped.
		c.reading.couldRun = now
		_ = c.Probe.Read(s, knowledge.HasStopped) // what cannot be read stops nothing
		if s.Have&knowledge.HasStopped != 0 {
			c.Window.Stopped = s.Stopped
		}
	}
	if was != knowledge.StopNone && c.Window.Stopped == knowledge.StopNone {
		c.track.Restart()
	}
	if c.Window.Stopped != knowledge.StopNone {
		c.reading.counted = counters{}
	}
}

// decideStopped decides about a container that cannot run: nothing, but more memory where it
// waits for it.
func (c *container) decideStopped(now time.Time) {
	c.plan(now, c.holds(now, knowledge.ResourceCPU))
	mem := c.holds(now, knowledge.ResourceMemory)
	if c.Window.Stopped == knowledge.StopOOM {
		if d := c.reflex.Memory(now, &c.Finding, c.Window, &c.Envelope, &c.Policy); d.Verb == knowledge.Grow {
			mem = d
		}
	}
	c.plan(now, mem)
}

// holds leaves a limit as it is because the container cannot run.
func (c *container) holds(now time.Time, r knowledge.Resource) knowledge.Decision {
	return knowledge.Decision{
		ID: c.ID, Resource: r, Actor: knowledge.ActorReflex, At: now, From: c.Limit(r), To: c.Limit(r),
		Reason: knowledge.Reason{Rule: knowledge.RuleNotRunning, Note: c.Window.Stopped.String()},
	}
}
