package plan

import (
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape/analyse"
)

const (
	// thresholdMost is how far above the other floors a learned threshold may raise a
	// floor: a wrong lesson costs half as much again. It is a multiple of demand and of
	// the other floors, never of the quota, which would amplify itself.
	thresholdMost = 1.5
	// thresholdMeanMost bounds it by the mean of recent demand too: where one second is worth
	// many others, what counts is when the next one comes, not how its demand is spread
	// within it; the other floors know more of that. Without this bound a replay of
	// nab-asg-cpu in bursts of half a second had 52 % more slack at equal shortage.
	thresholdMeanMost = 2.0
	// ThresholdWindow is the time whose use must fit under a quota after a cut, and
	// ThresholdQuantile its quantile (HPA's stabilisation window, 300 s).
	ThresholdWindow   = 5 * time.Minute
	ThresholdQuantile = 0.99
)

// Threshold is the learned threshold of one container. The zero value: none.
type Threshold struct {
	// Knee is the share of its limit from which on it is throttled (analyse.Lesson), 0..1.
	Knee float64
	// Use is the most of the container's demand in ThresholdWindow, at ThresholdQuantile of that
	// time, and Mean its mean; what its limit held back is included.
	Use, Mean knowledge.NanoCPU
}

// ThresholdUnused is why a lesson steers nothing under a policy; the zero Reason: it
// steers.
func ThresholdUnused(l *analyse.Lesson, p *knowledge.Policy) knowledge.Reason {
	switch {
	case p.CPUMode == knowledge.CPUWeight:
		return knowledge.Because(knowledge.RuleNoCPULimit)
	case p.CPUTarget > 0:
		return knowledge.Because(knowledge.RuleKneeTarget, p.CPUTarget)
	}
	return l.Unused()
}

// applyThreshold applies a learned threshold. Up: the expected maximum, the recent
// use or the bound of a proven forecast, must stay under the knee; that is, use must
// stay under the knee less the uncertainty of the forecast. Down: recent use must be
// a seventh further under the knee of the quota after a cut. The least of a cut is
// never under the floor of growth, so that the two cannot alternate.
func applyThreshold(e *knowledge.Envelope, facts *Facts, p *knowledge.Policy, prev *knowledge.Envelope) {
	s := &facts.Threshold
	if !(s.Knee > 0) || p.CPUTarget > 0 || p.CPUMode == knowledge.CPUWeight {
		return
	}
	knee := min(max(s.Knee, analyse.KneeLeast), analyse.KneeMost)
	use := under(max(s.Use, 0), e.CPU.Max)
	need := max(use, e.ForecastCPU)
	most := min(scale(max(e.CPU.Min, use), thresholdMost), scale(max(s.Mean, 0), thresholdMeanMost))
	floor := min(scale(need, 1/knee), most)
	if prev.ThresholdCPU > 0 {
		floor = min(steady(floor, prev.ThresholdCPU), most)
	}
	least := min(scale(use, 1/(knee*analyse.LowShare)), scale(most, 1/analyse.LowShare))
	e.ThresholdCPU = under(floor, e.CPU.Max)
	e.CutCPU = under(max(least, floor), e.CPU.Max)
	e.Threshold = knowledge.Because(knowledge.RuleTriggerUp, need.Cores(), knee, e.ThresholdCPU.Cores(), use.Cores())
}
