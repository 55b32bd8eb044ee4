package analyse

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// PatternKind is the shape of a series.
type PatternKind uint8

// The kinds. PatternUnknown: too little was seen.
const (
	PatternUnknown PatternKind = iota
	PatternSteady
	PatternSpike    // short excursions, at most a few, from a level
	PatternRamp     // a slow move from one level to another
	PatternPeriodic // repeats after Period
	PatternBursty   // varies widely, without an order that is known
	PatternLeak     // memory that only grows, whatever the load
	PatternIdle     // next to nothing
	PatternStep     // a new level that stays
	patternKinds
)

var patternNames = []string{"unknown", "steady", "spike", "ramp", "periodic", "bursty", "leak", "idle", "step"}

// String is the kind's name.
func (k PatternKind) String() string {
	if k < patternKinds {
		return patternNames[k]
	}
	return fmt.Sprintf("unknown(%d)", uint8(k))
}

// MarshalText is the kind's name, in JSON too.
func (k PatternKind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads a kind's name.
func (k *PatternKind) UnmarshalText(b []byte) error {
	i := slices.Index(patternNames, string(b))
	if i < 0 {
		return fmt.Errorf("%q is not a pattern: allowed are %v", b, patternNames)
	}
	*k = PatternKind(i)
	return nil
}

// Pattern is a kind with its evidence.
type Pattern struct {
	Kind       PatternKind      `json:"kind"`
	Confidence float64          `json:"confidence"` // 0..1
	Period     time.Duration    `json:"period,omitempty"`
	Evidence   knowledge.Reason `json:"evidence"`
}

// Series is what a pattern is read from: evenly spaced values, oldest first. The
// newest MaxPoints count. What is negative or not a finite number is a gap.
type Series struct {
	Step   time.Duration
	CPU    []float64 // demand in cores
	Memory []float64 // working set in bytes at the same instants; empty: not known
	// Period and Strength (0..1) are what the forecaster found; 0: none. They are
	// a hint: a period that the values do not show is not believed.
	Period   time.Duration
	Strength float64
}

const (
	// MaxPoints bounds a series: eight and a half hours of minutes.
	MaxPoints = 512
	// MinPoints is how many values a pattern needs: a spike that fills a tenth of
	// them still has four.
	MinPoints = 48
	// maxGaps is the share of a series that may be missing.
	maxGaps = 1.0 / 3
)

func short(n int) Pattern {
	return Pattern{Evidence: knowledge.Because(knowledge.RulePatternShort, float64(n), MinPoints)}
}

// votes is a share for each kind; they sum to 1.
type votes [patternKinds]float64

func (v *votes) best() PatternKind {
	k := PatternUnknown
	for i, share := range v {
		if share > v[k] {
			k = PatternKind(i)
		}
	}
	return k
}

// shade is 0 at from and beyond, 1 at to and beyond, a straight line between.
// from may be above to.
func shade(v, from, to float64) float64 {
	return min(max((v-from)/(to-from), 0), 1)
}

// vote classifies the demand.
//
// It is a decision tree (idle? periodic? a step or a ramp? a spike? bursty?) with
// degrees from 0 to 1: the shares of its leaves sum to 1, the largest one is the
// label and its share the confidence. A small change of the values is a small change
// of the confidence, never a jump.
//
// Each pair of numbers is where a condition begins to hold and where it holds
// entirely.
func (sh *shape) vote(s *Series) votes {
	var v votes
	left := 1.0
	take := func(k PatternKind, share float64) {
		v[k] += left * share
		left *= 1 - share
	}
	idle := IdleCPU.Cores()
	take(PatternIdle, shade(sh.p98/idle, 1.25, 0.8)*shade(sh.top/idle, 6, 3))
	take(PatternPeriodic, sh.periodic(s))

	moved := shade(sh.trend.explained, 0.45, 0.75) * shade(sh.trend.change(), 0.15, 0.35)
	// A move over a tenth of the time is half a step, half a ramp.
	step := shade(sh.trend.width, 0.16, 0.08)
	v[PatternStep] += left * moved * step
	v[PatternRamp] += left * moved * (1 - step)
	left *= 1 - moved

	high := shade(sh.out.height, 1, 1.5) // a spike at least doubles
	quiet := shade(sh.noise, 0.45, 0.25) // a spike stands out of something quiet
	take(PatternSpike, quiet*shade(float64(sh.out.runs), 6, 3.5)*shade(sh.out.share, 0.15, 0.1)*high)
	many := shade(float64(sh.out.runs), 3.5, 6) * high
	take(PatternBursty, max(many, shade(sh.cv(), 0.35, 0.6)))
	v[PatternSteady] += left
	return v
}

func (sh *shape) period(k PatternKind, s *Series) time.Duration {
	if k == PatternPeriodic {
		return s.Period
	}
	return 0
}

// evidence are the numbers for k.
func (sh *shape) evidence(k PatternKind, s *Series) knowledge.Reason {
	step := s.Step.Seconds()
	span := float64(sh.n) * step
	switch k {
	case PatternIdle:
		return knowledge.Because(knowledge.RulePatternIdle, sh.top, span)
	case PatternPeriodic:
		return knowledge.Because(knowledge.RulePatternPeriodic, s.Period.Seconds(), sh.repeats, span, sh.low)
	case PatternStep:
		return knowledge.Because(knowledge.RulePatternStep, sh.trend.from, sh.trend.to, sh.trend.ago*span, sh.trend.explained)
	case PatternRamp:
		return knowledge.Because(knowledge.RulePatternRamp, sh.trend.from, sh.trend.to, sh.trend.width*span,
			sh.trend.explained)
	case PatternSpike:
		return knowledge.Because(knowledge.RulePatternSpike, sh.top, sh.median, sh.out.share, float64(sh.out.runs))
	case PatternBursty:
		return knowledge.Because(knowledge.RulePatternBursty, sh.mean, sh.cv(), sh.top, float64(sh.out.runs))
	}
	return knowledge.Because(knowledge.RulePatternSteady, sh.mean, sh.cv(), span)
}

// usable reports whether v can be a measured value.
func usable(v float64) bool { return v >= 0 && !math.IsInf(v, 1) }
