package plan

import (
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// MemoryGrowth is how one container's memory grows, from which the margin of its
// limit is learned. Slow growth, as of a leak, is followed closely, down too after a
// restart; sudden growth keeps the margin of its highest use. The zero value is
// ready. It has a fixed size, and belongs to one goroutine.
type MemoryGrowth struct {
	// Since is when it began, or began again after an OOM kill.
	Since time.Time `json:"since,omitzero"`
	// Seen is the newest reading: after a gap the observation begins again.
	Seen time.Time `json:"seen,omitzero"`
	// Spans are the last eight days, At the running one, which began at SpanAt.
	Spans  [growthSpans]Span `json:"spans"`
	At     int               `json:"at"`
	SpanAt time.Time         `json:"span_at,omitzero"`

	bare bool // next to no cache, at the last decision

	// steps are the running and the last stretch of riseWithin.
	steps [2]stretch
}

// Span is what one of the spans saw, in bytes.
type Span struct {
	// High is the highest use; Rise is the most by which use rose within
	// riseWithin, or from one reading to the next where these lie further apart;
	// Record is the most by which it rose so above all that had been seen.
	High, Rise, Record knowledge.Bytes
}

// stretch is the lowest use in it, and the highest of all times at its begin.
type stretch struct {
	began     time.Time
	low, high knowledge.Bytes
}

const (
	growthSpans = 16
	growthSpan  = 12 * time.Hour // so that eight days have each day of the week
	riseWithin  = 10 * time.Second
	riseGap     = 4
	// learnRiseAfter is how long a container is observed before its margin is learned, and
	// again after a gap.
	learnRiseAfter = time.Hour
	// riseSpare and recordSpare: a limit leaves the known rise half as much again,
	// and for another record twice the last, but no more than recordMost of a need.
	riseSpare, recordSpare = 1.5, 2.0
	recordMost             = 0.12
	// sizeRatio and sizeLeast are added to all that, sizeYoung of a need
	// beside it, which fades as withMargin's does but with the time itself: 5 % after
	// the first hour, 1.4 % after four.
	sizeRatio = 0.03
	sizeLeast = 8 * knowledge.MiB
	sizeYoung = 0.35
	// bareShare is the share of use that reclaim cannot take, from which on a
	// container is one without a cache, until it is under cachedShare. Where there is
	// more cache a limit is no less than before: how much of it is needed shows too late.
	bareShare, cachedShare = 0.9, 0.8
)

// observe takes in one reading; the same twice is the same as once.
func (c *MemoryGrowth) observe(now time.Time, use knowledge.Bytes, every time.Duration) {
	if c.Since.IsZero() || now.Before(c.SpanAt) { // or the clock was set back
		*c = MemoryGrowth{Since: now, SpanAt: now}
	}
	within := max(riseWithin, every)
	if !c.Seen.IsZero() && now.Sub(c.Seen) >= max(learnRiseAfter, riseGap*within) {
		c.Since = now
	}
	c.Seen = now
	if now.Sub(c.steps[0].began) > riseGap*within { // the first of this process, or after a gap
		first := stretch{began: now, low: use, high: max(c.high(), use)}
		c.steps = [2]stretch{first, first}
	}
	for n := 0; now.Sub(c.SpanAt) >= growthSpan; n++ {
		if n == growthSpans { // a gap of days
			c.SpanAt = now
			break
		}
		c.At = (c.At + 1) % growthSpans
		c.Spans[c.At] = Span{}
		c.SpanAt = c.SpanAt.Add(growthSpan)
	}
	if s := &c.steps[0]; now.Sub(s.began) >= within {
		c.steps[1], *s = *s, stretch{began: now, low: use, high: c.high()}
	} else {
		s.low = min(s.low, use)
	}
	s, last := &c.Spans[c.At], &c.steps[1]
	s.Rise = max(s.Rise, use-min(last.low, c.steps[0].low))
	if now.Sub(c.Since) >= learnRiseAfter { // before, everything is a record
		s.Record = max(s.Record, use-last.high)
	}
	s.High = max(s.High, use)
}

// killed records an OOM kill: the use was more than the limit, and floor is the
// estimate. The margin is learned again.
func (c *MemoryGrowth) killed(now time.Time, floor knowledge.Bytes, every time.Duration) {
	c.Since = now
	c.observe(now, floor, every)
}

func (c *MemoryGrowth) high() (most knowledge.Bytes) {
	for i := range c.Spans {
		most = max(most, c.Spans[i].High)
	}
	return most
}

// known sums the spans up.
func (c *MemoryGrowth) known() (all Span) {
	for i := range c.Spans {
		s := &c.Spans[i]
		all.High, all.Rise, all.Record = max(all.High, s.High), max(all.Rise, s.Rise), max(all.Record, s.Record)
	}
	return all
}

// learned reports whether it was watched for long enough, has next to no cache, and may
// be sized for less than the highest use that is remembered.
func (c *MemoryGrowth) learned(now time.Time, w *knowledge.Window, p *knowledge.Policy) bool {
	if w.Have&knowledge.HasMemoryStat == 0 || p.MemoryTarget > 0 || p.MemoryPercentile >= 1 {
		return false
	}
	share := bareShare
	if c.bare {
		share = cachedShare
	}
	c.bare = float64(w.Hard) >= share*float64(w.MemoryUsage)
	return c.bare && !c.Since.IsZero() && now.Sub(c.Since) >= learnRiseAfter
}

// size: need is where use may be before a raise takes effect, limit the limit for it and
// least what a limit may not be under without being raised.
func (c *MemoryGrowth) size(now time.Time, w *knowledge.Window) (need, limit, least knowledge.Bytes) {
	k := c.known()
	use := w.InUse()
	reach := func(by float64) knowledge.Bytes { return max(use, min(use+scaleBytes(k.Rise, by), k.High)) }
	need = max(reach(riseSpare), w.AnonPeak)
	young := sizeYoung / (1 + now.Sub(c.Since).Minutes()/marginMinutes)
	record := min(scaleBytes(k.Record, recordSpare), scaleBytes(need, recordMost))
	limit = roundUp(scaleBytes(need, 1+sizeRatio+young)+sizeLeast+record, stepGrain)
	least = scaleBytes(reach(1), 1+sizeRatio/2) + sizeLeast/2 + record/2
	return need, limit, least
}

// MemoryGrowth is the learned growth of memory, to be kept over a restart.
func (r *Reflex) MemoryGrowth() *MemoryGrowth { return &r.memory.usage }

// Bound forgets what cannot be: it was read from a disk.
func (c *MemoryGrowth) Bound(now time.Time) {
	bad := c.At < 0 || c.At >= growthSpans || c.Since.After(now) || c.Seen.After(now) || c.SpanAt.After(now)
	for _, s := range c.Spans {
		for _, v := range [...]knowledge.Bytes{s.High, s.Rise, s.Record} {
			bad = bad || v < 0 || v > knowledge.MaxBytes
		}
	}
	if bad {
		*c = MemoryGrowth{}
	}
}

// MemorySize is the container's need before a raise takes effect, and the limit for
// it, from how its memory grows. It reports false where too little is known.
func (r *Reflex) MemorySize(
	now time.Time, w *knowledge.Window, p *knowledge.Policy,
) (need, limit knowledge.Bytes, ok bool) {
	c := &r.memory.usage
	if !c.learned(now, w, p) {
		return 0, 0, false
	}
	need, limit, _ = c.size(now, w)
	return need, limit, true
}
