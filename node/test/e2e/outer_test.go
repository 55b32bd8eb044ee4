package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/effiscale/effiscale/node/api"
)

// above is a control group above containers.
type above struct {
	t    *testing.T
	name string
}

// version2 reports whether controllers are in one tree.
func version2() bool {
	_, err := os.Stat("/sys/fs/cgroup/cgroup.controllers")
	return err == nil
}

// path is how a container names it: relative to what, depends on the driver.
func (a above) path() string {
	if version2() {
		return a.name
	}
	return "/" + a.name
}

// parent is a control group that the Engine makes for the first container in it.
func parent(t *testing.T, name string) above {
	a := above{t, fmt.Sprintf("effiscale%s%d.slice", name, os.Getpid())}
	t.Cleanup(func() {
		dirs, _ := filepath.Glob("/sys/fs/cgroup/*/" + a.name)
		for _, dir := range append(dirs, "/sys/fs/cgroup/"+a.name) {
			_ = os.Remove(dir) // of most controllers it has none
		}
	})
	return a
}

// write sets a limit, by its file in version 1 or in version 2.
func (a above) write(v1, text1, v2, text2 string) {
	a.t.Helper()
	controller, _, _ := strings.Cut(v1, ".")
	err := os.WriteFile(filepath.Join("/sys/fs/cgroup", controller, a.name, v1), []byte(text1), 0)
	if version2() {
		err = os.WriteFile(filepath.Join("/sys/fs/cgroup", a.name, v2), []byte(text2), 0)
	}
	if err != nil {
		a.t.Fatal(err)
	}
}

// TestQuotaOfAParent: a container grows to its parent's quota, the reason names that, and no
// write of more is tried (row 123).
func TestQuotaOfAParent(t *testing.T) {
	t.Parallel()
	d := newDaemon(t)
	p := parent(t, "quota")
	b := d.box(t, "web", spec{do: "cpu --cores 1.2", cpus: 0.2, memory: 128 * MiB, swap: 256 * MiB, parent: p.path()})
	p.write("cpu.cfs_quota_us", "50000", "cpu.max", "50000 100000")
	d.start()
	d.sees(b)
	eventually(t, 30*time.Second, "the parent's quota", func() bool { return near(b.kernel.Quota(), 0.5) })
	var why string
	eventually(t, 40*time.Second, "the reason names the parent", func() bool {
		e, err := api.OpExplain.Call(t.Context(), d.Client, api.ExplainRequest{Name: b.name})
		if err == nil {
			why = fmt.Sprintf("%+v", e)
		}
		return strings.Contains(why, "parent cgroup")
	})
	hold(t, 5*time.Second, "it stays there", func() bool { return near(b.kernel.Quota(), 0.5) })
	if lines := d.said("refused"); len(lines) > 0 {
		t.Errorf("%d refusals: %s", len(lines), lines[0])
	}
}

// TestMemoryOfAParent: OOM kills at a parent's limit raise no limit below it (row 124).
func TestMemoryOfAParent(t *testing.T) {
	t.Parallel()
	d := newDaemon(t)
	p := parent(t, "memory")
	sibling := d.box(t, "sibling", spec{do: "idle", cpus: 0.2, memory: 64 * MiB, swap: 64 * MiB, parent: p.path()})
	p.write("memory.limit_in_bytes", "104857600", "memory.max", "104857600")
	d.start()
	d.sees(sibling)
	b := d.box(t, "web", spec{do: "mem --from 16MiB --to 180MiB --rate 40MB", cpus: 0.5, memory: 324 * MiB, swap: 324 * MiB,
		parent: p.path(), restart: "always"})
	eventually(t, 60*time.Second, "three ends at the parent's limit", func() bool { return b.inspect().RestartCount >= 3 })
	if l := b.inspect().HostConfig.Memory; l > 324*MiB {
		t.Errorf("its own limit became %d MiB", l/MiB)
	}
	if l := sibling.kernel.Memory(); l > 64*MiB {
		t.Errorf("the limit of its idle sibling became %d MiB", l/MiB)
	}
}

// TestDockerPause: a paused container keeps its limits, and the state is shown (row 125).
func TestDockerPause(t *testing.T) {
	t.Parallel()
	d := newDaemon(t)
	b := d.box(t, "web", spec{do: "cpu --cores 0.4", cpus: 0.6, memory: 128 * MiB, swap: 256 * MiB})
	d.start()
	d.sees(b)
	time.Sleep(8 * time.Second)
	// runc cannot freeze a busy cgroup at each attempt.
	eventually(t, 10*time.Second, "the Engine pauses it", func() bool {
		return rig.docker.Call("POST", "/containers/"+b.id+"/pause", nil, nil) == nil
	})
	defer b.do("POST", "/unpause", nil)
	eventually(t, 5*time.Second, "it is shown", func() bool {
		v, _ := d.view(b)
		return v.State == "paused (docker)"
	})
	was := b.kernel.Quota()
	hold(t, 15*time.Second, "its limits stay", func() bool { return near(b.kernel.Quota(), was) && was > 0.35 })
}
