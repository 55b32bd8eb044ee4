package plan

import (
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape/analyse"
)

// cpuController is the state of the CPU reflex (the local controller of Autothrottle,
// NSDI'24).
type cpuController struct {
	began    time.Time // of the first observation
	margin   float64   // m: deviations above the peak
	marginAt time.Time
	over     float64           // r − T at the last observation
	before   knowledge.NanoCPU // quota before the last cut; 0: no cut to undo
	cutAt    time.Time
	grewAt   time.Time
	boostAt  time.Time
	cutWait  time.Duration // 0: cutWaitLeast
	regrewAt time.Time     // when a cut was last followed by growth
}

// proposal is the quota of one rule, and its reason.
type proposal struct {
	to     knowledge.NanoCPU
	boost  bool
	reason knowledge.Reason
}

// cpuBounds bound a quota.
type cpuBounds struct {
	floor, ceiling knowledge.NanoCPU
	learned        bool              // the floor is the profile's, not the policy's
	byForecast     bool              // … or a forecast's
	byThreshold    bool              // … or a learned threshold's
	least          knowledge.NanoCPU // that a cut may leave, for the threshold
	e              *knowledge.Envelope
	// first is the first limit of a container without one whose image is known; 0: none.
	first knowledge.NanoCPU
	outer *knowledge.Bounds // of the cgroups around its own
	// before is the limit that it had before the limit was put back; 0: none.
	before knowledge.NanoCPU
}

// CPU decides on the quota at every sample: ten times a second when the container is
// hot. Without good evidence it holds; growth needs no more than a rate.
func (r *Reflex) CPU(
	now time.Time, f *knowledge.Finding, w *knowledge.Window, e *knowledge.Envelope, p *knowledge.Policy,
) knowledge.Decision {
	d := hold(now, w, knowledge.ResourceCPU, int64(w.Quota))
	if f.Quality < knowledge.QualityWarming {
		return because(d, f.Reason)
	}
	if p.CPUMode == knowledge.CPUWeight {
		return lift(d, w, e, p)
	}
	c := &r.cpu
	c.observe(now, w, e)
	b := cpuBoundsOf(e, p)
	b.within(&w.Bounds)
	b.before = knowledge.NanoCPU(r.Before[knowledge.ResourceCPU])
	if w.Quota == 0 {
		return first(d, f, w, p, b)
	}
	if over := w.Quota - b.ceiling; over > rounding(w.Quota) && f.Quality == knowledge.QualityGood {
		d.Verb, d.To = knowledge.Shrink, int64(max(b.ceiling, scale(w.Quota, cutMost)))
		return because(d, knowledge.Because(knowledge.RuleAboveCeiling, w.Quota.Cores(), b.ceiling.Cores()))
	}
	if g, soon := c.growth(now, f, w, e, p); g.to > 0 {
		return grow(d, g, w.Quota, b)
	} else if soon > 0 {
		return because(d, knowledge.Because(knowledge.RuleCooldown, soon.Seconds()))
	}
	if b.floor-w.Quota > rounding(w.Quota) && b.needed(p) {
		d.Verb, d.To = knowledge.Grow, int64(b.floor)
		if b.byThreshold {
			return because(d, b.e.Threshold)
		}
		if b.byForecast {
			return because(d, b.e.Forecast)
		}
		return because(d, knowledge.Because(knowledge.RuleBelowFloor, w.Quota.Cores(), b.floor.Cores()))
	}
	return c.cut(d, f, w, p, b)
}

// observe moves the margin: m ← m + r − T for each second since the last time.
func (c *cpuController) observe(now time.Time, w *knowledge.Window, e *knowledge.Envelope) {
	if c.marginAt.IsZero() {
		c.began, c.margin, c.marginAt = now, marginStart, now
	}
	c.over = w.ThrottleRatio - e.ThrottleTarget
	if since := now.Sub(c.marginAt); since >= controlPeriod*19/20 {
		c.marginAt = now
		c.adjustMargin(min(since.Seconds(), marginTicks) * c.over)
	}
}

func (c *cpuController) adjustMargin(by float64) { c.margin = min(max(c.margin+by, 0), marginMost) }

// growth is the largest quota that throttling, or the policy's target, requires, with
// the reason of the most urgent rule. Without one, soon above 0 is the time until
// throttling can be judged.
func (c *cpuController) growth(
	now time.Time, f *knowledge.Finding, w *knowledge.Window, e *knowledge.Envelope, p *knowledge.Policy,
) (g proposal, soon time.Duration) {
	allowed := analyse.ThrottleTolerance * e.ThrottleTarget
	ratio := w.ThrottleRatio
	if p.CPUTarget > 0 && w.UsageMean.Cores() > p.CPUTarget*(1+targetTolerance)*w.Quota.Cores() {
		g = proposal{to: scale(w.UsageMean, 1/p.CPUTarget),
			reason: knowledge.Because(knowledge.RuleTarget, w.UsageMean.Cores()/w.Quota.Cores(), p.CPUTarget)}
	}
	if ratio > allowed {
		g = proposal{to: max(g.to, scale(w.Quota, 1+ratio-allowed)),
			reason: knowledge.Because(knowledge.RuleThrottled, ratio, allowed, w.Quota.Cores())}
	}
	// The ratio is taken over a second, the mean over five: until a second has passed they
	// are about the quota before the last growth.
	if soon = left(now, c.grewAt, controlPeriod); g.to == 0 {
		soon = 0
	} else if soon > 0 {
		g = proposal{}
	}
	boost := c.boost(now, f, w)
	if boost > 0 {
		g = proposal{to: max(g.to, boost), boost: true,
			reason: knowledge.Because(knowledge.RuleBoost, (f.Demand - w.Usage).Cores(), w.Usage.Cores(), w.Quota.Cores())}
	}
	if c.before > 0 && now.Sub(c.cutAt) <= undoWithin && (boost > 0 || ratio > allowed) {
		g = proposal{to: max(g.to, 2*c.before-w.Quota), boost: true,
			reason: knowledge.Because(knowledge.RuleUndoCut, ratio, allowed, c.before.Cores())}
	}
	return g, soon
}

// boost is the quota that is needed at once; 0: none. An interval that began before
// the last growth is not about the quota after it.
func (c *cpuController) boost(now time.Time, f *knowledge.Finding, w *knowledge.Window) knowledge.NanoCPU {
	if !c.grewAt.IsZero() && w.At.Sub(c.grewAt).Seconds() < boostFresh*w.Interval.Seconds() {
		return 0
	}
	again := !c.boostAt.IsZero() && now.Sub(c.boostAt) <= boostAgain
	switch {
	case f.Boost && w.ThrottledRun <= 1 && !again:
		before := min(w.UsageMean, w.Quota)
		guess := before + scale(f.Demand-before, boostGuess)
		return max(scale(w.Quota, boostStep), scale(guess, boostReserve))
	case f.Boost, again && w.Usage > scale(w.Quota, analyse.TightRatio):
		return max(scale(w.Quota, boostStep), scale(f.Demand, boostReserve))
	}
	return 0
}

// grow applies a proposal inside the bounds, by at least the least change: a
// throttled container needs more than that.
func grow(d knowledge.Decision, g proposal, quota knowledge.NanoCPU, b cpuBounds) knowledge.Decision {
	most := b.most()
	to := min(max(g.to, b.floor, quota+LeastChange(quota)), most)
	if to <= quota || most-quota <= rounding(quota) {
		return because(d, b.atMost(max(g.to, quota)))
	}
	d.Verb, d.To, d.Boost = knowledge.Grow, int64(to), g.boost
	return because(d, g.reason)
}

// cut: when the peak of 5 s and its margin leave a tenth of the quota unused, the
// quota is cut to them, by half at most.
func (c *cpuController) cut(
	d knowledge.Decision, f *knowledge.Finding, w *knowledge.Window, p *knowledge.Policy, b cpuBounds,
) knowledge.Decision {
	if f.Quality < knowledge.QualityGood {
		return because(d, f.Reason)
	}
	if w.Have&knowledge.HasThrottle == 0 { // unknown is not zero
		return because(d, knowledge.Because(knowledge.RuleMissing))
	}
	now := d.At
	if s := now.Sub(w.Since); s < cutWindow {
		return because(d, knowledge.Because(knowledge.RuleWatching, s.Seconds(), cutWindow.Seconds()))
	}
	peak := max(w.UsageMax, w.Usage)
	need := scale(peak, cutReserve) + scale(w.UsageStd, c.margin)
	if p.CPUTarget > 0 {
		need = max(need, scale(w.UsageMean, 1/p.CPUTarget))
	}
	if need > scale(w.Quota, analyse.TightRatio) {
		return because(d, knowledge.Because(knowledge.RuleSteady, w.Usage.Cores(), w.Quota.Cores()))
	}
	free := max(scale(w.Quota, cutMost), need, b.floor)
	to := max(free, b.least, b.outer.CPULeast)
	if w.Quota-to < LeastChange(w.Quota) {
		return because(d, b.holdReason(to, need, w.Quota, p))
	}
	saves := w.Quota - max(need, b.floor, b.least)
	wait := max(left(now, c.grewAt, c.waits(now, saves)), left(now, c.began, cutWaitLeast), left(now, c.cutAt, cutEvery))
	if wait > 0 {
		return because(d, knowledge.Because(knowledge.RuleCooldown, wait.Seconds()))
	}
	d.Verb, d.To = knowledge.Shrink, int64(to)
	if to > free {
		return because(d, b.thresholdReason())
	}
	return because(d, knowledge.Because(knowledge.RuleSettled, peak.Cores(), c.margin, w.UsageStd.Cores()))
}

// thresholdReason is the use that a cut must leave capacity for.
func (b cpuBounds) thresholdReason() knowledge.Reason {
	knee, use := b.e.Threshold.Args[1], b.e.Threshold.Args[3]
	return knowledge.Because(knowledge.RuleTriggerDown, use, knee*analyse.LowShare, b.least.Cores())
}

// holdReason names what keeps a quota from a cut that its use would allow.
func (b cpuBounds) holdReason(to, need, quota knowledge.NanoCPU, p *knowledge.Policy) knowledge.Reason {
	switch {
	case b.outer.CPULeast > max(b.floor, b.least) && to <= b.outer.CPULeast:
		r := knowledge.Because(knowledge.RuleOuterLeast, need.Cores(), b.outer.CPULeast.Cores())
		r.Note = b.outer.CPULeastBy.String()
		return r
	case b.least > b.floor && to <= b.least:
		return b.thresholdReason()
	case to > b.floor:
		return knowledge.Because(knowledge.RuleSmallChange, max(quota-to, 0).Cores(), LeastChange(quota).Cores())
	case b.byThreshold:
		return b.e.Threshold
	case b.byForecast:
		return b.e.Forecast
	case b.learned && b.e.Reason.Rule == knowledge.RuleAdvice:
		return b.e.Reason
	case b.learned:
		return knowledge.Because(knowledge.RuleProfile, p.Percentile(), b.floor.Cores())
	}
	return knowledge.Because(knowledge.RuleAtMin, need.Cores(), b.floor.Cores())
}

// waits is how long after growth the next cut is made; saves is what the cut and those
// after it can take.
func (c *cpuController) waits(now time.Time, saves knowledge.NanoCPU) time.Duration {
	if saves < worthCut && now.Sub(c.cutAt) > cutWaitLeast { // the last cuts of a row are small, too
		return cutWaitSmall
	}
	if c.cutWait == 0 || now.Sub(c.regrewAt) > cutWaitReset {
		return cutWaitLeast
	}
	return c.cutWait
}

// applied remembers a cut, so that it can be undone, and a growth, so that the
// next cut waits. Growth soon after a cut of our own doubles that wait.
func (c *cpuController) applied(now time.Time, d knowledge.Decision, grew bool) {
	if !grew {
		c.before, c.cutAt = 0, now
		if rule := d.Reason.Rule; rule == knowledge.RuleSettled ||
			rule == knowledge.RuleTriggerDown { // not a user's, nor the pool's
			c.before = knowledge.NanoCPU(d.From)
		}
		if d.From == 0 { // a first limit is watched like a growth before it is cut
			c.grewAt = now
		}
		return
	}
	if c.before > 0 && now.Sub(c.cutAt) <= regrowWithin {
		c.cutWait = min(2*c.waits(now, worthCut), cutWaitMost)
		c.regrewAt = now
	}
	if d.Reason.Rule == knowledge.RuleUndoCut {
		c.adjustMargin(c.over) // as in Autothrottle: m ← m + r − T
	}
	c.before, c.grewAt = 0, now
	if d.Boost {
		c.boostAt = now
	}
}

// first is the first limit of a container without one: after an observation, from the
// highest use, never below that. Where its image is known, or the limit that it had before,
// the length of cutWindow is enough.
func first(
	d knowledge.Decision, f *knowledge.Finding, w *knowledge.Window, p *knowledge.Policy, b cpuBounds,
) knowledge.Decision {
	watched, wait := d.At.Sub(w.Since), p.ObserveFirst
	if b.first > 0 || b.before > 0 {
		wait = min(wait, cutWindow)
	}
	switch {
	case f.Quality < knowledge.QualityGood:
		return because(d, f.Reason)
	case watched < wait:
		return because(d, knowledge.Because(knowledge.RuleUnlimited, (wait-watched).Seconds()))
	}
	use := max(w.Usage60, w.UsageMax, w.Usage)
	to := max(firstCPU(use, w.UsageMean, p), b.floor, b.first)
	if use > b.ceiling {
		return because(d, knowledge.Because(knowledge.RuleAtMax, to.Cores(), b.ceiling.Cores()))
	}
	d.Verb, d.To = knowledge.Shrink, int64(max(min(to, b.most()), b.outer.CPULeast))
	if b.first > 0 && watched < p.ObserveFirst {
		return because(d, knowledge.Because(knowledge.RuleFirstImage, watched.Seconds(), b.first.Cores()))
	}
	if b.before > 0 {
		return because(d, knowledge.Because(knowledge.RuleAsBefore, b.before.Cores(), watched.Seconds()))
	}
	return because(d, knowledge.Because(knowledge.RuleFirstLimit, watched.Seconds(), use.Cores()))
}

// firstCPU is the limit for a use of which no more is known than its peak.
func firstCPU(peak, mean knowledge.NanoCPU, p *knowledge.Policy) knowledge.NanoCPU {
	to := scale(peak, firstMargin)
	if p.CPUTarget > 0 {
		to = max(to, scale(mean, 1/p.CPUTarget))
	}
	return to
}

// within takes in the bounds of the cgroups around the container's: a floor does not exceed
// them.
func (b *cpuBounds) within(outer *knowledge.Bounds) {
	b.outer = outer
	b.floor = min(b.floor, b.most())
}

// most is the highest quota to grow to. A quota that is higher already stays.
func (b *cpuBounds) most() knowledge.NanoCPU { return least(b.outer.CPU, 0, b.ceiling) }

// atMost is why a quota does not grow to what is requested.
func (b *cpuBounds) atMost(requested knowledge.NanoCPU) knowledge.Reason {
	r := knowledge.Because(knowledge.RuleAtMax, requested.Cores(), b.most().Cores())
	if b.most() < b.ceiling {
		r.Rule, r.Note = knowledge.RuleOuterMost, b.outer.CPUBy.String()
	}
	return r
}

// cpuBoundsOf is the envelope inside the policy: the policy's bounds hold even if
// an envelope was made under an older policy.
func cpuBoundsOf(e *knowledge.Envelope, p *knowledge.Policy) cpuBounds {
	b := cpuBounds{ceiling: least(e.CPU.Max, p.CPU.Max, knowledge.MaxCPU), first: e.FirstCPU, e: e}
	b.floor = max(e.CPU.Min, p.CPU.Min, floorCPU)
	b.learned = b.floor > max(p.CPU.Min, floorCPU)
	b.byForecast = b.learned && e.ForecastCPU > e.LearnedCPU
	b.floor = min(b.floor, b.ceiling)
	if e.CutCPU > 0 && p.CPUTarget == 0 {
		b.least = min(e.CutCPU, b.ceiling)
		if at := min(e.ThresholdCPU, b.ceiling); at > b.floor {
			b.floor, b.byThreshold = at, true
		}
	}
	return b
}

// needed reports whether the floor is a reason to raise a quota. The default minimum is none: it
// bounds the quotas that are set here, and others may set less.
func (b *cpuBounds) needed(p *knowledge.Policy) bool {
	return b.learned || b.byThreshold || p.CPUSource != knowledge.SourceDefault
}

// LeastChange is the smallest change of a quota that is made.
func LeastChange(quota knowledge.NanoCPU) knowledge.NanoCPU {
	return max(scale(quota, leastRatio), leastCPU)
}

func rounding(quota knowledge.NanoCPU) knowledge.NanoCPU {
	return max(scale(quota, roundRatio), roundCPU)
}

// scale is c times by, kept within what a CPU figure can be.
func scale(c knowledge.NanoCPU, by float64) knowledge.NanoCPU {
	return knowledge.FromCores(c.Cores() * by)
}
