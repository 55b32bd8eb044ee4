package node

import (
	"strings"
	"testing"
	"time"

	"github.com/effiscale/effiscale/docker/dockertest"
	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/node/api"
)

// TestRefusedUpdates: while the Engine, or what stands before its socket, refuses updates,
// containers are observed and nothing is changed, not in the kernel either; status says what to
// allow, and automation goes on when it is allowed (row 137).
func TestRefusedUpdates(t *testing.T) {
	t.Parallel()
	r := newRig(t, dockertest.Options{})
	go r.n.watchAccess(t.Context())
	r.e.Inject(dockertest.Fault{Op: dockertest.UpdateC, Status: 403, Body: "<h1>403 Forbidden</h1>", Type: "text/html"})
	if _, err := r.client.Host(t.Context()); err != nil {
		t.Fatal(err)
	}
	limits := knowledge.Limits{CPU: knowledge.OneCPU, Memory: 128 * knowledge.MiB, MemorySwap: 128 * knowledge.MiB}
	id := r.e.Run(dockertest.Spec{Name: "web", Labels: opted, Limits: limits})
	r.e.SetMemory(id, 64*knowledge.MiB)
	r.e.SetUsage(id, 3)
	r.soon(10*time.Second, "measured", func() bool { u, ok := r.unit(id); return ok && u.Window.Samples > 0 })
	r.pass(3*time.Second, func() {})
	if k := r.e.Kernel(id); k.CPU != limits.CPU || k.Memory != limits.Memory || len(r.e.Updates()) > 0 {
		t.Errorf("changed to %s and %s, %d updates", k.CPU, k.Memory, len(r.e.Updates()))
	}
	s, err := r.n.ops.Status(t.Context(), api.None{})
	if err != nil || !s.Degraded || s.Node.Engine != "connected" ||
		!strings.Contains(strings.Join(s.Problems, "\n"), "allow POST /containers/ID/update") {
		t.Errorf("status: degraded %t, engine %s, problems %q, %v", s.Degraded, s.Node.Engine, s.Problems, err)
	}
	_, err = r.n.ops.Scale(t.Context(), api.ScaleRequest{Container: "web", CPU: 2, By: "test"})
	if api.KindOf(err) != api.KindRefused || !strings.Contains(err.Error(), "allow POST") {
		t.Errorf("scale: %v", err)
	}
	r.e.Heal()
	r.soon(40*time.Second, "automation goes on", func() bool { return r.e.Kernel(id).CPU > 2*knowledge.OneCPU })
}

// TestRefusedInspect: a container whose original limits cannot be recorded is not changed, and
// the Engine is not taken for down (row 137).
func TestRefusedInspect(t *testing.T) {
	t.Parallel()
	r := newRig(t, dockertest.Options{})
	r.e.Inject(dockertest.Fault{Op: dockertest.Inspect, Status: 403, Message: "authorization denied by plugin"})
	limits := knowledge.Limits{CPU: knowledge.OneCPU, Memory: 128 * knowledge.MiB, MemorySwap: 128 * knowledge.MiB}
	id := r.e.Run(dockertest.Spec{Name: "web", Labels: opted, Limits: limits})
	r.e.SetUsage(id, 3)
	r.soon(10*time.Second, "measured", func() bool { u, ok := r.unit(id); return ok && u.Window.Samples > 2 })
	if k := r.e.Kernel(id); k.CPU != limits.CPU || len(r.e.Updates()) > 0 {
		t.Errorf("changed to %s, %d updates", k.CPU, len(r.e.Updates()))
	}
	if up, _, why := r.client.State(); !up {
		t.Errorf("taken for down: %s", why)
	}
	s, _ := r.n.ops.Status(t.Context(), api.None{})
	if !strings.Contains(strings.Join(s.Problems, "\n"), "allow GET /containers/ID/json") {
		t.Errorf("problems %q", s.Problems)
	}
}
