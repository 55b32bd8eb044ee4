// Package hosttest tests clusters of real hosts on one machine: a network
// namespace each, with a Docker Engine of its own in it and the real binary,
// joined by a network that this process carries and can spoil. The kernel's files
// and the Engines' raw answers are the witnesses.
//
// It needs root, dockerd and /dev/net/tun, and the machine for itself, so it runs only
// when it is asked for: EFFISCALE_HOSTS=some is the selection of each change, and
// EFFISCALE_HOSTS=all the whole set, which takes a good half hour.
// EFFISCALE_HOSTS_ROUNDS is how often an owner is killed. EFFISCALE_HOSTS_LOGS is a
// folder for the daemons' logs, which then say everything. Only one run at a time can
// be on a machine.
package hosts

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/effiscale/effiscale/docker/observer"
)

// rig is what all tests share; TestMain makes it once.
var rig struct {
	dir     string // of everything that a run makes; found by the next sweep
	binary  string // of the daemon
	newer   string // the same with another version
	archive []byte // the image with the load program at /load
	net     *network
	hosts   map[int]*host
	absent  error // why there can be no hosts
}

func TestMain(m *testing.M) {
	if ask := os.Getenv(helperVar); ask != "" {
		os.Exit(help(ask)) // this binary inside a host
	}
	flag.Parse()
	os.Exit(withRig(m))
}

func withRig(m *testing.M) (code int) {
	if !asked() {
		return m.Run() // each test says so
	}
	rig.dir = filepath.Join(os.TempDir(), "effi-hosts")
	if rig.absent = possible(); rig.absent != nil {
		return m.Run() // each test says so
	}
	free, err := lock(rig.dir + ".lock")
	if err == nil {
		defer free()
		err = sweep(rig.dir)
	}
	if err == nil {
		err = os.MkdirAll(rig.dir, 0o711)
	}
	if err == nil {
		defer func() {
			rig.net.close()
			if err := sweep(rig.dir); err != nil {
				fmt.Fprintln(os.Stderr, "left behind:", err)
				code = max(code, 1)
			}
		}()
		err = programs()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	rig.net, rig.hosts = newNetwork(), map[int]*host{}
	return m.Run()
}

// possible says what this machine lacks.
func possible() error {
	if os.Geteuid() != 0 {
		return errors.New("namespaces need root")
	}
	for _, tool := range []string{"dockerd", "ip", "nsenter"} {
		if _, err := exec.LookPath(tool); err != nil {
			return err
		}
	}
	_, err := os.Stat("/dev/net/tun")
	return err
}

// lock makes sure that no other run is there, whose hosts a sweep would take.
func lock(path string) (free func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("another run holds %s: %w", path, err)
	}
	return func() { f.Close() }, nil
}

func programs() error {
	load := filepath.Join(rig.dir, "load")
	rig.binary, rig.newer = filepath.Join(rig.dir, "effiscale"), filepath.Join(rig.dir, "effiscale-newer")
	race := os.Getenv("EFFISCALE_HOSTS_RACE") == "1"
	err := errors.Join(
		build(load, "node/test/vm/load", false),
		build(rig.binary, "", race, "-buildvcs=false"),
		// With the commit the version is another one.
		build(rig.newer, "", race, "-buildvcs=true"),
	)
	if err != nil {
		return err
	}
	rig.archive, err = archiveOf(load)
	return err
}

// build makes a program as users get it, or one that looks for data races in
// itself: slower, so its figures count less.
func build(out, pkg string, race bool, flags ...string) error {
	args, cgo := append([]string{"build", "-o", out}, flags...), "CGO_ENABLED=0"
	if race {
		args, cgo = append(args, "-race"), "CGO_ENABLED=1"
	}
	cmd := exec.Command("go", append(args, filepath.Join("github.com/effiscale/effiscale", pkg))...)
	cmd.Env = append(os.Environ(), cgo)
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("cannot build %s: %w\n%s", filepath.Base(out), err, text)
	}
	return nil
}

// needHosts skips where there can be no hosts, unless the environment requires them.
func needHosts(t *testing.T) {
	t.Helper()
	if !asked() {
		t.Skip("EFFISCALE_HOSTS=some runs a selection, EFFISCALE_HOSTS=all everything")
	}
	if rig.absent == nil {
		return
	}
	if os.Getenv("EFFISCALE_REQUIRE_ENGINE") == "1" {
		t.Fatalf("no hosts: %v", rig.absent)
	}
	t.Skipf("no hosts: %v", rig.absent)
}

// needAll skips what is too long for each change.
func needAll(t *testing.T) {
	t.Helper()
	needHosts(t)
	if !everything() {
		t.Skip("EFFISCALE_HOSTS=all runs it")
	}
}

func asked() bool { return everything() || os.Getenv("EFFISCALE_HOSTS") == "some" }

func everything() bool { return os.Getenv("EFFISCALE_HOSTS") == "all" }

func logsTo() string { return os.Getenv("EFFISCALE_HOSTS_LOGS") }

// rounds is how often a fault is repeated: few by default, many in the whole set.
func rounds(few, many int) int {
	if n, err := strconv.Atoi(os.Getenv("EFFISCALE_HOSTS_ROUNDS")); err == nil && n > 0 {
		return n
	}
	if everything() {
		return many
	}
	return few
}

var eventually, waitFor, hold, figure = observer.Eventually, observer.WaitFor, observer.Hold, observer.Figure
