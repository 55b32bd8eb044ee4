// Package process runs containers as plain processes in control groups, for hosts without
// a Docker Engine. It serves the part of the Engine's API that the demo and its daemon use,
// so that both work as they do with a real Engine.
package process

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/effiscale/effiscale/docker/cgroup"
	"github.com/effiscale/effiscale/knowledge"
)

// Environment variables of a container's process.
const (
	// ListenVar is set where the process finds its listening socket as descriptor 3.
	ListenVar = "EFFISCALE_DEMO_LISTEN"
	// JoinVar lists the cgroup.procs files that the process writes itself to, separated by
	// colons, before it starts its work.
	JoinVar = "EFFISCALE_DEMO_JOIN"
)

// Options configure an Engine.
type Options struct {
	Socket  string // where the API is served
	Program string // runs in place of a container's command; its arguments stay
	Parent  string // name of the control group for all containers
}

// Engine serves the API.
type Engine struct {
	o      Options
	host   *cgroup.Host
	parent *cgroup.Parent
	server *http.Server

	mu         sync.Mutex // guards what follows
	containers map[string]*container
	watchers   map[chan event]bool
}

// container is one process, with what Docker keeps of a container.
type container struct {
	id, name, image string
	args, env       []string
	labels          map[string]string
	port            string // the published port of the container, as "8080/tcp"; "": none
	listener        *net.TCPListener
	limits          resources
	created         time.Time

	group   *cgroup.Group // nil: it does not run
	process *os.Process
	ended   chan struct{} // closed when the process has ended
	ending  bool          // by a request, not by the kernel
	exit    int
	started time.Time
}

// resources are limits in the Engine's spelling.
type resources struct {
	NanoCpus, CpuQuota, CpuPeriod, CpuShares, Memory, MemorySwap int64
}

func (r *resources) limits() knowledge.Limits {
	l := knowledge.Limits{CPU: knowledge.NanoCPU(r.NanoCpus), Memory: knowledge.Bytes(r.Memory),
		MemorySwap: knowledge.Bytes(r.MemorySwap)}
	if r.CpuQuota > 0 && r.CpuPeriod > 0 {
		l.Period = time.Duration(r.CpuPeriod) * time.Microsecond
		l.CPU = knowledge.NanoCPU(r.CpuQuota * int64(knowledge.OneCPU) / r.CpuPeriod)
	}
	return l
}

// Open creates the control group and serves the API. The error is an fs.ErrPermission for
// a user without the rights.
func Open(o Options) (*Engine, error) {
	host, err := cgroup.Open(cgroup.Options{Driver: cgroup.DriverCgroupfs})
	if err != nil {
		return nil, err
	}
	e := &Engine{o: o, host: host, containers: map[string]*container{}, watchers: map[chan event]bool{}}
	if e.parent, err = host.CreateParent(o.Parent); err != nil {
		return nil, err
	}
	l, err := net.Listen("unix", o.Socket)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot serve the demo's containers: %w", err), e.parent.Remove())
	}
	e.server = &http.Server{Handler: e.routes(), ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = e.server.Serve(l) }() // it ends with Close
	return e, nil
}

// Socket is the path at which the API is served.
func (e *Engine) Socket() string { return e.o.Socket }

// Close ends all processes and removes their control groups.
func (e *Engine) Close() error {
	err := e.server.Close()
	e.mu.Lock()
	all := make([]*container, 0, len(e.containers))
	for _, c := range e.containers {
		all = append(all, c)
	}
	e.mu.Unlock()
	for _, c := range all {
		err = errors.Join(err, e.remove(c))
	}
	return errors.Join(err, e.parent.Remove())
}

// create keeps a container, and its port if it publishes one.
func (e *Engine) create(c *container) (err error) {
	var id [32]byte
	_, _ = rand.Read(id[:]) // it never fails (crypto/rand)
	c.id, c.created = hex.EncodeToString(id[:]), time.Now()
	if c.port != "" {
		if c.listener, err = net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}); err != nil {
			return fmt.Errorf("cannot publish port %s: %w", c.port, err)
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.containers[c.id] = c
	e.emit("create", c)
	return nil
}

// start starts the process of a container in a control group of its own.
func (e *Engine) start(c *container) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if c.group != nil {
		return nil
	}
	group, err := e.parent.Create(c.id)
	if err != nil {
		return err
	}
	if err := group.SetLimits(c.limits.limits()); err != nil {
		return errors.Join(err, group.Remove())
	}
	cmd, err := e.command(c, group)
	if err != nil {
		return errors.Join(err, group.Remove())
	}
	started := make(chan error, 1)
	ended := make(chan struct{})
	go func() {
		// The kernel sends the parent death signal when the starting thread ends, not the
		// process (prctl(2), PR_SET_PDEATHSIG): this thread stays until the end.
		runtime.LockOSThread()
		err := cmd.Start()
		for _, f := range cmd.ExtraFiles {
			f.Close()
		}
		started <- err
		if err == nil {
			_ = cmd.Wait() // its state tells
			e.exited(c, cmd.ProcessState.Sys().(syscall.WaitStatus))
			close(ended)
		}
	}()
	if err := <-started; err != nil {
		return errors.Join(fmt.Errorf("cannot start the process: %w", err), group.Remove())
	}
	c.group, c.process, c.ended, c.ending, c.started = group, cmd.Process, ended, false, time.Now()
	e.emit("start", c)
	return nil
}

func (e *Engine) command(c *container, group *cgroup.Group) (*exec.Cmd, error) {
	cmd := exec.Command(e.o.Program, c.args...)
	cmd.Env = append(append([]string{}, c.env...), JoinVar+"="+strings.Join(group.Procs(), ":"))
	if c.listener != nil {
		f, err := c.listener.File()
		if err != nil {
			return nil, fmt.Errorf("cannot hand the port over: %w", err)
		}
		cmd.ExtraFiles, cmd.Env = []*os.File{f}, append(cmd.Env, ListenVar+"=1")
	}
	// A group of its own: Ctrl-C at the terminal is the demo's to handle.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	return cmd, nil
}

// exited notes the end of a process.
func (e *Engine) exited(c *container, status syscall.WaitStatus) {
	e.mu.Lock()
	defer e.mu.Unlock()
	group := c.group
	c.group, c.process = nil, nil
	c.exit = status.ExitStatus()
	if status.Signaled() {
		c.exit = 128 + int(status.Signal())
	}
	_ = group.Remove() // what stays is removed with the parent
	if status.Signaled() && status.Signal() == syscall.SIGKILL && !c.ending {
		e.emit("oom", c)
	}
	e.emit("die", c)
}

// remove kills the process and forgets the container.
func (e *Engine) remove(c *container) error {
	e.mu.Lock()
	c.ending = true
	process, ended := c.process, c.ended
	e.mu.Unlock()
	if process != nil {
		_ = process.Kill() // it may have ended
		<-ended
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.containers, c.id)
	e.emit("destroy", c)
	if c.listener == nil {
		return nil
	}
	return c.listener.Close()
}

// update changes limits, of a container that runs in the kernel first.
func (e *Engine) update(c *container, change resources) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	next := c.limits
	switch {
	case change.NanoCpus > 0:
		next.NanoCpus, next.CpuQuota, next.CpuPeriod = change.NanoCpus, 0, 0
	case change.CpuQuota > 0:
		next.NanoCpus, next.CpuQuota, next.CpuPeriod = 0, change.CpuQuota, change.CpuPeriod
	}
	if change.Memory > 0 {
		next.Memory, next.MemorySwap = change.Memory, change.MemorySwap
	}
	if change.CpuShares > 0 {
		next.CpuShares = change.CpuShares
	}
	if c.group != nil {
		if err := c.group.SetLimits(next.limits()); err != nil {
			return err
		}
	}
	c.limits = next
	e.emit("update", c)
	return nil
}
