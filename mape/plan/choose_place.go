package plan

import (
	"math"

	"github.com/effiscale/effiscale/knowledge"
)

// place is the number of replicas on each host: present ones stay, new ones go one by
// one to the host with the fewest that has capacity, and removed ones, only those
// that EffiScale created, come from the host with the most. Or why it is impossible.
func place(f *ServiceState, s Size) ([]int, knowledge.Reason) {
	on, cores, memory := make([]int, len(f.Hosts)), make([]float64, len(f.Hosts)), make([]knowledge.Bytes, len(f.Hosts))
	gone, all := 0, 0
	for i := range f.Hosts {
		host := &f.Hosts[i]
		on[i], cores[i], memory[i] = host.Replicas, host.Cores, host.Memory
		all += host.Replicas
	}
	for ; all > s.Replicas; all-- {
		i := mostLoaded(f, on)
		if i < 0 {
			return nil, knowledge.Because(knowledge.RuleReplicasNotOurs, float64(gone), float64(f.Replicas()-s.Replicas))
		}
		on[i]--
		cores[i] += f.Cores
		memory[i] += f.Memory
		gone++
	}
	for i := range on {
		if more := float64(on[i]) * (s.Cores - f.Cores); more > 0 {
			if more > cores[i]+1e-9 {
				why := knowledge.Because(knowledge.RuleReplicasRoom, more, cores[i])
				why.Note = f.Hosts[i].Name
				return nil, why
			}
			cores[i] -= more
		}
	}
	for ; all < s.Replicas; all++ {
		i := leastLoaded(f, on, func(i int) bool { return cores[i]+1e-9 >= s.Cores && memory[i] >= f.Memory })
		if i < 0 {
			return nil, knowledge.Because(knowledge.RuleReplicasHosts, float64(s.Replicas), s.Cores, float64(all))
		}
		on[i]++
		cores[i] -= s.Cores
		memory[i] -= f.Memory
	}
	return on, knowledge.Reason{}
}

// mostLoaded is the host with the most replicas of which one of ours is left.
func mostLoaded(f *ServiceState, on []int) int {
	at := -1
	for i := range on {
		if f.Hosts[i].Replicas-on[i] < f.Hosts[i].Ours && on[i] > 0 && (at < 0 || on[i] > on[at]) {
			at = i
		}
	}
	return at
}

// leastLoaded is the host with the fewest replicas that has capacity for one more.
func leastLoaded(f *ServiceState, on []int, fits func(int) bool) int {
	at := -1
	for i := range on {
		if fits(i) && (at < 0 || on[i] < on[at] || on[i] == on[at] && f.Hosts[i].Cores > f.Hosts[at].Cores) {
			at = i
		}
	}
	return at
}

// largest is the largest size that the hosts can give every replica there is.
func largest(f *ServiceState, r *Rules) float64 {
	if r.Axis == AxisHorizontal {
		return f.Cores
	}
	c := math.Inf(1)
	if r.CoresMost > 0 {
		c = r.CoresMost
	}
	for i := range f.Hosts {
		if n := f.Hosts[i].Replicas; n > 0 {
			c = min(c, f.Cores+max(f.Hosts[i].Cores, 0)/float64(n))
		}
	}
	if math.IsInf(c, 0) {
		return f.Cores
	}
	return max(c, f.Cores)
}

func finite(vs ...float64) bool {
	for _, v := range vs {
		if !(v >= 0) || math.IsInf(v, 0) {
			return false
		}
	}
	return true
}

func (f *ServiceState) valid() bool {
	for i := range f.Hosts {
		s := &f.Hosts[i]
		if !finite(s.Cores, s.Loss) || s.Replicas < 0 || s.Ours < 0 || s.Ours > s.Replicas || s.Replicas > replicasMost {
			return false
		}
	}
	n := f.Replicas()
	return finite(f.Cores, f.Law.Serial, f.Law.Crosstalk, f.Law.Parallel) && f.Cores > 0 && f.Memory >= 0 && n > 0 &&
		f.Starting >= 0 && f.Starting <= n
}

func (o *Outlook) valid() bool {
	for _, b := range o.Bounds {
		if !finite(b.Level, b.Upper) {
			return false
		}
	}
	return finite(o.Expected, o.Sigma, o.Upper, o.Out, o.In)
}

func (r *Rules) valid() bool {
	return finite(r.CoresLeast, r.CoresMost, r.Weights[0], r.Weights[1], r.Weights[2], r.Weights[3]) &&
		r.Target > 0 && r.Target <= 1 && r.Knee > 0 && r.Knee <= 1 && r.Risk >= 0 && r.Risk < 1 &&
		r.Least >= 1 && r.Most >= r.Least && r.Most <= replicasMost && r.Start >= 0 && r.Together >= 0
}

// fleetMost bounds the replicas of one service.
const replicasMost = 1000
