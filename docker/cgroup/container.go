package cgroup

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/effiscale/effiscale/knowledge"
)

// The groups of signals that each tier sets.
const (
	cpuSignals    = knowledge.HasCPU | knowledge.HasThrottle
	fastSignals   = cpuSignals | knowledge.HasMemory
	memorySignals = knowledge.HasMemoryStat | knowledge.HasOOM
	slowSignals   = memorySignals | knowledge.HasLimits | knowledge.HasIO | knowledge.HasPids | knowledge.HasNetwork |
		knowledge.HasCPUPressure | knowledge.HasMemoryPressure | knowledge.HasIOPressure
)

// Container is one container's cgroup. Close it: it keeps two descriptors (v2)
// or three (v1), and one more once SetQuota was called.
type Container struct {
	host *Host
	id   string
	dirs place
	has  uint32 // the files of the slow tier that exist, as bits of file

	closed bool
	usage  int // descriptors; -1: there is no such file
	stat   int
	memory int
	quota  int // opened by the first SetQuota

	proc string // "/proc/PID" below the root, "" when the process is not known
}

// Attach finds the cgroup of a container and opens what the fast tier reads. The
// path is where the Engine's driver puts it (CgroupParent, if the container was
// inspected), or, with a PID, where that process says that it is; either counts
// only when it holds the full id. The error is ErrNotFound when there is none,
// as for a container that does not run. Which files there are is found out here:
// a controller that is switched on later shows after attaching again.
func (h *Host) Attach(c knowledge.Container) (*Container, error) {
	if !fullID(c.ID) {
		return nil, fmt.Errorf("cannot attach to a container: %q is not a full id", c.ID.Short())
	}
	dirs, ok := h.find(c)
	if !ok {
		return nil, fmt.Errorf("cannot attach to container %s: %w", c.ID.Short(), ErrNotFound)
	}
	a := &Container{host: h, id: string(c.ID), dirs: dirs, usage: -1, stat: -1, memory: -1, quota: -1}
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := a.open(); err != nil {
		a.close()
		return nil, fmt.Errorf("cannot attach to container %s: %w", c.ID.Short(), err)
	}
	a.setPID(c.PID)
	return a, nil
}

// open opens the files of the fast tier and looks which others there are.
func (c *Container) open() error {
	v2 := c.host.at[cpu].v2
	opens := []struct {
		fd   *int
		t    hierarchy
		name string
		want bool
	}{
		{&c.usage, cpuacct, "cpuacct.usage", !v2},
		{&c.stat, cpu, "cpu.stat", true},
		{&c.memory, memory, c.host.name("memory.usage_in_bytes", "memory.current", memory), true},
	}
	for _, o := range opens {
		if !o.want || c.dirs[o.t] == "" {
			continue
		}
		fd, err := c.host.open(c.dirs[o.t], o.name, unix.O_RDONLY)
		if err == unix.ENOENT {
			continue
		}
		if err != nil {
			return &fs.PathError{Op: "open", Path: filepath.Join(c.dirs[o.t], o.name), Err: err}
		}
		*o.fd = fd
	}
	if c.usage < 0 && c.stat < 0 && c.memory < 0 {
		return ErrNotFound
	}
	for f := range files {
		t, name := c.host.file(f)
		if name == "" || c.dirs[t] == "" {
			continue
		}
		if _, err := os.Stat(filepath.Join(c.dirs[t], name)); err == nil {
			c.has |= 1 << f
		}
	}
	return nil
}

// name picks a file's name by the version of its controller.
func (h *Host) name(v1, v2 string, t hierarchy) string {
	if h.at[t].v2 {
		return v2
	}
	return v1
}

// Fast reads the fast tier into s: CPU time, throttling, memory in use. It sets
// s.At, the fields and the bits of these three groups, and leaves the rest of s
// alone. What one file lacks hides no other: the bits tell what was read, and
// the error the first file that made no sense. ErrGone: attach again.
// It allocates nothing unless it fails, and does three reads on v1, two on v2.
func (c *Container) Fast(s *knowledge.Sample) error {
	return c.fast(s, fastSignals)
}

// CPU is Fast without the memory, for the watch over throttled containers: two
// reads on v1, one on v2.
func (c *Container) CPU(s *knowledge.Sample) error {
	return c.fast(s, cpuSignals)
}

func (c *Container) fast(s *knowledge.Sample, which knowledge.Signals) error {
	c.host.mu.Lock()
	defer c.host.mu.Unlock()
	s.Have &^= which
	if c.closed {
		return fs.ErrClosed
	}
	s.At = time.Now()
	var bad faults
	c.cpuTime(s, &bad)
	if which&knowledge.HasMemory != 0 && c.memory >= 0 {
		b, err := c.host.kept(c.memory)
		if err == nil {
			err = parseMemory(b, s)
		}
		bad.note(c.dirs[memory], c.host.name("memory.usage_in_bytes", "memory.current", memory), err)
	}
	if bad.gone {
		s.Have &^= which
	}
	return bad.result()
}

// cpuTime reads the kept files of the CPU controllers.
func (c *Container) cpuTime(s *knowledge.Sample, bad *faults) {
	if c.usage >= 0 {
		b, err := c.host.kept(c.usage)
		if err == nil {
			err = parseUsage(b, s)
		}
		bad.note(c.dirs[cpuacct], "cpuacct.usage", err)
	}
	if c.stat >= 0 {
		b, err := c.host.kept(c.stat)
		switch {
		case err != nil:
		case c.host.at[cpu].v2:
			err = parseCPUStatV2(b, s)
		default:
			err = parseCPUStatV1(b, s)
		}
		bad.note(c.dirs[cpu], "cpu.stat", err)
	}
}

// parseUsage reads cpuacct.usage of v1: nanoseconds.
func parseUsage(b []byte, s *knowledge.Sample) error {
	v, err := single(b)
	if err != nil {
		return err
	}
	s.CPUUsage = time.Duration(v)
	s.Have |= knowledge.HasCPU
	return nil
}

// parseMemory reads memory.usage_in_bytes and memory.current.
func parseMemory(b []byte, s *knowledge.Sample) error {
	v, err := single(b)
	if err != nil {
		return err
	}
	if s.MemoryUsage, err = size(v); err != nil {
		return err
	}
	s.Have |= knowledge.HasMemory
	return nil
}

// SetPID tells the container's first process, by which its network is found. A
// number that is not a process of this container (it ended, and the number went
// to another) and one in the host's own network leave the network unmeasured.
func (c *Container) SetPID(pid int) {
	c.host.mu.Lock()
	defer c.host.mu.Unlock()
	c.setPID(pid)
}

func (c *Container) setPID(pid int) {
	c.proc = ""
	paths := c.host.processPaths(pid, c.id)
	if paths == ([hierarchies]string{}) {
		return
	}
	proc := filepath.Join(c.host.root, "proc")
	dir := filepath.Join(proc, strconv.Itoa(pid))
	own, err := os.Readlink(filepath.Join(dir, "ns/net"))
	if host, err2 := os.Readlink(filepath.Join(proc, "1/ns/net")); err == nil && err2 == nil && own == host {
		return
	}
	c.proc = dir
}

// Path is the cgroup's path, from the root of its hierarchy.
func (c *Container) Path() string {
	for _, t := range []hierarchy{cpu, cpuacct, memory} {
		if c.dirs[t] != "" {
			return "/" + strings.TrimPrefix(strings.TrimPrefix(c.dirs[t], c.host.at[t].dir), "/")
		}
	}
	return ""
}

// Close closes the descriptors. It may be called again.
func (c *Container) Close() error {
	c.host.mu.Lock()
	defer c.host.mu.Unlock()
	return c.close()
}

func (c *Container) close() error {
	c.closed = true
	var first error
	for _, fd := range []*int{&c.usage, &c.stat, &c.memory, &c.quota} {
		if *fd < 0 {
			continue
		}
		if err := unix.Close(*fd); err != nil && first == nil {
			first = fmt.Errorf("cannot close the cgroup of %s: %w", c.id[:12], err)
		}
		*fd = -1
	}
	return first
}
