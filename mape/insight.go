package mape

import (
	"math"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/knowledge/history"
	"github.com/effiscale/effiscale/mape/analyse"
	"github.com/effiscale/effiscale/mape/forecast"
	"github.com/effiscale/effiscale/mape/plan"
)

// insightStep is the step of the values that a pattern is read from.
const insightStep = time.Minute

// insight is the course of a service that has a name, and where utilisation starts
// to hurt it. It lives with the service's forecasters: what does not move has none.
type insight struct {
	tracker  analyse.Tracker
	adaptive analyse.Adaptive
	lesson   analyse.Lesson // of adaptive, as of the last deliberation
	minute   interval
	held     time.Duration // of that minute
}

// observe takes in the highest of a deliberation's interval, after so long.
func (i *insight) observe(in interval, lasted time.Duration) {
	i.minute.add(in.cores, in.censored)
	i.minute.memory = max(i.minute.memory, in.memory)
	if i.held += lasted; i.held < insightStep*95/100 {
		return
	}
	for missed := i.held/insightStep - 1; missed > 0 && missed < longestGap/insightStep; missed-- {
		i.tracker.Observe(math.NaN(), math.NaN())
	}
	i.tracker.Observe(i.minute.cores, float64(i.minute.memory))
	i.minute, i.held = interval{}, 0
}

// look names the course, with the period that a forecaster found.
func (i *insight) look(models ...*forecast.Model) {
	var period forecast.Period
	for _, m := range models {
		if p, found := m.Period(); found && p.Strength > period.Strength {
			period = p
		}
	}
	i.tracker.Look(insightStep, period.Length, period.Strength)
}

// recall fills the tracker with what is on record of the hours before a restart.
func (i *insight) recall(minutes []history.Bucket, now time.Time) {
	last := time.Time{}
	tell := func(at time.Time) {
		for gap := at.Sub(last)/insightStep - 1; !last.IsZero() && gap > 0 && gap <= analyse.MaxPoints; gap-- {
			i.tracker.Observe(math.NaN(), math.NaN())
		}
		last = at
	}
	for _, b := range minutes {
		if now.Sub(b.At) > insightStep*analyse.MaxPoints || !b.At.After(last) {
			continue
		}
		tell(b.At)
		i.tracker.Observe(b.MaxDemand, float64(b.WorkingSet))
	}
	tell(now)
}

// harm counts a second of a container under its limit.
func (c *container) harm(use float64, lasted time.Duration) {
	w, f := c.Window, c.service.foresight
	if f == nil || w.Quota <= 0 {
		return
	}
	f.adaptive.Observe(w.At, use/w.Quota.Cores(), analyse.Harm(w, &c.Policy), lasted.Seconds())
}

// strain is what the service's threshold says of a container; none steers: nothing.
func (c *container) strain(now time.Time, f *foresight) plan.Strain {
	if !plan.Unsteered(&f.lesson, &c.Policy).IsZero() {
		return plan.Strain{}
	}
	high, mean := c.ring.Demand(now.Add(-plan.StrainOver), 1-plan.StrainLevel)
	return plan.Strain{Knee: f.lesson.Knee, Use: knowledge.FromCores(high), Mean: knowledge.FromCores(mean)}
}

// thresholds are the service's, for a container's capacity and what is expected. Only
// a forecast that is proven knows how uncertain it is.
func (c *container) thresholds() (analyse.Thresholds, bool) {
	f := c.service.foresight
	if f == nil || c.Window.Quota <= 0 {
		return analyse.Thresholds{}, false
	}
	a := f.ahead[levelOf(c.Policy.Class)]
	uncertainty := 0.0
	if a.Proven() {
		uncertainty = max(a.Upper.Cores()-a.Peak, 0)
	}
	return f.adaptive.Thresholds(uncertainty, c.Window.Quota.Cores()), true
}

// steered says what the learned threshold does to a container, or why nothing.
func (c *container) steered() knowledge.Reason {
	if r := c.Envelope.Threshold; !r.IsZero() || c.service.foresight == nil {
		return r
	}
	if why := plan.Unsteered(&c.service.foresight.lesson, &c.Policy); !why.IsZero() {
		return why
	}
	return knowledge.Because(knowledge.RuleNoOwner) // it is learned, and not planned with yet
}

// memoryMoves is the growth of a working set from which on a service counts as one
// that moves: a leak may use no CPU.
const memoryMoves = 16 * knowledge.MiB
