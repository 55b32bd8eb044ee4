package analyse

import (
	"math"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

const (
	// KneeStart is the utilisation that is taken for the knee before anything is
	// known; KneeLeast and KneeMost bound what can be learned.
	KneeStart, KneeLeast, KneeMost = 0.7, 0.4, 0.9
	// HarmAllowed is the share of time that may be spent held back: where more of
	// it is, utilisation is beyond the knee.
	HarmAllowed = 0.05

	kneeBuckets = 24 // of 5 %: to 120 % of the limit, which a burst can reach
	kneeWidth   = 0.05
	// kneeDoubt is for how many seconds of observation the first guess counts in
	// each bucket.
	kneeDoubt = float64(KneeHurt / time.Second)
	// kneeRise is how fast the first guess of harm grows with utilisation: e-fold
	// in 0.1. At 0.7 it is 5 %, at 0.8 13.6 %, at 0.9 37 %.
	kneeRise = 0.1
	// kneeHalfLife is the time after which an observation counts half.
	kneeHalfLife = 24 * time.Hour
	// kneeLateness is how far behind the newest observation another may come.
	kneeLateness = time.Hour
	// maxKneeStep bounds the seconds that one observation represents.
	maxKneeStep = 60.0
	// maxKneeExponent is how many half-lives weights grow before they are scaled.
	maxKneeExponent = 20
	maxKneeWeight   = 1e30
	lostKneeWeight  = 1e-6
)

// Knee learns the utilisation from which on one workload is throttled: in a table of
// buckets of utilisation, the share of throttled time. Weights double every day from
// a common landmark (as in knowledge/history), so that two tables, from any two
// hosts, add up. The zero value is usable: its knee is KneeStart. It holds no
// pointers.
type Knee struct {
	landmark int64 // in half-lives since 1970
	newest   int64 // unix nanoseconds; 0: nothing was observed
	time     [kneeBuckets]float64
	hurt     [kneeBuckets]float64
}

// Observe counts seconds at a utilisation (use over limit) of which a share harm
// (0..1) was held back. What cannot be is ignored.
func (k *Knee) Observe(at time.Time, utilisation, harm, seconds float64) {
	now := at.UnixNano()
	if !(utilisation >= 0) || math.IsInf(utilisation, 1) || !(harm >= 0 && harm <= 1) || !(seconds > 0) || now <= 0 {
		return
	}
	half := int64(kneeHalfLife)
	switch {
	case k.newest == 0:
		k.landmark = now / half
	case k.newest-now > int64(kneeLateness): // the clock was set back: the landmark moves back with it
		k.landmark -= (k.newest - now + half/2) / half
		k.newest = now
	}
	if behind := now/half - k.landmark; behind > maxKneeExponent || behind < 0 {
		k.rebase(now / half)
	}
	k.newest = max(k.newest, now)
	w := min(seconds, maxKneeStep) * math.Exp2(float64(now)/float64(half)-float64(k.landmark))
	i := kneeBucket(utilisation)
	k.time[i] += w
	k.hurt[i] += w * harm
}

func kneeBucket(utilisation float64) int {
	return int(min(utilisation/kneeWidth, kneeBuckets-1))
}

// rebase moves the landmark and scales the weights to it.
func (k *Knee) rebase(landmark int64) {
	f := math.Ldexp(1, int(min(max(k.landmark-landmark, -200), 90)))
	k.landmark = landmark
	for i := range k.time {
		k.time[i] = min(k.time[i]*f, maxKneeWeight)
		k.hurt[i] = min(k.hurt[i]*f, k.time[i])
		if k.time[i] < lostKneeWeight {
			k.time[i], k.hurt[i] = 0, 0
		}
	}
}

// Merge adds what other has observed. Order and grouping do not matter, up to
// rounding. Merging the same table twice counts it twice: keep one per host.
func (k *Knee) Merge(other *Knee) {
	if other.newest == 0 {
		return
	}
	o := *other
	if k.newest == 0 {
		k.landmark = o.landmark
	}
	landmark := max(k.landmark, o.landmark)
	k.rebase(landmark)
	o.rebase(landmark)
	for i := range k.time {
		k.time[i] = min(k.time[i]+o.time[i], maxKneeWeight)
		k.hurt[i] = min(k.hurt[i]+o.hurt[i], k.time[i])
	}
	k.newest = max(k.newest, o.newest)
}

// At is the knee: the utilisation up to which at most HarmAllowed of the time was
// held back, KneeLeast to KneeMost.
func (k *Knee) At() float64 { return k.at(-1) }

// at is the knee without the observations of one bucket; -1: with all of them.
//
// Each bucket's share of harm is the observed one and a first guess that weighs
// kneeDoubt seconds. Harm can only grow with utilisation, so neighbours that
// contradict that are pooled (isotonic regression: Ayer et al. 1955). The knee is
// where the curve through the middles of the buckets crosses HarmAllowed.
func (k *Knee) at(without int) float64 {
	scale := k.scale()
	var sum, weight [kneeBuckets]float64
	var size [kneeBuckets]int
	n := 0
	for i := range k.time {
		t, h := k.time[i]*scale, k.hurt[i]*scale
		if i == without {
			t, h = 0, 0
		}
		sum[n], weight[n], size[n] = h+kneeDoubt*firstGuess(i), t+kneeDoubt, 1
		n++
		for n > 1 && sum[n-2]*weight[n-1] > sum[n-1]*weight[n-2] {
			sum[n-2], weight[n-2], size[n-2] = sum[n-2]+sum[n-1], weight[n-2]+weight[n-1], size[n-2]+size[n-1]
			n--
		}
	}
	before, beforeAt, i := 0.0, 0.0, 0
	for p := range n {
		harm := sum[p] / weight[p]
		first := (float64(i) + 0.5) * kneeWidth
		i += size[p]
		if harm > HarmAllowed {
			// Between two curves that grow e-fold in a stretch, the crossing is found
			// on the logarithm.
			part := math.Log(HarmAllowed/max(before, 1e-9)) / math.Log(harm/max(before, 1e-9))
			return min(max(beforeAt+part*(first-beforeAt), KneeLeast), KneeMost)
		}
		before, beforeAt = harm, (float64(i)-0.5)*kneeWidth
	}
	return KneeMost
}

// firstGuess is the harm expected in the middle of bucket i before any was seen.
func firstGuess(i int) float64 {
	return min(1, HarmAllowed*math.Exp(((float64(i)+0.5)*kneeWidth-KneeStart)/kneeRise))
}

// scale turns weights into seconds that count as of the newest observation.
func (k *Knee) scale() float64 {
	return math.Exp2(float64(k.landmark) - float64(k.newest)/float64(kneeHalfLife))
}

// evidence is how long was observed, and for how long of that at a utilisation under
// KneeMost at which more than HarmAllowed was held back.
func (k *Knee) evidence() (watched, hurt time.Duration) {
	scale := k.scale()
	all, bad := 0.0, 0.0
	for i, t := range k.time {
		all += t
		if (float64(i)+0.5)*kneeWidth < KneeMost && k.hurt[i] > HarmAllowed*t {
			bad += t
		}
	}
	return span(all * scale), span(bad * scale)
}

// span is a duration in seconds, a year at most.
func span(seconds float64) time.Duration {
	return time.Duration(min(seconds, 365*24*3600) * float64(time.Second))
}

// Bucket is the observation at one utilisation.
type Bucket struct {
	Utilisation float64 `json:"utilisation"` // the middle of the bucket
	Seconds     float64 `json:"seconds"`     // older ones discounted
	Harm        float64 `json:"harm"`        // share of them that was held back
}

// Decisive is the bucket that moved the knee most: without it, the knee would be
// farthest from where it is. Seconds are 0 when nothing was seen.
func (k *Knee) Decisive() Bucket {
	here, best, far := k.at(-1), -1, -1.0
	for i, t := range k.time {
		if d := math.Abs(k.at(i) - here); t > 0 && d > far {
			best, far = i, d
		}
	}
	if best < 0 {
		return Bucket{}
	}
	return Bucket{
		Utilisation: (float64(best) + 0.5) * kneeWidth,
		Seconds:     k.time[best] * k.scale(),
		Harm:        k.hurt[best] / k.time[best],
	}
}

// Harm is the share of a window's time (0..1) in which its limit held the
// container back: the throttled share beyond what the policy allows, or the
// pressure, whichever is more. Pressure without a limit is the host's.
func Harm(w *knowledge.Window, p *knowledge.Policy) float64 {
	if w.Quota <= 0 {
		return 0
	}
	harm := 0.0
	if w.Have&knowledge.HasThrottle != 0 {
		harm = w.ThrottleRatio - p.ThrottleTarget
	}
	if w.Have&knowledge.HasCPUPressure != 0 && w.ThrottleRatio > 0 {
		harm = max(harm, w.CPUPressure.Some10/100)
	}
	return min(max(harm, 0), 1) // NaN never passes quality
}
