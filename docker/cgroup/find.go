package cgroup

import (
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/effiscale/effiscale/knowledge"
)

// maxUsers bounds the search through the slices of users with rootless Engines.
const maxUsers = 4096

// place is a container's directory in each hierarchy; "": it has none there.
type place [hierarchies]string

// holds reports whether a place has all that limits a container: without one of the
// directories its limit would look like none.
func (h *Host) holds(p *place) bool {
	for _, c := range [...]hierarchy{cpu, memory} {
		if h.at[c].dir != "" && p[c] == "" {
			return false
		}
	}
	return true
}

// find looks for the cgroup where the Engine's driver puts it, then where a
// rootless Engine's would be, then where /proc/PID/cgroup of the container's process has it.
func (h *Host) find(c knowledge.Container) (place, bool) {
	id := string(c.ID)
	for _, rel := range candidates(h.driver, c.CgroupParent, id) {
		if p := h.locate(rel); h.holds(&p) {
			return p, true
		}
	}
	if p := h.fromProcess(c.PID, id); h.holds(&p) {
		return p, true
	}
	if h.driver != DriverCgroupfs {
		for _, rel := range h.rootless(c.CgroupParent, id) {
			if p := h.locate(rel); h.holds(&p) {
				return p, true
			}
		}
	}
	return place{}, false
}

// candidates are the paths, from the root of a hierarchy, that an Engine gives to
// a container. The parent is untrusted input: it cannot lead out of the tree.
func candidates(driver, parent, id string) []string {
	var paths []string
	if driver != DriverSystemd {
		fs := parent
		if fs == "" {
			fs = "docker"
		}
		paths = append(paths, path.Join("/", path.Clean("/"+fs), id))
	}
	if driver != DriverCgroupfs {
		slice := parent
		if slice == "" {
			slice = "system.slice"
		}
		if dir, ok := slicePath(slice); ok {
			paths = append(paths, path.Join(dir, scope(id)))
		}
	}
	return paths
}

func scope(id string) string { return "docker-" + id + ".scope" }

// slicePath is the path of a systemd slice: each dash is a level, so that
// a-b.slice lies in a.slice (systemd.slice(5)).
func slicePath(name string) (string, bool) {
	stem, ok := strings.CutSuffix(name, ".slice")
	if !ok || len(name) > 255 || strings.Contains(stem, "/") {
		return "", false
	}
	if stem == "-" {
		return "/", true
	}
	full := "/"
	for i := range len(stem) + 1 {
		if i < len(stem) && stem[i] != '-' {
			continue
		}
		if i == 0 || stem[i-1] == '-' {
			return "", false
		}
		full = path.Join(full, stem[:i]+".slice")
	}
	return full, true
}

// rootless are the paths below each user's own manager, where a rootless Engine
// with the systemd driver makes its scopes.
func (h *Host) rootless(parent, id string) []string {
	if parent == "" {
		parent = "user.slice"
	}
	slice, ok := slicePath(parent)
	if !ok {
		return nil
	}
	dir, err := os.Open(filepath.Join(h.at[cpu].dir, "user.slice"))
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, err := dir.Readdirnames(maxUsers)
	if err != nil {
		return nil
	}
	var paths []string
	for _, name := range names {
		uid, ok := strings.CutPrefix(name, "user-")
		uid, ok2 := strings.CutSuffix(uid, ".slice")
		if _, err := strconv.ParseUint(uid, 10, 32); !ok || !ok2 || err != nil {
			continue
		}
		paths = append(paths, path.Join("/user.slice", name, "user@"+uid+".service", slice, scope(id)))
	}
	return paths
}

// locate finds which hierarchies have the path. Controllers in one tree share
// its answer.
func (h *Host) locate(rel string) place {
	var p place
	for t := range hierarchies {
		if t > 0 && h.at[t].dir == h.at[t-1].dir {
			p[t] = p[t-1]
			continue
		}
		p[t] = h.directory(t, rel)
	}
	return p
}

func (h *Host) directory(t hierarchy, rel string) string {
	if h.at[t].dir == "" {
		return ""
	}
	dir := filepath.Join(h.at[t].dir, rel)
	if st, err := os.Stat(dir); err != nil || !st.IsDir() {
		return ""
	}
	return dir
}

// fromProcess reads the place from /proc/PID/cgroup. A number may be another
// process's by now, so that only a path that holds the container's id counts.
func (h *Host) fromProcess(pid int, id string) place {
	var p place
	for t, rel := range h.processPaths(pid, id) {
		if rel == "" {
			continue
		}
		m := h.at[t]
		if m.base != "/" { // nested: the paths are the outer host's
			if inner, ok := strings.CutPrefix(rel, m.base); ok && strings.HasPrefix(inner, "/") {
				rel = inner
			}
		}
		p[t] = h.directory(hierarchy(t), rel)
	}
	return p
}

// maxProcessCgroups bounds what is read of /proc/PID/cgroup: some 14 lines of at
// most a path's length each.
const maxProcessCgroups = 64 << 10

// processPaths are the paths of the container with the id in each hierarchy, as
// /proc/PID/cgroup has them; all empty when it is not a process of that container.
func (h *Host) processPaths(pid int, id string) (paths [hierarchies]string) {
	if pid <= 0 {
		return paths
	}
	text, err := readBounded(filepath.Join(h.root, "proc", strconv.Itoa(pid), "cgroup"), maxProcessCgroups)
	if err != nil {
		return paths
	}
	return parseProcessCgroups(text, id, &h.at)
}

// parseProcessCgroups reads "id:controllers:path" lines (cgroups(7)).
func parseProcessCgroups(text, id string, at *[hierarchies]mount) (paths [hierarchies]string) {
	for line := range strings.Lines(text) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(f) != 3 {
			continue
		}
		rel, ok := upTo(f[2], id)
		if !ok {
			continue
		}
		for t := range hierarchies {
			switch v2 := f[0] == "0" && f[1] == ""; {
			case v2 && at[t].v2:
				paths[t] = rel
			case !v2 && !at[t].v2 && t != unified && hasWord(f[1], v1Controllers[t]):
				paths[t] = rel
			}
		}
	}
	return paths
}

// upTo cuts the path after the element that is the container's own cgroup, which has the
// id in its name whatever engine made it: ID, docker-ID.scope, libpod-ID.scope. A container may
// move its processes into children of it, as docker:dind does.
func upTo(p, id string) (string, bool) {
	p = path.Clean("/" + p)
	i := strings.LastIndex(p, id)
	if i < 0 {
		return "", false
	}
	rest, _, _ := strings.Cut(p[i:], "/")
	return p[:i] + rest, true
}
