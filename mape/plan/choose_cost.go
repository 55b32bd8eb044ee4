package plan

import (
	"math"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

const (
	// memoryWeight is w_m, cores for a GiB: on-demand clouds sell a GiB for about
	// an eighth of a core (0.0044 against 0.033 dollars an hour).
	memoryWeight = 0.13
	// replicaOverhead is what each replica costs beside its limit, cores: its
	// runtime, its health checks, its part in the balancing.
	replicaOverhead = 0.02
	// lossUsual is the chance of losing a host where nothing better is known.
	lossUsual = 0.01
	// resizeTime is what a quota takes to hold, drainTime what a removed replica
	// takes to finish its requests.
	resizeTime = 50 * time.Millisecond
	drainTime  = 10 * time.Second
)

// weights of the costs. By default reservation and risk count the same; disruption
// half, concentration a quarter.
func (r *Rules) weights() [4]float64 {
	if r.Weights == [4]float64{} {
		return [4]float64{1, 1, 0.5, 0.25}
	}
	return r.Weights
}

// price fills in what a size is worth and costs.
func (c *chooser) price(s Size) Candidate {
	n, f := float64(s.Replicas), c.f
	x := Candidate{Size: s, Useful: c.worth(s)}
	x.Cost[0] = n * (s.Cores + memoryWeight*float64(f.Memory)/float64(knowledge.GiB) + replicaOverhead)
	x.Cost[1] = max(0, c.o.exceeds(c.r.Knee*x.Useful)-c.r.Risk)
	x.Cost[2] = c.disruption(s)
	on, why := place(f, s)
	if why.IsZero() {
		x.Cost[3] = concentration(f, on)
	}
	return x
}

// exceeds is P(D > x): by the forecast's trusted quantiles where it has any, and
// never below that of level and noise alone.
func (o *Outlook) exceeds(x float64) float64 {
	p := 0.0
	switch {
	case o.Sigma > 0:
		p = 0.5 * math.Erfc((x-o.Expected)/(o.Sigma*math.Sqrt2))
	case o.Expected > x:
		p = 1
	}
	if len(o.Bounds) == 0 {
		return p
	}
	return max(p, survival(o.Expected, o.Bounds, x))
}

// survival interpolates log(1 − level) over the bounds; the expected value is the
// median, and beyond the last bound the last slope continues.
func survival(expected float64, bounds []Bound, x float64) float64 {
	at, logp := expected, math.Log(0.5)
	if x <= at {
		return 1
	}
	slope := 0.0
	for _, b := range bounds {
		if b.Upper <= at || b.Level <= 0 || b.Level >= 1 || math.Log(1-b.Level) >= logp {
			continue
		}
		next := math.Log(1 - b.Level)
		slope = (next - logp) / (b.Upper - at)
		if x <= b.Upper {
			break
		}
		at, logp = b.Upper, next
	}
	if slope == 0 {
		return 0
	}
	return math.Exp(logp + slope*(x-at))
}

// disruption is J3, core-seconds: the missing capacity until the change takes effect,
// and the load of removed replicas while they drain.
func (c *chooser) disruption(s Size) float64 {
	ready := float64(c.now.Replicas - c.f.Starting)
	missing := func(cores float64) float64 {
		return max(0, max(c.o.Upper, c.o.Expected)-c.r.Knee*ready*c.f.Law.Useful(cores))
	}
	cost := 0.0
	if s.Cores != c.now.Cores {
		cost += resizeTime.Seconds() * missing(c.now.Cores)
	}
	if s.Replicas > c.now.Replicas {
		cost += c.r.Start.Seconds() * missing(max(s.Cores, c.now.Cores))
	}
	if gone := c.now.Replicas - s.Replicas; gone > 0 {
		cost += drainTime.Seconds() * float64(gone) * c.o.Expected / max(float64(c.now.Replicas), 1)
	}
	return cost
}

// concentration is J4: the largest chance of losing a host times its share.
func concentration(f *ServiceState, on []int) float64 {
	all, worst := 0, 0.0
	for _, n := range on {
		all += n
	}
	for i, n := range on {
		loss := f.Hosts[i].Loss
		if loss <= 0 {
			loss = lossUsual
		}
		worst = max(worst, loss*float64(n)/float64(max(all, 1)))
	}
	return worst
}

// pareto drops what another candidate is at least as good as in all four costs
// and better in one.
func (c *chooser) pareto() {
	kept := make([]Candidate, 0, len(c.fit))
	for i := range c.fit {
		by := -1
		for j := range c.fit {
			if dominates(&c.fit[j], &c.fit[i]) {
				by = j
				break
			}
		}
		if by < 0 {
			kept = append(kept, c.fit[i])
			continue
		}
		c.reject(c.fit[i], knowledge.Because(knowledge.RuleReplicasWorse, float64(c.fit[by].Replicas), c.fit[by].Cores))
	}
	c.fit = kept
}

func dominates(a, b *Candidate) bool {
	better := false
	for i := range a.Cost {
		if a.Cost[i] > b.Cost[i] {
			return false
		}
		better = better || a.Cost[i] < b.Cost[i]
	}
	return better
}

// chebyshev scores the Pareto set and returns its best; a tie goes to the larger.
func (c *chooser) chebyshev() Candidate {
	best, worst := c.fit[0].Cost, c.fit[0].Cost
	for _, x := range c.fit {
		for i, j := range x.Cost {
			best[i], worst[i] = min(best[i], j), max(worst[i], j)
		}
	}
	w, at := c.r.weights(), 0
	for k := range c.fit {
		x := &c.fit[k]
		for i, j := range x.Cost {
			if spread := worst[i] - best[i]; spread > 0 {
				x.Score = max(x.Score, w[i]*(j-best[i])/spread)
			}
		}
		if now := &c.fit[at]; x.Score < now.Score || x.Score == now.Score && x.Useful > now.Useful {
			at = k
		}
	}
	return c.fit[at]
}

// gain is the improvement in the cost that gains most, each as a share, and the gain
// that is required: 5 % and the switching cost, spread over the dwell.
func (c *chooser) gain(stay, to *Candidate) (gain, need float64) {
	reserved := max(stay.Cost[0], 1e-9)
	per := [4]float64{reserved, 1, reserved * max(c.r.Start.Seconds(), 1), 1}
	w := c.r.weights()
	for i := range per {
		gain = max(gain, w[i]*(stay.Cost[i]-to.Cost[i])/per[i])
	}
	moved := math.Abs(float64(to.Replicas-stay.Replicas)) * to.Cores * c.r.Start.Seconds()
	return gain, chooseGain + (moved+to.Cost[2])/(chooseDwell.Seconds()*reserved)
}
