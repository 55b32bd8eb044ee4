package cgroup

import "github.com/effiscale/effiscale/knowledge"

// readStopped reads whether the container's processes cannot run: its cgroup or one above is
// frozen (as `docker pause` does it), or they wait for memory because OOM kills are off.
// What cannot be read stops nothing.
func (c *Container) readStopped(s *knowledge.Sample) {
	h := c.host
	s.Stopped = knowledge.StopNone
	s.Have |= knowledge.HasStopped
	if dir := c.dirs[freezer]; h.at[freezer].v2 && dir != "" {
		b, err := h.slurp(dir, "cgroup.events", false)
		for l := (lines{rest: b}); err == nil && l.next(); {
			if v, ok := l.number(); ok && v == 1 && string(l.key) == "frozen" {
				s.Stopped = knowledge.StopFrozen
			}
		}
	} else if dir != "" {
		if b, err := h.slurp(dir, "freezer.state", false); err == nil && string(firstLine(b)) == "FROZEN" {
			s.Stopped = knowledge.StopFrozen
		}
	}
	if h.at[memory].v2 || c.dirs[memory] == "" || s.Stopped != knowledge.StopNone {
		return
	}
	b, err := h.slurp(c.dirs[memory], "memory.oom_control", false)
	disabled, waits := false, false
	for l := (lines{rest: b}); err == nil && l.next(); {
		v, ok := l.number()
		switch on := ok && v == 1; string(l.key) {
		case "oom_kill_disable":
			disabled = on
		case "under_oom":
			waits = on
		}
	}
	if disabled && waits {
		s.Stopped = knowledge.StopOOM
	}
}
