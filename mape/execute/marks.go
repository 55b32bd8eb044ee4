package execute

import (
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// Marks are what must survive a restart of the daemon for one container.
type Marks struct {
	// Engine is what the Engine is known to have: what was last sent or read. A
	// difference that is found later is an external change.
	Engine      knowledge.Limits `json:"engine"`
	EngineKnown bool             `json:"engine_known"`
	// Quota is what was last written to the kernel; 0 with QuotaSet: no limit.
	Quota    knowledge.NanoCPU `json:"quota"`
	QuotaSet bool              `json:"quota_set"`
	// ExternalUntil: automation does not touch an external change until then.
	ExternalUntil time.Time `json:"external_until,omitzero"`
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
