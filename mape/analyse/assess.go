// Package analyse assesses windows: how far one can be trusted, whether the container
// is starved, tight, roomy or idle, and its demand without a limit. It is pure: the
// same window, policy and instant give the same finding, and nothing is allocated.
package analyse

import (
	"math"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// Assess makes a finding of a window. A window older than maxAge is stale. c
// may be nil when the container has not been inspected.
func Assess(
	now time.Time, w *knowledge.Window, p *knowledge.Policy, c *knowledge.Container, maxAge time.Duration,
) knowledge.Finding {
	f := knowledge.Finding{ID: w.ID, At: now}
	f.Quality, f.Reason = quality(now, w, maxAge)
	if f.Quality < knowledge.QualityWarming {
		return f
	}
	f.Demand = demand(w)
	f.Boost = boost(w)
	f.CPU = cpuSymptom(w, p, f.Boost)
	f.TimeToFull = timeToFull(w)
	f.Memory = memorySymptom(w, f.TimeToFull)
	f.MemoryCalm = calm(now, w)
	if c != nil {
		f.Age = age(now, c)
		f.Starting = starting(c, f.Age)
	}
	if f.Quality == knowledge.QualityGood {
		f.Reason = explain(w, p, &f)
	}
	return f
}

// quality judges the window before it is used. Unknown is not zero, and invalid
// readings are worse than few.
func quality(now time.Time, w *knowledge.Window, maxAge time.Duration) (knowledge.Quality, knowledge.Reason) {
	age := now.Sub(w.At)
	switch {
	case w.Have&knowledge.HasCPU == 0:
		return knowledge.QualityMissing, knowledge.Because(knowledge.RuleMissing)
	case w.Rejected >= AbsurdRun || !sane(w):
		return knowledge.QualityAbsurd, knowledge.Because(knowledge.RuleAbsurd, float64(max(w.Rejected, 1)))
	case age > maxAge || age < -maxAge:
		return knowledge.QualityStale, knowledge.Because(knowledge.RuleStale, age.Seconds(), maxAge.Seconds())
	case w.Samples < WarmSamples:
		return knowledge.QualityWarming, knowledge.Because(knowledge.RuleWarming, float64(w.Samples), WarmSamples)
	}
	return knowledge.QualityGood, knowledge.Reason{}
}

// sane reports whether every number that a decision rests on can exist. The
// monitor has clamped them already; this is the second lock (NaN compares false
// with everything, and would pass every threshold unseen).
func sane(w *knowledge.Window) bool {
	for _, v := range [...]knowledge.NanoCPU{w.Usage, w.UsageMax, w.UsageMean, w.UsageStd, w.Usage60, w.Missing, w.Quota} {
		if v < 0 || v > knowledge.MaxCPU {
			return false
		}
	}
	for _, v := range [...]knowledge.Bytes{w.MemoryUsage, w.WorkingSet, w.Anon, w.Hard, w.Cache, w.AnonPeak,
		w.PeakMinute, w.MemoryLimit} {
		if v < 0 || v > knowledge.MaxBytes {
			return false
		}
	}
	for _, v := range [...]float64{w.ThrottleRatio, w.Growth, w.RefaultRate, w.MemoryPressure.Some10,
		w.MemoryPressure.Some60} {
		if math.IsNaN(v) || v < 0 || v > float64(knowledge.MaxBytes) {
			return false
		}
	}
	return w.ThrottleRatio <= 1
}

// demand is the CPU that the container would use without its quota.
//
// Throttled time is summed over CPUs, so in a throttled period it is the number of
// runnable CPUs times how long they had to wait. In such a period the use is the
// quota itself; the throttled demand is spread over the throttled periods only, not
// over the whole interval. Four busy threads under a quota of 1 core use 4 × 25 ms of
// a period and wait 4 × 75 ms: 1 + 3 = 4 cores, whether the interval is that one
// period or a second with nine quiet ones before it.
//
// It is an upper estimate: a thread that needed 1 ms more counts as waiting to the
// end of the period. It never exceeds the CPUs that were runnable, and time that the
// kernel adds late (it counts when a CPU is released) is bounded by the envelope's
// ceiling.
func demand(w *knowledge.Window) knowledge.NanoCPU {
	d := w.Demand()
	if h := heldBack(w); h > 0 {
		d = max(d, w.Quota+knowledge.FromCores(h/1e9))
	}
	return min(d, knowledge.MaxCPU)
}

// heldBack is the use that throttling prevented in the throttled periods, in
// billionths of a core; 0 when there was none.
func heldBack(w *knowledge.Window) float64 {
	if w.Quota <= 0 || !w.Throttled() {
		return 0
	}
	span := float64(period(w)) * float64(w.ThrottledPeriods)
	return max(1, float64(w.Interval)/span) * float64(w.Missing)
}

func period(w *knowledge.Window) time.Duration {
	if w.Period <= 0 {
		return knowledge.DefaultPeriod
	}
	return w.Period
}

// boost: throttled so heavily, or for so long, that the quota must grow within the
// second.
func boost(w *knowledge.Window) bool {
	if w.Quota <= 0 || !w.Throttled() || w.Have&knowledge.HasThrottle == 0 {
		return false
	}
	whole := float64(w.Interval) >= WholePeriod*float64(period(w))
	return w.ThrottledRun >= BoostRun || (whole && heldBack(w) >= BoostHeld*float64(w.Quota))
}

func cpuSymptom(w *knowledge.Window, p *knowledge.Policy, boost bool) knowledge.Symptom {
	peak := max(w.UsageMax, w.Usage)
	limited := w.Quota > 0
	switch {
	case boost:
		return knowledge.SymptomCritical
	case limited && w.ThrottleRatio > ThrottleTolerance*p.ThrottleTarget:
		return knowledge.SymptomStarved
	case limited && (w.ThrottleRatio > p.ThrottleTarget || part(w.Usage, w.Quota) >= TightRatio):
		return knowledge.SymptomTight
	case peak < IdleCPU && w.Usage60 < IdleCPU:
		return knowledge.SymptomIdle
	case limited && part(peak, w.Quota) <= RoomyRatio:
		return knowledge.SymptomRoomy
	}
	return knowledge.SymptomNone
}

func memorySymptom(w *knowledge.Window, full time.Duration) knowledge.Symptom {
	if w.Have&knowledge.HasMemory == 0 {
		return knowledge.SymptomNone
	}
	limited := w.MemoryLimit > 0
	peak := max(w.InUse(), w.AnonPeak)
	switch {
	case w.OOMKills > 0:
		return knowledge.SymptomCritical
	case limited && (CacheMissed(w) || Waiting(w)):
		return knowledge.SymptomStarved
	case limited && (part(w.InUse(), w.MemoryLimit) > TightRatio || (full > 0 && full < FullSoon)):
		return knowledge.SymptomTight
	case peak < IdleMemory:
		return knowledge.SymptomIdle
	case limited && part(peak, w.MemoryLimit) <= RoomyRatio:
		return knowledge.SymptomRoomy
	}
	return knowledge.SymptomNone
}

// CacheMissed reports whether the kernel takes page cache at the container's own limit that is
// read again soon, often enough to matter. Reclaim alone is no sign of need: page cache fills
// any limit. Where the kernel measures waiting for memory, it has to wait as well.
func CacheMissed(w *knowledge.Window) bool {
	if w.Have&knowledge.HasMemoryStat == 0 {
		return w.HighEvents+w.MaxEvents > 0 && part(w.InUse(), w.MemoryLimit) >= EventRatio
	}
	if w.RefaultRate < RefaultsHigh || part(w.MemoryUsage, w.MemoryLimit) < TightRatio {
		return false
	}
	return w.Have&knowledge.HasMemoryPressure == 0 || w.MemoryPressure.Some10 > PressureHigh
}

// Waiting reports whether the container waits for memory because of its own limit. Without
// refaults, and with memory left that reclaim can take, the wait may be for the reclaim of page
// cache that is not needed: then only a long wait counts, and none while there is page cache.
// Pressure under a limit that is far away is the host's, and a higher limit would make that
// worse.
func Waiting(w *knowledge.Window) bool {
	if w.Have&knowledge.HasMemoryPressure == 0 || part(w.MemoryUsage, w.MemoryLimit) < TightRatio {
		return false
	}
	high := PressureHigh
	if w.Have&knowledge.HasMemoryStat != 0 && w.RefaultRate < RefaultsHigh &&
		part(w.InUse(), w.MemoryLimit) < NeedyRatio {
		if part(w.Cache, w.MemoryLimit) > NoCacheRatio {
			return false
		}
		high = PressureLong
	}
	return w.MemoryPressure.Some10 > high
}

func part[T ~int64](use, limit T) float64 {
	if limit <= 0 {
		return 0
	}
	return float64(use) / float64(limit)
}

// timeToFull is how long the limit lasts at the present growth; 0: no end.
func timeToFull(w *knowledge.Window) time.Duration {
	if w.MemoryLimit <= 0 || w.Growth <= 0 || w.Have&knowledge.HasMemory == 0 {
		return 0
	}
	s := float64(w.MemoryLimit-w.InUse()) / w.Growth
	switch {
	case s <= 0:
		return time.Nanosecond // full already, and 0 means never
	case s >= FullNever.Seconds():
		return 0
	}
	return max(time.Duration(s*float64(time.Second)), time.Nanosecond)
}

// calm is how long there was no memory event, OOM kill or pressure, at most the time
// that the container was observed.
func calm(now time.Time, w *knowledge.Window) time.Duration {
	if w.Have&knowledge.HasMemoryPressure != 0 && w.MemoryPressure.Some10 > PressureHigh {
		return 0
	}
	d := now.Sub(w.Since)
	if !w.LastOOM.IsZero() {
		d = min(d, now.Sub(w.LastOOM))
	}
	// That page cache met the limit is no pressure: refaults show whether it is needed.
	if !w.LastMemoryEvent.IsZero() && (w.Have&knowledge.HasMemoryStat == 0 || part(w.Hard, w.MemoryLimit) >= NeedyRatio) {
		d = min(d, now.Sub(w.LastMemoryEvent))
	}
	if !w.LastRefault.IsZero() {
		d = min(d, now.Sub(w.LastRefault))
	}
	return max(d, 0)
}

// age is how long ago the container started; 0: not known. The Engine's start
// time is wall time, so after a step of the clock it may lie in the future.
func age(now time.Time, c *knowledge.Container) time.Duration {
	if c.StartedAt.IsZero() {
		return 0
	}
	return max(now.Sub(c.StartedAt), 0)
}

// startsFor is how long after its start a container that is not healthy yet counts as
// starting.
const startsFor = time.Minute

// starting: it started a short time ago and its health check, if it has one,
// has not passed yet.
func starting(c *knowledge.Container, age time.Duration) bool {
	return age > 0 && age < startsFor && c.Health != knowledge.HealthHealthy
}

// explain names the most urgent thing in the finding.
func explain(w *knowledge.Window, p *knowledge.Policy, f *knowledge.Finding) knowledge.Reason {
	switch {
	case f.Memory == knowledge.SymptomCritical:
		return knowledge.Because(knowledge.RuleOOM, float64(w.OOMKills), float64(w.MemoryLimit))
	case f.Boost:
		return knowledge.Because(knowledge.RuleBoost, (f.Demand - w.Usage).Cores(), w.Usage.Cores(), w.Quota.Cores())
	case f.CPU == knowledge.SymptomStarved:
		return knowledge.Because(knowledge.RuleThrottled, w.ThrottleRatio, ThrottleTolerance*p.ThrottleTarget,
			w.Quota.Cores())
	case f.Memory == knowledge.SymptomStarved && Waiting(w):
		return knowledge.Because(knowledge.RuleMemoryPressure, w.MemoryPressure.Some10)
	case f.Memory == knowledge.SymptomStarved && w.Have&knowledge.HasMemoryStat != 0:
		return knowledge.Because(knowledge.RuleCacheMissed, w.RefaultRate, float64(w.Cache))
	case f.Memory == knowledge.SymptomStarved:
		return knowledge.Because(knowledge.RuleMemoryEvents, float64(w.HighEvents), float64(w.MaxEvents))
	case f.Memory == knowledge.SymptomTight && part(w.InUse(), w.MemoryLimit) > TightRatio:
		return knowledge.Because(knowledge.RuleMemoryTight, float64(w.InUse()), float64(w.MemoryLimit))
	case f.Memory == knowledge.SymptomTight:
		return knowledge.Because(knowledge.RuleTimeToFull, f.TimeToFull.Seconds(), w.Growth, float64(w.MemoryLimit))
	case f.Starting:
		return knowledge.Because(knowledge.RuleStarting, f.Age.Seconds())
	case w.Quota > 0:
		return knowledge.Because(knowledge.RuleSteady, w.Usage.Cores(), w.Quota.Cores())
	}
	return knowledge.Reason{}
}
