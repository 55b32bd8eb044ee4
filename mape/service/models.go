package service

import (
	"math"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/knowledge/history"
	"github.com/effiscale/effiscale/mape/analyse"
	"github.com/effiscale/effiscale/mape/forecast"
	"github.com/effiscale/effiscale/mape/plan"
)

const (
	// coarseStep is the step of the forecaster that sees days.
	coarseStep = 5 * time.Minute
	// floorHorizon is the horizon of the forecast that raises floors.
	floorHorizon = 5 * time.Minute
	// longestGap bounds what a forecaster skips.
	longestGap = 7 * 24 * time.Hour
	// patternStep is the step of the values that a pattern is read from.
	patternStep = time.Minute
	// movingCores is the demand from which on a service is forecast: less is under
	// the floor that every container has.
	movingCores = 0.05
	// movingMemory is the change of a working set from which on a service is forecast:
	// a leak may use no CPU.
	movingMemory = 16 * knowledge.MiB
	// idleFor is how long a service may stay under both before its models are dropped.
	idleFor = 24 * time.Hour
)

// levels are the coverages of the upper bounds, one for each risk that a class takes.
var levels = [...]float64{0.8, 0.95, 0.99}

// levelOf is the index of a class's level.
func levelOf(c knowledge.Class) int {
	for i, l := range levels {
		if l == plan.ForecastLevel(c) {
			return i
		}
	}
	return len(levels) - 1
}

// Models are what was learned of the course of one service: a fine forecaster in
// steps of the deliberation, which sees minutes, a coarse one over the highest of each
// five minutes, which sees hours and days, the names of the courses, and the use from
// which on the service is harmed.
type Models struct {
	// Adaptive learns at which use of its limit the service is harmed.
	Adaptive analyse.Adaptive
	// Lesson is the conclusion of Adaptive, Ahead what is expected over floorHorizon by level,
	// and Advice the advisor's answer by risk, all as of the last step.
	Lesson analyse.Lesson
	Ahead  [len(levels)]Outlook
	Advice [plan.RiskHigh + 1]plan.Advice
	// Last is the demand of the last step.
	Last Demand

	step         time.Duration
	at           time.Time // the end of the last step
	fine, coarse *forecast.Model
	// coarseDemand is the highest of the running step of coarse, coarseSteps how many
	// steps are in it.
	coarseDemand Demand
	coarseSteps  int
	// advisor sizes the busiest container for its demand, forecast or not.
	advisor *plan.Recommender
	tracker analyse.Tracker
	// minute is the highest of the running step of tracker, minuteSpan its length.
	minute     Demand
	minuteSpan time.Duration

	movedAt     time.Time // when demand last was movingCores, or memory moved
	movedMemory knowledge.Bytes
	writtenAt   time.Time
	dirty       bool
}

// newModels makes models that have seen nothing.
func newModels(now time.Time, step time.Duration) *Models {
	return &Models{
		step: step, at: now, movedAt: now,
		fine:    newForecaster(step, fineHorizons(step)),
		coarse:  newForecaster(step*time.Duration(stepsPerCoarse(step)), coarseHorizons(step)),
		advisor: plan.NewRecommender(step),
	}
}

func newForecaster(step time.Duration, horizons []time.Duration) *forecast.Model {
	c := forecast.Config{Step: step, Levels: levels[:]}
	for _, h := range horizons {
		c.Horizons = append(c.Horizons, int(h/step))
	}
	return forecast.New(c)
}

func stepsPerCoarse(step time.Duration) int { return max(int(coarseStep/step), 1) }

// fineHorizons and coarseHorizons ascend; those of the coarse forecaster come last.
func fineHorizons(step time.Duration) []time.Duration {
	return wholeSteps(step, 10*time.Second, time.Minute, floorHorizon)
}

func coarseHorizons(step time.Duration) []time.Duration {
	return wholeSteps(step*time.Duration(stepsPerCoarse(step)), coarseStep, time.Hour)
}

// wholeSteps rounds horizons up to whole steps and leaves out duplicates.
func wholeSteps(step time.Duration, horizons ...time.Duration) (out []time.Duration) {
	for _, h := range horizons {
		h = (h + step - 1) / step * step
		if len(out) == 0 || h > out[len(out)-1] {
			out = append(out, h)
		}
	}
	return out
}

// observe takes in the step that ends now, and returns false when none ends yet. An
// interval in which nothing was read is like the one before: idle containers are read
// less often.
func (m *Models) observe(now time.Time, d Demand) bool {
	passed := now.Sub(m.at)
	if passed < 0 || passed > longestGap { // the clock was set, or it was long ago
		m.at = now.Add(-m.step)
		passed = m.step
	}
	steps := int((passed + m.step/10) / m.step)
	if steps < 1 {
		return false
	}
	m.at = m.at.Add(time.Duration(steps) * m.step)
	if !d.Seen {
		d = m.Last
	}
	if grown := d.Memory - m.movedMemory; d.Cores >= movingCores || max(grown, -grown) >= movingMemory {
		m.movedAt, m.movedMemory = now, d.Memory
	}
	m.Last = d
	if steps > 1 {
		m.fine.Gap(steps - 1)
	}
	m.fine.Observe(d.Cores, d.Censored)
	m.advisor.Observe(d.Cores, d.Censored)
	m.observeCoarse(d, steps)
	m.observePattern(d, time.Duration(steps)*m.step)
	m.dirty = true
	m.update()
	return true
}

func (m *Models) observeCoarse(d Demand, steps int) {
	m.coarseDemand.add(d.Cores, d.Censored, 0)
	whole := stepsPerCoarse(m.step)
	if m.coarseSteps += steps; m.coarseSteps < whole {
		return
	}
	if gap := m.coarseSteps/whole - 1; gap > 0 {
		m.coarse.Gap(gap)
	}
	m.coarse.Observe(m.coarseDemand.Cores, m.coarseDemand.Censored)
	m.coarseDemand, m.coarseSteps = Demand{}, m.coarseSteps%whole
}

// observePattern takes the demand of a time into the minute, and finds the name of the
// course with the period that a forecaster found.
func (m *Models) observePattern(d Demand, lasted time.Duration) {
	m.minute.add(d.Cores, d.Censored, d.Memory)
	if m.minuteSpan += lasted; m.minuteSpan >= patternStep*95/100 {
		for missed := m.minuteSpan/patternStep - 1; missed > 0 && missed < longestGap/patternStep; missed-- {
			m.tracker.Observe(math.NaN(), math.NaN())
		}
		m.tracker.Observe(m.minute.Cores, float64(m.minute.Memory))
		m.minute, m.minuteSpan = Demand{}, 0
	}
	var period forecast.Period
	for _, model := range [...]*forecast.Model{m.fine, m.coarse} {
		if p, found := model.Period(); found && p.Strength > period.Strength {
			period = p
		}
	}
	m.tracker.Look(patternStep, period.Length, period.Strength)
}

// recall fills the tracker with what is on record of the hours before a restart.
func (m *Models) recall(minutes []history.Bucket, now time.Time) {
	last := time.Time{}
	skipTo := func(at time.Time) {
		for gap := at.Sub(last)/patternStep - 1; !last.IsZero() && gap > 0 && gap <= analyse.MaxPoints; gap-- {
			m.tracker.Observe(math.NaN(), math.NaN())
		}
		last = at
	}
	for _, b := range minutes {
		if now.Sub(b.At) > patternStep*analyse.MaxPoints || !b.At.After(last) {
			continue
		}
		skipTo(b.At)
		m.tracker.Observe(b.MaxDemand, float64(b.WorkingSet))
	}
	skipTo(now)
}

// update keeps what is expected over floorHorizon, what is advised and what does harm.
func (m *Models) update() {
	for risk := range m.Advice {
		m.Advice[risk] = m.advisor.Advise(plan.Risk(risk))
	}
	m.Lesson = m.Adaptive.Judge()
	m.Ahead = [len(levels)]Outlook{}
	if !m.fine.Ready() {
		return
	}
	horizons := fineHorizons(m.step)
	h := len(horizons) - 1
	score := m.fine.Score(h)
	for level := range m.Ahead {
		m.Ahead[level] = outlook(m.fine, h, level, m.step, score)
		m.Ahead[level].Horizon = horizons[h]
	}
}

// Outlook is what is expected of a service's CPU demand over one horizon, in cores.
type Outlook struct {
	plan.Forecast
	Value  float64       // at the end of the horizon
	Peak   float64       // the highest second within it
	Member string        // the method that does best
	Period time.Duration // 0: none was found
}

// outlook reads one horizon off a forecaster.
func outlook(f *forecast.Model, h, level int, step time.Duration, score forecast.Score) Outlook {
	o := Outlook{Value: f.Value(h), Peak: f.Peak(h), Member: score.Best}
	o.Upper, o.Level = knowledge.FromCores(f.Upper(h, level)), levels[level]
	o.Coverage, o.ScoredFor, o.Trusted = score.Coverage[level], time.Duration(score.Count)*step, score.Trusted
	if score.SameAsNow > 0 {
		o.Gain = 1 - score.Error/score.SameAsNow
	}
	if p, found := f.Period(); found {
		o.Period = p.Length
	}
	return o
}

// Outlooks are all that is expected under a policy's class, nearest first.
func (s *Service) Outlooks(c knowledge.Class) (out []Outlook) {
	m := s.Models
	if m == nil {
		return nil
	}
	level := levelOf(c)
	add := func(f *forecast.Model, horizons []time.Duration, step time.Duration) {
		if !f.Ready() {
			return
		}
		for h, horizon := range horizons {
			if len(out) > 0 && horizon <= out[len(out)-1].Horizon {
				continue // the fine one knows that better
			}
			o := outlook(f, h, level, step, f.Score(h))
			o.Horizon = horizon
			out = append(out, o)
		}
	}
	add(m.fine, fineHorizons(m.step), m.step)
	add(m.coarse, coarseHorizons(m.step), m.step*time.Duration(stepsPerCoarse(m.step)))
	return out
}
