package node

import (
	"context"
	"testing"
	"time"

	"github.com/effiscale/effiscale/docker/dockertest"
	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/node/api"
	"github.com/effiscale/effiscale/node/ops"
)

// TestRestorePausesFirst: that a service is left alone from now on is on the disk
// before anything is put back, so that a next life does not take it away again
// (row 76).
func TestRestorePausesFirst(t *testing.T) {
	t.Parallel()
	r := newRig(t, dockertest.Options{})
	limits := knowledge.Limits{CPU: knowledge.OneCPU, Memory: 128 * knowledge.MiB, MemorySwap: 128 * knowledge.MiB}
	web := r.e.Run(dockertest.Spec{Name: "web", Labels: opted, Limits: limits})
	r.e.SetMemory(web, 64*knowledge.MiB)
	r.managed(web)
	if _, err := r.n.ops.Scale(t.Context(), api.ScaleRequest{Container: "web", Memory: int64(160 * knowledge.MiB),
		By: "test"}); err != nil {
		t.Fatal(err)
	}
	r.e.Inject(dockertest.Fault{Op: dockertest.UpdateC, Hang: true})
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if res, err := r.n.ops.Restore(ctx, api.RestoreRequest{Container: "web"}); err == nil && len(res.Failed) == 0 {
		t.Errorf("the Engine hangs: %+v", res)
	}
	kept := map[knowledge.ServiceKey]knowledge.Pause{}
	if _, err := r.n.store.Documents.Get(ops.DocPauses, &kept); err != nil || !kept["web"].On {
		t.Errorf("%+v, %v", kept, err)
	}
	r.e.Heal()
}

// TestRestoreIsExact: a restore gives back what hardly differs, too, and a limit that is there
// but for whole pages is no failure. FAULTS row 107.
func TestRestoreIsExact(t *testing.T) {
	t.Parallel()
	r := newRig(t, dockertest.Options{})
	limits := knowledge.Limits{CPU: knowledge.OneCPU, Memory: 128 * knowledge.MiB, MemorySwap: 128 * knowledge.MiB}
	web := r.e.Run(dockertest.Spec{Name: "web", Labels: opted, Limits: limits})
	r.e.SetUsage(web, 0.75) // nothing else is due
	r.managed(web)
	off := limits
	off.CPU, off.Memory = limits.CPU*996/1000, limits.Memory-4*knowledge.KiB
	r.e.SetKernel(web, off)
	r.soon(10*time.Second, "read", func() bool {
		u, ok := r.unit(web)
		return ok && u.Window.Quota == off.CPU && u.Window.MemoryLimit == off.Memory
	})
	for range 2 {
		res, err := r.n.ops.Restore(t.Context(), api.RestoreRequest{Container: "web"})
		if err != nil || len(res.Failed) > 0 {
			t.Fatalf("%+v, %v", res, err)
		}
	}
	if got := r.e.Kernel(web); got.CPU != limits.CPU {
		t.Errorf("%v cores", got.CPU)
	}
}
