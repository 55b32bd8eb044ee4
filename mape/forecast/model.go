package forecast

import (
	"math"
	"time"
)

const (
	// warmUp is how many values a forecast needs, trustAfter how many comparisons
	// trust does.
	warmUp, trustAfter = 32, 100
	// coverageSlack is how far a coverage may be off its level (3 points).
	coverageSlack = 0.03
	// maxValue is a thousand times what anything comes to: 1024 TiB, in bytes.
	maxValue = 1e18
	// A period is searched for each time that a quarter more was seen, and at least
	// once in a whole history: 4096 bins of the coarse one, 1024 steps of the fine one.
	searchGrowth, searchFirst = 4, 32
)

// Model forecasts one signal, evenly spaced and never negative. One value costs
// half a microsecond to one for each horizon and no allocation; the search for a period,
// some milliseconds, runs each time that a quarter more was seen and then once in a
// whole history. It is not safe for concurrent use.
type Model struct {
	config   Config
	signal   signal
	season   seasonality
	horizons []horizon
	// fineNext and coarseNext are the sizes of the histories at the next search.
	fineNext, coarseNext int
}

// New makes a Model that has seen nothing. It panics on a Config that does not
// Validate: that is a fault of the program.
func New(c Config) *Model {
	if err := c.Validate(); err != nil {
		panic(err)
	}
	m := &Model{config: c, fineNext: searchFirst, coarseNext: searchFirst}
	m.signal = newSignal(2 * c.Horizons[len(c.Horizons)-1])
	m.season.coarse = bins{width: max(1, int(coarseBin/c.Step)), mean: make([]float32, coarseBins)}
	if m.season.coarse.width > 1 {
		m.season.fine = bins{width: 1, mean: make([]float32, fineBins)}
	}
	for _, steps := range c.Horizons {
		m.horizons = append(m.horizons, newHorizon(steps, c.Levels))
	}
	return m
}

// Observe takes the next value. A censored one is a lower bound: it never lowers a
// forecast, and may raise it. A value that is negative, not a number or beyond 1e18
// counts as missing.
func (m *Model) Observe(value float64, censored bool) {
	if !(value >= 0) || value > maxValue {
		m.Gap(1)
		return
	}
	s := &m.signal
	if censored && s.seen > 0 {
		value = max(value, s.last, m.Value(0))
	}
	m.push(value, true)
	for i := range m.horizons {
		h := &m.horizons[i]
		if censored {
			h.blindPending()
		}
		h.judge(s)
		before := h.now
		h.issue(view{s, &m.season})
		if censored {
			h.now.hold(&before)
		}
		h.remember()
	}
}

// hold keeps a forecast from falling below another.
func (f *issued) hold(before *issued) {
	f.predictedValue = max(f.predictedValue, before.predictedValue)
	f.predictedPeak = max(f.predictedPeak, before.predictedPeak)
	for i := range f.upper {
		f.upper[i] = max(f.upper[i], before.upper[i])
	}
}

func (m *Model) push(v float64, seen bool) {
	z := &m.season
	if seen {
		m.signal.observe(v)
	} else {
		m.signal.push(v)
	}
	if z.fine.width > 0 {
		z.fine.push(v)
	}
	z.coarse.push(v)
	if z.coarse.done >= m.coarseNext && z.coarse.part == 0 {
		m.coarseNext = next(&z.coarse)
		m.search(&z.coarse, true)
	}
	if z.fine.done >= m.fineNext {
		m.fineNext = next(&z.fine)
		m.search(&z.fine, false)
	}
}

// next is how long a history will be at its next search.
func next(b *bins) int { return b.done + max(searchFirst, min(b.done/searchGrowth, len(b.mean))) }

// search finds a period. One that was found in the other history stays, unless this
// one is stronger.
func (m *Model) search(b *bins, coarse bool) {
	z := &m.season
	c := findCycle(b.history(), z.known(coarse))
	if z.inCoarse == coarse || c.strength > z.cycle.strength {
		z.cycle, z.inCoarse = c, coarse
	}
}

// Gap skips steps without a value: forecasts for them are not scored, and the last
// value is repeated.
func (m *Model) Gap(steps int) {
	if steps <= 0 || m.signal.seen == 0 {
		return
	}
	for i := range m.horizons {
		m.horizons[i].forgetPending()
	}
	for range min(steps, m.season.coarse.width*coarseBins) { // the whole memory
		m.push(m.signal.last, false)
	}
}

// Ready reports whether forecasts are meaningful yet.
func (m *Model) Ready() bool { return m.signal.seen >= warmUp }

// Value is expected Horizons[h] steps ahead, in the unit of the signal.
func (m *Model) Value(h int) float64 { return m.horizons[h].now.predictedValue }

// Peak is the expected maximum of the next Horizons[h] steps.
func (m *Model) Peak(h int) float64 {
	f := &m.horizons[h].now
	return max(f.predictedPeak, f.predictedValue)
}

// Upper is what that maximum stays under with a chance of Levels[level]. It rises
// with the level.
func (m *Model) Upper(h, level int) float64 { return m.horizons[h].now.upper[level] }

// Score is how well forecasts for Horizons[h] came true.
func (m *Model) Score(h int) Score {
	z := &m.horizons[h]
	s := Score{
		Coverage: append([]float64(nil), z.bound.cover[:len(z.bound.levels)]...),
		Error:    z.errors, SameAsNow: z.same, Count: z.count,
		Best: memberName(z.value.best(valueVoters)),
	}
	s.Trusted = z.count >= trustAfter && z.errors <= z.same && z.bound.honest(coverageSlack)
	return s
}

// Period is the cycle that was found, if one was.
func (m *Model) Period() (Period, bool) {
	z := &m.season
	if z.cycle.bins == 0 {
		return Period{}, false
	}
	steps := z.cycle.bins * z.bins().width
	return Period{Length: time.Duration(steps) * m.config.Step, Steps: steps,
		Strength: math.Max(0, z.cycle.strength)}, true
}
