package simulate

import (
	"github.com/effiscale/effiscale/mape/plan"
)

// replicaLoop is the daemon's choice between larger replicas and more of them, with
// its timing, on one host: a plan.Scaler that decides at every step.
type replicaLoop struct {
	scaler plan.Scaler
	rules  plan.Rules
	room   float64 // cores of the host; 0: endless
}

const (
	// unbounded is the capacity of a host without a bound, in cores.
	unbounded = 1e6
	// kneeDefault and riskDefault: the use from which on a service is throttled, where
	// nothing was learned, and the accepted chance of exceeding it.
	kneeDefault = 1.0
	riskDefault = 0.01
)

// newReplicaLoop makes the daemon's own policy for the number of replicas, alone
// or with their size.
func newReplicaLoop(o Options) *replicaLoop {
	axis := plan.AxisHorizontal
	if o.Axis == Both {
		axis = plan.AxisBoth
	}
	return &replicaLoop{room: o.HostCores, rules: plan.Rules{
		Axis: axis, Least: o.least(), Most: o.most(), CoresLeast: leastCores, Target: o.Target, Knee: kneeDefault,
		Risk: riskDefault, Start: o.StartDelay,
	}}
}

// Decide implements Policy.
func (l *replicaLoop) Decide(s *Seen) Want {
	n := s.Replicas()
	free := unbounded
	if l.room > 0 {
		free = max(l.room-float64(n)*s.Cores, 0)
	}
	p := l.scaler.Step(epoch(s.At), s.Dt, &plan.Seen{
		Demand: s.Demand,
		Service: plan.ServiceState{Cores: s.Cores, Starting: s.Starting,
			Hosts: []plan.HostState{{Name: "host", Cores: free, Replicas: n, Ours: n}}},
	}, &l.rules)
	return Want{Cores: p.Cores, Replicas: p.Replicas}
}
