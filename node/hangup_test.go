package node

import (
	"context"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestRow5HangupDuringTheStart: a SIGHUP that comes before the node serves is
// neither the end of it nor lost.
func TestRow5HangupDuringTheStart(t *testing.T) {
	dir := t.TempDir()
	out := &syncWriter{}
	n, err := New(t.Context(), Options{Out: out, Env: []string{
		"EFFISCALE_NODE_DATA_DIR=" + filepath.Join(dir, "data"), "EFFISCALE_API_SOCKET=" + filepath.Join(dir, "s"),
		"EFFISCALE_CLUSTER_BIND=127.0.0.1:0", "EFFISCALE_API_MONITOR=", "EFFISCALE_API_CONTROLLER=",
		"EFFISCALE_API_EXECUTION=",
		"EFFISCALE_DOCKER_HOST=unix://" + filepath.Join(dir, "none"),
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(syscall.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- n.Serve(ctx) }()
	deadline := time.Now().Add(10 * time.Second)
	for !strings.Contains(out.String(), "configuration reloaded") && time.Now().Before(deadline) {
		time.Sleep(5 * time.Millisecond)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if !strings.Contains(out.String(), "configuration reloaded") {
		t.Error(out.String())
	}
}

// syncWriter is a log that several goroutines write.
type syncWriter struct {
	mu   sync.Mutex
	text strings.Builder
}

func (w *syncWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.Write(b)
}

func (w *syncWriter) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}
