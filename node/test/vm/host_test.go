// Package vmtest tries the installed daemon where most users are: on a machine
// with cgroup v2, systemd as PID 1 and the systemd cgroup driver.
//
// The test builds a payload (our binary, the files that README.md installs, a
// container's work, and this test itself), boots a virtual machine with it and
// runs TestGuest inside. The machine is emulated, about ten times slower than
// its host: limits of time are generous, and nothing is asserted on speed.
package vm

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const (
	moduleRoot = "../../.."
	// bootSeconds bounds the whole life of the machine; it takes 5 to 7 minutes.
	bootSeconds = "1200"
	inGuest     = "EFFISCALE_IN_GUEST"
)

// TestVM boots the machine whose image is in EFFISCALE_VM with the run.sh of the
// folder EFFISCALE_VM_SCRIPTS (arguments: image folder, payload, results, limit).
func TestVM(t *testing.T) {
	if os.Getenv(inGuest) != "" {
		t.Skip("this is the machine")
	}
	image, scripts := os.Getenv("EFFISCALE_VM"), os.Getenv("EFFISCALE_VM_SCRIPTS")
	if image == "" || scripts == "" {
		t.Skip("LEFT OUT: cgroup v2 and systemd in a virtual machine; EFFISCALE_VM and EFFISCALE_VM_SCRIPTS name none")
	}
	payload, result := t.TempDir(), t.TempDir()
	makePayload(t, payload)
	cmd := exec.CommandContext(t.Context(), filepath.Join(scripts, "run.sh"), image, payload, result, bootSeconds)
	cmd.Env = append(os.Environ(), "VM_MEM=3072")
	out, err := cmd.CombinedOutput()
	log, readErr := os.ReadFile(filepath.Join(result, "log"))
	if readErr != nil {
		t.Fatalf("the machine left no log: %v\n%s", err, out)
	}
	t.Logf("in the machine:\n%s", log)
	if err != nil {
		journal, _ := os.ReadFile(filepath.Join(result, "journal"))
		t.Logf("the daemon's journal:\n%s", tail(journal, 200))
		t.Fatalf("cannot run the test in the machine: %v\n%s", err, out)
	}
	// A guest that runs nothing would end well, too.
	if passed := bytes.Count(log, []byte("    --- PASS: TestGuest/")); passed < len(stages()) {
		t.Errorf("%d stages passed in the machine, want %d", passed, len(stages()))
	}
}

func makePayload(t *testing.T, dir string) {
	t.Helper()
	build(t, filepath.Join(dir, "effiscale"), "build", "-trimpath", "-o", filepath.Join(dir, "effiscale"), moduleRoot)
	build(t, "load", "build", "-o", filepath.Join(dir, "load"), "./load")
	build(t, "vmtest", "test", "-c", "-o", filepath.Join(dir, "vmtest"), ".")
	for _, f := range []string{"README.md", "config.example.toml"} {
		copyFile(t, filepath.Join(moduleRoot, f), filepath.Join(dir, f))
	}
	if err := os.CopyFS(filepath.Join(dir, "systemd"), os.DirFS(filepath.Join(moduleRoot, "systemd"))); err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf("export %s=1\n./vmtest -test.v -test.timeout 18m -test.run '^TestGuest$'\nstatus=$?\n"+
		"journalctl --no-pager -o cat -u effiscale >\"$OUT/journal\"\nexit $status\n", inGuest)
	if err := os.WriteFile(filepath.Join(dir, "run.sh"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
}

// build runs the go command without cgo and without flags of the environment,
// such as -race, which a static binary cannot have.
func build(t *testing.T, what string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("cannot build %s: %v\n%s", what, err, out)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, b, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// block is the fenced block of README.md that follows the marker <!-- name -->.
func block(readme, name string) (string, error) {
	_, rest, ok := strings.Cut(readme, "<!-- "+name+" -->\n")
	if ok {
		_, rest, ok = strings.Cut(rest, "```")
	}
	if ok {
		_, rest, ok = strings.Cut(rest, "\n")
	}
	body, _, closed := strings.Cut(rest, "\n```")
	if !ok || !closed {
		return "", fmt.Errorf("README.md has no block after <!-- %s -->", name)
	}
	return body, nil
}

func tail(b []byte, lines int) []byte {
	all := bytes.Split(b, []byte("\n"))
	return bytes.Join(all[max(0, len(all)-lines):], []byte("\n"))
}
