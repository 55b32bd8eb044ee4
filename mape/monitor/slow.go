package monitor

import (
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// turns are the parts of the slow tier that take turns: each reading of the slow
// tier includes one of them.
var turns = [...]knowledge.Signals{
	memoryDetail,
	knowledge.HasIO,
	knowledge.HasNetwork,
	knowledge.HasPids,
	knowledge.HasCPUPressure | knowledge.HasMemoryPressure | knowledge.HasIOPressure,
}

const (
	memoryDetail = knowledge.HasMemoryStat | knowledge.HasOOM
	// nearLimit is the part of the memory limit, in percent, above which the kernel
	// may have to reclaim: its events, refaults and pressure count then.
	nearLimit = 70
	// moved is the least change of memory in use, as its part and in bytes, after
	// which the last detail is out of date; dropped is a fall that may be an OOM kill.
	movedPart    = 32
	movedLeast   = knowledge.MiB
	droppedPart  = 8
	droppedLeast = 4 * knowledge.MiB
)

// Slow is when the parts of one container's slow tier are read: all at first,
// then one part at a time. A group is read more often where its container needs
// it, and more seldom where the container does nothing. The zero value reads
// everything next.
type Slow struct {
	at, limitsAt time.Time
	boundsAt     time.Time
	usage        knowledge.Bytes // in use when memory was read in detail
	last         knowledge.Bytes // in use at the last reading
	turn         uint8
	started      bool
}

// Start spreads the containers: the first reading includes everything, the ones
// after it come at a time and with a part that the container's number chooses.
func (p *Slow) Start(now time.Time, every time.Duration, number int) {
	p.started = true
	p.at, p.limitsAt = now.Add(-every*time.Duration(number%100)/100), now.Add(-every*time.Duration(number%100)/100)
	p.turn = uint8(number % len(turns))
}

// Soon lets the next reading include limits, what bounds them, and memory in detail.
func (p *Slow) Soon() {
	p.at, p.limitsAt, p.boundsAt, p.usage = time.Time{}, time.Time{}, time.Time{}, -1
}

// At is when the slow tier was last read.
func (p *Slow) At() time.Time { return p.at }

// Due returns the groups that the reading at now includes, and counts them as
// read. Every is the interval of the slow tier for this container. Where a change
// of its limits is watched, memory and limits are part of each reading of the slow
// tier.
func (p *Slow) Due(
	now time.Time, w *knowledge.Window, usage knowledge.Bytes, every time.Duration, watched bool,
) knowledge.Signals {
	if !p.started {
		p.at, p.limitsAt, p.usage, p.last = now, now, usage, usage
		p.boundsAt = now
		return knowledge.SlowTier | knowledge.HasBounds
	}
	fell := p.last - usage
	p.last = usage
	if now.Sub(p.at) < every {
		if fell > droppedLeast && fell > p.usage/droppedPart {
			p.usage = usage
			return memoryDetail
		}
		return 0
	}
	p.at = now
	groups := turns[p.turn]
	p.turn = (p.turn + 1) % uint8(len(turns))
	near := w.MemoryLimit > 0 && usage >= w.MemoryLimit/100*nearLimit
	change := max(p.usage-usage, usage-p.usage)
	if watched || near || p.usage < 0 || change > max(movedLeast, p.usage/movedPart) {
		groups |= memoryDetail
	}
	if watched || near {
		groups |= knowledge.HasMemoryPressure
	}
	if watched || now.Sub(p.limitsAt) >= min(every, limitsMost) {
		groups |= knowledge.HasLimits
		p.limitsAt = now
	}
	if groups&knowledge.HasLimits != 0 && now.Sub(p.boundsAt) >= limitsMost {
		groups |= knowledge.HasBounds
		p.boundsAt = now
	}
	if groups&knowledge.HasMemoryStat != 0 {
		p.usage = usage
	}
	return groups
}

// limitsMost bounds the time between two readings of the limits, for containers
// whose slow tier is read seldom.
const limitsMost = time.Minute
