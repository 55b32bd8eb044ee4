package cgroup

import "github.com/effiscale/effiscale/knowledge"

// readStopped reads whether the container's processes cannot run: its cgroup or one above is
// frozen (as `docker pause` does it), or they wait for memory because OOM kills are off.
// What cannot be read stops nothing. That OOM kills are off is known from the newest reading of
// the OOM counters, which are read whenever memory is full.
func (c *Container) readStopped(s *knowledge.Sample) {
	h := c.host
	s.Stopped = knowledge.StopNone
	s.Have |= knowledge.HasStopped
	if dir := c.dirs[freezer]; h.at[freezer].v2 && dir != "" {
		b, err := h.slurp(dir, "cgroup.events", false)
		if err == nil && isSet(b, "frozen") {
			s.Stopped = knowledge.StopFrozen
		}
	} else if dir != "" {
		if b, err := h.slurp(dir, "freezer.state", false); err == nil && string(firstLine(b)) == "FROZEN" {
			s.Stopped = knowledge.StopFrozen
		}
	}
	if h.at[memory].v2 || c.dirs[memory] == "" || s.Stopped != knowledge.StopNone || c.oom.killsOn {
		return
	}
	b, err := h.slurp(c.dirs[memory], "memory.oom_control", false)
	if err != nil {
		return
	}
	c.oom.setKills(b)
	if !c.oom.killsOn && isSet(b, "under_oom") {
		s.Stopped = knowledge.StopOOM
	}
}

// isSet reports whether a file has the line "key 1".
func isSet(b []byte, key string) bool {
	for l := (lines{rest: b}); l.next(); {
		if string(l.key) == key {
			v, ok := l.number()
			return ok && v == 1
		}
	}
	return false
}
