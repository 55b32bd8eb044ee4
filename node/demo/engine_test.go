package demo

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/effiscale/effiscale/docker"
	"github.com/effiscale/effiscale/knowledge"
)

// exits that these tests expect; the command line's own tests fix their meaning.
const (
	exitBusy        = 6
	exitInterrupted = 130
)

// engine is the real one. Without it the test is left out, unless the
// environment demands it.
func engine(t *testing.T) *docker.Client {
	t.Helper()
	c, err := docker.Open(docker.Options{Host: os.Getenv("DOCKER_HOST")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if _, err := c.Host(t.Context()); err != nil {
		if os.Getenv("EFFISCALE_REQUIRE_ENGINE") != "1" {
			t.Skipf("left out: no Docker Engine: %v", err)
		}
		t.Fatal(err)
	}
	return c
}

// builtIn is the folder of the whole program, which every user may run.
func builtIn() string {
	return filepath.Join(os.TempDir(), fmt.Sprintf("effiscale-test-%d", os.Getpid()))
}

// build links the program as a user does, once.
var build = sync.OnceValue(func() error {
	if err := os.Mkdir(builtIn(), 0o755); err != nil {
		return err
	}
	cmd := exec.Command("go", "build", "-o", filepath.Join(builtIn(), "effiscale"), "../..")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("cannot build: %w\n%s", err, out)
	}
	return nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	_ = os.RemoveAll(builtIn())
	os.Exit(code)
}

func program(t *testing.T) string {
	t.Helper()
	if err := build(); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(builtIn(), "effiscale")
}

// output is what a demo has printed so far.
type output struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// demonstration is one `effiscale demo` of ten seconds, as a process of its own.
type demonstration struct {
	cmd *exec.Cmd
	out *output
	id  string
}

func start(t *testing.T, file string) *demonstration { return startAs(t, file, nil) }

// startAs starts a demo as another user; nil: as this one.
func startAs(t *testing.T, file string, user *syscall.Credential) *demonstration {
	t.Helper()
	d := &demonstration{out: &output{}}
	d.cmd = exec.Command(file, "demo", "--plain", "--duration", "10s")
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: user}
	d.cmd.Stdout, d.cmd.Stderr = d.out, d.out
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	d.id = idOf(d.cmd.Process.Pid)
	t.Cleanup(func() {
		_ = d.cmd.Process.Kill()
		_ = d.cmd.Wait()
	})
	return d
}

// wait is the exit code.
func (d *demonstration) wait(t *testing.T) int {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- d.cmd.Wait() }()
	select {
	case err := <-done:
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			return exit.ExitCode()
		}
		return 0
	case <-time.After(2 * time.Minute):
		t.Fatalf("the demo does not end:\n%s", d.out)
		return 0
	}
}

// reach waits until the demo has printed a text; false: it is busy here.
func (d *demonstration) reach(t *testing.T, text string) bool {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		switch out := d.out.String(); {
		case strings.Contains(out, text):
			return true
		case strings.Contains(out, ErrBusy.Error()):
			return false
		}
	}
	t.Fatalf("the demo never says %q:\n%s", text, d.out)
	return false
}

// again repeats what another test's containers stand in the way of.
func again(t *testing.T, try func() (free bool)) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); !try(); time.Sleep(time.Second) {
		if time.Now().After(end) {
			t.Fatal("this host was busy for two minutes")
		}
	}
}

// left is everything of a demo that is still there.
func left(t *testing.T, c *docker.Client, id string) []string {
	t.Helper()
	var found []string
	all, err := c.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, ctr := range all {
		if ctr.Labels[label] == id {
			found = append(found, "container "+ctr.Name)
		}
	}
	if _, err := os.Stat(dirOf(id)); err == nil {
		found = append(found, "directory "+dirOf(id))
	}
	// An image that exists makes a container; one that does not is refused.
	if ctr, err := c.Create(t.Context(), knowledge.ContainerSpec{Name: "effiscale-demo-probe-" + id, Image: imageOf(id),
		Command: []string{"/effiscale"}}); err == nil {
		found = append(found, "image "+imageOf(id))
		_ = c.Remove(t.Context(), ctr)
	}
	return append(found, daemonsOf(t, id)...)
}

// daemonsOf finds processes that run with a demo's configuration.
func daemonsOf(t *testing.T, id string) []string {
	t.Helper()
	var found []string
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil && bytes.Contains(b, []byte(dirOf(id)+"/")) {
			found = append(found, fmt.Sprintf("process %s", f))
		}
	}
	return found
}

// The demo ends by itself, shows both runs, and leaves nothing behind.
func TestEngineDemo(t *testing.T) {
	c, file := engine(t), program(t)
	again(t, func() bool {
		d := start(t, file)
		code := d.wait(t)
		if code == exitBusy {
			return false
		}
		out := d.out.String()
		for _, want := range []string{"first run: fixed limits", "second run", "latency p99", "reserved core-seconds",
			"effiscale.enable=true"} {
			if !strings.Contains(out, want) {
				t.Errorf("it does not say %q", want)
			}
		}
		if found := left(t, c, d.id); code != 0 || len(found) > 0 || t.Failed() {
			t.Errorf("exit %d, left behind: %q\n%s", code, found, out)
		}
		return true
	})
}

// Row 5: however it is interrupted, and wherever it stands then, nothing is left.
func TestEngineDemoInterrupted(t *testing.T) {
	long(t)
	c, file := engine(t), program(t)
	for _, tt := range []struct {
		name, at string
		signal   syscall.Signal
	}{
		{"while it makes the image", "making an image", syscall.SIGINT},
		{"in the first run", " 1s  demand", syscall.SIGTERM},
		{"while its daemon starts", "starting a daemon", syscall.SIGINT},
		{"in the second run", "second run", syscall.SIGINT},
	} {
		t.Run(tt.name, func(t *testing.T) {
			again(t, func() bool {
				d := start(t, file)
				if !d.reach(t, tt.at) {
					d.wait(t)
					return false
				}
				if err := d.cmd.Process.Signal(tt.signal); err != nil {
					t.Fatal(err)
				}
				if code, found := d.wait(t), left(t, c, d.id); code != exitInterrupted || len(found) > 0 {
					t.Errorf("exit %d, left behind: %q\n%s", code, found, d.out)
				}
				return true
			})
		})
	}
}

// A demo that was killed leaves containers, an image and a directory; its daemon
// ends with it, and the next demo removes the rest.
func TestEngineDemoKilled(t *testing.T) {
	long(t)
	c, file := engine(t), program(t)
	var d *demonstration
	again(t, func() bool {
		d = start(t, file)
		return d.reach(t, "second run") || d.wait(t) != exitBusy
	})
	if err := d.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	d.wait(t)
	again(t, func() bool { return len(daemonsOf(t, d.id)) == 0 })
	if len(left(t, c, d.id)) < 3 {
		t.Errorf("killed with -9 it left only %q: this test proves nothing", left(t, c, d.id))
	}
	again(t, func() bool {
		err := survey(t.Context(), c)
		if err != nil && !errors.Is(err, ErrBusy) {
			t.Fatal(err)
		}
		return err == nil
	})
	if found := left(t, c, d.id); len(found) > 0 {
		t.Errorf("after the next demo there is still %q", found)
	}
}

// An address that is none, and a program that cannot run alone in an image, are errors that
// say what to do.
func TestDemoCannotStart(t *testing.T) {
	err := Run(t.Context(), Options{Shape: "step", Duration: 10 * time.Second, Plain: true, Out: &output{},
		Host: "ssh://host"})
	if err == nil || !strings.Contains(err.Error(), "allowed: unix://") {
		t.Errorf("no address: %v", err)
	}
	shell, lookErr := exec.LookPath("sh")
	if lookErr != nil {
		t.Fatal(lookErr)
	}
	err = checkStatic(shell)
	if err == nil || !strings.Contains(err.Error(), "CGO_ENABLED=0") {
		t.Errorf("a program that is linked dynamically: %v", err)
	}
}
