package plan

import "github.com/effiscale/effiscale/knowledge"

// first gives a container without a memory limit its first one.
func (g *memoryController) first(d knowledge.Decision, a *memoryInput) knowledge.Decision {
	watched := a.now.Sub(a.w.Since)
	if why := a.blocked(); !why.IsZero() {
		return because(d, why)
	}
	wait := a.p.ObserveFirst
	switch {
	case a.e.FirstMemory > 0: // its image is known, starts included
		wait = min(wait, cutWindow)
	case a.before > 0:
		wait = min(wait, settleAfter)
	}
	if watched < wait {
		return because(d, knowledge.Because(knowledge.RuleUnlimited, max(wait-watched, 0).Seconds()))
	}
	if protect := left(a.now, g.oomAt, a.p.OOMProtect); protect > 0 {
		return because(d, knowledge.Because(knowledge.RuleMemoryNotCalm, a.now.Sub(g.oomAt).Seconds(),
			a.p.OOMProtect.Seconds()))
	}
	if planned := a.w.Planned; planned > a.bounds.Max { // any limit within the bounds would kill it in the end
		return because(d, knowledge.Because(knowledge.RuleHeapPlanned, float64(planned), float64(a.bounds.Max)))
	}
	// A first limit leaves the cache that is in use: whether it is missed shows in small steps.
	low := max(a.least(), withMargin(a.w.WorkingSet, watched, a.p))
	to := max(roundUp(max(a.want, low, a.e.FirstMemory, a.before), stepGrain), a.bounds.Min)
	if low > a.bounds.Max && a.w.Reserved > 0 {
		return because(d, a.floor(a.bounds.Max, low))
	}
	if low > a.bounds.Max {
		return because(d, knowledge.Because(knowledge.RuleAtMax, float64(to), float64(a.bounds.Max)))
	}
	d.Verb, d.To = knowledge.Shrink, int64(min(to, a.bounds.Max))
	if a.e.FirstMemory > 0 && watched < a.p.ObserveFirst {
		return because(d, knowledge.Because(knowledge.RuleFirstImage, watched.Seconds(), float64(d.To)))
	}
	if a.before > 0 {
		return because(d, knowledge.Because(knowledge.RuleAsBefore, float64(a.before), watched.Seconds()))
	}
	return because(d, knowledge.Because(knowledge.RuleFirstLimit, watched.Seconds(), float64(a.use)))
}

// firstRoom is what a reduction leaves for a load to come, as far as the bounds and the limit in
// force have it.
func (a *memoryInput) firstRoom() knowledge.Bytes {
	most := a.bounds.Max
	if a.w.MemoryLimit > 0 {
		most = min(most, a.w.MemoryLimit)
	}
	return max(min(firstRoom, most-a.use-a.w.Reserved), 0)
}

// floor is the reason of a limit that is not lowered to want: low is the least.
func (a *memoryInput) floor(want, low knowledge.Bytes) knowledge.Reason {
	why := knowledge.Because(knowledge.RuleMemoryFloor, float64(want), float64(low), float64(a.w.Reserved))
	if room := a.firstRoom(); low == a.use+a.w.Reserved+room {
		why.Args[3] = float64(room)
	}
	return why
}
