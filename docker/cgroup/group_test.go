package cgroup

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// TestGroupLimits writes the limits of each version: what the kernel's files get.
func TestGroupLimits(t *testing.T) {
	const v1 = "1 0 0:1 / /cg/cpu rw - cgroup cgroup rw,cpu,cpuacct\n2 0 0:2 / /cg/memory rw - cgroup cgroup rw,memory\n"
	const v2 = "1 0 0:1 / /cg rw - cgroup2 cgroup2 rw\n"
	limited := knowledge.Limits{CPU: knowledge.OneCPU / 2, Memory: 64 << 20, MemorySwap: 96 << 20}
	for _, c := range []struct {
		name, mounts string
		limits       knowledge.Limits
		want         map[string]string
	}{
		{"v1", v1, limited, map[string]string{
			"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000",
			"memory/memory.limit_in_bytes": "67108864", "memory/memory.memsw.limit_in_bytes": "100663296",
		}},
		{"v1 without limits", v1, knowledge.Limits{Period: time.Second}, map[string]string{
			"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "1000000",
			"memory/memory.limit_in_bytes": "-1", "memory/memory.memsw.limit_in_bytes": "-1",
		}},
		{"v2", v2, limited,
			map[string]string{"cpu.max": "50000 100000", "memory.max": "67108864", "memory.swap.max": "33554432"}},
		{"v2 without limits", v2, knowledge.Limits{},
			map[string]string{"cpu.max": "max 100000", "memory.max": "max", "memory.swap.max": "max"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := t.TempDir()
			write := func(name, text string) {
				t.Helper()
				file := filepath.Join(root, name)
				if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o600)); err != nil {
					t.Fatal(err)
				}
			}
			write("proc/self/mountinfo", c.mounts)
			for _, dir := range []string{"cg/cpu", "cg/memory"} {
				if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			write("cg/cgroup.subtree_control", "cpu memory pids")
			h, err := Open(Options{Root: root})
			if err != nil {
				t.Fatal(err)
			}
			g := &Group{host: h}
			for _, dir := range h.roots() {
				g.dirs = append(g.dirs, filepath.Join(dir, "group"))
			}
			for name := range c.want {
				dir, file := filepath.Split(name)
				write(filepath.Join("cg", dir, "group", file), "")
			}
			if err := g.SetLimits(c.limits); err != nil {
				t.Fatal(err)
			}
			for name, want := range c.want {
				dir, file := filepath.Split(name)
				if b, err := os.ReadFile(filepath.Join(root, "cg", dir, "group", file)); err != nil || string(b) != want {
					t.Errorf("%s holds %q, %v; want %q", name, b, err, want)
				}
			}
		})
	}
}

// realGroup creates a control group in the real kernel, and removes it and its parent when the
// test ends.
func realGroup(t *testing.T, name string) (p *Parent, g *Group, id knowledge.ContainerID) {
	t.Helper()
	h, err := Open(Options{})
	if err != nil {
		t.Fatal(err)
	}
	p, err = h.CreateParent("effiscale-" + name + "-" + strconv.Itoa(os.Getpid()))
	if errors.Is(err, fs.ErrPermission) && os.Getenv("EFFISCALE_REQUIRE_ENGINE") != "1" {
		t.Skipf("left out: no control group can be created: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Remove() })
	id = knowledge.ContainerID(strings.Repeat("0123456789abcdef", 4))
	if g, err = p.Create(string(id)); err != nil {
		t.Fatal(err)
	}
	return p, g, id
}

// join moves a process into a control group.
func join(g *Group, pid int) error {
	var errs []error
	for _, file := range g.Procs() {
		errs = append(errs, os.WriteFile(file, []byte(strconv.Itoa(pid)), 0))
	}
	return errors.Join(errs...)
}

// TestGroup creates control groups in the real kernel, puts a process into one, and removes
// them; what an earlier run left is found by its name.
func TestGroup(t *testing.T) {
	p, g, id := realGroup(t, "group")
	h, name := p.host, p.name
	limits := knowledge.Limits{CPU: knowledge.OneCPU / 5, Memory: 64 << 20, MemorySwap: 64 << 20}
	for _, l := range []knowledge.Limits{limits, {CPU: knowledge.OneCPU, Memory: 128 << 20, MemorySwap: 128 << 20},
		limits} {
		if err := g.SetLimits(l); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := join(g, cmd.Process.Pid); err != nil {
		t.Error(err)
	}
	c := attachTo(t, h, knowledge.Container{ID: id, PID: cmd.Process.Pid})
	var s knowledge.Sample
	if err := errors.Join(c.Read(&s, knowledge.FastTier|knowledge.HasLimits), c.Close()); err != nil ||
		s.Quota != limits.CPU || s.MemoryLimit != limits.Memory {
		t.Errorf("%+v, %v", s, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if found := h.Parents("effiscale-group-" + strconv.Itoa(os.Getpid())); len(found) != 1 || found[0] != name {
		t.Errorf("found %q", found)
	}
	if err := p.Remove(); err != nil || len(h.Parents(name)) > 0 {
		t.Errorf("%v, left %q", err, h.Parents(name))
	}
	if err := errors.Join(g.Remove(), h.RemoveParent(name)); err != nil {
		t.Errorf("again: %v", err)
	}
}
