package mape

import (
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

const (
	// sameKill: an OOM event this soon after a kill that is known is that kill. The
	// kernel counts it, the Engine reports it, and at times again after the exit.
	sameKill = time.Second
	// oomSettles is how long after the Engine's event the kernel's counters are read for a
	// kill. The event reaches every container below the cgroup that ran out of memory.
	oomSettles = time.Second
)

// oomEvent is an OOM event of the Engine for which no kill is counted yet.
type oomEvent struct {
	at    time.Time // zero: none
	above uint64    // Bounds.OOM at the last reading
	known bool      // it was read
	// aboveAt is when memory last ran out above the container, as far as it concerns an end.
	aboveAt time.Time
}

// oomEvent takes an OOM event of the Engine: the kernel's counters tell whether a process of
// this container was killed, and at which limit.
func (c *container) oomEvent(now time.Time) {
	if c.Probe == nil {
		c.killedUnread(now)
		return
	}
	if c.reading.oom.at.IsZero() {
		c.reading.oom.at = now
	}
	c.reading.slow.Soon()
}

// oomRead ends the wait for a kill: one was counted, or none that concerns it. It reports
// whether one was counted at another level.
func (c *container) oomRead() (elsewhere bool) {
	o, w, s := &c.reading.oom, c.Window, &c.reading.sample
	if s.Have&knowledge.HasBounds != 0 {
		o.above, o.known = s.Bounds.OOM, true
	}
	elsewhere = !w.OtherOOM.IsZero() && w.OtherOOM.Equal(s.At)
	switch {
	case o.at.IsZero():
	case w.OOMKills > 0, w.OtherOOM.After(o.at), w.At.Sub(o.at) >= oomSettles:
		o.at = time.Time{}
	default:
		c.reading.slow.Soon() // read again in the next pass
	}
	return elsewhere
}

// oomEnded is for a container whose files are about to be closed: it ended, and of a kill
// that the Engine reported the files tell no more.
func (c *container) oomEnded(now time.Time) {
	o := &c.reading.oom
	if c.Probe != nil && o.known {
		var s knowledge.Sample
		_ = c.Probe.Read(&s, knowledge.HasBounds) // what cannot be read is not known
		if s.Have&knowledge.HasBounds != 0 && s.Bounds.OOM > o.above {
			o.aboveAt, o.above = now, s.Bounds.OOM
		}
	}
	if !o.at.IsZero() {
		c.killedUnread(now)
	}
}

// otherOOMFor is how long an OOM kill at another level is the reason of a memory limit that
// stays.
const otherOOMFor = 10 * time.Minute

// nameOtherOOM gives a decision that changes nothing the kill at another level as its
// reason.
func nameOtherOOM(now time.Time, w *knowledge.Window, d *knowledge.Decision) {
	if d.Verb != knowledge.Hold || w.OtherOOM.IsZero() || now.Sub(w.OtherOOM) > otherOOMFor ||
		w.LastOOM.After(w.OtherOOM) {
		return
	}
	d.Reason = knowledge.Because(knowledge.RuleOOMElsewhere, float64(w.MemoryLimit))
	d.Reason.Note = w.OtherLevel.String()
}

// killedUnread notes an OOM kill that the Engine reported and the files could not: the
// control group went away with its last process.
func (c *container) killedUnread(now time.Time) {
	o := &c.reading.oom
	o.at = time.Time{}
	if last := c.Window.LastOOM; !last.IsZero() && now.Sub(last) < sameKill {
		return
	}
	if !o.aboveAt.IsZero() && now.Sub(o.aboveAt) < sameKill {
		c.track.MarkOtherOOM(now, knowledge.OOMParent)
		return
	}
	c.track.MarkOOM(now)
	c.reflex.Killed(now, c.Window, &c.Policy)
	c.Marks.LastOOM, c.changed = now, true
}

// oomCovered notes that a limit is what the last OOM kill requires, as that of a next life may
// be at once: after a restart of the daemon the kill is not taken for one at that limit.
func (c *container) oomCovered(now time.Time, limit knowledge.Bytes) {
	if m := &c.Marks; m.OOMAnswered.Before(m.LastOOM) && c.reflex.CoversOOM(c.Window, limit) {
		m.OOMAnswered, c.changed = now, true
	}
}
