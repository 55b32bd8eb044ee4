// Package e2e tests the real binary against the real Docker Engine: daemons of
// their own directories, containers that do measurable work, and the kernel's
// files and the Engine's raw answers as witnesses that the daemon had no hand in.
//
// Every container carries a label of its test, and each daemon sees only those
// (docker.only_label), so that nothing else on the host is touched.
package e2e

import (
	"archive/tar"
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/effiscale/effiscale/docker/observer"
)

const (
	// mark is the label that names the test; the daemon's docker.only_label.
	mark = "org.effiscale.e2e"
	// markRun holds the process that made a container: what a killed test run
	// left behind is found by the next one.
	markRun = "org.effiscale.e2e.run"
)

// rig is what all tests share; TestMain makes it once.
var rig struct {
	binary string // of the daemon
	image  string // with the load program at /load
	docker *engine
	absent error // why there is no Engine
}

func TestMain(m *testing.M) {
	flag.Parse()
	// Tests wait far more than they work: the default of one a core would make
	// the package last four times as long.
	_ = flag.Set("test.parallel", "8")
	os.Exit(withRig(m))
}

// long says whether the tests run in full: longer, more often, further.
func long() bool { return os.Getenv("EFFISCALE_LONG") == "1" }

func withRig(m *testing.M) int {
	dir, err := os.MkdirTemp("", "effiscale-e2e")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	rig.docker = &engine{observer.Local()}
	if rig.absent = rig.docker.Ping(); rig.absent != nil {
		return m.Run() // each test says so
	}
	rig.docker.sweep()
	rig.binary, rig.image = filepath.Join(dir, "effiscale"), fmt.Sprintf("effiscale-e2e-%d:1", os.Getpid())
	load := filepath.Join(dir, "load")
	err = build(load, "github.com/effiscale/effiscale/node/test/vm/load", false)
	if err == nil {
		err = build(rig.binary, "github.com/effiscale/effiscale", os.Getenv("EFFISCALE_E2E_RACE") == "1")
	}
	var layer []byte
	if err == nil {
		layer, err = layerOf(load)
	}
	if err == nil {
		err = rig.docker.importImage(rig.image, layer)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer rig.docker.removeImage(rig.image)
	return m.Run()
}

// build makes a static program, as users get it, or with EFFISCALE_E2E_RACE=1 a
// daemon that looks for data races in itself: slower, so its figures count less.
func build(out, pkg string, race bool) error {
	args, cgo := []string{"build", "-o", out, pkg}, "CGO_ENABLED=0"
	if race {
		args, cgo = []string{"build", "-race", "-o", out, pkg}, "CGO_ENABLED=1"
	}
	cmd := exec.Command("go", args...)
	cmd.Env = append(os.Environ(), cgo)
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("cannot build %s: %w\n%s", pkg, err, text)
	}
	return nil
}

// layerOf is a root file system with one program in it.
func layerOf(program string) ([]byte, error) {
	b, err := os.ReadFile(program)
	if err != nil {
		return nil, err
	}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	err = w.WriteHeader(&tar.Header{Name: "load", Mode: 0o755, Size: int64(len(b))})
	if err == nil {
		_, err = w.Write(b)
	}
	if err == nil {
		err = w.Close()
	}
	return buf.Bytes(), err
}

// needEngine skips where there is no Engine, unless the environment requires one.
func needEngine(t *testing.T) {
	t.Helper()
	if rig.absent == nil {
		return
	}
	if os.Getenv("EFFISCALE_REQUIRE_ENGINE") == "1" {
		t.Fatalf("no Engine: %v", rig.absent)
	}
	t.Skipf("left out: it needs a Docker Engine: %v", rig.absent)
}

// needRoot skips where kernel files cannot be written or mounts made.
func needRoot(t *testing.T) {
	t.Helper()
	needEngine(t)
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("EFFISCALE_REQUIRE_ENGINE") == "1" {
		t.Fatal("these tests write kernel files: run them as root")
	}
	t.Skip("left out: it writes kernel files and needs root")
}

var eventually, waitFor, hold, figure = observer.Eventually, observer.WaitFor, observer.Hold, observer.Figure

func processLives(pid string) bool {
	n, err := strconv.Atoi(pid)
	if err != nil || n <= 0 {
		return false
	}
	_, err = os.Stat("/proc/" + pid)
	return err == nil
}

// caller names the test in container names: lower case, without slashes.
func caller(t *testing.T) string {
	return strings.ToLower(strings.NewReplacer("/", "-", "_", "-").Replace(strings.TrimPrefix(t.Name(), "Test")))
}

func cores() float64 { return float64(runtime.NumCPU()) }
