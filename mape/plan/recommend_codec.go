package plan

import (
	"fmt"
	"math"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

const (
	recommenderVersion = 2
	// joinsLate is the waste, in demands, of a model that a record does not have.
	joinsLate = 10
	// levelBias makes exponents of histograms positive, bucketMost bounds them: the values
	// lie between 1e-9 and 1e15, exponents of 1.1 between -218 and 363, that of a lowest
	// bucket between -305 and 268.
	levelBias, bucketMost = 1 << 12, 400
	// maxSum bounds sums of values and of their weights. Those that are learned end
	// at about 1e29: values of maxSignal at 20 margins, each step of three weeks.
	maxSum = 1e31
)

// Marshal is everything that was learned, in about 7 KB.
func (r *Recommender) Marshal() []byte {
	f := knowledge.PackFields(make([]byte, 0, 7<<10))
	f.Constant(recommenderVersion, 1)
	knowledge.Int(f, &r.step, 8, 0, time.Hour)
	r.fields(f, models)
	return f.Bytes()
}

// UnmarshalRecommender reads what Marshal wrote, or an earlier version;
// anything else is knowledge.ErrEncoding.
func UnmarshalRecommender(b []byte) (*Recommender, error) {
	f := knowledge.ReadFields(b)
	var version uint8
	var step time.Duration
	knowledge.Int(f, &version, 1, 1, recommenderVersion)
	knowledge.Int(f, &step, 8, 0, time.Hour)
	r := NewRecommender(step)
	if !f.OK() || r.step != step {
		return nil, fmt.Errorf("cannot read recommender: %w: version %d, a step of %s", knowledge.ErrEncoding, version, step)
	}
	known := models
	if version == 1 {
		known = modelsV1
	}
	r.fields(f, known)
	for j := known; j < models; j++ {
		// Their cost over the last weeks is not known: they join late.
		for m := range margins {
			r.charged[j].over[m] = float32(joinsLate * r.demand)
		}
	}
	if err := f.End("recommender"); err != nil {
		return nil, err
	}
	return r, nil
}

// fields are the record's; the shape follows from the step.
func (r *Recommender) fields(f *knowledge.Fields, known int) {
	f.Float(&r.weight, 1, rebaseAt)
	f.Float(&r.demand, 0, maxSum)
	knowledge.Int(f, &r.seen, 8, 0, math.MaxUint64)
	for j := range known {
		f.Floats32(r.charged[j].over[:], maxSum)
		f.Floats32(r.charged[j].under[:], maxSum)
	}
	s := &r.signal
	s.n = r.seen
	const most = 2 * maxSignal // of a value, with rounding
	f.Floats32(s.values[:], most)
	for i := range s.means {
		f.Float(&s.means[i], 0, most)
		f.Float(&s.spreads[i], 0, most*most)
	}
	f.Floats32(s.mean3s[:], most)
	f.Floats32(s.mean7s[:], most)
	for _, p := range []*peaks{&s.hour, &s.day} {
		f.Floats32(p.slots[:], most)
		f.Count(&p.in, p.per)
		f.Count(&p.at, p.used-1)
	}
	f.Floats32(s.season.slots[:], most)
	f.Count(&s.season.in, s.season.per)
	f.Count(&s.season.at, s.season.used-1)
	f.Flag(&s.season.whole)
	for _, l := range []*levels{&s.level, &s.lately} {
		f.Floats32(l.weights[:], maxSum)
		f.Float(&l.weight, 1, rebaseAt)
		f.Flag(&l.any)
		first := l.first + levelBias
		knowledge.Int(f, &first, 8, levelBias-bucketMost, levelBias+bucketMost)
		l.first = first - levelBias
	}
	f.Float(&s.top, 0, most)
}
