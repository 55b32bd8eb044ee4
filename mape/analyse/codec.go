package analyse

import (
	"math"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

const (
	kneeVersion = 1
	// KneeSize is the length of an encoded Knee: a version, two instants, and two
	// weights for each bucket.
	KneeSize = 1 + 8 + 8 + kneeBuckets*2*8
	// AdaptiveSize is the length of an encoded Adaptive.
	AdaptiveSize = KneeSize + 8 + kneeChanges*6*8
)

func (k *Knee) fields(f *knowledge.Fields) {
	f.Constant(kneeVersion, 1)
	knowledge.Int(f, &k.landmark, 8, math.MinInt64, math.MaxInt64)
	knowledge.Int(f, &k.newest, 8, 0, math.MaxInt64)
	for i := range k.time {
		f.Float(&k.time[i], 0, maxKneeWeight)
		f.Float(&k.hurt[i], 0, k.time[i])
		f.Require(!math.Signbit(k.time[i]) && !math.Signbit(k.hurt[i]))
	}
	behind := k.newest/int64(kneeHalfLife) - k.landmark
	f.Require(k.newest > 0 || *k == Knee{})
	f.Require(behind >= -maxKneeExponent && behind <= maxKneeExponent+1)
}

// Marshal packs the table and its changes into AdaptiveSize bytes, without the result
// of Judge.
func (a *Adaptive) Marshal() []byte {
	f := knowledge.PackFields(make([]byte, 0, AdaptiveSize))
	a.fields(f)
	return f.Bytes()
}

// Unmarshal replaces a. Bytes that Marshal does not write are
// knowledge.ErrEncoding, and a stays as it was.
func (a *Adaptive) Unmarshal(b []byte) error {
	var n Adaptive
	f := knowledge.ReadFields(b)
	n.fields(f)
	if err := f.End("thresholds"); err != nil {
		return err
	}
	*a = n
	return nil
}

func (a *Adaptive) fields(f *knowledge.Fields) {
	a.Knee.fields(f)
	f.Float(&a.below, KneeStart-KneeMost-1e-9, KneeStart-KneeLeast+1e-9)
	for i := range a.changes {
		c := &a.changes[i]
		at := int64(0)
		if !c.At.IsZero() {
			at = c.At.UnixNano()
		}
		if knowledge.Int(f, &at, 8, 0, math.MaxInt64); f.Reads() && at > 0 {
			c.At = time.Unix(0, at)
		}
		f.Float(&c.Was, 0, 1)
		f.Float(&c.Now, 0, 1)
		f.Float(&c.Moved.Utilisation, 0, 2)
		f.Float(&c.Moved.Seconds, 0, maxKneeWeight)
		f.Float(&c.Moved.Harm, 0, 1)
	}
}
