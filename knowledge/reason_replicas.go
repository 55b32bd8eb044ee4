package knowledge

// The rules of replicas: how many of which size, and when. Useful cores are what
// the scalability law leaves of the cores reserved.
const (
	RuleReplicasFit     Rule = "replicas-fit"   // useful cores, needed
	RuleReplicasMore    Rule = "replicas-more"  // replicas, cores of one, cores needed, useful cores
	RuleReplicasLess    Rule = "replicas-less"  // replicas, cores of one, the highest need, useful cores
	RuleReplicasSurge   Rule = "replicas-surge" // replicas, cores of one, upper bound, cores the present ones can provide
	RuleReplicasFull    Rule = "replicas-full"  // cores needed, useful cores
	RuleReplicasInvalid Rule = "replicas-invalid"
	RuleReplicasMissing Rule = "replicas-missing"  // replicas without a reading
	RuleReplicasPanic   Rule = "replicas-panic"    // seconds left
	RuleReplicasCalm    Rule = "replicas-calm"     // seconds of calm, needed
	RuleReplicasPace    Rule = "replicas-pace"     // replicas too many, seconds until the next removal
	RuleReplicasStart   Rule = "replicas-start"    // replicas that start
	RuleReplicasCount   Rule = "replicas-count"    // replicas, least, most
	RuleReplicasSize    Rule = "replicas-size"     // cores, least, most
	RuleReplicasRoom    Rule = "replicas-room"     // cores more, cores free; Note: host
	RuleReplicasHosts   Rule = "replicas-hosts"    // replicas, cores of one, replicas that have room
	RuleReplicasNotOurs Rule = "replicas-not-ours" // replicas that may be removed, that would have to
	RuleReplicasShort   Rule = "replicas-short"    // useful cores, needed
	RuleReplicasWorse   Rule = "replicas-worse"    // replicas, cores of the better one
	RuleReplicasScore   Rule = "replicas-score"    // its distance from the best, that of the choice
	RuleReplicasGain    Rule = "replicas-gain"     // gain, gain needed

	// Ownership.
	RuleNoOwner Rule = "no-owner" // seconds since the owner's last plan (0: none yet), seconds that it is valid
)

// The rules of learned thresholds: the use of its limit from which on a container
// is throttled.
const (
	RuleKneeStart    Rule = "knee-start"    // knee
	RuleKneeMoved    Rule = "knee-moved"    // knee, previous, utilisation observed, share of time throttled there
	RuleTriggerUp    Rule = "trigger-up"    // cores expected at most, knee, floor cores, 5-minute peak cores
	RuleTriggerDown  Rule = "trigger-down"  // 5-minute peak cores, share of the limit allowed after a cut, least cores
	RuleKneeYoung    Rule = "knee-young"    // seconds observed, needed, seconds throttled below full use, needed
	RuleKneeHarmless Rule = "knee-harmless" // share of the limit up to which it is not throttled
	RuleKneeTarget   Rule = "knee-target"   // the policy's target
)
