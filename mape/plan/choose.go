package plan

import (
	"math"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// Axis is what may be changed of a service.
type Axis uint8

// The axes. The zero value changes no count.
const (
	AxisVertical   Axis = iota // the size of a replica
	AxisHorizontal             // the number of replicas
	AxisBoth
)

// HostState is a host's free capacity and its replicas of one service.
type HostState struct {
	Name string
	// Cores and Memory are free, beyond what its replicas hold now.
	Cores  float64
	Memory knowledge.Bytes
	// Loss is the chance of losing the host within the dwell; 0: lossUsual.
	Loss float64
	// Replicas are there, those that start included; Ours are the ones of them
	// that this system made, and may remove.
	Replicas, Ours int
}

// ServiceState is the present state of a service and its hosts.
type ServiceState struct {
	Cores  float64         // limit of one replica
	Memory knowledge.Bytes // limit of one replica
	// Starting of the replicas do not serve yet.
	Starting int
	Hosts    []HostState
	Law      Law
}

// Replicas is how many there are, those that start included.
func (f *ServiceState) Replicas() int {
	n := 0
	for i := range f.Hosts {
		n += f.Hosts[i].Replicas
	}
	return n
}

// Outlook is the demand that a plan has to carry, cores of useful capacity.
type Outlook struct {
	// Expected is the present level, Sigma the deviation of one reading.
	Expected, Sigma float64
	// Upper is the bound of the highest demand until a new replica would serve.
	Upper float64
	// Out is the useful capacity under which more is needed, In the one that a
	// smaller service must keep: the highest need of the last minutes.
	Out, In float64
	// Bounds are trusted quantiles of the highest demand until then, ascending.
	Bounds []Bound
}

// Bound is one quantile of a forecast.
type Bound struct{ Level, Upper float64 }

// Rules are the policy of a service.
type Rules struct {
	Axis Axis
	// Least and Most replicas; CoresLeast and CoresMost of one, 0: no bound.
	Least, Most           int
	CoresLeast, CoresMost float64
	// Target is the expected use of capacity, Knee the use from which on it is throttled
	// (ρ_hi), both 0..1.
	Target, Knee float64
	// Risk is α, the chance of exceeding the knee that is accepted.
	Risk float64
	// Start is how long a new replica takes until it serves (learned per image).
	Start time.Duration
	// Weights of J1..J4; all 0: the usual ones.
	Weights [4]float64
	// Together is the most replicas that one scale-in takes; 0: as many as the
	// minutes of surplus allow, 1: never two within a minute.
	Together int
}

// Size is n replicas of so many cores.
type Size struct {
	Replicas int
	Cores    float64
}

// Candidate is a size, its useful capacity and its costs: J1 reserved cores, J2
// chance of too little above the accepted one, J3 core-seconds of disruption, J4
// share of capacity at risk. Score is its Chebyshev distance from the best.
type Candidate struct {
	Size
	Useful float64
	Cost   [4]float64
	Score  float64
}

// Rejected is a candidate that was not taken, and why.
type Rejected struct {
	Candidate
	Reason knowledge.Reason
}

// Plan is the target. On is the number of replicas on each host, in the order of
// ServiceState.Hosts.
type Plan struct {
	Size
	On       []int
	Rejected []Rejected
	Reason   knowledge.Reason
}

const (
	// chooseGain is the improvement under which nothing moves.
	chooseGain = 0.05
	// chooseDwell is how long a choice is expected to last: the switching cost is
	// spread over it. A replica that takes 10 s of one core to start costs 1.7 %
	// of a core over 10 min.
	chooseDwell = 10 * time.Minute
)

// steps are the sizes that are tried, as multiples of the present one.
func steps() [6]float64 { return [...]float64{0.7, 0.85, 1, 1.2, 1.5, 2} }

// Choose decides between larger replicas and more of them: it drops infeasible sizes,
// keeps the Pareto set of the four costs, and takes the least weighted Chebyshev
// distance from the best of each (Bowman 1976). It moves only for a gain worth the
// move. Pure: the same arguments give the same plan.
func Choose(f *ServiceState, o *Outlook, r *Rules) Plan {
	c := chooser{f: f, o: o, r: r, now: Size{f.Replicas(), f.Cores}}
	if !f.valid() || !o.valid() || !r.valid() {
		return c.hold(knowledge.Because(knowledge.RuleReplicasInvalid))
	}
	c.gather()
	stay, fits := c.find(c.now)
	if len(c.fit) == 0 {
		return c.most()
	}
	c.pareto()
	best := c.chebyshev()
	if fits {
		if gain, need := c.gain(&stay, &best); best.Size != c.now && gain <= need {
			c.reject(best, knowledge.Because(knowledge.RuleReplicasGain, gain, need))
			best = stay
		}
	}
	for i := range c.fit {
		if other := c.fit[i]; other.Size != best.Size && !c.rejected(other.Size) {
			c.reject(other, knowledge.Because(knowledge.RuleReplicasScore, other.Score, best.Score))
		}
	}
	return c.plan(best)
}

// chooser is the state of one choice.
type chooser struct {
	f   *ServiceState
	o   *Outlook
	r   *Rules
	now Size
	fit []Candidate
	out []Rejected
}

// gather prices every candidate and drops what cannot be.
func (c *chooser) gather() {
	counts := c.counts()
	for _, step := range steps() {
		cores := c.now.Cores * step
		if step != 1 && c.r.Axis == AxisHorizontal {
			continue
		}
		for i, n := range c.all(counts, cores) {
			size := Size{n, cores}
			if i > 0 && containsSize(c.fit, size) || c.rejected(size) {
				continue
			}
			x := c.price(size)
			if why := c.infeasible(&x); !why.IsZero() {
				c.reject(x, why)
				continue
			}
			c.fit = append(c.fit, x)
		}
	}
}

func (c *chooser) counts() []int {
	if c.r.Axis == AxisVertical {
		return []int{c.now.Replicas}
	}
	n := c.now.Replicas
	return []int{n - 1, n, n + 1, n + 2}
}

// all adds what demand needs of replicas of this size, growing and shrinking.
func (c *chooser) all(counts []int, cores float64) []int {
	g := c.f.Law.Useful(cores)
	if c.r.Axis == AxisVertical || g <= 0 {
		return counts
	}
	return append(counts[:len(counts):len(counts)], c.bound(c.o.Out/g), c.bound(max(c.o.In, c.o.Out)/g))
}

func (c *chooser) bound(replicas float64) int {
	return int(min(max(math.Ceil(replicas-1e-9), float64(c.r.Least)), float64(c.r.Most)))
}

// infeasible is why a size is impossible; the zero Reason: it is possible.
func (c *chooser) infeasible(x *Candidate) knowledge.Reason {
	r, n := c.r, float64(x.Replicas)
	switch {
	case x.Replicas < max(r.Least, 1) || x.Replicas > r.Most:
		return knowledge.Because(knowledge.RuleReplicasCount, n, float64(r.Least), float64(r.Most))
	case x.Cores != c.now.Cores && (x.Cores < r.CoresLeast || r.CoresMost > 0 && x.Cores > r.CoresMost):
		return knowledge.Because(knowledge.RuleReplicasSize, x.Cores, r.CoresLeast, r.CoresMost)
	}
	if _, why := place(c.f, x.Size); !why.IsZero() {
		return why
	}
	need := c.o.Out
	if x.Useful < c.worth(c.now)*(1-1e-9) {
		need = max(c.o.In, c.o.Out) + c.starting()
	}
	if x.Useful < need*(1-1e-9) {
		return knowledge.Because(knowledge.RuleReplicasShort, x.Useful, need)
	}
	return knowledge.Reason{}
}

// starting is the use assumed of replicas that do not serve yet: none while more
// is needed, all that they can where less might do (HPA's rule).
func (c *chooser) starting() float64 {
	return float64(c.f.Starting) * c.f.Law.Useful(c.f.Cores) / c.r.Target
}

func (c *chooser) worth(s Size) float64 { return float64(s.Replicas) * c.f.Law.Useful(s.Cores) }

func (c *chooser) find(s Size) (Candidate, bool) {
	for _, x := range c.fit {
		if x.Size == s {
			return x, true
		}
	}
	return Candidate{}, false
}

func (c *chooser) rejected(s Size) bool {
	for i := range c.out {
		if c.out[i].Size == s {
			return true
		}
	}
	return false
}

func containsSize(all []Candidate, s Size) bool {
	for i := range all {
		if all[i].Size == s {
			return true
		}
	}
	return false
}

func (c *chooser) reject(x Candidate, why knowledge.Reason) {
	c.out = append(c.out, Rejected{x, why})
}

// most is for the case that nothing carries the demand: the largest that can be,
// never less than there is.
func (c *chooser) most() Plan {
	best := c.price(c.now)
	for _, x := range c.out {
		if x.Reason.Rule == knowledge.RuleReplicasShort && x.Useful > best.Useful && x.Replicas >= c.now.Replicas &&
			x.Cores >= c.now.Cores {
			best = x.Candidate
		}
	}
	if best.Replicas < c.r.Least || best.Replicas > c.r.Most {
		best.Size.Replicas = min(max(best.Replicas, c.r.Least), c.r.Most)
		if _, why := place(c.f, best.Size); !why.IsZero() {
			best.Size = c.now
		}
	}
	p := c.plan(best)
	p.Reason = knowledge.Because(knowledge.RuleReplicasFull, c.o.Out, best.Useful)
	return p
}

func (c *chooser) plan(x Candidate) Plan {
	p := c.hold(knowledge.Because(knowledge.RuleReplicasFit, x.Useful, c.o.Out))
	switch {
	case x.Size == c.now:
	case x.Useful < c.worth(c.now):
		p.Reason = knowledge.Because(knowledge.RuleReplicasLess, float64(x.Replicas), x.Cores, c.o.In, x.Useful)
	default:
		p.Reason = knowledge.Because(knowledge.RuleReplicasMore, float64(x.Replicas), x.Cores, c.o.Out, x.Useful)
	}
	p.Size = x.Size
	p.On, _ = place(c.f, x.Size)
	for i := range c.out { // the chosen size is not rejected
		if c.out[i].Size == x.Size {
			c.out = append(c.out[:i], c.out[i+1:]...)
			break
		}
	}
	p.Rejected = c.out
	return p
}

func (c *chooser) hold(why knowledge.Reason) Plan {
	p := Plan{Size: c.now, On: make([]int, len(c.f.Hosts)), Reason: why}
	for i := range c.f.Hosts {
		p.On[i] = c.f.Hosts[i].Replicas
	}
	return p
}
