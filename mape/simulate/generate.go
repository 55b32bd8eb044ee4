package simulate

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// Shapes are the kinds of trace that Generate makes.
func Shapes() []string {
	return []string{"diurnal", "step", "spike", "ramp", "bursty", "leak", "periodic"}
}

const (
	// GenerateStep is the step of generated traces: 1000 hours are 1.8 million rows.
	GenerateStep = 2 * time.Second
	// LeastHours and MostHours bound their length.
	LeastHours, MostHours = 0.1, 1000.0

	// The noise of one step is a normal deviate of 8 % of the level, and wanders
	// with another 6 % that fades over 30 s: load is not white.
	noiseStep, noiseWander = 0.08, 0.06
	wanderFades            = 30.0 // seconds
	// base is the mean level: cores; a leak starts at 256 MiB.
	base     = 1.0
	leakBase = 256 << 20
)

// Generate makes a trace of a named shape, always the same for the same seed.
// All are in cores, only a leak is in bytes.
//
//	diurnal   a day's sine between 0.4 and 1.6 cores
//	step      0.7 cores, 1.6 from a third of the time until two thirds
//	spike     0.8 cores; at times, on average every 2 h, five times that for 1 to 8 min
//	ramp      from 0.3 to 2 cores over the whole time
//	bursty    0.1 cores with bursts of 1 to 6 cores, on for 2 to 60 s, off for five times that
//	leak      memory that grows by 128 MiB an hour, and is back at 256 MiB at 2 GiB
//	periodic  every 15 min the same minute and a half of 3 cores over 0.5
func Generate(shape string, hours float64, seed uint64) (Trace, error) {
	if !(hours >= LeastHours && hours <= MostHours) {
		return Trace{}, fmt.Errorf("%g hours: allowed are %g to %g", hours, LeastHours, MostHours)
	}
	n := int(hours * 3600 / GenerateStep.Seconds())
	g := generator{chance: chance{seed}, length: float64(n) * GenerateStep.Seconds()}
	level := map[string]func(float64) float64{
		"diurnal": g.diurnal, "step": g.step, "spike": g.spike, "ramp": g.ramp,
		"bursty": g.bursty, "leak": g.leak, "periodic": g.periodic,
	}[shape]
	if level == nil {
		return Trace{}, fmt.Errorf("shape %q: allowed are %s", shape, strings.Join(Shapes(), ", "))
	}
	t := Trace{Name: shape, Step: GenerateStep, Values: make([]float64, n)}
	if shape == "leak" {
		t.Unit = UnitBytes
	}
	for i := range t.Values {
		v := level(float64(i) * GenerateStep.Seconds())
		if t.Unit == UnitBytes {
			t.Values[i] = math.Round(v)
			continue
		}
		t.Values[i] = math.Round(1e4*min(v*g.noise(), MaxCores)) / 1e4
	}
	return t, nil
}

// generator makes levels, one each step, in order.
type generator struct {
	chance
	length float64 // seconds
	wander float64
	until  float64 // of the present phase
	high   float64 // its level; 0: nothing
}

func (g *generator) noise() float64 {
	keep := math.Exp(-GenerateStep.Seconds() / wanderFades)
	g.wander = keep*g.wander + noiseWander*math.Sqrt(1-keep*keep)*g.normal()
	return max(1+g.wander+noiseStep*g.normal(), 0.05)
}

func (g *generator) diurnal(at float64) float64 {
	return base * (1 - 0.6*math.Cos(2*math.Pi*at/86400))
}

func (g *generator) step(at float64) float64 {
	if at >= g.length/3 && at < 2*g.length/3 {
		return 1.6 * base
	}
	return 0.7 * base
}

func (g *generator) spike(at float64) float64 {
	const every, height = 7200.0, 5.0
	switch {
	case at < g.until:
	case g.uniform() < GenerateStep.Seconds()/every:
		g.until, g.high = at+60+420*g.uniform(), height
	default:
		g.high = 1
	}
	return 0.8 * base * g.high
}

func (g *generator) ramp(at float64) float64 { return base * (0.3 + 1.7*at/g.length) }

func (g *generator) bursty(at float64) float64 {
	if at >= g.until {
		length := 2 * math.Pow(30, g.uniform())
		if g.high > 0 {
			g.high, g.until = 0, at+5*length
		} else {
			g.high, g.until = 1+5*g.uniform()*g.uniform(), at+length
		}
	}
	return base * max(g.high, 0.1)
}

func (g *generator) leak(at float64) float64 {
	const perHour, top = 128 << 20, 2 << 30
	span := float64(top-leakBase) / perHour * 3600
	return (leakBase + perHour*math.Mod(at, span)/3600) * (1 + 0.01*g.uniform())
}

func (g *generator) periodic(at float64) float64 {
	if math.Mod(at, 900) < 90 {
		return 3 * base
	}
	return 0.5 * base
}

// chance is a small generator of pseudo-random numbers (SplitMix64: Steele, Lea
// and Flood, OOPSLA 2014).
type chance struct{ state uint64 }

func (c *chance) next() uint64 {
	c.state += 0x9e3779b97f4a7c15
	z := c.state
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// uniform is in [0, 1).
func (c *chance) uniform() float64 { return float64(c.next()>>11) / (1 << 53) }

// normal has mean 0 and deviation 1 (Box and Muller).
func (c *chance) normal() float64 {
	return math.Sqrt(-2*math.Log(1-c.uniform())) * math.Cos(2*math.Pi*c.uniform())
}
