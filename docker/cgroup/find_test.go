package cgroup

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/effiscale/effiscale/knowledge"
)

// TestAttachNotFound refuses containers without a cgroup. FAULTS row 39.
func TestAttachNotFound(t *testing.T) {
	for _, name := range []string{"v1", "hybrid", "v2-systemd"} {
		h := tree(t, name, Options{})
		for what, c := range map[string]knowledge.Container{
			"no cgroup":                 {ID: otherID},
			"another container's PID":   {ID: otherID, PID: testPID},
			"a PID that does not exist": {ID: otherID, PID: 99},
			"a negative PID":            {ID: otherID, PID: -1},
		} {
			if _, err := h.Attach(c); !errors.Is(err, ErrNotFound) {
				t.Errorf("%s: %s: %v, want ErrNotFound", name, what, err)
			}
		}
		for _, id := range []knowledge.ContainerID{"", knowledge.ContainerID(testID[:12]), "../../../../etc",
			knowledge.ContainerID(strings.ToUpper(testID)), testID + "/x", knowledge.ContainerID(strings.Repeat("g", 64))} {
			if _, err := h.Attach(knowledge.Container{ID: id, PID: testPID}); err == nil {
				t.Errorf("%s: attached to %q", name, id)
			}
		}
	}
}

// TestHostileParent keeps a parent that was made to escape inside the tree.
func TestHostileParent(t *testing.T) {
	h := tree(t, "v2-cgroupfs", Options{Driver: DriverCgroupfs})
	outside := filepath.Join(h.root, "outside", testID)
	if err := os.MkdirAll(outside, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, parent := range []string{"../../../outside", "/../../../outside", "a/../../../../outside", "x\x00y",
		strings.Repeat("a/", 4000)} {
		for _, p := range candidates("", parent, testID) {
			if !strings.HasPrefix(p, "/") || strings.Contains(p, "..") || !strings.Contains(p, testID) {
				t.Errorf("parent %.20q gives %.80q", parent, p)
			}
		}
		c, err := h.Attach(knowledge.Container{ID: testID, CgroupParent: parent})
		if !errors.Is(err, ErrNotFound) {
			t.Errorf("parent %.20q: attached to %v, %v", parent, c, err)
		}
	}
}

// TestPIDReuse: between the listing and the reading the process ended and its
// number went to another container's; neither its cgroup nor its network counts.
// FAULTS row 40.
func TestPIDReuse(t *testing.T) {
	h := tree(t, "v2-dind", Options{})
	other := strings.ReplaceAll(content(t, h, "cgroup"), testID, otherID)
	rewrite(t, h, "cgroup", other+"\n")
	if _, err := h.Attach(knowledge.Container{ID: testID, PID: testPID}); !errors.Is(err, ErrNotFound) {
		t.Errorf("attached by another's PID: %v", err)
	}

	h = tree(t, "v2-systemd", Options{})
	rewrite(t, h, "cgroup", "0::/system.slice/docker-"+otherID+".scope\n")
	c := attach(t, h) // its place is known without the PID
	var s knowledge.Sample
	if err := c.Read(&s, knowledge.SlowTier); err != nil {
		t.Fatal(err)
	}
	if s.Have&knowledge.HasNetwork != 0 {
		t.Error("another process's network was taken for the container's")
	}
	rewrite(t, h, "cgroup", "0::/system.slice/docker-"+testID+".scope\n")
	c.SetPID(testPID)
	if err := c.Read(&s, knowledge.SlowTier); err != nil || s.Have&knowledge.HasNetwork == 0 {
		t.Errorf("the container's own network: have %b, %v", s.Have, err)
	}
}

// TestHostNetwork: a container in the host's network has no traffic of its own.
func TestHostNetwork(t *testing.T) {
	h := tree(t, "v2-systemd", Options{})
	for _, pid := range []string{"1", "4242"} {
		dir := filepath.Join(h.root, "proc", pid, "ns")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("net:[4026531840]", filepath.Join(dir, "net")); err != nil {
			t.Fatal(err)
		}
	}
	c := attach(t, h)
	var s knowledge.Sample
	if err := c.Read(&s, knowledge.SlowTier); err != nil {
		t.Fatal(err)
	}
	if s.Have&knowledge.HasNetwork != 0 {
		t.Error("the host's network was taken for the container's")
	}
}

func TestSlicePath(t *testing.T) {
	for name, want := range map[string]string{
		"system.slice": "/system.slice", "a-b-c.slice": "/a.slice/a-b.slice/a-b-c.slice", "-.slice": "/",
		"": "", ".slice": "", "a--b.slice": "", "-a.slice": "", "a-.slice": "", "docker": "",
		"/a.slice": "", "../a.slice": "",
		strings.Repeat("a", 300) + ".slice": "",
	} {
		if got, ok := slicePath(name); got != want || ok != (want != "") {
			t.Errorf("%q: %q, %t; want %q", name, got, ok, want)
		}
	}
}

func FuzzProcessCgroups(f *testing.F) {
	f.Add("9:name=systemd:/docker/" + testID + "\n2:cpu,cpuacct:/docker/" + testID + "\n0::/docker/" + testID + "/init\n")
	f.Add("0::/../../docker-" + testID + ".scope\n:::\n")
	f.Fuzz(func(t *testing.T, text string) {
		at := [hierarchies]mount{unified: {dir: "/u", v2: true}, memory: {dir: "/u", v2: true}}
		for _, p := range parseProcessCgroups(text, testID, &at) {
			if p != "" && (p != filepath.Clean(p) || !filepath.IsAbs(p) || !strings.Contains(filepath.Base(p), testID)) {
				t.Errorf("%q", p)
			}
		}
	})
}

func FuzzMountTable(f *testing.F) {
	f.Add("31 23 0:28 / /sys/fs/cgroup/cpu rw shared:3 - cgroup cgroup rw,cpu\n" +
		"32 23 0:2 / /sys/fs/cgroup/unified rw - cgroup2 x rw\n")
	f.Add(`1 2 3 / /a\040\1349\04 rw - cgroup2 none rw`)
	f.Fuzz(func(t *testing.T, text string) {
		h := &Host{root: "/r"}
		h.mounted(text)
		for _, m := range h.at {
			if m.dir != "" && m.dir != "/r" && !strings.HasPrefix(m.dir, "/r/") {
				t.Errorf("%q leads out of the root", m.dir)
			}
		}
	})
}
