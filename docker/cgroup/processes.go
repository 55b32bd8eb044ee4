package cgroup

import (
	"cmp"
	"iter"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/effiscale/effiscale/knowledge"
)

const (
	// processesMost bounds the processes whose names are read, mappedMost those whose maps are.
	processesMost, mappedMost = 32, 8
	// mapsSize bounds the maps of a process.
	mapsSize = 4 << 20
	// heapBelow is the end of the addresses that a compressed pointer of Java reaches: where the
	// heap begins below it, nothing else is mapped there.
	heapBelow = 32 << 30
	// heapSoon is how much of a heap that is reserved, and not writable yet, a first load is
	// taken to use before a limit can follow.
	heapSoon = 256 * knowledge.MiB
)

// Processes are the names of the container's processes (the first ones, at most 15 letters each,
// as in proc(5)), and what one of them has mapped: such a mapping is made at the start and takes
// memory when it is first used. It costs some files a process.
func (c *Container) Processes() (names []string, mapped knowledge.Mapped) {
	c.host.mu.Lock()
	defer c.host.mu.Unlock()
	text, err := c.host.slurp(cmp.Or(c.dirs[memory], c.dirs[cpu], c.dirs[cpuacct]), "cgroup.procs", false)
	if err != nil || len(text) == 0 {
		return nil, mapped
	}
	for i, pid := range strings.Fields(string(text)) {
		if n, err := strconv.Atoi(pid); err != nil || n <= 0 || i >= processesMost {
			break
		}
		proc := filepath.Join(c.host.root, "proc", pid)
		if name, err := c.host.slurp(proc, "comm", false); err == nil {
			names = append(names, string(firstLine(name)))
		}
		if i < mappedMost {
			if maps, err := readBounded(filepath.Join(proc, "maps"), mapsSize); err == nil {
				mapped.Shared = max(mapped.Shared, sharedMemory(maps))
				heap, planned := javaHeap(maps)
				mapped.Heap, mapped.Planned = max(mapped.Heap, heap), max(mapped.Planned, planned)
			}
		}
	}
	return names, mapped
}

// mapping is a line of /proc/PID/maps.
type mapping struct {
	first      int64
	size       knowledge.Bytes
	mode, path string
}

func mappings(maps string) iter.Seq[mapping] {
	return func(yield func(mapping) bool) {
		for line := range strings.Lines(maps) {
			fields := strings.Fields(line)
			if len(fields) < 5 || len(fields[1]) < 4 {
				continue
			}
			from, to, _ := strings.Cut(fields[0], "-")
			first, err1 := strconv.ParseInt(from, 16, 64)
			last, err2 := strconv.ParseInt(to, 16, 64)
			if err1 != nil || err2 != nil || last <= first {
				continue
			}
			m := mapping{first: first, size: min(knowledge.Bytes(last-first), knowledge.MaxBytes), mode: fields[1]}
			if len(fields) > 5 {
				m.path = fields[5]
			}
			if !yield(m) {
				return
			}
		}
	}
}

// sharedMemory sums up the mappings of shared memory: anonymous ones, which are deleted files on
// /dev/zero, those of System V, and of POSIX.
func sharedMemory(maps string) (sum knowledge.Bytes) {
	for m := range mappings(maps) {
		if m.mode[3] == 's' && (strings.HasPrefix(m.path, "/dev/zero") || strings.HasPrefix(m.path, "/SYSV") ||
			strings.HasPrefix(m.path, "/dev/shm/")) {
			sum = min(sum+m.size, knowledge.MaxBytes)
		}
	}
	return sum
}

// javaHeap is what a first load may take of a Java heap: all that is writable, and of a small heap
// also what is only reserved, for it is made writable within milliseconds. planned is all of it.
func javaHeap(maps string) (soon, planned knowledge.Bytes) {
	writable, all := knowledge.Bytes(0), knowledge.Bytes(0)
	for m := range mappings(maps) {
		if m.first >= heapBelow || m.mode[3] != 'p' || m.path != "" && !strings.HasSuffix(m.path, ".jsa") {
			continue
		}
		all = min(all+m.size, knowledge.MaxBytes)
		if m.mode[1] == 'w' {
			writable = min(writable+m.size, knowledge.MaxBytes)
		}
	}
	return max(writable, min(all, heapSoon)), all
}
