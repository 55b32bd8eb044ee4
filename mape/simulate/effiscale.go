package simulate

import (
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape/plan"
)

// EffiScale is the name of the policy that is the daemon's own deciding code.
const EffiScale = "effiscale"

// recommended sizes by the recommender of the slow clock, which is what sets the
// floor of a container's envelope.
type recommended struct {
	risk plan.Risk
	by   *plan.Recommender
	said float64
}

// NewEffiScale makes the daemon's own policy for CPU on the vertical axis.
func NewEffiScale(step time.Duration, class knowledge.Class) Policy {
	return resized{sizer: &recommended{plan.RiskOf(class), plan.NewRecommender(step), 0}}
}

func (p *recommended) size(s *Seen) float64 {
	p.by.Observe(s.Demand, s.Censored)
	if r, ok := p.by.Recommend(p.risk); ok {
		p.said = r.Limit
	}
	return p.said
}
