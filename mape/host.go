package mape

import (
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape/execute"
)

// hostUse is the newest reading of the whole host.
type hostUse struct {
	at              time.Time
	cpu             knowledge.NanoCPU
	used, available knowledge.Bytes
	engineUp        bool
	cpuFull         time.Time // since when hardly any CPU is idle; zero: some is
}

// full notes since when 95 % of the cores are in use; below 90 % they are not any more.
func (h *hostUse) full(now time.Time, cores knowledge.NanoCPU) {
	switch {
	case h.cpu < cores*9/10:
		h.cpuFull = time.Time{}
	case h.cpu >= cores*95/100 && h.cpuFull.IsZero():
		h.cpuFull = now
	}
}

// watchHost keeps the guards' view of the host current, once a second.
func (l *Loop) watchHost(now time.Time) {
	if !elapsed(&l.host.at, now, time.Second) {
		return
	}
	if l.o.HostUse != nil {
		if cpu, used, available, ok := l.o.HostUse(); ok {
			l.host.cpu, l.host.used, l.host.available = cpu, used, available
			l.host.full(now, knowledge.NanoCPU(l.o.Host.CPUs)*knowledge.OneCPU)
		}
	}
	h := &l.exec.Host
	h.MemoryFree = l.set.memoryFree(now, l.o.Host.Memory, l.host.available, l.containers.order)
	up, since, lastErr := l.o.Engine.State()
	switch {
	case up && !l.host.engineUp:
		h.EngineDown, h.EngineRestarted = time.Time{}, now
		l.listing.at = time.Time{}
		l.o.Log.Info().Msg("Docker Engine is back; listing all containers")
	case !up && h.EngineDown.IsZero():
		h.EngineDown = since
		if h.EngineDown.IsZero() {
			h.EngineDown = now
		}
		l.o.Log.Warn().Str("error", lastErr).Msg("Docker Engine does not answer; measuring continues")
	case up:
		h.EngineDown = time.Time{}
	}
	l.host.engineUp = up
}

// SetHost takes over the Engine's description of the machine, when it answers late.
func (l *Loop) SetHost(h knowledge.Host) {
	l.o.Host = h
	l.exec.Host.CPUs, l.exec.Host.Memory, l.exec.Host.PutsBack = h.CPUs, h.Memory, execute.PutsBack(&h)
	l.exec.Host.CPUPool = l.set.cpuPool(l.o.Host)
	for _, c := range l.containers.order {
		c.Policy = l.set.Policy(c.Container.Container)
		l.setEnvelope(l.ticks.last, c)
	}
}

// cpuPool is how many cores may be granted as quota in all.
func (s *Settings) cpuPool(h knowledge.Host) knowledge.NanoCPU {
	return knowledge.FromCores(float64(h.CPUs) * (1 - s.CPUReserve) * s.Overcommit)
}

// MemoryKept is the memory of the host that stays free.
func (s *Settings) MemoryKept(total knowledge.Bytes) knowledge.Bytes {
	return max(knowledge.Bytes(float64(total)*s.MemoryReserve), s.MemoryLeast)
}

// memoryFree is what is left of the host's memory budget: what it has, less the reserve, less
// what containers may soon use, less what runs outside of containers.
func (s *Settings) memoryFree(now time.Time, total, available knowledge.Bytes, all []*container) knowledge.Bytes {
	promised, inside := knowledge.Bytes(0), knowledge.Bytes(0)
	for _, c := range all {
		if c.Probe == nil { // exited: it holds nothing
			continue
		}
		w := &c.track.Window
		inside += w.WorkingSet
		promised += w.WorkingSet
		if w.MemoryLimit > 0 && c.Policy.Acts() {
			soon := soonUsed(w.WorkingSet)
			if now.Sub(c.Marks.LastOOM) < c.Policy.OOMProtect { // it was killed for less
				soon = w.MemoryLimit
			}
			promised += max(min(w.MemoryLimit-w.WorkingSet, soon), c.Promised-w.WorkingSet, 0)
		}
	}
	outside := knowledge.Bytes(0)
	if available > 0 {
		outside = max(total-available-inside, 0)
	}
	return total - s.MemoryKept(total) - outside - promised
}

// soonUsed is how much more a container that uses w may soon use within its limit: half as much
// again and 64 MiB. A limit is no reservation: what is free below a much higher one is lent to
// others, until its container uses it.
func soonUsed(w knowledge.Bytes) knowledge.Bytes { return w/2 + 64*knowledge.MiB }
