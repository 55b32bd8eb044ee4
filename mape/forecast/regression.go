package forecast

import "math"

// What recursive least squares may do. Unguarded it blew up on two of 70 real
// series: so features and innovations are clipped and the covariance is bounded.
const (
	features     = 8
	forget       = 0.999 // half of the weight is on the last 700 steps
	clipFeature  = 8.0   // in mean absolute steps
	clipSurprise = 3.0   // in mean absolute innovations (Huber)
	maxVariance  = 100.0 // the prior's is 1
)

type vector [features]float64

func (v *vector) dot(w *vector) float64 {
	sum := 0.0
	for i, x := range v {
		sum += x * w[i]
	}
	return sum
}

// regression learns two targets, the value and the peak, from one set of features
// by recursive least squares with forgetting.
type regression struct {
	cov         [features]vector
	value, peak target
	started     bool
}

type target struct {
	weight   vector
	surprise float64 // mean absolute innovation
}

func (t *target) learn(gain, x *vector, y float64) {
	e := y - t.weight.dot(x)
	size := math.Abs(e)
	if t.surprise == 0 {
		t.surprise = size
	}
	bound := clipSurprise * t.surprise
	t.surprise += scaleWeight * (min(size, 2*bound) - t.surprise)
	e = min(bound, max(-bound, e))
	for i := range t.weight {
		t.weight[i] += gain[i] * e
	}
}

// learn takes what came of the features x.
func (r *regression) learn(x *vector, value, peak float64) {
	if !r.started {
		r.reset()
	}
	var px, gain vector
	for i := range px {
		px[i] = r.cov[i].dot(x)
	}
	whole := 1 / (forget + x.dot(&px))
	for i := range gain {
		gain[i] = px[i] * whole
	}
	worst := 0.0
	for i := range gain {
		for j := 0; j <= i; j++ {
			c := (r.cov[i][j] - gain[i]*px[j]) / forget
			r.cov[i][j], r.cov[j][i] = c, c
		}
		worst = max(worst, r.cov[i][i])
		if !(r.cov[i][i] > 0) {
			worst = math.Inf(1)
		}
	}
	r.value.learn(&gain, x, value)
	r.peak.learn(&gain, x, peak)
	if worst > maxVariance {
		r.reset()
	}
}

func (r *regression) reset() {
	r.started = true
	for i := range r.cov {
		r.cov[i] = vector{}
		r.cov[i][i] = 1
	}
}
