package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/effiscale/effiscale/docker/observer"
	"github.com/effiscale/effiscale/knowledge"
)

// TestEngineSetQuota writes quotas past a real Engine: the kernel holds them and
// the container runs by them.
func TestEngineSetQuota(t *testing.T) {
	e := realEngine(t)
	h := e.machine()
	c, err := h.Attach(e.run("quota", map[string]any{"NanoCpus": 100e6, "Memory": 64 << 20}, "/burn", "hold", "1"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if !c.Writable() {
		t.Skip("left out: this user cannot write the cgroup's files")
	}
	var s knowledge.Sample
	for _, step := range []struct {
		q, holds knowledge.NanoCPU
		period   time.Duration
	}{{150e6, 150e6, 0}, {0, 0, 0}, {100e6, 100e6, 20 * time.Millisecond}, {1e6, 50e6, 0}, {300e6, 300e6,
		time.Second}, {200e6, 200e6, 100 * time.Millisecond}} {
		if err := c.SetQuota(step.q, step.period); err != nil {
			t.Fatalf("%+v: %v", step, err)
		}
		if err := c.Read(&s, knowledge.HasLimits); err != nil || s.Quota != step.holds || step.period != 0 &&
			s.Period != step.period {
			t.Errorf("%+v: the kernel holds %d per %s, %v", step, s.Quota, s.Period, err)
		}
	}
	if err := c.SetQuota(1e9, 0); err != nil {
		t.Fatal(err)
	}
	observer.Eventually(t, 30*time.Second, "a container that was given a core uses more than 0.2", func() bool {
		var a, b knowledge.Sample
		if err := c.Read(&a, knowledge.FastTier); err != nil {
			t.Fatal(err)
		}
		time.Sleep(200 * time.Millisecond)
		if err := c.Read(&b, knowledge.FastTier); err != nil {
			t.Fatal(err)
		}
		return float64(b.CPUUsage-a.CPUUsage) > 0.2*float64(b.At.Sub(a.At))
	})
	if h.Version() != V2 {
		return
	}
	if err := c.SetHigh(48 << 20); err != nil {
		t.Fatal(err)
	}
	if err := c.Read(&s, knowledge.HasLimits); err != nil || s.MemoryHigh != 48<<20 {
		t.Errorf("memory.high %d, %v", s.MemoryHigh, err)
	}
}

// TestEngineOOM counts a kill inside a container that lives on. FAULTS row 65,
// as far as reading goes.
func TestEngineOOM(t *testing.T) {
	e := realEngine(t)
	c, err := e.machine().Attach(e.run("oom", map[string]any{"Memory": 32 << 20, "MemorySwap": 64 << 20}, "/burn", "oom",
		"128"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var s knowledge.Sample
	observer.Eventually(t, 60*time.Second, "a kill is counted", func() bool {
		if err := c.Read(&s, knowledge.SlowTier); err != nil {
			t.Fatal(err)
		}
		return s.OOMKills > 0
	})
	if s.Have&knowledge.HasOOM == 0 || s.MaxEvents == 0 || s.OOM == 0 {
		t.Errorf("have %b, max %d, oom %d", s.Have, s.MaxEvents, s.OOM)
	}
}

// TestEngineParent runs a container below a parent of its own, which nobody
// tells: it is found by its process; and a parent's quota that is smaller is the
// kernel's refusal. FAULTS row 39.
func TestEngineParent(t *testing.T) {
	e := realEngine(t)
	if e.driver != DriverCgroupfs {
		t.Skip("a parent of the systemd driver would be a slice to clean up")
	}
	h := e.machine()
	parent := fmt.Sprintf("/effiscale-cgroup-test-%d", os.Getpid())
	t.Cleanup(func() {
		left, _ := filepath.Glob(filepath.Join(filepath.Dir(h.at[cpu].dir), "*"+parent)) // each controller's
		for _, dir := range append(left, h.at[unified].dir+parent) {
			os.Remove(dir)
		}
	})
	made := e.run("parent", map[string]any{"CgroupParent": parent, "NanoCpus": 100e6}, "/burn", "hold", "1")
	if _, err := h.Attach(knowledge.Container{ID: made.ID}); !errors.Is(err, ErrNotFound) {
		t.Errorf("attached without knowing the parent: %v", err)
	}
	for _, who := range []knowledge.Container{made, {ID: made.ID, PID: made.PID}, {ID: made.ID, CgroupParent: parent}} {
		c, err := h.Attach(who)
		if err != nil {
			t.Fatalf("%+v: %v", who, err)
		}
		var s knowledge.Sample
		if err := errors.Join(c.Read(&s, knowledge.FastTier), c.Read(&s, knowledge.HasLimits)); err != nil ||
			s.Quota != 100e6 || c.Path() != parent+"/"+string(made.ID) {
			t.Errorf("%s: quota %d, %v", c.Path(), s.Quota, err)
		}
		c.Close()
	}
	if h.at[cpu].v2 {
		return // v2 takes any number, and the parent's counts
	}
	outer := filepath.Join(h.at[cpu].dir, parent, "cpu.cfs_quota_us")
	if err := os.WriteFile(outer, []byte("20000"), 0); err != nil {
		t.Skip(err)
	}
	c, err := h.Attach(made)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetQuota(1e9, 0); !errors.Is(err, unix.EINVAL) {
		t.Errorf("more than the parent's quota: %v", err)
	}
	var before, after knowledge.Sample
	if err := c.Read(&before, knowledge.HasLimits); err != nil {
		t.Fatal(err)
	}
	for _, p := range []time.Duration{time.Second, 10 * time.Millisecond} {
		if err := c.SetQuota(1e9, p); !errors.Is(err, unix.EINVAL) {
			t.Errorf("more than the parent's quota in %s: %v", p, err)
		}
		if err := c.Read(&after, knowledge.HasLimits); err != nil || after != before {
			t.Errorf("a refused quota left %d per %s behind, %v", after.Quota, after.Period, err)
		}
	}
	// Within the parent's quota in each step, from a short period to a long one
	// and back: no order of the two files may exceed it in between.
	for _, p := range []time.Duration{10 * time.Millisecond, time.Second, 20 * time.Millisecond} {
		if err := c.SetQuota(200e6, p); err != nil {
			t.Errorf("0.2 cores in %s: %v", p, err)
		}
	}
}
