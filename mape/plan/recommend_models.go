package plan

import (
	"math"
	"time"
)

// models is how many statistics of the past compete in a Recommender, modelsV1 how
// many did before load-adjusted percentiles were among them.
const models, modelsV1 = 27, 23

// modelNames are their names, in the order of signal.predict.
var modelNames = [models]string{
	"last value", "maximum of 3", "maximum of 12", "maximum of 36", "maximum of an hour", "maximum of a day",
	"same time yesterday", "mean of 3", "mean of 7", "mean of 20", "mean of 65",
	"mean of 7 and 3 deviations", "mean of 20 and 3 deviations", "mean of 65 and 3 deviations",
	"highest mean of 7 in 12", "highest mean of 3 in 36",
	"90th percentile of the day", "95th percentile of 3 hours",
	"last value over the day's level", "mean of 3 over the day's level", "mean of 7 over the day's level",
	"mean of 7 over 0.9 of the day's level",
	"highest ever",
	// since version 2 of the record
	"mean of the day", "90th percentile of the day by load", "95th percentile of the day by load",
	"99th percentile of the day by load",
}

const (
	recent = 36 // values that are kept one by one
	short  = 12
)

// The decay of the means: the weight of the newest value. A mean of n weighs it
// 2/(n + 1), as usual.
var meanWeights = [...]float64{0.5, 0.25, 0.1, 0.03}

// The spreads belong to the means from the second on.
const deviations = 3.0

// signal is the kept past: a few kilobytes from which every model's prediction
// follows.
type signal struct {
	n       uint64
	values  [recent]float32
	means   [len(meanWeights)]float64
	spreads [len(meanWeights)]float64 // variances around the means
	mean3s  [recent]float32           // means[0] of the last steps
	mean7s  [short]float32            // means[1] of the last steps
	hour    peaks
	day     peaks
	season  season
	level   levels // of a day
	lately  levels // of three hours
	top     float64
}

func (s *signal) shape(step time.Duration) {
	steps := func(d time.Duration) int { return max(1, int((d+step/2)/step)) }
	s.hour.shape(steps(time.Hour))
	s.day.shape(steps(24 * time.Hour))
	s.season.shape(steps(24 * time.Hour))
	s.level.shape(step, 24*time.Hour)
	s.lately.shape(step, 3*time.Hour)
}

func (s *signal) add(v float64) {
	if s.n == 0 {
		for i := range s.means {
			s.means[i] = v
		}
	}
	s.values[s.n%recent] = float32(v)
	for i, w := range meanWeights {
		e := v - s.means[i]
		s.means[i] += w * e
		s.spreads[i] = (1 - w) * (s.spreads[i] + w*e*e)
	}
	s.mean3s[s.n%recent] = float32(s.means[0])
	s.mean7s[s.n%short] = float32(s.means[1])
	s.hour.add(v)
	s.day.add(v)
	s.season.add(v)
	s.level.add(v)
	s.lately.add(v)
	s.top = max(s.top, v)
	s.n++
}

// usual is the mean of the last few values: what a censored one is at least.
func (s *signal) usual() float64 { return s.means[0] }

// high is the level that demand may go back to at any time.
func (s *signal) high() float64 { return s.level.quantile(0.9) }

// predict is each model's expectation of the next step, without its margin, in the
// order of modelNames.
func (s *signal) predict() (out [models]float64) {
	last := float64(s.values[(s.n-1)%recent])
	// The day's level: where half of the work is done, if that is above most steps.
	weight, load := s.level.loads()
	mean := 0.0
	if weight > 0 {
		mean = load / weight
	}
	level := max(s.level.quantile(0.9), s.level.byLoad(0.5, load))
	dev := func(i int) float64 { return s.means[i] + deviations*math.Sqrt(s.spreads[i]) }
	yesterday, ok := s.season.next()
	if !ok {
		yesterday = last
	}
	return [models]float64{
		last, s.most(s.values[:], 3), s.most(s.values[:], short), s.most(s.values[:], recent), s.hour.max(), s.day.max(),
		yesterday, s.means[0], s.means[1], s.means[2], s.means[3],
		dev(1), dev(2), dev(3),
		s.most(s.mean7s[:], short), s.most(s.mean3s[:], recent),
		level, s.lately.quantile(0.95),
		max(last, 0.35*level), max(s.means[0], 0.5*level), max(s.means[1], 0.7*level), max(s.means[1], 0.9*level),
		s.top,
		mean, s.level.byLoad(0.9, load), s.level.byLoad(0.95, load), s.level.byLoad(0.99, load),
	}
}

// most is the highest of the last n entries of a ring of all steps.
func (s *signal) most(ring []float32, n int) float64 {
	size := uint64(len(ring))
	best := float32(0)
	for i := range min(uint64(n), s.n) {
		best = max(best, ring[(s.n-1-i)%size])
	}
	return float64(best)
}

// peaks is the maximum of a number of last steps, in slots: the window's end is late
// by a slot at most, a twelfth of it.
type peaks struct {
	slots [short + 1]float32
	per   int // steps in a slot
	used  int // slots in the window
	in    int // steps in the running slot
	at    int // the running slot
}

func (p *peaks) shape(steps int) {
	p.per = (steps + short - 1) / short
	p.used = (steps + p.per - 1) / p.per
}

func (p *peaks) add(v float64) {
	if p.in == p.per {
		p.in = 0
		p.at = (p.at + 1) % p.used
		p.slots[p.at] = 0
	}
	p.in++
	p.slots[p.at] = max(p.slots[p.at], float32(v))
}

func (p *peaks) max() float64 {
	best := float32(0)
	for _, v := range p.slots[:p.used] {
		best = max(best, v)
	}
	return float64(best)
}

// season is the highest demand around the same time a day before.
type season struct {
	slots  [144]float32 // of ten minutes, or of a step where that is longer
	per    int
	used   int
	in, at int
	whole  bool // a day has passed
}

func (s *season) shape(steps int) {
	s.per = (steps + len(s.slots) - 1) / len(s.slots)
	s.used = max(steps/s.per, 1)
}

func (s *season) add(v float64) {
	if s.in == s.per {
		s.in = 0
		if s.at++; s.at >= s.used {
			s.at, s.whole = 0, true
		}
		s.slots[s.at] = 0
	}
	s.in++
	s.slots[s.at] = max(s.slots[s.at], float32(v))
}

// next is the highest value from half an hour before to half an hour after this
// time yesterday.
func (s *season) next() (float64, bool) {
	if !s.whole {
		return 0, false
	}
	around := max(s.used/48, 1)
	best := float32(0)
	for i := 1; i <= around; i++ { // slots after the running one are yesterday's
		best = max(best, s.slots[(s.at+i)%s.used])
	}
	return float64(best), true
}

// levels is a histogram of values of any scale that fades: buckets 10 % wide,
// which move up when a value is above them all.
type levels struct {
	weights [96]float32 // 1.1^96: the lowest bucket is a nine thousandth of the highest
	first   int         // exponent of the lowest bucket
	fade    float64
	weight  float64
	any     bool
}

const (
	levelRatio = 1.1
	levelLog   = 0.09531017980432493 // ln 1.1
	levelLeast = 1e-9
)

func (l *levels) shape(step, half time.Duration) {
	l.fade, l.weight = math.Exp2(step.Seconds()/half.Seconds()), 1
}

func (l *levels) add(v float64) {
	e := int(math.Floor(math.Log(max(v, levelLeast)) / levelLog))
	top := len(l.weights) - 1
	if !l.any {
		l.any, l.first = true, e-top+8 // up to twice the first value
	}
	if up := e - (l.first + top); up > 0 {
		l.lift(up)
	}
	l.weights[max(e-l.first, 0)] += float32(l.weight)
	if l.weight *= l.fade; l.weight > rebaseAt {
		for i := range l.weights {
			l.weights[i] /= float32(l.weight)
		}
		l.weight = 1
	}
}

// lift moves all buckets up by n; what falls out counts in the lowest one.
func (l *levels) lift(n int) {
	l.first += n
	sum := float32(0)
	for i := range l.weights {
		w := l.weights[i]
		l.weights[i] = 0
		if i < n {
			sum += w
		} else {
			l.weights[i-n] = w
		}
	}
	l.weights[0] += sum
}

// quantile is the end of the bucket of quantile q of the weight; 0 when nothing was
// added.
func (l *levels) quantile(q float64) float64 {
	var sum float64
	for _, w := range l.weights {
		sum += float64(w)
	}
	if sum == 0 {
		return 0
	}
	above := (1 - q) * sum
	for i := len(l.weights) - 1; i > 0; i-- {
		if above -= float64(l.weights[i]); above < 0 {
			return math.Exp(float64(l.first+i+1) * levelLog)
		}
	}
	return math.Exp(float64(l.first+1) * levelLog)
}

// loads is the weight of all values, and the sum of what they weigh by their size.
func (l *levels) loads() (sum, load float64) {
	v := l.middle(0)
	for _, w := range l.weights {
		sum += float64(w)
		load += float64(w) * v
		v *= levelRatio
	}
	return sum, load
}

func (l *levels) middle(i int) float64 { return math.Exp((float64(l.first+i) + 0.5) * levelLog) }

// byLoad is the middle of the bucket of quantile q of the load, the second result of
// loads: each value is weighted by itself (Autopilot's load-adjusted percentile,
// EuroSys'20, section 3.2.1). 0 when nothing was added.
func (l *levels) byLoad(q, load float64) float64 {
	if load == 0 {
		return 0
	}
	above := (1 - q) * load
	top := len(l.weights) - 1
	v := l.middle(top)
	for i := top; i > 0; i-- {
		if above -= float64(l.weights[i]) * v; above < 0 {
			return v
		}
		v /= levelRatio
	}
	return v
}
