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
