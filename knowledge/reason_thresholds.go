package knowledge

import "fmt"

// The rules of learned thresholds: the use of its limit from which on a container
// is throttled.
const (
	RuleKneeStart    Rule = "knee-start"    // knee
	RuleKneeMoved    Rule = "knee-moved"    // knee, what it was, utilisation that moved it, share of time that hurt there
	RuleTriggerUp    Rule = "trigger-up"    // cores expected at most, knee, floor cores, cores used at most in 5 min
	RuleTriggerDown  Rule = "trigger-down"  // cores used at most in 5 min, share of the limit allowed after a cut, least cores
	RuleKneeYoung    Rule = "knee-young"    // seconds watched, needed, seconds held back under the top, needed
	RuleKneeHarmless Rule = "knee-harmless" // share of the limit up to which it never hurt
	RuleKneeTarget   Rule = "knee-target"   // the policy's target
)

var thresholdWords = map[Rule]func(r Reason) string{
	RuleKneeStart: func(r Reason) string {
		return fmt.Sprintf("%s is a first guess: nothing was learned yet that says otherwise", percent(r.Args[0]))
	},
	RuleKneeMoved: func(r Reason) string {
		return fmt.Sprintf("it hurts from %s of its limit on, before that %s was taken for it: at a use of %s it was held back %s of the time",
			percent(r.Args[0]), percent(r.Args[1]), percent(r.Args[2]), percent(r.Args[3]))
	},
	RuleTriggerUp: func(r Reason) string {
		return fmt.Sprintf("learned threshold: use of more than %s of its limit hurts, and at most %s cores are expected (%s were used at most in the last 5 minutes): at least %s cores",
			percent(r.Args[1]), cores(r.Args[0]), cores(r.Args[3]), cores(r.Args[2]))
	},
	RuleTriggerDown: func(r Reason) string {
		return fmt.Sprintf("learned threshold: a cut must leave the %s cores that were used at most in the last 5 minutes under %s of the limit: it goes to %s cores at least",
			cores(r.Args[0]), percent(r.Args[1]), cores(r.Args[2]))
	},
	RuleKneeYoung: func(r Reason) string {
		return fmt.Sprintf("the threshold does not steer yet: watched for %s, %s are needed; for %s of that it was held back by a limit that was not used up, %s are needed",
			seconds(r.Args[0]), seconds(r.Args[1]), seconds(r.Args[2]), seconds(r.Args[3]))
	},
	RuleKneeHarmless: func(r Reason) string {
		return fmt.Sprintf("the threshold does not steer: use of up to %s of its limit does not hurt it", percent(r.Args[0]))
	},
	RuleKneeTarget: func(r Reason) string {
		return fmt.Sprintf("the threshold does not steer: the policy aims for a use of %s of the limit", percent(r.Args[0]))
	},
}
