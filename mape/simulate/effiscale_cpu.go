package simulate

import (
	"math"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/knowledge/profile"
	"github.com/effiscale/effiscale/mape/plan"
)

// cpuLoop is the daemon's slow clock for CPU: a recommender and a profile learn
// demand, and the deliberation makes the floor of an envelope of them. The replay
// applies that floor. The reflex, which reacts within a tenth of a second of
// throttling, is left out: demand that a step of a second or more leaves unserved is
// shown before the reflex could react.
type cpuLoop struct {
	policy   knowledge.Policy
	host     knowledge.Host
	advisor  *plan.Recommender
	profile  *profile.Profile
	envelope knowledge.Envelope
}

// newCPULoop makes the daemon's own policy for CPU on the vertical axis.
func newCPULoop(t *Trace, o Options) *cpuLoop {
	cpus := o.HostCores
	if cpus <= 0 {
		cpus = knowledge.MaxCPU.Cores()
	}
	p := o.Policy
	p.CPU.Min = knowledge.OneCPU / 100
	return &cpuLoop{
		policy: p, host: knowledge.Host{CPUs: int(math.Ceil(cpus)), Memory: firstMemory},
		advisor: plan.NewRecommender(t.Step), profile: profile.New(),
	}
}

// Decide implements Policy.
func (l *cpuLoop) Decide(s *Seen) Want {
	now := epoch(s.At)
	l.advisor.Observe(s.Demand, s.Censored)
	if l.policy.CPUPercentile > 0 {
		l.profile.AddCPU(now, s.Demand, s.Dt, s.Censored)
	}
	risk := plan.RiskOf(l.policy.Class)
	advice := l.advisor.Advise(risk)
	if advice.CPU >= knowledge.MaxCPU { // beyond an envelope: a unit that is no core
		r, _ := l.advisor.Recommend(risk)
		return Want{Cores: r.Limit}
	}
	advice.Seen = observed // a replay does not wait for evidence
	facts := plan.Facts{
		CPU: knowledge.FromCores(l.profile.CPU(l.policy.Percentile())), CPUMax: knowledge.FromCores(l.profile.CPUMax()),
		ObservedFor: observed, Advice: advice,
	}
	l.envelope = plan.Deliberate(now, facts, &l.policy, l.host, l.envelope)
	return Want{Cores: l.envelope.CPU.Min.Cores()}
}

// observed is long enough for a floor to be learned.
const observed = 24 * time.Hour
