package hosts

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/effiscale/effiscale/docker/observer"
)

// sweep removes everything that a run made: this one, or one that was killed. It
// finds it by names: processes by the namespaces and control groups that they are
// in, then mounts, control groups, namespaces and files. The caller has the lock.
func sweep(dir string) error {
	var errs []error
	ok := waitFor(10*time.Second, func() bool {
		left := append(inNamespaces(), inGroups()...)
		for _, pid := range left {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		return len(left) == 0
	})
	if !ok {
		errs = append(errs, fmt.Errorf("processes %v do not end", append(inNamespaces(), inGroups()...)))
	}
	mounts := mountsBelow(dir)
	slices.Reverse(mounts) // the innermost first
	for _, m := range mounts {
		_ = syscall.Unmount(m, syscall.MNT_DETACH)
	}
	for _, g := range slices.Backward(groups()) { // children first
		if err := syscall.Rmdir(g); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("cannot remove %s: %w", g, err))
		}
	}
	for _, path := range namespaces() {
		errs = append(errs, command("ip", "netns", "delete", filepath.Base(path)))
	}
	return errors.Join(append(errs, os.RemoveAll(dir))...)
}

func namespaces() []string {
	paths, _ := filepath.Glob("/var/run/netns/effi-h*")
	return paths
}

// inNamespaces are the processes of our hosts: Engines, daemons and helpers.
func inNamespaces() (pids []int) {
	ours := map[string]bool{}
	for _, path := range namespaces() {
		var st syscall.Stat_t
		if syscall.Stat(path, &st) == nil {
			ours[fmt.Sprintf("net:[%d]", st.Ino)] = true
		}
	}
	links, _ := filepath.Glob("/proc/[0-9]*/ns/net")
	for _, link := range links {
		if to, err := os.Readlink(link); err == nil && ours[to] {
			if pid, err := strconv.Atoi(strings.Split(link, "/")[2]); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// groups are the control groups of our containers and throttled daemons, parents
// first, in every hierarchy.
func groups() (dirs []string) {
	for _, pattern := range []string{observer.CgroupRoot + "/effi-h*", observer.CgroupRoot + "/*/effi-h*"} {
		tops, _ := filepath.Glob(pattern)
		for _, top := range tops {
			_ = filepath.WalkDir(top, func(path string, e fs.DirEntry, err error) error {
				if err == nil && e.IsDir() {
					dirs = append(dirs, path)
				}
				return nil
			})
		}
	}
	return dirs
}

func inGroups() (pids []int) {
	for _, g := range groups() {
		for _, w := range observer.Words(g, "cgroup.procs") {
			if pid, err := strconv.Atoi(w); err == nil && pid > 0 {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

func mountsBelow(dir string) (paths []string) {
	b, _ := os.ReadFile("/proc/self/mounts")
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && strings.HasPrefix(f[1], dir+"/") {
			paths = append(paths, f[1])
		}
	}
	return paths
}
