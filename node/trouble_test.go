package node

import (
	"strings"
	"testing"
	"time"

	"github.com/effiscale/effiscale/docker/dockertest"
	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/node/api"
)

// TestTroublesOfContainers: what does not work makes a problem and status degraded; what somebody
// stopped, a job that is done and what is not managed do not (row 139).
func TestTroublesOfContainers(t *testing.T) {
	t.Parallel()
	fails := func(r *rig, id knowledge.ContainerID) { r.e.Exit(id, 3) }
	loops := func(n, code int) func(*rig, knowledge.ContainerID) {
		return func(r *rig, id knowledge.ContainerID) {
			for i := range n {
				if i > 0 {
					r.e.Start(id)
					time.Sleep(30 * time.Millisecond)
				}
				r.e.Exit(id, code)
			}
			r.e.Start(id)
		}
	}
	for name, c := range map[string]struct {
		labels map[string]string
		health string
		do     func(*rig, knowledge.ContainerID)
		says   string // "": no problem
	}{
		"works":               {opted, "healthy", nil, ""},
		"unhealthy":           {opted, "unhealthy", nil, "web is unhealthy"},
		"unhealthy, observed": {nil, "unhealthy", nil, "web is unhealthy"},
		"fails":               {opted, "", fails, "web ended by itself with exit code 3"},
		"fails, observed":     {nil, "", fails, ""},
		"done":                {opted, "", func(r *rig, id knowledge.ContainerID) { r.e.Exit(id, 0) }, ""},
		"crashes":             {opted, "", func(r *rig, id knowledge.ContainerID) { r.e.Exit(id, 139) }, "exit code 139"},
		"killed for memory":   {opted, "", func(r *rig, id knowledge.ContainerID) { r.e.Exit(id, 137) }, "exit code 137"},
		"stopped":             {opted, "", func(r *rig, id knowledge.ContainerID) { r.e.StopWith(id, 1) }, ""},
		"stopped by a signal": {opted, "", func(r *rig, id knowledge.ContainerID) { r.e.StopWith(id, 143) }, ""},
		"restarts once":       {opted, "", loops(1, 1), ""},
		"loops":               {opted, "", loops(7, 1), "web is in a crash loop: it ended by itself 7 times within 5 minutes"},
		"loops with success":  {opted, "", loops(4, 0), "web is in a crash loop: it ended by itself 4 times"},
		"loops, observed":     {nil, "", loops(4, 1), "web is in a crash loop"},
		"restarted by somebody": {opted, "", func(r *rig, id knowledge.ContainerID) {
			for range 5 {
				r.e.StopWith(id, 1)
				r.e.Start(id)
			}
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, dockertest.Options{})
			id := r.e.Run(dockertest.Spec{Name: "web", Labels: c.labels, Health: c.health})
			r.soon(10*time.Second, "listed", func() bool { _, ok := r.unit(id); return ok })
			r.soon(10*time.Second, "events", func() bool { return r.e.Listeners() > 0 })
			if c.do != nil {
				c.do(r, id)
			}
			var s api.Status
			look := func() bool {
				s, _ = r.n.ops.Status(t.Context(), api.None{})
				return strings.Contains(strings.Join(s.Problems, "\n"), c.says) && s.Degraded
			}
			if c.says != "" {
				r.soon(10*time.Second, c.says, look)
				return
			}
			r.soon(10*time.Second, "not degraded", func() bool { look(); return !s.Degraded }) // between end and start
			r.pass(time.Second, func() {
				if look(); s.Degraded {
					t.Fatalf("degraded: %q", s.Problems)
				}
			})
		})
	}
}

// TestEndedBefore: a container that failed before the daemon started is named, and one that a
// signal ended is not (row 139).
func TestEndedBefore(t *testing.T) {
	t.Parallel()
	r := newRig(t, dockertest.Options{})
	r.e.DropEvents(true)
	failed := r.e.Run(dockertest.Spec{Name: "failed", Labels: opted})
	killed := r.e.Run(dockertest.Spec{Name: "killed", Labels: opted})
	r.e.Exit(failed, 3)
	r.e.StopWith(killed, 143)
	r.soon(10*time.Second, "the failed one is named", func() bool {
		s, _ := r.n.ops.Status(t.Context(), api.None{})
		text := strings.Join(s.Problems, "\n")
		if strings.Contains(text, "killed") {
			t.Fatalf("%q", s.Problems)
		}
		return strings.Contains(text, "failed ended by itself")
	})
}

// TestJustStarted: a container is known and has its limits as soon as it runs: no command answers
// that there is none, or that it has no limit (row 139).
func TestJustStarted(t *testing.T) {
	t.Parallel()
	r := newRig(t, dockertest.Options{})
	r.e.DropEvents(true)
	r.soon(10*time.Second, "the first pass", func() bool {
		s, err := r.n.ops.Status(t.Context(), api.None{})
		return err == nil && s.Node.Ready
	})
	limits := knowledge.Limits{CPU: knowledge.OneCPU, Memory: 128 * knowledge.MiB, MemorySwap: 128 * knowledge.MiB}
	for range 3 {
		id := r.e.Run(dockertest.Spec{Name: "web", Labels: opted, Limits: limits})
		res, err := r.n.ops.Scale(t.Context(), api.ScaleRequest{Container: "web", CPU: 2, By: "test"})
		if err != nil || len(res.Changes) != 1 || res.Changes[0].From != int64(knowledge.OneCPU) {
			t.Errorf("scale: %+v, %v", res, err)
		}
		r.e.Remove(id)
		next := r.e.Run(dockertest.Spec{Name: "other", Labels: opted, Limits: limits})
		if _, err := r.n.ops.Explain(t.Context(), api.ExplainRequest{Name: "other"}); err != nil {
			t.Errorf("explain: %v", err)
		}
		r.e.Remove(next)
	}
	r.e.Run(dockertest.Spec{Name: "web-1", Labels: map[string]string{"effiscale.enable": "true", "effiscale.service": "web"}})
	r.soon(10*time.Second, "the service", func() bool {
		_, err := r.n.ops.Records(t.Context(), api.RecordsRequest{Name: "web-1", Limit: 1})
		return err == nil
	})
	listings := r.e.Calls(dockertest.List)
	for range 20 { // the name of a service needs no listing
		if _, err := r.n.ops.Records(t.Context(), api.RecordsRequest{Name: "web", Limit: 1}); err != nil {
			t.Errorf("history of the service: %v", err)
		}
	}
	if n := r.e.Calls(dockertest.List) - listings; n > 2 {
		t.Errorf("%d listings for the name of a service", n)
	}
	if _, err := r.n.ops.Explain(t.Context(), api.ExplainRequest{Name: "nobody"}); api.KindOf(err) != api.KindNotFound {
		t.Errorf("nobody: %v", err)
	}
}
