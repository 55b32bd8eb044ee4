package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/effiscale/effiscale/node/api"
)

const (
	// readyWithin bounds the private daemon's start.
	readyWithin = time.Minute
	// stopWithin is how long it may take to end: the daemon promises 2 s.
	stopWithin = 10 * time.Second
	// maxDaemonLog bounds what is shown of its log.
	maxDaemonLog = 2 << 10
)

// daemon is a real `effiscale run` with a configuration, a state and a socket
// of its own, below one directory.
type daemon struct {
	client *api.Client
	log    string
	kill   func(os.Signal) error
	ended  chan struct{} // closed when the process is gone
}

// config is that of the demo's daemon. It manages the demo's containers and no others.
func config(dir, dockerHost, id string) string {
	return fmt.Sprintf(`[node]
name = "demo"
data_dir = %q
mode = "auto"
[docker]
host = %q
only_label = "%s=%s"
[cluster]
bind = "127.0.0.1:0"
[api]
monitor = "127.0.0.1:0"
controller = "127.0.0.1:0"
execution = "127.0.0.1:0"
socket = %q
socket_group = ""
[log]
format = "json"
`, filepath.Join(dir, "data"), dockerHost, label, id, filepath.Join(dir, "sock"))
}

// startDaemon starts the daemon and waits until its first pass is done.
func startDaemon(ctx context.Context, o Options, id string) (*daemon, error) {
	dir := dirOf(id)
	file := filepath.Join(dir, "effiscale.toml")
	if err := os.WriteFile(file, []byte(config(dir, o.Host, id)), 0o600); err != nil {
		return nil, fmt.Errorf("cannot write the demo's configuration: %w", err)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, fmt.Errorf("cannot write the demo's log: %w", err)
	}
	defer log.Close()
	cmd := exec.Command(o.Binary, "run", "--config", file)
	cmd.Stdout, cmd.Stderr, cmd.Dir = log, log, dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TMPDIR=" + dir} // no EFFISCALE_ of the user's
	if o.CertDir != "" {
		cmd.Env = append(cmd.Env, "DOCKER_TLS_VERIFY=1", "DOCKER_CERT_PATH="+o.CertDir)
	}
	// A group of its own: Ctrl-C at the terminal ends the demo, and that ends it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	d := &daemon{client: api.NewClient(filepath.Join(dir, "sock")), log: log.Name(), ended: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		// The signal comes when the starting thread ends, not the process
		// (prctl(2), PR_SET_PDEATHSIG): this thread stays until the end.
		runtime.LockOSThread()
		defer close(d.ended)
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // how it ended is in its log
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("cannot start the demo's daemon: %w", err)
	}
	d.kill = cmd.Process.Signal
	if err := d.ready(ctx); err != nil {
		return nil, errors.Join(err, d.stop())
	}
	return d, nil
}

// ready waits for the daemon's first pass.
func (d *daemon) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if st, err := api.OpStatus.Call(ctx, d.client, api.None{}); err == nil && st.Node.Ready {
			return nil
		}
		select {
		case <-d.ended:
			return fmt.Errorf("the demo's daemon ended at once; the end of its log:\n%s", d.endOfLog())
		case <-ctx.Done():
			if err := context.Cause(ctx); !errors.Is(err, context.DeadlineExceeded) {
				return err
			}
			return fmt.Errorf("the demo's daemon was not ready within %s; the end of its log:\n%s", readyWithin, d.endOfLog())
		case <-tick.C:
		}
	}
}

// stop ends the daemon; it is called once.
func (d *daemon) stop() error {
	d.client.Close()
	_ = d.kill(syscall.SIGTERM) // it may be gone
	select {
	case <-d.ended:
		return nil
	case <-time.After(stopWithin):
	}
	_ = d.kill(syscall.SIGKILL)
	<-d.ended
	return fmt.Errorf("the demo's daemon did not end within %s and was killed", stopWithin)
}

// endOfLog is the end of the daemon's log.
func (d *daemon) endOfLog() string {
	f, err := os.Open(d.log)
	if err != nil {
		return "(no log)"
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > maxDaemonLog {
		_, _ = f.Seek(-maxDaemonLog, io.SeekEnd)
	}
	b, _ := io.ReadAll(io.LimitReader(f, maxDaemonLog))
	return strings.TrimSpace(string(b))
}

// view is the daemon's view of one container.
func view(ctx context.Context, c *api.Client, name string) (api.ContainerView, error) {
	st, err := api.OpStatus.Call(ctx, c, api.None{})
	if err != nil {
		return api.ContainerView{}, err
	}
	for _, v := range st.Containers {
		if v.Name == name {
			return v, nil
		}
	}
	return api.ContainerView{}, fmt.Errorf("the daemon does not see container %s yet", name)
}
