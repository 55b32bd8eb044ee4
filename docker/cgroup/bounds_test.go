package cgroup

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/effiscale/effiscale/knowledge"
)

// put writes files of a tree below the host's root.
func put(t *testing.T, h *Host, files map[string]string) {
	t.Helper()
	for name, text := range files {
		file := filepath.Join(h.root, "sys/fs/cgroup", name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
}

// Row 123: what bounds a container besides its own limits, in both versions.
func TestBounds(t *testing.T) {
	const own = "docker/" + testID + "/"
	for _, c := range []struct {
		name, tree, parent string
		files              map[string]string
		want               knowledge.Bounds
	}{
		{"nothing", "v1", "", nil, knowledge.Bounds{}},
		{"v1: a parent, an inner cgroup", "v1", "", map[string]string{
			"cpu/docker/cpu.cfs_period_us": "50000\n", "cpu/docker/cpu.cfs_quota_us": "25000\n",
			"cpu/" + own + "a/cpu.cfs_period_us": "100000\n", "cpu/" + own + "a/cpu.cfs_quota_us": "-1\n",
			"cpu/" + own + "a/b/cpu.cfs_period_us": "100000\n", "cpu/" + own + "a/b/cpu.cfs_quota_us": "15000\n",
			"memory/docker/memory.limit_in_bytes": "104857600\n", "memory/docker/memory.failcnt": "3\n",
			"memory/docker/memory.memsw.failcnt": "0\n", "memory/docker/memory.max_usage_in_bytes": "104857600\n",
		}, knowledge.Bounds{CPU: 5e8, CPUBy: knowledge.BoundParent, CPULeast: 15e7, CPULeastBy: knowledge.BoundInner,
			Memory: 100 << 20, OOM: 4}},
		{"v1: parents that are not charged", "v1", "", map[string]string{
			"memory/docker/memory.limit_in_bytes": "104857600\n", "memory/docker/memory.use_hierarchy": "0\n",
		}, knowledge.Bounds{}},
		{"v1: a cpuset, a burst", "v1", "", map[string]string{
			"cpuset/" + own + "cpuset.effective_cpus": "1,3-4\n", "cpu/" + own + "cpu.cfs_burst_us": "5000\n",
			"cpu/docker/cpu.cfs_period_us": "100000\n", "cpu/docker/cpu.cfs_quota_us": "400000\n",
		}, knowledge.Bounds{CPU: 3e9, CPUBy: knowledge.BoundCPUSet, CPULeast: 5e7, CPULeastBy: knowledge.BoundBurst}},
		{"v2: two parents", "v2-parent", "/team/web", map[string]string{
			"team/cpu.max": "150000 100000\n", "team/web/cpu.max": "max 100000\n", "team/memory.max": "209715200\n",
			"team/web/memory.max": "max\n", "team/web/memory.high": "157286400\n",
			"team/memory.events.local": "low 0\nhigh 0\nmax 9\noom 2\noom_kill 0\noom_group_kill 0\n",
		}, knowledge.Bounds{CPU: 15e8, CPUBy: knowledge.BoundParent, Memory: 150 << 20, OOM: 2}},
		{"v2: a cpuset of a parent, a burst; inner quotas do not count", "v2-parent", "/team/web", map[string]string{
			"team/cpuset.cpus.effective": "7\n", "team/web/" + testID + "/cpu.max.burst": "10000\n",
			"team/web/" + testID + "/in/cpu.max": "90000 100000\n",
		}, knowledge.Bounds{CPU: 1e9, CPUBy: knowledge.BoundCPUSet, CPULeast: 1e8, CPULeastBy: knowledge.BoundBurst}},
		{"damaged", "v2-parent", "/team/web", map[string]string{
			"team/cpu.max": "many\n", "team/memory.max": "-5\n", "team/cpuset.cpus.effective": "4-2\n",
			"team/memory.events.local": "oom x\n", "team/web/" + testID + "/cpu.max.burst": "\n",
		}, knowledge.Bounds{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := tree(t, c.tree, Options{Driver: DriverCgroupfs})
			put(t, h, c.files)
			h, err := Open(Options{Driver: DriverCgroupfs, Root: h.root})
			if err != nil {
				t.Fatal(err)
			}
			a := attachTo(t, h, knowledge.Container{ID: testID, CgroupParent: c.parent})
			var s knowledge.Sample
			if err := a.Read(&s, knowledge.HasBounds); err != nil || s.Have != knowledge.HasBounds || s.Bounds != c.want {
				t.Errorf("%+v, want %+v; have %b, %v", s.Bounds, c.want, s.Have, err)
			}
		})
	}
}

// In routine readings the containers below a cgroup share what bounds it for some seconds; alone it
// is read now, for the others too, and so it is to tell at which level memory ran out.
func TestBoundsOfSiblings(t *testing.T) {
	const routine = knowledge.SlowTier | knowledge.HasBounds
	sibling := strings.Repeat("b", len(testID))
	for _, c := range []struct {
		tree, parent string
		files        func(mib int) map[string]string
	}{
		{"v1", "", func(mib int) map[string]string {
			return map[string]string{"memory/docker/memory.limit_in_bytes": fmt.Sprintln(mib << 20),
				"cpu/docker/cpu.cfs_period_us": "100000\n", "cpu/docker/cpu.cfs_quota_us": fmt.Sprintln(mib * 1000)}
		}},
		{"v2-parent", "/team/web", func(mib int) map[string]string {
			return map[string]string{"team/memory.max": fmt.Sprintln(mib << 20), "team/cpu.max": fmt.Sprintln(mib*1000, 100000)}
		}},
	} {
		h := tree(t, c.tree, Options{Driver: DriverCgroupfs})
		own := attachTo(t, h, knowledge.Container{ID: testID, CgroupParent: c.parent}).dirs
		for _, dir := range own {
			if dir != "" {
				err := os.CopyFS(filepath.Join(filepath.Dir(dir), sibling), os.DirFS(dir))
				if err != nil && !errors.Is(err, os.ErrExist) { // v2 has one directory for all
					t.Fatal(err)
				}
			}
		}
		a := attachTo(t, h, knowledge.Container{ID: testID, CgroupParent: c.parent})
		b := attachTo(t, h, knowledge.Container{ID: knowledge.ContainerID(sibling), CgroupParent: c.parent})
		step := func(what string, of *Container, groups knowledge.Signals, want int) {
			t.Helper()
			var s knowledge.Sample
			_ = of.Read(&s, groups)
			if s.Bounds.Memory != knowledge.Bytes(want)<<20 || s.Bounds.CPU != knowledge.NanoCPU(want)*knowledge.OneCPU/100 {
				t.Errorf("%s, %s: %+v, want %d MiB", c.tree, what, s.Bounds, want)
			}
		}
		put(t, h, c.files(100))
		step("at first", a, routine, 100)
		put(t, h, c.files(50))
		step("a sibling", b, routine, 100)
		step("on purpose", b, knowledge.HasBounds, 50)
		step("the other one", a, routine, 50)
		put(t, h, c.files(20))
		for key, o := range h.outers {
			o.at = o.at.Add(-outerFor)
			h.outers[key] = o
		}
		step("later", a, routine, 20)
	}
}

// What is remembered of parents is bounded.
func TestBoundsOfManyParents(t *testing.T) {
	h := tree(t, "v1", Options{Driver: DriverCgroupfs})
	for i := range 3 * outerMost {
		h.outer(memory, filepath.Join(h.at[memory].dir, fmt.Sprint(i), "container"), false)
	}
	if n := len(h.outers); n == 0 || n > outerMost {
		t.Errorf("%d parents are remembered", n)
	}
}

// events is a memory.events file.
func events(most, oom, kills int) string {
	return fmt.Sprintf("low 0\nhigh 0\nmax %d\noom %d\noom_kill %d\noom_group_kill 0\n", most, oom, kills)
}

// Row 124: a kill counts for the level at which memory ran out. Version 2: its own events
// tell, and where a kernel has no memory.events.local, those of the whole tree.
func TestLevelOfKills(t *testing.T) {
	const own, parent = "team/web/" + testID + "/", "team/"
	for _, c := range []struct {
		name         string
		files        map[string]string
		ours, others uint64
		level        knowledge.OOMLevel
	}{
		{"own", map[string]string{own + "memory.events": events(20, 4, 4), own + "memory.events.local": events(20, 4, 4)},
			4, 0, knowledge.OOMOwn},
		{"own limit, a process of an inner cgroup", map[string]string{own + "memory.events": events(20, 4, 3),
			own + "memory.events.local": events(20, 4, 0)}, 3, 0, knowledge.OOMOwn},
		{"parent", map[string]string{own + "memory.events": events(17, 2, 3), own + "memory.events.local": events(17, 2, 3),
			parent + "memory.events.local": events(5, 1, 0)}, 2, 1, knowledge.OOMParent},
		{"host", map[string]string{own + "memory.events": events(17, 2, 5), own + "memory.events.local": events(17, 2, 5)},
			2, 3, knowledge.OOMHost},
		{"inner", map[string]string{own + "memory.events": events(30, 3, 3), own + "memory.events.local": events(17, 2, 2)},
			2, 1, knowledge.OOMInner},
		{"old kernel, own", map[string]string{own + "memory.events": events(20, 3, 3)}, 3, 0, knowledge.OOMOwn},
		{"old kernel, host", map[string]string{own + "memory.events": events(17, 2, 3)}, 2, 1, knowledge.OOMHost},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := tree(t, "v2-parent", Options{Driver: DriverCgroupfs})
			if _, has := c.files[own+"memory.events.local"]; has {
				put(t, h, map[string]string{own + "memory.events.local": events(17, 2, 2)})
			}
			a := attachTo(t, h, knowledge.Container{ID: testID, CgroupParent: "/team/web"})
			var s knowledge.Sample
			routine := knowledge.HasOOM | knowledge.HasLimits | knowledge.HasBounds
			if err := a.Read(&s, routine); err != nil || s.OOMKills != 2 || s.OtherKills != 0 {
				t.Fatalf("at first: %d, %d, %v", s.OOMKills, s.OtherKills, err)
			}
			put(t, h, c.files)
			if err := a.Read(&s, knowledge.HasOOM); err != nil || s.OOMKills != c.ours || s.OtherKills != c.others ||
				s.OtherLevel != c.level {
				t.Errorf("%d own, %d other kills, at the %s: %v; want %d, %d, %s", s.OOMKills, s.OtherKills, s.OtherLevel,
					err, c.ours, c.others, c.level)
			}
		})
	}
}

// Row 124: on a busy host the kill comes after the own limit was reached and raised, each in a
// reading of its own.
func TestLevelOfLateKill(t *testing.T) {
	const v1, v2 = "memory/docker/" + testID + "/", "team/web/" + testID + "/"
	const oomControl = "oom_kill_disable 0\nunder_oom 0\noom_kill %d\n"
	for _, c := range []struct {
		tree, parent     string
		at, raised, kill map[string]string
	}{
		{"v2-parent", "/team/web",
			map[string]string{v2 + "memory.events": events(17, 2, 2), v2 + "memory.events.local": events(17, 2, 2)},
			map[string]string{v2 + "memory.events": events(18, 3, 2), v2 + "memory.events.local": events(18, 3, 2)},
			map[string]string{v2 + "memory.events": events(18, 3, 3), v2 + "memory.events.local": events(18, 3, 3)}},
		{"v1", "",
			map[string]string{v1 + "memory.oom_control": fmt.Sprintf(oomControl, 2), v1 + "memory.failcnt": "17\n",
				v1 + "memory.limit_in_bytes": "67108864\n", v1 + "memory.max_usage_in_bytes": "60000000\n"},
			map[string]string{v1 + "memory.failcnt": "18\n", v1 + "memory.limit_in_bytes": "91226112\n",
				v1 + "memory.max_usage_in_bytes": "67108864\n"},
			map[string]string{v1 + "memory.oom_control": fmt.Sprintf(oomControl, 3)}},
		{"v1", "", // memory and swap with one limit: no failure is counted
			map[string]string{v1 + "memory.oom_control": fmt.Sprintf(oomControl, 2), v1 + "memory.failcnt": "0\n",
				v1 + "memory.limit_in_bytes": "67108864\n", v1 + "memory.max_usage_in_bytes": "60000000\n"},
			nil,
			map[string]string{v1 + "memory.oom_control": fmt.Sprintf(oomControl, 3),
				v1 + "memory.limit_in_bytes": "91226112\n", v1 + "memory.max_usage_in_bytes": "67108864\n"}},
	} {
		h := tree(t, c.tree, Options{Driver: DriverCgroupfs})
		put(t, h, c.at)
		a := attachTo(t, h, knowledge.Container{ID: testID, CgroupParent: c.parent})
		var s knowledge.Sample
		for _, files := range []map[string]string{nil, c.raised, c.kill} {
			put(t, h, files)
			if err := a.Read(&s, knowledge.HasOOM); err != nil {
				t.Fatal(err)
			}
		}
		if s.OOMKills != 3 || s.OtherKills != 0 {
			t.Errorf("%s: %d own, %d other kills", c.tree, s.OOMKills, s.OtherKills)
		}
	}
}

// Row 124, in the real kernel: at the own limit with and without swap, at a parent's and at
// an inner cgroup's.
func TestLevelOfRealKills(t *testing.T) {
	p, g, id := realGroup(t, "levels")
	h := p.host
	above := &Group{host: h}
	for _, dir := range g.dirs {
		above.dirs = append(above.dirs, filepath.Dir(dir))
	}
	const low, high = knowledge.Bytes(32 << 20), knowledge.Bytes(256 << 20)
	for _, c := range []struct {
		name                  string
		parent, memory, memsw knowledge.Bytes
		ours, others          uint64
		level                 knowledge.OOMLevel
		bound                 knowledge.Bytes
	}{
		{name: "own", memory: low, memsw: 2 * low, ours: 1},
		{name: "own, memory and swap in one limit", memory: low, memsw: low, ours: 1},
		{name: "parent", parent: low, memory: high, memsw: high, others: 1, level: knowledge.OOMParent, bound: low},
	} {
		t.Run(c.name, func(t *testing.T) {
			set := func(g *Group, memory, both knowledge.Bytes) {
				if err := errors.Join(g.SetLimits(knowledge.Limits{}), g.SetLimits(knowledge.Limits{Memory: memory,
					MemorySwap: both})); err != nil {
					t.Fatal(err)
				}
			}
			set(above, 0, 0)
			set(g, c.memory, c.memsw)
			set(above, c.parent, c.parent)
			a := attachTo(t, h, knowledge.Container{ID: id, CgroupParent: "/" + p.name})
			var before, s knowledge.Sample
			if err := a.Read(&before, knowledge.HasOOM); err != nil {
				t.Fatal(err)
			}
			join := "for f in " + strings.Join(g.Procs(), " ") + "; do echo $$ > $f; done; exec tail /dev/zero"
			if err := exec.Command("sh", "-c", join).Run(); err == nil {
				t.Fatal("it was not killed")
			}
			if err := a.Read(&s, knowledge.HasOOM|knowledge.HasBounds); err != nil ||
				s.OOMKills-before.OOMKills != c.ours || s.OtherKills != c.others ||
				c.others > 0 && s.OtherLevel != c.level || s.Bounds.Memory != c.bound {
				t.Errorf("%d own, %d other kills, at the %s, bound %s: %v", s.OOMKills-before.OOMKills, s.OtherKills,
					s.OtherLevel, s.Bounds.Memory, err)
			}
		})
	}
}
