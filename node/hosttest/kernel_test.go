package hosttest

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// kernel reads a container's control group itself: what the daemon says of its
// own deeds proves nothing. Both versions of the interface are known.
type kernel struct {
	cpu, mem string // directories
	v2       bool
}

const cgroupRoot = "/sys/fs/cgroup"

func kernelOf(pid int) (kernel, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return kernel{}, err
	}
	var k kernel
	for line := range strings.Lines(string(b)) {
		part := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(part) != 3 {
			continue
		}
		for _, c := range strings.Split(part[1], ",") {
			switch c {
			case "cpu":
				k.cpu = filepath.Join(cgroupRoot, "cpu", part[2])
			case "memory":
				k.mem = filepath.Join(cgroupRoot, "memory", part[2])
			case "":
				if _, err := os.Stat(filepath.Join(cgroupRoot, "cgroup.controllers")); err == nil {
					k = kernel{cpu: filepath.Join(cgroupRoot, part[2]), mem: filepath.Join(cgroupRoot, part[2]), v2: true}
				}
			}
		}
	}
	if k.cpu == "" || k.mem == "" {
		return k, fmt.Errorf("process %d has no control groups that can be read: %q", pid, b)
	}
	return k, nil
}

// words are a file's fields; none when it is gone with its container.
func words(dir, file string) []string {
	b, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		return nil
	}
	return strings.Fields(string(b))
}

func number(dir, file string) int64 {
	if w := words(dir, file); len(w) > 0 {
		n, _ := strconv.ParseInt(w[0], 10, 64)
		return n
	}
	return 0
}

// stat is one counter of a file of names and numbers.
func stat(dir, file, name string) int64 {
	w := words(dir, file)
	for i := 0; i+1 < len(w); i += 2 {
		if w[i] == name {
			n, _ := strconv.ParseInt(w[i+1], 10, 64)
			return n
		}
	}
	return 0
}

// quota is the CPU limit in cores; 0: none.
func (k kernel) quota() float64 {
	var quota, period int64
	if k.v2 {
		w := words(k.cpu, "cpu.max")
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

// memory is the limit in bytes; 0: none.
func (k kernel) memory() int64 {
	n := int64(0)
	if k.v2 {
		n = number(k.mem, "memory.max") // "max" is no number
	} else if n = number(k.mem, "memory.limit_in_bytes"); n > 1<<60 {
		n = 0
	}
	return n
}

func (k kernel) memoryUse() int64 {
	if k.v2 {
		return number(k.mem, "memory.current")
	}
	return number(k.mem, "memory.usage_in_bytes")
}

func (k kernel) oomKills() int64 {
	if k.v2 {
		return stat(k.mem, "memory.events", "oom_kill")
	}
	return stat(k.mem, "memory.oom_control", "oom_kill")
}

// throttle gives the daemon's process a share of one core, all its threads
// together; it holds for this life of it.
func (h *host) throttle(cores float64) {
	h.t.Helper()
	const period = 100_000
	quota := int64(cores * period)
	dir, err := filepath.Join(cgroupRoot, "cpu", namespace(h.n)+"-daemon"), error(nil)
	_, v2 := os.Stat(filepath.Join(cgroupRoot, "cgroup.controllers"))
	files := map[string]string{"cpu.cfs_period_us": fmt.Sprint(period), "cpu.cfs_quota_us": fmt.Sprint(quota)}
	if v2 == nil {
		dir, files = filepath.Join(cgroupRoot, namespace(h.n)+"-daemon"), map[string]string{"cpu.max": fmt.Sprintf("%d %d", quota, period)}
		err = os.WriteFile(filepath.Join(cgroupRoot, "cgroup.subtree_control"), []byte("+cpu"), 0)
	}
	if err == nil {
		err = os.MkdirAll(dir, 0o755)
	}
	for file, text := range files {
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, file), []byte(text), 0)
		}
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "cgroup.procs"), fmt.Append(nil, h.daemon().cmd.Process.Pid), 0)
	}
	if err != nil {
		h.t.Fatal(err)
	}
}

// unthrottle undoes it.
func (h *host) unthrottle() {
	for _, root := range []string{cgroupRoot, filepath.Join(cgroupRoot, "cpu")} {
		dir := filepath.Join(root, namespace(h.n)+"-daemon")
		if h.daemon().alive() {
			_ = os.WriteFile(filepath.Join(root, "cgroup.procs"), fmt.Append(nil, h.daemon().cmd.Process.Pid), 0)
		}
		_ = os.Remove(dir)
	}
}

// cpu is what the daemon's process has used in this life.
func (h *host) cpu() time.Duration {
	h.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", h.daemon().cmd.Process.Pid))
	_, rest, _ := strings.Cut(string(b), ") ")
	f := strings.Fields(rest)
	if err != nil || len(f) < 13 {
		h.t.Fatalf("no statistics of the daemon of %s: %v", h.name(), err)
	}
	user, _ := strconv.ParseInt(f[11], 10, 64)
	system, _ := strconv.ParseInt(f[12], 10, 64)
	return time.Duration(user+system) * time.Second / 100 // USER_HZ is 100 everywhere
}
