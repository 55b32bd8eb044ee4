package node

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/effiscale/effiscale/docker/dockertest"
	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/node/api"
)

// TestRefusedRecord: the first request before the refusal is known is in force in the kernel. status
// and explain report that until restore sets the original limit again (row 137).
func TestRefusedRecord(t *testing.T) {
	t.Parallel()
	for _, limits := range []knowledge.Limits{
		{}, {CPU: knowledge.OneCPU, Memory: 128 * knowledge.MiB, MemorySwap: 128 * knowledge.MiB},
	} {
		r := newRig(t, dockertest.Options{})
		go r.n.watchAccess(t.Context())
		id := r.e.Run(dockertest.Spec{Name: "web", Labels: opted, Limits: limits})
		r.e.SetMemory(id, 64*knowledge.MiB)
		r.e.SetUsage(id, 0.5)
		r.soon(10*time.Second, "measured", func() bool {
			u, ok := r.unit(id)
			return ok && u.Window.Samples > 2 && u.OriginalKept
		})
		r.e.Inject(dockertest.Fault{Op: dockertest.UpdateC, Status: 403, Body: "<h1>403 Forbidden</h1>", Type: "text/html"})
		res, err := r.n.ops.Scale(t.Context(), api.ScaleRequest{Container: "web", CPU: 0.7, By: "test"})
		if err != nil || !strings.Contains(strings.Join(res.Notes, ""), "in force; the Engine refused") {
			t.Fatalf("%+v, %v", res, err)
		}
		r.pass(2*time.Second, func() {})
		told := func() bool {
			s, err := r.n.ops.Status(t.Context(), api.None{})
			x, explainErr := r.n.ops.Explain(t.Context(), api.ExplainRequest{Name: "web"})
			if err != nil || explainErr != nil {
				t.Fatal(err, explainErr)
			}
			named := func(text string) bool {
				return strings.Contains(text, "cpu 0.70 cores is in force in the kernel") && strings.Contains(text, "HTTP 403")
			}
			if slices.ContainsFunc(s.Problems, named) != slices.ContainsFunc(x.Rejected, named) {
				t.Errorf("status %q, explain %q", s.Problems, x.Rejected)
			}
			return slices.ContainsFunc(s.Problems, named)
		}
		if !told() || r.e.Kernel(id).CPU != 7*knowledge.OneCPU/10 {
			t.Errorf("not told: in force %s", r.e.Kernel(id).CPU)
		}
		if back, err := r.n.ops.Restore(t.Context(), api.RestoreRequest{Container: "web"}); err != nil || back.Nothing {
			t.Errorf("%+v, %v", back, err)
		}
		if k := r.e.Kernel(id); k.CPU != limits.CPU || told() {
			t.Errorf("after the restore: in force %s, told %t", k.CPU, told())
		}
	}
}
