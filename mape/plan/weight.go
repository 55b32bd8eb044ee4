package plan

import (
	"math"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// lift takes the quota away: in weight mode there is none. Limits themselves
// make tails (arXiv 2510.10747). The Engine cannot take a limit back, so a
// quota of everything that the host has counts as none.
func lift(d knowledge.Decision, w *knowledge.Window, e *knowledge.Envelope, p *knowledge.Policy) knowledge.Decision {
	if w.Quota == 0 || (e.CPU.Max > 0 && w.Quota >= e.CPU.Max) {
		return because(d, knowledge.Because(knowledge.RuleWeight, w.Usage.Cores(), float64(Shares(w, p))))
	}
	d.Verb, d.To, d.Boost = knowledge.Grow, 0, true
	return because(d, knowledge.Because(knowledge.RuleNoCPULimit))
}

// Shares is the weight that follows demand, as Docker counts cpu shares: 1024 for
// each core of demand at the default weight 50, between 2 and 262144. Demand is the
// highest use of the last minute, or the policy's minimum; time spent waiting for a
// CPU (PSI some) is use that contention prevented: at 50 % waiting and 2 cores of
// use, demand is 3 cores.
func Shares(w *knowledge.Window, p *knowledge.Policy) int64 {
	use := max(w.Usage60, w.Usage)
	if w.Have&knowledge.HasCPUPressure != 0 && w.Quota == 0 {
		if s := w.CPUPressure.Some10; s > 0 {
			use = scale(use, 1+min(s, 100)/100)
		}
	}
	weight := float64(min(max(p.Weight, weightMin), weightMost)) / weightDefault
	shares := max(use, p.CPU.Min).Cores() * sharesPerCPU * weight
	return int64(math.Round(min(max(shares, sharesMin), sharesMax)))
}

// Weight decides on the share in weight mode. current is the container's share
// as the Engine counts it (0: the default, 1024). A result equal to current is
// to leave it: it moves by a fifth or not at all, each 30 s at most.
func (r *Reflex) Weight(
	now time.Time, current int64, f *knowledge.Finding, w *knowledge.Window, p *knowledge.Policy,
) (int64, knowledge.Reason) {
	was := current
	if was == 0 {
		was = sharesPerCPU
	}
	switch watched := now.Sub(w.Since); {
	case p.CPUMode != knowledge.CPUWeight:
		return current, knowledge.Reason{}
	case f.Quality < knowledge.QualityGood:
		return current, f.Reason
	case watched < p.ObserveFirst:
		return current, knowledge.Because(knowledge.RuleWatching, watched.Seconds(), p.ObserveFirst.Seconds())
	}
	to := Shares(w, p)
	if wait := left(now, r.sharesAt, sharesEvery); wait > 0 {
		return current, knowledge.Because(knowledge.RuleCooldown, wait.Seconds())
	}
	reason := knowledge.Because(knowledge.RuleWeight, w.Usage.Cores(), float64(to))
	if math.Abs(float64(to-was)) < sharesChange*float64(was) {
		reason.Args[1] = float64(was)
		return current, reason
	}
	return to, reason
}

// SharesApplied records that a share took effect.
func (r *Reflex) SharesApplied(now time.Time) { r.sharesAt = now }
