package plan

import (
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// Facts are the profile of a service in the few numbers that an envelope needs. The
// zero value: nothing is known.
type Facts struct {
	// ObservedFor is how long the service was watched, without gaps.
	ObservedFor time.Duration
	// CPU is the policy's CPUPercentile of usage, CPUMax the highest usage, both
	// of one container; throttled use counts at its demand.
	CPU, CPUMax knowledge.NanoCPU
	// MemoryNeed is the policy's MemoryPercentile of the one-minute peaks of the
	// working set (1: the highest), MemoryPeak the highest peak ever.
	MemoryNeed, MemoryPeak knowledge.Bytes
	// MemoryLimit is the limit for MemoryNeed where both follow from how the
	// container's memory rises (Reflex.MemorySize); 0: they do not.
	MemoryLimit knowledge.Bytes
	// Advice is a Recommender's result for the CPU of one container, for policies whose
	// percentile is adaptive.
	Advice Advice
	// Forecast is the service's expected demand.
	Forecast Forecast
	// Threshold is the learned threshold of use; nodes of earlier versions call it Strain.
	Threshold Threshold `cbor:"Strain,omitzero"`
	// Image is the same of all containers of its image, other services' included.
	Image Image
}

// Deliberate sets the envelope of a service's containers: policy and host are the
// bounds, and what was learned raises the floors. Small changes against prev are
// ignored, so that the result is stable.
func Deliberate(
	now time.Time, facts Facts, p *knowledge.Policy, host knowledge.Host, prev knowledge.Envelope,
) knowledge.Envelope {
	e := knowledge.Envelope{
		CPU:            knowledge.Range[knowledge.NanoCPU]{Min: max(p.CPU.Min, floorCPU), Max: cpuCeiling(facts, p, host)},
		ThrottleTarget: p.ThrottleTarget,
		MemoryFloor:    max(p.Memory.Min, 0),
		MemoryCeiling:  memoryCeiling(p, host),
		Term:           prev.Term,
		At:             now,
		Reason:         knowledge.Because(knowledge.RuleNoProfile, facts.ObservedFor.Seconds(), learnAfter.Seconds()),
	}
	switch {
	case facts.ObservedFor >= learnAfter:
		learn(&e, facts, p, &prev)
	case facts.imageCoversFloors():
		learn(&e, facts.withImage(), p, &prev)
		e.Reason = facts.Image.Because(&facts, p)
	}
	setFirstLimits(&e, &facts, p)
	e.LearnedCPU = e.CPU.Min
	applyForecast(&e, &facts, &prev)
	if p.CPUMode == knowledge.CPUWeight { // no quota, and nothing to bound
		e.CPU = knowledge.Range[knowledge.NanoCPU]{Min: p.CPU.Min, Max: hostCPU(host)}
	}
	e.CPU.Min = under(e.CPU.Min, e.CPU.Max)
	e.MemoryFloor = under(e.MemoryFloor, e.MemoryCeiling)
	e.Memory = under(e.Memory, e.MemoryCeiling)
	applyThreshold(&e, &facts, p, &prev)
	if Same(&e, &prev) {
		prev.Forecast = e.Forecast // its numbers are of now
		prev.ThresholdCPU, prev.CutCPU, prev.Threshold = e.ThresholdCPU, e.CutCPU, e.Threshold
		if r := e.Reason.Rule; r == knowledge.RuleNoProfile || r == knowledge.RuleImage {
			prev.Reason = e.Reason // so are these; those of other rules are of when it was set
		}
		return prev
	}
	return e
}

// learn raises the floors to the learned need. A floor that differs from the one
// before by less than the tolerance stays.
func learn(e *knowledge.Envelope, facts Facts, p *knowledge.Policy, prev *knowledge.Envelope) {
	floor, why := facts.floor(p)
	need := facts.MemoryNeed
	want := withMargin(need, facts.ObservedFor, p)
	if facts.MemoryLimit > 0 && p.MemoryTarget == 0 {
		want = facts.MemoryLimit
	}
	if prev.Learned {
		if why.Rule == knowledge.RuleAdvice {
			floor = facts.Advice.steady(e.At.Sub(prev.At), floor, prev.LearnedCPU)
		} else {
			floor = steady(floor, prev.LearnedCPU)
		}
		need = steady(need, prev.MemoryFloor)
		want = steady(want, prev.Memory)
	}
	e.Learned = true
	e.CPU.Min = max(e.CPU.Min, floor)
	e.Reason = why
	if facts.MemoryNeed > 0 {
		e.MemoryFloor = max(e.MemoryFloor, need)
		e.Memory = max(want, e.MemoryFloor)
	}
}

// steady is next, or prev where the difference is not worth a change.
func steady[T ~int64](next, prev T) T { return within(next, prev, envelopeUp, envelopeDown) }

// steady is that for the floor of an advice: by what it wastes anyway; and it is
// lowered only when the envelope has been in force for a while.
func (a *Advice) steady(stood time.Duration, next, prev knowledge.NanoCPU) knowledge.NanoCPU {
	if next < prev && stood < adviceStands {
		return prev
	}
	return within(next, prev, min(max(upBand*a.Waste, upLeast), upMost), min(max(downBand*a.Waste, downLeast), downMost))
}

func within[T ~int64](next, prev T, up, down float64) T {
	change := float64(next - prev)
	if prev > 0 && change <= up*float64(prev) && change >= -down*float64(prev) {
		return prev
	}
	return next
}

// Same reports whether two envelopes differ in nothing but their time, their terms,
// the numbers in their reasons and the learned threshold, which follows the use of
// the last minutes.
func Same(a, b *knowledge.Envelope) bool {
	return a.CPU == b.CPU && a.ThrottleTarget == b.ThrottleTarget && a.Memory == b.Memory &&
		a.MemoryFloor == b.MemoryFloor && a.MemoryCeiling == b.MemoryCeiling &&
		a.FirstCPU == b.FirstCPU && a.FirstMemory == b.FirstMemory &&
		a.LearnedCPU == b.LearnedCPU && a.ForecastCPU == b.ForecastCPU && a.Forecast.Rule == b.Forecast.Rule &&
		a.Learned == b.Learned && a.Reason.Rule == b.Reason.Rule
}

// cpuCeiling is the policy's or the host's bound. After a day, batch work is bounded
// by a multiple of its highest use; interactive services are never bounded by their
// past, which has no surges that come for the first time.
func cpuCeiling(facts Facts, p *knowledge.Policy, host knowledge.Host) knowledge.NanoCPU {
	top := least(p.CPU.Max, hostCPU(host), knowledge.MaxCPU)
	if p.Class == knowledge.ClassBatch && facts.ObservedFor >= boundAfter && facts.CPUMax > 0 {
		top = min(top, max(scale(facts.CPUMax, boundRatio), boundLeast))
	}
	return top
}

func hostCPU(host knowledge.Host) knowledge.NanoCPU {
	return min(knowledge.NanoCPU(max(host.CPUs, 0))*knowledge.OneCPU, knowledge.MaxCPU)
}

// memoryCeiling is the policy's bound inside what the host can spare; 0: neither
// is known.
func memoryCeiling(p *knowledge.Policy, host knowledge.Host) knowledge.Bytes {
	spare := host.Memory - min(max(scaleBytes(host.Memory, reserveRatio), reserveLeast), host.Memory/2)
	if top := least(p.Memory.Max, spare, knowledge.MaxBytes); top < knowledge.MaxBytes {
		return top
	}
	return 0
}

// under is v, brought under a top of which 0 is none.
func under[T ~int64](v, top T) T {
	if top > 0 {
		return min(v, top)
	}
	return v
}

// WouldBe are the limits that observe and recommend show, for containers that did not
// opt in too. They are where the reflex would end, without its steps, waits and
// undos. A Hold gives the reason for no such limit, or for keeping the present one.
func WouldBe(
	now time.Time, facts Facts, w *knowledge.Window, e *knowledge.Envelope, p *knowledge.Policy,
) (cpu, memory knowledge.Decision) {
	cpu = hold(now, w, knowledge.ResourceCPU, int64(w.Quota))
	memory = hold(now, w, knowledge.ResourceMemory, int64(w.MemoryLimit))
	cpu.Actor, memory.Actor = knowledge.ActorDeliberation, knowledge.ActorDeliberation
	watched := max(facts.ObservedFor, now.Sub(w.Since))
	if facts.imageCoversStart(p) {
		watched = max(watched, facts.Image.ObservedFor)
	}
	if w.Have&knowledge.HasCPU == 0 || watched < p.ObserveFirst {
		why := knowledge.Because(knowledge.RuleWatching, watched.Seconds(), p.ObserveFirst.Seconds())
		return because(cpu, why), because(memory, why)
	}
	if p.CPUMode == knowledge.CPUWeight {
		cpu = lift(cpu, w, e, p)
	} else {
		to, why := wouldCPU(facts, w, e, p)
		cpu = settle(cpu, int64(to), why)
	}
	if w.Have&knowledge.HasMemory == 0 {
		return cpu, because(memory, knowledge.Because(knowledge.RuleMissing))
	}
	to, why := wouldMemory(max(facts.ObservedFor, now.Sub(w.Since)), facts, w, e, p)
	return cpu, settle(memory, int64(to), why)
}

// wouldCPU is the quota for a learned percentile with a margin; without one, for
// the highest use of the last minute.
func wouldCPU(
	facts Facts, w *knowledge.Window, e *knowledge.Envelope, p *knowledge.Policy,
) (knowledge.NanoCPU, knowledge.Reason) {
	b := cpuBoundsOf(e, p)
	peak := max(w.Usage60, w.UsageMax, w.Usage)
	to, why := firstCPU(peak, w.UsageMean, p), knowledge.Because(knowledge.RuleUsePeak, peak.Cores(), firstMargin-1)
	if facts.ObservedFor >= learnAfter && facts.CPU > 0 {
		to, why = facts.floor(p)
		switch {
		case p.CPUTarget > 0:
			to = scale(facts.CPU, 1/p.CPUTarget)
		case why.Rule == knowledge.RuleProfile: // advice has its own margin
			to = scale(to, wouldMargin)
		}
	} else if facts.imageCoversStart(p) {
		to, why = max(to, facts.withImage().CPU), facts.Image.Because(&facts, p)
	}
	return min(max(to, b.floor), b.ceiling), why
}

// wouldMemory is the limit for the learned need, or for the present one.
func wouldMemory(
	watched time.Duration, facts Facts, w *knowledge.Window, e *knowledge.Envelope, p *knowledge.Policy,
) (knowledge.Bytes, knowledge.Reason) {
	bounds := memoryBoundsOf(w, e, p)
	use := max(w.InUse(), w.AnonPeak, facts.MemoryNeed)
	if facts.imageCoversStart(p) {
		use = max(use, facts.withImage().MemoryNeed)
	}
	to := max(withMargin(use, watched, p), (&memoryInput{w: w, use: w.InUse(), bounds: bounds}).least())
	if facts.MemoryLimit > 0 && p.MemoryTarget == 0 {
		to = max(facts.MemoryLimit, (&memoryInput{w: w, use: w.InUse(), bounds: bounds, learned: true}).least())
	}
	if !p.MemoryShrink {
		to = max(to, w.MemoryLimit)
	}
	to = roundUp(min(max(to, bounds.Min), bounds.Max), stepGrain)
	why := knowledge.Because(knowledge.RuleMemoryProfile, float64(use), ratio(to, use)-1)
	if use > facts.MemoryNeed {
		why.Args[2] = 1
	}
	return min(to, bounds.Max), why
}

// settle turns a limit that should hold into a decision against the present one.
func settle(d knowledge.Decision, to int64, why knowledge.Reason) knowledge.Decision {
	change := 1.0
	if d.From > 0 {
		change = float64(to-d.From) / float64(d.From)
	}
	switch {
	case d.From > 0 && change >= -envelopeDown && change <= envelopeUp:
		return because(d, knowledge.Because(knowledge.RuleTolerance, max(change, -change), envelopeDown))
	case d.From > 0 && change > 0:
		d.Verb = knowledge.Grow
	default:
		d.Verb = knowledge.Shrink
	}
	d.To = to
	return because(d, why)
}
