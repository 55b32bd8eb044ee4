package cgroup

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxLocks bounds what is read of /proc/locks.
const maxLocks = 1 << 20

// Claim locks the container's cgroup for this process: flock(2) on a file that is open
// already. Every daemon that changes a container opens this file, in whichever mount namespace,
// and the kernel releases the lock when a process ends. by names the process that holds it; "":
// this one does. A lock held by a user other than root and this one is ignored, because every
// user can take it.
func (c *Container) Claim() (by string) {
	c.host.mu.Lock()
	defer c.host.mu.Unlock()
	fd := c.claimed()
	if fd < 0 {
		return ""
	}
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != unix.EWOULDBLOCK {
		return "" // a file system without locks
	}
	pid := c.host.holder(fd)
	if pid == 0 {
		return "another process"
	}
	if st, err := os.Stat(filepath.Join(c.host.root, "proc", strconv.Itoa(pid))); err == nil {
		if own, ok := st.Sys().(*syscall.Stat_t); ok && own.Uid != 0 && int(own.Uid) != os.Geteuid() {
			return ""
		}
	}
	return fmt.Sprintf("process %d", pid)
}

// Unclaim releases the lock.
func (c *Container) Unclaim() {
	c.host.mu.Lock()
	defer c.host.mu.Unlock()
	if fd := c.claimed(); fd >= 0 {
		_ = unix.Flock(fd, unix.LOCK_UN) // there may be none
	}
}

// claimed is the descriptor that carries the lock; -1: the container is closed.
func (c *Container) claimed() int {
	if c.kept[cpuStat] >= 0 {
		return int(c.kept[cpuStat])
	}
	return int(c.kept[memoryUsage])
}

// holder is the process that has an open file locked, by /proc/locks; 0: not seen from here.
func (h *Host) holder(fd int) (pid int) {
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil {
		return 0
	}
	text, err := readBounded(filepath.Join(h.root, "proc/locks"), maxLocks)
	if err != nil {
		return 0
	}
	file := fmt.Sprintf("%02x:%02x:%d", unix.Major(st.Dev), unix.Minor(st.Dev), st.Ino)
	for line := range strings.SplitSeq(text, "\n") {
		f := strings.Fields(line) // "1: FLOCK  ADVISORY  WRITE 712 00:1e:4711 0 EOF"
		if len(f) > 5 && f[1] == "FLOCK" && f[5] == file {
			if n, err := strconv.Atoi(f[4]); err == nil && n > 0 {
				return n
			}
		}
	}
	return 0
}
