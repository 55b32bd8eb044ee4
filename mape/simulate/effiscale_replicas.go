package simulate

import (
	"github.com/effiscale/effiscale/mape/plan"
)

// replicaLoop is the daemon's choice between bigger and more, with its timing, on
// one host: a plan.Scaler that is asked at every step.
type replicaLoop struct {
	scaler plan.Scaler
	rules  plan.Rules
	room   float64 // cores of the host; 0: endless
}

const (
	// endless is the room of a host that has no bound, in cores.
	endless = 1e6
	// fleetKnee and fleetRisk: the use from which it hurts, where nothing was learned
	// of it, and the chance of exceeding it that is accepted.
	fleetKnee = 1.0
	fleetRisk = 0.01
)

// newReplicaLoop makes the daemon's own policy for the number of replicas, alone
// or with their size.
func newReplicaLoop(o Options) *replicaLoop {
	axis := plan.AxisHorizontal
	if o.Axis == Both {
		axis = plan.AxisBoth
	}
	return &replicaLoop{room: o.HostCores, rules: plan.Rules{
		Axis: axis, Least: o.least(), Most: o.most(), CoresLeast: leastCores, Target: o.Target, Knee: fleetKnee,
		Risk: fleetRisk, Start: o.StartDelay,
	}}
}

// Decide implements Policy.
func (l *replicaLoop) Decide(s *Seen) Want {
	n := s.Replicas()
	free := endless
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
