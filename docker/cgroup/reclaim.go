package cgroup

import (
	"fmt"
	"io/fs"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/effiscale/effiscale/knowledge"
)

const (
	// reclaimRounds bounds the attempts; each one of the kernel's is bounded, too.
	reclaimRounds = 10
	reclaimApart  = 20 * time.Millisecond
)

// Reclaim makes the kernel give back page cache until at most so much memory is in use. The
// error says how much is left. It takes up to seconds, and may be called beside all others.
//
// v1 reclaims when the limit is written, and refuses a limit below use: that is the limit
// afterwards. v2 kills instead, so memory.reclaim (Linux 5.19), or memory.high for a moment, go
// first.
func (c *Container) Reclaim(to knowledge.Bytes) error {
	c.host.mu.Lock()
	path, v2, closed := c.dirs[memory], c.host.at[memory].v2, c.closed
	c.host.mu.Unlock()
	if closed || path == "" {
		return c.refused("reclaim memory", fs.ErrClosed)
	}
	dir, err := c.memoryDir()
	if err != nil {
		return c.refused("reclaim memory", err)
	}
	defer unix.Close(dir)
	usage, ask := "memory.usage_in_bytes", limitV1
	if v2 {
		usage, ask = "memory.current", reclaimV2
	}
	var left knowledge.Bytes
	for range reclaimRounds {
		n, err := numberAt(dir, usage)
		if err != nil {
			return c.refused("reclaim memory", err)
		}
		if left = knowledge.Bytes(n); left <= to {
			return nil
		}
		if err := ask(dir, left, to); err != nil && err != unix.EBUSY && err != unix.EAGAIN {
			return c.refused("reclaim memory", err)
		}
		time.Sleep(reclaimApart)
	}
	return fmt.Errorf("%s are in use and cannot be reclaimed down to %s", left, to)
}

func limitV1(dir int, _, to knowledge.Bytes) error {
	return writeSize(dir, "memory.limit_in_bytes", to)
}

func reclaimV2(dir int, use, to knowledge.Bytes) error {
	err := writeSize(dir, "memory.reclaim", use-to)
	if err != unix.ENOENT {
		return err
	}
	was, err := textAt(dir, "memory.high")
	if err != nil {
		return err
	}
	if err := writeSize(dir, "memory.high", to); err != nil {
		return err
	}
	return writeAt(dir, "memory.high", was)
}

// writeSize returns the kernel's own error.
func writeSize(dir int, name string, b knowledge.Bytes) error {
	return writeAt(dir, name, strconv.FormatInt(int64(b), 10))
}
