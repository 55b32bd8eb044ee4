package plan

import (
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// Climb is what is known of how one container's memory rises: the margin of its
// limit is learned from that, and not guessed. What only creeps, as a leak does,
// is followed closely, down too when it starts anew; what jumps keeps the room of
// its highest use. The zero value knows nothing. It has a fixed size, and belongs
// to one goroutine.
type Climb struct {
	// Since is when it began, or began anew after an OOM kill.
	Since time.Time `json:"since,omitzero"`
	// Seen is the newest reading: after a gap it is watched anew.
	Seen time.Time `json:"seen,omitzero"`
	// Spans are the last eight days, At the running one, which began at SpanAt.
	Spans  [climbSpans]Span `json:"spans"`
	At     int              `json:"at"`
	SpanAt time.Time        `json:"span_at,omitzero"`

	bare bool // next to no cache, when last asked

	// steps are the running and the last stretch of climbWithin.
	steps [2]stretch
}

// Span is what one of a Climb's spans saw, in bytes.
type Span struct {
	// High is the highest use; Rise is the most by which use rose within
	// climbWithin, or from one reading to the next where these lie further apart;
	// Record is the most by which it rose so above all that had been seen.
	High, Rise, Record knowledge.Bytes
}

// stretch is the lowest use in it, and the highest of all times at its begin.
type stretch struct {
	began     time.Time
	low, high knowledge.Bytes
}

const (
	climbSpans  = 16
	climbSpan   = 12 * time.Hour // so that eight days have each day of the week
	climbWithin = reactTime
	climbGap    = 4
	// climbLearns is how long a container is watched before its margin is learned, and
	// after a gap as long, for what it did meanwhile is not known.
	climbLearns = time.Hour
	// climbSpare and climbRecord: a limit leaves the known rise half as much again,
	// and for another record twice the last, but no more than recordMost of a need.
	climbSpare, climbRecord = 1.5, 2.0
	recordMost              = 0.12
	// climbRatio and climbLeast are left above all that, climbYoung of a need
	// beside it, which fades as withMargin's does but with the time itself: 5 % after
	// the first hour, 1.4 % after four.
	climbRatio = 0.03
	climbLeast = 8 * knowledge.MiB
	climbYoung = 0.35
	// climbBare is the share of use that reclaim cannot take, from which on a
	// container is one without a cache, until it is under climbCached. Where there is
	// more cache a limit is no less than before: how much of it is needed shows too late.
	climbBare, climbCached = 0.9, 0.8
)

// observe takes in one reading; the same twice is the same as once.
func (c *Climb) observe(now time.Time, use knowledge.Bytes, every time.Duration) {
	if c.Since.IsZero() || now.Before(c.SpanAt) { // or the clock was set back
		*c = Climb{Since: now, SpanAt: now}
	}
	within := max(climbWithin, every)
	if !c.Seen.IsZero() && now.Sub(c.Seen) >= max(climbLearns, climbGap*within) {
		c.Since = now
	}
	c.Seen = now
	if now.Sub(c.steps[0].began) > climbGap*within { // the first of this life, or after a gap
		first := stretch{began: now, low: use, high: max(c.high(), use)}
		c.steps = [2]stretch{first, first}
	}
	for n := 0; now.Sub(c.SpanAt) >= climbSpan; n++ {
		if n == climbSpans { // it was not looked at for days
			c.SpanAt = now
			break
		}
		c.At = (c.At + 1) % climbSpans
		c.Spans[c.At] = Span{}
		c.SpanAt = c.SpanAt.Add(climbSpan)
	}
	if s := &c.steps[0]; now.Sub(s.began) >= within {
		c.steps[1], *s = *s, stretch{began: now, low: use, high: c.high()}
	} else {
		s.low = min(s.low, use)
	}
	s, last := &c.Spans[c.At], &c.steps[1]
	s.Rise = max(s.Rise, use-min(last.low, c.steps[0].low))
	if now.Sub(c.Since) >= climbLearns { // before, everything is a record
		s.Record = max(s.Record, use-last.high)
	}
	s.High = max(s.High, use)
}

// killed takes in an OOM kill: all that is known of the use is that it was more
// than the limit, and floor stands for it. The margin is learned anew.
func (c *Climb) killed(now time.Time, floor knowledge.Bytes, every time.Duration) {
	c.Since = now
	c.observe(now, floor, every)
}

func (c *Climb) high() (most knowledge.Bytes) {
	for i := range c.Spans {
		most = max(most, c.Spans[i].High)
	}
	return most
}

// known sums the spans up.
func (c *Climb) known() (all Span) {
	for i := range c.Spans {
		s := &c.Spans[i]
		all.High, all.Rise, all.Record = max(all.High, s.High), max(all.Rise, s.Rise), max(all.Record, s.Record)
	}
	return all
}

// learned reports whether it was watched for long enough, has next to no cache, and may
// be sized for less than the highest use that is remembered.
func (c *Climb) learned(now time.Time, w *knowledge.Window, p *knowledge.Policy) bool {
	if w.Have&knowledge.HasMemoryStat == 0 || p.MemoryTarget > 0 || p.MemoryPercentile >= 1 {
		return false
	}
	share := climbBare
	if c.bare {
		share = climbCached
	}
	c.bare = float64(w.Hard) >= share*float64(w.MemoryUsage)
	return c.bare && !c.Since.IsZero() && now.Sub(c.Since) >= climbLearns
}

// need is where use may be before a raise takes effect, limit the limit for it and
// least what a limit may not be under without being raised.
func (c *Climb) size(now time.Time, w *knowledge.Window) (need, limit, least knowledge.Bytes) {
	k := c.known()
	use := max(w.WorkingSet, w.Hard)
	reach := func(by float64) knowledge.Bytes { return max(use, min(use+scaleBytes(k.Rise, by), k.High)) }
	need = max(reach(climbSpare), w.AnonPeak)
	young := climbYoung / (1 + now.Sub(c.Since).Minutes()/marginMinutes)
	record := min(scaleBytes(k.Record, climbRecord), scaleBytes(need, recordMost))
	limit = roundUp(scaleBytes(need, 1+climbRatio+young)+climbLeast+record, stepGrain)
	least = scaleBytes(reach(1), 1+climbRatio/2) + climbLeast/2 + record/2
	return need, limit, least
}

// Climb is what r learned of how memory rises, to be kept over a restart.
func (r *Reflex) Climb() *Climb { return &r.memory.climb }

// Bound forgets what cannot be: it was read from a disk.
func (c *Climb) Bound(now time.Time) {
	bad := c.At < 0 || c.At >= climbSpans || c.Since.After(now) || c.Seen.After(now) || c.SpanAt.After(now)
	for _, s := range c.Spans {
		for _, v := range [...]knowledge.Bytes{s.High, s.Rise, s.Record} {
			bad = bad || v < 0 || v > knowledge.MaxBytes
		}
	}
	if bad {
		*c = Climb{}
	}
}

// MemorySize is what r learned of how the container's memory rises: what it may
// need before a raise takes effect, and the limit for that. It reports false where
// too little is known.
func (r *Reflex) MemorySize(
	now time.Time, w *knowledge.Window, p *knowledge.Policy,
) (need, limit knowledge.Bytes, ok bool) {
	c := &r.memory.climb
	if !c.learned(now, w, p) {
		return 0, 0, false
	}
	need, limit, _ = c.size(now, w)
	return need, limit, true
}
