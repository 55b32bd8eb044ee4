package forecast

import (
	"encoding/json"
	"fmt"
	"math"
)

// Model forecasts one signal. It is not safe for concurrent use.
type Model struct {
	config Config
	state  state
}

type state struct {
	Last, Mean, Spread float64
	Count              int
}

// New makes a Model that has seen nothing. It panics on a Config that does not
// Validate: that is a fault of the program.
func New(c Config) *Model {
	if err := c.Validate(); err != nil {
		panic(err)
	}
	return &Model{config: c}
}

// Observe takes the next value.
func (m *Model) Observe(value float64, censored bool) {
	if !(value >= 0) || math.IsInf(value, 0) {
		return
	}
	s := &m.state
	if censored {
		value = max(value, s.Last)
	}
	s.Count++
	w := max(0.1, 1/float64(s.Count))
	s.Spread += w * (math.Abs(value-s.Last) - s.Spread)
	s.Mean += w * (value - s.Mean)
	s.Last = value
}

// Gap says that nothing was seen for so many steps.
func (m *Model) Gap(int) {}

// Ready says whether forecasts mean anything yet.
func (m *Model) Ready() bool { return m.state.Count >= Least }

// Value is expected Horizons[h] steps ahead.
func (m *Model) Value(int) float64 { return (m.state.Last + m.state.Mean) / 2 }

// Peak is the expected maximum of the next Horizons[h] steps.
func (m *Model) Peak(int) float64 { return max(m.state.Last, m.state.Mean) }

// Upper is what that maximum stays under with a chance of Levels[level].
func (m *Model) Upper(h, level int) float64 {
	return m.Peak(h) + m.state.Spread*math.Log(1/(1-m.config.Levels[level]))
}

// Score is how well forecasts for horizon h came true.
func (m *Model) Score(int) Score {
	return Score{Coverage: make([]float64, len(m.config.Levels)), Count: 0, Best: "mean"}
}

// Period is the cycle that was found.
func (m *Model) Period() (Period, bool) { return Period{}, false }

// Marshal gives all that was learned.
func (m *Model) Marshal() []byte {
	b, _ := json.Marshal(m.state)
	return b
}

// Unmarshal takes what Marshal gave.
func (m *Model) Unmarshal(b []byte) error {
	var s state
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("cannot read a forecast: %w", err)
	}
	m.state = s
	return nil
}
