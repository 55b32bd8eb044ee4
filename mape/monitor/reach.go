package monitor

import (
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

const (
	// touchRate is how fast one core can touch new memory, in bytes per nanosecond: what
	// zeroing pages allows.
	touchRate = 10
	// reachPart is the part of a memory limit's free rest, or of a period's quota, below
	// which what a container can have done needs no look.
	reachMemory, reachQuota = 16, 8
	// unlimitedReach is the CPU time after which memory without a limit is read.
	unlimitedReach = 5 * time.Millisecond
	// Still is the CPU time in which nothing can have happened that a decision depends
	// on: some 2 MiB of memory can be touched in it, and no quota be used up.
	Still = 200 * time.Microsecond
)

// MayGrow reports whether a container that used so much CPU time since its memory was
// read can have touched a part of its limit that counts.
func MayGrow(w *knowledge.Window, used time.Duration) bool {
	switch {
	case used < 0: // the counter was reset
		return true
	case w.MemoryLimit <= 0:
		return used >= unlimitedReach
	}
	free := max(w.MemoryLimit-w.InUse(), 0)
	return int64(used)*touchRate >= int64(free/reachMemory)
}

// Full reports whether use is so near the limit that new memory may take the place of page
// cache: use stays the same then, and only the detail shows what it is.
func Full(w *knowledge.Window, usage knowledge.Bytes) bool {
	return w.MemoryLimit > 0 && usage > w.MemoryLimit-w.MemoryLimit/reachMemory
}

// MayThrottle reports whether a container that used so much CPU time since its
// throttling was read can have been throttled.
func MayThrottle(w *knowledge.Window, used time.Duration) bool {
	switch {
	case w.Quota <= 0:
		return false
	case w.ThrottledRun > 0, used < 0:
		return true
	}
	period := w.Period
	if period <= 0 {
		period = knowledge.DefaultPeriod
	}
	return used >= max(Still, time.Duration(float64(period)*w.Quota.Cores()/reachQuota))
}
