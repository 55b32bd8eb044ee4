package observer

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Kernel reads a container's control group, of version 1 or 2.
type Kernel struct {
	cpu, mem, acct string // directories
	v2             bool
}

// CgroupRoot is where the control groups are mounted.
const CgroupRoot = "/sys/fs/cgroup"

// KernelOf finds the control groups of a process.
func KernelOf(pid int) (Kernel, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return Kernel{}, err
	}
	var k Kernel
	for line := range strings.Lines(string(b)) {
		part := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(part) != 3 {
			continue
		}
		for _, c := range strings.Split(part[1], ",") {
			switch c {
			case "cpu":
				k.cpu = filepath.Join(CgroupRoot, "cpu", part[2])
			case "cpuacct":
				k.acct = filepath.Join(CgroupRoot, "cpuacct", part[2])
			case "memory":
				k.mem = filepath.Join(CgroupRoot, "memory", part[2])
			case "":
				if _, err := os.Stat(filepath.Join(CgroupRoot, "cgroup.controllers")); err == nil {
					k = Kernel{cpu: filepath.Join(CgroupRoot, part[2]), mem: filepath.Join(CgroupRoot, part[2]), v2: true}
				}
			}
		}
	}
	if k.cpu == "" || k.mem == "" {
		return k, fmt.Errorf("process %d has no control groups that can be read: %q", pid, b)
	}
	return k, nil
}

// Words are the fields of a file; none when it does not exist any more.
func Words(dir, file string) []string {
	b, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		return nil
	}
	return strings.Fields(string(b))
}

func number(dir, file string) int64 {
	if w := Words(dir, file); len(w) > 0 {
		n, _ := strconv.ParseInt(w[0], 10, 64)
		return n
	}
	return 0
}

// stat is one counter of a file with a name and a number in each line.
func stat(dir, file, name string) int64 {
	w := Words(dir, file)
	for i := 0; i+1 < len(w); i += 2 {
		if w[i] == name {
			n, _ := strconv.ParseInt(w[i+1], 10, 64)
			return n
		}
	}
	return 0
}

// Quota is the CPU limit in cores; 0: none.
func (k Kernel) Quota() float64 {
	var quota, period int64
	if k.v2 {
		w := Words(k.cpu, "cpu.max")
		if len(w) != 2 || w[0] == "max" {
			return 0
		}
		quota, _ = strconv.ParseInt(w[0], 10, 64)
		period, _ = strconv.ParseInt(w[1], 10, 64)
	} else {
		quota, period = number(k.cpu, "cpu.cfs_quota_us"), number(k.cpu, "cpu.cfs_period_us")
	}
	if quota <= 0 || period <= 0 {
		return 0
	}
	return float64(quota) / float64(period)
}

// Throttled counts the throttled periods.
func (k Kernel) Throttled() int64 { return stat(k.cpu, "cpu.stat", "nr_throttled") }

// Memory is the limit in bytes; 0: none.
func (k Kernel) Memory() int64 {
	n := int64(0)
	if k.v2 {
		n = number(k.mem, "memory.max") // "max" is no number
	} else if n = number(k.mem, "memory.limit_in_bytes"); n > 1<<60 {
		n = 0
	}
	return n
}

// MemoryUse is in bytes.
func (k Kernel) MemoryUse() int64 {
	if k.v2 {
		return number(k.mem, "memory.current")
	}
	return number(k.mem, "memory.usage_in_bytes")
}

// CPUTime is the CPU time used so far.
func (k Kernel) CPUTime() time.Duration {
	if k.v2 {
		return time.Duration(stat(k.cpu, "cpu.stat", "usage_usec")) * time.Microsecond
	}
	return time.Duration(number(k.acct, "cpuacct.usage"))
}

// MemoryHeld is anonymous and shared memory in bytes: what no reclaim gives back
// without swap.
func (k Kernel) MemoryHeld() int64 {
	if k.v2 {
		return stat(k.mem, "memory.stat", "anon") + stat(k.mem, "memory.stat", "shmem")
	}
	return stat(k.mem, "memory.stat", "total_rss") + stat(k.mem, "memory.stat", "total_shmem")
}

// OOMKills counts.
func (k Kernel) OOMKills() int64 {
	if k.v2 {
		return stat(k.mem, "memory.events", "oom_kill")
	}
	return stat(k.mem, "memory.oom_control", "oom_kill")
}
