package monitor

import (
	"math"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// Cadence says how often containers are read.
type Cadence struct {
	Hot  time.Duration // throttled, near a limit, starting, or being watched: 100 ms
	Busy time.Duration // doing something: 1 s
	Idle time.Duration // doing next to nothing: 5 s
	Slow time.Duration // memory detail, pressure, limits, I/O: 10 s
	// Budget is the share of one core that reading may cost.
	Budget float64
}

// readCost is what one fast reading costs with cold caches: 10 µs of CPU
// (measured over 1000 cgroups; three times the warm loop).
const readCost = 10 * time.Microsecond

// idleUse is use below which a container counts as idle: a hundredth of a core.
const idleUse = knowledge.OneCPU / 100

// Spread fits the cadence to the number of managed containers: with few, the
// budget pays for reading the busy ones more often, so that a step of load is
// seen sooner. 100 containers at a budget of 0.5 %: 500 readings a second, so
// every busy one each 200 ms; 1000: each second.
func (c Cadence) Spread(managed int) Cadence {
	if managed == 0 || c.Budget <= 0 {
		return c
	}
	fair := time.Duration(float64(readCost) / c.Budget * float64(managed))
	c.Busy = min(max(fair, 2*c.Hot), c.Busy)
	c.Idle = min(5*c.Busy, c.Idle)
	return c
}

// idleSlow is how much more seldom the slow tier of an idle container is read: 13
// files on v1 cost 160 µs, 1.6 % of a core for a thousand containers each 10 s.
const idleSlow = 6

// SlowEvery is the interval of the slow tier: longer of an idle container, and of one
// that is not managed.
func (c Cadence) SlowEvery(w *knowledge.Window, acted bool) time.Duration {
	if !acted || idle(w) {
		return idleSlow * c.Slow
	}
	return c.Slow
}

func idle(w *knowledge.Window) bool {
	return w.Usage < idleUse && w.Usage60 < idleUse && w.Growth == 0
}

// Next is how long the container may go without a reading. Those that are not
// managed are only shown, and read less often.
func (c Cadence) Next(f *knowledge.Finding, w *knowledge.Window, acted, watched bool) time.Duration {
	if !acted {
		if idle(w) {
			return 2 * max(c.Idle, c.Busy)
		}
		return max(c.Busy, time.Second)
	}
	switch {
	case w.Samples < 3, watched, w.ThrottledRun > 0, f.Boost, f.Starting:
		return c.Hot
	case f.CPU >= knowledge.SymptomStarved, f.Memory >= knowledge.SymptomTight:
		return c.Hot
	case w.Quota > 0 && w.UsageMax > w.Quota*7/10:
		return c.Hot
	case f.TimeToFull > 0 && f.TimeToFull < 30*time.Second:
		return c.Hot
	case idle(w):
		return c.Idle
	}
	return c.Busy
}

// AfterCut is Next of a container whose memory limit was cut: it is read again before a load that
// begins can fill the limit, and no more often than a busy one.
func (c Cadence) AfterCut(w *knowledge.Window, next time.Duration) time.Duration {
	return min(next, max(FillTime(w), c.Busy))
}

// fastFill is twice the growth of memory, in bytes a second, that a limit has to follow: what is
// read after half of the time until it is full leaves the other half for the correction.
const fastFill = 200e6

// FillTime is the interval in which a container may begin to fill the rest of its limit and still
// be read before it is full.
func FillTime(w *knowledge.Window) time.Duration {
	if w.MemoryLimit <= 0 {
		return math.MaxInt64
	}
	return time.Duration(float64(w.MemoryLimit-w.InUse()) / fastFill * float64(time.Second))
}
