package execute

import (
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// Marks are what must survive a restart of the daemon for one container.
type Marks struct {
	// Engine is the Engine's record, with which the container starts: what was last sent
	// or read. A difference that is found later is an external change.
	Engine      knowledge.Limits `json:"engine"`
	EngineKnown bool             `json:"engine_known"`
	// Sent are limits that were sent to the Engine without an answer.
	Sent []Sent `json:"unanswered,omitempty"`
	// Restore: the Engine's record has to become the original yet, per resource.
	Restore [2]bool `json:"restore,omitzero"`
	// Quota and Memory are what should be in force, as last written to the kernel; 0 with
	// QuotaSet or MemorySet: no limit. Without these it is the Engine's record.
	Quota     knowledge.NanoCPU `json:"quota"`
	QuotaSet  bool              `json:"quota_set"`
	Memory    knowledge.Bytes   `json:"memory,omitempty"`
	MemorySet bool              `json:"memory_set,omitempty"`
	// Started is when the process started that Quota and Memory are about.
	Started time.Time `json:"started,omitzero"`
	// Before are the limits that were in force before they were put back, by a new start
	// of the container or by others, per resource; 0: none, or it grew since.
	Before [2]int64 `json:"before,omitzero"`
	// Asked are the limits that a person set by `effiscale scale`, which the container
	// starts with until it needs more, per resource; 0: none.
	Asked [2]int64 `json:"asked,omitzero"`
	// ExternalUntil: automation does not touch an external change until then.
	ExternalUntil time.Time `json:"external_until,omitzero"`
	// HeldBy is who set a limit by a request, which is kept until ExternalUntil; "": it was
	// changed externally.
	HeldBy string `json:"held_by,omitempty"`
	// HeldFrom are the limits in force before the change that is kept, per resource.
	HeldFrom [2]int64 `json:"held_from,omitzero"`
	// Pinned: their value lies outside the policy; it stays until they change it.
	Pinned bool `json:"pinned,omitempty"`
	// Raised are floors that were raised by cuts that did harm, per resource.
	Raised [2]RaisedFloor `json:"raised"`
	// Shrinks counts memory cuts of Day (days since 1970, UTC).
	Day     int64     `json:"day"`
	Shrinks int       `json:"shrinks"`
	LastOOM time.Time `json:"last_oom,omitzero"`
	// OOMAnswered is when the limit last followed from an OOM kill, or a person set it.
	OOMAnswered time.Time `json:"oom_answered,omitzero"`
	// LastShrink and LastGrow are per resource, for cooldowns.
	LastShrink [2]time.Time `json:"last_shrink"`
	LastGrow   [2]time.Time `json:"last_grow"`
	// Since is when the container was first managed.
	Since time.Time `json:"since,omitzero"`
}

// inForce is the limit that should be in force; set is false where none was written.
func (m *Marks) inForce(r knowledge.Resource) (limit int64, set bool) {
	if r == knowledge.ResourceMemory {
		return int64(m.Memory), m.MemorySet
	}
	return int64(m.Quota), m.QuotaSet
}

func (m *Marks) setInForce(r knowledge.Resource, limit int64) {
	if r == knowledge.ResourceMemory {
		m.Memory, m.MemorySet = knowledge.Bytes(limit), true
		return
	}
	m.Quota, m.QuotaSet = knowledge.NanoCPU(limit), true
}

// start is the limit that the container starts with, by the Engine's record.
func (m *Marks) start(r knowledge.Resource) int64 { return limitOf(&m.Engine, r) }

func (m *Marks) setStart(r knowledge.Resource, limit int64) {
	if r == knowledge.ResourceMemory {
		m.Engine.Memory = knowledge.Bytes(limit)
		return
	}
	m.Engine.CPU = knowledge.NanoCPU(limit)
}

// restarted forgets what was in force in the process start before, but for where the
// limits may settle again.
func (m *Marks) restarted() {
	for r := range m.Before {
		if v, set := m.inForce(knowledge.Resource(r)); set && v > 0 {
			m.Before[r] = v
		}
	}
	m.Quota, m.QuotaSet, m.Memory, m.MemorySet, m.Started = 0, false, 0, false, time.Time{}
}

// AdoptRequest takes over a person's request that a crash may have kept from the marks: the
// newest record of the container.
func (c *Container) AdoptRequest(r knowledge.Record) {
	a := &r.Action
	if a.Kind != knowledge.ActionResize || a.Actor != knowledge.ActorUser || r.Outcome.Result > knowledge.ResultAdjusted {
		return
	}
	if c.Unsaved = true; !c.Marks.keepsStart(a) {
		c.Marks.Asked[a.Resize.Resource] = a.Resize.To
	}
	if a.At.Add(c.Policy.YieldFor).After(c.Marks.ExternalUntil) {
		c.Hold(a.At, a.Reason.Note, a.Resize.Resource, a.Resize.From)
	}
}

func limitOf(l *knowledge.Limits, r knowledge.Resource) int64 {
	if r == knowledge.ResourceMemory {
		return int64(l.Memory)
	}
	return int64(l.CPU)
}

// RaisedFloor keeps a cut from being repeated.
type RaisedFloor struct {
	Value int64     `json:"value"`
	Until time.Time `json:"until,omitzero"`
	Times int       `json:"times"` // each doubles the hour
}

// raise keeps cuts above a value that was needed: for an hour, doubling with each
// repeat, and starts again after a week without harm.
func (f *RaisedFloor) raise(now time.Time, value int64) {
	if now.Sub(f.Until) > raisedForget {
		f.Times = 0
	}
	f.Value = value
	f.Until = now.Add(min(raisedFor<<min(f.Times, 5), raisedMost))
	f.Times++
}

// Bound corrects marks for a clock that was set back since they were written: nothing
// was done in the future, and nothing lasts longer than it may.
func (m *Marks) Bound(now time.Time, yield time.Duration) {
	past := func(t *time.Time) {
		if t.After(now) {
			*t = now
		}
	}
	past(&m.LastOOM)
	past(&m.OOMAnswered)
	past(&m.Since)
	for r := range m.Raised {
		past(&m.LastGrow[r])
		past(&m.LastShrink[r])
		if most := now.Add(raisedMost); m.Raised[r].Until.After(most) {
			m.Raised[r].Until = most
		}
	}
	if most := now.Add(yield); m.ExternalUntil.After(most) {
		m.ExternalUntil = most
	}
}
