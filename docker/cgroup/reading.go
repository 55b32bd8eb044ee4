package cgroup

import (
	"io/fs"
	"time"

	"golang.org/x/sys/unix"

	"github.com/effiscale/effiscale/knowledge"
)

// Read reads groups of signals into s: it sets their fields and their bits in
// s.Have, and leaves all others alone. A file that cannot be read takes only its
// own group away: the bits say what was read, and the error names the first file
// that could not be parsed. ErrGone: attach again.
//
// The time s.At is set with the CPU time. On v2 CPU time and throttling are one
// file and come together. The groups of the fast tier cost a read each, those of
// the slow tier open and close their files as well, and memory.stat as much as
// six others, because the kernel sums its counters up for it.
//
// HasBounds with HasLimits is a routine reading: what bounds the cgroups above may have been
// read for another container some seconds ago. HasBounds alone reads it now.
//
// It allocates nothing unless it fails.
func (c *Container) Read(s *knowledge.Sample, groups knowledge.Signals) error {
	h := c.host
	h.mu.Lock()
	defer h.mu.Unlock()
	if groups&cpuSignals != 0 && h.at[cpu].v2 {
		groups |= cpuSignals
	}
	s.Have &^= groups
	if c.closed {
		return fs.ErrClosed
	}
	if groups&knowledge.HasCPU != 0 {
		s.At = time.Now()
	}
	var bad faults
	end := file(keptFiles)
	if groups&knowledge.SlowTier != 0 {
		end = files
		if groups&knowledge.HasLimits != 0 { // a controller that is not there limits nothing
			s.Quota, s.Period, s.MemoryLimit, s.MemoryHigh = 0, 0, 0, 0
		}
	}
	var read, failed knowledge.Signals
	for f := range end {
		if c.has&(1<<f) == 0 || groups&layout[f].group == 0 {
			continue
		}
		if c.readFile(f, s, &bad) {
			read |= layout[f].group
		} else {
			failed |= layout[f].group
		}
		if bad.gone {
			break
		}
	}
	s.Have |= read &^ failed &^ cpuSignals // the parsers of these set the bits
	if s.Have&groups&knowledge.HasOOM != 0 {
		c.levels(s)
	}
	if groups&knowledge.HasStopped != 0 && !bad.gone {
		c.readStopped(s)
	}
	// The network comes last: where the cgroup is gone, its PID may be that of another
	// process, and one of the files above has failed.
	if groups&knowledge.HasNetwork != 0 && !bad.gone {
		c.readNetwork(s, &bad)
	}
	if bad.gone {
		s.Have &^= groups
	}
	if groups&knowledge.HasBounds != 0 { // also of a cgroup that is gone: its parents are not
		c.readBounds(s, groups&knowledge.HasLimits == 0)
	}
	return bad.result()
}

// readFile reads and parses one file, and reports whether that worked.
func (c *Container) readFile(f file, s *knowledge.Sample, bad *faults) bool {
	var b []byte
	var err error
	if f < keptFiles {
		b, err = c.host.kept(c.kept[f])
	} else {
		t, name := c.host.file(f)
		b, err = c.host.slurp(c.dirs[t], name, false)
		if err == unix.ENOENT && isDir(c.dirs[t]) {
			c.has &^= 1 << f
		}
	}
	if err == nil {
		err = c.parse(f, b, s)
	}
	if err != nil {
		t, name := c.host.file(f)
		bad.note(c.dirs[t], name, err)
	}
	return err == nil
}

// parse gives a file's content to its parser. It is a switch and not a table of
// functions: through one of those, every Sample would escape to the heap.
func (c *Container) parse(f file, b []byte, s *knowledge.Sample) error {
	v2 := c.host.at[layout[f].t].v2
	switch f {
	case cpuStat:
		return parseCPUStat(b, s, v2)
	case memoryStat:
		return parseMemoryStat(b, s, v2)
	case memoryKernel:
		return parseKernelMemory(b, s)
	case memoryEvents:
		if v2 {
			return parseEvents(b, s)
		}
		s.HighEvents = 0
		c.oom.setKills(b)
		return parseOOMControl(b, s)
	case memoryLocal:
		return c.oom.local(b, s)
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

// readNetwork reads the interfaces of the container's own network.
func (c *Container) readNetwork(s *knowledge.Sample, bad *faults) {
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
