package cgroup

import (
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/effiscale/effiscale/knowledge"
)

// file is one file of the slow tier, whatever its name in each version.
type file uint8

const (
	memoryStat file = iota
	memoryEvents
	memoryFailures
	swapFailures
	memoryLimit
	memoryHigh
	cpuQuota
	cpuPeriod
	cpuShares
	cpuPressure
	memoryPressure
	ioPressure
	ioStat
	pidsCurrent
	files
)

// layout names each file in both versions; "" is a file that a version lacks.
var layout = [files]struct {
	t      hierarchy
	v1, v2 string
}{
	memoryStat:     {memory, "memory.stat", "memory.stat"},
	memoryEvents:   {memory, "memory.oom_control", "memory.events"},
	memoryFailures: {memory, "memory.failcnt", ""},
	swapFailures:   {memory, "memory.memsw.failcnt", ""},
	memoryLimit:    {memory, "memory.limit_in_bytes", "memory.max"},
	memoryHigh:     {memory, "", "memory.high"},
	cpuQuota:       {cpu, "cpu.cfs_quota_us", "cpu.max"},
	cpuPeriod:      {cpu, "cpu.cfs_period_us", ""},
	cpuShares:      {cpu, "cpu.shares", "cpu.weight"},
	cpuPressure:    {unified, "", "cpu.pressure"},
	memoryPressure: {unified, "", "memory.pressure"},
	ioPressure:     {unified, "", "io.pressure"},
	ioStat:         {blkio, "blkio.throttle.io_service_bytes_recursive", "io.stat"},
	pidsCurrent:    {pids, "pids.current", "pids.current"},
}

// file is where the Host has a file, and its name there.
func (h *Host) file(f file) (hierarchy, string) {
	l := layout[f]
	return l.t, h.name(l.v1, l.v2, l.t)
}

// Slow reads the slow tier into s: memory in detail, out-of-memory events, the
// limits that the kernel holds, pressure, block I/O, processes and network. It
// sets the fields and bits of these groups and leaves the rest of s alone; what
// one file lacks hides no other group, as with Fast. memory.stat alone costs as
// much as six others, because the kernel adds its counters up for it: call this
// every few seconds, each container at its own time.
func (c *Container) Slow(s *knowledge.Sample) error {
	c.host.mu.Lock()
	defer c.host.mu.Unlock()
	s.Have &^= slowSignals
	if c.closed {
		return fs.ErrClosed
	}
	var bad faults
	c.memoryDetail(s, &bad)
	if !bad.gone {
		c.limits(s, &bad, cpuShares)
		c.group(s, &bad, knowledge.HasCPUPressure, cpuPressure)
		c.group(s, &bad, knowledge.HasMemoryPressure, memoryPressure)
		c.group(s, &bad, knowledge.HasIOPressure, ioPressure)
		c.group(s, &bad, knowledge.HasIO, ioStat)
		c.group(s, &bad, knowledge.HasPids, pidsCurrent)
	}
	if !bad.gone {
		c.network(s, &bad)
	}
	if bad.gone {
		s.Have &^= slowSignals
	}
	return bad.result()
}

// Memory reads the part of the slow tier that a watch over a growing container
// needs: memory in detail and out-of-memory events. It sets these fields and
// their two bits, nothing else.
func (c *Container) Memory(s *knowledge.Sample) error {
	c.host.mu.Lock()
	defer c.host.mu.Unlock()
	s.Have &^= memorySignals
	if c.closed {
		return fs.ErrClosed
	}
	var bad faults
	c.memoryDetail(s, &bad)
	if bad.gone {
		s.Have &^= memorySignals
	}
	return bad.result()
}

func (c *Container) memoryDetail(s *knowledge.Sample, bad *faults) {
	c.group(s, bad, knowledge.HasMemoryStat, memoryStat)
	c.group(s, bad, knowledge.HasOOM, memoryEvents, memoryFailures, swapFailures)
}

// Limits reads back the limits that the kernel holds: quota, period, memory
// limit, memory.high. It sets these fields and HasLimits, nothing else.
func (c *Container) Limits(s *knowledge.Sample) error {
	c.host.mu.Lock()
	defer c.host.mu.Unlock()
	s.Have &^= knowledge.HasLimits
	if c.closed {
		return fs.ErrClosed
	}
	var bad faults
	c.limits(s, &bad)
	if bad.gone {
		s.Have &^= knowledge.HasLimits
	}
	return bad.result()
}

// limits reads the limits and the further files. A controller that the cgroup
// does not have limits nothing.
func (c *Container) limits(s *knowledge.Sample, bad *faults, more ...file) {
	s.Quota, s.Period, s.MemoryLimit, s.MemoryHigh = 0, 0, 0, 0
	c.group(s, bad, knowledge.HasLimits, cpuPeriod, cpuQuota, memoryLimit, memoryHigh)
	if len(more) > 0 && s.Have&knowledge.HasLimits != 0 {
		s.Have &^= knowledge.HasLimits
		s.Shares = 0
		c.group(s, bad, knowledge.HasLimits, more...)
	}
}

// group reads the files that exist of one group, and sets its bit when all of
// them made sense and there was one.
func (c *Container) group(s *knowledge.Sample, bad *faults, bit knowledge.Signals, members ...file) {
	read, failed := false, false
	for _, f := range members {
		if c.has&(1<<f) == 0 {
			continue
		}
		t, name := c.host.file(f)
		b, err := c.host.slurp(c.dirs[t], name, false)
		if err == nil {
			err = c.parse(f, b, s)
		}
		if err == unix.ENOENT && isDir(c.dirs[t]) {
			c.has &^= 1 << f
		}
		bad.note(c.dirs[t], name, err)
		failed = failed || err != nil
		read = true
	}
	if read && !failed {
		s.Have |= bit
	}
}

// parse gives a file's content to its parser. It is a switch and not a table of
// functions: through one of those, every Sample would escape to the heap.
func (c *Container) parse(f file, b []byte, s *knowledge.Sample) error {
	t, _ := c.host.file(f)
	v2 := c.host.at[t].v2
	switch f {
	case memoryStat:
		if v2 {
			return parseMemoryStatV2(b, s)
		}
		return parseMemoryStatV1(b, s)
	case memoryEvents:
		if v2 {
			return parseEvents(b, s)
		}
		s.HighEvents = 0
		return parseOOMControl(b, s)
	case cpuQuota:
		if v2 {
			return parseCPUMax(b, s)
		}
		return parseQuotaV1(b, s)
	case cpuPressure:
		return parsePressure(b, &s.CPUPressure)
	case memoryPressure:
		return parsePressure(b, &s.MemoryPressure)
	case ioPressure:
		return parsePressure(b, &s.IOPressure)
	case ioStat:
		if v2 {
			return parseIOV2(b, s)
		}
		return parseIOV1(b, s)
	case memoryLimit:
		v, err := limit(b)
		s.MemoryLimit = v
		return err
	case memoryHigh:
		v, err := limit(b)
		s.MemoryHigh = v
		return err
	}
	return parseNumber(f, b, s)
}

// parseNumber reads the files that hold one number.
func parseNumber(f file, b []byte, s *knowledge.Sample) error {
	v, err := single(b)
	if err != nil {
		return err
	}
	switch f {
	case memoryFailures:
		s.MaxEvents = uint64(v)
	case swapFailures:
		// With no swap allowed, memory and swap together meet their limit first
		// and memory.failcnt stays where it is. Seen on Linux 6.18: neither counts
		// then, so that a MaxEvents of 0 is no proof of calm on v1.
		if !add(&s.MaxEvents, v) {
			err = errMalformed
		}
	case cpuPeriod:
		err = setQuota(s, 0, v)
	case cpuShares:
		s.Shares = v
	case pidsCurrent:
		s.Pids = v
	}
	return err
}

// parseQuotaV1 reads cpu.cfs_quota_us, after the period: -1 is no limit.
func parseQuotaV1(b []byte, s *knowledge.Sample) error {
	if s.Period <= 0 {
		return errMalformed
	}
	if string(firstLine(b)) == "-1" {
		s.Quota = 0
		return nil
	}
	v, err := single(b)
	if err != nil || v == 0 {
		return errMalformed
	}
	return setQuota(s, v, s.Period.Microseconds())
}

// network reads the interfaces of the container's own network. It comes after
// the cgroup's own files: had the cgroup gone, and the PID to another process,
// they would have told.
func (c *Container) network(s *knowledge.Sample, bad *faults) {
	if c.proc == "" {
		return
	}
	b, err := c.host.slurp(c.proc, "net/dev", true)
	switch {
	case err == unix.ENOENT || err == unix.ESRCH || err == unix.EINVAL:
		c.proc = "" // the process ended; its cgroup may live on in others
		return
	case err == nil:
		err = parseNetDev(b, s)
	}
	bad.note(c.proc, "net/dev", err)
	if err == nil {
		s.Have |= knowledge.HasNetwork
	}
}
