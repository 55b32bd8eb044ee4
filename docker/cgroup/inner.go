package cgroup

import (
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/effiscale/effiscale/knowledge"
)

const (
	// innerMost and innerDeep bound the search through the cgroups inside a container's,
	// which the container may have made.
	innerMost, innerDeep = 256, 4
	// innerName bounds the part of its path that is reported, in bytes.
	innerName = 100
)

// inside calls do for the cgroups inside dir. A directory of a kernel's file system has a link
// for each directory in it.
func (h *Host) inside(dir string, do func(dir string)) {
	left := innerMost
	h.below(dir, innerDeep, &left, do)
}

func (h *Host) below(dir string, deep int, left *int, do func(dir string)) {
	if dir == "" || deep == 0 || !h.hasDirectories(dir) {
		return
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		if *left--; *left < 0 {
			break
		}
		inner := filepath.Join(dir, e.Name())
		do(inner)
		h.below(inner, deep-1, left, do)
	}
}

func (h *Host) hasDirectories(dir string) bool {
	fd, err := h.open(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && st.Nlink != 2
}

// innerGroups are the cgroups inside a container's.
type innerGroups struct {
	// counted is what the kernel counts, by directory. v1: processes killed; v2, which counts
	// these in all cgroups above, too: how often its own limit could not be met.
	counted map[string]uint64
	kills   uint64 // v1: inside, since the container was attached
	newest  knowledge.InnerKill
}

// lookInside counts again, and returns by how much the counters rose, and where.
func (c *Container) lookInside() (rose uint64, in string) {
	h, n, first := c.host, &c.inner, !c.oom.began
	var counted map[string]uint64
	h.inside(c.dirs[memory], func(dir string) {
		is := h.killsAt(dir)
		if h.at[memory].v2 {
			is = h.oomAt(dir, true)
		}
		if was := n.counted[dir]; is > was && !first {
			rose, in = rose+is-was, dir
		}
		if counted == nil {
			counted = map[string]uint64{}
		}
		counted[dir] = is
	})
	n.counted = counted
	return rose, in
}

// killsAt is how many processes of the cgroup in dir were killed; v2: and inside it.
func (h *Host) killsAt(dir string) uint64 {
	var s knowledge.Sample
	if h.at[memory].v2 {
		if b, err := h.slurp(dir, "memory.events", false); err != nil || parseEvents(b, &s) != nil {
			return 0
		}
		return s.OOMKills
	}
	if b, err := h.slurp(dir, "memory.oom_control", false); err != nil || parseOOMControl(b, &s) != nil {
		return 0
	}
	return s.OOMKills
}

// innerKill notes a kill in the cgroup in dir, and reports whether that one's limit, or that of
// one between it and the container, was met.
func (c *Container) innerKill(dir string) bool {
	h, top := c.host, c.dirs[memory]
	c.inner.newest = knowledge.InnerKill{}
	for ; len(dir) > len(top); dir = above(dir, top) {
		limit := h.limitAt(dir, "memory.limit_in_bytes")
		if h.at[memory].v2 {
			limit = h.limitAt(dir, "memory.max")
		} else if !h.full(dir, limit) {
			continue
		}
		kills := h.killsAt(dir)
		for inner, n := range c.inner.counted {
			if !h.at[memory].v2 && strings.HasPrefix(inner, dir+"/") {
				kills += n
			}
		}
		group := dir[len(top):]
		if more := len(group) - innerName; more > 0 {
			group = "…" + strings.ToValidUTF8(group[more:], "")
		}
		c.inner.newest = knowledge.InnerKill{Group: group, Kills: kills, Limit: limit}
		return true
	}
	return false
}

// InnerKill is the newest kill at the limit of a cgroup inside the container's.
func (c *Container) InnerKill() knowledge.InnerKill {
	c.host.mu.Lock()
	defer c.host.mu.Unlock()
	return c.inner.newest
}
