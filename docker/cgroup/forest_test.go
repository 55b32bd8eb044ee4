package cgroup

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/effiscale/effiscale/knowledge"
)

const forestPrefix = "effiscale-cgroup-forest-"

// forest makes n real, empty cgroups below a parent of our own and attaches to
// them. They are gone after the test; what an earlier run left behind when it
// was killed is gone before. Without the right to make cgroups it skips.
func forest(tb testing.TB, n int) (*Host, []*Container) {
	tb.Helper()
	h, err := Open(Options{})
	if err != nil {
		tb.Skip(err)
	}
	sweep(h)
	parent := "/" + forestPrefix + strconv.Itoa(os.Getpid())
	tb.Cleanup(func() { fell(h, parent) })
	for _, dir := range h.trees() {
		if h.Version() == V2 {
			delegate(dir)
		}
		if err := os.Mkdir(filepath.Join(dir, parent), 0o755); err != nil {
			tb.Skipf("left out: no control group can be created: %v", err)
		}
		if h.Version() == V2 {
			delegate(filepath.Join(dir, parent))
		}
	}
	var all []*Container
	for i := range n {
		id := knowledge.ContainerID(fmt.Sprintf("%064x", i))
		for _, dir := range h.trees() {
			if err := os.Mkdir(filepath.Join(dir, parent, string(id)), 0o755); err != nil {
				tb.Fatal(err)
			}
		}
		all = append(all, attachTo(tb, h, knowledge.Container{ID: id, CgroupParent: parent}))
	}
	return h, all
}

// delegate switches the controllers on for the children of a v2 cgroup.
func delegate(dir string) {
	for _, c := range []string{"+cpu", "+memory", "+io", "+pids"} {
		// A controller that cannot be had is missing in the readings.
		_ = os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte(c), 0)
	}
}

// trees are the distinct hierarchies.
func (h *Host) trees() []string {
	var dirs []string
	for _, m := range h.at {
		if m.dir != "" && !slices.Contains(dirs, m.dir) {
			dirs = append(dirs, m.dir)
		}
	}
	return dirs
}

// sweep removes the forests of processes that are no more.
func sweep(h *Host) {
	for _, dir := range h.trees() {
		left, _ := filepath.Glob(filepath.Join(dir, forestPrefix+"*"))
		for _, l := range left {
			pid, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(l), forestPrefix))
			if err == nil && unix.Kill(pid, 0) == unix.ESRCH {
				fell(h, "/"+filepath.Base(l))
			}
		}
	}
}

func fell(h *Host, parent string) {
	for _, dir := range h.trees() {
		children, _ := os.ReadDir(filepath.Join(dir, parent))
		for _, c := range children {
			if c.IsDir() {
				os.Remove(filepath.Join(dir, parent, c.Name()))
			}
		}
		os.Remove(filepath.Join(dir, parent))
	}
}

// TestFastAllocatesNothing, and the slow tier neither, on real files.
func TestFastAllocatesNothing(t *testing.T) {
	h, all := forest(t, 10)
	c := all[0]
	c.SetPID(os.Getpid())
	c.proc = "/proc/self" // a process in the host's network, for its file alone
	usage, err := h.OpenUsage()
	if err != nil {
		t.Fatal(err)
	}
	defer usage.Close()
	var s knowledge.Sample
	var m HostSample
	for what, f := range map[string]func() error{
		"Fast":       func() error { return c.Read(&s, knowledge.FastTier) },
		"CPU":        func() error { return c.Read(&s, cpuSignals) },
		"Memory":     func() error { return c.Read(&s, memorySignals) },
		"Slow":       func() error { return c.Read(&s, knowledge.SlowTier) },
		"Limits":     func() error { return c.Read(&s, knowledge.HasLimits) },
		"SetQuota":   func() error { return c.SetQuota(500e6, 0) },
		"HostReader": func() error { return usage.Read(&m) },
	} {
		if !c.Writable() && what == "SetQuota" {
			continue
		}
		if n := testing.AllocsPerRun(100, func() {
			if err := f(); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%s allocates %g times", what, n)
		}
	}
	if s.Have&knowledge.FastTier == 0 || s.Have&knowledge.SlowTier == 0 || m.Total == 0 {
		t.Errorf("read nothing: have %b, %+v", s.Have, m)
	}
}

// TestFastReads counts the process's reads: three for each sample on v1, two on
// v2, and no more.
func TestFastReads(t *testing.T) {
	h, all := forest(t, 10)
	const rounds = 50
	var s knowledge.Sample
	before := readCalls(t)
	for range rounds {
		for _, c := range all {
			if err := c.Read(&s, knowledge.FastTier); err != nil {
				t.Fatal(err)
			}
		}
	}
	samples := float64(rounds * len(all))
	got := float64(readCalls(t)-before) / samples
	most := 3.0
	if h.Version() == V2 {
		most = 2
	}
	t.Logf("%.2f reads for each sample", got)
	if got > most+20/samples { // the reading of the count itself
		t.Errorf("%.2f reads for each sample, want at most %.0f", got, most)
	}
}

// readCalls is the kernel's count of this process's read system calls.
func readCalls(tb testing.TB) int64 {
	tb.Helper()
	text, err := os.ReadFile("/proc/self/io")
	if err != nil {
		tb.Skip(err)
	}
	_, rest, _ := strings.Cut(string(text), "syscr: ")
	n, _, ok := decimal([]byte(rest))
	if !ok {
		tb.Skipf("no count in /proc/self/io: %q", text)
	}
	return n
}

// TestConcurrentUse reads, writes, re-points and closes from several goroutines
// at once: the race detector watches, and no reading meets a foreign file.
func TestConcurrentUse(t *testing.T) {
	h := tree(t, "hybrid", Options{})
	c := attach(t, h)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			var s knowledge.Sample
			for range 200 {
				switch i {
				case 0:
					c.SetQuota(200e6, 0)
				case 1:
					c.SetPID(testPID)
				case 2:
					if d, err := h.Attach(knowledge.Container{ID: testID}); err == nil {
						d.Close()
					}
				}
				if err := c.Read(&s, knowledge.FastTier); err != nil || s.MemoryUsage != fastWant().MemoryUsage {
					t.Errorf("%d, %v", s.MemoryUsage, err)
				}
				if err := c.Read(&s, knowledge.SlowTier); err != nil || s.Pids != 3 {
					t.Errorf("%d, %v", s.Pids, err)
				}
			}
		})
	}
	wg.Wait()
}
