package cgroup

import (
	"cmp"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/effiscale/effiscale/knowledge"
)

const (
	// processesMost bounds the processes whose names are read, mappedMost those whose maps are.
	processesMost, mappedMost = 32, 8
	// processesSize and mapsSize bound the files that are read for that.
	processesSize, mapsSize = 1 << 20, 4 << 20
)

// Processes are the names of the container's processes (the first ones, at most 15 letters each,
// as in proc(5)), and the size of the shared memory that one of them has mapped: such a mapping
// is made at the start and takes memory when it is first used. It costs some files a process.
func (c *Container) Processes() (names []string, shared knowledge.Bytes) {
	dir := cmp.Or(c.dirs[memory], c.dirs[cpu], c.dirs[cpuacct])
	text, err := readBounded(filepath.Join(dir, "cgroup.procs"), processesSize)
	if err != nil {
		return nil, 0
	}
	for i, pid := range strings.Fields(text) {
		if n, err := strconv.Atoi(pid); err != nil || n <= 0 || i >= processesMost {
			break
		}
		proc := filepath.Join(c.host.root, "proc", pid)
		if name, err := readBounded(filepath.Join(proc, "comm"), processesSize); err == nil {
			names = append(names, strings.TrimSuffix(name, "\n"))
		}
		if i < mappedMost {
			if maps, err := readBounded(filepath.Join(proc, "maps"), mapsSize); err == nil {
				shared = max(shared, sharedMemory(maps))
			}
		}
	}
	return names, shared
}

// sharedMemory sums up the mappings of shared memory in /proc/PID/maps: anonymous ones, which are
// deleted files on /dev/zero, those of System V, and of POSIX.
func sharedMemory(maps string) (sum knowledge.Bytes) {
	for line := range strings.Lines(maps) {
		fields := strings.Fields(line)
		if len(fields) < 6 || len(fields[1]) < 4 || fields[1][3] != 's' {
			continue
		}
		path := fields[5]
		if !strings.HasPrefix(path, "/dev/zero") && !strings.HasPrefix(path, "/SYSV") &&
			!strings.HasPrefix(path, "/dev/shm/") {
			continue
		}
		from, to, _ := strings.Cut(fields[0], "-")
		first, err1 := strconv.ParseInt(from, 16, 64)
		last, err2 := strconv.ParseInt(to, 16, 64)
		if size := knowledge.Bytes(last - first); err1 == nil && err2 == nil && size > 0 {
			sum = min(sum+min(size, knowledge.MaxBytes), knowledge.MaxBytes)
		}
	}
	return sum
}
