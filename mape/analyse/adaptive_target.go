package analyse

import (
	"math"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// targetLadder are the throttle targets to choose from (Autothrottle, NSDI'24,
// section 3.4). Higher is cheaper and slower.
var targetLadder = [...]float64{0, .02, .04, .06, .1, .15, .2, .25, .3}

const (
	targetArms  = len(targetLadder)
	targetFirst = 3 // 0.06, the reflex's own
	// targetLoads are the loads that are learned apart: what holds at a quarter of
	// the load need not hold at all of it. One for each doubling, eight in all.
	targetLoads = 8
	// targetTrial is how many periods a probe lasts, unless it hurts before.
	targetTrial = 3
	// targetFade is the weight of a new period in an arm's mean cost.
	targetFade = 0.2
	// targetCalm is how many periods must hold the objective before a probe, and
	// how many it waits at most after probes that failed.
	targetCalm, targetWaitMost = 3, 96
	// targetSpare is how far under its objective latency must be for a probe.
	targetSpare = 0.9
	// targetGain is how much cheaper another target must be.
	targetGain = 0.005
)

// TargetPeriod is one period (a minute) as seen from outside.
type TargetPeriod struct {
	Cores, Used float64       // reserved and used, means
	Latency     time.Duration // the percentile that the objective speaks of
	Objective   time.Duration // 0: none, nothing is learned
	Surge       bool          // demand rises beyond what was foreseen
}

// TargetLearner finds, while it runs, the throttle target that costs least while
// a latency objective holds. It is a hill climb with memory: it keeps the mean
// cost of each target at each load, moves down at once when the objective is
// missed, tries the next higher target after calm periods, and waits twice as long
// after each try that failed. It is deterministic and never tries in a surge.
//
// The cost of a period is the share of its cores that was not used (cores, made
// comparable between loads) when the objective holds, else 2 and the excess over
// the objective. The zero value is usable; its size is fixed.
type TargetLearner struct {
	loads  [targetLoads]targetLoad
	load   uint8 // the entry in use
	offset int8  // of the arm in force, from targetFirst
	probe  uint8 // periods that the probe still lasts; 0: none
	Reason knowledge.Reason
}

type targetLoad struct {
	key    int16 // of the load, and 1000: 0 is none
	offset int8  // best arm, from targetFirst
	calm   uint8
	wait   uint8
	arms   [targetArms]targetArm
}

type targetArm struct {
	cost  float32
	count uint16
}

// Target is the throttle target to use now.
func (l *TargetLearner) Target() float64 { return targetLadder[l.arm()] }

func (l *TargetLearner) arm() int {
	return min(max(targetFirst+int(l.offset), 0), targetArms-1)
}

// Observe learns from the period that ended under Target, and returns the target
// of the next one.
func (l *TargetLearner) Observe(p TargetPeriod) float64 {
	if p.Objective <= 0 || p.Latency < 0 || !(p.Cores > 0) || !(p.Used >= 0) || math.IsInf(p.Cores, 1) || math.IsInf(p.Used, 1) {
		return l.Target()
	}
	arm := l.arm()
	over := float64(p.Latency) / float64(p.Objective)
	c := l.at(p.Used, arm)
	if p.Surge {
		l.surge(c, arm, over)
		return l.Target()
	}
	c.arms[arm].learn(periodCost(&p, over))
	if over > 1 {
		l.retreat(c, arm, over)
		return l.Target()
	}
	c.calm = min(c.calm+1, targetWaitMost)
	if l.probe > 1 {
		l.probe--
		return l.Target()
	}
	l.judge(c, arm)
	if l.probe == 0 && over < targetSpare {
		l.try(c)
	}
	return l.Target()
}

func periodCost(p *TargetPeriod, over float64) float64 {
	if over > 1 {
		return 2 + min(over-1, 10)
	}
	return max(0, 1-p.Used/p.Cores)
}

func (a *targetArm) learn(cost float64) {
	a.count = min(a.count+1, math.MaxUint16-1)
	a.cost += float32(max(targetFade, 1/float64(a.count)) * (cost - float64(a.cost)))
}

// at is the entry of a load. A load that is new starts from the arm in force; it
// takes the place of one that is 256 times higher or lower.
func (l *TargetLearner) at(used float64, arm int) *targetLoad {
	octave := int(math.Floor(math.Log2(max(used, 1e-6))))
	i := uint8(octave & (targetLoads - 1))
	c := &l.loads[i]
	if key := int16(octave + 1000); c.key != key {
		*c = targetLoad{key: key, offset: int8(arm - targetFirst)}
	}
	if i != l.load {
		l.load, l.probe = i, 0
	}
	return c
}

// surge keeps to what is known, or goes below it.
func (l *TargetLearner) surge(c *targetLoad, arm int, over float64) {
	l.probe, c.calm = 0, 0
	l.offset = min(l.offset, c.offset)
	if over > 1 {
		l.offset = int8(max(arm-1, 0) - targetFirst)
	}
	l.Reason = knowledge.Because(knowledge.RuleTargetSurge, l.Target())
}

// retreat goes down at once, by two when the objective was missed by half.
func (l *TargetLearner) retreat(c *targetLoad, arm int, over float64) {
	next := arm - 1
	if over > 1.5 {
		next--
	}
	next = max(next, 0)
	// A probe that failed makes the next one wait; so does any miss.
	c.wait = min(max(2*c.wait, targetCalm), targetWaitMost)
	c.calm, l.probe = 0, 0
	c.offset = min(c.offset, int8(next-targetFirst))
	l.offset = c.offset
	l.Reason = knowledge.Because(knowledge.RuleTargetLower, over, targetLadder[arm], l.Target())
}

// judge ends a probe, and goes to the cheapest target that is known to hold.
func (l *TargetLearner) judge(c *targetLoad, arm int) {
	best := min(max(targetFirst+int(c.offset), 0), targetArms-1)
	if arm > best { // a probe has ended
		l.probe = 0
		if a := c.arms[best]; a.count == 0 || float64(c.arms[arm].cost) < float64(a.cost)-targetGain {
			best, c.wait, c.calm = arm, c.wait/2, 0
		} else {
			c.wait, c.calm = min(max(2*c.wait, targetCalm), targetWaitMost), 0
		}
	}
	c.offset = int8(best - targetFirst)
	l.offset = c.offset
	l.Reason = knowledge.Because(knowledge.RuleTargetSettle, targetLadder[best], float64(c.arms[best].cost))
}

// try begins a probe of the next higher target when it has been calm for long.
func (l *TargetLearner) try(c *targetLoad) {
	best := targetFirst + int(c.offset)
	if best+1 >= targetArms || c.calm < max(c.wait, targetCalm) {
		return
	}
	l.offset, l.probe = c.offset+1, targetTrial
	l.Reason = knowledge.Because(knowledge.RuleTargetProbe, l.Target(), targetLadder[best])
}
