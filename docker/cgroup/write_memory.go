package cgroup

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/effiscale/effiscale/knowledge"
)

// pageSize is what the kernel rounds a memory limit down to.
const pageSize = 4096

// noneV1 is no limit on v1, as the kernel prints it: the most pages.
const noneV1 = "9223372036854771712"

// SetMemory writes the memory limit straight to the kernel, past the Engine: mem 0
// lifts it. total is memory and swap together, as Docker counts; -1 is no bound on swap,
// and with mem 0 there is none either. A kernel that does not account for swap gets the
// memory limit alone.
//
// It uses neither the Host's lock nor its buffers, and may run on any goroutine: to get
// below the use of page cache the kernel reclaims, which lasts up to seconds. A container
// that was started again has another cgroup in the same place, which is not written.
//
// The error is ErrGone when the cgroup went away, ErrUnsupported without the
// controller, else the kernel's own: EBUSY (v1) when what is in use cannot be reclaimed.
func (c *Container) SetMemory(mem, total knowledge.Bytes) error {
	if mem < 0 || total < -1 || max(mem, total) > knowledge.MaxBytes {
		return fmt.Errorf("cannot set the memory limit of %s: %d bytes, %d with swap: not between 0 and %d",
			c.id[:12], int64(mem), int64(total), int64(knowledge.MaxBytes))
	}
	if c.has&(1<<memoryLimit) == 0 {
		return c.refused("set the memory limit", ErrUnsupported)
	}
	mem = mem / pageSize * pageSize
	swap := knowledge.Bytes(-1) // v2: of swap alone
	if mem > 0 && total >= 0 {
		total = max(total/pageSize*pageSize, mem)
		swap = total - mem
	} else {
		total = -1
	}
	dir, err := c.memoryDir()
	if err == nil {
		defer unix.Close(dir)
		if c.host.at[memory].v2 {
			err = writeMemoryV2(dir, mem, swap)
		} else {
			err = writeMemoryV1(dir, mem, total)
		}
	}
	if err != nil {
		return c.refused("set the memory limit", err)
	}
	return nil
}

// memoryDir opens the directory of the cgroup that Attach found.
func (c *Container) memoryDir() (int, error) {
	dir, err := unix.Open(c.dirs[memory], unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(dir, &st); err != nil || st.Ino != c.inode {
		_ = unix.Close(dir)
		return -1, errors.Join(unix.ENODEV, err)
	}
	return dir, nil
}

// noteInode remembers which directory Attach found.
func (c *Container) noteInode() {
	var st unix.Stat_t
	if c.dirs[memory] != "" && unix.Stat(c.dirs[memory], &st) == nil {
		c.inode = st.Ino
	}
}

// writeMemoryV1 writes memory, and memory with swap. The kernel keeps the first at most
// as large as the second after each write, so that the order follows the direction; when
// the second write fails, the first is taken back.
func writeMemoryV1(dir int, mem, total knowledge.Bytes) error {
	const memName, totalName = "memory.limit_in_bytes", "memory.memsw.limit_in_bytes"
	old, err := numberAt(dir, totalName)
	if errors.Is(err, unix.ENOENT) { // swap is not accounted for
		return writeAt(dir, memName, orNone(mem, noneV1))
	}
	if err != nil {
		return err
	}
	oldMem, err := numberAt(dir, memName)
	if err != nil {
		return err
	}
	write := func(first, second string, to, then knowledge.Bytes, back int64) error {
		if err := writeAt(dir, first, orNone(to, noneV1)); err != nil {
			return err
		}
		if err := writeAt(dir, second, orNone(then, noneV1)); err != nil {
			return errors.Join(err, writeAt(dir, first, strconv.FormatInt(back, 10)))
		}
		return nil
	}
	if total <= 0 || int64(total) >= old {
		return write(totalName, memName, total, mem, old)
	}
	return write(memName, totalName, mem, total, oldMem)
}

// writeMemoryV2 writes the two limits, which do not depend on each other: of swap first,
// so that a cut of memory finds where to put what does not fit.
func writeMemoryV2(dir int, mem, swap knowledge.Bytes) error {
	text := "max"
	if swap >= 0 {
		text = strconv.FormatInt(int64(swap), 10)
	}
	if err := writeAt(dir, "memory.swap.max", text); err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	return writeAt(dir, "memory.max", orNone(mem, "max"))
}

// orNone is a limit as text.
func orNone(b knowledge.Bytes, none string) string {
	if b <= 0 {
		return none
	}
	return strconv.FormatInt(int64(b), 10)
}

func writeAt(dir int, name, text string) error {
	fd, err := unix.Openat(dir, name, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return pwrite(fd, []byte(text+"\n"))
}

func numberAt(dir int, name string) (int64, error) {
	text, err := textAt(dir, name)
	if err != nil {
		return 0, err
	}
	return single([]byte(text))
}

// textAt reads a file of one word.
func textAt(dir int, name string) (string, error) {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	var b [32]byte
	n, err := pread(fd, b[:], 0)
	return strings.TrimSpace(string(b[:n])), err
}

// memoryWritable reports whether SetMemory may work; without a memory controller there is
// nothing to write.
func (c *Container) memoryWritable() bool {
	if c.has&(1<<memoryLimit) == 0 {
		return true
	}
	_, name := c.host.file(memoryLimit)
	fd, err := c.host.open(c.dirs[memory], name, unix.O_WRONLY)
	if err != nil {
		return false
	}
	_ = unix.Close(fd)
	return true
}
