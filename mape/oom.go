package mape

import (
	"time"

	"github.com/rs/zerolog"

	"github.com/effiscale/effiscale/knowledge"
)

const (
	// sameKill: an OOM event this soon after a kill that is known is that kill. The
	// kernel counts it, the Engine reports it, and at times again after the exit.
	sameKill = time.Second
	// elsewhereFor is how long after memory ran out above the container its end, and the
	// Engine's event, may follow: on a busy host that lasts seconds.
	elsewhereFor = 5 * time.Second
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
	ended   time.Time // when the files went away last; a stalled Engine tells of a kill later
	// inner is about the newest kill inside, and told when the newest kill at another level was
	// logged, with its level.
	inner    knowledge.InnerKill
	told     time.Time
	toldFrom knowledge.OOMLevel
}

// innerOOM is a source of samples that knows which cgroup inside a container ran out of memory.
type innerOOM interface{ InnerKill() knowledge.InnerKill }

// oomEvent takes an OOM event of the Engine: the kernel's counters tell whether a process of
// this container was killed, and at which limit.
func (c *container) oomEvent(now time.Time, log zerolog.Logger) {
	if c.Probe == nil {
		c.killedUnread(now, log)
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
		if o.known && s.Bounds.OOM > o.above { // the end may follow before a kill is read
			o.aboveAt = s.At
		}
		o.above, o.known = s.Bounds.OOM, true
	}
	elsewhere = !w.OtherOOM.IsZero() && w.OtherOOM.Equal(s.At)
	if source, ok := c.Probe.(innerOOM); ok && elsewhere && w.OtherLevel == knowledge.OOMInner {
		o.inner = source.InnerKill()
	}
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
func (c *container) oomEnded(now time.Time, log zerolog.Logger) {
	o := &c.reading.oom
	if c.Probe != nil {
		o.ended = now
	}
	if c.Probe != nil && o.known {
		var s knowledge.Sample
		_ = c.Probe.Read(&s, knowledge.HasBounds) // what cannot be read is not known
		if s.Have&knowledge.HasBounds != 0 && s.Bounds.OOM > o.above {
			o.aboveAt, o.above = now, s.Bounds.OOM
		}
	}
	if !o.at.IsZero() {
		c.killedUnread(now, log)
	}
}

// otherOOMFor is how long an OOM kill at another level is the reason of a memory limit that
// stays.
const otherOOMFor = 10 * time.Minute

// logOther logs a kill at another level: once, however many follow.
func (o *oomEvent) logOther(now time.Time, c *container, log zerolog.Logger) {
	level := c.Window.OtherLevel
	if o.toldFrom == level && !o.told.IsZero() && now.Sub(o.told) < otherOOMFor {
		return
	}
	o.told, o.toldFrom = now, level
	line := log.Warn().Str("container", c.Name).Stringer("level", level)
	if in := &o.inner; level == knowledge.OOMInner && in.Group != "" {
		line.Str("cgroup", in.Group).Uint64("kills", in.Kills).Stringer("limit", in.Limit)
	}
	line.Msg("OOM kill, not at the container's own memory limit")
}

// nameOther gives a decision that changes nothing the kill at another level as its
// reason.
func (o *oomEvent) nameOther(now time.Time, w *knowledge.Window, d *knowledge.Decision) {
	in := &o.inner
	if d.Verb != knowledge.Hold || w.OtherOOM.IsZero() || now.Sub(w.OtherOOM) > otherOOMFor ||
		w.LastOOM.After(w.OtherOOM) {
		return
	}
	if w.OtherLevel == knowledge.OOMInner && in.Group != "" {
		d.Reason = knowledge.Because(knowledge.RuleOOMInner, float64(in.Kills), float64(in.Limit))
		d.Reason.Note = in.Group
		return
	}
	d.Reason = knowledge.Because(knowledge.RuleOOMElsewhere, float64(w.MemoryLimit))
	d.Reason.Note = w.OtherLevel.String()
}

// killedUnread notes an OOM kill that the Engine reported and the files could not: the
// control group went away with its last process.
func (c *container) killedUnread(now time.Time, log zerolog.Logger) {
	o := &c.reading.oom
	o.at = time.Time{}
	last, other, ended := c.Window.LastOOM, c.Window.OtherOOM, o.ended
	if ended.IsZero() {
		ended = now
	}
	switch {
	case !last.IsZero() && now.Sub(last) < sameKill, !other.IsZero() && ended.Sub(other) < elsewhereFor:
		return
	case !o.aboveAt.IsZero() && ended.Sub(o.aboveAt) < elsewhereFor:
		c.track.MarkOtherOOM(now, knowledge.OOMParent)
		o.logOther(now, c, log)
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
