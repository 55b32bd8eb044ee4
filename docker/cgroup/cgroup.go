// Package cgroup reads and writes the kernel's control group files: version 1,
// version 2, and the hybrid of both.
//
// A [Host] knows where the hierarchies are mounted; a [Container] is one
// container's cgroup with the files of the fast tier kept open: two on v2, three
// on v1. [Container.Read] reads the groups of signals that are asked for: one pread
// for each file of the fast tier; open, read and close for the slow tier, because
// each kept descriptor holds 5 KB of kernel memory.
//
// All methods of a Host and of its Containers may be called from any goroutine:
// one lock of the Host guards its buffers and all descriptors, so that no
// reading can meet a descriptor that was closed and given to another file.
//
// The files are untrusted input (a rootless owner may delegate them): numbers are
// parsed strictly and bounded, and a file that cannot be parsed is reported and sets
// nothing. The bits of [knowledge.Sample.Have] show which groups were read.
//
// Sources: Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/*.rst,
// scheduler/sched-bwc.rst, accounting/psi.rst of the Linux kernel.
package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

var (
	// ErrGone: the cgroup was removed: its container ended, or restarted and has a
	// new one. Attach again.
	ErrGone error = goneError{}
	// ErrNotFound: the container has no cgroup.
	ErrNotFound = errors.New("no cgroup found")
	// ErrUnsupported: this cgroup version does not have the file.
	ErrUnsupported = errors.New("not supported by this cgroup version")
)

// goneError is the type of ErrGone, which is an fs.ErrNotExist for packages that know
// nothing of this one.
type goneError struct{}

func (goneError) Error() string        { return "the cgroup is gone" }
func (goneError) Is(target error) bool { return target == fs.ErrNotExist }

// The versions that [Host.Version] returns.
const (
	V1     = "v1"
	V2     = "v2"
	Hybrid = "hybrid" // controllers on v1, and a v2 tree beside them
)

// The drivers by which an Engine names cgroups.
const (
	DriverCgroupfs = "cgroupfs"
	DriverSystemd  = "systemd"
)

// Options say where to look.
type Options struct {
	// Root is the directory below which proc and sys are read; "" is "/".
	Root string
	// Driver is the Engine's cgroup driver; "" tries the names of both.
	Driver string
}

// hierarchy indexes the cgroup trees that matter here: seven controllers, each of
// which lives in a v1 tree of its own or in the unified tree, and that tree.
type hierarchy uint8

const (
	cpu hierarchy = iota
	cpuacct
	memory
	blkio
	pids
	cpuset
	freezer
	unified
	hierarchies
)

// Host is the machine's cgroup hierarchies.
type Host struct {
	root    string
	driver  string
	version string
	psi     bool
	at      [hierarchies]mount

	mu   sync.Mutex // guards what follows, and every Container's descriptors
	buf  []byte     // the file being read
	path []byte     // its path, NUL-terminated
	text []byte     // what is being written

	outers map[outerKey]outer // outerMost at most
}

// The buffer holds the largest usual file (memory.stat of v2 has 2 to 3 KB); it
// grows for a host with hundreds of disks or interfaces, up to the bound.
const (
	firstBuffer = 8 << 10
	maxBuffer   = 1 << 20
)

// Open finds the cgroup hierarchies of the machine from its mount table. The
// error names the table when it cannot be read or holds no cgroup of use.
func Open(o Options) (*Host, error) {
	root := o.Root
	if root == "" {
		root = "/"
	}
	switch o.Driver {
	case "", DriverCgroupfs, DriverSystemd:
	default:
		return nil, fmt.Errorf("cannot open cgroups: driver %q is not known: allowed are %s, %s and none",
			o.Driver, DriverCgroupfs, DriverSystemd)
	}
	table := filepath.Join(root, "proc/self/mountinfo")
	text, err := os.ReadFile(table)
	if err != nil {
		return nil, fmt.Errorf("cannot open cgroups: %w", err)
	}
	h := &Host{root: root, driver: o.Driver, buf: make([]byte, firstBuffer), text: make([]byte, 0, 64),
		outers: map[outerKey]outer{}}
	if missing := h.mounted(string(text)); missing != "" {
		return nil, fmt.Errorf("cannot open cgroups: %w: no mount of %s in %s is visible to this process",
			ErrNotFound, missing, table)
	}
	h.psi = h.at[unified].dir != "" && readable(filepath.Join(root, "proc/pressure/cpu"))
	return h, nil
}

// readable reports whether the file can be opened and read: with pressure
// accounting switched off, the kernel lists the file and refuses to read it.
func readable(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	var one [1]byte
	n, err := f.Read(one[:])
	return err == nil && n == 1
}

// Version is V1, V2 or Hybrid.
func (h *Host) Version() string { return h.version }

// PSI reports whether containers' pressure can be read: the kernel accounts for
// it, and there is a v2 tree, which alone has it per cgroup.
func (h *Host) PSI() bool { return h.psi }
