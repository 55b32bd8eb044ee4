package plan

import (
	"math"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape/analyse"
)

// memoryController is the state of the memory reflex.
type memoryController struct {
	grewAt, shrunkAt time.Time
	// oomAt is the last OOM kill, oomFloor the limit after it.
	oomAt        time.Time
	oomKills     uint64
	oomFloor     knowledge.Bytes
	leakDetector leakDetector
	usage        MemoryGrowth
	raise        memoryRaise
	// Page cache was missed from missedSince on, the last time at missedAt.
	missedSince, missedAt time.Time
}

const (
	// missedAfter is how long page cache has to be missed before a limit is raised for it. A
	// file that is longer than the limit and read once more (a dump, a copy, a vacuum) is read
	// for less, and no limit below the file's size would help.
	missedAfter = 20 * time.Second
	// missedGap is the longest time between two readings that belong together.
	missedGap = 10 * time.Second
)

// leakDetector watches whether anonymous memory only grows.
type leakDetector struct {
	at   time.Time
	anon knowledge.Bytes
	runs int // readings in a row above the one before
}

// memoryInput is the input of one decision.
type memoryInput struct {
	now    time.Time
	f      *knowledge.Finding
	w      *knowledge.Window
	e      *knowledge.Envelope
	p      *knowledge.Policy
	bounds knowledge.Range[knowledge.Bytes]
	// use is what a limit must have room for; want is the limit for it with a margin, or the
	// deliberation's when that is higher.
	use, want knowledge.Bytes
	// learned: want follows from how this container's memory grows, and a limit below bare
	// has to be raised.
	learned bool
	bare    knowledge.Bytes
	// before is the limit that it had before the limit was put back; 0: none.
	before knowledge.Bytes
}

// Memory decides on the memory limit: up before it is full, and down slowly when there was no
// pressure. What counts is memory that reclaim cannot take; page cache counts where it is
// missed. A limit is never below the use.
func (r *Reflex) Memory(
	now time.Time, f *knowledge.Finding, w *knowledge.Window, e *knowledge.Envelope, p *knowledge.Policy,
) knowledge.Decision {
	d := hold(now, w, knowledge.ResourceMemory, int64(w.MemoryLimit))
	if f.Quality < knowledge.QualityWarming {
		return because(d, f.Reason)
	}
	if w.Have&knowledge.HasMemory == 0 {
		return because(d, knowledge.Because(knowledge.RuleMissing))
	}
	g := &r.memory
	g.observe(now, w, p)
	a := memoryInput{now: now, f: f, w: w, e: e, p: p, bounds: memoryBoundsOf(w, e, p), use: w.InUse()}
	if a.learned = g.usage.learned(now, w, p); a.learned {
		_, a.want, a.bare = g.usage.size(now, w)
	} else {
		a.want = withMargin(a.use, now.Sub(w.Since), p)
	}
	a.want = max(a.want, e.Memory)
	a.before = knowledge.Bytes(r.Before[knowledge.ResourceMemory])
	if w.MemoryLimit == 0 {
		return g.first(d, &a)
	}
	if to, reason := g.growth(&a); to > 0 {
		return g.grow(d, &a, w.MemoryLimit, to, reason)
	}
	return g.shrink(d, &a)
}

// AfterKill decides on the memory limit of a container that does not run: w is its
// last window, with the limit that it had, and next is the limit that it starts with. After
// an OOM kill that has to be more; a hold without a reason: no kill requires that.
func (r *Reflex) AfterKill(
	now time.Time, w *knowledge.Window, next knowledge.Bytes, e *knowledge.Envelope, p *knowledge.Policy,
) knowledge.Decision {
	d := hold(now, w, knowledge.ResourceMemory, int64(next))
	g := &r.memory
	g.killed(now, w, p)
	if next == 0 || next >= g.oomFloor {
		return d
	}
	a := memoryInput{now: now, f: &knowledge.Finding{}, w: w, e: e, p: p, bounds: memoryBoundsOf(w, e, p)}
	return g.grow(d, &a, next, max(g.oomFloor, e.Memory), g.oomReason(w))
}

// HandledOOM records an OOM kill for which the limit was raised before a restart of
// the daemon.
func (r *Reflex) HandledOOM(at time.Time) { r.memory.oomAt = at }

// Killed takes in an OOM kill before the next start, which may have another limit.
func (r *Reflex) Killed(now time.Time, w *knowledge.Window, p *knowledge.Policy) {
	if w.MemoryLimit > 0 {
		r.memory.killed(now, w, p)
	}
}

// CoversOOM reports whether a limit, 0 for none, is what the last OOM kill of the window requires.
func (r *Reflex) CoversOOM(w *knowledge.Window, limit knowledge.Bytes) bool {
	g := &r.memory
	return !g.oomAt.IsZero() && g.oomAt.Equal(w.LastOOM) && (limit == 0 || limit >= g.oomFloor)
}

func (g *memoryController) oomReason(w *knowledge.Window) knowledge.Reason {
	return knowledge.Because(knowledge.RuleOOM, float64(g.oomKills), float64(w.MemoryLimit))
}

// killed remembers an OOM kill.
func (g *memoryController) killed(now time.Time, w *knowledge.Window, p *knowledge.Policy) {
	if g.oomAt.IsZero() || now.Sub(g.oomAt) >= p.OOMProtect {
		g.oomFloor = 0
	}
	if !w.LastOOM.IsZero() && !w.LastOOM.Equal(g.oomAt) && now.Sub(w.LastOOM) < p.OOMProtect {
		g.oomAt, g.oomKills = w.LastOOM, max(w.OOMKills, 1)
		if w.MemoryLimit > 0 {
			g.oomFloor = max(scaleBytes(w.MemoryLimit, oomStep), w.MemoryLimit+oomAdd)
			g.usage.killed(now, g.oomFloor, w.Interval)
		}
	}
}

// observe records an OOM kill and whether memory only grows.
func (g *memoryController) observe(now time.Time, w *knowledge.Window, p *knowledge.Policy) {
	g.killed(now, w, p)
	if !w.Estimated { // what is page cache is not learned as need
		g.usage.observe(now, w.InUse(), w.Interval)
		g.raise.high = max(g.raise.high, w.InUse())
	}
	if w.Have&knowledge.HasMemoryStat != 0 && analyse.CacheMissed(w) {
		if now.Sub(g.missedAt) > missedGap {
			g.missedSince = now
		}
		g.missedAt = now
	}
	switch s := &g.leakDetector; {
	case w.Have&knowledge.HasMemoryStat == 0:
	case s.at.IsZero() || float64(w.Anon) < leakFall*float64(s.anon):
		*s = leakDetector{at: now, anon: w.Anon}
	case now.Sub(s.at) < leakStep:
	case float64(w.Anon) >= leakRise*float64(s.anon) && w.Anon > s.anon:
		*s = leakDetector{at: now, anon: w.Anon, runs: min(s.runs+1, leakRuns)}
	default:
		*s = leakDetector{at: now, anon: max(w.Anon, s.anon)}
	}
}

// growth is the limit of the most urgent trigger; 0: none.
func (g *memoryController) growth(a *memoryInput) (knowledge.Bytes, knowledge.Reason) {
	w, limit := a.w, a.w.MemoryLimit
	step := growLeast
	if a.learned {
		step = growLearned
	}
	ahead := a.ahead()
	more := max(a.want, scaleBytes(ahead, 1+growLeast), scaleBytes(limit, 1+step))
	event := scaleBytes(limit, eventStep)
	last, missed := w.LastMemoryEvent, w.Have&knowledge.HasMemoryStat != 0 && analyse.CacheMissed(w)
	switch {
	case limit < g.oomFloor:
		return max(g.oomFloor, a.want), g.oomReason(w)
	case a.learned && limit < a.bare:
		return more, knowledge.Because(knowledge.RuleMemoryRise, float64(a.use), float64(g.usage.known().Rise),
			float64(limit))
	case float64(a.use) > analyse.TightRatio*float64(limit):
		return more, knowledge.Because(knowledge.RuleMemoryTight, float64(a.use), float64(limit))
	case limit < ahead:
		return more, knowledge.Because(knowledge.RuleTimeToFull, a.f.TimeToFull.Seconds(), w.Growth, float64(limit))
	case a.now.Before(g.raise.until) || left(a.now, g.grewAt, eventFresh) > 0:
	case missed && a.now.Sub(g.missedSince) >= missedAfter:
		return event, knowledge.Because(knowledge.RuleCacheMissed, w.RefaultRate, float64(w.Cache))
	case !last.IsZero() && a.now.Sub(last) < eventFresh && w.Have&knowledge.HasMemoryStat == 0 && analyse.CacheMissed(w):
		return event, knowledge.Because(knowledge.RuleMemoryEvents, float64(w.HighEvents), float64(w.MaxEvents))
	case missed && float64(a.use) < analyse.NeedyRatio*float64(limit):
	case analyse.Waiting(w):
		return event, knowledge.Because(knowledge.RuleMemoryPressure, w.MemoryPressure.Some10)
	}
	return a.outside()
}

// outside is the growth to the policy's minimum, or to the learned limit. The default minimum is
// no reason to grow: it bounds the limits that are set here, and others may set less.
func (a *memoryInput) outside() (knowledge.Bytes, knowledge.Reason) {
	limit := a.w.MemoryLimit
	least := min(a.p.Memory.Min, a.bounds.Max)
	switch {
	case least > limit+stepGrain && a.p.MemorySource != knowledge.SourceDefault:
		return least, knowledge.Because(knowledge.RuleAtMin, float64(limit), float64(least))
	case a.e.MemoryFloor > a.p.Memory.Min && float64(a.e.MemoryFloor) > analyse.TightRatio*float64(limit) &&
		float64(a.e.Memory) > followRatio*float64(limit):
		return a.e.Memory, a.history()
	}
	return 0, knowledge.Reason{}
}

// history is the reason of the deliberation's limit.
func (a *memoryInput) history() knowledge.Reason {
	margin := 0.0
	if a.e.MemoryFloor > 0 {
		margin = max(float64(a.e.Memory)/float64(a.e.MemoryFloor)-1, 0)
	}
	return knowledge.Because(knowledge.RuleMemoryProfile, float64(a.e.MemoryFloor), margin)
}

// grow raises the limit inside the bounds. At the ceiling it holds: a leak is
// reported, and does not get the host's memory.
func (g *memoryController) grow(d knowledge.Decision, a *memoryInput, limit, to knowledge.Bytes,
	reason knowledge.Reason) knowledge.Decision {
	wanted := to
	to = min(max(roundUp(to, stepGrain), min(a.p.Memory.Min, a.bounds.Max)), a.bounds.Max)
	if to-limit < stepGrain {
		if g.leakDetector.runs >= leakRuns {
			return because(d, knowledge.Because(knowledge.RuleLeak, a.w.Growth))
		}
		return because(d, knowledge.Because(knowledge.RuleAtMax, float64(wanted), float64(a.bounds.Max)))
	}
	d.Verb, d.To = knowledge.Grow, int64(to)
	d.Boost = reason.Rule == knowledge.RuleOOM || (a.f.TimeToFull > 0 && a.f.TimeToFull < urgent)
	return because(d, reason)
}

// shrink lowers the limit by a tenth when there was no pressure for long, the need is
// clearly less, and no rule forbids it.
func (g *memoryController) shrink(d knowledge.Decision, a *memoryInput) knowledge.Decision {
	limit := a.w.MemoryLimit
	if why := a.blocked(); !why.IsZero() {
		return because(d, why)
	}
	low := max(a.least(), min(g.oomFloor, a.bounds.Max))
	if to := g.unused(a, low); to > 0 {
		d.Verb, d.To = knowledge.Shrink, int64(to)
		return because(d, knowledge.Because(knowledge.RuleUnused, float64(g.raise.from), float64(limit),
			float64(g.raise.high), a.now.Sub(g.grewAt).Seconds()))
	}
	target := min(max(roundUp(max(a.want, low), stepGrain), a.bounds.Min), a.bounds.Max)
	over := limit-a.bounds.Max > stepGrain
	switch {
	case low > a.bounds.Max && over:
		return because(d, a.floor(a.bounds.Max, low))
	case !over && float64(target) > g.worth(a)*float64(limit):
		switch {
		case float64(a.want) > g.worth(a)*float64(limit) || low <= a.want:
		case low == g.oomFloor:
			return because(d, knowledge.Because(knowledge.RuleMemoryNotCalm, a.now.Sub(g.oomAt).Seconds(),
				a.p.OOMProtect.Seconds()))
		default:
			return because(d, a.floor(a.want, low))
		}
		return because(d, knowledge.Because(knowledge.RuleSteady, float64(a.use), float64(limit)))
	}
	if to := min(max(target, a.before), a.bounds.Max); g.settles(a, to) {
		d.Verb, d.To, d.Boost = knowledge.Shrink, int64(to), true
		return because(d, knowledge.Because(knowledge.RuleAsBefore, float64(a.before), a.now.Sub(a.w.Since).Seconds()))
	}
	if why := g.notCalm(a); !why.IsZero() {
		return because(d, why)
	}
	to := max(target, roundUp(scaleBytes(limit, shrinkStep), stepGrain))
	if limit-to < stepGrain {
		return because(d, knowledge.Because(knowledge.RuleSmallChange, float64(limit-to), float64(stepGrain)))
	}
	d.Verb, d.To = knowledge.Shrink, int64(to)
	return because(d, a.lowered(target))
}

// lowered is the reason of a reduction towards a target: what was learned, the use of now, or the
// policy's minimum.
func (a *memoryInput) lowered(target knowledge.Bytes) knowledge.Reason {
	switch {
	case target == a.bounds.Min && target == a.p.Memory.Min:
		return knowledge.Because(knowledge.RuleAtMin, float64(a.want), float64(target))
	case target > a.p.Memory.Min && a.e.Memory >= a.want && a.e.MemoryFloor > a.p.Memory.Min:
		return knowledge.Because(knowledge.RuleMemoryProfile, float64(a.e.MemoryFloor), ratio(target, a.e.MemoryFloor)-1)
	}
	return knowledge.Because(knowledge.RuleMemoryProfile, float64(a.use), ratio(target, a.use)-1, 1)
}

// settles reports whether a limit that was put back goes to what it was before in one step:
// a longer watch was kept then.
func (g *memoryController) settles(a *memoryInput, to knowledge.Bytes) bool {
	w := a.w
	return a.before > 0 && a.now.Sub(w.Since) >= settleAfter && float64(to) < worthLearned*float64(w.MemoryLimit) &&
		left(a.now, g.oomAt, a.p.OOMProtect) == 0 && !analyse.Waiting(w) && w.RefaultRate <= analyse.RefaultsFlat
}

// worth is the share of a limit above which another is not worth a shrink.
func (g *memoryController) worth(a *memoryInput) float64 {
	switch {
	case !a.learned:
		return shrinkStep
	case left(a.now, g.grewAt, keepRaised) > 0:
		return worthRaised
	}
	return worthLearned
}

// blocked is why this container, or this evidence, allows no shrink at all.
func (a *memoryInput) blocked() knowledge.Reason {
	switch {
	case !a.p.MemoryShrink:
		return knowledge.Because(knowledge.RuleNoShrinkClass)
	case a.f.Quality < knowledge.QualityGood:
		return a.f.Reason
	case a.w.Have&knowledge.HasMemoryStat == 0: // unknown is not zero
		return knowledge.Because(knowledge.RuleMissing)
	}
	return knowledge.Reason{}
}

// notCalm is the pressure that was not long enough ago.
func (g *memoryController) notCalm(a *memoryInput) knowledge.Reason {
	w, now := a.w, a.now
	calm, needed := a.f.MemoryCalm, a.p.ShrinkAfter
	if !g.grewAt.IsZero() {
		calm = min(calm, now.Sub(g.grewAt))
	}
	if protect := left(now, g.oomAt, a.p.OOMProtect); protect > 0 {
		calm, needed = now.Sub(g.oomAt), a.p.OOMProtect
	}
	switch {
	case calm < needed:
		return knowledge.Because(knowledge.RuleMemoryNotCalm, max(calm, 0).Seconds(), needed.Seconds())
	case w.Have&knowledge.HasMemoryPressure != 0 && w.MemoryPressure.Some60 >= analyse.PressureCalm:
		return knowledge.Because(knowledge.RuleMemoryPressure, w.MemoryPressure.Some60)
	case w.RefaultRate > analyse.RefaultsFlat:
		return knowledge.Because(knowledge.RuleMemoryNotCalm, 0, needed.Seconds())
	}
	if wait := left(now, g.shrunkAt, shrinkEvery); wait > 0 {
		return knowledge.Because(knowledge.RuleCooldown, wait.Seconds())
	}
	return knowledge.Reason{}
}

func (g *memoryController) applied(now time.Time, d knowledge.Decision, grew bool) {
	if grew {
		g.raise.raised(now, d, g.grewAt)
		g.grewAt = now
		return
	}
	g.raise.lowered(now, d)
	g.shrunkAt = now
}

// least is the lowest limit of a shrink: the use with a margin, since cgroup v1 refuses a
// limit under use and v2 kills for it (runc #3509), and the peak of anonymous memory with a
// margin. Memory that is mapped and not used yet, as PostgreSQL's buffers or a Java heap, is taken
// faster than a limit can follow; so is the first of a load after an idle time.
func (a *memoryInput) least() knowledge.Bytes {
	low := a.use + a.w.Reserved + max(a.firstRoom(), knowledge.MemoryRoom(a.use))
	if a.learned { // want includes the peak and its growth
		return low
	}
	return max(low, scaleBytes(a.w.AnonPeak, anonRoom))
}

// ahead is the limit below which memory may be full before the next correction is in force:
// the use, what its growth adds until then, and a little.
func (a *memoryInput) ahead() knowledge.Bytes {
	if a.w.Growth <= 0 {
		return 0
	}
	return toBytes(float64(a.use)*aheadRatio + a.w.Growth*horizon(a.w).Seconds())
}

// horizon is the time until the next certain correction, with a reserve for one that comes
// later than those that were measured.
func horizon(w *knowledge.Window) time.Duration {
	return max(horizonLeast, w.Reaction*horizonReserve/2)
}

// withMargin is the limit for a need: the longer it was observed, the smaller the margin, and
// in proportion to it. With a target of the policy, use over limit is that.
func withMargin(need knowledge.Bytes, watched time.Duration, p *knowledge.Policy) knowledge.Bytes {
	to := scaleBytes(need, 1+margin(watched))
	if p.MemoryTarget > 0 {
		to = scaleBytes(need, 1/p.MemoryTarget)
	}
	return roundUp(max(to, need+min(headroom, max(scaleBytes(need, headroomRatio), headroomLeast))), stepGrain)
}

// margin is d = 0.15 + 0.15/√(1 + minutes/10).
func margin(watched time.Duration) float64 {
	minutes := max(watched.Minutes(), 0)
	return marginLeast + marginYoung/math.Sqrt(1+minutes/marginMinutes)
}

// memoryBoundsOf is the envelope inside the policy, always with an upper end. The default minimum
// is no reason to raise a limit below it: then the limit itself is the minimum.
func memoryBoundsOf(w *knowledge.Window, e *knowledge.Envelope, p *knowledge.Policy) knowledge.Range[knowledge.Bytes] {
	top := least(e.MemoryCeiling, p.Memory.Max, knowledge.MaxBytes)
	low := max(p.Memory.Min, 0)
	if p.MemorySource == knowledge.SourceDefault && w.MemoryLimit > 0 {
		low = min(low, w.MemoryLimit)
	}
	if e.MemoryFloor > p.Memory.Min { // it is a learned need
		low = max(low, e.MemoryFloor)
	}
	return knowledge.Range[knowledge.Bytes]{Min: min(low, top), Max: top}
}

func ratio(a, b knowledge.Bytes) float64 {
	if b <= 0 {
		return 0
	}
	return float64(a) / float64(b)
}

func roundUp(b, to knowledge.Bytes) knowledge.Bytes { return min((b+to-1)/to*to, knowledge.MaxBytes) }

func scaleBytes(b knowledge.Bytes, by float64) knowledge.Bytes { return toBytes(float64(b) * by) }

// toBytes keeps a size within what a size can be; NaN is none.
func toBytes(v float64) knowledge.Bytes {
	switch {
	case math.IsNaN(v) || v <= 0:
		return 0
	case v >= float64(knowledge.MaxBytes):
		return knowledge.MaxBytes
	}
	return knowledge.Bytes(v)
}
