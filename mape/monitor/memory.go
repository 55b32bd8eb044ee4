package monitor

import (
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape/analyse"
)

const (
	// dirtyPart: dirty page cache counts as need up to a fifth of the limit.
	dirtyPart = 5
	// refaultSpan is the least time over which the rate of refaults is taken.
	refaultSpan = 2 * time.Second
)

// memoryLevel is the newest detail of memory, with the use at the same instant.
type memoryLevel struct {
	at                    time.Time
	usage, hard, inactive knowledge.Bytes
}

// now is the memory that reclaim cannot take at a use, an upper bound: what is new since the
// detail may be such, and what went away may have been cache.
func (l *memoryLevel) now(usage knowledge.Bytes) knowledge.Bytes {
	return min(l.hard+max(usage-l.usage, 0), usage)
}

// memory takes the level of memory: use, growth, peaks.
func (t *Track) memory(s *knowledge.Sample) (m Minute) {
	w := &t.Window
	if t.n == 0 {
		return m
	}
	newest := t.back(0)
	if s.Have&knowledge.HasMemory == 0 { // a reading of CPU alone: memory is as it was
		newest.usage, newest.hard = w.MemoryUsage, w.Hard
		return m
	}
	w.MemoryUsage = s.MemoryUsage
	if s.Have&knowledge.HasMemoryStat != 0 {
		t.detail(s)
	}
	w.WorkingSet = max(s.MemoryUsage-t.level.inactive, 0)
	if w.MemoryLimit > 0 { // more is a mixture of readings from before and after a cut
		w.WorkingSet = min(w.WorkingSet, w.MemoryLimit)
	}
	w.Hard = t.level.now(s.MemoryUsage)
	w.Estimated = w.Have&knowledge.HasMemoryStat != 0 && !t.level.at.Equal(s.At) && w.Hard > t.level.hard
	newest.usage, newest.hard = w.MemoryUsage, w.Hard
	w.Growth = t.growth()

	minute := int64(s.At.Sub(t.began) / time.Minute)
	if minute != t.minute {
		m = Minute{Closed: true, Peak: w.PeakMinute}
		for t.minute < minute {
			t.minute++
			t.anonMinute[t.minute%anonMinutes] = 0
			if minute-t.minute > anonMinutes {
				t.minute = minute - anonMinutes
			}
		}
		w.PeakMinute = 0
	}
	if !w.Estimated {
		w.PeakMinute = max(w.PeakMinute, w.Hard)
	}
	return m
}

// growth is the larger of two slopes of what reclaim cannot take: over the last ten
// seconds and over the last one; an upper bound, never negative. Bytes a second.
func (t *Track) growth() float64 {
	newest := t.back(0)
	slope := func(r *reading) float64 {
		d := (newest.at - r.at).Seconds()
		if d < 0.5 { // shorter than that, one allocation looks like a flood
			return 0
		}
		return float64(newest.hard-r.hard) / d
	}
	g := 0.0
	second := false
	var oldest *reading
	for i := 1; i < t.n; i++ {
		r := t.back(i)
		age := newest.at - r.at
		if age > growthSpan {
			break
		}
		oldest = r
		if !second && age >= ratioSpan-50*time.Millisecond {
			second = true
			g = max(g, slope(r))
		}
	}
	if oldest != nil {
		g = max(g, slope(oldest))
	}
	return g
}

// slow takes what is read seldom: detail of memory, events, limits, pressure.
func (t *Track) slow(s *knowledge.Sample) {
	w := &t.Window
	w.Have |= s.Have
	if s.Have&knowledge.HasLimits != 0 {
		w.Quota, w.Period = s.Quota, s.Period
		w.MemoryLimit, w.MemoryHigh = s.MemoryLimit, s.MemoryHigh
	}
	if s.Have&knowledge.HasOOM != 0 {
		t.memoryEvents(s)
	}
	if s.Have&knowledge.HasBounds != 0 {
		w.Bounds = s.Bounds
	}
	if s.Have&knowledge.HasCPUPressure != 0 {
		w.CPUPressure = s.CPUPressure
	}
	if s.Have&knowledge.HasMemoryPressure != 0 {
		w.MemoryPressure = s.MemoryPressure
	}
	if s.Have&knowledge.HasIOPressure != 0 {
		w.IOPressure = s.IOPressure
	}
	if s.Have&knowledge.HasIO != 0 {
		w.ReadBytes, w.WriteBytes = s.ReadBytes, s.WriteBytes
	}
	if s.Have&knowledge.HasNetwork != 0 {
		w.RxBytes, w.TxBytes = s.RxBytes, s.TxBytes
	}
	if s.Have&knowledge.HasPids != 0 {
		w.Pids = s.Pids
	}
}

// detail takes what the memory consists of.
func (t *Track) detail(s *knowledge.Sample) {
	w := &t.Window
	before := t.level
	t.level = memoryLevel{at: s.At, usage: s.MemoryUsage, hard: hardOf(s, w.MemoryLimit), inactive: s.InactiveFile}
	if !before.at.IsZero() {
		t.correct(&before)
	}
	w.Anon, w.Cache = s.Anon, s.CleanFile
	t.refaultRate(s)
	i := t.minute % anonMinutes
	t.anonMinute[i] = max(t.anonMinute[i], s.Anon)
	w.AnonPeak = 0
	for _, v := range t.anonMinute {
		w.AnonPeak = max(w.AnonPeak, v)
	}
}

// hardOf is what reclaim cannot take. Dirty pages count up to a fifth of the limit: with more of
// them a writer waits until they are written, as v2's kernel makes it, and needs no more memory.
func hardOf(s *knowledge.Sample, limit knowledge.Bytes) knowledge.Bytes {
	if limit <= 0 {
		limit = s.MemoryUsage
	}
	return min(max(s.Hard()-max(s.Dirty-limit/dirtyPart, 0), s.Anon), s.MemoryUsage)
}

// refaultRate updates the rate of refaults, over refaultSpan at least.
func (t *Track) refaultRate(s *knowledge.Sample) {
	w, d := &t.Window, s.At.Sub(t.refaultsAt)
	known := !t.refaultsAt.IsZero() && s.Refaults >= t.refaults
	if known && d < refaultSpan {
		return
	}
	w.RefaultRate = 0
	if known {
		w.RefaultRate = float64(s.Refaults-t.refaults) / d.Seconds()
	}
	if w.RefaultRate > analyse.RefaultsFlat {
		w.LastRefault = s.At
	}
	t.refaults, t.refaultsAt = s.Refaults, s.At
}

// correct sets right what was read since the detail before the newest: all that was new then
// counted as need, and now it is known how much of it was cache.
func (t *Track) correct(before *memoryLevel) {
	span := t.level.at.Sub(before.at)
	if span <= 0 {
		return
	}
	cache, more := before.usage-before.hard, (t.level.usage-t.level.hard)-(before.usage-before.hard)
	since := before.at.Sub(t.began)
	for i := 1; i < t.n; i++ {
		r := t.back(i)
		if r.at <= since {
			return
		}
		part := float64(r.at-since) / float64(span)
		r.hard = min(max(r.usage-cache-knowledge.Bytes(part*float64(more)), 0), r.hard)
	}
}

// memoryEvents turns the kernel's counters into what is new. The first reading
// is a baseline, and so is one that went down.
func (t *Track) memoryEvents(s *knowledge.Sample) {
	w := &t.Window
	known := t.events&knowledge.HasOOM != 0
	was, is := t.oomKills+t.otherKills, s.OOMKills+s.OtherKills
	if is < was { // of a new start
		was = 0
	}
	t.kills += is - was
	if known && s.OOMKills >= t.oomKills && s.HighEvents >= t.high && s.MaxEvents >= t.max {
		w.OOMKills = s.OOMKills - t.oomKills
		w.HighEvents = s.HighEvents - t.high
		w.MaxEvents = s.MaxEvents - t.max
		if w.OOMKills > 0 {
			w.LastOOM = s.At
		}
		if s.OtherKills > t.otherKills {
			w.OtherOOM, w.OtherLevel = s.At, s.OtherLevel
		}
		if w.HighEvents+w.MaxEvents > 0 {
			w.LastMemoryEvent = s.At
		}
	}
	t.oomKills, t.high, t.max = s.OOMKills, s.HighEvents, s.MaxEvents
	t.otherKills = s.OtherKills
	t.events |= knowledge.HasOOM
}

// MarkOOM notes an OOM kill that the Engine reported and the files could not
// (the cgroup went away with its last process).
func (t *Track) MarkOOM(at time.Time) {
	t.Window.LastOOM = at
	t.kills++
}

// FreshDetail reports whether the memory detail was read with, or after, the
// newest fast sample: before memory is judged tight, page cache must be told
// from demand.
func (t *Track) FreshDetail() bool { return !t.level.at.Before(t.Window.At) }

// MarkOtherOOM notes an OOM kill at another level that the files could not report.
func (t *Track) MarkOtherOOM(at time.Time, level knowledge.OOMLevel) {
	t.Window.OtherOOM, t.Window.OtherLevel = at, level
	t.kills++
}

// Kills is the number of OOM kills that were seen, over all starts, at whatever limit.
func (t *Track) Kills() uint64 { return t.kills }
