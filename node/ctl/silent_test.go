package ctl

import (
	"bytes"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/effiscale/effiscale/node/api"
)

// TestSilentDaemon: against a daemon that accepts calls and does not answer, as after SIGSTOP,
// every command ends within seconds and says so (row 139).
func TestSilentDaemon(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	var all sync.WaitGroup
	for _, line := range []string{"status", "", "explain web", "history web", "plan", "members", "pause web", "resume web",
		"scale web --cpu 1", "restore web", "reload", "export web"} {
		all.Go(func() {
			var out, errs bytes.Buffer
			began := time.Now()
			deps := testDeps(&fakeClient{})
			deps.Connect = func(string) api.Caller { return api.NewClient(socket) }
			code := Main(t.Context(), strings.Fields(line), Stdio{Out: &out, Err: &errs, In: strings.NewReader("")}, deps)
			if took := time.Since(began); took > 3*readTimeout/2 || code != ExitUnreachable ||
				!strings.Contains(errs.String(), "did not answer in time: it is stopped or overloaded") {
				t.Errorf("%s: exit code %d after %s: %s", line, code, took, errs.String())
			}
		})
	}
	all.Wait()
}

// TestStopping: a daemon in an orderly stop says so, and not that it has left its cluster for
// good (row 139).
func TestStopping(t *testing.T) {
	st := api.Status{Cluster: &api.ClusterView{Members: 0, Expected: 3}, Node: api.NodeView{Stopping: true}}
	var p page
	statusText(&p, st)
	if text := p.String(); !strings.Contains(text, "  stopping") || strings.Contains(text, "left") {
		t.Errorf("%s", text)
	}
}
