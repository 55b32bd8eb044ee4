package knowledge

import "time"

// Signals are the groups of a Sample that were read; the others hold zeros that mean
// nothing. Unknown is not zero.
type Signals uint16

// The groups. The first three are the fast tier.
const (
	HasCPU        Signals = 1 << iota // Usage
	HasThrottle                       // Periods, Throttled, ThrottledTime
	HasMemory                         // MemoryUsage
	HasMemoryStat                     // Memory detail
	HasLimits                         // Quota, Period, MemoryLimit: read back from the kernel
	HasOOM                            // OOM events
	HasCPUPressure
	HasMemoryPressure
	HasIOPressure
	HasIO
	HasPids
	HasNetwork
	HasStopped
	HasBounds // Bounds; of neither tier, for they hardly change
)

// FastTier are the groups that cost little and move quickly; SlowTier are the others.
const (
	FastTier = HasCPU | HasThrottle | HasMemory
	SlowTier = HasMemoryStat | HasLimits | HasOOM | HasCPUPressure | HasMemoryPressure | HasIOPressure |
		HasIO | HasPids | HasNetwork
)

// Pressure is PSI of one resource: shares of time in percent (0..100), as the
// kernel prints them.
type Pressure struct {
	Some10, Some60, Some300 float64
	Full10, Full60          float64
}

// Sample is one reading of one container at one instant: counters since the
// cgroup was made, and levels. It is filled in place and holds no pointers, so
// that reading one allocates nothing.
type Sample struct {
	At   time.Time // when it was read; its monotonic part times every interval
	Have Signals

	// Fast tier.
	CPUUsage      time.Duration // counter: CPU time
	Periods       uint64        // counter: CFS periods in which something was runnable
	Throttled     uint64        // counter: of those, the throttled ones
	ThrottledTime time.Duration // counter: summed over CPUs
	MemoryUsage   Bytes         // with page cache

	// Slow tier.
	MemoryDetail
	MemoryEvents
	Quota                      NanoCPU       // 0: no limit
	Period                     time.Duration // of the quota
	MemoryLimit                Bytes         // 0: no limit
	MemoryHigh                 Bytes         // v2 memory.high; 0: none
	CPUPressure                Pressure
	MemoryPressure, IOPressure Pressure
	ReadBytes, WriteBytes      uint64 // counters: block I/O
	Pids                       int64
	RxBytes, TxBytes           uint64 // counters
	Bounds                     Bounds
	Stopped                    StopCause
}

// MemoryEvents are counters of what happened at memory limits.
type MemoryEvents struct {
	OOM                   uint64   // times the limit could not be met
	OOMKills              uint64   // processes killed at its own limit
	OtherKills            uint64   // processes killed at another level
	OtherLevel            OOMLevel // of the newest of OtherKills
	HighEvents, MaxEvents uint64   // memory.events high and max; v1: failcnt as max
}

// MemoryDetail is what a container's memory consists of.
type MemoryDetail struct {
	Anon, File, InactiveFile Bytes
	Shmem, Unevictable       Bytes
	Kernel                   Bytes // slab, stacks, page tables, sockets
	// Reclaimable is the part of File and Kernel that the kernel can take back at once:
	// page cache that is not dirty, being written, locked or shared memory, and slab that
	// holds caches.
	Reclaimable, CleanFile Bytes
	Dirty                  Bytes  // page cache that is dirty or being written
	Refaults               uint64 // counter: pages that were evicted and came back (file and anon)
}

// Hard is what reclaim cannot take: anonymous and shared memory, pages that are dirty, being
// written or locked, and the kernel's own.
func (m *MemoryDetail) Hard() Bytes { return max(m.Anon+m.File+m.Kernel-m.Reclaimable, m.Anon) }

// Window is the monitor's summary of one container at one instant: the newest sample,
// and figures of the last seconds and minutes.
type Window struct {
	ID ContainerID
	At time.Time // of the newest good sample
	// Have holds the groups that have been read at least once.
	Have Signals
	// Interval is the time between the last two samples of the fast tier.
	Interval time.Duration
	// Samples counts good readings since the container was first seen or its
	// counters restarted; rates need two.
	Samples int
	// Since is when this run of samples began.
	Since time.Time
	// Rejected counts absurd readings in a row, the newest included.
	Rejected int

	// CPU, over the newest interval unless noted.
	Usage     NanoCPU
	UsageMax  NanoCPU // highest of 100 ms usage over the last 5 s
	UsageMean NanoCPU // over the last 5 s
	UsageStd  NanoCPU // over the last 5 s
	// Usage60 is the highest one-second usage of the last 60 s.
	Usage60 NanoCPU
	// Missing is demand that throttling held back in the newest interval: the
	// throttled time summed over CPUs, per second. Usage+Missing estimates demand.
	Missing NanoCPU
	// ThrottledPeriods and Periods of the newest interval.
	ThrottledPeriods, Periods uint64
	// ThrottledRun counts periods throttled without an unthrottled one between.
	ThrottledRun int
	// ThrottleRatio is throttled periods over periods in the last second.
	ThrottleRatio float64
	Quota         NanoCPU // the kernel's; 0: no limit
	Period        time.Duration

	WindowMemory
	Outside

	CPUPressure, MemoryPressure, IOPressure Pressure
	Traffic
}

// Outside is what holds a container besides its own limits.
type Outside struct {
	Bounds Bounds
	// Stopped is why it cannot run now: its use says nothing of its need.
	Stopped StopCause
}

// Mapped is memory that a process has mapped at its start and takes when it is first used.
type Mapped struct {
	Shared Bytes
	// Heap is what a first load may take of a heap that is planned at the start, Planned all of it.
	Heap, Planned Bytes
}

// WindowMemory is the memory of a Window.
type WindowMemory struct {
	MemoryUsage Bytes
	WorkingSet  Bytes // usage - inactive_file, at most the limit
	Anon        Bytes
	Hard        Bytes // what reclaim cannot take (MemoryDetail.Hard); between two details an upper bound
	// Estimated: Hard is above what the last detail said, and may hold page cache.
	Estimated   bool
	Cache       Bytes // page cache that reclaim can take
	Reserved    Bytes // shared memory or heap that is mapped and not used yet
	Planned     Bytes // heap that a runtime planned at its start; 0: not known
	AnonPeak    Bytes // highest anon of the last 30 min
	PeakMinute  Bytes // highest Hard of the running minute
	MemoryLimit Bytes // the kernel's; 0: no limit
	MemoryHigh  Bytes
	// Growth is an upper bound of the growth of Hard over the last 10 s, bytes per second,
	// never negative.
	Growth float64
	// Reaction is the time from one reading until the correction that the next one decides is
	// in force, as it was measured in the last minutes; 0: not measured.
	Reaction time.Duration
	// RefaultRate is pages a second over the slow tier's last interval; LastRefault is when
	// it was last more than a few.
	RefaultRate float64
	LastRefault time.Time
	// OOMKills, HighEvents and MaxEvents that are new since the window before.
	OOMKills, HighEvents, MaxEvents uint64
	// OtherOOM is when the kernel last killed a process of it for want of memory at
	// OtherLevel, not at its own limit; zero: never.
	OtherOOM   time.Time
	OtherLevel OOMLevel
	// LastOOM and LastMemoryEvent (high or max) are zero when there was none.
	LastOOM, LastMemoryEvent time.Time
}

// InUse is the memory that a limit must have room for: what reclaim cannot take; where the
// detail is not known, the working set.
func (w *Window) InUse() Bytes {
	if w.Have&HasMemoryStat == 0 {
		return max(w.WorkingSet, w.Hard)
	}
	return w.Hard
}

// Traffic is the newest reading of I/O counters and processes.
type Traffic struct {
	ReadBytes, WriteBytes uint64
	RxBytes, TxBytes      uint64
	Pids                  int64
}

// Throttled reports whether the newest interval held a throttled period.
func (w *Window) Throttled() bool { return w.ThrottledPeriods > 0 }

// Demand is what the container would have used without its quota, at least.
func (w *Window) Demand() NanoCPU { return w.Usage + w.Missing }

// Point is one reading kept for history: small, without pointers.
type Point struct {
	At          int64   // unix nanoseconds
	CPU         float32 // cores in use
	CPULimit    float32 // cores; 0: no limit
	Throttled   float32 // throttle ratio
	Demand      float32 // cores that it would have used without its limit, at least
	WorkingSet  Bytes
	MemoryLimit Bytes // 0: no limit
}
