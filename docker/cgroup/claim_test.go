package cgroup

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// TestRow106OneDaemonAContainer: of two processes that read one container, one may change it,
// until it closes the container or gives it back.
func TestRow106OneDaemonAContainer(t *testing.T) {
	for _, name := range []string{"v1", "v2-cgroupfs", "hybrid"} {
		t.Run(name, func(t *testing.T) {
			h := tree(t, name, Options{})
			a, b := attach(t, h), attach(t, h)
			if by := a.Claim(); by != "" {
				t.Fatalf("the first one: %q", by)
			}
			if by := a.Claim(); by != "" {
				t.Errorf("the first one again: %q", by)
			}
			if by := b.Claim(); by != "another process" { // this tree has no /proc/locks
				t.Errorf("the second one: %q", by)
			}
			a.Unclaim()
			if by := b.Claim(); by != "" {
				t.Errorf("after it was given back: %q", by)
			}
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
			if by := a.Claim(); by != "" {
				t.Errorf("after the other one was closed: %q", by)
			}
			if by := b.Claim(); by != "" { // there is nothing to claim
				t.Errorf("closed: %q", by)
			}
			foreign(t, h.root, a, attach(t, h))
		})
	}
}

// foreign: the lock counts by who holds it.
func foreign(t *testing.T, root string, a, b *Container) {
	var st unix.Stat_t
	if err := unix.Fstat(a.claimed(), &st); err != nil {
		t.Fatal(err)
	}
	line := fmt.Sprintf("1: POSIX  ADVISORY  WRITE 1 00:01:2 0 EOF\n2: FLOCK  ADVISORY  WRITE 4242 %02x:%02x:%d 0 EOF\n",
		unix.Major(st.Dev), unix.Minor(st.Dev), st.Ino)
	if err := os.WriteFile(filepath.Join(root, "proc/locks"), []byte(line), 0o644); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(root, "proc", strconv.Itoa(testPID)) // it is in the tree
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if by := b.Claim(); by != "process 4242" {
		t.Errorf("the lock of this user: %q", by)
	}
	if os.Geteuid() != 0 {
		return
	}
	if err := os.Chown(dir, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	if by := b.Claim(); by != "" {
		t.Errorf("a lock that any user may take: %q", by)
	}
}
