package demo

import (
	"archive/tar"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/effiscale/effiscale/docker/cgroup"
	"github.com/effiscale/effiscale/knowledge"
)

// label marks the containers of a demo with its id.
const label = "effiscale.demo"

// ErrBusy says that the host is not free for a demo. The error contains the remedy.
var ErrBusy = errors.New("this host is not free for a demo")

// idOf names the demo of a process: its number and when it started, so that a
// reused number is told from the same process.
func idOf(pid int) string {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return ""
	}
	// The command is in parentheses and may hold any character; the 20th field after it is
	// the start time (proc_pid_stat(5), field 22).
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(fields) < 20 {
		return ""
	}
	return fmt.Sprintf("%d-%s", pid, fields[19])
}

// dead reports whether the process of a demo has ended; false for what is not an id.
func dead(id string) bool {
	pid, start, ok := strings.Cut(id, "-")
	n, err := strconv.Atoi(pid)
	if _, err2 := strconv.ParseUint(start, 10, 64); !ok || err != nil || err2 != nil || n < 1 {
		return false
	}
	return idOf(n) != id
}

func dirOf(id string) string { return filepath.Join(os.TempDir(), "effiscale-demo-"+id) }

func imageOf(id string) string { return "effiscale-demo:" + id }

func groupOf(id string) string { return "effiscale-demo-" + id }

// survey removes what a killed demo left behind, before anything is made, and refuses to
// run beside another demo. engine is nil where there is none.
func survey(ctx context.Context, engine Lifecycle) error {
	gone := map[string]bool{}
	if engine != nil {
		if err := surveyContainers(ctx, engine, gone); err != nil {
			return err
		}
	}
	if h, err := cgroup.Open(cgroup.Options{}); err == nil && os.Geteuid() == 0 {
		for _, group := range h.Parents(groupOf("*")) {
			if !dead(strings.TrimPrefix(group, groupOf(""))) {
				return fmt.Errorf("%w: another demo runs (control group %s)", ErrBusy, group)
			}
			if err := h.RemoveParent(group); err != nil {
				return fmt.Errorf("cannot remove what an earlier demo left: %w", err)
			}
		}
	}
	dirs, err := filepath.Glob(dirOf("*"))
	if err != nil {
		return fmt.Errorf("cannot look for earlier demos: %w", err)
	}
	for _, dir := range dirs {
		if id := strings.TrimPrefix(filepath.Base(dir), "effiscale-demo-"); dead(id) && mine(dir) {
			gone[id] = true
		}
	}
	for id := range gone {
		err := os.RemoveAll(dirOf(id))
		if engine != nil {
			err = errors.Join(err, engine.RemoveImage(ctx, imageOf(id)))
		}
		if err != nil {
			return fmt.Errorf("cannot remove what an earlier demo left: %w", err)
		}
	}
	return nil
}

// surveyContainers removes containers of demos that are gone, and notes their ids.
func surveyContainers(ctx context.Context, engine Lifecycle, gone map[string]bool) error {
	all, err := engine.List(ctx)
	if err != nil {
		return err
	}
	for _, c := range all {
		switch id := c.Labels[label]; {
		case id != "" && dead(id):
			gone[id] = true
			if err := engine.Remove(ctx, c.ID); err != nil {
				return fmt.Errorf("cannot remove what an earlier demo left: %w", err)
			}
		case id != "":
			return fmt.Errorf("%w: another demo runs (container %s)", ErrBusy, c.Name)
		}
	}
	return nil
}

// mine reports whether this user may remove a directory: another user's demo leaves one
// that only that user, or root, can remove.
func mine(dir string) bool {
	var st syscall.Stat_t
	return syscall.Stat(dir, &st) == nil && (os.Geteuid() == 0 || int(st.Uid) == os.Geteuid())
}

// checkStatic refuses a binary that needs a dynamic linker: the demo's image
// holds nothing else.
func checkStatic(program string) error {
	f, err := os.Open(program)
	if err != nil {
		return fmt.Errorf("cannot read the program %s: %w", program, err)
	}
	defer f.Close()
	linker, err := needsLinker(f)
	switch {
	case err != nil:
		return fmt.Errorf("cannot read the program %s: %w", program, err)
	case linker:
		return errors.New("this program is linked dynamically and cannot run alone in an image: " +
			"build it with `CGO_ENABLED=0 go build`")
	}
	return nil
}

// needsLinker looks for the header of an ELF program that names a dynamic linker
// (elf(5); debug/elf would bring 130 KB of decompression along).
func needsLinker(f io.ReaderAt) (bool, error) {
	var head [64]byte
	if _, err := f.ReadAt(head[:], 0); err != nil {
		return false, err
	}
	if string(head[:4]) != "\x7fELF" {
		return false, errors.New("it is no ELF program")
	}
	var order binary.ByteOrder = binary.LittleEndian
	if head[5] == 2 {
		order = binary.BigEndian
	}
	at, size, count := int64(order.Uint32(head[28:])), int64(order.Uint16(head[42:])), int64(order.Uint16(head[44:]))
	if head[4] == 2 { // 64 bits
		at, size, count = int64(order.Uint64(head[32:])), int64(order.Uint16(head[54:])), int64(order.Uint16(head[56:]))
	}
	const interp = 3
	for i := range count {
		var kind [4]byte
		if _, err := f.ReadAt(kind[:], at+i*size); err != nil {
			return false, err
		}
		if order.Uint32(kind[:]) == interp {
			return true, nil
		}
	}
	return false, nil
}

// pack writes the program as a tar with one file.
func pack(w io.Writer, binary string) error {
	f, err := os.Open(binary)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	t := tar.NewWriter(w)
	if err := t.WriteHeader(&tar.Header{Name: "effiscale", Mode: 0o755, Size: info.Size(),
		ModTime: time.Unix(0, 0)}); err != nil {
		return err
	}
	if _, err := io.Copy(t, f); err != nil {
		return err
	}
	return t.Close()
}

// importImage makes the demo's image of the program.
func importImage(ctx context.Context, engine Lifecycle, tag, binary string) error {
	r, w := io.Pipe()
	packed := make(chan error, 1)
	go func() {
		err := pack(w, binary)
		w.CloseWithError(err)
		packed <- err
	}()
	err := engine.ImportImage(ctx, tag, r)
	r.CloseWithError(io.ErrClosedPipe) // the Engine gave up early
	if perr := <-packed; perr != nil && !errors.Is(perr, io.ErrClosedPipe) {
		return fmt.Errorf("cannot make an image of the program: %w", perr)
	}
	return err
}

// spec is the container of one run; labels are its own.
func (p *scenario) spec(id, name string, labels map[string]string) knowledge.ContainerSpec {
	all := map[string]string{label: id}
	for k, v := range labels {
		all[k] = v
	}
	return knowledge.ContainerSpec{
		Name:    "effiscale-demo-" + id + "-" + name,
		Image:   imageOf(id),
		Command: []string{"/effiscale", "demo-serve", (p.each + time.Minute).String()},
		// Go would fit its threads to the first limit that it sees.
		Env:     []string{"GOMAXPROCS=" + strconv.Itoa(p.cores)},
		Labels:  all,
		Limits:  p.limits,
		Publish: []int{servePort},
	}
}

// labels are what makes the second run's container a managed one, in the order
// in which they are shown.
func (p *scenario) labels() [][2]string {
	return [][2]string{
		{"effiscale.enable", "true"},
		{"effiscale.cpu", fmt.Sprintf("0.1..%g", p.maxCPU)},
		{"effiscale.memory", fmt.Sprintf("%dMiB..%dMiB", minMem/knowledge.MiB, p.maxMem/knowledge.MiB)},
	}
}
