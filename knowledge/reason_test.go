package knowledge

import (
	"math"
	"strings"
	"testing"
)

// TestReasonsOfNothing: an amount that would be printed as 0.00 cores is named.
func TestReasonsOfNothing(t *testing.T) {
	for _, c := range []struct {
		r    Reason
		want string
	}{
		{Because(RuleBoost, 0.3, 0.5, 0.5), "heavily throttled: uses 0.50 cores and needs about 0.30 more, quota 0.50"},
		{Because(RuleBoost, 0.004, 1.13, 1.14), "heavily throttled: uses 1.13 cores and needs hardly more, quota 1.14"},
		{Because(RuleSettled, 0.1, 2, 0.1), "peak use of 0.10 cores in the last 5 s and a margin of 0.20 cores"},
		{Because(RuleSettled, 0.1, 0, 2), "peak use of 0.10 cores in the last 5 s, steady: hardly any margin"},
	} {
		if got := c.r.String(); got != c.want {
			t.Errorf("%q, not %q", got, c.want)
		}
	}
}

// TestReasonUnits prints a number in each unit, and the variants of rules.
func TestReasonUnits(t *testing.T) {
	for _, c := range []struct {
		r    Reason
		want string
	}{
		{Because(RuleSteady, 0.5, 2), "uses 0.50 cores of 2.00 cores: no change needed"},
		{Because(RuleEngineRestart, 200), "the Docker Engine answers again after an outage; no cuts for another 3m20s"},
		{Because(RuleSteady, 512, 1<<20), "uses 512 B of 1 MiB: no change needed"},
		{Because(RuleMemoryPressure, 12.34), "stalled on memory 12.3% of the time"},
		{Because(RuleMemoryProfile, 100<<20, 0.2), "needs 100 MiB by its history, and a margin of 20 MiB"},
		{Because(RuleProfile, 0.9925, 1.5), "history: p99.25 of its use is 1.50 cores"},
		{Because(RuleStarting, 20), "started 20s ago"},
		{Because(RuleReplicasScore, 0.126, 0.1), "cost score 0.13, the choice has 0.10 (lower is better)"},
		{Because(RuleForecastWorse, -0.1, 3600), `forecast error was 10% above "same as now" in 1h: not used`},
		{Because(RuleForecastWorse, 0.01, 90), `forecast error was only 1% below "same as now" in 1m30s: not used`},
		{Reason{Rule: RuleOOMInner, Args: Because("", 2, 64<<20).Args, Note: "/docker/a"}, "2 processes were killed in the " +
			"inner cgroup /docker/a at its limit of 64 MiB: a higher limit of this container would not help"},
		{Reason{Rule: RulePaused, Note: "down"}, "cuts are paused until resumed"},
		{Because(RulePaused, 60), "paused for another 1m"},
		{Reason{Rule: RuleUser, Note: "{0 cores}"}, "requested by {0 cores}"},
		{Because(RuleReplicasSize, 0.1, 0.2), "0.10 cores are below the minimum of 0.20"},
		{Because(RuleNoOwner, 0, 30), "no plan from the service's owner yet; no cuts before"},
		{Because(RuleUndoCut, 0.01, 0.06, 2),
			"reverting the last cut: heavily throttled right after it; back above 2.00 cores"},
		{Because(RuleUnlimited), "no limit yet: too little data on its use"},
		{Reason{Rule: "new", Note: "why"}, "new: why"},
		{Reason{Rule: "new"}, "new"},
	} {
		if got := c.r.String(); got != c.want {
			t.Errorf("%q, not %q", got, c.want)
		}
	}
}

// TestEveryRuleHasText: whatever the numbers, a rule is a sentence, and every
// placeholder is one that field knows.
func TestEveryRuleHasText(t *testing.T) {
	units := strings.Fields("cores bytes pair amount seconds percent percentile factor tenths hundredths count")
	for rule, text := range ruleTexts {
		for _, part := range strings.Split(text, "{")[1:] {
			field, _, closed := strings.Cut(part, "}")
			which, unit, _ := strings.Cut(field, " ")
			known := field == "note" || strings.Trim(which, "-0123") == "" && strings.Contains(strings.Join(units, " "), unit)
			if !closed || !known {
				t.Errorf("%s: {%s}", rule, field)
			}
		}
		for _, args := range [][]float64{nil, {1, 2, 3, 4}, {math.NaN(), math.Inf(1), -1, 1e300}} {
			if s := Because(rule, args...).String(); s == string(rule) || s == "" || strings.ContainsAny(s, "{}") {
				t.Errorf("%s: %q", rule, s)
			}
		}
	}
}
