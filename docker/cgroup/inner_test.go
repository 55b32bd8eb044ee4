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

// oomControl is a file of v1.
func oomControl(kills int) string {
	return fmt.Sprintf("oom_kill_disable 0\nunder_oom 0\noom_kill %d\n", kills)
}

// Row 124: a kill at the limit of an inner cgroup names that one, in both versions. One of a
// process inside at the container's own limit is the container's.
func TestInnerKills(t *testing.T) {
	const v1, v2 = "memory/docker/" + testID + "/", "team/web/" + testID + "/"
	for _, c := range []struct {
		name, tree, parent string
		before, after      map[string]string
		ours, others       uint64
		inner              knowledge.InnerKill
	}{
		{"v1", "v1", "", map[string]string{
			v1 + "a/memory.oom_control": oomControl(1), v1 + "a/memory.limit_in_bytes": "33554432\n",
			v1 + "a/memory.max_usage_in_bytes": "33554432\n",
		}, map[string]string{
			v1 + "b/c/memory.oom_control": oomControl(2), v1 + "b/c/memory.limit_in_bytes": "67108864\n",
			v1 + "b/c/memory.max_usage_in_bytes": "67000000\n",
		}, 0, 2, knowledge.InnerKill{Group: "/b/c", Kills: 2, Limit: 64 * knowledge.MiB}},
		{"v1: the limit of a cgroup around it", "v1", "", map[string]string{
			v1 + "b/memory.oom_control": oomControl(1), v1 + "b/memory.limit_in_bytes": "33554432\n",
			v1 + "b/c/memory.oom_control": oomControl(0), v1 + "b/c/memory.limit_in_bytes": "67108864\n",
		}, map[string]string{
			v1 + "b/c/memory.oom_control": oomControl(2), v1 + "b/memory.max_usage_in_bytes": "33554432\n",
			v1 + "b/c/memory.max_usage_in_bytes": "30000000\n",
		}, 0, 2, knowledge.InnerKill{Group: "/b", Kills: 3, Limit: 32 * knowledge.MiB}},
		{"v1: own limit", "v1", "", map[string]string{
			v1 + "memory.failcnt": "17\n", v1 + "b/memory.oom_control": oomControl(0),
		}, map[string]string{
			v1 + "memory.failcnt": "18\n", v1 + "b/memory.oom_control": oomControl(1),
		}, 1, 0, knowledge.InnerKill{}},
		{"v2", "v2-parent", "/team/web", map[string]string{
			v2 + "memory.events": events(17, 2, 2), v2 + "memory.events.local": events(17, 2, 2),
			v2 + "a/memory.events.local": events(5, 2, 0),
		}, map[string]string{
			v2 + "memory.events": events(30, 3, 5), v2 + "b/memory.events.local": events(5, 1, 0),
			v2 + "b/memory.events": events(5, 1, 3), v2 + "b/memory.max": "67108864\n",
		}, 0, 3, knowledge.InnerKill{Group: "/b", Kills: 3, Limit: 64 * knowledge.MiB}},
		{"v2: it is gone", "v2-parent", "/team/web", map[string]string{
			v2 + "memory.events": events(17, 2, 2), v2 + "memory.events.local": events(17, 2, 2),
		}, map[string]string{v2 + "memory.events": events(30, 3, 5)}, 0, 3, knowledge.InnerKill{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := tree(t, c.tree, Options{Driver: DriverCgroupfs})
			if c.tree == "v1" {
				put(t, h, map[string]string{v1 + "memory.oom_control": oomControl(2),
					v1 + "memory.limit_in_bytes": "1073741824\n", v1 + "memory.max_usage_in_bytes": "60000000\n"})
			}
			put(t, h, c.before)
			a := attachTo(t, h, knowledge.Container{ID: testID, CgroupParent: c.parent})
			var before, s knowledge.Sample
			if err := a.Read(&before, knowledge.HasOOM); err != nil {
				t.Fatal(err)
			}
			put(t, h, c.after)
			for range 2 {
				if err := a.Read(&s, knowledge.HasOOM); err != nil {
					t.Fatal(err)
				}
				ours, others := s.OOMKills-before.OOMKills, s.OtherKills-before.OtherKills
				if ours != c.ours || others != c.others || others > 0 && s.OtherLevel != knowledge.OOMInner {
					t.Errorf("%d own, %d other kills, at the %s", ours, others, s.OtherLevel)
				}
				if got := a.InnerKill(); got != c.inner {
					t.Errorf("%+v, want %+v", got, c.inner)
				}
			}
			for dir := range c.after { // what ended takes no kill back
				if sub := filepath.Dir(dir) + "/"; sub != v1 && sub != v2 {
					if err := os.RemoveAll(filepath.Join(h.root, "sys/fs/cgroup", sub)); err != nil {
						t.Fatal(err)
					}
				}
			}
			was := s
			if err := a.Read(&s, knowledge.HasOOM); err != nil || s.OOMKills != was.OOMKills || s.OtherKills != was.OtherKills {
				t.Errorf("afterwards %d and %d kills, %v", s.OOMKills, s.OtherKills, err)
			}
		})
	}
}

// Row 124, in the real kernel.
func TestInnerKillsInTheKernel(t *testing.T) {
	p, g, id := realGroup(t, "inner")
	if p.host.at[memory].v2 {
		if _, err := enable(g.dirs[0]); err != nil {
			t.Fatal(err)
		}
	}
	inner := &Group{host: p.host}
	for _, dir := range g.dirs {
		dir = filepath.Join(dir, "build")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.Remove(dir) })
		inner.dirs = append(inner.dirs, dir)
	}
	const low, high = knowledge.Bytes(32 << 20), knowledge.Bytes(256 << 20)
	if err := errors.Join(g.SetLimits(knowledge.Limits{Memory: high, MemorySwap: high}),
		inner.SetLimits(knowledge.Limits{Memory: low, MemorySwap: low})); err != nil {
		t.Fatal(err)
	}
	a := attachTo(t, p.host, knowledge.Container{ID: id, CgroupParent: "/" + p.name})
	var s knowledge.Sample
	if err := a.Read(&s, knowledge.HasOOM); err != nil {
		t.Fatal(err)
	}
	join := "for f in " + strings.Join(inner.Procs(), " ") + "; do echo $$ > $f; done; exec tail /dev/zero"
	if err := exec.Command("sh", "-c", join).Run(); err == nil {
		t.Fatal("it was not killed")
	}
	err := a.Read(&s, knowledge.HasOOM)
	if want := (knowledge.InnerKill{Group: "/build", Kills: 1, Limit: low}); err != nil || s.OOMKills != 0 ||
		s.OtherKills != 1 || s.OtherLevel != knowledge.OOMInner || a.InnerKill() != want {
		t.Errorf("%d own, %d other kills, at the %s, %+v: %v", s.OOMKills, s.OtherKills, s.OtherLevel, a.InnerKill(), err)
	}
}
