package cgroup

import (
	"bytes"
	"strings"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// readBounds reads what bounds the container besides its own limits: limits of the cgroups
// above up to the root of the mount, its CPUs, quotas of the cgroups inside and its burst.
// What cannot be read is no bound.
func (c *Container) readBounds(s *knowledge.Sample, fresh bool) {
	s.Bounds = knowledge.Bounds{}
	c.cpuBounds(&s.Bounds, fresh)
	o := c.host.outer(memory, c.dirs[memory], fresh)
	s.Bounds.Memory, s.Bounds.OOM = o.memory, o.oom
	s.Have |= knowledge.HasBounds
}

// above is the directory above dir, up to root; "": there is none.
func above(dir, root string) string {
	i := strings.LastIndexByte(dir, '/')
	if i < len(root) || root == "" {
		return ""
	}
	return dir[:i]
}

const (
	// outerFor is how long the bounds above a container are those of its siblings, too: in a routine
	// reading of each of a thousand they would be read 17 times a second.
	outerFor = 2 * time.Second
	// outerMost bounds how many cgroups with containers are remembered.
	outerMost = 64
)

// outerKey is a cgroup with containers.
type outerKey struct {
	t   hierarchy
	dir string
}

// outer is what the cgroups above a container bound, in one hierarchy.
type outer struct {
	at     time.Time
	cpu    knowledge.NanoCPU
	memory knowledge.Bytes
	oom    uint64 // how often a memory limit could not be met
}

// outer reads the bounds of the cgroups above dir, or takes what was read of them a short time
// ago. The Host's lock is held.
func (h *Host) outer(t hierarchy, dir string, fresh bool) outer {
	root := h.at[t].dir
	key := outerKey{t, above(dir, root)}
	now := time.Now()
	if o := h.outers[key]; !fresh && now.Sub(o.at) < outerFor {
		return o
	}
	o := outer{at: now}
	for dir := key.dir; dir != ""; dir = above(dir, root) {
		if t == cpu {
			q, _ := h.quotaAt(dir)
			o.cpu = least(o.cpu, q)
			continue
		}
		if !h.memoryAt(dir, &o) {
			break
		}
	}
	if len(h.outers) >= outerMost {
		clear(h.outers)
	}
	h.outers[key] = o
	return o
}

func (c *Container) cpuBounds(b *knowledge.Bounds, fresh bool) {
	h := c.host
	if o := h.outer(cpu, c.dirs[cpu], fresh); o.cpu > 0 {
		b.CPU, b.CPUBy = o.cpu, knowledge.BoundParent
	}
	if n := c.cpus(); n > 0 && (b.CPU == 0 || knowledge.NanoCPU(n)*knowledge.OneCPU < b.CPU) {
		b.CPU, b.CPUBy = knowledge.NanoCPU(n)*knowledge.OneCPU, knowledge.BoundCPUSet
	}
	if !h.at[cpu].v2 { // v2 takes a quota below that of an inner cgroup
		if q := h.innerQuota(c.dirs[cpu]); q > 0 {
			b.CPULeast, b.CPULeastBy = q, knowledge.BoundInner
		}
	}
	if q := c.burst(); q > b.CPULeast {
		b.CPULeast, b.CPULeastBy = q, knowledge.BoundBurst
	}
}

// quotaAt is the quota of the cgroup in dir, 0 without one, and its period.
func (h *Host) quotaAt(dir string) (knowledge.NanoCPU, time.Duration) {
	if dir == "" {
		return 0, 0
	}
	var s knowledge.Sample
	if h.at[cpu].v2 {
		if b, err := h.slurp(dir, "cpu.max", false); err != nil || parseCPUMax(b, &s) != nil {
			return 0, 0
		}
		return s.Quota, s.Period
	}
	if b, err := h.slurp(dir, "cpu.cfs_period_us", false); err != nil || parseNumber(cpuPeriod, b, &s) != nil {
		return 0, 0
	}
	if b, err := h.slurp(dir, "cpu.cfs_quota_us", false); err != nil || parseQuotaV1(b, &s) != nil {
		return 0, s.Period
	}
	return s.Quota, s.Period
}

// burst is the least quota that the CFS burst allows: the kernel refuses one below it.
func (c *Container) burst() knowledge.NanoCPU {
	name := "cpu.cfs_burst_us"
	if c.host.at[cpu].v2 {
		name = "cpu.max.burst"
	}
	if c.dirs[cpu] == "" {
		return 0
	}
	b, err := c.host.slurp(c.dirs[cpu], name, false)
	if err != nil {
		return 0
	}
	v, err := single(b)
	if err != nil || v <= 0 || v > maxPeriod.Microseconds()*int64(knowledge.MaxCPU/knowledge.OneCPU) {
		return 0
	}
	_, period := c.host.quotaAt(c.dirs[cpu])
	if period <= 0 {
		return 0
	}
	return nanoCPU(v, period.Microseconds())
}

// innerQuota is the highest quota of the cgroups inside dir.
func (h *Host) innerQuota(dir string) (most knowledge.NanoCPU) {
	h.inside(dir, func(inner string) {
		q, _ := h.quotaAt(inner)
		most = max(most, q)
	})
	return most
}

// cpus counts the CPUs that the container may run on; 0: not known. A cgroup of v2 without
// the controller has its parent's.
func (c *Container) cpus() int {
	h := c.host
	name := "cpuset.effective_cpus"
	if h.at[cpuset].v2 {
		name = "cpuset.cpus.effective"
	}
	for dir := c.dirs[cpuset]; dir != ""; dir = above(dir, h.at[cpuset].dir) {
		if b, err := h.slurp(dir, name, false); err == nil {
			return countCPUs(firstLine(b))
		}
		if !h.at[cpuset].v2 {
			break
		}
	}
	return 0
}

// countCPUs reads a list such as "0-3,8"; 0: it is none.
func countCPUs(list []byte) (n int) {
	for len(list) > 0 {
		var part []byte
		part, list, _ = bytes.Cut(list, []byte(","))
		from, to, isRange := bytes.Cut(part, []byte("-"))
		a, ok := whole(from)
		b, ok2 := a, true
		if isRange {
			b, ok2 = whole(to)
		}
		if !ok || !ok2 || b < a || b > int64(knowledge.MaxCPU/knowledge.OneCPU) {
			return 0
		}
		n += int(b-a) + 1
	}
	return n
}

// memoryAt adds the limits of the cgroup in dir, and how often they could not be met. It reports
// whether cgroups inside are charged to it.
func (h *Host) memoryAt(dir string, o *outer) bool {
	v2 := h.at[memory].v2
	if !v2 && h.numberAt(dir, "memory.use_hierarchy") == 0 {
		return false
	}
	own := h.limitAt(dir, "memory.limit_in_bytes")
	if v2 {
		own = least(h.limitAt(dir, "memory.max"), h.limitAt(dir, "memory.high"))
	}
	o.memory = least(o.memory, own)
	o.oom += h.oomAt(dir, v2)
	return true
}

func (h *Host) limitAt(dir, name string) knowledge.Bytes {
	text, err := h.slurp(dir, name, false)
	if err != nil {
		return 0
	}
	v, err := limit(text)
	if err != nil {
		return 0
	}
	return v
}

// numberAt is a file's number; -1: it cannot be read.
func (h *Host) numberAt(dir, name string) int64 {
	text, err := h.slurp(dir, name, false)
	if err != nil {
		return -1
	}
	v, err := single(text)
	if err != nil {
		return -1
	}
	return v
}

// oomAt counts how often the memory limit of the cgroup in dir could not be met. v1 counts
// failed charges, and none where memory and swap have one limit; that its highest use is
// the limit counts as one then.
func (h *Host) oomAt(dir string, v2 bool) (n uint64) {
	if v2 {
		var s knowledge.Sample
		text, err := h.slurp(dir, "memory.events.local", false)
		if err == nil && parseEvents(text, &s) == nil {
			return s.OOM
		}
		return 0
	}
	for _, name := range [...]string{"memory.failcnt", "memory.memsw.failcnt"} {
		n += uint64(max(h.numberAt(dir, name), 0))
	}
	if h.full(dir, h.limitAt(dir, "memory.limit_in_bytes")) {
		n++
	}
	return n
}

// full reports whether the highest use of a cgroup of v1 was a limit. The kernel charges
// in batches of 64 pages for each CPU.
func (h *Host) full(dir string, limit knowledge.Bytes) bool {
	return limit > 0 && h.numberAt(dir, "memory.max_usage_in_bytes") >= int64(limit-limit/256)
}

// oomCounters tell at which level of the tree memory ran out. The kernel counts a kill in
// the cgroup of the process: on v1 there alone, on v2 in all above, too; and it does so
// whatever the level. That a limit could not be met is counted by the cgroup of the limit:
// v2's memory.events.local and v1's memory.failcnt.
type oomCounters struct {
	began                bool
	killsOn              bool            // by v1's memory.oom_control, as it was read last
	kills, tries, within uint64          // as the kernel counts them: of all levels, of its own limit, and inside
	tried                time.Time       // when a failure to meet the own limit was counted last
	limit                knowledge.Bytes // v1: the own limit at the last reading
	localTries           uint64
	hasLocal             bool
	own, other           uint64 // kills
	level                knowledge.OOMLevel
}

// setKills takes whether OOM kills are on from v1's memory.oom_control.
func (o *oomCounters) setKills(b []byte) { o.killsOn = !isSet(b, "oom_kill_disable") }

// local reads memory.events.local, after memory.events: evidence of the own limit, without
// that of cgroups inside.
func (o *oomCounters) local(b []byte, s *knowledge.Sample) error {
	var own knowledge.Sample
	if err := parseEvents(b, &own); err != nil {
		return err
	}
	s.HighEvents, s.MaxEvents = own.HighEvents, own.MaxEvents
	o.localTries, o.hasLocal = own.OOM, true
	return nil
}

// killAfter is how long after a failure to meet the limit the kernel kills. On a busy host the
// limit may be read, and be raised, in between.
const killAfter = 5 * time.Second

// levels divides the kills in s by the level at which memory ran out.
func (c *Container) levels(s *knowledge.Sample) {
	o, kills, v2 := &c.oom, s.OOMKills, c.host.at[memory].v2
	tries, within, limit, inner := s.MaxEvents, uint64(0), knowledge.Bytes(0), ""
	if v2 {
		tries = s.OOM
		if o.hasLocal {
			tries, within = o.localTries, s.OOM-min(o.localTries, s.OOM)
		}
	} else {
		limit = c.host.limitAt(c.dirs[memory], "memory.limit_in_bytes")
	}
	if !v2 || !o.began {
		var rose uint64
		rose, inner = c.lookInside()
		c.inner.kills += rose
	}
	kills += c.inner.kills
	now := time.Now()
	if o.began && tries > o.tries {
		o.tried = now
	}
	if !o.began || kills < o.kills { // what was before is of no known level
		o.own, o.other = kills, 0
	} else if n := kills - o.kills; n > 0 {
		switch {
		case now.Sub(o.tried) < killAfter:
			o.own += n
		case !v2 && c.innerKill(inner):
			o.other, o.level = o.other+n, knowledge.OOMInner
		case !v2 && c.host.full(c.dirs[memory], least(limit, o.limit)):
			o.own += n
		default:
			o.other += n
			if o.level = c.outerLevel(within > o.within); o.level == knowledge.OOMInner {
				_, inner = c.lookInside()
				c.innerKill(inner)
			}
		}
	}
	o.began, o.kills, o.tries, o.within, o.limit = true, kills, tries, within, limit
	s.OOMKills, s.OtherKills, s.OtherLevel = o.own, o.other, o.level
}

// least is the lower one of two limits, of which 0 is none.
func least[T ~int64](a, b T) T {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}

// outerLevel is where memory ran out, if not at the own limit.
func (c *Container) outerLevel(inner bool) knowledge.OOMLevel {
	if inner {
		return knowledge.OOMInner
	}
	if c.host.outer(memory, c.dirs[memory], true).oom > 0 {
		return knowledge.OOMParent
	}
	return knowledge.OOMHost
}
