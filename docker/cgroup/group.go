package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/effiscale/effiscale/knowledge"
)

// removeWithin bounds the wait until a control group whose processes have ended can be
// removed.
const removeWithin = 2 * time.Second

// Parent is a control group in the root of every hierarchy that holds groups of this
// program, and no processes.
type Parent struct {
	host *Host
	name string
	// enabled are controllers that were switched on in the root of a v2 tree.
	enabled []string
}

// Group is a control group that this program created, in every hierarchy of its host.
type Group struct {
	host *Host
	dirs []string // one for each file system
}

// CreateParent creates a control group for others. The error is an fs.ErrPermission for a
// user without the rights.
func (h *Host) CreateParent(name string) (*Parent, error) {
	p := &Parent{host: h, name: name}
	for _, root := range h.roots() {
		err := os.Mkdir(filepath.Join(root, name), 0o755)
		if err == nil && h.at[cpu].v2 {
			p.enabled, err = enable(root)
			if err == nil {
				_, err = enable(filepath.Join(root, name))
			}
		}
		if err == nil {
			continue
		}
		return nil, errors.Join(fmt.Errorf("cannot create a control group: %w", err), p.Remove())
	}
	return p, nil
}

// roots are the directories of the hierarchies that hold controllers.
func (h *Host) roots() (dirs []string) {
	for t := range hierarchies {
		if (t == cpuset || t == freezer) && !h.at[t].v2 {
			continue // not needed, and a cpuset takes no process until its CPUs are set
		}
		if dir := h.at[t].dir; dir != "" && (t != unified || h.version == V2) && !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// enable switches controllers on in a group of a v2 tree, and returns those that were off.
// It fails in a group with processes that is not the root of the tree (cgroup-v2.rst, "No
// Internal Process Constraint"), as in a container.
func enable(dir string) (on []string, err error) {
	file := filepath.Join(dir, "cgroup.subtree_control")
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	for _, c := range []string{"cpu", "memory", "pids"} {
		if slices.Contains(strings.Fields(string(text)), c) {
			continue
		}
		switch err := os.WriteFile(file, []byte("+"+c), 0); {
		case err == nil:
			on = append(on, c)
		case c != "pids": // it is measured where it is there
			return on, err
		}
	}
	return on, nil
}

// Create creates a control group below the parent.
func (p *Parent) Create(name string) (*Group, error) {
	g := &Group{host: p.host}
	for _, root := range p.host.roots() {
		dir := filepath.Join(root, p.name, name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			return nil, errors.Join(fmt.Errorf("cannot create control group %s: %w", dir, err), g.Remove())
		}
		g.dirs = append(g.dirs, dir)
	}
	return g, nil
}

// Remove removes the parent and its groups, whose processes must have ended or be about
// to, and switches off what creating it switched on.
func (p *Parent) Remove() error {
	err := p.host.RemoveParent(p.name)
	root := filepath.Join(p.host.at[unified].dir, "cgroup.subtree_control")
	for _, c := range p.enabled {
		_ = os.WriteFile(root, []byte("-"+c), 0) // another program may need it by now
	}
	return err
}

// Parents lists the control groups in the root of any hierarchy whose name matches a
// pattern of path.Match.
func (h *Host) Parents(pattern string) (names []string) {
	for _, root := range h.roots() {
		dirs, _ := filepath.Glob(filepath.Join(root, pattern)) // the only error is of the pattern
		for _, dir := range dirs {
			if name := filepath.Base(dir); !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

// RemoveParent removes a control group of the root and the groups in it, in every
// hierarchy. One that does not exist is no error.
func (h *Host) RemoveParent(name string) error {
	var errs []error
	for _, root := range h.roots() {
		top := filepath.Join(root, name)
		inner, _ := filepath.Glob(filepath.Join(top, "*", "cgroup.procs"))
		for _, file := range inner {
			errs = append(errs, removeGroup(filepath.Dir(file)))
		}
		errs = append(errs, removeGroup(top))
	}
	return errors.Join(errs...)
}

// Procs are the files that take the id of a process that is to join.
func (g *Group) Procs() []string {
	files := make([]string, 0, len(g.dirs))
	for _, dir := range g.dirs {
		files = append(files, filepath.Join(dir, "cgroup.procs"))
	}
	return files
}

// SetLimits writes the CPU quota, the memory limit and the limit of memory and swap; 0 is
// none.
func (g *Group) SetLimits(l knowledge.Limits) error {
	period := l.Period
	if period == 0 {
		period = knowledge.DefaultPeriod
	}
	for _, f := range g.limits(l, period) {
		err := g.write(f.names, f.text)
		if err != nil && !(f.optional && errors.Is(err, fs.ErrNotExist)) {
			return fmt.Errorf("cannot set the limits of a control group: %w", err)
		}
	}
	return nil
}

// limitFile is what to write for one limit.
type limitFile struct {
	names    [2]string // in v1 and in v2; "": there is none
	text     [2]string
	optional bool // without accounting for swap the kernel does not have it
}

// limits are the files in an order in which each write is valid: on v1 the limit of memory
// and swap must never be under that of memory, so it is lifted first.
func (g *Group) limits(l knowledge.Limits, period time.Duration) []limitFile {
	micros := strconv.FormatInt(period.Microseconds(), 10)
	quota := [2]string{"-1", "max " + micros}
	if l.CPU > 0 {
		quota[0] = strconv.FormatInt(quotaMicros(l.CPU, period), 10)
		quota[1] = quota[0] + " " + micros
	}
	memory, both, swap := [2]string{"-1", "max"}, "-1", "max"
	if l.Memory > 0 {
		memory[0] = strconv.FormatInt(int64(l.Memory), 10)
		memory[1] = memory[0]
	}
	if l.Memory > 0 && l.MemorySwap > 0 {
		both = strconv.FormatInt(int64(l.MemorySwap), 10)
		swap = strconv.FormatInt(int64(max(l.MemorySwap-l.Memory, 0)), 10)
	}
	memsw := "memory.memsw.limit_in_bytes"
	return []limitFile{
		{names: [2]string{"cpu.cfs_period_us"}, text: [2]string{micros}},
		{names: [2]string{"cpu.cfs_quota_us", "cpu.max"}, text: quota},
		{names: [2]string{memsw}, text: [2]string{"-1"}, optional: true},
		{names: [2]string{"memory.limit_in_bytes", "memory.max"}, text: memory},
		{names: [2]string{memsw, "memory.swap.max"}, text: [2]string{both, swap}, optional: true},
	}
}

func (g *Group) write(names, text [2]string) error {
	t := cpu
	if strings.HasPrefix(names[0], "memory.") {
		t = memory
	}
	version := 0
	if g.host.at[t].v2 {
		version = 1
	}
	if names[version] == "" {
		return nil
	}
	for _, dir := range g.dirs {
		if strings.HasPrefix(dir, g.host.at[t].dir+"/") {
			return os.WriteFile(filepath.Join(dir, names[version]), []byte(text[version]), 0)
		}
	}
	return ErrUnsupported
}

// Remove removes the group, whose processes must have ended or be about to. One that does
// not exist is no error.
func (g *Group) Remove() error {
	var errs []error
	for _, dir := range g.dirs {
		errs = append(errs, removeGroup(dir))
	}
	return errors.Join(errs...)
}

func exists(dir string) bool {
	_, err := os.Stat(dir)
	return err == nil
}

// removeGroup waits a little for processes that are ending.
func removeGroup(dir string) error {
	for end := time.Now().Add(removeWithin); ; time.Sleep(10 * time.Millisecond) {
		err := unix.Rmdir(dir)
		switch {
		case err == nil || err == unix.ENOENT:
			return nil
		case err == unix.EROFS && !exists(dir):
			return nil
		case err != unix.EBUSY || time.Now().After(end):
			return &fs.PathError{Op: "remove control group", Path: dir, Err: err}
		}
	}
}
