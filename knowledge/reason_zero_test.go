package knowledge

import "testing"

// TestReasonsOfNothing: what would be printed as 0.00 cores is said in words.
func TestReasonsOfNothing(t *testing.T) {
	for _, c := range []struct {
		r    Reason
		want string
	}{
		{Because(RuleBoost, 0.3, 0.5, 0.5), "throttled hard: 0.50 cores in use, about 0.30 more held back by a quota of 0.50"},
		{Because(RuleBoost, 0.004, 1.13, 1.14), "throttled hard: 1.13 cores in use, hardly more held back by a quota of 1.14"},
		{Because(RuleSettled, 0.1, 2, 0.1), "used at most 0.10 cores in the last 5 s; with a margin of 0.20 cores that is enough"},
		{Because(RuleSettled, 0.1, 0, 2), "used at most 0.10 cores in the last 5 s, and so steadily that hardly a margin is needed"},
	} {
		if got := c.r.String(); got != c.want {
			t.Errorf("%q, not %q", got, c.want)
		}
	}
}
