package node

import (
	"context"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/effiscale/effiscale/docker/dockertest"
	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/knowledge/store"
	"github.com/effiscale/effiscale/node/config"
)

// newRigWithoutFiles is a rig that sees no kernel files, and limits for its containers.
func newRigWithoutFiles(t *testing.T) (*rig, knowledge.Limits) {
	t.Helper()
	s, _, err := store.Open(store.Options{Dir: t.TempDir(), Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	return newRigSeeing(t, dockertest.Options{}, s, func(*config.Config) {}, false),
		knowledge.Limits{CPU: knowledge.OneCPU / 2, Memory: 128 * knowledge.MiB, MemorySwap: 128 * knowledge.MiB}
}

// TestLimitsWithoutKernelFiles: where no kernel file can be seen, the limits of the Engine's
// record count: a limit is not taken for none, and none is set again and again (row 136).
func TestLimitsWithoutKernelFiles(t *testing.T) {
	t.Parallel()
	r, limits := newRigWithoutFiles(t)
	both := r.e.Run(dockertest.Spec{Name: "both", Labels: opted, Limits: limits})
	cpu := r.e.Run(dockertest.Spec{Name: "cpu", Labels: opted, Limits: knowledge.Limits{CPU: knowledge.OneCPU}})
	none := r.e.Run(dockertest.Spec{Name: "none", Labels: opted})
	all := []knowledge.ContainerID{both, cpu, none}
	for _, id := range all {
		r.e.SetMemory(id, 64*knowledge.MiB)
		r.e.SetUsage(id, 0.3)
	}
	r.soon(20*time.Second, "measured", func() bool {
		for _, id := range all {
			if u, ok := r.unit(id); !ok || u.Window.Samples < 2 {
				return false
			}
		}
		return true
	})
	if u, _ := r.unit(both); !u.Statistics {
		t.Error("the Engine's statistics are not named as its source")
	}
	if u, _ := r.unit(both); u.Window.Quota != limits.CPU || u.Window.MemoryLimit != limits.Memory {
		t.Errorf("limits %s and %s, want those of the record", u.Window.Quota, u.Window.MemoryLimit)
	}
	stale := 0
	r.pass(12*time.Second, func() {
		for _, id := range all {
			if u, _ := r.unit(id); u.Finding.Quality == knowledge.QualityStale {
				stale++
			}
		}
	})
	if stale > 0 {
		t.Errorf("%d looks found a stale sample", stale)
	}
	last := map[knowledge.ContainerID]dockertest.Update{}
	for _, u := range r.e.Updates() {
		before, again := last[u.ID]
		if again && u.Memory == before.Memory && u.NanoCPUs == before.NanoCPUs && u.Quota == before.Quota {
			t.Errorf("an update was repeated unchanged: %+v", u)
		}
		last[u.ID] = u
	}
	if n := len(r.e.Updates()); n > 6 {
		t.Errorf("%d updates of three steady containers", n)
	}
	for _, id := range all {
		u, _ := r.unit(id)
		if got := r.e.Kernel(id); u.Window.Have&knowledge.HasLimits == 0 || got.CPU != u.Window.Quota ||
			got.Memory != u.Window.MemoryLimit {
			t.Errorf("shows %s and %s, in force are %s and %s", u.Window.Quota, u.Window.MemoryLimit, got.CPU, got.Memory)
		}
	}
}

// TestUnknownLimits: while neither kernel files nor the record can be read, nothing is changed
// (row 136).
func TestUnknownLimits(t *testing.T) {
	t.Parallel()
	r, limits := newRigWithoutFiles(t)
	id := r.e.Run(dockertest.Spec{Name: "web", Labels: opted, Limits: limits})
	r.soon(10*time.Second, "inspected", func() bool { u, ok := r.unit(id); return ok && u.OriginalKept })
	r.e.Inject(dockertest.Fault{Op: dockertest.Inspect, Status: 403, Message: "not allowed"})
	r.e.SetMemory(id, 120*knowledge.MiB)
	r.e.SetUsage(id, 3)
	next := r.e.Recreate(id)
	r.e.SetUsage(next, 3)
	r.soon(20*time.Second, "measured", func() bool { u, ok := r.unit(next); return ok && u.Window.Samples > 1 })
	r.pass(3*time.Second, func() {})
	if n := len(r.e.Updates()); n > 0 {
		t.Errorf("%d updates of a container whose limits are not known: %+v", n, r.e.Updates())
	}
}

// updating is an Engine with one container, whose updates may fail.
type updating struct {
	containerEngine
	info knowledge.Container
	err  error
	// during runs while the Engine is at work.
	during func()
}

func (u *updating) work() error {
	if u.during != nil {
		u.during()
	}
	return u.err
}

func (u *updating) Inspect(context.Context, knowledge.ContainerID) (knowledge.Container, error) {
	return u.info, u.work()
}

func (u *updating) UpdateCPU(context.Context, knowledge.ContainerID, knowledge.Limits) error {
	return u.work()
}

func (u *updating) UpdateMemory(context.Context, knowledge.ContainerID, knowledge.Bytes, knowledge.Bytes) error {
	return u.work()
}

// TestRecordIsNotKnown: after an update that failed the limits are not known until the next inspect,
// for the Engine may have made it; an inspect beside an update tells nothing (row 136).
func TestRecordIsNotKnown(t *testing.T) {
	const mib = knowledge.MiB
	e := &updating{info: knowledge.Container{Limits: knowledge.Limits{CPU: 1e9, Memory: 64 * mib}}}
	r, ctx := newRecord(e), t.Context()
	const id = knowledge.ContainerID("web")
	r.follow(id)
	inspect := func() {
		t.Helper()
		if _, err := r.Inspect(ctx, id); err != nil {
			t.Fatal(err)
		}
	}
	is := func(what string, cpu knowledge.NanoCPU, mem knowledge.Bytes, known bool) {
		t.Helper()
		if l, ok := r.limits(id); ok != known || known && (l.CPU != cpu || l.Memory != mem) {
			t.Errorf("%s: %s and %s, known: %v", what, l.CPU, l.Memory, ok)
		}
	}
	is("at first", 0, 0, false)
	inspect()
	is("inspected", 1e9, 64*mib, true)
	_ = r.UpdateMemory(ctx, id, 96*mib, 96*mib)
	is("memory was updated", 1e9, 96*mib, true)
	_ = r.UpdateCPU(ctx, id, knowledge.Limits{CPU: 2e9})
	is("CPU was updated", 2e9, 96*mib, true)
	e.err = errNotHere
	_ = r.UpdateMemory(ctx, id, 128*mib, 128*mib)
	is("memory was not updated", 0, 0, false)
	e.err = nil
	inspect()
	is("inspected again", 1e9, 64*mib, true)
	_ = r.UpdateCPU(ctx, id, knowledge.Limits{})
	is("the limit of CPU was taken away", 0, 0, false)
	inspect()
	_ = r.UpdateMemory(ctx, id, 0, 0)
	is("that of memory was", 0, 0, false)
	inspect()
	e.err = errNotHere
	_ = r.UpdateCPU(ctx, id, knowledge.Limits{CPU: 2e9})
	e.err = nil
	is("CPU was not updated", 0, 0, false)
	e.during = func() { e.during = nil; inspect() }
	_ = r.UpdateCPU(ctx, id, knowledge.Limits{CPU: 3e9})
	is("inspected during the update", 0, 0, false)
	e.during = func() { e.during = nil; _ = r.UpdateMemory(ctx, id, 80*mib, 80*mib) }
	inspect()
	is("updated during the inspect", 0, 0, false)
	r.forget(id)
	inspect()
	is("closed", 0, 0, false)
}
