package cgroup

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/effiscale/effiscale/knowledge"
)

// testID is the container in every tree of testdata, testPID its first process.
const (
	testID  = "390179bb416de3360586f6b159558317d43387915daf6380cbf18a6ffe314091"
	otherID = "f00d79bb416de3360586f6b159558317d43387915daf6380cbf18a6ffe31f00d"
	testPID = 4242
)

// tree unpacks a tree of kernel files, testdata/NAME.txtar, and opens it.
func tree(t testing.TB, name string, o Options) *Host {
	t.Helper()
	a, err := txtar.ParseFile(filepath.Join("testdata", name+".txtar"))
	if err != nil {
		t.Fatal(err)
	}
	o.Root = t.TempDir()
	if err := txtar.Write(a, o.Root); err != nil {
		t.Fatal(err)
	}
	h, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// attach attaches to the tree's container.
func attach(t testing.TB, h *Host) *Container {
	t.Helper()
	return attachTo(t, h, knowledge.Container{ID: testID, PID: testPID})
}

// attachTo attaches to a container until the test ends.
func attachTo(t testing.TB, h *Host, who knowledge.Container) *Container {
	t.Helper()
	c, err := h.Attach(who)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// filesNamed are the files of a tree below sys with the name.
func filesNamed(t testing.TB, h *Host, name string) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(h.root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && d.Name() == name {
			found = append(found, path)
		}
		return err
	})
	if err != nil || len(found) == 0 {
		t.Fatalf("no file %s in the tree: %v", name, err)
	}
	return found
}

// rewrite gives the files of a tree with the name another content, in place, as
// a kernel does: open descriptors see it.
func rewrite(t testing.TB, h *Host, name, content string) {
	t.Helper()
	for _, path := range filesNamed(t, h, name) {
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func content(t testing.TB, h *Host, name string) string {
	t.Helper()
	b, err := os.ReadFile(filesNamed(t, h, name)[0])
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(string(b), "\n")
}

// memorySignals are the memory in detail.
const memorySignals = knowledge.HasMemoryStat | knowledge.HasOOM

// fastWant and slowWant are what every tree of testdata says, but for what
// versions do not tell.
func fastWant() knowledge.Sample {
	return knowledge.Sample{
		Have: knowledge.FastTier, CPUUsage: 655748000, Periods: 32, Throttled: 31,
		ThrottledTime: 2507887000, MemoryUsage: 19714048,
	}
}

func slowWant() knowledge.Sample {
	pressure := func(avg10 float64) knowledge.Pressure {
		return knowledge.Pressure{Some10: avg10, Some60: 1.5, Some300: 0.31, Full10: 7.97, Full60: 1.43}
	}
	return knowledge.Sample{
		Have: knowledge.SlowTier, Quota: 200e6, Period: 100e6, MemoryLimit: 64 << 20,
		MemoryEvents: knowledge.MemoryEvents{OOM: 2, OOMKills: 2, HighEvents: 5, MaxEvents: 17},
		CPUPressure:  pressure(8.33), MemoryPressure: pressure(2), IOPressure: pressure(0.5),
		ReadBytes: 1467368, WriteBytes: 4120, Pids: 3, RxBytes: 1142, TxBytes: 800,
		MemoryDetail: knowledge.MemoryDetail{Anon: 17620992, File: 1638400, InactiveFile: 1638400, Shmem: 4096,
			Unevictable: 8192, Kernel: 454656, CleanFile: 1638400, Reclaimable: 1638400 + 105136, Refaults: 7},
	}
}

// v1Want changes what v1 tells differently.
func v1Want(fast, slow *knowledge.Sample, psi bool) {
	fast.CPUUsage, fast.ThrottledTime = 655748123, 2507887209
	slow.HighEvents, slow.Kernel, slow.Reclaimable = 0, 0, slow.CleanFile
	if !psi {
		slow.Have &^= knowledge.HasCPUPressure | knowledge.HasMemoryPressure | knowledge.HasIOPressure
		none := knowledge.Pressure{}
		slow.CPUPressure, slow.MemoryPressure, slow.IOPressure = none, none, none
	}
}

// TestTrees reads a whole container in each kind of tree: versions, drivers,
// parents, rootless, nested. FAULTS row 39.
func TestTrees(t *testing.T) {
	const scopeName = "docker-" + testID + ".scope"
	for _, tt := range []struct {
		tree, driver, parent string
		version, path        string
		noPID                bool
	}{
		{tree: "v1", driver: "cgroupfs", version: V1, path: "/docker/" + testID},
		{tree: "v1", driver: "", version: V1, path: "/docker/" + testID},
		{tree: "hybrid", driver: "cgroupfs", version: Hybrid, path: "/docker/" + testID},
		{tree: "v1-systemd", driver: "systemd", version: V1, path: "/system.slice/" + scopeName},
		{tree: "v1-nested", driver: "cgroupfs", version: V1, path: "/docker/" + testID},
		{tree: "v1-nested", driver: "cgroupfs", parent: "/elsewhere", version: V1, path: "/docker/" + testID},
		{tree: "v2-systemd", driver: "systemd", version: V2, path: "/system.slice/" + scopeName},
		{tree: "v2-systemd", driver: "systemd", parent: "system.slice", version: V2, path: "/system.slice/" + scopeName},
		{tree: "v2-systemd", driver: "cgroupfs", version: V2, path: "/system.slice/" + scopeName}, // the process tells
		{tree: "v2-cgroupfs", driver: "cgroupfs", version: V2, path: "/docker/" + testID},
		{tree: "v2-parent-slice", driver: "systemd", parent: "team-web.slice", version: V2,
			path: "/team.slice/team-web.slice/" + scopeName},
		{tree: "v2-parent-slice", driver: "systemd", version: V2, path: "/team.slice/team-web.slice/" + scopeName},
		{tree: "v2-parent", driver: "cgroupfs", parent: "/team/web", version: V2, path: "/team/web/" + testID},
		{tree: "v2-parent", driver: "cgroupfs", parent: "team/web", version: V2, path: "/team/web/" + testID},
		{tree: "v2-rootless", driver: "systemd", version: V2,
			path: "/user.slice/user-1000.slice/user@1000.service/user.slice/" + scopeName},
		{tree: "v2-rootless", driver: "", version: V2, noPID: true,
			path: "/user.slice/user-1000.slice/user@1000.service/user.slice/" + scopeName},
		{tree: "v2-dind", driver: "systemd", version: V2, path: "/odd/place/" + scopeName},
	} {
		t.Run(tt.tree+","+tt.driver+","+tt.parent, func(t *testing.T) {
			h := tree(t, tt.tree, Options{Driver: tt.driver})
			if h.Version() != tt.version {
				t.Errorf("version %s, want %s", h.Version(), tt.version)
			}
			psi := tt.version != V1
			if h.PSI() != psi {
				t.Errorf("PSI() = %t", h.PSI())
			}
			who := knowledge.Container{ID: testID, PID: testPID, CgroupParent: tt.parent}
			if tt.noPID {
				who.PID = 0
			}
			c, err := h.Attach(who)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if c.Path() != tt.path {
				t.Errorf("path %s, want %s", c.Path(), tt.path)
			}
			fast, slow := fastWant(), slowWant()
			if tt.version != V2 {
				v1Want(&fast, &slow, psi)
			}
			if tt.noPID {
				slow.Have &^= knowledge.HasNetwork
				slow.RxBytes, slow.TxBytes = 0, 0
			}
			var got knowledge.Sample
			if err := c.Read(&got, knowledge.FastTier); err != nil {
				t.Error(err)
			}
			if got.At.IsZero() {
				t.Error("the sample has no time")
			}
			at := cmpopts.IgnoreFields(knowledge.Sample{}, "At")
			if d := cmp.Diff(fast, got, at); d != "" {
				t.Error("fast:", d)
			}
			got = knowledge.Sample{}
			if err := c.Read(&got, knowledge.SlowTier); err != nil {
				t.Error(err)
			}
			if d := cmp.Diff(slow, got, at); d != "" {
				t.Error("slow:", d)
			}
			if !c.Writable() {
				t.Error("not writable")
			}
		})
	}
}

// TestTiersKeepToThemselves reads both tiers into one sample: neither touches
// the other's part.
func TestTiersKeepToThemselves(t *testing.T) {
	c := attach(t, tree(t, "v2-systemd", Options{}))
	var s knowledge.Sample
	for range 2 {
		if err := c.Read(&s, knowledge.FastTier); err != nil {
			t.Fatal(err)
		}
		if err := c.Read(&s, knowledge.SlowTier); err != nil {
			t.Fatal(err)
		}
	}
	if want := knowledge.FastTier | knowledge.SlowTier; s.Have != want {
		t.Errorf("have %b, want %b", s.Have, want)
	}
	fast := fastWant()
	if s.CPUUsage != fast.CPUUsage || s.MemoryUsage != fast.MemoryUsage || s.Anon != slowWant().Anon {
		t.Errorf("a tier overwrote the other: %+v", s)
	}
	var l, m, u knowledge.Sample
	if err := c.Read(&u, cpuSignals); err != nil || u.Have != cpuSignals || u.CPUUsage != fast.CPUUsage ||
		u.MemoryUsage != 0 || u.At.IsZero() {
		t.Errorf("cpu: %+v, %v", u, err)
	}
	want := knowledge.Sample{
		Have: memorySignals, MemoryEvents: knowledge.MemoryEvents{OOM: 2, OOMKills: 2, HighEvents: 5, MaxEvents: 17},
		MemoryDetail: knowledge.MemoryDetail{Anon: 17620992, File: 1638400, InactiveFile: 1638400, Shmem: 4096,
			Unevictable: 8192, Kernel: 454656, CleanFile: 1638400, Reclaimable: 1638400 + 105136, Refaults: 7},
	}
	if err := c.Read(&m, memorySignals); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, m); d != "" {
		t.Error("memory:", d)
	}
	if err := c.Read(&l, knowledge.HasLimits); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(knowledge.Sample{Have: knowledge.HasLimits, Quota: 200e6, Period: 100e6, MemoryLimit: 64 << 20},
		l); d != "" {
		t.Error("limits:", d)
	}
}

// TestOpenRefuses names what is wrong with a machine.
func TestOpenRefuses(t *testing.T) {
	root := t.TempDir()
	if _, err := Open(Options{Root: root}); err == nil || !strings.Contains(err.Error(), "mountinfo") {
		t.Errorf("no mount table: %v", err)
	}
	if _, err := Open(Options{Root: root, Driver: "systemctl"}); err == nil || !strings.Contains(err.Error(),
		"systemctl") {
		t.Errorf("unknown driver: %v", err)
	}
	if err := os.MkdirAll(filepath.Join(root, "proc/self"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, table := range []string{"", "nonsense\n",
		"36 31 0:33 / /sys/fs/cgroup/devices rw - cgroup cgroup rw,devices\n"} {
		if err := os.WriteFile(filepath.Join(root, "proc/self/mountinfo"), []byte(table), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(Options{Root: root}); err == nil {
			t.Errorf("%q: no error", table)
		}
	}
}

func TestMountTable(t *testing.T) {
	root := t.TempDir()
	h := &Host{root: root}
	for _, dir := range []string{"sys/fs/cgroup/cpu", "mnt/with space/cpu", "elsewhere", "memory"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cpus := `31 30 0:28 /docker/x /sys/fs/cgroup/cpu rw shared:1 - cgroup cgroup rw,cpu,cpuacct
32 30 0:28 / /mnt/with\040space/cpu rw - cgroup cgroup rw,cpu,cpuacct
33 30 0:28 /docker/y /elsewhere rw - cgroup cgroup rw,cpu,cpuacct
`
	if missing := h.mounted(cpus); missing != "memory" {
		t.Errorf("without memory: missing %q", missing)
	}
	if missing := h.mounted(cpus + "34 30 0:29 / /hidden rw - cgroup cgroup rw,memory\n"); missing != "memory" {
		t.Errorf("with a mount of memory below another one: missing %q", missing)
	}
	missing := h.mounted(cpus + "34 30 0:29 / /memory rw - cgroup cgroup rw,memory\n")
	if missing != "" || h.at[cpu].dir != root+"/mnt/with space/cpu" || h.at[cpuacct] != h.at[cpu] {
		t.Errorf("missing %q, got %+v", missing, h.at)
	}
	if h.at[memory].dir != root+"/memory" || h.version != V1 {
		t.Errorf("memory %+v, version %s", h.at[memory], h.version)
	}
	if err := os.MkdirAll(filepath.Join(root, "proc"), 0o755); err != nil {
		t.Fatal(err)
	}
	off := "#subsys_name\thierarchy\tnum_cgroups\tenabled\nmemory\t0\t1\t0\n" // cgroup_disable=memory
	if err := os.WriteFile(filepath.Join(root, "proc/cgroups"), []byte(off), 0o644); err != nil {
		t.Fatal(err)
	}
	if missing := h.mounted(cpus); missing != "" {
		t.Errorf("with memory switched off in the kernel: missing %q", missing)
	}
}
