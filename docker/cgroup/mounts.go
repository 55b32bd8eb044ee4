package cgroup

import (
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// mount is where one hierarchy can be read.
type mount struct {
	dir  string // of the file system, below the Host's root; "": not mounted
	base string // the part of the hierarchy that is mounted there; "/" but in nested containers
	v2   bool
}

// v1Controllers are the names in a v1 mount's options.
var v1Controllers = [unified]string{cpu: "cpu", cpuacct: "cpuacct", memory: "memory", blkio: "blkio", pids: "pids",
	cpuset: "cpuset", freezer: "freezer"}

// mounted fills h.at and h.version from the text of a mountinfo file (proc(5)), and returns
// which of the controllers cpu and memory cannot be read; "": none. A mount below another one
// is in the table, and cannot be seen.
func (h *Host) mounted(table string) (missing string) {
	var found [hierarchies]mount
	for line := range strings.Lines(table) {
		m, controllers, ok := parseMount(strings.TrimSuffix(line, "\n"))
		if !ok {
			continue
		}
		m.dir = filepath.Join(h.root, m.dir)
		if !h.visible(m) {
			continue
		}
		if m.v2 {
			prefer(&found[unified], m)
			continue
		}
		for c, name := range v1Controllers {
			if hasWord(controllers, name) {
				prefer(&found[c], m)
			}
		}
	}
	h.at = found
	v1 := false
	for c := range unified {
		v1 = v1 || found[c].dir != ""
	}
	for c := range unified {
		if found[c].dir == "" && (!v1 || has(found[unified], v1Controllers[c])) {
			h.at[c] = found[unified] // a controller is in one tree at a time
		}
	}
	switch {
	case !v1:
		h.version = V2
	case found[unified].dir != "":
		h.version = Hybrid
	default:
		h.version = V1
	}
	var gone []string
	for _, c := range [...]hierarchy{cpu, memory} {
		switch off := h.disabled(v1Controllers[c]); {
		case off:
			h.at[c] = mount{}
		case h.at[c].dir == "":
			gone = append(gone, v1Controllers[c])
		}
	}
	return strings.Join(gone, " and ")
}

// has reports whether a controller is in the unified tree.
func has(tree mount, controller string) bool {
	if tree.dir == "" {
		return false
	}
	text, err := readBounded(filepath.Join(tree.dir, "cgroup.controllers"), maxProcessCgroups)
	return err == nil && slices.Contains(strings.Fields(text), controller)
}

// visible reports whether a mount point is the file system that the table has there.
func (h *Host) visible(m mount) bool {
	if h.root != "/" {
		return isDir(m.dir)
	}
	var s unix.Statfs_t
	if unix.Statfs(m.dir, &s) != nil {
		return false
	}
	return m.v2 == (s.Type == unix.CGROUP2_SUPER_MAGIC)
}

// disabled reports whether the kernel runs without a controller (cgroup_disable=memory): it
// then limits nothing. /proc/cgroups has lines of name, hierarchy, number of cgroups, enabled.
func (h *Host) disabled(controller string) bool {
	text, err := readBounded(filepath.Join(h.root, "proc/cgroups"), maxProcessCgroups)
	if err != nil {
		return false
	}
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) == 4 && f[0] == controller {
			return f[3] == "0"
		}
	}
	return false
}

// parseMount reads one line of mountinfo: "id parent dev root point options
// [fields] - type source super". It answers for cgroup file systems alone.
func parseMount(line string) (m mount, controllers string, ok bool) {
	left, right, ok := strings.Cut(line, " - ")
	if !ok {
		return mount{}, "", false
	}
	l, r := strings.Fields(left), strings.Fields(right)
	if len(l) < 6 || len(r) < 3 || (r[0] != "cgroup" && r[0] != "cgroup2") {
		return mount{}, "", false
	}
	point := unescape(l[4])
	if !path.IsAbs(point) {
		return mount{}, "", false
	}
	return mount{dir: point, base: unescape(l[3]), v2: r[0] == "cgroup2"}, r[2], true
}

// prefer keeps the wider of two mounts of one hierarchy: bind mounts of a part
// of it, as containers have them, lose against the whole.
func prefer(have *mount, m mount) {
	if have.dir == "" || (have.base != "/" && m.base == "/") {
		*have = m
	}
}

// unescape turns the octal escapes of mountinfo (space, tab, newline, backslash)
// back into bytes.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) && octal(s[i+1]) && octal(s[i+2]) && octal(s[i+3]) {
			b.WriteByte(s[i+1]&7<<6 | s[i+2]&7<<3 | s[i+3]&7)
			i += 3
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func octal(c byte) bool { return c >= '0' && c <= '7' }

func hasWord(list, word string) bool {
	for w := range strings.SplitSeq(list, ",") {
		if w == word {
			return true
		}
	}
	return false
}
