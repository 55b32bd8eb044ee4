package monitor

import (
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// memory takes the level of memory: working set, growth, peaks.
func (t *Track) memory(s *knowledge.Sample) (m Minute) {
	w := &t.Window
	if t.n == 0 {
		return m
	}
	if s.Have&knowledge.HasMemory == 0 { // a reading of CPU alone: memory is as it was
		t.back(0).working = w.WorkingSet
		return m
	}
	w.MemoryUsage = s.MemoryUsage
	w.WorkingSet = max(s.MemoryUsage-t.inactive, 0)
	t.back(0).working = w.WorkingSet
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
	w.PeakMinute = max(w.PeakMinute, w.WorkingSet)
	return m
}

// growth is the larger of two slopes of the working set: over the last ten
// seconds and over the last one; an upper bound, never negative. Bytes a second.
func (t *Track) growth() float64 {
	newest := t.back(0)
	slope := func(r *reading) float64 {
		d := (newest.at - r.at).Seconds()
		if d < 0.5 { // shorter than that, one allocation looks like a flood
			return 0
		}
		return float64(newest.working-r.working) / d
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
	if s.Have&knowledge.HasMemoryStat != 0 {
		t.detail(s)
	}
	if s.Have&knowledge.HasOOM != 0 {
		t.memoryEvents(s)
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

func (t *Track) detail(s *knowledge.Sample) {
	w := &t.Window
	t.inactive = s.InactiveFile
	if t.n > 0 { // what was taken for demand may be page cache
		w.WorkingSet = max(w.MemoryUsage-t.inactive, 0)
		t.back(0).working = w.WorkingSet
		w.Growth = t.growth()
	}
	w.Anon = s.Anon
	w.Hard = s.Anon + s.Shmem + s.Unevictable
	w.RefaultRate = 0
	if d := s.At.Sub(t.slowAt).Seconds(); !t.slowAt.IsZero() && d > 0 && s.Refaults >= t.refaults {
		w.RefaultRate = float64(s.Refaults-t.refaults) / d
	}
	t.refaults, t.slowAt = s.Refaults, s.At
	i := t.minute % anonMinutes
	t.anonMinute[i] = max(t.anonMinute[i], s.Anon)
	w.AnonPeak = 0
	for _, v := range t.anonMinute {
		w.AnonPeak = max(w.AnonPeak, v)
	}
}

// memoryEvents turns the kernel's counters into what is new. The first reading
// is a baseline, and so is one that went down.
func (t *Track) memoryEvents(s *knowledge.Sample) {
	w := &t.Window
	known := t.events&knowledge.HasOOM != 0
	if known && s.OOMKills >= t.oomKills && s.HighEvents >= t.high && s.MaxEvents >= t.max {
		w.OOMKills = s.OOMKills - t.oomKills
		w.HighEvents = s.HighEvents - t.high
		w.MaxEvents = s.MaxEvents - t.max
		if w.OOMKills > 0 {
			w.LastOOM = s.At
		}
		if w.HighEvents+w.MaxEvents > 0 {
			w.LastMemoryEvent = s.At
		}
	}
	t.oomKills, t.high, t.max = s.OOMKills, s.HighEvents, s.MaxEvents
	t.events |= knowledge.HasOOM
}

// MarkOOM notes an OOM kill that the Engine reported and the files could not
// (the cgroup went away with its last process).
func (t *Track) MarkOOM(at time.Time) { t.Window.LastOOM = at }

// FreshDetail reports whether the memory detail was read with, or after, the
// newest fast sample: before memory is judged tight, page cache must be told
// from demand.
func (t *Track) FreshDetail() bool { return !t.slowAt.Before(t.Window.At) }

// Kills is the kernel's count of OOM kills since the cgroup was made.
func (t *Track) Kills() uint64 { return t.oomKills }
