package plan

import (
	"math"
	"time"
)

const (
	// levelSpan is the time over which demand is averaged while it does not jump:
	// 300 readings of 2 s turn 15 % of noise into 0.9 %, so that a level on the edge
	// of a replica does not swing. A day's rise is 5 min late, a minute's is a jump.
	levelSpan = 10 * time.Minute
	// levelMost bounds the readings kept.
	levelMost = 300
	// jumpSigma is how many deviations apart the mean of the newest readings and
	// the mean of those before must be to be another level. By chance alone, among
	// 43200 readings a day and eight lengths of "newest", that happens once in weeks;
	// a load that doubles under 15 % of noise is 6.7 apart at its first reading.
	jumpSigma = 5
	// noiseReadings is the memory of the noise, noiseYoung the assumed noise before
	// noiseEnough differences are known, noiseClip how many times its usual size one
	// difference may count, so that a step is not taken for noise.
	noiseReadings, noiseEnough = 1000, 8
	noiseYoung                 = 0.1
	noiseClip                  = 4.0
	// absToSigma turns the mean of |x(i) − x(i−1)| into the deviation of x:
	// E|Δ| = 2σ/√π for normal noise, and a trend hardly shows in it.
	absToSigma = 0.886
)

// Level is the level of demand: its mean since it last jumped, over a minute at most,
// and the noise around it. It follows a jump at the reading that proves it and
// ignores what the noise alone explains (a generalised likelihood ratio test for a
// change of the mean, Basseville & Nikiforov 1993, section 2.4). The zero value is
// ready.
type Level struct {
	readings [levelMost]float64 // the newest last, n of them
	n        int
	noise    float64 // mean of |Δ|, relative to the level
	known    int     // differences that noise is made of, noiseReadings at most
}

// Observe takes the demand of one step of length dt, cores; it ignores what is not a
// finite number from 0 on. It returns whether the level jumped: 1 up, -1 down.
func (l *Level) Observe(v float64, dt time.Duration) int {
	if !(v >= 0) || math.IsInf(v, 0) {
		return 0
	}
	if l.n > 0 {
		l.learn(math.Abs(v-l.readings[l.n-1]), l.Mean())
	}
	keep := 1
	if dt > 0 {
		keep = int(min(max(levelSpan/dt, 1), levelMost))
	}
	if l.n >= keep {
		l.keep(keep - 1)
	}
	l.readings[l.n] = v
	l.n++
	return l.split()
}

// Mean is the level, cores.
func (l *Level) Mean() float64 { return mean(l.readings[:l.n]) }

// Noise is the deviation of one reading, as a share of the level.
func (l *Level) Noise() float64 {
	if l.known < noiseEnough {
		return max(l.noise*absToSigma, noiseYoung)
	}
	return l.noise * absToSigma
}

// Upper is what the next reading stays under but for z deviations: the fewer
// readings the level rests on, the higher.
func (l *Level) Upper(z float64) float64 {
	if l.n == 0 {
		return 0
	}
	return l.Mean() * (1 + z*l.Noise()*math.Sqrt(1+1/float64(l.n)))
}

func (l *Level) learn(difference, scale float64) {
	if scale <= 0 {
		return
	}
	x := difference / scale
	if l.known >= noiseEnough {
		x = min(x, noiseClip*max(l.noise, 0.01))
	}
	l.known = min(l.known+1, noiseReadings)
	l.noise += (x - l.noise) / float64(l.known)
}

// split finds the newest readings that are another level than those before, and drops
// those before.
func (l *Level) split() int {
	all := 0.0
	for _, v := range l.readings[:l.n] {
		all += v
	}
	newest, sigma := 0.0, 0.0
	best, at, way := float64(jumpSigma), 0, 0
	for m, next := 1, 1; m < l.n; m++ {
		newest += l.readings[l.n-m]
		if m != next {
			continue
		}
		next *= 2
		a, b := newest/float64(m), (all-newest)/float64(l.n-m)
		sigma = max(l.Noise(), 0.01) * b
		z := (a - b) / max(sigma*math.Sqrt(1/float64(m)+1/float64(l.n-m)), 1e-9)
		if math.Abs(z) > best {
			best, at, way = math.Abs(z), m, int(math.Copysign(1, z))
		}
	}
	if at > 0 {
		l.keep(at)
	}
	return way
}

func (l *Level) keep(m int) {
	copy(l.readings[:m], l.readings[l.n-m:l.n])
	l.n = m
}

func mean(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	sum := 0.0
	for _, x := range v {
		sum += x
	}
	return sum / float64(len(v))
}
