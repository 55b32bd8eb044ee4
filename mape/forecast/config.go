package forecast

import (
	"fmt"
	"slices"
	"time"
)

// Bounds of a Config: each horizon costs memory and time.
const (
	maxHorizons = 8
	maxLevels   = 8
	// maxHorizon in steps: a day of 10-s steps.
	maxHorizon = 8640
)

// Config is what a Model forecasts.
type Config struct {
	// Step is the distance of two observations.
	Step time.Duration
	// Horizons are the distances of forecasts, in steps, ascending.
	Horizons []int
	// Levels are the coverage targets of the upper bounds, between 0 and 1,
	// ascending: .8 is exceeded once in five times.
	Levels []float64
}

// Validate is an error for a Config out of bounds.
func (c Config) Validate() error {
	if c.Step <= 0 {
		return fmt.Errorf("cannot forecast in steps of %v: need more than 0", c.Step)
	}
	if len(c.Horizons) == 0 || len(c.Horizons) > maxHorizons {
		return fmt.Errorf("cannot forecast over %d horizons: need 1 to %d", len(c.Horizons), maxHorizons)
	}
	if len(c.Levels) == 0 || len(c.Levels) > maxLevels {
		return fmt.Errorf("cannot bound at %d levels: need 1 to %d", len(c.Levels), maxLevels)
	}
	if !slices.IsSorted(c.Horizons) || c.Horizons[0] < 1 || c.Horizons[len(c.Horizons)-1] > maxHorizon {
		return fmt.Errorf("cannot forecast over the horizons %v: need 1 to %d steps, ascending", c.Horizons, maxHorizon)
	}
	for i, l := range c.Levels {
		if !(l > 0 && l < 1) || i > 0 && l < c.Levels[i-1] {
			return fmt.Errorf("cannot bound at the levels %v: need numbers between 0 and 1, ascending", c.Levels)
		}
	}
	return nil
}

// Period is a cycle that was found in the signal.
type Period struct {
	Length time.Duration
	// Steps is Length in steps of the model.
	Steps int
	// Strength is the autocorrelation at that distance, 0..1.
	Strength float64
}

// Score is how well the forecasts for one horizon came true, over about the last
// thousand of them.
type Score struct {
	// Coverage is the share of bounds that held, for each level.
	Coverage []float64
	// Error is the mean distance of Value from the truth, SameAsNow that of
	// "what is now will be then"; both in the unit of the signal.
	Error, SameAsNow float64
	// Count is how many forecasts were compared with the truth.
	Count int
	// Best is the member of the ensemble with the smallest recent error.
	Best string
	// Trusted: enough were compared, Error is no larger than SameAsNow, and no
	// coverage is off by more than 3 points.
	Trusted bool
}
