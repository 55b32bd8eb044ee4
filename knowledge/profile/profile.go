// Package profile is the learned profile of a service: its CPU use, its memory peaks,
// its start time, and the outcomes of past actions.
//
// It is pure. A profile has about 1 KB, and at most 4 KB; adding to it allocates
// nothing but for values that were never seen; the profiles of several hosts add up.
package profile

import (
	"cmp"
	"slices"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/knowledge/history"
)

// The shapes. CPU and memory fade by half in a day, as in the Vertical Pod
// Autoscaler; a second memory histogram fades in an hour and follows a change of
// regime; starts are rare and fade in a month.
var (
	cpuSpec   = history.Spec{First: 0.01, Buckets: 176, HalfLife: 24 * time.Hour}                  // to 1 072 cores
	daySpec   = history.Spec{First: float64(4 * knowledge.MiB), Buckets: 192, HalfLife: day}       // to 893 GiB
	hourSpec  = history.Spec{First: float64(4 * knowledge.MiB), Buckets: 192, HalfLife: time.Hour} // to 893 GiB
	startSpec = history.Spec{First: 0.25, Buckets: 136, HalfLife: 30 * day}                        // to 1 h 3 min
)

const (
	day = 24 * time.Hour
	// peakDays is how many days' highest values are kept.
	peakDays = 8
	// maxStep bounds the time that one sample represents: it does not represent the gap
	// before it.
	maxStep = time.Minute
	// maxCount and maxObserved keep sums of merged profiles from overflowing.
	maxCount    = 1 << 40
	maxObserved = 100 * 366 * day
)

// Peak is the highest CPU use and memory peak of one UTC day.
type Peak struct {
	Day    int64 // days since 1970; 0: none
	CPU    float32
	Memory knowledge.Bytes
}

// Tally counts how actions of one kind ended.
type Tally struct{ Applied, Reverted, Failed uint64 }

// Profile is the profile of one service. The zero value is not usable; New makes one.
// It is not safe for concurrent use.
type Profile struct {
	// Epoch and Version order copies of one host's profile: a copy with the higher pair is
	// newer. Epoch is when the host began it, in unix seconds: after a loss it begins
	// again, newer than all copies of before.
	Epoch, Version uint64

	cpu, day, hour, start *history.Histogram

	first, last int64 // unix nanoseconds of the first and the newest CPU sample
	observed    time.Duration
	censored    time.Duration // of observed, the time that was throttled
	growth      float64       // bytes per second, as of grownAt
	grownAt     int64
	peaks       [peakDays]Peak
	tallies     [2][3]Tally // by resource and verb
}

// New makes an empty profile.
func New() *Profile {
	return &Profile{
		cpu:   history.New(cpuSpec),
		day:   history.New(daySpec),
		hour:  history.New(hourSpec),
		start: history.New(startSpec),
	}
}

// AddCPU counts use of cores over the time dt before at. A sample that was throttled
// is censored: the caller gives its demand (use and what throttling held back), still
// a lower bound; CensoredShare is their share of the time.
func (p *Profile) AddCPU(at time.Time, cores float64, dt time.Duration, censored bool) {
	if dt <= 0 || !(cores >= 0) || cores > knowledge.MaxCPU.Cores() {
		return
	}
	dt = min(dt, maxStep)
	p.cpu.Add(at, cores, dt.Seconds())
	p.observed = min(p.observed+dt, maxObserved)
	if censored {
		p.censored = min(p.censored+dt, p.observed)
	}
	now := at.UnixNano()
	if p.first == 0 || now < p.first {
		p.first = now
	}
	p.last = max(p.last, now)
	if k := p.peak(at); k != nil {
		k.CPU = max(k.CPU, float32(cores))
	}
}

// AddMemoryPeak counts the highest use of one minute that reclaim cannot take.
func (p *Profile) AddMemoryPeak(at time.Time, peak knowledge.Bytes) {
	if peak < 0 || peak > knowledge.MaxBytes {
		return
	}
	p.day.Add(at, float64(peak), 1)
	p.hour.Add(at, float64(peak), 1)
	if k := p.peak(at); k != nil {
		k.Memory = max(k.Memory, peak)
	}
}

// AddGrowth counts a rate of memory growth in bytes per second. The highest one
// is remembered and fades by half in a day.
func (p *Profile) AddGrowth(at time.Time, rate float64) {
	if !(rate >= 0) || rate > float64(knowledge.MaxBytes) {
		return
	}
	if now := at.UnixNano(); rate >= p.Growth(at) && now > 0 {
		p.growth, p.grownAt = rate, now
	}
}

// AddStart counts how long a container of the service took from its start until
// it was healthy or settled.
func (p *Profile) AddStart(at time.Time, took time.Duration) {
	if took >= 0 {
		p.start.Add(at, took.Seconds(), 1)
	}
}

// AddOutcome counts the outcome of an action on the service, if it is applied,
// reverted or failed. A reverted action was counted as applied before.
func (p *Profile) AddOutcome(resource knowledge.Resource, verb knowledge.Verb, result knowledge.Result) {
	t := p.tally(resource, verb)
	if t == nil {
		return
	}
	switch result {
	case knowledge.ResultApplied, knowledge.ResultAdjusted:
		t.Applied = min(t.Applied+1, maxCount)
	case knowledge.ResultReverted:
		t.Reverted = min(t.Reverted+1, maxCount)
	case knowledge.ResultFailed:
		t.Failed = min(t.Failed+1, maxCount)
	}
}

func (p *Profile) tally(resource knowledge.Resource, verb knowledge.Verb) *Tally {
	if int(resource) >= len(p.tallies) || int(verb) >= len(p.tallies[0]) {
		return nil
	}
	return &p.tallies[resource][verb]
}

// peak is the entry of at's day, made when it is new; nil for a day older than
// those that are kept. An entry from a future that a jump of the clock made up
// gives way.
func (p *Profile) peak(at time.Time) *Peak {
	d := at.Unix() / int64(day/time.Second)
	if d <= 0 {
		return nil
	}
	k := &p.peaks[d%peakDays]
	if k.Day > d && k.Day <= d+2*peakDays {
		return nil
	}
	if k.Day != d {
		*k = Peak{Day: d}
	}
	return k
}

// CPU is the cores that a share q (0..1) of the observed time stayed at or
// below; 0 when nothing was observed.
func (p *Profile) CPU(q float64) float64 { return p.cpu.Quantile(q) }

// CPUMax is the highest use that is remembered, in cores.
func (p *Profile) CPUMax() float64 { return p.cpu.Max() }

// CPUMean is the mean use in cores.
func (p *Profile) CPUMean() float64 { return p.cpu.Mean() }

// CPUWeight is how many seconds of observation the CPU histogram holds, older
// ones discounted: at most 124 650 (a day over ln 2).
func (p *Profile) CPUWeight() float64 { return p.cpu.Total() }

// MemoryNeed is the memory that a share q (0..1) of one-minute peaks stayed at or below, over
// days or over hours, whichever is more; of all of them (1) the highest of the last eight days.
// 0: nothing observed.
func (p *Profile) MemoryNeed(q float64) knowledge.Bytes {
	if q >= 1 {
		return p.highestPeak()
	}
	return knowledge.Bytes(max(p.day.Quantile(q), p.hour.Quantile(q)))
}

func (p *Profile) highestPeak() (highest knowledge.Bytes) {
	last := int64(0)
	for _, k := range p.peaks {
		last = max(last, k.Day)
	}
	for _, k := range p.peaks {
		if k.Day > last-peakDays {
			highest = max(highest, k.Memory)
		}
	}
	return highest
}

// MemoryMax is the highest one-minute peak that is remembered.
func (p *Profile) MemoryMax() knowledge.Bytes {
	return knowledge.Bytes(max(p.day.Max(), p.hour.Max()))
}

// Growth is the highest rate of memory growth in bytes per second, faded to at.
func (p *Profile) Growth(at time.Time) float64 {
	return fade(p.growth, at.UnixNano()-p.grownAt)
}

// StartTime is how long a share q of starts took at most; 0: none was seen.
func (p *Profile) StartTime(q float64) time.Duration {
	return time.Duration(p.start.Quantile(q) * float64(time.Second))
}

// Starts is how many starts are remembered, older ones discounted.
func (p *Profile) Starts() float64 { return p.start.Total() }

// ObservedFor is the sum of the times that samples represent. It grows with the
// monotonic clock, whatever the wall clock does.
func (p *Profile) ObservedFor() time.Duration { return p.observed }

// CensoredShare is the share (0..1) of the observed time that was throttled.
func (p *Profile) CensoredShare() float64 {
	if p.observed <= 0 {
		return 0
	}
	return float64(p.censored) / float64(p.observed)
}

// First and Last are when CPU was first and last observed; zero: never.
func (p *Profile) First() time.Time { return instant(p.first) }

// Last is when CPU was last observed; zero: never.
func (p *Profile) Last() time.Time { return instant(p.last) }

func instant(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns)
}

// Peaks are the highest values of the last days on which something was observed,
// oldest first, at most eight.
func (p *Profile) Peaks() []Peak {
	var out []Peak
	for _, k := range p.peaks {
		if k.Day > 0 {
			out = append(out, k)
		}
	}
	slices.SortFunc(out, func(a, b Peak) int { return cmp.Compare(a.Day, b.Day) })
	return out
}

// Outcomes is how actions of one kind ended.
func (p *Profile) Outcomes(resource knowledge.Resource, verb knowledge.Verb) Tally {
	if t := p.tally(resource, verb); t != nil {
		return *t
	}
	return Tally{}
}
