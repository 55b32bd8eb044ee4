package mape

import (
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape/forecast"
	"github.com/effiscale/effiscale/mape/plan"
)

const (
	// movesFrom is the demand in cores from which on a service is forecast: less is
	// under the floor that every container has.
	movesFrom = 0.05
	// stillFor is how long a service may stay under that before its forecasts are
	// given up.
	stillFor = 24 * time.Hour
	// foresightsMost bounds the services that are forecast: at 110 KB in memory and
	// 64 KB on the disk each, 7 MB and 4 MB.
	foresightsMost = 64
	// foreseeBudget is how long one pass tells forecasters what came. One takes
	// 15 µs, and 4 ms when it looks for a period: then the others wait for the next
	// passes, so that none comes late.
	foreseeBudget = 5 * time.Millisecond
	// coarseSpan is the step of the forecaster that sees days.
	coarseSpan = 5 * time.Minute
	// floorAhead is the horizon of the forecast that raises floors.
	floorAhead = 5 * time.Minute
	// longestGap bounds what a forecaster is told to skip.
	longestGap = 7 * 24 * time.Hour
)

// levels are the coverages of the upper bounds, one for each risk that a class takes.
var levels = [...]float64{0.8, 0.95, 0.99}

// interval is the highest second of demand of a service's busiest container since
// the last deliberation.
type interval struct {
	seen     bool
	cores    float64
	censored bool            // it was throttled: its demand is a lower bound
	memory   knowledge.Bytes // the largest working set
}

func (i *interval) add(cores float64, censored bool) {
	if !i.seen || cores > i.cores {
		i.seen, i.cores, i.censored = true, cores, censored
	}
}

// foresight is what is expected of one service: a fine forecaster in steps of the
// deliberation, which sees minutes, and a coarse one over the highest of each five
// minutes, which sees hours and days.
type foresight struct {
	insight
	step         time.Duration
	fine, coarse *forecast.Model
	at           time.Time // up to where it was told
	last         interval
	high         interval  // of the running step of coarse
	held         int       // steps in it
	moved        time.Time // when demand last was movesFrom, or memory moved
	movedTo      knowledge.Bytes
	wroteAt      time.Time
	dirty        bool
	// advisor sizes the busiest container for what came, forecast or not.
	advisor *plan.Recommender
	// ahead is what is expected over floorAhead, by level, and advice what the
	// advisor says, by risk, both as of at.
	ahead  [len(levels)]Outlook
	advice [plan.RiskHigh + 1]plan.Advice
}

// perCoarse is how many steps a step of the coarse forecaster has.
func perCoarse(step time.Duration) int { return max(int(coarseSpan/step), 1) }

// fineAhead and coarseAhead are the horizons in time, ascending; those of the
// coarse one are the last three.
func fineAhead(step time.Duration) []time.Duration {
	return ahead(step, 10*time.Second, time.Minute, floorAhead)
}

func coarseAhead(step time.Duration) []time.Duration {
	return ahead(step*time.Duration(perCoarse(step)), coarseSpan, time.Hour)
}

// ahead rounds spans up to whole steps and leaves out what is there already.
func ahead(step time.Duration, spans ...time.Duration) (out []time.Duration) {
	for _, s := range spans {
		s = (s + step - 1) / step * step
		if len(out) == 0 || s > out[len(out)-1] {
			out = append(out, s)
		}
	}
	return out
}

func model(step time.Duration, spans []time.Duration) *forecast.Model {
	c := forecast.Config{Step: step, Levels: levels[:]}
	for _, s := range spans {
		c.Horizons = append(c.Horizons, int(s/step))
	}
	return forecast.New(c)
}

func newForesight(now time.Time, step time.Duration) *foresight {
	return &foresight{
		step: step, at: now, moved: now,
		fine:   model(step, fineAhead(step)),
		coarse: model(step*time.Duration(perCoarse(step)), coarseAhead(step)),

		advisor: plan.NewRecommender(step),
	}
}

// foresee tells each service's forecasters what came, and asks what is next.
// Services that never moved have none. What does not fit into this pass is done in
// the next ones.
func (l *Loop) foresee(now time.Time) {
	l.unseen = l.unseen[:0]
	for _, s := range l.services {
		if s.live > 0 {
			l.unseen = append(l.unseen, s)
		}
	}
	l.foreseeMore(now)
}

// foreseeMore goes on with the services that the deliberation left.
func (l *Loop) foreseeMore(now time.Time) {
	began := l.o.Now()
	for len(l.unseen) > 0 {
		last := len(l.unseen) - 1
		s := l.unseen[last]
		l.unseen = l.unseen[:last]
		l.foreseeOne(now, s)
		if s.foresight != nil && l.o.Now().Sub(began) > foreseeBudget {
			return
		}
	}
}

func (l *Loop) foreseeOne(now time.Time, s *service) {
	step, f := l.set.DeliberateEvery, s.foresight
	switch {
	case f == nil && s.moves() && l.foresights < foresightsMost,
		f != nil && f.step != step: // another setting: it begins anew
		if f == nil {
			l.foresights++
		}
		f = newForesight(now.Add(-step), step)
		f.wroteAt = now.Add(-spread(s.key, modelsApart))
		s.foresight = f
	case f != nil && now.Sub(f.moved) >= stillFor:
		s.foresight, f = nil, nil
		l.foresights--
	}
	if f == nil || f.observe(now, s.interval) {
		s.interval = interval{}
	}
}

// moves reports whether a service of which nothing is forecast should be.
func (s *service) moves() bool {
	if s.interval.seen && (s.leastMemory == 0 || s.interval.memory < s.leastMemory) {
		s.leastMemory = s.interval.memory
	}
	return s.interval.cores >= movesFrom || s.interval.memory-s.leastMemory >= memoryMoves
}

// observe takes in the step that ends now, and false when it does not end yet. An
// interval in which nothing was read is like the one before: idle containers are
// read less often.
func (f *foresight) observe(now time.Time, in interval) bool {
	passed := now.Sub(f.at)
	if passed < 0 || passed > longestGap { // the clock was set, or it was long ago
		f.at = now.Add(-f.step)
		passed = f.step
	}
	steps := int((passed + f.step/10) / f.step)
	if steps < 1 {
		return false
	}
	f.at = f.at.Add(time.Duration(steps) * f.step)
	if !in.seen {
		in = f.last
	}
	if grown := in.memory - f.movedTo; in.cores >= movesFrom || max(grown, -grown) >= memoryMoves {
		f.moved, f.movedTo = now, in.memory
	}
	f.last = in
	if steps > 1 {
		f.fine.Gap(steps - 1)
	}
	f.fine.Observe(in.cores, in.censored)
	f.advisor.Observe(in.cores, in.censored)
	f.high.add(in.cores, in.censored)
	if f.held += steps; f.held >= perCoarse(f.step) {
		if gap := f.held/perCoarse(f.step) - 1; gap > 0 {
			f.coarse.Gap(gap)
		}
		f.coarse.Observe(f.high.cores, f.high.censored)
		f.high, f.held = interval{}, f.held%perCoarse(f.step)
	}
	f.insight.observe(in, time.Duration(steps)*f.step)
	f.insight.look(f.fine, f.coarse)
	f.dirty = true
	f.look()
	return true
}

// look keeps what is expected over floorAhead, what is advised and what hurts.
func (f *foresight) look() {
	for risk := range f.advice {
		f.advice[risk] = f.advisor.Advise(plan.Risk(risk))
	}
	f.lesson = f.adaptive.Judge()
	f.ahead = [len(levels)]Outlook{}
	if !f.fine.Ready() {
		return
	}
	spans := fineAhead(f.step)
	h := len(spans) - 1
	score := f.fine.Score(h)
	for i := range f.ahead {
		f.ahead[i] = outlook(f.fine, h, i, f.step, score)
		f.ahead[i].Horizon = spans[h]
	}
}

// levelOf is the index of a class's level.
func levelOf(c knowledge.Class) int {
	for i, l := range levels {
		if l == plan.ForecastLevel(c) {
			return i
		}
	}
	return len(levels) - 1
}

// Outlook is what is expected of a service's CPU demand over one horizon, in cores.
type Outlook struct {
	plan.Forecast
	Value  float64       // at the end of the horizon
	Peak   float64       // the highest second within it
	Member string        // the method that does best
	Period time.Duration // 0: none was found
}

// outlook reads one horizon off a model.
func outlook(m *forecast.Model, h, level int, step time.Duration, score forecast.Score) Outlook {
	o := Outlook{Value: m.Value(h), Peak: m.Peak(h), Member: score.Best}
	o.Upper, o.Level, o.Coverage = knowledge.FromCores(m.Upper(h, level)), levels[level], score.Coverage[level]
	o.ScoredFor, o.Trusted = time.Duration(score.Count)*step, score.Trusted
	if score.SameAsNow > 0 {
		o.Gain = 1 - score.Error/score.SameAsNow
	}
	if p, found := m.Period(); found {
		o.Period = p.Length
	}
	return o
}

// outlooks are all that is expected of a container's service, nearest first.
func (c *container) outlooks() (out []Outlook) {
	f := c.service.foresight
	if f == nil {
		return nil
	}
	level := levelOf(c.Policy.Class)
	add := func(m *forecast.Model, spans []time.Duration, step time.Duration) {
		if !m.Ready() {
			return
		}
		for h, span := range spans {
			if len(out) > 0 && span <= out[len(out)-1].Horizon {
				continue // the fine one knows that better
			}
			o := outlook(m, h, level, step, m.Score(h))
			o.Horizon = span
			out = append(out, o)
		}
	}
	add(f.fine, fineAhead(f.step), f.step)
	add(f.coarse, coarseAhead(f.step), f.step*time.Duration(perCoarse(f.step)))
	return out
}
