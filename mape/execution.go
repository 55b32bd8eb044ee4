package mape

import (
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape/execute"
)

// execute hands the decisions of this tick to the executor, which also keeps what the
// containers start with.
func (l *Loop) execute(now time.Time) {
	for _, c := range l.decided {
		if c.Probe == nil {
			continue
		}
		for r := range c.planned {
			l.apply(now, c, &c.planned[r])
		}
		l.setShares(now, c)
		l.exec.KeepStart(now, &c.Container)
	}
	l.retryWaiting()
}

// apply does what the guards let pass of one decision.
func (l *Loop) apply(now time.Time, c *container, p *Planned) {
	d := &p.Decision
	if d.Verb == knowledge.Hold || d.To == d.From {
		p.Admission = execute.Admission{Allowed: d.From}
		return
	}
	p.Admission = l.exec.Apply(now, &c.Container, *d, nil)
	if rule := d.Reason.Rule; c.lastRule[d.Resource] != rule {
		c.lastRule[d.Resource] = rule
		l.o.Meter.Decision(d.Verb.String(), d.Resource.String(), string(rule))
	}
	if !p.Admission.Acted {
		return
	}
	c.changed = true
	done := *d
	done.To = p.Admission.Allowed
	c.reflex.Applied(now, done)
}

// setShares is cpu = "weight": no hard limit, and a share that follows demand.
func (l *Loop) setShares(now time.Time, c *container) {
	if c.Policy.CPUMode != knowledge.CPUWeight || !c.Policy.Acts() {
		return
	}
	shares, _ := c.reflex.Weight(now, c.Marks.Engine.Shares, &c.Finding, c.Window, &c.Policy)
	if shares != c.Marks.Engine.Shares && l.exec.SetShares(now, &c.Container, shares) {
		c.reflex.SharesApplied(now)
	}
}
