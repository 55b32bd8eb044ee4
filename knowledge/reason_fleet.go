package knowledge

import "fmt"

// The rules of a fleet: how many replicas of which size, and when. Useful cores
// are what the scalability law leaves of the cores reserved.
const (
	RuleFleetFits      Rule = "fleet-fits"      // useful cores, cores needed
	RuleFleetMore      Rule = "fleet-more"      // replicas, cores of one, cores needed, useful cores
	RuleFleetLess      Rule = "fleet-less"      // replicas, cores of one, the highest need, useful cores
	RuleFleetSurge     Rule = "fleet-surge"     // replicas, cores of one, upper bound, useful cores the hosts give the present ones
	RuleFleetFull      Rule = "fleet-full"      // cores needed, useful cores
	RuleFleetAbsurd    Rule = "fleet-absurd"    // numbers that make no sense
	RuleFleetMissing   Rule = "fleet-missing"   // replicas without a reading
	RuleFleetPanic     Rule = "fleet-panic"     // seconds left
	RuleFleetCalm      Rule = "fleet-calm"      // seconds of calm, needed
	RuleFleetPace      Rule = "fleet-pace"      // replicas too many, seconds until one may go
	RuleFleetWaits     Rule = "fleet-waits"     // replicas that start
	RuleFleetCount     Rule = "fleet-count"     // replicas, least, most
	RuleFleetSize      Rule = "fleet-size"      // cores, least, most
	RuleFleetRoom      Rule = "fleet-room"      // cores more, cores free; Note: host
	RuleFleetHosts     Rule = "fleet-hosts"     // replicas, cores of one, replicas that have room
	RuleFleetNotOurs   Rule = "fleet-not-ours"  // replicas that may go, that would have to
	RuleFleetShort     Rule = "fleet-short"     // useful cores, cores needed
	RuleFleetDominated Rule = "fleet-dominated" // replicas, cores of the better one
	RuleFleetScore     Rule = "fleet-score"     // its distance from the best, that of the choice
	RuleFleetGain      Rule = "fleet-gain"      // gain, gain needed

	// Ownership.
	RuleNoOwner Rule = "no-owner" // seconds since the owner's last word (0: none yet), seconds that it holds
)

var fleetWords = map[Rule]func(r Reason) string{
	RuleFleetFits: func(r Reason) string {
		return fmt.Sprintf("is worth %s cores, %s are needed", cores(r.Args[0]), cores(r.Args[1]))
	},
	RuleFleetMore: func(r Reason) string {
		return fmt.Sprintf("%s cores are needed: %.0f replicas of %s are worth %s", cores(r.Args[2]), r.Args[0], cores(r.Args[1]), cores(r.Args[3]))
	},
	RuleFleetLess: func(r Reason) string {
		return fmt.Sprintf("at most %s cores were needed in the last minutes: %.0f replicas of %s, worth %s, are enough", cores(r.Args[2]), r.Args[0], cores(r.Args[1]), cores(r.Args[3]))
	},
	RuleFleetSurge: func(r Reason) string {
		return fmt.Sprintf("a surge towards %s cores; the present replicas can be worth %s: %.0f of %s cores at once", cores(r.Args[2]), cores(r.Args[3]), r.Args[0], cores(r.Args[1]))
	},
	RuleFleetFull: func(r Reason) string {
		return fmt.Sprintf("%s cores are needed; the most that bounds and hosts give is worth %s", cores(r.Args[0]), cores(r.Args[1]))
	},
	RuleFleetAbsurd: func(Reason) string { return "the numbers of the fleet make no sense: nothing is changed" },
	RuleFleetMissing: func(r Reason) string {
		return fmt.Sprintf("%.0f replicas have no reading: no count changes while one is missing", r.Args[0])
	},
	RuleFleetPanic: func(r Reason) string {
		return fmt.Sprintf("demand is twice what was there for it: no replica goes for another %s", seconds(r.Args[0]))
	},
	RuleFleetCalm: func(r Reason) string {
		return fmt.Sprintf("calm for %s; consolidation waits for %s", seconds(r.Args[0]), seconds(r.Args[1]))
	},
	RuleFleetPace: func(r Reason) string {
		return fmt.Sprintf("%.0f replicas too many; one a minute may go, the next in %s", r.Args[0], seconds(r.Args[1]))
	},
	RuleFleetWaits: func(r Reason) string {
		return fmt.Sprintf("%.0f replicas are starting; what shrinks waits until they serve", r.Args[0])
	},
	RuleFleetCount: func(r Reason) string {
		return fmt.Sprintf("%.0f replicas are outside the bounds of %.0f to %.0f", r.Args[0], r.Args[1], r.Args[2])
	},
	RuleFleetSize: func(r Reason) string {
		if r.Args[2] <= 0 {
			return fmt.Sprintf("%s cores are under the least of %s", cores(r.Args[0]), cores(r.Args[1]))
		}
		return fmt.Sprintf("%s cores are outside the bounds of %s to %s", cores(r.Args[0]), cores(r.Args[1]), cores(r.Args[2]))
	},
	RuleFleetRoom: func(r Reason) string {
		return fmt.Sprintf("needs %s cores more on host %s, which has %s free", cores(r.Args[0]), r.Note, cores(r.Args[1]))
	},
	RuleFleetHosts: func(r Reason) string {
		return fmt.Sprintf("no host has room for more than %.0f of %.0f replicas of %s cores", r.Args[2], r.Args[0], cores(r.Args[1]))
	},
	RuleFleetNotOurs: func(r Reason) string {
		return fmt.Sprintf("%.0f replicas would have to go, EffiScale made %.0f of them", r.Args[1], r.Args[0])
	},
	RuleFleetShort: func(r Reason) string {
		return fmt.Sprintf("would be worth %s cores, %s are needed", cores(r.Args[0]), cores(r.Args[1]))
	},
	RuleFleetDominated: func(r Reason) string {
		return fmt.Sprintf("%.0f replicas of %s cores are better in everything", r.Args[0], cores(r.Args[1]))
	},
	RuleFleetScore: func(r Reason) string {
		return fmt.Sprintf("is %.2f away from the best of each cost, the choice %.2f", r.Args[0], r.Args[1])
	},
	RuleFleetGain: func(r Reason) string {
		return fmt.Sprintf("would gain %s, a move has to gain %s", percent(r.Args[0]), percent(r.Args[1]))
	},
	RuleNoOwner: func(r Reason) string {
		if r.Args[0] <= 0 {
			return "the node that plans for this service has not spoken yet; nothing is cut before"
		}
		return fmt.Sprintf("the node that plans for this service was last heard %s ago; nothing is cut after %s", seconds(r.Args[0]), seconds(r.Args[1]))
	},
}

// wordsOf finds a rule's words in the three tables.
func wordsOf(rule Rule) (func(r Reason) string, bool) {
	for _, words := range [...]map[Rule]func(r Reason) string{ruleWords, fleetWords, thresholdWords} {
		if f, ok := words[rule]; ok {
			return f, true
		}
	}
	return nil, false
}
