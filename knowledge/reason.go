package knowledge

import (
	"fmt"
	"strings"
	"time"
)

// Rule names why something was or was not done. Its words are in ruleWords.
type Rule string

// Reason is a rule with its numbers. It is built on every tick, so it holds no
// text of its own: String makes the sentence when somebody asks.
type Reason struct {
	Rule Rule       `json:"rule"`
	Args [4]float64 `json:"args,omitzero"`
	// Note is what a person or the Engine said, for the few rules that quote it.
	Note string `json:"note,omitempty"`
}

// Because builds a Reason; at most four numbers.
func Because(rule Rule, args ...float64) Reason {
	r := Reason{Rule: rule}
	copy(r.Args[:], args)
	return r
}

// IsZero reports whether nothing was said.
func (r Reason) IsZero() bool { return r.Rule == "" }

// The rules of analysis and planning. Args are given beside each.
const (
	// CPU reflex.
	RuleBoost        Rule = "boost"         // missing cores, usage cores, quota cores
	RuleThrottled    Rule = "throttled"     // ratio, allowed ratio, quota cores
	RuleUndoCut      Rule = "undo-cut"      // ratio, allowed ratio, cores before the cut
	RuleSettled      Rule = "settled"       // peak cores, margin, deviation cores
	RuleFirstLimit   Rule = "first-limit"   // observed seconds, peak
	RuleFirstImage   Rule = "first-image"   // observed seconds, limit by its image: cores or bytes
	RuleStartBoost   Rule = "start-boost"   // seconds since start, multiple
	RuleBelowFloor   Rule = "below-floor"   // quota, floor, cores
	RuleAboveCeiling Rule = "above-ceiling" // quota, ceiling, cores
	RuleSmallChange  Rule = "small-change"  // change, least change: in the resource's unit
	RuleSteady       Rule = "steady"        // usage, limit: nothing to do
	RulePoolShort    Rule = "pool-short"    // wanted, granted cores, pool cores
	RuleUnlimited    Rule = "unlimited"     // has no limit and is still being watched: seconds left
	RuleWeight       Rule = "weight"        // usage cores, shares
	RuleUsePeak      Rule = "use-peak"      // peak cores of a minute, margin ratio
	RuleTarget       Rule = "target"        // use over limit, the policy's target
	RuleNoCPULimit   Rule = "no-cpu-limit"  // weight mode: lift the quota

	// Memory guard.
	RuleMemoryTight    Rule = "memory-tight"    // working set, limit: bytes
	RuleMemoryRise     Rule = "memory-rise"     // working set, the most it rose at once, limit: bytes
	RuleTimeToFull     Rule = "time-to-full"    // seconds, growth bytes/s, limit bytes
	RuleMemoryEvents   Rule = "memory-events"   // high, max
	RuleMemoryPressure Rule = "memory-pressure" // some avg10 percent
	RuleOOM            Rule = "oom"             // kills, limit bytes, new limit bytes
	RuleMemoryProfile  Rule = "memory-profile"  // need bytes, margin ratio
	RuleMemoryNotCalm  Rule = "memory-not-calm" // calm seconds, needed seconds
	RuleMemoryFloor    Rule = "memory-floor"    // wanted bytes, floor bytes
	RuleNoShrinkClass  Rule = "no-shrink-class" // the class never gives memory back
	RuleLeak           Rule = "leak"            // growth bytes/s

	// Evidence.
	RuleMissing  Rule = "missing"  // no reading
	RuleStale    Rule = "stale"    // age seconds, allowed seconds
	RuleAbsurd   Rule = "absurd"   // readings in a row
	RuleWarming  Rule = "warming"  // readings, needed
	RuleWatching Rule = "watching" // seconds watched, needed before a cut

	// Deliberation.
	RuleProfile      Rule = "profile"       // percentile, value, samples' weight
	RuleAdvice       Rule = "advice"        // recommended cores, margin, share that may stay unserved; Note: the model
	RuleNoProfile    Rule = "no-profile"    // hours observed, needed
	RuleImage        Rule = "image"         // seconds observed, percentile, value, share that counts
	RuleShrinkBudget Rule = "shrink-budget" // done today, allowed

	// Forecasts.
	RuleForecast      Rule = "forecast"       // upper bound in cores, level, realised coverage, gain
	RuleNoForecast    Rule = "no-forecast"    // nothing moves, or too little was seen
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
	RuleBadLabel      Rule = "bad-label"      // Note: the problem
	RulePaused        Rule = "paused"         // seconds left; Note: "" or "down"
	RuleExternal      Rule = "external"       // seconds left
	RulePinned        Rule = "pinned"         // somebody else's value outside the policy
	RuleOriginal      Rule = "original"       // the way back is being written down
	RuleRetry         Rule = "retry"          // seconds left; Note: what was said
	RuleHazard        Rule = "hazard"         // Note: which
	RuleAtMin         Rule = "at-min"         // wanted, min
	RuleAtMax         Rule = "at-max"         // wanted, max
	RuleStepUp        Rule = "step-up"        // wanted, allowed
	RuleStepDown      Rule = "step-down"      // wanted, allowed
	RuleRate          Rule = "rate"           // actions in the last minute, allowed
	RuleWorkingSet    Rule = "working-set"    // wanted bytes, working set, least
	RuleHostMemory    Rule = "host-memory"    // wanted bytes more, free in the budget
	RuleHostCPU       Rule = "host-cpu"       // wanted cores, host cores
	RuleEvidence      Rule = "evidence"       // age seconds, allowed seconds
	RuleRaisedFloor   Rule = "raised-floor"   // wanted, floor, seconds left
	RuleCooldown      Rule = "cooldown"       // seconds left
	RuleNotRunning    Rule = "not-running"    // Note: the state
	RuleEngineDown    Rule = "engine-down"    // seconds since it was lost
	RuleSafeMode      Rule = "safe-mode"      // crashes
	RuleInFlight      Rule = "in-flight"      // an action is on its way
	RuleLate          Rule = "late"           // the tick came seconds late
	RuleEngineRestart Rule = "engine-restart" // seconds left

	// Others' wishes, and the way back.
	RuleUser    Rule = "user" // Note: who asked
	RuleRestore Rule = "restore"
	RuleDrift   Rule = "drift" // the kernel held, ours
	RuleHurt    Rule = "hurt"  // seconds after the cut; Note: what got worse
)

// hardly is what is printed as 0.00 cores: it is said in words.
const hardly = OneCPU / 200

var ruleWords = map[Rule]func(r Reason) string{
	RuleBoost: func(r Reason) string {
		if FromCores(r.Args[0]) < hardly {
			return fmt.Sprintf("throttled hard: %s cores in use, hardly more held back by a quota of %s", cores(r.Args[1]), cores(r.Args[2]))
		}
		return fmt.Sprintf("throttled hard: %s cores in use, about %s more held back by a quota of %s", cores(r.Args[1]), cores(r.Args[0]), cores(r.Args[2]))
	},
	RuleThrottled: func(r Reason) string {
		return fmt.Sprintf("%s of its CPU periods were throttled, more than the %s allowed, at a quota of %s cores", percent(r.Args[0]), percent(r.Args[1]), cores(r.Args[2]))
	},
	RuleUndoCut: func(r Reason) string {
		if r.Args[0] <= r.Args[1] { // a boost came sooner than the second over which the share is taken
			return fmt.Sprintf("the last cut hurt: throttled hard right after it; back above the %s cores before it", cores(r.Args[2]))
		}
		return fmt.Sprintf("the last cut hurt: %s of periods throttled, %s allowed; back above the %s cores before it", percent(r.Args[0]), percent(r.Args[1]), cores(r.Args[2]))
	},
	RuleSettled: func(r Reason) string {
		if FromCores(r.Args[1]*r.Args[2]) < hardly {
			return fmt.Sprintf("used at most %s cores in the last 5 s, and so steadily that hardly a margin is needed", cores(r.Args[0]))
		}
		return fmt.Sprintf("used at most %s cores in the last 5 s; with a margin of %s cores that is enough", cores(r.Args[0]), cores(r.Args[1]*r.Args[2]))
	},
	RuleFirstLimit: func(r Reason) string {
		return fmt.Sprintf("had no limit; watched for %s, this covers what it used", seconds(r.Args[0]))
	},
	RuleFirstImage: func(r Reason) string {
		return fmt.Sprintf("had no limit; %s covers all that its image is known to use, with a margin; watched itself for %s", amount(r.Args[1]), seconds(r.Args[0]))
	},
	RuleStartBoost: func(r Reason) string {
		return fmt.Sprintf("started %s ago and has not settled: the CPU floor is %.3g times its usual height", seconds(r.Args[0]), r.Args[1])
	},
	RuleBelowFloor: func(r Reason) string {
		return fmt.Sprintf("quota %s is under the floor of %s cores", cores(r.Args[0]), cores(r.Args[1]))
	},
	RuleAboveCeiling: func(r Reason) string {
		return fmt.Sprintf("quota %s is over the ceiling of %s cores", cores(r.Args[0]), cores(r.Args[1]))
	},
	RuleSmallChange: func(r Reason) string {
		a, b := amounts(r.Args[0], r.Args[1])
		return fmt.Sprintf("the change would be %s, under the least one of %s", a, b)
	},
	RuleSteady: func(r Reason) string {
		a, b := amounts(r.Args[0], r.Args[1])
		return fmt.Sprintf("uses %s of %s: the limit fits", a, b)
	},
	RulePoolShort: func(r Reason) string {
		return fmt.Sprintf("wants %s cores; the host's pool of %s cores is short and grants %s", cores(r.Args[0]), cores(r.Args[2]), cores(r.Args[1]))
	},
	RuleUnlimited: func(r Reason) string {
		if r.Args[0] <= 0 {
			return "has no limit; it gets one when enough is known of its use"
		}
		return fmt.Sprintf("has no limit; it is watched for %s more before it gets one", seconds(r.Args[0]))
	},
	RuleWeight: func(r Reason) string {
		return fmt.Sprintf("uses %s cores: its share of the host becomes %.0f", cores(r.Args[0]), r.Args[1])
	},
	RuleUsePeak: func(r Reason) string {
		return fmt.Sprintf("used at most %s cores in the last minute; with a margin of %s", cores(r.Args[0]), percent(r.Args[1]))
	},
	RuleTarget: func(r Reason) string {
		return fmt.Sprintf("uses %s of its limit; the policy aims for %s", percent(r.Args[0]), percent(r.Args[1]))
	},
	RuleNoCPULimit: func(Reason) string { return "cpu = weight: no hard limit, the share follows demand" },

	RuleMemoryTight: func(r Reason) string {
		return fmt.Sprintf("the working set of %s is over 90%% of the limit of %s", bytes(r.Args[0]), bytes(r.Args[1]))
	},
	RuleMemoryRise: func(r Reason) string {
		return fmt.Sprintf("uses %s and may rise by %s at once, as it did before: too near the limit of %s", bytes(r.Args[0]), bytes(r.Args[1]), bytes(r.Args[2]))
	},
	RuleTimeToFull: func(r Reason) string {
		return fmt.Sprintf("grows by %s/s: the limit of %s would be full in %s", bytes(r.Args[1]), bytes(r.Args[2]), seconds(r.Args[0]))
	},
	RuleMemoryEvents: func(r Reason) string {
		return fmt.Sprintf("the kernel had to reclaim at the limit (%.0f high, %.0f max events)", r.Args[0], r.Args[1])
	},
	RuleMemoryPressure: func(r Reason) string {
		return fmt.Sprintf("waits for memory %.1f%% of the time", r.Args[0])
	},
	RuleOOM: func(r Reason) string {
		return fmt.Sprintf("the kernel killed %.0f of its processes at a limit of %s", r.Args[0], bytes(r.Args[1]))
	},
	RuleMemoryProfile: func(r Reason) string {
		return fmt.Sprintf("needs %s by its history, and a margin of %s", bytes(r.Args[0]), bytes(r.Args[0]*r.Args[1]))
	},
	RuleMemoryNotCalm: func(r Reason) string {
		return fmt.Sprintf("memory has been calm for %s; a shrink waits for %s", seconds(r.Args[0]), seconds(r.Args[1]))
	},
	RuleMemoryFloor: func(r Reason) string {
		return fmt.Sprintf("would be %s, but its recent use asks for at least %s", bytes(r.Args[0]), bytes(r.Args[1]))
	},
	RuleNoShrinkClass: func(Reason) string { return "its class never gives memory back" },
	RuleLeak: func(r Reason) string {
		return fmt.Sprintf("memory only grows, by %s/s: this looks like a leak", bytes(r.Args[0]))
	},

	RuleMissing: func(Reason) string { return "nothing could be measured yet: unknown is not zero" },
	RuleStale: func(r Reason) string {
		return fmt.Sprintf("the newest reading is %s old, more than %s", seconds(r.Args[0]), seconds(r.Args[1]))
	},
	RuleAbsurd: func(r Reason) string {
		return fmt.Sprintf("the last %.0f readings make no sense and were dropped", r.Args[0])
	},
	RuleWarming: func(r Reason) string {
		return fmt.Sprintf("%.0f readings so far, %.0f are needed", r.Args[0], r.Args[1])
	},

	RuleWatching: func(r Reason) string {
		return fmt.Sprintf("watched for %s; a cut waits for %s of use", seconds(r.Args[0]), seconds(r.Args[1]))
	},

	RuleProfile: func(r Reason) string {
		return fmt.Sprintf("history: p%.4g of its use is %s", r.Args[0]*100, amount(r.Args[1]))
	},
	RuleAdvice: func(r Reason) string {
		return fmt.Sprintf("%s cores leave about %s of demand unserved (the cheapest of many models: %s, times %.2f)",
			cores(r.Args[0]), percent(r.Args[2]), r.Note, r.Args[1])
	},
	RuleNoProfile: func(r Reason) string {
		return fmt.Sprintf("observed for %s; a learned floor needs %s", seconds(r.Args[0]), seconds(r.Args[1]))
	},
	RuleImage: func(r Reason) string {
		return fmt.Sprintf("from its image's profile, watched for %s: p%.4g of its use is %s; that counts %s until the service has an hour of its own history",
			seconds(r.Args[0]), r.Args[1]*100, amount(r.Args[2]), percent(r.Args[3]))
	},
	RuleShrinkBudget: func(r Reason) string {
		return fmt.Sprintf("%.0f cuts today, %.0f are allowed", r.Args[0], r.Args[1])
	},
	RuleForecast: func(r Reason) string {
		return fmt.Sprintf("at most %s cores are expected in the next minutes (%s level; such bounds held %s of the time, error %s under that of \"same as now\")",
			cores(r.Args[0]), percent(r.Args[1]), percent(r.Args[2]), percent(r.Args[3]))
	},
	RuleNoForecast: func(Reason) string { return "no forecast: it moves too little, or too little of it was seen" },
	RuleForecastYoung: func(r Reason) string {
		return fmt.Sprintf("the forecast was compared with what came for %s; it raises floors after %s", seconds(r.Args[0]), seconds(r.Args[1]))
	},
	RuleForecastOff: func(r Reason) string {
		return fmt.Sprintf("the forecast's bounds held %s of the time instead of %s, off by more than %s: reactive only",
			percent(r.Args[0]), percent(r.Args[1]), percent(r.Args[2]))
	},
	RuleForecastWorse: func(r Reason) string {
		if r.Args[0] < 0 {
			return fmt.Sprintf("the forecast's error was %s over that of \"same as now\" in %s: reactive only", percent(-r.Args[0]), seconds(r.Args[1]))
		}
		return fmt.Sprintf("the forecast's error was only %s under that of \"same as now\" in %s: reactive only", percent(r.Args[0]), seconds(r.Args[1]))
	},
	RuleTolerance: func(r Reason) string {
		return fmt.Sprintf("differs by %s, within the tolerance of %s", percent(r.Args[0]), percent(r.Args[1]))
	},

	RulePatternShort: func(r Reason) string {
		return fmt.Sprintf("%.0f values so far, a pattern needs %.0f", r.Args[0], r.Args[1])
	},
	RulePatternSteady: func(r Reason) string {
		return fmt.Sprintf("steady around %s, give or take %s, for %s", amount(r.Args[0]), percent(r.Args[1]), seconds(r.Args[2]))
	},
	RulePatternSpike: func(r Reason) string {
		a, b := amounts(r.Args[0], r.Args[1])
		return fmt.Sprintf("rose %.0f times to at most %s from its usual %s, for %s of the time", r.Args[3], a, b, percent(r.Args[2]))
	},
	RulePatternRamp: func(r Reason) string {
		a, b := amounts(r.Args[0], r.Args[1])
		return fmt.Sprintf("moves slowly, from %s to %s in %s; that explains %s of the variation", a, b, seconds(r.Args[2]), percent(r.Args[3]))
	},
	RulePatternStep: func(r Reason) string {
		a, b := amounts(r.Args[0], r.Args[1])
		return fmt.Sprintf("stepped from %s to %s %s ago and stayed; that explains %s of the variation", a, b, seconds(r.Args[2]), percent(r.Args[3]))
	},
	RulePatternPeriodic: func(r Reason) string {
		return fmt.Sprintf("repeats every %s: that explains %s of the variation in %s", seconds(r.Args[0]), percent(r.Args[1]), seconds(r.Args[2]))
	},
	RulePatternBursty: func(r Reason) string {
		a, b := amounts(r.Args[0], r.Args[2])
		return fmt.Sprintf("bursts up to %s around a mean of %s: deviation %s of the mean, %.0f bursts", b, a, percent(r.Args[1]), r.Args[3])
	},
	RulePatternIdle: func(r Reason) string {
		return fmt.Sprintf("used at most %s in %s", amount(r.Args[0]), seconds(r.Args[1]))
	},
	RulePatternLeak: func(r Reason) string {
		return fmt.Sprintf("memory only grows, by %s/s: %s in %s, %s of it without more load: this looks like a leak",
			bytes(r.Args[0]), bytes(r.Args[1]), seconds(r.Args[2]), percent(r.Args[3]))
	},
	RuleGrowsWithLoad: func(r Reason) string {
		return fmt.Sprintf("memory grew by %s in %s; the load explains %s of it: no leak", bytes(r.Args[0]), seconds(r.Args[1]), percent(r.Args[2]))
	},
	RuleMemoryLevel: func(r Reason) string {
		return fmt.Sprintf("memory stays around %s: it moved by %s in %s", bytes(r.Args[0]), bytes(r.Args[1]), seconds(r.Args[2]))
	},

	RuleMode:       func(r Reason) string { return "mode " + r.Note + " changes nothing" },
	RuleNotManaged: func(Reason) string { return "did not opt in (effiscale.enable=true)" },
	RuleBadLabel:   func(r Reason) string { return "a label cannot be read: " + r.Note },
	RulePaused: func(r Reason) string {
		what := "paused"
		if r.Note == "down" {
			what = "cuts are paused"
		}
		if r.Args[0] <= 0 {
			return what + " until resumed"
		}
		return fmt.Sprintf("%s for another %s", what, seconds(r.Args[0]))
	},
	RuleExternal: func(r Reason) string {
		return fmt.Sprintf("somebody else changed its limits; that is respected for another %s", seconds(r.Args[0]))
	},
	RulePinned: func(Reason) string {
		return "somebody else set a limit outside the policy's bounds; it stays until they, or `effiscale resume`, change that"
	},
	RuleOriginal: func(Reason) string { return "its original limits are written down first" },
	RuleRetry: func(r Reason) string {
		return fmt.Sprintf("the last try failed (%s); the next one is in %s", r.Note, seconds(r.Args[0]))
	},
	RuleHazard: func(r Reason) string {
		return r.Note + ": an update could do harm (effiscale.allow accepts it)"
	},
	RuleAtMin: func(r Reason) string {
		a, b := amounts(r.Args[0], r.Args[1])
		return fmt.Sprintf("wants %s, the policy's minimum is %s", a, b)
	},
	RuleAtMax: func(r Reason) string {
		a, b := amounts(r.Args[0], r.Args[1])
		return fmt.Sprintf("wants %s, the policy's maximum is %s", a, b)
	},
	RuleStepUp: func(r Reason) string {
		a, b := amounts(r.Args[0], r.Args[1])
		return fmt.Sprintf("wants %s; one step goes to %s at most", a, b)
	},
	RuleStepDown: func(r Reason) string {
		a, b := amounts(r.Args[0], r.Args[1])
		return fmt.Sprintf("wants %s; one step goes to %s at least", a, b)
	},
	RuleRate: func(r Reason) string {
		return fmt.Sprintf("%.0f actions in the last minute, %.0f are allowed", r.Args[0], r.Args[1])
	},
	RuleWorkingSet: func(r Reason) string {
		return fmt.Sprintf("%s would be too near its working set of %s; the least is %s", bytes(r.Args[0]), bytes(r.Args[1]), bytes(r.Args[2]))
	},
	RuleHostMemory: func(r Reason) string {
		return fmt.Sprintf("deferred: asks for %s more, the host's budget has %s left", bytes(r.Args[0]), bytes(r.Args[1]))
	},
	RuleHostCPU: func(r Reason) string {
		return fmt.Sprintf("wants %s cores, the host gives %s", cores(r.Args[0]), cores(r.Args[1]))
	},
	RuleEvidence: func(r Reason) string {
		return fmt.Sprintf("a cut needs evidence younger than %s; this is %s old", seconds(r.Args[1]), seconds(r.Args[0]))
	},
	RuleRaisedFloor: func(r Reason) string {
		a, b := amounts(r.Args[0], r.Args[1])
		return fmt.Sprintf("%s is under the floor of %s that an earlier cut raised, for another %s", a, b, seconds(r.Args[2]))
	},
	RuleCooldown:   func(r Reason) string { return fmt.Sprintf("too soon after the last one: %s to go", seconds(r.Args[0])) },
	RuleNotRunning: func(r Reason) string { return "it is " + r.Note },
	RuleEngineDown: func(r Reason) string {
		return fmt.Sprintf("the Docker Engine has not answered for %s", seconds(r.Args[0]))
	},
	RuleSafeMode: func(r Reason) string {
		return fmt.Sprintf("safe mode after %.0f crashes in 5 minutes: only measuring", r.Args[0])
	},
	RuleInFlight: func(Reason) string { return "an action on it is still on its way" },
	RuleLate: func(r Reason) string {
		return fmt.Sprintf("this pass came %s late: nothing is decided from old readings", seconds(r.Args[0]))
	},
	RuleEngineRestart: func(r Reason) string {
		return fmt.Sprintf("the Docker Engine restarted; nothing shrinks for another %s", seconds(r.Args[0]))
	},

	RuleUser:    func(r Reason) string { return "asked for by " + r.Note },
	RuleRestore: func(Reason) string { return "back to the limits it had before EffiScale" },
	RuleDrift: func(r Reason) string {
		a, b := amounts(r.Args[0], r.Args[1])
		return fmt.Sprintf("the kernel held %s instead of %s", a, b)
	},
	RuleHurt: func(r Reason) string {
		return fmt.Sprintf("%s after the cut it got worse: %s", seconds(r.Args[0]), r.Note)
	},
}

// String is the reason as a sentence without a full stop.
func (r Reason) String() string {
	if f, ok := wordsOf(r.Rule); ok {
		return f(r)
	}
	if r.Note != "" {
		return strings.TrimSpace(string(r.Rule) + ": " + r.Note)
	}
	return string(r.Rule)
}

func cores(v float64) string { return FromCores(v).String() }
func bytes(v float64) string { return Bytes(v).String() }

func percent(v float64) string {
	if v >= 1 {
		return fmt.Sprintf("%.0f%%", v*100)
	}
	return fmt.Sprintf("%.3g%%", v*100)
}

// amount prints a number whose unit the rule does not fix: cores are small,
// sizes are not. The largest machine has fewer cores than a page has bytes.
func amount(v float64) string {
	if v >= 4096 || v <= -4096 {
		return bytes(v)
	}
	return cores(v) + " cores"
}

// amounts prints two numbers of one unit: where one is a size, both are.
func amounts(a, b float64) (string, string) {
	if max(a, b) >= 4096 {
		return bytes(a), bytes(b)
	}
	return amount(a), amount(b)
}

func seconds(v float64) string {
	d := time.Duration(v * float64(time.Second))
	switch {
	case d < 10*time.Second:
		return d.Round(100 * time.Millisecond).String()
	case d < time.Hour:
		return Span(d.Round(time.Second))
	}
	return Span(d.Round(time.Minute))
}

// Span prints "10m" and "1h" instead of Go's "10m0s" and "1h0m0s".
func Span(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
