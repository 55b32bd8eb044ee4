package docker_test

import (
	"strings"
	"testing"

	"github.com/effiscale/effiscale/docker"
	"github.com/effiscale/effiscale/docker/dockertest"
	"github.com/effiscale/effiscale/knowledge"
)

// restoreCase is a container, and what a restore cannot set back after its limits were changed.
type restoreCase struct {
	made      knowledge.Recorded
	cpu, mem  bool   // which are changed
	left, and string // in what cannot be set back; "": nothing is left
}

func restoreCases() map[string]restoreCase {
	const mb = 1 << 20
	return map[string]restoreCase{
		"cpus":                  {made: knowledge.Recorded{NanoCPUs: 1_234_567_890}, cpu: true},
		"quota beyond the host": {made: knowledge.Recorded{Quota: 400_000}, cpu: true},
		"quota and period":      {made: knowledge.Recorded{Quota: 33_333, Period: 20_001}, cpu: true},
		"memory in no pages":    {made: knowledge.Recorded{Memory: 100_000_000, MemorySwap: 150_000_001}, mem: true},
		"no swap":               {made: knowledge.Recorded{Memory: 64 * mb, MemorySwap: 64 * mb}, mem: true},
		"unlimited swap":        {made: knowledge.Recorded{Memory: 64 * mb, MemorySwap: -1}, mem: true},
		"both": {cpu: true, mem: true,
			made: knowledge.Recorded{NanoCPUs: 5e8, Memory: 64 * mb, MemorySwap: 90 * mb}},
		"nothing was changed":    {made: knowledge.Recorded{Quota: 400_000, Memory: 100_000_000, MemorySwap: -1}},
		"no CPU limit":           {cpu: true, left: "NanoCpus", and: "instead of 0"},
		"no memory limit":        {mem: true, left: "Memory", and: "instead of 0"},
		"period without a quota": {made: knowledge.Recorded{Period: 50_000}, cpu: true, left: "CpuQuota -1 instead of 0"},
	}
}

// changeAndRestore does what the daemon does between the first inspect and a restore.
func changeAndRestore(t *testing.T, c *docker.Client, id knowledge.ContainerID, tt restoreCase) {
	t.Helper()
	inspect := func() knowledge.Limits {
		k, err := c.Inspect(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		return k.Limits
	}
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	was := inspect()
	if tt.cpu {
		l := was
		l.CPU = core / 4
		check(c.UpdateCPU(t.Context(), id, l))
	}
	if tt.mem {
		check(c.UpdateMemory(t.Context(), id, 200*knowledge.MiB, 0))
	}
	cpuLeft, err := c.Restore(t.Context(), id, knowledge.ResourceCPU, was)
	check(err)
	memLeft, err := c.Restore(t.Context(), id, knowledge.ResourceMemory, was)
	check(err)
	left := cpuLeft + memLeft
	if (left == "") != (tt.left == "") || !strings.Contains(left, tt.left) || !strings.Contains(left, tt.and) {
		t.Errorf("left: %q, want %q", left, tt.left)
	}
	if now := inspect().Recorded; tt.left == "" && now != was.Recorded {
		t.Errorf("%+v, was %+v", now, was.Recorded)
	}
}

// TestRow107RestoreFieldByField: the record becomes what it was, without rounding and without
// the bounds of other changes; what an update cannot set back has its name.
func TestRow107RestoreFieldByField(t *testing.T) {
	for name, tt := range restoreCases() {
		t.Run(name, func(t *testing.T) {
			for _, version := range []int{1, 2} {
				e := dockertest.New(t, dockertest.Options{NCPU: 2, Cgroup: version})
				id := e.Run(dockertest.Spec{Limits: knowledge.Limits{Recorded: tt.made}})
				changeAndRestore(t, open(t, e), id, tt)
				if !tt.cpu && !tt.mem && len(e.Updates()) != 0 {
					t.Errorf("%+v", e.Updates())
				}
			}
		})
	}
}

// TestRow107RealRestore: the same with this machine's Engine.
func TestRow107RealRestore(t *testing.T) {
	r := openReal(t)
	for name, tt := range restoreCases() {
		t.Run(name, func(t *testing.T) {
			r := *r
			r.t = t
			changeAndRestore(t, r.Client, r.run(1, knowledge.Limits{Recorded: tt.made}), tt)
		})
	}
}

// TestRow107OriginalOfAnEarlierVersion: it was recorded without the Engine's own fields.
func TestRow107OriginalOfAnEarlierVersion(t *testing.T) {
	e := dockertest.New(t, dockertest.Options{NCPU: 4})
	c := open(t, e)
	was := knowledge.Limits{CPU: core, Dialect: docker.CPUQuota, Period: 50_000_000,
		Memory: 64 * knowledge.MiB, MemorySwap: 96 * knowledge.MiB}
	id := e.Run(dockertest.Spec{Limits: was})
	l := was
	l.CPU = core / 2
	if err := c.UpdateCPU(t.Context(), id, l); err != nil {
		t.Fatal(err)
	}
	if err := c.UpdateMemory(t.Context(), id, 128*knowledge.MiB, 0); err != nil {
		t.Fatal(err)
	}
	for _, what := range []knowledge.Resource{knowledge.ResourceCPU, knowledge.ResourceMemory} {
		if left, err := c.Restore(t.Context(), id, what, was); err != nil || left != "" {
			t.Errorf("%q %v", left, err)
		}
	}
	if got := e.Record(id); got.CPU != core || got.Period != was.Period || got.Memory != was.Memory ||
		got.MemorySwap != was.MemorySwap {
		t.Errorf("%+v", got)
	}
}
