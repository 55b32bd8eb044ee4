package cgroup

import (
	"github.com/effiscale/effiscale/knowledge"
)

// file is one file that is read, whatever its name in each version. Files are
// read in this order: a quota needs its period, and the files of a counter that
// is a sum follow each other.
type file uint8

const (
	cpuUsage file = iota
	cpuStat
	memoryUsage
	memoryStat
	memoryKernel
	memoryEvents
	memoryLocal
	memoryFailures
	swapFailures
	cpuPeriod
	cpuQuota
	memoryLimit
	memoryHigh
	cpuPressure
	memoryPressure
	ioPressure
	ioStat
	pidsCurrent
	files

	keptFiles = memoryUsage + 1 // so many, the first ones, are kept open
)

// layout is the group, the hierarchy and the name of each file in both versions;
// "" is a file that a version lacks.
var layout = [files]struct {
	group  knowledge.Signals
	t      hierarchy
	v1, v2 string
}{
	cpuUsage:       {knowledge.HasCPU, cpuacct, "cpuacct.usage", ""},
	cpuStat:        {knowledge.HasThrottle, cpu, "cpu.stat", "cpu.stat"}, // v2: HasCPU too
	memoryUsage:    {knowledge.HasMemory, memory, "memory.usage_in_bytes", "memory.current"},
	memoryStat:     {knowledge.HasMemoryStat, memory, "memory.stat", "memory.stat"},
	memoryKernel:   {knowledge.HasMemoryStat, memory, "memory.kmem.usage_in_bytes", ""},
	memoryEvents:   {knowledge.HasOOM, memory, "memory.oom_control", "memory.events"},
	memoryLocal:    {knowledge.HasOOM, memory, "", "memory.events.local"},
	memoryFailures: {knowledge.HasOOM, memory, "memory.failcnt", ""},
	swapFailures:   {knowledge.HasOOM, memory, "memory.memsw.failcnt", ""},
	cpuPeriod:      {knowledge.HasLimits, cpu, "cpu.cfs_period_us", ""},
	cpuQuota:       {knowledge.HasLimits, cpu, "cpu.cfs_quota_us", "cpu.max"},
	memoryLimit:    {knowledge.HasLimits, memory, "memory.limit_in_bytes", "memory.max"},
	memoryHigh:     {knowledge.HasLimits, memory, "", "memory.high"},
	cpuPressure:    {knowledge.HasCPUPressure, unified, "", "cpu.pressure"},
	memoryPressure: {knowledge.HasMemoryPressure, unified, "", "memory.pressure"},
	ioPressure:     {knowledge.HasIOPressure, unified, "", "io.pressure"},
	ioStat:         {knowledge.HasIO, blkio, "blkio.throttle.io_service_bytes_recursive", "io.stat"},
	pidsCurrent:    {knowledge.HasPids, pids, "pids.current", "pids.current"},
}

// file is where the Host has a file, and its name there; "": nowhere.
func (h *Host) file(f file) (hierarchy, string) {
	l := &layout[f]
	if h.at[l.t].v2 || f == cpuUsage && h.at[cpu].v2 {
		return l.t, l.v2
	}
	return l.t, l.v1
}
