package plan

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"
)

const recommenderVersion = 2

// ErrRecommender means that bytes are not a Recommender's.
var ErrRecommender = errors.New("not a recommender of this version")

// Marshal is everything that was learned, in about 7 KB.
func (r *Recommender) Marshal() []byte {
	c := codec{buf: append(make([]byte, 0, 7<<10), recommenderVersion)}
	step := uint64(r.step)
	c.count(&step, math.MaxUint64)
	r.fields(&c, models)
	return c.buf
}

// UnmarshalRecommender reads what Marshal wrote; anything else is an error that
// wraps ErrRecommender.
func UnmarshalRecommender(b []byte) (*Recommender, error) {
	if len(b) < 9 || b[0] < 1 || b[0] > recommenderVersion {
		return nil, fmt.Errorf("%w: %d bytes", ErrRecommender, len(b))
	}
	c := codec{buf: b[1:], reads: true}
	var step uint64
	c.count(&step, uint64(time.Hour))
	r := NewRecommender(time.Duration(step))
	if uint64(r.step) != step {
		return nil, fmt.Errorf("%w: a step of %d ns", ErrRecommender, step)
	}
	known := models
	if b[0] == 1 {
		known = modelsV1
	}
	r.fields(&c, known)
	for j := known; j < models; j++ {
		// What others cost over weeks is not known of these: they join late.
		for m := range margins {
			r.charged[j].over[m] = float32(joinsLate * r.demand)
		}
	}
	if c.bad || len(c.buf) != 0 {
		return nil, fmt.Errorf("%w: impossible numbers or a wrong length", ErrRecommender)
	}
	return r, nil
}

// joinsLate is the waste, in demands, of a model that a record does not have.
const joinsLate = 10

// fields are what has to be kept; the shape follows from the step.
func (r *Recommender) fields(c *codec, known int) {
	c.number(&r.weight, 1, rebaseAt)
	c.number(&r.demand, 0, maxSum)
	c.count(&r.seen, math.MaxUint64)
	for j := range known {
		c.numbers(r.charged[j].over[:], maxSum)
		c.numbers(r.charged[j].under[:], maxSum)
	}
	s := &r.signal
	s.n = r.seen
	const most = 2 * maxSignal // of a value: with what rounding adds
	c.numbers(s.values[:], most)
	for i := range s.means {
		c.number(&s.means[i], 0, most)
		c.number(&s.spreads[i], 0, most*most)
	}
	c.numbers(s.mean3s[:], most)
	c.numbers(s.mean7s[:], most)
	for _, p := range []*peaks{&s.hour, &s.day} {
		c.numbers(p.slots[:], most)
		c.index(&p.in, p.per)
		c.index(&p.at, p.used-1)
	}
	c.numbers(s.season.slots[:], most)
	c.index(&s.season.in, s.season.per)
	c.index(&s.season.at, s.season.used-1)
	c.flag(&s.season.whole)
	for _, l := range []*levels{&s.level, &s.lately} {
		c.numbers(l.weights[:], maxSum)
		c.number(&l.weight, 1, rebaseAt)
		c.flag(&l.any)
		first := l.first + levelBias
		c.index(&first, levelBias+bucketMost)
		if l.first = first - levelBias; l.first < -bucketMost {
			c.bad = true
		}
	}
	c.number(&s.top, 0, most)
}

const (
	// levelBias makes exponents of histograms positive, bucketMost bounds them: the values
	// lie between 1e-9 and 1e15, exponents of 1.1 between -218 and 363, that of a lowest
	// bucket between -305 and 268.
	levelBias, bucketMost = 1 << 12, 400
	// maxSum bounds sums of values and of their weights. Those that are learned end
	// at about 1e29: values of maxSignal at 20 margins, each step of three weeks.
	maxSum = 1e31
)

// codec writes fields, or reads them: one description serves both.
type codec struct {
	buf   []byte
	reads bool
	bad   bool
}

func (c *codec) count(v *uint64, most uint64) {
	if !c.reads {
		c.buf = binary.LittleEndian.AppendUint64(c.buf, *v)
		return
	}
	if len(c.buf) < 8 {
		c.bad = true
		return
	}
	*v, c.buf = binary.LittleEndian.Uint64(c.buf), c.buf[8:]
	c.bad = c.bad || *v > most
}

func (c *codec) index(v *int, most int) {
	n := uint64(*v)
	if c.count(&n, uint64(most)); !c.bad {
		*v = int(n)
	}
}

func (c *codec) flag(v *bool) {
	n := 0
	if *v {
		n = 1
	}
	c.index(&n, 1)
	*v = n == 1
}

// number is from least to most.
func (c *codec) number(v *float64, least, most float64) {
	bits := math.Float64bits(*v)
	c.count(&bits, math.MaxUint64)
	if *v = math.Float64frombits(bits); !(*v >= least && *v <= most) {
		c.bad = true
		*v = least
	}
}

// numbers are from 0 to most.
func (c *codec) numbers(v []float32, most float64) {
	if !c.reads {
		for _, x := range v {
			c.buf = binary.LittleEndian.AppendUint32(c.buf, math.Float32bits(x))
		}
		return
	}
	if len(c.buf) < 4*len(v) {
		c.bad = true
		return
	}
	for i := range v {
		x := math.Float32frombits(binary.LittleEndian.Uint32(c.buf[4*i:]))
		if !(x >= 0 && float64(x) <= most) {
			c.bad = true
			return
		}
		v[i] = x
	}
	c.buf = c.buf[4*len(v):]
}
