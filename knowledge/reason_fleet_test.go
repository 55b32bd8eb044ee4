package knowledge

import (
	"math"
	"strings"
	"testing"
)

// TestEveryFleetRuleHasWords: whatever the numbers, a rule is a sentence.
func TestEveryFleetRuleHasWords(t *testing.T) {
	for rule := range fleetWords {
		if ruleWords[rule] != nil {
			t.Errorf("%s is said twice", rule)
		}
		for _, args := range [][]float64{nil, {1, 2, 3, 4}, {math.NaN(), math.Inf(1), -1, 1e300}} {
			if s := Because(rule, args...).String(); s == string(rule) || s == "" || strings.Contains(s, "%!") {
				t.Errorf("%s: %q", rule, s)
			}
		}
	}
}
