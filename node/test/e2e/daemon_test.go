package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/effiscale/effiscale/node/api"
)

// group is one test's containers: their label's value, and prefix of names.
type group struct{ name string }

// daemon is a real `effiscale run` with a directory of its own. It may be
// started again and again; its state stays.
type daemon struct {
	group
	*api.Client
	t    *testing.T
	dir  string
	env  []string // EFFISCALE_… over the file
	hide string   // a shell command that the process runs before, in mounts of its own
	cmd  *exec.Cmd
	over chan struct{} // closed when the process is gone
	from int64         // where this life's log begins
}

// newDaemon makes a daemon that is not started yet; settings are such as
// "POLICY_YIELD_FOR=5s".
func newDaemon(t *testing.T, settings ...string) *daemon {
	t.Helper()
	needRoot(t)
	dir, err := os.MkdirTemp("", "e2e") // short: a socket's path has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	d := &daemon{group: group{fmt.Sprintf("effiscale-e2e-%d-%s", os.Getpid(), caller(t))}, t: t, dir: dir}
	for _, s := range settings {
		d.env = append(d.env, "EFFISCALE_"+s)
	}
	d.configure(d.config())
	d.Client = api.NewClient(d.path("sock"))
	t.Cleanup(func() {
		d.Client.Close()
		d.kill()
		for _, bad := range []string{"WARNING: DATA RACE", "panic: ", "fatal error: "} {
			if strings.Contains(string(d.log()), bad) {
				t.Errorf("the daemon's log says %q", bad)
			}
		}
		if t.Failed() {
			t.Logf("the end of the daemon's log:\n%s", tail(d.log(), 40))
		}
	})
	return d
}

func (d *daemon) path(name string) string { return filepath.Join(d.dir, name) }

func (d *daemon) config() string {
	return fmt.Sprintf(`[node]
name = "e2e"
data_dir = %q
[docker]
host = "unix://%s"
only_label = "%s=%s"
[api]
monitor = "127.0.0.1:0"
controller = "127.0.0.1:0"
execution = "127.0.0.1:0"
socket = %q
socket_group = ""
[cluster]
bind = "127.0.0.1:0"
[log]
format = "json"
`, d.path("data"), rig.docker.Socket, mark, d.group.name, d.path("sock"))
}

func (d *daemon) configure(text string) {
	d.t.Helper()
	if err := os.WriteFile(d.path("x.toml"), []byte(text), 0o600); err != nil {
		d.t.Fatal(err)
	}
}

// launch starts the process and does not wait for anything.
func (d *daemon) launch() {
	d.t.Helper()
	log, err := os.OpenFile(d.path("log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		d.t.Fatal(err)
	}
	defer log.Close()
	if st, err := log.Stat(); err == nil {
		d.from = st.Size()
	}
	cmd := exec.Command(rig.binary, "run", "--config", d.path("x.toml"))
	if d.hide != "" {
		args := append([]string{"-m", "sh", "-c", d.hide + ` && exec "$0" "$@"`}, cmd.Args...)
		cmd = exec.Command("unshare", args...)
	}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "GOTRACEBACK=all", "GORACE=atexit_sleep_ms=10"}, d.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	over := make(chan struct{})
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // Pdeathsig comes with the end of the thread
		defer close(over)
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		d.t.Fatal(err)
	}
	d.cmd, d.over = cmd, over
}

// start starts the process and waits until its first full pass is done.
func (d *daemon) start() *daemon {
	d.t.Helper()
	d.launch()
	d.ready()
	return d
}

func (d *daemon) ready() {
	d.t.Helper()
	ok := waitFor(30*time.Second, func() bool {
		if !d.alive() {
			return true
		}
		st, err := d.status()
		return err == nil && st.Node.Ready
	})
	if !ok || !d.alive() {
		d.t.Fatalf("the daemon did not become ready:\n%s", tail(d.log(), 20))
	}
}

func (d *daemon) alive() bool {
	select {
	case <-d.over:
		return false
	default:
		return true
	}
}

func (d *daemon) signal(s syscall.Signal) {
	d.t.Helper()
	if err := d.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		d.t.Fatal(err)
	}
}

// wait is the exit code, and how long it took; a daemon that does not end fails.
func (d *daemon) wait(within time.Duration) (code int, took time.Duration) {
	d.t.Helper()
	began := time.Now()
	select {
	case <-d.over:
		return d.cmd.ProcessState.ExitCode(), time.Since(began)
	case <-time.After(within):
		d.t.Fatalf("the daemon did not end within %v", within)
		return 0, 0
	}
}

// stop is an orderly end; it takes less than 2 s, which callers check.
func (d *daemon) stop() time.Duration {
	d.t.Helper()
	d.signal(syscall.SIGTERM)
	code, took := d.wait(20 * time.Second)
	if code != 0 {
		d.t.Errorf("it ended with code %d", code)
	}
	return took
}

// kill is kill -9; a daemon that does not run is no error.
func (d *daemon) kill() {
	if d.cmd == nil || !d.alive() {
		return
	}
	_ = d.cmd.Process.Kill()
	<-d.over
}

func (d *daemon) status() (api.Status, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return api.OpStatus.Call(ctx, d.Client, api.None{})
}

// view is the daemon's view of one container; ok is false when it has none.
func (d *daemon) view(b *box) (v api.ContainerView, ok bool) {
	st, err := d.status()
	if err != nil {
		return v, false
	}
	for _, v := range st.Containers {
		if v.ID == b.id {
			return v, true
		}
	}
	return v, false
}

// sees waits until the daemon has measured the containers.
func (d *daemon) sees(boxes ...*box) {
	d.t.Helper()
	for _, b := range boxes {
		eventually(d.t, 20*time.Second, b.name+" is measured", func() bool {
			v, ok := d.view(b)
			return ok && !v.SampledAt.IsZero() && v.State != "unmeasured"
		})
	}
}

// changes are the records of a container, newest first.
func (d *daemon) changes(b *box) []api.Change {
	d.t.Helper()
	h, err := api.OpRecords.Call(d.t.Context(), d.Client, api.RecordsRequest{Name: b.name, Limit: 1000})
	if err != nil {
		d.t.Fatal(err)
	}
	return h.Changes
}

func (d *daemon) log() []byte {
	b, _ := os.ReadFile(d.path("log"))
	return b
}

// said are this life's log lines that contain text.
func (d *daemon) said(text string) (lines []string) {
	b := d.log()
	for line := range strings.Lines(string(b[min(d.from, int64(len(b))):])) {
		if strings.Contains(line, text) {
			lines = append(lines, line)
		}
	}
	return lines
}

// address is where a service listens, as the log of this life says.
func (d *daemon) address(service string) string {
	d.t.Helper()
	var hello map[string]any
	for _, line := range d.said(`"samples_from"`) {
		_ = json.Unmarshal([]byte(line), &hello)
	}
	at, _ := hello[service].(string)
	if at == "" {
		d.t.Fatalf("the log does not say where %s listens:\n%s", service, tail(d.log(), 10))
	}
	return "http://" + at
}

// run is one command of the binary against this daemon.
func (d *daemon) run(args ...string) (stdout, stderr string, code int) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, rig.binary, append(args, "--socket", d.path("sock"))...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.Env = &out, &errs, append([]string{"PATH=" + os.Getenv("PATH")}, d.env...)
	if err := cmd.Run(); err != nil {
		if _, ok := errors.AsType[*exec.ExitError](err); !ok {
			d.t.Fatal(err)
		}
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

func tail(b []byte, lines int) string {
	var all []string
	for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
		all = append(all, s.Text())
	}
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
