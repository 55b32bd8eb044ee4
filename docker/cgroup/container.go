package cgroup

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/effiscale/effiscale/knowledge"
)

// cpuSignals are one file on v2, two on v1.
const cpuSignals = knowledge.HasCPU | knowledge.HasThrottle

// Container is one container's cgroup. Close it: it keeps two descriptors (v2)
// or three (v1), and one more once SetQuota was called.
type Container struct {
	host   *Host
	has    uint32 // the files that exist, as bits of file
	closed bool
	kept   [keptFiles]int32 // descriptors of the fast tier; -1: there is no such file
	quota  int32            // for writing, opened by the first SetQuota

	oom   oomCounters
	inner innerGroups
	id    string
	dirs  place
	inode uint64 // of the directory of the memory controller; 0: there is none
	proc  string // "/proc/PID" below the root, "" when the process is not known
}

// Attach finds the cgroup of a container and opens what the fast tier reads. The
// path is where the Engine's driver puts it (CgroupParent, if the container was
// inspected), or, with a PID, where /proc/PID/cgroup has it; either counts
// only when it holds the full id. The error is ErrNotFound when there is none,
// as for a container that does not run. Which files there are is found out here:
// a controller that is switched on later shows after attaching again.
func (h *Host) Attach(c knowledge.Container) (*Container, error) {
	if !knowledge.FullID(c.ID) {
		return nil, fmt.Errorf("cannot attach to a container: %q is not a full id", c.ID.Short())
	}
	dirs, ok := h.find(c)
	if !ok {
		return nil, fmt.Errorf("cannot attach to container %s: %w", c.ID.Short(), ErrNotFound)
	}
	a := &Container{host: h, id: string(c.ID), dirs: dirs, kept: [keptFiles]int32{-1, -1, -1}, quota: -1}
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := a.open(); err != nil {
		a.close()
		return nil, fmt.Errorf("cannot attach to container %s: %w", c.ID.Short(), err)
	}
	a.noteInode()
	a.setPID(c.PID)
	return a, nil
}

// open opens the files of the fast tier and finds out which others there are.
func (c *Container) open() error {
	for f := range files {
		t, name := c.host.file(f)
		if name == "" || c.dirs[t] == "" {
			continue
		}
		if f >= keptFiles {
			if _, err := os.Stat(filepath.Join(c.dirs[t], name)); err == nil {
				c.has |= 1 << f
			}
			continue
		}
		fd, err := c.host.open(c.dirs[t], name, unix.O_RDONLY)
		if err == unix.ENOENT {
			continue
		}
		if err != nil {
			return &fs.PathError{Op: "open", Path: filepath.Join(c.dirs[t], name), Err: err}
		}
		c.kept[f] = int32(fd)
		c.has |= 1 << f
	}
	if c.has&(1<<keptFiles-1) == 0 {
		return ErrNotFound
	}
	return nil
}

// SetPID sets the container's first process, by which its network is found. A
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
	for _, fd := range [...]*int32{&c.kept[cpuUsage], &c.kept[cpuStat], &c.kept[memoryUsage], &c.quota} {
		if *fd < 0 {
			continue
		}
		if err := unix.Close(int(*fd)); err != nil && first == nil {
			first = fmt.Errorf("cannot close the cgroup of %s: %w", c.id[:12], err)
		}
		*fd = -1
	}
	return first
}
