// Package monitor turns samples of one container into a window: rates instead
// of counters, the last seconds and minutes instead of an instant. It rejects
// and counts what cannot be true; it decides nothing.
//
// A Track belongs to one goroutine and allocates nothing once its history ring
// has grown to its bound.
package monitor

import (
	"math"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

const (
	// recent is how many readings the short ring keeps at most: 5 s at ten a second,
	// with room for a tick that comes early; few is how many at first.
	recent, few = 64, 8
	// shortSpan is the window of the CPU controller (Autothrottle, NSDI'24).
	shortSpan = 5 * time.Second
	// ratioSpan is the time over which the throttle ratio is taken: ten CFS
	// periods of 100 ms.
	ratioSpan = time.Second
	// growthSpan is the time over which the memory's growth is taken.
	growthSpan = 10 * time.Second
	// anonMinutes is how long the peak of anonymous memory is remembered.
	anonMinutes = 30
	// usageSlots of usageSlot each hold the highest one-second usage.
	usageSlots = 12
	usageSlot  = 5 * time.Second
	// artefact is how far usage may exceed the host's cores before the reading
	// is thrown away: clocks of different files are read some µs apart, so a
	// tenth is clamped; twice the host cannot be.
	artefact = 2.0
)

type reading struct {
	at        time.Duration // since the track began
	cpu       time.Duration
	cores     float64 // over the interval before it
	periods   uint64
	throttled uint64
	usage     knowledge.Bytes // of memory
	hard      knowledge.Bytes
}

// counters are what rates are made of.
type counters struct {
	at                 time.Time
	have               knowledge.Signals
	cpu, held          time.Duration
	periods, throttled uint64
}

// Track is the monitor's memory of one container. The zero value is ready.
type Track struct {
	Window knowledge.Window

	prev    counters  // of the last accepted reading
	ring    []reading // a power of two, as long as growthSpan needs
	head, n int       // ring[head-1] is the newest
	level   memoryLevel
	wild    int // readings in a row beyond all reason

	refaults   uint64
	refaultsAt time.Time
	oomKills   uint64
	otherKills uint64
	kills      uint64 // over all starts
	high, max  uint64
	events     knowledge.Signals // which event counters have a baseline
	anonMinute [anonMinutes]knowledge.Bytes
	minute     int64 // running minute since the track began
	began      time.Time
	usage60    [usageSlots]float64
	slot       int64
}

// Minute is what a finished minute leaves for the profile.
type Minute struct {
	Closed bool
	Peak   knowledge.Bytes // highest working set
}

// Observe folds one sample into the window. cpus bounds what is believed. It
// reports whether the sample was accepted, and the minute that it closed.
func (t *Track) Observe(s *knowledge.Sample, cpus int) (accepted bool, m Minute) {
	w := &t.Window
	w.OOMKills, w.HighEvents, w.MaxEvents = 0, 0, 0
	if !sane(s) {
		w.Rejected++
		return false, m
	}
	if t.began.IsZero() || s.At.Before(t.began) {
		t.began, t.minute, t.slot = s.At, 0, 0
	}
	if s.Have&(knowledge.SlowTier|knowledge.HasBounds) != 0 {
		t.slow(s)
	}
	if s.Have&knowledge.HasCPU == 0 {
		if s.Have&knowledge.HasMemory != 0 {
			m = t.memory(s)
		}
		return s.Have != 0, m
	}
	if !t.fast(s, float64(cpus)) {
		return false, m
	}
	m = t.memory(s)
	w.At = s.At
	w.Have |= s.Have
	return true, m
}

// Restart forgets rates and keeps what does not depend on the counters: after a
// pause of the daemon itself, the first reading is a new baseline.
func (t *Track) Restart() {
	t.n, t.head = 0, 0
	t.prev = counters{}
	w := &t.Window
	w.Samples, w.ThrottledRun, w.ThrottleRatio = 0, 0, 0
	w.Usage, w.Missing, w.ThrottledPeriods, w.Periods = 0, 0, 0, 0
	w.UsageMax, w.UsageMean, w.UsageStd = 0, 0, 0
	w.Growth = 0
}

// fast takes the counters of CPU and throttling. It returns false for a reading
// that cannot be true.
func (t *Track) fast(s *knowledge.Sample, cpus float64) bool {
	w := &t.Window
	dt := s.At.Sub(t.prev.at)
	if w.Samples > 0 && dt == 0 {
		return true // the same instant again: only its slow part is new
	}
	if w.Samples == 0 || dt < 0 || counterFell(s, &t.prev) {
		t.baseline(s)
		return true
	}
	usage := float64(s.CPUUsage-t.prev.cpu) / float64(dt)
	throttle := s.Have&t.prev.have&knowledge.HasThrottle != 0
	if usage > cpus*artefact || throttle && s.Throttled-t.prev.throttled > s.Periods-t.prev.periods+1 {
		w.Rejected++
		if t.wild++; t.wild >= 3 { // it stays there: believe it as a new beginning
			t.wild = 0
			t.baseline(s)
		}
		return false
	}
	t.wild, w.Rejected = 0, 0
	usage = min(usage, cpus*1.1)
	w.Interval = dt
	w.Samples++
	w.Usage = knowledge.FromCores(usage)
	w.Missing, w.Periods, w.ThrottledPeriods = 0, 0, 0
	if throttle {
		held := float64(s.ThrottledTime-t.prev.held) / float64(dt)
		w.Missing = knowledge.FromCores(min(held, cpus))
		w.Periods = s.Periods - t.prev.periods
		w.ThrottledPeriods = s.Throttled - t.prev.throttled
		t.run()
	}
	t.push(reading{at: s.At.Sub(t.began), cpu: s.CPUUsage, cores: usage, periods: s.Periods, throttled: s.Throttled})
	t.prev = countersOf(s)
	t.summarise()
	return true
}

// sane reports whether the numbers of the groups that were read can exist. Files
// are parsed strictly before; the Engine's statistics are not, and a kernel may
// go mad.
func sane(s *knowledge.Sample) bool {
	has := func(g knowledge.Signals) bool { return s.Have&g != 0 }
	switch {
	case has(knowledge.HasCPU) && s.CPUUsage < 0,
		has(knowledge.HasThrottle) && s.ThrottledTime < 0,
		has(knowledge.HasMemory) && !size(s.MemoryUsage),
		has(knowledge.HasMemoryStat) && !size(s.Anon, s.File, s.InactiveFile, s.Shmem, s.Unevictable,
			s.Kernel, s.Reclaimable, s.CleanFile, s.Dirty),
		has(knowledge.HasLimits) && !(size(s.MemoryLimit, s.MemoryHigh) &&
			s.Quota >= 0 && s.Quota <= knowledge.MaxCPU && s.Period >= 0),
		has(knowledge.HasCPUPressure) && !percent(s.CPUPressure),
		has(knowledge.HasMemoryPressure) && !percent(s.MemoryPressure),
		has(knowledge.HasIOPressure) && !percent(s.IOPressure):
		return false
	}
	return true
}

// size holds for levels of memory that can exist.
func size(levels ...knowledge.Bytes) bool {
	for _, b := range levels {
		if b < 0 || b > knowledge.MaxBytes {
			return false
		}
	}
	return true
}

// percent holds for shares of time; NaN compares false.
func percent(p knowledge.Pressure) bool {
	for _, v := range [...]float64{p.Some10, p.Some60, p.Some300, p.Full10, p.Full60} {
		if !(v >= 0 && v <= 100) {
			return false
		}
	}
	return true
}

// run counts throttled periods in a row. An interval without any period (the
// container slept) neither adds nor breaks the row.
func (t *Track) run() {
	w := &t.Window
	switch {
	case w.Periods == 0:
	case w.ThrottledPeriods == 0:
		w.ThrottledRun = 0
	case w.ThrottledPeriods >= w.Periods:
		w.ThrottledRun += int(min(w.ThrottledPeriods, 1000))
	default:
		w.ThrottledRun = 1
	}
}

func countersOf(s *knowledge.Sample) counters {
	return counters{s.At, s.Have, s.CPUUsage, s.ThrottledTime, s.Periods, s.Throttled}
}

func counterFell(s *knowledge.Sample, prev *counters) bool {
	if s.CPUUsage < prev.cpu {
		return true
	}
	if s.Have&prev.have&knowledge.HasThrottle == 0 {
		return false
	}
	return s.Periods < prev.periods || s.Throttled < prev.throttled || s.ThrottledTime < prev.held
}

// baseline starts over: the container was restarted, or this is its first reading.
func (t *Track) baseline(s *knowledge.Sample) {
	t.Restart()
	t.prev = countersOf(s)
	t.Window.Samples = 1
	t.Window.Since = s.At
	t.push(reading{at: s.At.Sub(t.began), cpu: s.CPUUsage, cores: math.NaN(), periods: s.Periods, throttled: s.Throttled})
}

// push adds a reading. The ring grows while its oldest reading is young enough to
// count: a container that is read seldom has a short one.
func (t *Track) push(r reading) {
	if t.n == len(t.ring) && t.n < recent && (t.n == 0 || r.at-t.back(t.n-1).at <= growthSpan) {
		grown := make([]reading, max(2*t.n, few))
		for i := range t.n {
			grown[t.n-1-i] = *t.back(i)
		}
		t.ring, t.head = grown, t.n
	}
	t.ring[t.head] = r
	t.head = (t.head + 1) % len(t.ring)
	t.n = min(t.n+1, len(t.ring))
}

// back is the i-th newest reading, 0 the newest.
func (t *Track) back(i int) *reading {
	return &t.ring[(t.head-1-i)&(len(t.ring)-1)]
}

// summarise walks the short ring once for all figures that are made of it.
func (t *Track) summarise() {
	w := &t.Window
	var sum, sq, peak float64
	count := 0
	second := t.back(0)
	now := second.at
	for i := range t.n {
		r := t.back(i)
		age := now - r.at
		if i == 1 || (i > 1 && age <= ratioSpan+50*time.Millisecond) {
			second = r // a second ago; the reading before, where they are rarer
		}
		if i > 0 && age > shortSpan {
			break
		}
		if math.IsNaN(r.cores) {
			break
		}
		sum += r.cores
		sq += r.cores * r.cores
		peak = max(peak, r.cores)
		count++
	}
	mean := sum / float64(max(count, 1))
	w.UsageMax = knowledge.FromCores(peak)
	w.UsageMean = knowledge.FromCores(mean)
	w.UsageStd = knowledge.FromCores(math.Sqrt(max(0, sq/float64(max(count, 1))-mean*mean)))

	newest := t.back(0)
	w.ThrottleRatio = 0
	if p := newest.periods - second.periods; p > 0 {
		w.ThrottleRatio = min(1, float64(newest.throttled-second.throttled)/float64(p))
	}
	if d := newest.at - second.at; d > 0 {
		t.peak60(now, float64(newest.cpu-second.cpu)/float64(d))
	}
}

// peak60 keeps the highest one-second usage of the last minute in slots of 5 s.
func (t *Track) peak60(at time.Duration, usage float64) {
	slot := int64(at / usageSlot)
	for t.slot < slot {
		t.slot++
		t.usage60[t.slot%usageSlots] = 0
		if slot-t.slot > usageSlots { // a long pause: every slot is old
			t.slot = slot - usageSlots
		}
	}
	i := slot % usageSlots
	t.usage60[i] = max(t.usage60[i], usage)
	peak := 0.0
	for _, v := range t.usage60 {
		peak = max(peak, v)
	}
	t.Window.Usage60 = knowledge.FromCores(peak)
}
