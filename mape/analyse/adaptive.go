package analyse

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

const (
	// LowShare of the knee is where a cut may lead to: 0.6 for a knee of 0.7, so
	// that a demand that moves by a sixth does not undo the cut.
	LowShare = 6.0 / 7
	// TriggerLeast bounds how far uncertainty lowers the trigger.
	TriggerLeast = 0.2
	// kneeNews is the least move of the knee that is worth telling.
	kneeNews = 0.02
	// kneeChanges is how many moves are remembered.
	kneeChanges = 4
)

// Adaptive is the thresholds of one service: the knee it learned, and the story
// of how it came there. The zero value is usable and holds no pointers.
type Adaptive struct {
	Knee Knee
	// told is how far below KneeStart the knee in force is, so that the zero
	// value is KneeStart.
	told    float64
	changes [kneeChanges]Change // newest first
}

// Change is one move of the knee and the observations that made it.
type Change struct {
	At    time.Time `json:"at"`
	Was   float64   `json:"was"`
	Now   float64   `json:"now"`
	Moved Bucket    `json:"moved"`
}

// Observe counts as Knee.Observe does, and moves the threshold when the knee has
// moved by 2 points.
func (a *Adaptive) Observe(at time.Time, utilisation, harm, seconds float64) {
	a.Knee.Observe(at, utilisation, harm, seconds)
	a.follow(at)
}

// Merge starts from, or adds, what another host or a known image has taught.
func (a *Adaptive) Merge(at time.Time, other *Knee) {
	a.Knee.Merge(other)
	a.follow(at)
}

func (a *Adaptive) follow(at time.Time) {
	was := KneeStart - a.told
	now := a.Knee.At()
	if math.Abs(now-was) < kneeNews {
		return
	}
	a.told = KneeStart - now
	copy(a.changes[1:], a.changes[:kneeChanges-1])
	a.changes[0] = Change{At: at, Was: was, Now: now, Moved: a.Knee.Decisive()}
}

// Thresholds are what holds now.
type Thresholds struct {
	// Knee is the utilisation from which it hurts (ρ_hi); Low (ρ_lo) is the one
	// that a cut may lead to.
	Knee float64 `json:"knee"`
	Low  float64 `json:"low"`
	// Up is the expected utilisation at which growth begins: Knee − Uncertainty.
	Up float64 `json:"up"`
	// Uncertainty is what the forecast's bound lies above its value, over capacity.
	Uncertainty float64 `json:"uncertainty"`
	// Changes are the last moves of the knee, newest first; a zero At: none.
	Changes [kneeChanges]Change `json:"changes"`
	Reason  knowledge.Reason    `json:"reason"`
}

// Thresholds tells what holds at a capacity, with a forecast whose bound lies
// uncertainty above its value, both in cores. The more uncertain the forecast,
// the lower the trigger. An uncertainty that is no number counts as the whole
// capacity.
func (a *Adaptive) Thresholds(uncertainty, capacity float64) Thresholds {
	t := Thresholds{Knee: KneeStart - a.told, Changes: a.changes, Uncertainty: 1}
	if q := uncertainty / capacity; q >= 0 && q < 1 {
		t.Uncertainty = q
	}
	t.Low = t.Knee * LowShare
	t.Up = max(t.Knee-t.Uncertainty, TriggerLeast)
	t.Reason = knowledge.Because(knowledge.RuleKneeStart, t.Knee)
	if c := a.changes[0]; !c.At.IsZero() {
		t.Reason = knowledge.Because(knowledge.RuleKneeMoved, c.Now, c.Was, c.Moved.Utilisation, c.Moved.Harm)
	}
	return t
}

// Grow reports whether an expected demand (cores) asks for more than capacity,
// and why. A demand that is no number never does.
func (t Thresholds) Grow(expected, capacity float64) (bool, knowledge.Reason) {
	if !(expected >= 0) || !(capacity > 0) {
		return false, knowledge.Reason{}
	}
	u := expected / capacity
	return u > t.Up, knowledge.Because(knowledge.RuleTriggerUp, u, t.Up, t.Knee, t.Uncertainty)
}

// Shrink reports whether capacity may become after (cores). upper is the bound of
// the demand over the next 5 min that is missed once in a hundred times.
func (t Thresholds) Shrink(upper, after float64) (bool, knowledge.Reason) {
	if !(upper >= 0) || !(after > 0) {
		return false, knowledge.Reason{}
	}
	u := upper / after
	return u < t.Low, knowledge.Because(knowledge.RuleTriggerDown, u, t.Low)
}

// AdaptiveSize is the length of an encoded Adaptive.
const AdaptiveSize = KneeSize + 8 + kneeChanges*6*8

// MarshalBinary packs the table and its story into AdaptiveSize bytes.
func (a *Adaptive) MarshalBinary() ([]byte, error) {
	b, _ := a.Knee.AppendBinary(make([]byte, 0, AdaptiveSize))
	put := func(v float64) { b = binary.LittleEndian.AppendUint64(b, math.Float64bits(v)) }
	put(a.told)
	for _, c := range a.changes {
		at := int64(0)
		if !c.At.IsZero() {
			at = c.At.UnixNano()
		}
		b = binary.LittleEndian.AppendUint64(b, uint64(at))
		for _, v := range [...]float64{c.Was, c.Now, c.Moved.Utilisation, c.Moved.Seconds, c.Moved.Harm} {
			put(v)
		}
	}
	return b, nil
}

// UnmarshalBinary replaces a. Bytes that MarshalBinary does not write are
// ErrEncoding, and a stays as it was.
func (a *Adaptive) UnmarshalBinary(b []byte) error {
	if len(b) != AdaptiveSize {
		return fmt.Errorf("cannot read thresholds: %w", ErrEncoding)
	}
	var n Adaptive
	if err := n.Knee.UnmarshalBinary(b[:KneeSize]); err != nil {
		return err
	}
	b = b[KneeSize:]
	bad := false
	take := func(least, most float64) float64 {
		v := math.Float64frombits(binary.LittleEndian.Uint64(b))
		b = b[8:]
		bad = bad || !(v >= least && v <= most)
		return v
	}
	n.told = take(KneeStart-KneeMost-1e-9, KneeStart-KneeLeast+1e-9)
	for i := range n.changes {
		c := &n.changes[i]
		at := int64(binary.LittleEndian.Uint64(b))
		b = b[8:]
		if bad = bad || at < 0; at > 0 {
			c.At = time.Unix(0, at)
		}
		c.Was, c.Now = take(0, 1), take(0, 1)
		c.Moved = Bucket{Utilisation: take(0, 2), Seconds: take(0, maxKneeWeight), Harm: take(0, 1)}
	}
	if bad {
		return fmt.Errorf("cannot read thresholds: %w", ErrEncoding)
	}
	*a = n
	return nil
}
