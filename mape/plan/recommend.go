package plan

import (
	"math"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// Recommender sizes one signal of a service on the slow clock: the size of a resource
// for the next step. It is an ensemble of small models, as in Google's Autopilot
// (EuroSys'20, section 3.2.2): each model is a simple statistic of the past and a
// margin, each is charged for its waste and for the demand that it would have left
// unserved, and the cheapest ones decide.
//
// Unlike there the margin of a model is not fixed: for each model the costs are kept
// for a ladder of margins, so that its waste can be read off at equal shortage.
// Models are compared at the shares of demand that may stay unserved (shortages), and
// their predictions are mixed by how close they come to the best one.
//
// A Recommender has a fixed size of about 7 KB, allocates nothing after New, and
// belongs to one goroutine. The unit is the caller's: cores, requests, bytes.
type Recommender struct {
	step    time.Duration
	fade    float64 // factor by which the weight of a new observation grows
	weight  float64 // of the next observation
	demand  float64 // sum of weighted demand
	seen    uint64  // observations
	signal  signal
	charged [models]ladder
}

// ladder is what one model would have cost at each margin: weighted sums of
// over- and under-provision in the signal's unit.
type ladder struct{ over, under [margins]float32 }

const (
	// margins is the number of rungs.
	margins = 24

	// The share of the best models: one whose waste is 14 % above the best one's at
	// each shortage counts 1/e of it. wasteGrain keeps a waste of next to nothing
	// from making all others worthless: 0.5 % of demand.
	shareTemper = 0.13
	wasteGrain  = 0.005

	// scoreFades is the half-life of the costs.
	scoreFades = 14 * 24 * time.Hour
	// rebaseAt is the weight at which all sums are scaled back.
	rebaseAt = 1 << 20

	// returns is the chance in each step, beyond the observed ones, that demand returns to
	// the 90th percentile of its day at once. A service that became idle for the first
	// time has no history of returning: 1 in 1000 steps keeps models that forget in
	// minutes from looking cheap until it has.
	returns = 0.001

	// A change of an envelope costs something, and is not made for less than it saves:
	// upBand and downBand are the shares of what an advice wastes anyhow by which
	// another may differ, within bounds of demand. Where demand is noise a band of a
	// few percent saves half of the changes; where it is nearly known it would cost
	// half as much again as is wasted.
	wasteMost                     = 1000.0
	upBand, upLeast, upMost       = 0.1, 0.01, 0.02
	downBand, downLeast, downMost = 0.5, 0.03, 0.1
	// adviceStands is how long an envelope is in force before an advice lowers it: on
	// steps of seconds noise would be followed up and down.
	adviceStands = 30 * time.Second

	// holdSteps and holdFor: as long as little is known nothing goes under the
	// highest value seen. That ends after 480 steps or an hour, whichever is
	// sooner, and fades over as long again: 16 minutes at steps of 2 s, an hour
	// from steps of 7.5 s on.
	holdSteps = 480
	holdFor   = time.Hour
)

// rung are the margins of the ladder: close together around 1, where most of the
// answers lie and 4 % is a third of a good model's waste, and wide beyond.
var rung = [margins]float64{
	0.5, 0.6, 0.7, 0.8, 0.86, 0.92, 0.96, 1, 1.04, 1.08, 1.13, 1.18,
	1.25, 1.33, 1.42, 1.55, 1.75, 2, 2.4, 3, 4, 6, 10, 20,
}

// shortages are the shares of demand left unserved at which models are compared.
// An answer takes its margins at one of them.
var shortages = [...]float64{0.0015, 0.005, 0.015}

// Risk is the share of demand that may stay unserved, as an index of shortages:
// from careful to cheap.
type Risk int

// The risks: 0.15 %, 0.5 % and 1.5 % of demand.
const (
	RiskLow Risk = iota
	RiskNormal
	RiskHigh
)

// RiskOf is the risk that a class of work takes.
func RiskOf(c knowledge.Class) Risk {
	switch c {
	case knowledge.ClassLatency:
		return RiskLow
	case knowledge.ClassBatch:
		return RiskHigh
	}
	return RiskNormal
}

// Share is the share of demand that may stay unserved.
func (r Risk) Share() float64 { return shortages[r.index()] }

func (r Risk) index() int { return min(max(int(r), 0), len(shortages)-1) }

// Advice is a recommendation for CPU, as an envelope takes it. The zero value:
// there is none.
type Advice struct {
	CPU    knowledge.NanoCPU
	Risk   Risk
	Model  string
	Margin float64
	Seen   time.Duration
	// Waste is the expected unused part, as a share of demand: wasteMost at most.
	Waste float64
}

// Advise is the recommendation for a service's CPU at a risk.
func (r *Recommender) Advise(risk Risk) Advice {
	rec, ok := r.Recommend(risk)
	if !ok {
		return Advice{}
	}
	return Advice{CPU: knowledge.FromCores(rec.Limit), Risk: risk, Model: rec.Model, Margin: rec.Margin, Seen: rec.Seen,
		Waste: min(rec.Waste, wasteMost)}
}

// floor is the learned CPU floor: the advice where the policy leaves it to that
// and it was watched for long enough, else a percentile of past use.
func (f *Facts) floor(p *knowledge.Policy) (knowledge.NanoCPU, knowledge.Reason) {
	if a := &f.Advice; p.CPUPercentile == 0 && a.CPU > 0 && a.Seen >= learnAfter {
		why := knowledge.Because(knowledge.RuleAdvice, a.CPU.Cores(), a.Margin, a.Risk.Share())
		why.Note = a.Model
		return a.CPU, why
	}
	return f.CPU, knowledge.Because(knowledge.RuleProfile, p.Percentile(), f.CPU.Cores())
}

// NewRecommender makes one for observations that come every step, a second to an
// hour.
func NewRecommender(step time.Duration) *Recommender {
	step = min(max(step, time.Second), time.Hour)
	r := &Recommender{step: step, weight: 1, fade: math.Exp2(step.Seconds() / scoreFades.Seconds())}
	r.signal.shape(step)
	return r
}

// Step is the time between observations.
func (r *Recommender) Step() time.Duration { return r.step }

// Seen is how long it has been observed.
func (r *Recommender) Seen() time.Duration {
	return time.Duration(min(r.seen, uint64(math.MaxInt64/int64(r.step)))) * r.step
}

// Observe takes the next step's demand, in the signal's unit. A censored one is a
// lower bound, because the limit throttled: it raises the expectation and never
// lowers it. It ignores values that are not finite numbers from 0 up.
func (r *Recommender) Observe(demand float64, censored bool) {
	if !(demand >= 0) || demand > maxSignal {
		return
	}
	if censored && r.seen > 0 {
		demand = max(demand, r.signal.usual())
	}
	if r.seen > 0 {
		r.charge(demand)
	}
	r.seen++
	r.signal.add(demand)
}

// maxSignal bounds valid values: more bytes than any machine has. leastDemand is a
// sum of demand to which nothing can be compared: each observation adds at least
// returns * levelLeast.
const maxSignal, leastDemand = float64(knowledge.MaxBytes), 1e-15

// charge adds the cost of every model's prediction for this demand.
func (r *Recommender) charge(demand float64) {
	predicted := r.signal.predict()
	back := r.signal.high()
	w, maybe := r.weight, r.weight*returns
	for j := range r.charged {
		l := &r.charged[j]
		for m, k := range rung {
			prediction := predicted[j] * k
			if over := prediction - demand; over > 0 {
				l.over[m] += float32(w * over)
			} else {
				l.under[m] -= float32(w * over)
			}
			if short := back - prediction; short > 0 {
				l.under[m] += float32(maybe * short)
			}
		}
	}
	r.demand += w*demand + maybe*back
	if r.weight *= r.fade; r.weight > rebaseAt {
		r.rebase()
	}
}

func (r *Recommender) rebase() {
	by := 1 / r.weight
	for j := range r.charged {
		l := &r.charged[j]
		for m := range margins {
			l.over[m] *= float32(by)
			l.under[m] *= float32(by)
		}
	}
	r.demand *= by
	r.weight = 1
}

// Recommendation is a Recommender's size for the next step.
type Recommendation struct {
	// Limit is how much should be there, in the signal's unit.
	Limit float64
	// Model is the statistic with the greatest share in it, Margin the factor on
	// top of it.
	Model  string
	Margin float64
	// Waste is what such limits left over, as a share of demand.
	Waste float64
	// Seen is how long the signal was observed; Held: the highest value seen
	// decides, because that is not long enough.
	Seen time.Duration
	Held bool
}

// Recommend is the size for the next step with a shortage of risk's share of demand.
// It reports false until there was an observation.
func (r *Recommender) Recommend(risk Risk) (Recommendation, bool) {
	if r.seen == 0 {
		return Recommendation{}, false
	}
	var dear, margin, wastes [models]float64
	for q, shortage := range shortages {
		var waste [models]float64
		least := math.Inf(1)
		for j := range r.charged {
			k, over := r.charged[j].at(shortage*r.demand, r.demand)
			if waste[j] = over; q == risk.index() {
				margin[j], wastes[j] = k, over
			}
			least = min(least, over)
		}
		for j := range dear {
			dear[j] += math.Log((waste[j] + wasteGrain) / (least + wasteGrain))
		}
	}
	return r.mix(&dear, &margin, &wastes), true
}

// mix takes the models' answers together, each by how little dearer than the
// best it is.
func (r *Recommender) mix(dear, margin, wastes *[models]float64) Recommendation {
	least := math.Inf(1)
	best := 0
	for j, d := range dear {
		if d < least {
			least, best = d, j
		}
	}
	predicted := r.signal.predict()
	var sum, limit, waste float64
	for j, d := range dear {
		share := math.Exp((least - d) / (shareTemper * float64(len(shortages))))
		sum += share
		limit += share * margin[j] * predicted[j]
		waste += share * wastes[j]
	}
	out := Recommendation{Limit: limit / sum, Model: modelNames[best], Margin: margin[best], Waste: waste / sum,
		Seen: r.Seen()}
	if held := r.signal.top * r.holds(); held > out.Limit {
		out.Limit, out.Held = held, true
	}
	return out
}

// holds is the share of the highest value seen that must be there while little
// is known: 1 at first, 0 in the end.
func (r *Recommender) holds() float64 {
	span := min(holdFor.Seconds(), holdSteps*r.step.Seconds())
	return min(max(2-float64(r.seen)*r.step.Seconds()/span, 0), 1)
}

// at is the margin at which a model would have left short unserved, and its waste at
// it, as a share of demand. A model that leaves more at its highest margin pays for
// that.
func (l *ladder) at(short, demand float64) (margin, waste float64) {
	if demand < leastDemand {
		return 1, 0
	}
	m := 0
	for m < margins && float64(l.under[m]) > short {
		m++
	}
	switch m {
	case 0:
		return rung[0], float64(l.over[0]) / demand
	case margins:
		const unserved = 300 // what a share of demand costs that no margin serves
		top := float64(l.under[margins-1])
		return rung[margins-1], (float64(l.over[margins-1]) + unserved*(top-short)) / demand
	}
	above, below := float64(l.under[m-1]), float64(l.under[m])
	f := 1.0
	if above > below {
		f = (above - short) / (above - below)
	}
	over := float64(l.over[m-1]) + f*float64(l.over[m]-l.over[m-1])
	return rung[m-1] + f*(rung[m]-rung[m-1]), over / demand
}
