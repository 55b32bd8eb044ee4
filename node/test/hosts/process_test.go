package hosts

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// process is a program that this one started, inside a host or not. It dies with
// this process.
type process struct {
	cmd  *exec.Cmd
	over chan struct{} // closed when it is gone
}

// launch starts a program; what it says is appended to the log.
func launch(log string, env []string, words ...string) (*process, error) {
	f, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	p := &process{exec.Command(words[0], words[1:]...), make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = f, f
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // Pdeathsig comes with the end of the thread
		defer close(p.over)
		err := p.cmd.Start()
		started <- err
		if err == nil {
			_ = p.cmd.Wait()
		}
	}()
	return p, <-started
}

func (p *process) alive() bool {
	if p == nil {
		return false
	}
	select {
	case <-p.over:
		return false
	default:
		return true
	}
}

func (p *process) signal(s syscall.Signal) error {
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

// wait is the exit code, and how long it took.
func (p *process) wait(within time.Duration) (code int, took time.Duration, err error) {
	began := time.Now()
	select {
	case <-p.over:
		return p.cmd.ProcessState.ExitCode(), time.Since(began), nil
	case <-time.After(within):
		return 0, within, fmt.Errorf("process %d did not end within %v", p.cmd.Process.Pid, within)
	}
}

// kill is kill -9; a process that does not run is no error.
func (p *process) kill() {
	if p.alive() {
		_ = p.cmd.Process.Kill()
		<-p.over
	}
}
