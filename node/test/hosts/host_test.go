package hosts

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/effiscale/effiscale/docker/observer"
	"github.com/effiscale/effiscale/node/api"
)

// host is a machine of its own as far as a daemon can tell: network, Engine,
// directories. It lasts for the whole run; its daemon and the daemon's state are of
// one test.
type host struct {
	*api.Client
	n       int
	dir     string
	engine  *engine
	dockerd *process

	t       *testing.T
	program string   // of the daemon
	env     []string // EFFISCALE_… over the file
	life    atomic.Pointer[process]
	from    int64 // where this life's log begins
}

// daemon is the newest life; nil before the first.
func (h *host) daemon() *process { return h.life.Load() }

func (h *host) path(name string) string { return filepath.Join(h.dir, name) }

// name is what people and peers call the node.
func (h *host) name() string { return fmt.Sprintf("h%d", h.n) }

// hosts are the machines of those numbers, made on first use, for one test.
func hosts(t *testing.T, numbers ...int) []*host {
	t.Helper()
	needHosts(t)
	var wg sync.WaitGroup
	errs := make([]error, len(numbers))
	out := make([]*host, len(numbers))
	began, made := time.Now(), 0
	for i, n := range numbers {
		if out[i] = rig.hosts[n]; out[i] == nil {
			made++
			out[i] = &host{n: n, dir: filepath.Join(rig.dir, fmt.Sprintf("h%d", n))}
			wg.Go(func() { errs[i] = out[i].build() })
		}
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	if made > 0 {
		figure(t, "%d hosts with an Engine each in %v", made, time.Since(began).Round(time.Millisecond))
	}
	t.Cleanup(rig.net.heal)
	for _, h := range out {
		rig.hosts[h.n] = h
		h.enter(t)
	}
	return out
}

func (h *host) build() error {
	if err := os.MkdirAll(h.dir, 0o711); err != nil {
		return err
	}
	if err := os.WriteFile(h.path("docker.json"), []byte("{}"), 0o600); err != nil {
		return err
	}
	if err := rig.net.plug(h.n); err != nil {
		return err
	}
	h.engine, h.Client = &engine{observer.At(h.path("docker.sock"))}, api.NewClient(h.path("sock"))
	if err := h.startEngine(); err != nil {
		return err
	}
	return h.engine.loadImage()
}

// startEngine starts dockerd and waits until it answers. Its storage driver
// needs no kernel module and leaves no mounts behind.
func (h *host) startEngine() (err error) {
	h.dockerd, err = launch(h.path("docker.log"), nil,
		append(inside(h.n), "dockerd", "--config-file", h.path("docker.json"),
			"--data-root", h.path("docker"), "--exec-root", h.path("docker-run"), "--pidfile", h.path("docker.pid"),
			"--host", "unix://"+h.path("docker.sock"), "--storage-driver", "vfs", "--cgroup-parent", "/"+namespace(h.n),
			"--exec-opt", "native.cgroupdriver=cgroupfs", "--bridge", "none", "--iptables=false", "--ip6tables=false",
			"--ip-forward=false", "--ip-masq=false", "--log-level", "warn")...)
	if err != nil {
		return err
	}
	if !waitFor(30*time.Second, func() bool { return h.engine.Ping() == nil || !h.dockerd.alive() }) ||
		!h.dockerd.alive() {
		log, _ := os.ReadFile(h.path("docker.log"))
		return fmt.Errorf("the Engine of %s does not answer:\n%s", h.name(), tail(log, 20))
	}
	return nil
}

// restartEngine ends and starts dockerd, which takes the containers along.
func (h *host) restartEngine() {
	h.t.Helper()
	err := h.dockerd.signal(syscall.SIGTERM)
	if err == nil {
		_, _, err = h.dockerd.wait(time.Minute)
	}
	if err == nil {
		err = h.startEngine()
	}
	if err != nil {
		h.t.Fatal(err)
	}
}

// enter gives the host to a test: no daemon, no state.
func (h *host) enter(t *testing.T) {
	t.Helper()
	h.t, h.program, h.env = t, rig.binary, nil
	h.wipe()
	_ = os.Remove(h.path("log"))
	t.Cleanup(func() {
		h.daemon().kill()
		h.Client.Close()
		h.unthrottle()
		_ = rig.net.link(h.n, true)
		for _, bad := range []string{"WARNING: DATA RACE", "panic: ", "fatal error: "} {
			if strings.Contains(string(h.log()), bad) {
				t.Errorf("the log of %s says %q", h.name(), bad)
			}
		}
		if t.Failed() {
			t.Logf("the end of the log of %s:\n%s", h.name(), tail(h.log(), 25))
		}
		if dir := logsTo(); dir != "" {
			name := strings.ReplaceAll(t.Name(), "/", "_") + "-" + h.name() + ".log"
			if err := os.WriteFile(filepath.Join(dir, name), h.log(), 0o600); err != nil {
				t.Error(err)
			}
		}
		h.wipe()
	})
}

// monitor is where a daemon's metrics are, for its own host only.
const monitor = "127.0.0.1:9180"

// configure writes the daemon's file; cluster is the text of its section.
func (h *host) configure(name, cluster string) {
	h.t.Helper()
	text := fmt.Sprintf(`[node]
name = %q
data_dir = %q
[docker]
host = "unix://%s"
only_label = "%s=%s"
[api]
monitor = %q
controller = "127.0.0.1:0"
execution = "127.0.0.1:0"
socket = %q
socket_group = ""
[log]
format = "json"
%s`, name, h.path("data"), h.path("docker.sock"), mark, h.t.Name(), monitor, h.path("sock"), cluster)
	if err := os.WriteFile(h.path("x.toml"), []byte(text), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

// launch starts the daemon and does not wait for anything.
func (h *host) launch() {
	h.t.Helper()
	if st, err := os.Stat(h.path("log")); err == nil {
		h.from = st.Size()
	} else {
		h.from = 0
	}
	env := append([]string{"GOTRACEBACK=all", "GORACE=atexit_sleep_ms=10"}, h.env...)
	if logsTo() != "" {
		env = append(env, "EFFISCALE_LOG_LEVEL=debug")
	}
	p, err := launch(h.path("log"), env, append(inside(h.n), h.program, "run", "--config", h.path("x.toml"))...)
	if err != nil {
		h.t.Fatal(err)
	}
	h.life.Store(p)
}

// start starts the daemon and waits until its first full pass is done.
func (h *host) start() {
	h.t.Helper()
	h.launch()
	h.ready()
}

func (h *host) ready() {
	h.t.Helper()
	ok := waitFor(30*time.Second, func() bool {
		if !h.daemon().alive() {
			return true
		}
		st, err := h.status()
		return err == nil && st.Node.Ready
	})
	if !ok || !h.daemon().alive() {
		h.t.Fatalf("the daemon of %s did not become ready:\n%s", h.name(), tail(h.log(), 20))
	}
}

// stop is an orderly end.
func (h *host) stop() {
	h.t.Helper()
	h.signal(syscall.SIGTERM)
	code, took, err := h.daemon().wait(20 * time.Second)
	if err != nil {
		h.t.Fatal(err)
	}
	if code != 0 || took > 10*time.Second {
		h.t.Errorf("%s ended with code %d after %v", h.name(), code, took)
	}
}

func (h *host) signal(s syscall.Signal) {
	h.t.Helper()
	if err := h.daemon().signal(s); err != nil {
		h.t.Fatal(err)
	}
}

// freeze stops the daemon as a hypervisor would, and returns when the last of its
// threads stands still; thaw goes on.
func (h *host) freeze() {
	h.t.Helper()
	h.signal(syscall.SIGSTOP)
	eventually(h.t, 5*time.Second, "all threads stand still", func() bool {
		stats, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", h.daemon().cmd.Process.Pid))
		return len(stats) > 0 && !slices.ContainsFunc(stats, func(name string) bool {
			b, err := os.ReadFile(name)
			return err == nil && !bytes.Contains(b, []byte(") T "))
		})
	})
}

func (h *host) thaw() { h.t.Helper(); h.signal(syscall.SIGCONT) }

// unplug pulls the cable, plug puts it back.
func (h *host) unplug() { h.t.Helper(); h.linked(false) }
func (h *host) plug()   { h.t.Helper(); h.linked(true) }

func (h *host) linked(up bool) {
	h.t.Helper()
	if err := rig.net.link(h.n, up); err != nil {
		h.t.Fatal(err)
	}
}

// wipe loses the daemon's disk.
func (h *host) wipe() {
	h.t.Helper()
	if slices.Contains(mountsBelow(h.dir), h.path("data")) {
		_ = syscall.Unmount(h.path("data"), syscall.MNT_DETACH)
	}
	if err := os.RemoveAll(h.path("data")); err != nil {
		h.t.Fatal(err)
	}
}

// smallDisk gives the daemon's state a disk of its own of some size.
func (h *host) smallDisk(size int64) {
	h.t.Helper()
	err := os.MkdirAll(h.path("data"), 0o700)
	if err == nil {
		err = syscall.Mount("effi", h.path("data"), "tmpfs", 0, fmt.Sprintf("size=%d,mode=700", size))
	}
	if err != nil {
		h.t.Fatal(err)
	}
}

// fill takes all that is left on a small disk; the caller removes the file.
func (h *host) fill() (path string) {
	h.t.Helper()
	path = h.path("data/ballast")
	f, err := os.Create(path)
	if err != nil {
		h.t.Fatal(err)
	}
	defer f.Close()
	for _, size := range []int{64 << 10, 4 << 10} {
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, size))
		}
	}
	if !errors.Is(err, syscall.ENOSPC) {
		h.t.Fatalf("the disk is not full: %v", err)
	}
	return path
}

func (h *host) status() (api.Status, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	return api.OpStatus.Call(ctx, h.Client, api.None{})
}

// changes are the records of a container or service, newest first.
func (h *host) changes(name string) []api.Change {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	r, err := api.OpRecords.Call(ctx, h.Client, api.RecordsRequest{Name: name, Limit: 1000})
	if err != nil {
		h.t.Fatal(err)
	}
	return r.Changes
}

func (h *host) log() []byte {
	b, _ := os.ReadFile(h.path("log"))
	return b
}

// says counts the lines with a word that a daemon writes by default.
func (h *host) says(word string) (n int) {
	for line := range strings.Lines(string(h.log())) {
		if strings.Contains(line, word) && !strings.Contains(line, `"level":"debug"`) {
			n++
		}
	}
	return n
}

func tail(b []byte, lines int) string {
	var all []string
	for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
		all = append(all, s.Text())
	}
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// run is one command of the binary against this daemon, as a person gives it.
func (h *host) run(args ...string) (out string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, h.program, append(args, "--socket", h.path("sock"))...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	b, err := cmd.CombinedOutput()
	return string(b), err
}
