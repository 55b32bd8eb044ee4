package knowledge

// Rule names why an action was or was not taken. Its text is in ruleTexts.
type Rule string

// Reason is a rule with its numbers. It is built on every tick, so it holds no
// text of its own: String formats it on demand.
type Reason struct {
	Rule Rule       `json:"rule"`
	Args [4]float64 `json:"args,omitzero"`
	// Note is text of a user or the Engine, for the few rules that quote it.
	Note string `json:"note,omitempty"`
}

// Because builds a Reason; at most four numbers.
func Because(rule Rule, args ...float64) Reason {
	r := Reason{Rule: rule}
	copy(r.Args[:], args)
	return r
}

// IsZero reports whether there is no reason.
func (r Reason) IsZero() bool { return r.Rule == "" }

// The rules of analysis and planning, with their Args.
const (
	// CPU reflex.
	RuleBoost        Rule = "boost"         // cores of demand not served, usage cores, quota cores
	RuleThrottled    Rule = "throttled"     // ratio, allowed ratio, quota cores
	RuleUndoCut      Rule = "undo-cut"      // ratio, allowed ratio, cores before the cut
	RuleSettled      Rule = "settled"       // peak cores, margin, deviation cores
	RuleFirstLimit   Rule = "first-limit"   // observed seconds, peak
	RuleFirstImage   Rule = "first-image"   // observed seconds, first limit: cores or bytes
	RuleStarting     Rule = "starting"      // seconds since start
	RuleAsBefore     Rule = "as-before"     // limit before: cores or bytes; seconds observed
	RuleBelowFloor   Rule = "below-floor"   // quota, floor, cores
	RuleAboveCeiling Rule = "above-ceiling" // quota, ceiling, cores
	RuleSmallChange  Rule = "small-change"  // change, least change: in the resource's unit
	RuleSteady       Rule = "steady"        // usage, limit: nothing to do
	RulePoolShort    Rule = "pool-short"    // requested, granted cores, pool cores
	RuleUnlimited    Rule = "unlimited"     // no limit yet: seconds left
	RuleWeight       Rule = "weight"        // usage cores, shares
	RuleUsePeak      Rule = "use-peak"      // peak cores of a minute, margin ratio
	RuleTarget       Rule = "target"        // use over limit, the policy's target
	RuleNoCPULimit   Rule = "no-cpu-limit"  // weight mode: lift the quota

	// Memory guard.
	RuleMemoryTight    Rule = "memory-tight"    // working set, limit: bytes
	RuleMemoryRise     Rule = "memory-rise"     // working set, its highest rise at once, limit: bytes
	RuleTimeToFull     Rule = "time-to-full"    // seconds, growth bytes/s, limit bytes
	RuleMemoryEvents   Rule = "memory-events"   // high, max
	RuleMemoryPressure Rule = "memory-pressure" // some avg10 percent
	RuleCacheMissed    Rule = "cache-missed"    // pages/s that are read again, page cache bytes
	RuleUnused         Rule = "unused"          // limit before the raise, limit now, highest use since: bytes; seconds
	RuleOOM            Rule = "oom"             // kills, limit bytes, new limit bytes
	RuleOOMElsewhere   Rule = "oom-elsewhere"   // limit bytes; Note: where memory ran out
	RuleOOMInner       Rule = "oom-inner"       // kills, limit bytes of the inner cgroup; Note: its path
	RuleMemoryProfile  Rule = "memory-profile"  // need bytes, margin ratio; 1: it is the present use
	RuleMemoryNotCalm  Rule = "memory-not-calm" // calm seconds, needed seconds
	RuleHeapPlanned    Rule = "heap-planned"    // planned bytes, maximum bytes
	RuleMemoryFloor    Rule = "memory-floor"    // requested bytes, floor bytes, bytes mapped and not used, room for a load
	RuleNoShrinkClass  Rule = "no-shrink-class" // memory of the class is never reduced
	RuleLeak           Rule = "leak"            // growth bytes/s

	// Evidence.
	RuleMissing  Rule = "missing"   // no reading
	RuleNoLimits Rule = "no-limits" // the limits in force are not known
	RuleStale    Rule = "stale"     // age seconds, allowed seconds
	RuleAbsurd   Rule = "absurd"    // readings in a row
	RuleWarming  Rule = "warming"   // readings, needed
	RuleWatching Rule = "watching"  // seconds observed, needed before a cut

	// Deliberation.
	RuleProfile      Rule = "profile"       // percentile, value, samples' weight
	RuleAdvice       Rule = "advice"        // recommended cores, margin, share of demand left unserved; Note: the model
	RuleNoProfile    Rule = "no-profile"    // hours observed, needed
	RuleImage        Rule = "image"         // seconds observed, percentile, value, share that counts
	RuleShrinkBudget Rule = "shrink-budget" // done today, allowed

	// Forecasts.
	RuleForecast      Rule = "forecast"       // upper bound in cores, level, realised coverage, gain
	RuleNoForecast    Rule = "no-forecast"    // demand varies too little, or too little data
	RuleForecastYoung Rule = "forecast-young" // seconds scored, needed
	RuleForecastOff   Rule = "forecast-off"   // realised coverage, level, slack
	RuleForecastWorse Rule = "forecast-worse" // gain, seconds scored

	RuleTolerance Rule = "tolerance" // change ratio, tolerance

	// Patterns. Amounts are cores, or bytes for memory; spans are seconds.
	RulePatternShort    Rule = "pattern-short"    // values seen, needed
	RulePatternSteady   Rule = "pattern-steady"   // mean, deviation ratio, span
	RulePatternSpike    Rule = "pattern-spike"    // highest, usual, share of the time above, times
	RulePatternRamp     Rule = "pattern-ramp"     // from, to, seconds it took, share explained
	RulePatternStep     Rule = "pattern-step"     // from, to, seconds ago, share explained
	RulePatternPeriodic Rule = "pattern-periodic" // period, share explained, span, lowest
	RulePatternBursty   Rule = "pattern-bursty"   // mean, deviation ratio, highest, bursts
	RulePatternIdle     Rule = "pattern-idle"     // highest, span
	RulePatternLeak     Rule = "pattern-leak"     // growth bytes/s, grown bytes, span, share not explained by load
	RuleGrowsWithLoad   Rule = "grows-with-load"  // grown bytes, span, share explained by load
	RuleMemoryLevel     Rule = "memory-level"     // usual bytes, grown bytes, span

	// Guards.
	RuleMode          Rule = "mode" // Note: the mode
	RuleNotManaged    Rule = "not-managed"
	RuleClaimed       Rule = "claimed"        // another daemon changes the container
	RuleBadLabel      Rule = "bad-label"      // Note: the problem
	RulePaused        Rule = "paused"         // seconds left; Note: "" or "down"
	RuleExternal      Rule = "external"       // seconds left
	RuleHeld          Rule = "held"           // seconds left; who set the limit
	RulePinned        Rule = "pinned"         // an external limit outside the policy
	RuleOriginal      Rule = "original"       // the original limits are not recorded yet
	RuleRetry         Rule = "retry"          // seconds left; Note: the error
	RuleHazard        Rule = "hazard"         // Note: which
	RuleReservation   Rule = "reservation"    // requested bytes, reservation bytes
	RuleStartFloor    Rule = "start-floor"    // requested, floor
	RuleAtMin         Rule = "at-min"         // requested, min
	RuleAtMax         Rule = "at-max"         // requested, max
	RuleStepUp        Rule = "step-up"        // requested, allowed
	RuleStepDown      Rule = "step-down"      // requested, allowed
	RuleRate          Rule = "rate"           // actions in the last minute, allowed
	RuleWorkingSet    Rule = "working-set"    // requested bytes, working set, minimum
	RuleHostMemory    Rule = "host-memory"    // bytes more, bytes left in the budget
	RuleHostCPU       Rule = "host-cpu"       // requested cores, host cores
	RuleOuterMost     Rule = "outer-most"     // requested, allowed; Note: what bounds it
	RuleOuterLeast    Rule = "outer-least"    // requested, least; Note: what bounds it
	RuleRefused       Rule = "refused"        // Note: the kernel's or the Engine's error
	RuleEvidence      Rule = "evidence"       // age seconds, allowed seconds
	RuleRaisedFloor   Rule = "raised-floor"   // requested, floor, seconds left
	RuleCooldown      Rule = "cooldown"       // seconds left
	RuleNotRunning    Rule = "not-running"    // Note: the state
	RuleEngineDown    Rule = "engine-down"    // seconds since it was lost
	RuleSafeMode      Rule = "safe-mode"      // crashes
	RuleInFlight      Rule = "in-flight"      // another action is in progress
	RuleLate          Rule = "late"           // seconds of delay of the tick
	RuleEngineRestart Rule = "engine-restart" // seconds left

	// Requests of users, and undo.
	RuleUser    Rule = "user" // by what factor, 0: a limit; Note: the user or client
	RuleRestore Rule = "restore"
	// RuleStartLimit is about what the container starts with; Note: which value that is.
	RuleStartLimit Rule = "start-limit"
	RuleDrift      Rule = "drift" // the kernel's value, ours
	RuleHurt       Rule = "hurt"  // seconds after the cut; Note: the symptom
)
