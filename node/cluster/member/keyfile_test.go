package member

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestKeyFileIsAPipe: a pipe in the place of the keys is an error, and not a start
// that waits for ever.
func TestKeyFileIsAPipe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cluster.key")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	read := make(chan error, 1)
	go func() {
		_, err := ReadKeyFile(path)
		read <- err
	}()
	select {
	case err := <-read:
		if err == nil || !strings.Contains(err.Error(), "is not a regular file") {
			t.Errorf("the error is %v", err)
		}
	case <-time.After(5 * time.Second):
		t.Error("it waits for somebody to write")
	}
}
