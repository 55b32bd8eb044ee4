package docker_test

import (
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/effiscale/effiscale/docker"
)

// Row 29: the socket cannot be opened. One line names the path, the group and the remedy.
// Root may open everything, so a child process without privileges runs the test.
func TestRow29Permission(t *testing.T) {
	if socket := os.Getenv("EFFISCALE_TEST_SOCKET"); socket != "" {
		askWithoutPermission(t, socket)
		return
	}
	dir, err := os.MkdirTemp("", "perm")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	socket := filepath.Join(dir, "docker.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := os.Chmod(socket, 0o600); err != nil {
		t.Fatal(err)
	}
	if os.Getuid() != 0 {
		if err := os.Chmod(socket, 0); err != nil {
			t.Fatal(err)
		}
		askWithoutPermission(t, socket)
		return
	}
	child := filepath.Join(dir, "child")
	copyFile(t, os.Args[0], child)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(child, "-test.run=^TestRow29Permission$", "-test.v")
	cmd.Env = append(os.Environ(), "EFFISCALE_TEST_SOCKET="+socket)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS") {
		t.Fatalf("%v\n%s", err, out)
	}
}

func askWithoutPermission(t *testing.T, socket string) {
	c, err := docker.Open(docker.Options{Host: "unix://" + socket})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range 10 { // the breaker opens, and the message stays
		_, err = c.List(t.Context())
		wantKind(t, err, docker.KindPermission)
		for _, word := range []string{socket, "group ", "gid ", "SupplementaryGroups="} {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("%q must say %q", err, word)
			}
		}
	}
	if up, _, last := c.State(); up || !strings.Contains(last, socket) {
		t.Errorf("state %v %q", up, last)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}
