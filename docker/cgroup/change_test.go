package cgroup

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// TestGone removes the cgroup under the reader's feet, as when a container ends
// between two readings: every method says ErrGone, and nothing is set.
// FAULTS row 39, and row 35: a restarted container is a new cgroup.
func TestGone(t *testing.T) {
	for _, name := range []string{"v1", "hybrid", "v2-systemd"} {
		h := tree(t, name, Options{})
		c := attach(t, h)
		for _, f := range []string{"cpuacct.usage", "cpu.stat", "memory.usage_in_bytes", "memory.current"} {
			// A kernel refuses to read what was removed; the copy on disk is emptied instead.
			filepath.WalkDir(h.root, func(path string, d fs.DirEntry, err error) error {
				if err == nil && d.Name() == f {
					return os.Truncate(path, 0)
				}
				return err
			})
		}
		if err := os.RemoveAll(filepath.Join(h.root, "sys/fs/cgroup")); err != nil {
			t.Fatal(err)
		}
		s := knowledge.Sample{Have: knowledge.FastTier | knowledge.SlowTier}
		if err := c.Read(&s, knowledge.FastTier); !errors.Is(err, ErrGone) {
			t.Errorf("%s: Fast: %v", name, err)
		}
		if err := c.Read(&s, cpuSignals); !errors.Is(err, ErrGone) {
			t.Errorf("%s: CPU: %v", name, err)
		}
		if err := c.Read(&s, knowledge.HasLimits); !errors.Is(err, ErrGone) {
			t.Errorf("%s: Limits: %v", name, err)
		}
		if err := c.Read(&s, memorySignals); !errors.Is(err, ErrGone) {
			t.Errorf("%s: Memory: %v", name, err)
		}
		if err := c.Read(&s, knowledge.SlowTier); !errors.Is(err, ErrGone) {
			t.Errorf("%s: Slow: %v", name, err)
		}
		if s.Have != 0 {
			t.Errorf("%s: have %b of what is gone", name, s.Have)
		}
		if err := c.SetQuota(1e9, 0); !errors.Is(err, ErrGone) {
			t.Errorf("%s: SetQuota: %v", name, err)
		}
		if c.Writable() {
			t.Errorf("%s: writable", name)
		}
		if _, err := h.Attach(knowledge.Container{ID: testID, PID: testPID}); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: Attach: %v", name, err)
		}
	}
}

// TestFilesVanish takes one file after another away: its group is not set, the
// others are, and it is no error that a kernel does not tell something.
func TestFilesVanish(t *testing.T) {
	for file, loses := range map[string]knowledge.Signals{
		"memory.stat": knowledge.HasMemoryStat, "memory.events": knowledge.HasOOM, "io.stat": knowledge.HasIO,
		"pids.current": knowledge.HasPids, "cpu.pressure": knowledge.HasCPUPressure, "dev": knowledge.HasNetwork,
		"memory.high": knowledge.HasLimits,
	} {
		h := tree(t, "v2-systemd", Options{})
		c := attach(t, h)
		if err := os.Remove(filesNamed(t, h, file)[0]); err != nil {
			t.Fatal(err)
		}
		var s knowledge.Sample
		for i := range 2 {
			if err := c.Read(&s, knowledge.SlowTier); err != nil {
				t.Errorf("%s: %v", file, err)
			}
			// What was seen to be absent is, from then on, as if it never were.
			want := knowledge.SlowTier &^ loses
			if file == "memory.high" && i == 1 {
				want = knowledge.SlowTier
			}
			if s.Have != want {
				t.Errorf("%s: have %b, want %b", file, s.Have, want)
			}
		}
	}
}

// TestFastWithoutMemoryController: a kernel booted with cgroup_disable=memory has no memory
// limits; a process that cannot see the mount of memory does not know them.
func TestFastWithoutMemoryController(t *testing.T) {
	h := tree(t, "hybrid", Options{})
	if err := os.RemoveAll(filepath.Join(h.root, "sys/fs/cgroup/memory")); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Attach(knowledge.Container{ID: testID}); !errors.Is(err, ErrNotFound) {
		t.Errorf("row 136: attached without the directory of memory: %v", err)
	}
	if _, err := Open(Options{Root: h.root}); !errors.Is(err, ErrNotFound) {
		t.Errorf("row 136: opened without the mount of memory: %v", err)
	}
	off := "memory\t0\t1\t0\n"
	if err := os.WriteFile(filepath.Join(h.root, "proc/cgroups"), []byte(off), 0o644); err != nil {
		t.Fatal(err)
	}
	h, err := Open(Options{Root: h.root})
	if err != nil {
		t.Fatal(err)
	}
	c := attach(t, h)
	var s knowledge.Sample
	if err := c.Read(&s, knowledge.FastTier); err != nil || s.Have != knowledge.HasCPU|knowledge.HasThrottle {
		t.Errorf("have %b, %v", s.Have, err)
	}
	if err := c.Read(&s, knowledge.SlowTier); err != nil || s.Have&knowledge.HasLimits == 0 || s.MemoryLimit != 0 {
		t.Errorf("have %b, limit %d, %v", s.Have, s.MemoryLimit, err)
	}
}

// TestCountersGoBack: a counter that restarted is handed on as it is read; who
// makes rates of it sees that it went down. FAULTS row 35.
func TestCountersGoBack(t *testing.T) {
	h := tree(t, "v2-systemd", Options{})
	c := attach(t, h)
	var before, after knowledge.Sample
	if err := c.Read(&before, knowledge.FastTier); err != nil {
		t.Fatal(err)
	}
	rewrite(t, h, "cpu.stat", "usage_usec 10\nnr_periods 0\nnr_throttled 0\nthrottled_usec 0\n")
	if err := c.Read(&after, knowledge.FastTier); err != nil {
		t.Fatal(err)
	}
	if after.CPUUsage != 10*time.Microsecond || after.Have != before.Have {
		t.Errorf("got %+v", after)
	}
	// FAULTS rows 38 and 41: times of two samples differ by a monotonic clock,
	// whatever the wall clock does, so that a frozen file shows as no progress.
	if after.At.Round(0) == after.At || after.At.Sub(before.At) < 0 {
		t.Errorf("the time of a sample is not monotonic: %v", after.At)
	}
}

// TestLongFiles: hundreds of interfaces are summed whole, a file without an end
// is an error, and neither costs the other groups. FAULTS row 39.
func TestLongFiles(t *testing.T) {
	h := tree(t, "v2-systemd", Options{})
	c := attach(t, h)
	line := "veth0123456: 1000 11 0 0 0 0 0 0 10 9 0 0 0 0 0 0\n"
	rewrite(t, h, "dev", strings.Repeat(line, 3000))
	var s knowledge.Sample
	if err := c.Read(&s, knowledge.SlowTier); err != nil || s.RxBytes != 3000*1000 || s.TxBytes != 3000*10 {
		t.Errorf("3000 interfaces: %d, %d, %v", s.RxBytes, s.TxBytes, err)
	}
	rewrite(t, h, "dev", strings.Repeat(line, maxBuffer/len(line)+1))
	rewrite(t, h, "io.stat", strings.Repeat("8:0 rbytes=1 wbytes=1\n", maxBuffer/20))
	err := c.Read(&s, knowledge.SlowTier)
	if want := knowledge.SlowTier &^ (knowledge.HasNetwork | knowledge.HasIO); !errors.Is(err, errTooLong) ||
		s.Have != want {
		t.Errorf("files without an end: have %b, %v", s.Have, err)
	}
}
