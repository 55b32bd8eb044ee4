package execute

import (
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// Hold keeps a limit for the policy's time: automation neither cuts it nor raises it, but to
// prevent an OOM kill. by is who set it by a request; from is the limit before.
func (c *Container) Hold(now time.Time, by string, r knowledge.Resource, from int64) {
	m := &c.Marks
	if !now.Before(m.ExternalUntil) {
		m.HeldFrom = [2]int64{}
	}
	m.ExternalUntil, m.HeldBy, c.Unsaved = now.Add(c.Policy.YieldFor), by, true
	m.HeldFrom[r] = max(m.HeldFrom[r], from)
}

// EndHold ends the hold of a request that was refused: nothing was set by it. before is what
// was held when it was made.
func (c *Container) EndHold(before *Marks) {
	m := &c.Marks
	m.ExternalUntil, m.HeldBy, m.HeldFrom, m.Pinned = before.ExternalUntil, before.HeldBy, before.HeldFrom, before.Pinned
	c.Unsaved = true
}

// Held reports whether the limits are kept after a change by others or by a request, and why.
func (m *Marks) Held(now time.Time) (r knowledge.Reason, held bool) {
	if !m.Pinned && !now.Before(m.ExternalUntil) {
		return r, false
	}
	r = knowledge.Because(knowledge.RuleExternal, m.ExternalUntil.Sub(now).Seconds())
	switch {
	case m.Pinned:
		r.Rule = knowledge.RulePinned
	case m.HeldBy != "":
		r.Rule, r.Note = knowledge.RuleHeld, m.HeldBy
	}
	return r, true
}

func guardExternal(req *Request, to int64) (int64, knowledge.Reason) {
	m := &req.Container.Marks
	r, held := m.Held(req.Now)
	if !req.acts() || !held {
		return to, knowledge.Reason{}
	}
	before := m.HeldFrom[knowledge.ResourceMemory]
	switch {
	case !req.preventsKill(to):
	case !m.Pinned || to <= before:
		return to, knowledge.Reason{}
	case before > req.Decision.From:
		return before, r
	}
	return req.Decision.From, r
}

// preventsKill reports growth without which the kernel is about to kill: a hold ends there.
func (req *Request) preventsKill(to int64) bool {
	c, d := req.Container, req.Decision
	if d.Resource != knowledge.ResourceMemory || to == d.From || req.shrinks(to) {
		return false
	}
	f, w := &c.Finding, c.Window
	switch d.Reason.Rule {
	case knowledge.RuleOOM:
		began := c.Marks.ExternalUntil.Add(-c.Policy.YieldFor)
		return f.Memory == knowledge.SymptomCritical || w.LastOOM.After(began)
	case knowledge.RuleTimeToFull, knowledge.RuleMemoryTight:
		use := w.InUse()
		return f.TimeToFull > 0 || f.Memory == knowledge.SymptomCritical || use > w.MemoryLimit-w.MemoryLimit/32
	}
	return d.Boost && f.Memory == knowledge.SymptomCritical
}
