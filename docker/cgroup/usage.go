package cgroup

import (
	"bytes"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/effiscale/effiscale/knowledge"
)

// tick is the unit of /proc/stat: USER_HZ, which is 100 on every architecture
// that Go and Docker share.
const tick = time.Second / 100

// HostSample is one reading of the whole machine.
type HostSample struct {
	At time.Time
	// Busy is a counter: CPU time spent, summed over CPUs, since the boot; without
	// idle, waiting for I/O, and what a hypervisor took.
	Busy time.Duration
	// CPU is the use since the reading before; 0 in the first, and where the
	// counter went back.
	CPU knowledge.NanoCPU
	// Total, Available and Used (the difference) are memory.
	Total, Available, Used knowledge.Bytes
}

// HostReader reads the machine's own use through two kept descriptors.
type HostReader struct {
	mu   sync.Mutex // guards all below
	stat int
	mem  int
	last HostSample
	buf  [4 << 10]byte // both files say what matters in their first kilobyte
}

// OpenUsage opens /proc/stat and /proc/meminfo.
func (h *Host) OpenUsage() (*HostReader, error) {
	r := &HostReader{stat: -1, mem: -1}
	for _, f := range []struct {
		fd   *int
		name string
	}{{&r.stat, "proc/stat"}, {&r.mem, "proc/meminfo"}} {
		name := filepath.Join(h.root, f.name)
		fd, err := openPath(append([]byte(name), 0), unix.O_RDONLY)
		if err != nil {
			r.Close()
			return nil, fmt.Errorf("cannot open %s: %w", name, err)
		}
		*f.fd = fd
	}
	return r, nil
}

// Read fills s. It allocates nothing. An error leaves s as it was.
func (r *HostReader) Read(s *HostSample) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := HostSample{At: time.Now()}
	n, err := pread(r.stat, r.buf[:], 0)
	if err == nil {
		err = parseStat(r.buf[:n], &now)
	}
	if err != nil {
		return fmt.Errorf("cannot read the host's CPU use: %w", err)
	}
	if n, err = pread(r.mem, r.buf[:], 0); err == nil {
		err = parseMeminfo(r.buf[:n], &now)
	}
	if err != nil {
		return fmt.Errorf("cannot read the host's memory: %w", err)
	}
	if elapsed := now.At.Sub(r.last.At); !r.last.At.IsZero() && elapsed > 0 && now.Busy > r.last.Busy {
		cores := float64(now.Busy-r.last.Busy) / float64(elapsed)
		now.CPU = knowledge.FromCores(cores)
	}
	r.last = now
	*s = now
	return nil
}

// Close closes the descriptors. It may be called again.
func (r *HostReader) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, fd := range []*int{&r.stat, &r.mem} {
		if *fd >= 0 {
			unix.Close(*fd)
			*fd = -1
		}
	}
	return nil
}

// parseStat reads the first line of /proc/stat (proc(5)): "cpu user nice system
// idle iowait irq softirq …". User time holds that of guests already.
func parseStat(b []byte, s *HostSample) error {
	l := lines{rest: b}
	if !l.next() || string(l.key) != "cpu" {
		return errMalformed
	}
	rest := l.value
	var busy int64
	for i := range 7 {
		var v int64
		var ok bool
		if v, rest, ok = decimal(bytes.TrimLeft(rest, " ")); !ok || v > maxTicks {
			return errMalformed
		}
		if i != 3 && i != 4 {
			busy += v
		}
	}
	s.Busy = time.Duration(busy) * tick
	return nil
}

// maxTicks keeps the sum of five counters within a Duration: 580 years of one
// CPU shared by them, more than any machine has been up.
const maxTicks = int64(1<<63-1) / int64(tick) / 5

// parseMeminfo reads MemTotal and MemAvailable (Linux 3.14), in KiB.
func parseMeminfo(b []byte, s *HostSample) error {
	seen := 0
	for l := (lines{rest: b}); seen != 3 && l.next(); {
		var to *knowledge.Bytes
		switch string(l.key) {
		case "MemTotal:":
			to = &s.Total
			seen |= 1
		case "MemAvailable:":
			to = &s.Available
			seen |= 2
		default:
			continue
		}
		v, _, good := decimal(bytes.TrimLeft(l.value, " "))
		if !good || v > int64(knowledge.MaxBytes/knowledge.KiB) {
			return errMalformed
		}
		*to = knowledge.Bytes(v) * knowledge.KiB
	}
	if seen != 3 || s.Available > s.Total {
		return errMalformed
	}
	s.Used = s.Total - s.Available
	return nil
}
