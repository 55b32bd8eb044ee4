package forecast

const (
	maxMembers = 16
	// lossDecay: half of the weight is on the last 34 comparisons.
	lossDecay = 0.98
	// minGain: a member counts when its error is 1 % below that of "same as now".
	minGain = 0.99
	// Over long, half of the weight on the last 700 comparisons, the combination has
	// to have been 3 % better: that keeps a vote that chases noise from being worse
	// for good.
	longDecay = 0.999
	longDoubt = 0.97
)

// vote combines the members' predictions by their recent absolute errors. Member 0 is
// "same as now".
type vote struct {
	loss [maxMembers]float64 // discounted sums
	// mixed and picked are the losses of the two ways to combine.
	mixed, picked float64
	// chosen and same are the losses over long of what the recent ones chose, and of
	// member 0.
	chosen, same float64
}

// predictions are those of each member, and the combinations.
type predictions struct {
	member        [maxMembers]float64
	mixed, picked float64
	chosen        float64
}

// best is the member with the smallest recent loss.
func (v *vote) best(n int) int {
	best := 0
	for i := 1; i < n; i++ {
		if v.loss[i] < v.loss[best] {
			best = i
		}
	}
	return best
}

// combine fills in the combinations and returns the final answer.
func (v *vote) combine(s *predictions, n int) float64 {
	best := v.best(n)
	s.picked = s.member[best]
	sum, whole := 0.0, 0.0
	floor := v.loss[best]
	for i := range n {
		w := 1.0
		if v.loss[i] > 0 {
			w = floor / v.loss[i]
		}
		w *= w
		w *= w
		w *= w
		sum += w * s.member[i]
		whole += w
	}
	s.mixed = s.picked
	if whole > 0 {
		s.mixed = sum / whole
	}
	s.chosen = s.member[0]
	switch limit := minGain * v.loss[0]; {
	case v.mixed < limit && v.mixed <= v.picked:
		s.chosen = s.mixed
	case v.picked < limit:
		s.chosen = s.picked
	}
	if v.chosen > longDoubt*v.same {
		return s.member[0]
	}
	return s.chosen
}

// learn takes the outcome of predictions.
func (v *vote) learn(s *predictions, n int, truth float64) {
	for i := range n {
		v.loss[i] += distance(s.member[i], truth) - (1-lossDecay)*v.loss[i]
	}
	v.mixed += distance(s.mixed, truth) - (1-lossDecay)*v.mixed
	v.picked += distance(s.picked, truth) - (1-lossDecay)*v.picked
	v.chosen += distance(s.chosen, truth) - (1-longDecay)*v.chosen
	v.same += distance(s.member[0], truth) - (1-longDecay)*v.same
}

func distance(a, b float64) float64 { return max(a-b, b-a) }
