package analyse

import (
	"math"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

const (
	// LowShare of the knee is where a cut may lead to: 0.6 for a knee of 0.7, so
	// that a demand that moves by a sixth does not undo the cut.
	LowShare = 6.0 / 7
	// TriggerLeast bounds how far uncertainty lowers the trigger.
	TriggerLeast = 0.2
	// kneeNews is the least move of the knee that is worth telling.
	kneeNews = 0.02
	// kneeChanges is how many moves are remembered.
	kneeChanges = 4
	// KneeHarmless is a knee from which on use below the limit does no harm: only a limit
	// that is used up does, and throttling shows that.
	KneeHarmless = KneeMost - kneeNews
	// KneeWatched and KneeHurt are the evidence that a knee needs before it steers: an
	// hour of observation, and as many seconds of harm under KneeMost as the weight of the
	// first guess, so that observation outweighs it. A raised limit ends the evidence: it
	// fades by half a day, and at kneeKept of it, after two days, the lesson has to be
	// learned again.
	KneeWatched = time.Hour
	KneeHurt    = 10 * time.Minute
	kneeKept    = 0.25
)

// Adaptive is the learned threshold of one service, with its last changes. The zero
// value is usable and holds no pointers.
type Adaptive struct {
	Knee Knee
	// below is how far the knee in use is below KneeStart, so that the zero value is
	// KneeStart.
	below   float64
	changes [kneeChanges]Change // newest first
	steers  bool
}

// Lesson is what a service's knee is worth. The zero value: nothing was observed.
type Lesson struct {
	// Knee is the share of the limit from which on use is throttled, KneeLeast to
	// KneeMost.
	Knee float64
	// Watched is how long it was observed, Hurt for how long of that it was throttled at a
	// use under KneeMost; both fade by half a day.
	Watched, Hurt time.Duration
	// Steers: there is, or was of late, evidence enough to act upon it.
	Steers bool
}

// Judge weighs the evidence as of the newest observation, and keeps the result: less
// is needed to go on steering than to begin.
func (a *Adaptive) Judge() Lesson {
	l := Lesson{Knee: KneeStart - a.below}
	l.Watched, l.Hurt = a.Knee.evidence()
	need := 1.0
	if a.steers {
		need = kneeKept
	}
	a.steers = l.Knee < KneeHarmless && l.Watched.Seconds() >= need*KneeWatched.Seconds() &&
		l.Hurt.Seconds() >= need*KneeHurt.Seconds()
	l.Steers = a.steers
	return l
}

// Unused is why the lesson does not steer; the zero Reason: it does.
func (l *Lesson) Unused() knowledge.Reason {
	switch {
	case l.Steers:
		return knowledge.Reason{}
	case l.Watched >= KneeWatched && l.Knee >= KneeHarmless:
		return knowledge.Because(knowledge.RuleKneeHarmless, l.Knee)
	}
	return knowledge.Because(knowledge.RuleKneeYoung, l.Watched.Seconds(), KneeWatched.Seconds(), l.Hurt.Seconds(),
		KneeHurt.Seconds())
}

// Keep restores the result of Judge after a restart.
func (a *Adaptive) Keep(steers bool) { a.steers = steers }

// Change is one move of the knee and the observations that made it.
type Change struct {
	At    time.Time `json:"at"`
	Was   float64   `json:"was"`
	Now   float64   `json:"now"`
	Moved Bucket    `json:"moved"`
}

// Observe counts as Knee.Observe does, and moves the threshold when the knee has
// moved by 2 points.
func (a *Adaptive) Observe(at time.Time, utilisation, harm, seconds float64) {
	a.Knee.Observe(at, utilisation, harm, seconds)
	a.follow(at)
}

// Merge starts from, or adds, what another host or a known image has taught.
func (a *Adaptive) Merge(at time.Time, other *Knee) {
	a.Knee.Merge(other)
	a.follow(at)
}

func (a *Adaptive) follow(at time.Time) {
	was := KneeStart - a.below
	now := a.Knee.At()
	if math.Abs(now-was) < kneeNews {
		return
	}
	a.below = KneeStart - now
	copy(a.changes[1:], a.changes[:kneeChanges-1])
	a.changes[0] = Change{At: at, Was: was, Now: now, Moved: a.Knee.Decisive()}
}

// Thresholds are what holds now.
type Thresholds struct {
	// Knee is the utilisation from which on the service is throttled (ρ_hi); Low (ρ_lo) is
	// the one that a cut may lead to.
	Knee float64 `json:"knee"`
	Low  float64 `json:"low"`
	// Up is the expected utilisation at which growth begins: Knee − Uncertainty.
	Up float64 `json:"up"`
	// Uncertainty is the distance of the forecast's bound from its value, over capacity.
	Uncertainty float64 `json:"uncertainty"`
	// Changes are the last moves of the knee, newest first; a zero At: none.
	Changes [kneeChanges]Change `json:"changes"`
	Reason  knowledge.Reason    `json:"reason"`
}

// Thresholds are those for a capacity, with a forecast whose bound is uncertainty
// above its value, both in cores. The more uncertain the forecast, the lower the
// trigger. An uncertainty that is no number counts as the whole capacity.
func (a *Adaptive) Thresholds(uncertainty, capacity float64) Thresholds {
	t := Thresholds{Knee: KneeStart - a.below, Changes: a.changes, Uncertainty: 1}
	if q := uncertainty / capacity; q >= 0 && q < 1 {
		t.Uncertainty = q
	}
	t.Low = t.Knee * LowShare
	t.Up = max(t.Knee-t.Uncertainty, TriggerLeast)
	t.Reason = knowledge.Because(knowledge.RuleKneeStart, t.Knee)
	if c := a.changes[0]; !c.At.IsZero() {
		t.Reason = knowledge.Because(knowledge.RuleKneeMoved, c.Now, c.Was, c.Moved.Utilisation, c.Moved.Harm)
	}
	return t
}
