package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestHiddenMounts: a daemon that sees no mount of the control groups, or not all of them, as in
// a container, takes the limits of the Engine's record for those in force, and changes those of
// steady containers seldom (row 136).
func TestHiddenMounts(t *testing.T) {
	t.Parallel()
	for name, hide := range map[string]string{
		"none":   "umount -l /sys/fs/cgroup",
		"memory": "umount -l /sys/fs/cgroup/memory 2>/dev/null || umount -l /sys/fs/cgroup",
		"below":  "mount -t tmpfs none /sys/fs/cgroup",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDaemon(t)
			d.hide = hide
			set := d.box(t, "set", spec{do: "cpu --cores 0.2", cpus: 0.6, memory: 128 * MiB, swap: 256 * MiB})
			free := d.box(t, "free", spec{do: "cpu --cores 0.1"})
			d.start()
			d.sees(set, free)
			eventually(t, 20*time.Second, "the limits of the record are shown", func() bool {
				v, ok := d.view(set)
				return ok && v.CPULimit != nil && v.MemoryLimit != nil && *v.MemoryLimit == 128*MiB
			})
			if st, err := d.status(); err != nil || st.Node.Cgroup != "" || st.Node.Source == "kernel files" {
				t.Errorf("status says: samples from %q, cgroup %q, %v", st.Node.Source, st.Node.Cgroup, err)
			}
			hold(t, 12*time.Second, "the samples are not stale", func() bool {
				v, ok := d.view(set)
				return ok && v.CPULimit != nil && time.Since(v.SampledAt) < 12*time.Second
			})
			for _, b := range []*box{set, free} {
				if n := len(d.changes(b)); n > 3 {
					t.Errorf("%s: %d changes of a steady container: %+v", b.name, n, d.changes(b))
				}
			}
		})
	}
}

// TestDoctorBelowAnotherParent: containers below a parent of their own are found, by the daemon
// and by the doctor (row 138).
func TestDoctorBelowAnotherParent(t *testing.T) {
	t.Parallel()
	d := newDaemon(t)
	b := d.box(t, "web", spec{do: "cpu --cores 0.05", cpus: 0.5, parent: "/" + d.name + "/deep"})
	t.Cleanup(func() { // the Engine leaves the parents behind
		b.remove()
		for _, dir := range []string{"deep", ""} {
			found, _ := filepath.Glob(filepath.Join("/sys/fs/cgroup/*", d.name, dir))
			for _, path := range append(found, filepath.Join("/sys/fs/cgroup", d.name, dir)) {
				_ = os.Remove(path)
			}
		}
	})
	d.start()
	d.sees(b)
	out, errs, _ := d.run("doctor", "--config", d.path("x.toml"))
	for _, want := range []string{"quota files: can be written", rig.docker.Socket, "docker.host"} {
		if !strings.Contains(strings.Join(strings.Fields(out), " "), want) {
			t.Errorf("doctor does not say %q:\n%s%s", want, out, errs)
		}
	}
}
