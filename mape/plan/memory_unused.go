package plan

import (
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// memoryRaise is the raises of a limit since the last reduction. What is not used for a while
// is reverted at once, without the long calm that other reductions wait for: a process that
// sized itself at its start, as a JVM or Node, cannot use more.
type memoryRaise struct {
	from knowledge.Bytes // the limit before the first of them; 0: there was none
	high knowledge.Bytes // the highest use since
	// cache: the last one was for page cache. A raise for that which was not used is not
	// repeated until, and each time the wait is longer.
	cache bool
	until time.Time
	wait  time.Duration
	// patience is how long the next raise may stay unused: longer after each that was
	// reverted within a day, so that a need which recurs keeps its limit.
	patience   time.Duration
	revertedAt time.Time
}

const (
	// unusedAfter is how long a raise may stay unused.
	unusedAfter = 2 * time.Minute
	// cacheWait and cacheWaitMost are how long no more memory is given for page cache after
	// a raise that was not used.
	cacheWait, cacheWaitMost = 10 * time.Minute, 24 * time.Hour
)

// raised records a raise; before is the time of the raise before it.
func (r *memoryRaise) raised(now time.Time, d knowledge.Decision, before time.Time) {
	if r.from == 0 || now.Sub(before) > time.Hour { // an older raise is not reverted
		r.from, r.high = knowledge.Bytes(d.From), 0
	}
	rule := d.Reason.Rule
	r.cache = rule == knowledge.RuleCacheMissed || rule == knowledge.RuleMemoryPressure ||
		rule == knowledge.RuleMemoryEvents
}

// lowered records a reduction.
func (r *memoryRaise) lowered(now time.Time, d knowledge.Decision) {
	if d.Reason.Rule == knowledge.RuleUnused {
		if r.cache && !now.Before(r.until) {
			r.wait = min(max(2*r.wait, cacheWait), cacheWaitMost)
			r.until = now.Add(r.wait)
		}
		if knowledge.Bytes(d.To) > r.from { // a guard bounded the step: the next one follows
			return
		}
		r.patience, r.revertedAt = min(2*r.waits(now), keepRaised), now
	}
	r.from, r.high, r.cache = 0, 0, false
}

// waits is how long a raise may stay unused now.
func (r *memoryRaise) waits(now time.Time) time.Duration {
	if now.Sub(r.revertedAt) > 24*time.Hour {
		return unusedAfter
	}
	return max(r.patience, unusedAfter)
}

// unused is the limit that a raise which was not used goes back to; 0: it was used, or it is
// too soon. A raise after an OOM kill is protected.
func (g *memoryController) unused(a *memoryInput, low knowledge.Bytes) knowledge.Bytes {
	r, limit := &g.raise, a.w.MemoryLimit
	if r.from == 0 || r.from >= limit || left(a.now, g.grewAt, r.waits(a.now)) > 0 ||
		a.f.MemoryCalm < unusedAfter || left(a.now, g.oomAt, a.p.OOMProtect) > 0 {
		return 0
	}
	want := withMargin(r.high, a.now.Sub(a.w.Since), a.p)
	to := min(max(roundUp(max(want, a.want, low), stepGrain), a.bounds.Min, r.from), a.bounds.Max)
	worth := shrinkStep
	if a.learned { // a raise is ahead of a leak for hours
		worth = worthRaised
	}
	if float64(to) > worth*float64(limit) {
		return 0
	}
	return to
}
