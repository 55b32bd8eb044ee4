// Package compare holds the readings of docker/cgroup against those of runc's
// library and of cAdvisor's, on the same real cgroups in the same run. It is a
// module of its own, so that nothing else depends on them:
//
//	cd docker/cgroup/compare && go test -v .
package compare

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	cadvisor "github.com/google/cadvisor/lib/container"
	"github.com/google/cadvisor/lib/container/libcontainer"
	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/cgroups/manager"
	"golang.org/x/sys/unix"

	"github.com/effiscale/effiscale/docker/cgroup"
	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape/monitor"
)

const (
	containers = 1000
	rounds     = 3
)

// TestCompare reads all containers with each library, and prints what a reading
// costs. The gate is generous: other work on the machine falls on all alike.
func TestCompare(t *testing.T) {
	managers, ours := made(t)
	handlers := make([]*libcontainer.Handler, len(managers))
	metrics := cadvisor.MetricSet{
		cadvisor.CpuUsageMetrics: {}, cadvisor.MemoryUsageMetrics: {}, cadvisor.DiskIOMetrics: {},
		cadvisor.NetworkUsageMetrics: {},
	}
	for i, m := range managers {
		handlers[i] = libcontainer.NewHandler(m, "/", os.Getpid(), metrics)
	}
	var s knowledge.Sample
	var w knowledge.Window
	slow, turn := make([]monitor.Slow, containers), make([]int, containers)
	const every = 10 * time.Second
	begin := time.Now()
	var fast cost
	t.Logf("%-28s %9s %9s %9s %9s %7s", "one reading of one in 1000", "CPU", "allocs", "bytes", "reads", "ratio")
	for _, l := range []struct {
		name string
		read func(i int) error
	}{
		{"ours, fast tier", func(i int) error { return ours[i].Read(&s, knowledge.FastTier) }},
		{"ours, fast and all of slow", func(i int) error {
			return ours[i].Read(&s, knowledge.FastTier|knowledge.SlowTier)
		}},
		{"ours, slow tier by turns", func(i int) error {
			at := begin.Add(time.Duration(turn[i]) * every)
			groups := slow[i].Due(at, &w, 0, every, false)
			if turn[i] == 0 {
				slow[i].Start(at, every, i)
			}
			turn[i]++
			return ours[i].Read(&s, groups)
		}},
		{"runc, GetStats", func(i int) error { _, err := managers[i].GetStats(); return err }},
		{"cAdvisor, handler", func(i int) error { _, err := handlers[i].GetStats(); return err }},
	} {
		c := measure(t, l.read)
		if fast.cpu == 0 {
			fast = c // the first
		}
		ratio := float64(c.cpu) / float64(fast.cpu)
		t.Logf("%-28s %9s %9.1f %9.0f %9.1f %6.1fx", l.name, c.cpu.Round(100*time.Nanosecond), c.allocs, c.bytes, c.reads,
			ratio)
		if l.name == "ours, slow tier by turns" && ratio > 6 {
			t.Errorf("a reading of the slow tier costs %.1f times one of the fast tier", ratio)
		}
		if !strings.HasPrefix(l.name, "ours") && ratio < 5 {
			t.Errorf("%s costs only %.1f times as much as ours", l.name, ratio)
		}
		if strings.HasPrefix(l.name, "ours") && c.allocs > 0.1 {
			t.Errorf("%s allocates %.1f times", l.name, c.allocs)
		}
	}
}

// cost is that of one reading of one container.
type cost struct {
	cpu                  time.Duration
	allocs, bytes, reads float64
}

// measure reads all containers a few times, after a round that does not count:
// the kernel gives each open file its buffer at the first read. Before each round
// it walks through more memory than caches hold, as a second of other work does.
func measure(t *testing.T, read func(i int) error) cost {
	t.Helper()
	junk := make([]byte, 64<<20)
	var c cost
	for round := range rounds + 1 {
		if round == 1 {
			c = cost{}
		}
		for i := 0; i < len(junk); i += 64 {
			junk[i]++
		}
		runtime.GC()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		calls, from := reads(t), cpuTime()
		for i := range containers {
			if err := read(i); err != nil {
				t.Fatal(err)
			}
		}
		c.cpu += cpuTime() - from
		c.reads += float64(reads(t) - calls)
		runtime.ReadMemStats(&after)
		c.allocs += float64(after.Mallocs - before.Mallocs)
		c.bytes += float64(after.TotalAlloc - before.TotalAlloc)
	}
	const n = rounds * containers
	return cost{c.cpu / n, c.allocs / n, c.bytes / n, c.reads / n}
}

// made are so many real, empty cgroups, with a manager of runc's and a reader of
// ours for each. They are gone after the test.
func made(t *testing.T) (managers []cgroups.Manager, ours []*cgroup.Container) {
	t.Helper()
	h, err := cgroup.Open(cgroup.Options{})
	if err != nil {
		t.Skip(err)
	}
	parent := fmt.Sprintf("/effiscale-compare-%d", os.Getpid())
	t.Cleanup(func() {
		for _, pattern := range []string{"/sys/fs/cgroup" + parent, "/sys/fs/cgroup/*" + parent} {
			left, _ := filepath.Glob(pattern)
			for _, dir := range left {
				os.Remove(dir)
			}
		}
	})
	for i := range containers {
		id := fmt.Sprintf("%064x", i)
		m, err := manager.New(&cgroups.Cgroup{Path: parent + "/" + id, Resources: &cgroups.Resources{SkipDevices: true}})
		if err != nil {
			t.Skip(err)
		}
		t.Cleanup(func() { m.Destroy() })
		if err := m.Apply(-1); err != nil {
			t.Skipf("no cgroup can be made here: %v", err)
		}
		c, err := h.Attach(knowledge.Container{ID: knowledge.ContainerID(id), CgroupParent: parent})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		managers, ours = append(managers, m), append(ours, c)
	}
	return managers, ours
}

// reads is the kernel's count of this process's read system calls.
func reads(t *testing.T) (n int64) {
	t.Helper()
	text, err := os.ReadFile("/proc/self/io")
	if err != nil {
		t.Skip(err)
	}
	_, rest, _ := strings.Cut(string(text), "syscr: ")
	if _, err := fmt.Sscan(rest, &n); err != nil {
		t.Skip(err)
	}
	return n
}

// cpuTime is what this process has used, in user and kernel mode.
func cpuTime() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
