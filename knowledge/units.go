package knowledge

import (
	"fmt"
	"math"
	"strconv"
)

// NanoCPU is CPU capacity or use in billionths of a core: 1e9 is one core, the
// Engine's own unit. As a limit, 0 means "no limit".
type NanoCPU int64

// OneCPU is one core.
const OneCPU NanoCPU = 1e9

// MaxCPU bounds every CPU figure that is taken from outside: more cores than
// any machine has, small enough that sums never overflow.
const MaxCPU = 4096 * OneCPU

// FromCores turns cores into NanoCPU. NaN and negative become 0, more than
// MaxCPU becomes MaxCPU.
func FromCores(cores float64) NanoCPU {
	switch {
	case math.IsNaN(cores) || cores <= 0:
		return 0
	case cores >= MaxCPU.Cores():
		return MaxCPU
	}
	return NanoCPU(math.Round(cores * 1e9))
}

// Cores is c in cores.
func (c NanoCPU) Cores() float64 { return float64(c) / 1e9 }

// String prints cores with two decimals, or "unlimited" for 0 used as a limit
// is left to the caller: 250e6 prints "0.25".
func (c NanoCPU) String() string {
	if c != 0 && c < OneCPU/100 {
		return strconv.FormatFloat(c.Cores(), 'f', 3, 64)
	}
	return strconv.FormatFloat(c.Cores(), 'f', 2, 64)
}

// Bytes is an amount of memory or traffic. As a limit, 0 means "no limit".
type Bytes int64

// The IEC sizes.
const (
	KiB Bytes = 1 << 10
	MiB Bytes = 1 << 20
	GiB Bytes = 1 << 30
	TiB Bytes = 1 << 40
)

// MaxBytes bounds every size that is taken from outside.
const MaxBytes = 1024 * TiB

// String prints IEC sizes: "128 MiB", "1.5 GiB", "512 B".
func (b Bytes) String() string {
	if b < 0 {
		return "-" + (-max(b, -math.MaxInt64)).String()
	}
	for _, u := range [...]struct {
		size Bytes
		name string
	}{{TiB, "TiB"}, {GiB, "GiB"}, {MiB, "MiB"}, {KiB, "KiB"}} {
		if b < u.size {
			continue
		}
		v := float64(b) / float64(u.size)
		if v >= 100 || v == math.Trunc(v) {
			return fmt.Sprintf("%.0f %s", v, u.name)
		}
		return fmt.Sprintf("%.1f %s", v, u.name)
	}
	return fmt.Sprintf("%d B", int64(b))
}

// Range is a closed interval. Max 0 means "no upper bound".
type Range[T ~int64] struct{ Min, Max T }

// MemoryRoom is the least distance between a working set and a limit that is lowered:
// v1 refuses to go under the working set, v2 kills (runc issue 3509). 64 MiB or 15 %,
// and less for a small one: 20 MiB in use may have 30 MiB.
func MemoryRoom(working Bytes) Bytes {
	return max(working*15/100, min(64*MiB, max(working/2, 8*MiB)))
}

const (
	// kernelKept and kernelPart are the kernel memory that is taken for threads, page tables
	// and sockets where the kernel does not say: 8 MiB, and a part of the anonymous memory.
	kernelKept = 8 * MiB
	kernelPart = 32
)

// KernelCaches is the part of a control group's kernel memory that reclaim can take: caches of
// names and inodes. cgroup v1 does not say how much that is, so what is more than processes of
// this size have is taken for it.
func KernelCaches(kernel, anon Bytes) Bytes { return max(kernel-kernelKept-anon/kernelPart, 0) }
