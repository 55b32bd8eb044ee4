package history

import (
	"math"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// Tier is a resolution of a series.
type Tier uint8

// The tiers: a day by the minute, a month by ten minutes.
const (
	Fine Tier = iota
	Coarse
)

// TierCount is how many tiers there are.
const TierCount = 2

// Tiers lists them.
func Tiers() [TierCount]Tier { return [...]Tier{Fine, Coarse} }

// Step is the length of one bucket.
func (t Tier) Step() time.Duration {
	if t == Coarse {
		return 10 * time.Minute
	}
	return time.Minute
}

// Span is the length of one chunk: 60 or 144 buckets.
func (t Tier) Span() time.Duration {
	if t == Coarse {
		return 24 * time.Hour
	}
	return time.Hour
}

// Keep is how long chunks of the tier are worth keeping.
func (t Tier) Keep() time.Duration {
	if t == Coarse {
		return 31 * 24 * time.Hour
	}
	return 25 * time.Hour
}

// Buckets is how many buckets a chunk of the tier can hold.
func (t Tier) Buckets() int { return int(t.Span() / t.Step()) }

// Bucket summarises the points of one minute or ten.
type Bucket struct {
	At      time.Time // begin
	MeanCPU float64   // cores of one container, to 0.001
	MaxCPU  float64
	// MeanDemand and MaxDemand are use and what a limit held back. Where there was
	// throttling (Throttled > 0) they are estimates from below. Chunks of the first
	// version do not have them: there they are the use.
	MeanDemand, MaxDemand float64
	Containers            int     // that did the work, the most at once; at least 1
	Throttled             float64 // highest throttle ratio, 0..1, to 1/255
	WorkingSet            knowledge.Bytes
	CPULimit              float64         // the last one, cores; 0: none
	MemoryLimit           knowledge.Bytes // the last one; 0: none
}

// Chunk is an hour or a day of buckets in packed form, as it is kept on disk:
// about 15 bytes for each bucket.
type Chunk struct {
	Tier  Tier
	Start int64 // unix seconds, a multiple of the tier's Span
	Data  []byte
}

// Series folds points into buckets and buckets into chunks. It holds only the
// chunk of the running hour and that of the running day, and each one's
// forerunner until it is taken: at most 8 KB, usually 2. Whoever keeps knowledge
// on disk takes the changed ones with Chunks.
type Series struct {
	tiers [TierCount]track
}

type track struct {
	open   sums
	chunk  Chunk
	done   []byte // the chunk before, complete and not taken yet
	doneAt int64  // its Start
	last   int    // index of the last bucket in chunk; -1: none
	dirty  bool
	opened bool
}

// sums is the bucket that is being filled.
type sums struct {
	index      int64   // of the bucket, in steps since 1970
	seconds    float64 // the time that its points represent
	cpu        float64 // core-seconds
	demand     float64
	maxCPU     float32
	maxDemand  float32
	containers int
	throttled  float32
	workingSet knowledge.Bytes
	cpuLimit   float32
	memory     knowledge.Bytes
}

// NewSeries makes an empty series.
func NewSeries() *Series {
	s := &Series{}
	for i := range s.tiers {
		s.tiers[i].last = -1
		s.tiers[i].chunk.Tier = Tier(i)
	}
	return s
}

// Add folds in the point of one container, which represents the time before it, of a
// service with so many containers. It ignores points before the bucket being filled,
// in the same chunk: the clock was set back a little. A clock that was set back
// further starts the chunk again. Figures out of bounds are clamped.
func (s *Series) Add(p knowledge.Point, lasted time.Duration, containers int) {
	if p.At <= 0 || lasted <= 0 || !finite(p.CPU) || !finite(p.Demand) || !finite(p.CPULimit) || !finite(p.Throttled) {
		return
	}
	for i := range s.tiers {
		s.tiers[i].add(p, min(lasted, time.Minute).Seconds(), containers)
	}
}

func finite(f float32) bool { return f >= 0 && f <= math.MaxFloat32 }

func (t *track) add(p knowledge.Point, seconds float64, containers int) {
	index := p.At / int64(t.chunk.Tier.Step())
	if t.opened && index != t.open.index {
		n := int64(t.chunk.Tier.Buckets())
		if index < t.open.index && index/n == t.open.index/n {
			return
		}
		t.close()
	}
	if !t.opened {
		t.open, t.opened = sums{index: index}, true
	}
	o := &t.open
	o.seconds += seconds
	o.cpu += float64(p.CPU) * seconds
	o.demand += float64(max(p.Demand, p.CPU)) * seconds
	o.maxCPU, o.maxDemand = max(o.maxCPU, p.CPU), max(o.maxDemand, p.Demand, p.CPU)
	o.containers = max(o.containers, containers)
	o.throttled = max(o.throttled, p.Throttled)
	o.workingSet = max(o.workingSet, p.WorkingSet)
	o.cpuLimit, o.memory = p.CPULimit, p.MemoryLimit
}

// close packs the bucket being filled into its chunk.
func (t *track) close() {
	t.opened = false
	tier := t.chunk.Tier
	n := int64(tier.Buckets())
	start := t.open.index / n * int64(tier.Span()/time.Second)
	if start != t.chunk.Start || t.last < 0 {
		if t.dirty {
			t.done, t.doneAt, t.chunk.Data = t.chunk.Data, t.chunk.Start, nil
		}
		t.chunk.Start, t.last = start, -1
		t.chunk.Data = append(t.chunk.Data[:0], chunkVersion)
	}
	at := int(t.open.index % n)
	if at <= t.last {
		return
	}
	b := t.open.bucket()
	t.chunk.Data = b.appendTo(t.chunk.Data, at-t.last)
	t.last = at
	t.dirty = true
}

// Chunks returns the chunks that changed since the last call. Nothing is missed
// when it is called at least once an hour.
func (s *Series) Chunks() []Chunk {
	var out []Chunk
	for i := range s.tiers {
		t := &s.tiers[i]
		if t.done != nil {
			out = append(out, Chunk{Tier: t.chunk.Tier, Start: t.doneAt, Data: t.done})
			t.done = nil
		}
		if t.dirty {
			c := t.chunk
			c.Data = append([]byte(nil), c.Data...)
			out = append(out, c)
			t.dirty = false
		}
	}
	return out
}

// Running are the buckets that are complete and in memory, oldest first: of a tier
// the running chunk, and the one before until it is taken.
func (s *Series) Running(tier Tier) []Bucket {
	if int(tier) >= TierCount {
		return nil
	}
	t := &s.tiers[tier]
	var out []Bucket
	for _, c := range [...]Chunk{{tier, t.doneAt, t.done}, t.chunk} {
		if len(c.Data) > 0 {
			buckets, _ := c.Decode() // its own bytes
			out = append(out, buckets...)
		}
	}
	return out
}

// Restore continues a chunk that was kept by an earlier run. A chunk that cannot
// be decoded is knowledge.ErrEncoding and is ignored.
func (s *Series) Restore(c Chunk) error {
	buckets, err := c.Decode()
	if err != nil || len(buckets) == 0 {
		return err
	}
	t := &s.tiers[c.Tier]
	t.chunk.Start = c.Start
	t.chunk.Data = encode(c.Start, c.Tier, buckets) // in the present version
	last := buckets[len(buckets)-1].At.Unix() - c.Start
	t.last = int(last / int64(c.Tier.Step()/time.Second))
	t.opened, t.dirty = false, false
	return nil
}
