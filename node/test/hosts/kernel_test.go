package hosts

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/effiscale/effiscale/docker/observer"
)

// throttle gives the daemon's process a share of one core, all its threads
// together; it holds for this life of it.
func (h *host) throttle(cores float64) {
	h.t.Helper()
	const period = 100_000
	quota := int64(cores * period)
	dir, err := filepath.Join(observer.CgroupRoot, "cpu", namespace(h.n)+"-daemon"), error(nil)
	_, v2 := os.Stat(filepath.Join(observer.CgroupRoot, "cgroup.controllers"))
	files := map[string]string{"cpu.cfs_period_us": fmt.Sprint(period), "cpu.cfs_quota_us": fmt.Sprint(quota)}
	if v2 == nil {
		dir, files = filepath.Join(observer.CgroupRoot, namespace(h.n)+"-daemon"),
			map[string]string{"cpu.max": fmt.Sprintf("%d %d", quota, period)}
		err = os.WriteFile(filepath.Join(observer.CgroupRoot, "cgroup.subtree_control"), []byte("+cpu"), 0)
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
	for _, root := range []string{observer.CgroupRoot, filepath.Join(observer.CgroupRoot, "cpu")} {
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
