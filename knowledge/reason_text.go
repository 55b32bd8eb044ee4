package knowledge

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// ruleTexts are the sentences of the rules. "{0 cores}" is the first number in cores;
// Reason.field has the units.
var ruleTexts = map[Rule]string{
	RuleBoost:     "heavily throttled: uses {1 cores} cores and needs about {0 cores} more, quota {2 cores}",
	RuleThrottled: "{0 percent} of CPU periods throttled (allowed {1 percent}), quota {2 cores} cores",
	RuleUndoCut: "reverting the last cut: {0 percent} of CPU periods throttled (allowed {1 percent}); " +
		"back above {2 cores} cores",
	RuleSettled:      "peak use of {0 cores} cores in the last 5 s",
	RuleFirstLimit:   "first limit: covers the use observed for {0 seconds}",
	RuleFirstImage:   "first limit: {1 amount} covers the known use of its image and a margin; observed for {0 seconds}",
	RuleStarting:     "started {0 seconds} ago",
	RuleAsBefore:     "as before it was started again: {0 amount}; observed for {1 seconds}",
	"start-boost":    "started {0 seconds} ago: the CPU floor is multiplied by {1 factor}", // of earlier versions
	RuleBelowFloor:   "quota of {0 cores} is below the floor of {1 cores} cores",
	RuleAboveCeiling: "quota of {0 cores} is above the ceiling of {1 cores} cores",
	RuleSmallChange:  "a change of {0 pair} is below the minimum change of {1 pair}",
	RuleSteady:       "uses {0 pair} of {1 pair}: no change needed",
	RulePoolShort: "uses or requests {0 cores} cores, granted {1 cores}: the containers together want more than " +
		"the {2 cores} cores of the host (limits.cpu_overcommit)",
	RuleUnlimited:  "no limit yet: observed for another {0 seconds} first",
	RuleWeight:     "uses {0 cores} cores: CPU shares set to {1 count}",
	RuleUsePeak:    "peak use of {0 cores} cores in the last minute and a margin of {1 percent}",
	RuleTarget:     "uses {0 percent} of its limit, target {1 percent}",
	RuleNoCPULimit: "cpu = weight: no quota, CPU shares follow demand",

	RuleMemoryTight:  "{0 bytes} that cannot be reclaimed are above 90% of the limit of {1 bytes}",
	RuleMemoryRise:   "uses {0 bytes} and has grown by {1 bytes} at once before: too close to the limit of {2 bytes}",
	RuleTimeToFull:   "grows by {1 bytes}/s: the limit of {2 bytes} would be reached in {0 seconds}",
	RuleMemoryEvents: "the kernel reclaimed memory at the limit ({0 count} high, {1 count} max events)",
	RuleCacheMissed:  "page cache is missed: {0 count} pages/s were reclaimed at the limit and are read again",
	RuleUnused: "reverting the raise from {0 bytes} to {1 bytes} {3 seconds} ago: " +
		"it was not used, at most {2 bytes} were",
	RuleMemoryPressure: "stalled on memory {0 tenths}% of the time",
	RuleOOM:            "OOM kill: the kernel killed {0 count} processes at a limit of {1 bytes}",
	RuleOOMElsewhere: "OOM kill at the {note}, not at its own limit of {0 bytes}: a higher limit of this container " +
		"would not help",
	RuleOOMInner: "{0 count} processes were killed in the inner cgroup {note} at its limit of {1 bytes}: a higher limit " +
		"of this container would not help",
	RuleMemoryProfile: "needs {0 bytes} by its history, and a margin of {01 bytes}",
	RuleMemoryNotCalm: "no memory pressure for {0 seconds}; a shrink requires {1 seconds}",
	RuleHeapPlanned: "stays without a limit: its heap was planned for {0 bytes} at its start, " +
		"and at most {1 bytes} are allowed; it fits after a restart",
	RuleMemoryFloor:   "would be {0 bytes}; recent use requires at least {1 bytes}",
	RuleNoShrinkClass: "memory is not reduced (memory_shrink = false)",
	RuleLeak:          "memory only grows, by {0 bytes}/s: likely a leak",

	RuleMissing:  "no measurement yet",
	RuleNoLimits: "the limits in force are not known: neither kernel files nor the Engine's record can be read",
	RuleStale:    "the newest sample is {0 seconds} old, more than {1 seconds}",
	RuleAbsurd:   "dropped the last {0 count} samples: invalid values",
	RuleWarming:  "{0 count} of {1 count} samples collected",
	RuleWatching: "observed for {0 seconds}; a cut requires {1 seconds}",

	RuleProfile: "history: p{0 percentile} of its use is {1 amount}",
	RuleAdvice: "{0 cores} cores leave about {2 percent} of demand unserved " +
		"(the cheapest model: {note}, times {1 hundredths})",
	RuleNoProfile: "observed for {0 seconds}; a learned floor requires {1 seconds}",
	RuleImage: "image profile, observed for {0 seconds}: p{1 percentile} of its use is {2 amount}; " +
		"weighted {3 percent} until the service has an hour of its own history",
	RuleShrinkBudget: "{0 count} cuts today, {1 count} are allowed",
	RuleForecast: "at most {0 cores} cores are expected in the next minutes ({1 percent} level; " +
		"such bounds held {2 percent} of the time, error {3 percent} below \"same as now\")",
	RuleNoForecast:    "no forecast: demand varies too little, or too little data",
	RuleForecastYoung: "forecast evaluated for {0 seconds}; it raises floors after {1 seconds}",
	RuleForecastOff: "forecast bounds held {0 percent} of the time instead of {1 percent} " +
		"(tolerance {2 percent}): not used",
	RuleForecastWorse: "forecast error was only {0 percent} below \"same as now\" in {1 seconds}: not used",
	RuleTolerance:     "differs by {0 percent}, within the tolerance of {1 percent}",

	RulePatternShort:    "{0 count} of the {1 count} values that a pattern needs",
	RulePatternSteady:   "steady at {0 amount} ±{1 percent} for {2 seconds}",
	RulePatternSpike:    "{3 count} spikes up to {0 pair} from the usual {1 pair}, {2 percent} of the time",
	RulePatternRamp:     "ramp from {0 pair} to {1 pair} in {2 seconds}, explains {3 percent} of the variation",
	RulePatternStep:     "step from {0 pair} to {1 pair} {2 seconds} ago, explains {3 percent} of the variation",
	RulePatternPeriodic: "repeats every {0 seconds}, explains {1 percent} of the variation in {2 seconds}",
	RulePatternBursty:   "{3 count} bursts up to {2 amount} around a mean of {0 amount}, deviation {1 percent}",
	RulePatternIdle:     "used at most {0 amount} in {1 seconds}",
	RulePatternLeak: "memory only grows, by {0 bytes}/s: {1 bytes} in {2 seconds}, " +
		"{3 percent} of it without more load: likely a leak",
	RuleGrowsWithLoad: "memory grew by {0 bytes} in {1 seconds}; load explains {2 percent} of it: no leak",
	RuleMemoryLevel:   "memory stays around {0 bytes}: changed by {1 bytes} in {2 seconds}",

	RuleMode:       "mode {note}: no changes",
	RuleNotManaged: "did not opt in (effiscale.enable=true)",
	RuleClaimed:    "another EffiScale daemon on this host changes its limits: {note}",
	RuleBadLabel:   "invalid label: {note}",
	RulePaused:     "paused for another {0 seconds}",
	RuleHeld:       "a limit was set on request ({note}) and is kept for another {0 seconds}",
	RuleExternal:   "limits were changed externally and are kept for another {0 seconds}",
	RulePinned: "an external limit is outside the policy's bounds; it is kept until it is changed again, or " +
		"`effiscale resume`",
	RuleOriginal:      "recording its original limits first",
	RuleRetry:         "the last attempt failed ({note}); next attempt in {0 seconds}",
	RuleHazard:        "{note}: an update could do harm (effiscale.allow accepts it)",
	RuleReservation:   "{0 bytes} is below its memory reservation of {1 bytes}: the Engine would not start it again",
	RuleStartFloor:    "{0 pair} is also what it starts with, which stays at {1 pair} at least",
	RuleAtMin:         "requested {0 pair}, the policy's minimum is {1 pair}",
	RuleAtMax:         "requested {0 pair}, the policy's maximum is {1 pair}",
	RuleStepUp:        "requested {0 pair}; one step allows at most {1 pair}",
	RuleStepDown:      "requested {0 pair}; one step allows at least {1 pair}",
	RuleRate:          "{0 count} actions in the last minute, {1 count} are allowed",
	RuleWorkingSet:    "{0 bytes} is too close to the working set of {1 bytes}; the minimum is {2 bytes}",
	RuleHostMemory:    "deferred: requested {0 bytes} more, the host's memory budget has {1 bytes} left",
	RuleHostCPU:       "requested {0 cores} cores, the host allows {1 cores}",
	RuleOuterMost:     "requested {0 pair}, its {note} allows {1 pair}",
	RuleOuterLeast:    "requested {0 pair}, its {note} requires at least {1 pair}",
	RuleRefused:       "it was refused, and is not repeated unchanged: {note}",
	RuleEvidence:      "a cut requires data younger than {1 seconds}; the newest is {0 seconds} old",
	RuleRaisedFloor:   "{0 pair} is below the floor of {1 pair}, which a reverted cut raised for another {2 seconds}",
	RuleCooldown:      "cooldown after the last change: {0 seconds} left",
	RuleNotRunning:    "the container is {note}",
	RuleEngineDown:    "the Docker Engine has not answered for {0 seconds}",
	RuleSafeMode:      "safe mode after {0 count} crashes in 5 minutes: measuring only",
	RuleInFlight:      "another action on it is in progress",
	RuleLate:          "the control loop is {0 seconds} late: no decision from old samples",
	RuleEngineRestart: "the Docker Engine answers again after an outage; no cuts for another {0 seconds}",

	RuleUser:       "requested by {note}",
	RuleRestore:    "restoring the original limits",
	RuleStartLimit: "what the container starts with: {note}",
	RuleDrift:      "the kernel had {0 pair} instead of {1 pair}",
	RuleHurt:       "reverting the cut of {0 seconds} ago: {note}",

	RuleReplicasFit:  "provides {0 cores} cores, {1 cores} are needed",
	RuleReplicasMore: "{2 cores} cores are needed: {0 count} replicas of {1 cores} provide {3 cores}",
	RuleReplicasLess: "at most {2 cores} cores were needed in the last minutes: " +
		"{0 count} replicas of {1 cores} provide {3 cores}",
	RuleReplicasSurge: "demand surge to {2 cores} cores, the present replicas can provide {3 cores}: " +
		"{0 count} of {1 cores} cores at once",
	RuleReplicasFull:    "{0 cores} cores are needed; bounds and hosts allow {1 cores}",
	RuleReplicasInvalid: "invalid input: no changes",
	RuleReplicasMissing: "{0 count} replicas have no sample: the number of replicas stays",
	RuleReplicasPanic:   "demand is twice the capacity: no scale-in for another {0 seconds}",
	RuleReplicasCalm:    "stable for {0 seconds}; consolidation requires {1 seconds}",
	RuleReplicasPace:    "{0 count} surplus replicas; one is removed per minute, the next in {1 seconds}",
	RuleReplicasStart:   "{0 count} replicas are starting; no scale-in until they serve",
	RuleReplicasCount:   "{0 count} replicas are outside the bounds of {1 count} to {2 count}",
	RuleReplicasSize:    "{0 cores} cores are outside the bounds of {1 cores} to {2 cores}",
	RuleReplicasRoom:    "needs {0 cores} more cores on host {note}, which has {1 cores} free",
	RuleReplicasHosts:   "the hosts have room for {2 count} of {0 count} replicas of {1 cores} cores",
	RuleReplicasNotOurs: "{1 count} replicas would have to be removed, EffiScale created {0 count} of them",
	RuleReplicasShort:   "would provide {0 cores} cores, {1 cores} are needed",
	RuleReplicasWorse:   "{0 count} replicas of {1 cores} cores cost less in every respect",
	RuleReplicasScore:   "cost score {0 hundredths}, the choice has {1 hundredths} (lower is better)",
	RuleReplicasGain:    "a gain of {0 percent} is below the required {1 percent}",
	RuleNoOwner:         "last plan from the service's owner {0 seconds} ago; no cuts after {1 seconds}",

	RuleKneeStart: "utilisation threshold {0 percent}: initial value, nothing learned yet",
	RuleKneeMoved: "utilisation threshold {0 percent}, was {1 percent}: " +
		"at {2 percent} of its limit it was throttled {3 percent} of the time",
	RuleTriggerUp: "learned threshold: throttled above {1 percent} of its limit, and at most {0 cores} cores " +
		"are expected (5-minute peak {3 cores}): at least {2 cores} cores",
	RuleTriggerDown: "learned threshold: after a cut the 5-minute peak of {0 cores} cores must be below {1 percent} " +
		"of the limit: at least {2 cores} cores",
	RuleKneeYoung: "learned threshold not used yet: observed for {0 seconds} of {1 seconds}, " +
		"throttled below full use for {2 seconds} of {3 seconds}",
	RuleKneeHarmless: "learned threshold not used: up to {0 percent} of its limit it is not throttled",
	RuleKneeTarget:   "learned threshold not used: the policy's CPU target is {0 percent} of the limit",
}

// hardly is an amount of CPU that is printed as 0.00 cores.
const hardly = OneCPU / 200

// text is the sentence for r, with its placeholders.
func (r Reason) text() string {
	switch {
	case r.Rule == RuleBoost && FromCores(r.Args[0]) < hardly:
		return "heavily throttled: uses {1 cores} cores and needs hardly more, quota {2 cores}"
	case r.Rule == RuleUndoCut && r.Args[0] <= r.Args[1]: // a boost precedes the second that the share covers
		return "reverting the last cut: heavily throttled right after it; back above {2 cores} cores"
	case r.Rule == RuleSettled && FromCores(r.Args[1]*r.Args[2]) < hardly:
		return ruleTexts[RuleSettled] + ", steady: hardly any margin"
	case r.Rule == RuleSettled:
		return ruleTexts[RuleSettled] + " and a margin of {12 cores} cores"
	case r.Rule == RuleUnlimited && r.Args[0] <= 0:
		return "no limit yet: too little data on its use"
	case r.Rule == RulePaused:
		text := "paused until resumed"
		if r.Args[0] > 0 {
			text = ruleTexts[RulePaused]
		}
		if r.Note == "down" {
			return "cuts are " + text
		}
		return text
	case r.Rule == RuleForecastWorse && r.Args[0] < 0:
		return "forecast error was {-0 percent} above \"same as now\" in {1 seconds}: not used"
	case r.Rule == RuleMemoryFloor && r.Args[2] <= 0 && r.Args[3] > 0:
		return "would be {0 bytes}; {3 bytes} above the use are left for a load to come"
	case r.Rule == RuleMemoryFloor && r.Args[2] > 0:
		return "would be {0 bytes}; recent use, and {2 bytes} of buffers or heap that are mapped and not used yet, " +
			"require at least {1 bytes}"
	case r.Rule == RuleMemoryProfile && r.Args[2] > 0:
		return "uses {0 bytes}, and a margin of {01 bytes}"
	case r.Rule == RuleUnused && r.Note != "":
		return ruleTexts[RuleUnused] + "; {note} keeps the heap size of its start, see `effiscale help runtimes`"
	case r.Rule == RuleReplicasSize && r.Args[2] <= 0:
		return "{0 cores} cores are below the minimum of {1 cores}"
	case r.Rule == RuleNoOwner && r.Args[0] <= 0:
		return "no plan from the service's owner yet; no cuts before"
	}
	return ruleTexts[r.Rule]
}

// String is the reason as a sentence without a full stop.
func (r Reason) String() string {
	text := r.text()
	switch {
	case text == "" && r.Note != "":
		return strings.TrimSpace(string(r.Rule) + ": " + r.Note)
	case text == "":
		return string(r.Rule)
	}
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(text, "{")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		field, after, _ := strings.Cut(rest, "}")
		b.WriteString(r.field(field))
		text = after
	}
}

// field formats a placeholder: numbers of Args, which are multiplied ("-" is -1),
// and a unit.
func (r Reason) field(name string) string {
	if name == "note" {
		return r.Note
	}
	which, unit, _ := strings.Cut(name, " ")
	v := 1.0
	for _, c := range which {
		if c == '-' {
			v = -v
			continue
		}
		v *= r.Args[c-'0']
	}
	switch unit {
	case "cores":
		return FromCores(v).String()
	case "bytes":
		return Bytes(v).String()
	case "pair": // the first two numbers have one unit: where one is a size, both are
		if max(r.Args[0], r.Args[1]) >= sizesFrom {
			return Bytes(v).String()
		}
		return amount(v)
	case "amount":
		return amount(v)
	case "seconds":
		return seconds(v)
	case "percent":
		return percent(v)
	case "percentile":
		return strconv.FormatFloat(v*100, 'g', 4, 64)
	case "factor":
		return strconv.FormatFloat(v, 'g', 3, 64)
	case "tenths":
		return strconv.FormatFloat(v, 'f', 1, 64)
	case "hundredths":
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
	return strconv.FormatFloat(v, 'f', 0, 64) // count
}

func percent(v float64) string {
	if v >= 1 {
		return fmt.Sprintf("%.0f%%", v*100)
	}
	return fmt.Sprintf("%.3g%%", v*100)
}

// sizesFrom is the smallest number that is printed as a size: the largest machine
// has fewer cores than a page has bytes.
const sizesFrom = 4096

// amount prints a number whose unit the rule does not fix.
func amount(v float64) string {
	if v >= sizesFrom || v <= -sizesFrom {
		return Bytes(v).String()
	}
	return FromCores(v).String() + " cores"
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
