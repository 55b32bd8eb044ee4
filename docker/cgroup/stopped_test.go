package cgroup

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/effiscale/effiscale/knowledge"
)

// Row 125: frozen control groups, and processes that wait for memory, in both versions.
func TestStopped(t *testing.T) {
	const v2 = "team/web/" + testID + "/cgroup.events"
	for _, c := range []struct {
		name, tree, parent string
		files              map[string]string
		want               knowledge.StopCause
	}{
		{"v1", "v1", "", nil, knowledge.StopNone},
		{"v1 thawed", "v1", "", map[string]string{"freezer/docker/" + testID + "/freezer.state": "THAWED\n"}, 0},
		{"v1 frozen", "v1", "", map[string]string{"freezer/docker/" + testID + "/freezer.state": "FROZEN\n"},
			knowledge.StopFrozen},
		{"v1 without OOM kills", "v1", "", map[string]string{"memory/docker/" + testID +
			"/memory.oom_control": "oom_kill_disable 1\nunder_oom 1\noom_kill 0\n"}, knowledge.StopOOM},
		{"v1 during a kill", "v1", "", map[string]string{"memory/docker/" + testID +
			"/memory.oom_control": "oom_kill_disable 0\nunder_oom 1\noom_kill 0\n"}, 0},
		{"v2", "v2-parent", "/team/web", map[string]string{v2: "populated 1\nfrozen 0\n"}, 0},
		{"v2 frozen", "v2-parent", "/team/web", map[string]string{v2: "populated 1\nfrozen 1\n"}, knowledge.StopFrozen},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := tree(t, c.tree, Options{Driver: DriverCgroupfs})
			dir := "freezer"
			if c.tree != "v1" {
				dir = "team"
			}
			put(t, h, map[string]string{dir + "/file": ""})
			table := filepath.Join(h.root, "proc/self/mountinfo")
			text, err := os.ReadFile(table)
			text = append(text, "39 31 0:36 / /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer\n"...)
			if c.tree == "v1" {
				err = errors.Join(err, os.WriteFile(table, text, 0o644))
			}
			if err != nil {
				t.Fatal(err)
			}
			h, err = Open(Options{Driver: DriverCgroupfs, Root: h.root})
			if err != nil {
				t.Fatal(err)
			}
			put(t, h, c.files)
			a := attachTo(t, h, knowledge.Container{ID: testID, CgroupParent: c.parent})
			var s knowledge.Sample
			if err := a.Read(&s, knowledge.HasStopped); err != nil || s.Have != knowledge.HasStopped || s.Stopped != c.want {
				t.Errorf("%s, want %s; have %b, %v", s.Stopped, c.want, s.Have, err)
			}
		})
	}
}

// Whether OOM kills are off is read with the OOM counters: no container is asked for it each time.
func TestStoppedKnowsWhetherKillsAreOff(t *testing.T) {
	h := tree(t, "v1", Options{Driver: DriverCgroupfs})
	file := "memory/docker/" + testID + "/memory.oom_control"
	a := attachTo(t, h, knowledge.Container{ID: testID})
	for i, c := range []struct {
		text string
		read knowledge.Signals
		want knowledge.StopCause
	}{
		{"oom_kill_disable 0\nunder_oom 0\noom_kill 0\n", knowledge.HasStopped, knowledge.StopNone},
		{"oom_kill_disable 1\nunder_oom 1\noom_kill 0\n", knowledge.HasStopped, knowledge.StopNone}, // not known yet
		{"oom_kill_disable 1\nunder_oom 1\noom_kill 0\n", knowledge.HasStopped | knowledge.HasOOM, knowledge.StopOOM},
		{"oom_kill_disable 1\nunder_oom 0\noom_kill 0\n", knowledge.HasStopped, knowledge.StopNone},
		{"oom_kill_disable 1\nunder_oom 1\noom_kill 0\n", knowledge.HasStopped, knowledge.StopOOM},
		{"oom_kill_disable 0\nunder_oom 1\noom_kill 0\n", knowledge.HasStopped, knowledge.StopNone},
	} {
		put(t, h, map[string]string{file: c.text})
		var s knowledge.Sample
		if err := a.Read(&s, c.read); err != nil || s.Stopped != c.want {
			t.Errorf("%d: %s, want %s; %v", i, s.Stopped, c.want, err)
		}
	}
}
