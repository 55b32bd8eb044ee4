package node

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/effiscale/effiscale/docker/dockertest"
	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/knowledge/store"
	"github.com/effiscale/effiscale/node/api"
)

// explained is what explain tells of a container's original limits.
func (s *testNode) explained(name string) (ex api.Explain) {
	s.t.Helper()
	soon(s.t, name+" has original limits", func() (ok bool) {
		var err error
		ex, err = s.n.ops.Explain(s.t.Context(), api.ExplainRequest{Name: name})
		return err == nil && ex.OriginalKept
	})
	return ex
}

// changedAndStopped is a node that doubled web's memory limit, and was stopped.
func changedAndStopped(t *testing.T) (*testNode, *dockertest.Engine) {
	s := newTestCluster(t, 1).all[0]
	e := s.giveEngine(dockertest.Spec{Name: "web", Labels: of("web")})
	s.start()
	s.explained("web")
	soon(t, "web is scaled", func() bool {
		_, err := s.n.ops.Scale(t.Context(), api.ScaleRequest{Container: "web", Memory: 2 << 30, By: "test"})
		return err == nil
	})
	s.stop()
	return s, e
}

// TestRow105KnowledgeFileLost: web has twice its original memory limit when the knowledge file
// is lost. The second file has the original.
func TestRow105KnowledgeFileLost(t *testing.T) {
	t.Parallel()
	for name, harm := range map[string]func(path string) error{
		"emptied": func(path string) error { return os.Truncate(path, 0) },
		"cut":     func(path string) error { return os.Truncate(path, 5000) },
		"damaged": func(path string) error { return os.WriteFile(path, []byte(strings.Repeat("x", 1<<16)), 0o600) },
		"deleted": os.Remove,
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := changedAndStopped(t)
			if err := harm(filepath.Join(s.path("data"), store.FileName)); err != nil {
				t.Fatal(err)
			}
			s.start()
			ex := s.explained("web")
			if ex.OriginalMemory == nil || *ex.OriginalMemory != 1<<30 || !ex.OriginalMemoryLost.IsZero() {
				t.Errorf("%+v", ex.LimitsInForce)
			}
			res, err := s.n.ops.Restore(t.Context(), api.RestoreRequest{Container: "web"})
			is := func(c api.Change) bool { return c.Resource == "memory" && c.To == 1<<30 }
			if err != nil || !slices.ContainsFunc(res.Restored, is) || len(res.Failed) > 0 {
				t.Errorf("%+v %v", res, err)
			}
			st, err := s.n.ops.Status(t.Context(), api.None{})
			if err != nil || !st.Degraded ||
				!strings.Contains(strings.Join(st.Problems, "\n"), "knowledge file at the start") {
				t.Errorf("degraded %v, %q, %v", st.Degraded, st.Problems, err)
			}
		})
	}
}

// TestRow105OriginalUnknown: both files are lost. What web has now is not called its original;
// status is degraded while that matters, and restore tells what it cannot know.
func TestRow105OriginalUnknown(t *testing.T) {
	t.Parallel()
	s, e := changedAndStopped(t)
	for _, name := range []string{store.FileName, store.CopyName} {
		if err := os.Remove(filepath.Join(s.path("data"), name)); err != nil {
			t.Fatal(err)
		}
	}
	check := func() {
		t.Helper()
		ex := s.explained("web")
		if ex.OriginalMemory != nil || ex.OriginalCPU != nil || time.Since(ex.OriginalMemoryLost).Abs() > time.Minute ||
			!ex.OriginalCPULost.Equal(ex.OriginalMemoryLost) {
			t.Errorf("%+v", ex.LimitsInForce)
		}
		res, err := s.n.ops.Restore(t.Context(), api.RestoreRequest{})
		if text := strings.Join(res.Failed, "\n"); err != nil || res.Nothing || !strings.Contains(text, "web") ||
			!strings.Contains(text, "unknown, the knowledge file was lost, or another daemon managed it, at "+ex.OriginalCPULost.UTC().Format(time.RFC3339)) {
			t.Errorf("%+v %v", res, err)
		}
		st, err := s.n.ops.Status(t.Context(), api.None{})
		problems := strings.Join(st.Problems, "\n")
		if err != nil || !st.Degraded || !strings.Contains(problems, "original limits of web are unknown") {
			t.Errorf("degraded %v, %q, %v", st.Degraded, st.Problems, err)
		}
	}
	s.start()
	check()
	s.stop() // it is not forgotten
	s.start()
	check()

	// A container of after the loss has its own.
	e.Run(dockertest.Spec{Name: "new", Labels: map[string]string{"effiscale.enable": "true"},
		Limits: knowledge.Limits{Memory: knowledge.GiB}})
	if ex := s.explained("new"); ex.OriginalMemory == nil || !ex.OriginalMemoryLost.IsZero() {
		t.Errorf("%+v", ex.LimitsInForce)
	}
}
