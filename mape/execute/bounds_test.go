package execute

import (
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// Row 123: limits of the cgroups around a container's bound what is written, whoever asks;
// the Engine takes no more CPUs than it has.
func TestBoundsAroundTheContainer(t *testing.T) {
	const cpu, mem = knowledge.ResourceCPU, knowledge.ResourceMemory
	outer := knowledge.Bounds{CPU: core * 3 / 2, CPUBy: knowledge.BoundParent, CPULeast: core / 2,
		CPULeastBy: knowledge.BoundInner, Memory: 600 * mib}
	tight := knowledge.Bounds{CPU: core / 2, CPUBy: knowledge.BoundCPUSet, Memory: 256 * mib}
	for _, c := range []struct {
		name     string
		resource knowledge.Resource
		to, want int64
		actor    knowledge.Actor
		bounds   knowledge.Bounds
		guard    string
	}{
		{"growth", cpu, int64(2 * core), int64(core * 3 / 2), knowledge.ActorUser, outer, "cgroup"},
		{"growth below it", cpu, int64(core * 6 / 5), int64(core * 6 / 5), 0, outer, ""},
		{"a cut", cpu, int64(core / 5), int64(core / 2), knowledge.ActorUser, outer, "cgroup"},
		{"no cut follows from a bound below", cpu, int64(core * 6 / 5), int64(core), 0, tight, "cgroup"},
		{"a cut to above the bound", cpu, int64(core * 4 / 5), int64(core * 4 / 5), 0, tight, ""},
		{"memory", mem, int64(700 * mib), int64(600 * mib), 0, outer, "cgroup"},
		{"memory above it already", mem, int64(700 * mib), int64(512 * mib), 0, tight, "cgroup"},
		{"memory cut", mem, int64(400 * mib), int64(400 * mib), 0, outer, ""},
		{"restore", cpu, int64(2 * core), int64(2 * core), knowledge.ActorRestore, outer, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, h, rules := usualSubject(noon), usualHost(), usualRules()
			s.Window.Bounds, s.Probe = c.bounds, probe{}
			from := s.Limit(c.resource)
			got := Admit(&Request{Now: noon, Container: &s, Host: &h, Rules: &rules, Decision: &knowledge.Decision{
				Resource: c.resource, From: from, To: c.to, Verb: Verb(from, c.to), Actor: c.actor, At: noon}})
			if got.Allowed != c.want || got.Guard != c.guard {
				t.Errorf("%+v, want %d by %q", got, c.want, c.guard)
			}
		})
	}
	s, h, rules := usualSubject(noon), usualHost(), usualRules()
	h.CPUPool = 32 * core // limits.cpu_overcommit = 4
	s.Policy.CPU.Max = 0
	got := Admit(&Request{Now: noon, Container: &s, Host: &h, Rules: &rules, Decision: &knowledge.Decision{
		Resource: cpu, From: int64(core), To: int64(20 * core), Verb: knowledge.Grow, Actor: knowledge.ActorUser, At: noon}})
	if got.Allowed != int64(8*core) {
		t.Errorf("%+v of a host with 8 CPUs", got)
	}
}

// strict is a kernel that takes quotas between two bounds that nothing shows.
type strict struct {
	probe
	least, most knowledge.NanoCPU
	tried       *[]knowledge.NanoCPU
}

func (p strict) SetQuota(q knowledge.NanoCPU, d time.Duration) error {
	*p.tried = append(*p.tried, q)
	if q < p.least || q > p.most {
		return fmt.Errorf("cannot set the CPU quota: %w", syscall.EINVAL)
	}
	return p.probe.SetQuota(q, d)
}

// Row 123: a refused quota is not repeated unchanged, the limit comes near to what the
// kernel takes, and the Engine is not asked for what the kernel refused.
func TestRefusedQuotaIsNotRepeated(t *testing.T) {
	for _, to := range []knowledge.NanoCPU{core * 14 / 10, core * 8 / 10} {
		t.Run(to.String(), func(t *testing.T) {
			w := newWorld(t)
			var tried []knowledge.NanoCPU
			w.s.Probe = strict{probe: probe{w}, least: core * 9 / 10, most: core * 12 / 10, tried: &tried}
			for range 600 {
				w.cpu(to)
				w.pass(time.Second)
				w.settle()
			}
			slices.Sort(tried)
			if n := len(tried); n > 8 || n != len(slices.Compact(slices.Clone(tried))) {
				t.Errorf("tried %v", tried)
			}
			if w.calls["cpu"] > 0 || w.s.KernelRefused != "" {
				t.Errorf("%d calls of the Engine, refused: %q", w.calls["cpu"], w.s.KernelRefused)
			}
			if q := w.kernel.CPU; to > core && q < core*11/10 || to < core && q > core*19/20 {
				t.Errorf("stays at %s", q)
			}
			w.s.Window.Bounds.CPU = 3 * core // a parent's quota was changed
			w.s.Probe = probe{w}
			if r := w.cpu(to); !r.Acted {
				t.Errorf("under other bounds: %+v", r)
			}
		})
	}
}

// Row 123: what the Engine refused is not repeated unchanged either.
func TestRefusedUpdateIsNotRepeated(t *testing.T) {
	w := newWorld(t)
	w.fail = errRefused
	seen := map[int64]int{}
	for range 3600 {
		w.pass(time.Second)
		r := w.memory(700 * mib)
		if r.Acted {
			seen[r.Allowed]++
		}
		w.settle()
	}
	for v, n := range seen {
		if n > 1 {
			t.Errorf("%s was sent %d times in an hour", knowledge.Bytes(v), n)
		}
	}
	if w.calls["memory"] > 6 {
		t.Errorf("%d calls", w.calls["memory"])
	}
}

// Row 123: nor is what it should start with.
func TestRefusedStartIsNotRepeated(t *testing.T) {
	w := freeWorld(t)
	w.fail = errRefused
	w.cpu(4 * core)
	w.settle()
	w.keeps(50 * time.Minute)
	if n := w.calls["cpu"]; n != 1 {
		t.Errorf("%d updates", n)
	}
	w.s.Window.Bounds.CPU = 6 * core // a parent's quota was changed
	w.fail = nil
	w.keeps(10 * time.Minute)
	if w.engine.CPU < 4*core {
		t.Errorf("on record %s", w.engine.CPU)
	}
}

// Row 123: no limit in force below a parent's quota is no more than that quota.
func TestNoLimitWithinAParent(t *testing.T) {
	w := freeWorld(t)
	none := knowledge.Limits{Memory: 256 * mib, MemorySwap: 512 * mib}
	w.kernel, w.engine, w.s.Original.Limits, w.s.Marks.Engine = none, none, none, none
	w.s.Policy.Ceiling.CPU, w.s.Window.Bounds.CPU = 2*core, core/2
	w.keeps(10 * time.Second)
	w.s.Hold(w.now, "somebody", knowledge.ResourceMemory, 0)
	w.keeps(10 * time.Second)
	if w.engine.CPU != core/2 || w.calls["cpu"] != 1 {
		t.Errorf("on record %s after %d updates", w.engine.CPU, w.calls["cpu"])
	}
}
