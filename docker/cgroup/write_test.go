package cgroup

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/effiscale/effiscale/knowledge"
)

// first is the first line of a file in a tree. A shorter text over a longer one
// leaves a tail in a file on disk; the kernel takes each write for itself.
func first(t *testing.T, h *Host, name string) string {
	t.Helper()
	line, _, _ := strings.Cut(content(t, h, name), "\n")
	return line
}

// TestSetQuota makes one change after another in a tree of each version.
func TestSetQuota(t *testing.T) {
	v1, v2 := tree(t, "v1", Options{}), tree(t, "v2-systemd", Options{})
	c1, c2 := attach(t, v1), attach(t, v2)
	for _, step := range []struct {
		q      knowledge.NanoCPU
		period time.Duration
		v1     string // quota and period
		v2     string
		reads  knowledge.NanoCPU
	}{
		{1500e6, 0, "150000 100000", "150000 100000", 1500e6},
		{0, 0, "-1 100000", "max 100000", 0},
		{250e6, 50 * time.Millisecond, "12500 50000", "12500 50000", 250e6},
		{2e9, time.Second, "2000000 1000000", "2000000 1000000", 2e9},
		{1, 0, "1000 1000000", "1000 1000000", 1e6}, // 1 ms is the least
		{knowledge.MaxCPU, 0, "4096000000 1000000", "4096000000 1000000", knowledge.MaxCPU},
		{333333333, 100 * time.Millisecond, "33333 100000", "33333 100000", 333330000},
		{0, time.Millisecond, "-1 1000", "max 1000", 0},
	} {
		for _, c := range []*Container{c1, c2} {
			if err := c.SetQuota(step.q, step.period); err != nil {
				t.Fatalf("%d, %s: %v", step.q, step.period, err)
			}
			var s knowledge.Sample
			if err := c.Read(&s, knowledge.HasLimits); err != nil || s.Quota != step.reads {
				t.Errorf("%d, %s: reads back %d, %v", step.q, step.period, s.Quota, err)
			}
		}
		if got := first(t, v1, "cpu.cfs_quota_us") + " " + first(t, v1, "cpu.cfs_period_us"); got != step.v1 {
			t.Errorf("v1: %d, %s: wrote %q, want %q", step.q, step.period, got, step.v1)
		}
		if got := first(t, v2, "cpu.max"); got != step.v2 {
			t.Errorf("v2: %d, %s: wrote %q, want %q", step.q, step.period, got, step.v2)
		}
	}
}

// TestSetQuotaRefuses keeps absurd limits from the kernel. FAULTS row 36.
func TestSetQuotaRefuses(t *testing.T) {
	h := tree(t, "v2-systemd", Options{})
	c := attach(t, h)
	for _, bad := range []struct {
		q      knowledge.NanoCPU
		period time.Duration
	}{{-1, 0}, {knowledge.MaxCPU + 1, 0}, {1 << 62, 0}, {1e9, -1}, {1e9, time.Microsecond}, {1e9, time.Second + 1}, {1e9,
		1 << 62}} {
		if err := c.SetQuota(bad.q, bad.period); err == nil {
			t.Errorf("%d, %s: accepted", bad.q, bad.period)
		}
	}
	for _, bad := range []knowledge.Bytes{-1, knowledge.MaxBytes + 1} {
		if err := c.SetHigh(bad); err == nil {
			t.Errorf("high %d: accepted", bad)
		}
	}
	if got := content(t, h, "cpu.max") + content(t, h, "memory.high"); got != "20000 100000max" {
		t.Errorf("a refused limit was written: %q", got)
	}
}

func TestSetHigh(t *testing.T) {
	h := tree(t, "v2-systemd", Options{})
	c := attach(t, h)
	for b, want := range map[knowledge.Bytes]string{48 << 20: "50331648", 0: "max"} {
		if err := c.SetHigh(b); err != nil {
			t.Fatal(err)
		}
		var s knowledge.Sample
		if err := c.Read(&s, knowledge.HasLimits); err != nil || s.MemoryHigh != b || first(t, h, "memory.high") != want {
			t.Errorf("%d: reads back %d, %q, %v", b, s.MemoryHigh, first(t, h, "memory.high"), err)
		}
	}
	v1 := attach(t, tree(t, "v1", Options{}))
	if err := v1.SetHigh(1 << 30); !errors.Is(err, ErrUnsupported) {
		t.Errorf("v1: %v", err)
	}
}

// TestWritable changes nothing, and tells when there is nothing to write.
func TestWritable(t *testing.T) {
	h := tree(t, "v1", Options{})
	if err := os.Remove(filesNamed(t, h, "cpu.cfs_quota_us")[0]); err != nil {
		t.Fatal(err)
	}
	c := attach(t, h)
	if err := c.SetQuota(1e9, 0); c.Writable() || !errors.Is(err, ErrUnsupported) {
		t.Errorf("a kernel without CFS bandwidth: writable %t, %v", c.Writable(), err)
	}
	h = tree(t, "v2-systemd", Options{})
	c = attach(t, h)
	if !c.Writable() || content(t, h, "cpu.max") != "20000 100000" {
		t.Errorf("writable %t, cpu.max %q", c.Writable(), content(t, h, "cpu.max"))
	}
}

// TestClose: a second Close is no error, and no descriptor stays. FAULTS row 73.
func TestClose(t *testing.T) {
	h := tree(t, "hybrid", Options{})
	before := descriptors(t)
	for range 20 {
		c := attach(t, h)
		var s knowledge.Sample
		if err := errors.Join(c.Read(&s, knowledge.FastTier), c.Read(&s, knowledge.SlowTier),
			c.SetQuota(1e9, 0)); err != nil {
			t.Fatal(err)
		}
		if got := descriptors(t) - before; got > 4 {
			t.Fatalf("one container keeps %d descriptors, at most 4 were promised", got)
		}
		if err := errors.Join(c.Close(), c.Close()); err != nil {
			t.Fatal(err)
		}
		for what, err := range map[string]error{"Fast": c.Read(&s, knowledge.FastTier),
			"Slow": c.Read(&s, knowledge.SlowTier), "Limits": c.Read(&s, knowledge.HasLimits), "SetQuota": c.SetQuota(1e9, 0)} {
			if !errors.Is(err, fs.ErrClosed) {
				t.Errorf("%s after Close: %v", what, err)
			}
		}
		c.SetPID(testPID)
	}
	if after := descriptors(t); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

// TestOutOfDescriptors: Attach fails with the kernel's word, leaks nothing and
// works again when there is room. FAULTS row 73.
func TestOutOfDescriptors(t *testing.T) {
	h := tree(t, "hybrid", Options{})
	before := descriptors(t)
	for spare := range 3 {
		free := starve(t, spare)
		_, err := h.Attach(knowledge.Container{ID: testID})
		free()
		if !errors.Is(err, unix.EMFILE) {
			t.Errorf("with %d spare descriptors: %v", spare, err)
		}
	}
	if after := descriptors(t); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
	attach(t, h)
}

// starve leaves this process so many descriptors to open, until the returned
// function is called.
func starve(t *testing.T, spare int) (free func()) {
	t.Helper()
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 64, Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	var held []int
	for {
		fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			break
		}
		held = append(held, fd)
	}
	for range spare {
		unix.Close(held[len(held)-1])
		held = held[:len(held)-1]
	}
	return func() {
		for _, fd := range held {
			unix.Close(fd)
		}
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
			t.Error(err)
		}
	}
}

// descriptors counts the process's open files.
func descriptors(t *testing.T) int {
	t.Helper()
	d, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(d) - 1 // the directory itself
}

// TestQuotaRoundTrip: what is written is read back within a microsecond of
// quota, never above what was asked (but for the kernel's least).
func TestQuotaRoundTrip(t *testing.T) {
	c := attach(t, tree(t, "v2-cgroupfs", Options{}))
	rapid.Check(t, func(t *rapid.T) {
		q := knowledge.NanoCPU(rapid.Int64Range(0, int64(knowledge.MaxCPU)).Draw(t, "quota"))
		period := time.Duration(rapid.Int64Range(1000, 1e6).Draw(t, "period")) * time.Microsecond
		if err := c.SetQuota(q, period); err != nil {
			t.Fatal(err)
		}
		var s knowledge.Sample
		if err := c.Read(&s, knowledge.HasLimits); err != nil {
			t.Fatal(err)
		}
		least := knowledge.NanoCPU(int64(minQuota) * 1e9 / int64(period))
		step := knowledge.NanoCPU(1e9/period.Microseconds()) + 1
		switch {
		case s.Period != period:
			t.Errorf("period %s", s.Period)
		case q == 0 && s.Quota != 0:
			t.Errorf("unlimited became %d", s.Quota)
		case q > least+step && (s.Quota > q+1 || s.Quota < q-step):
			t.Errorf("%d became %d", q, s.Quota)
		case q > 0 && s.Quota == 0:
			t.Errorf("%d became unlimited", q)
		}
	})
}

// TestQuotaStays: a quota that was read, or recorded rounded up or down, is written back to the
// microsecond, and cores as the Engine cuts them.
func TestQuotaStays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		us := rapid.Int64Range(1000, 1e6).Draw(t, "period")
		quota := rapid.Int64Range(1000, 4096*us).Draw(t, "quota")
		period := time.Duration(us) * time.Microsecond
		for _, q := range []knowledge.NanoCPU{
			nanoCPU(quota, us), knowledge.NanoCPU(quota * 1e9 / us), knowledge.NanoCPU((quota*1e9 + us - 1) / us),
		} {
			if got := quotaMicros(q, period); got != quota {
				t.Errorf("%d of %d became %d", quota, us, got)
			}
		}
		cores := rapid.Int64Range(1e7, 4096e9).Draw(t, "cores")
		if got := quotaMicros(knowledge.NanoCPU(cores), 100*time.Millisecond); got != cores/1e4 {
			t.Errorf("%d billionths became %d", cores, got)
		}
	})
}

// TestHostReader reads the machine of a tree, then a changed one.
func TestHostReader(t *testing.T) {
	h := tree(t, "v1", Options{})
	r, err := h.OpenUsage()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var a, b HostSample
	if err := r.Read(&a); err != nil {
		t.Fatal(err)
	}
	// cpu  3312 10 2402 202084 829 7 58: idle and waiting for I/O left out.
	if a.Busy != (3312+10+2402+7+58)*tick || a.CPU != 0 || a.Total != 24684096<<10 || a.Available != 24300324<<10 ||
		a.Used != (24684096-24300324)<<10 {
		t.Errorf("got %+v", a)
	}
	rewrite(t, h, "stat", "cpu  3412 10 2402 209999 829 7 58 66 0 0\n")
	if err := r.Read(&b); err != nil || b.Busy-a.Busy != time.Second || b.CPU <= 0 {
		t.Errorf("a second later: %+v, %v", b, err)
	}
	rewrite(t, h, "stat", "cpu  12 10 2402 209999 829 7 58 66 0 0\n") // back: row 35
	if err := r.Read(&b); err != nil || b.CPU != 0 {
		t.Errorf("counter went back: %+v, %v", b, err)
	}
	keep := b
	for _, bad := range append(absurd, "12 1") { // row 36
		rewrite(t, h, "stat", "cpu "+bad+"\n")
		if err := r.Read(&b); err == nil || b != keep {
			t.Errorf("cpu %.40q: %+v, %v", bad, b, err)
		}
	}
	rewrite(t, h, "stat", "cpu  3412 10 2402 209999 829 7 58 66 0 0\n")
	for _, bad := range []string{"", "MemTotal: 5 kB\n", "MemTotal: 5 kB\nMemAvailable: 6 kB\n",
		"MemTotal: 99999999999999 kB\nMemAvailable: 6 kB\n"} {
		rewrite(t, h, "meminfo", bad)
		if err := r.Read(&b); err == nil {
			t.Errorf("meminfo %q was accepted", bad)
		}
	}
	if err := errors.Join(r.Close(), r.Close()); err != nil {
		t.Error(err)
	}
	if err := r.Read(&b); err == nil {
		t.Error("read after Close")
	}
	os.Remove(filepath.Join(h.root, "proc/meminfo"))
	if _, err := h.OpenUsage(); err == nil || !strings.Contains(err.Error(), "meminfo") {
		t.Errorf("no meminfo: %v", err)
	}
}

func FuzzHost(f *testing.F) {
	f.Add([]byte("cpu  3312 10 2402 202084 829 7 58 66 0 0\n"),
		[]byte("MemTotal: 24684096 kB\nMemAvailable: 24300324 kB\n"))
	f.Fuzz(func(t *testing.T, stat, mem []byte) {
		var s HostSample
		if err := parseStat(stat, &s); err == nil && s.Busy < 0 {
			t.Errorf("busy %d", s.Busy)
		}
		if err := parseMeminfo(mem, &s); err == nil && (s.Used < 0 || s.Total > knowledge.MaxBytes) {
			t.Errorf("%+v", s)
		}
	})
}

// TestSetMemory makes one change after another in a tree of each version: memory, and memory
// and swap together. FAULTS row 101.
func TestSetMemory(t *testing.T) {
	v1, v2 := tree(t, "v1", Options{}), tree(t, "v2-systemd", Options{})
	for _, add := range []struct {
		h               *Host
		beside, name, v string
	}{{v1, "memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "9223372036854771712\n"},
		{v2, "memory.max", "memory.swap.max", "max\n"}} {
		dir := filepath.Dir(filesNamed(t, add.h, add.beside)[0])
		if err := os.WriteFile(filepath.Join(dir, add.name), []byte(add.v), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	c1, c2 := attach(t, v1), attach(t, v2)
	const m = knowledge.MiB
	for _, step := range []struct {
		mem, total knowledge.Bytes
		v1, v2     string // memory, and memory with swap; v2: swap alone
	}{
		{128 * m, 256 * m, "134217728 268435456", "134217728 134217728"},
		{48*m + 5, 48 * m, "50331648 50331648", "50331648 0"}, // whole pages; swap is never less than none
		{512 * m, -1, "536870912 " + noneV1, "536870912 max"},
		{256 * m, 300 * m, "268435456 314572800", "268435456 46137344"},
		{0, 0, noneV1 + " " + noneV1, "max max"},
	} {
		for _, c := range []*Container{c1, c2} {
			if err := c.SetMemory(step.mem, step.total); err != nil {
				t.Fatalf("%d, %d: %v", step.mem, step.total, err)
			}
		}
		if got := first(t, v1, "memory.limit_in_bytes") + " " + first(t, v1, "memory.memsw.limit_in_bytes"); got != step.v1 {
			t.Errorf("v1: %d, %d: wrote %q, want %q", step.mem, step.total, got, step.v1)
		}
		if got := first(t, v2, "memory.max") + " " + first(t, v2, "memory.swap.max"); got != step.v2 {
			t.Errorf("v2: %d, %d: wrote %q, want %q", step.mem, step.total, got, step.v2)
		}
	}
	for _, bad := range [][2]knowledge.Bytes{{-1, 0}, {0, -2}, {knowledge.MaxBytes + 1, 0}, {0, knowledge.MaxBytes + 1}} {
		if c2.SetMemory(bad[0], bad[1]) == nil {
			t.Errorf("%v: accepted", bad)
		}
	}
	if got := first(t, v2, "memory.max"); got != "max" {
		t.Errorf("a refused limit was written: %q", got)
	}
}

// TestSetMemoryOfANewStart: a container that was started again has another directory in the
// same place, and keeps what it started with. FAULTS row 103.
func TestSetMemoryOfANewStart(t *testing.T) {
	h := tree(t, "v2-systemd", Options{})
	c := attach(t, h)
	file := filesNamed(t, h, "memory.max")[0]
	dir := filepath.Dir(file)
	if err := os.Rename(dir, dir+"-old"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("max\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	err := c.SetMemory(64*knowledge.MiB, 64*knowledge.MiB)
	if !errors.Is(err, ErrGone) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
	for _, name := range []string{"memory.current", "memory.reclaim"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("100000000\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Reclaim(64 * knowledge.MiB); !errors.Is(err, ErrGone) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("reclaim: %v", err)
	}
	for name, want := range map[string]string{"memory.max": "max\n", "memory.reclaim": "100000000\n"} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != want {
			t.Errorf("the new start has %s of %q, %v", name, got, err)
		}
	}
}
