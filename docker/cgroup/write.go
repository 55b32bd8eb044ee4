package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/effiscale/effiscale/knowledge"
)

// The kernel's bounds of a CFS quota and period: a quota of 1 ms at least, a
// period of 1 ms to 1 s (sched-bwc.rst).
const (
	minQuota  = time.Millisecond
	minPeriod = time.Millisecond
	maxPeriod = time.Second
)

// SetQuota writes the CPU quota straight to the kernel, past the Engine: q is in
// billionths of a core, 0 lifts the limit; a period of 0 keeps the present one.
// A quota under 1 ms becomes 1 ms, the kernel's least. The write is atomic for
// quota and period together on v2. On v1 they are two files: the order is such
// that the limit is never above the higher of old and new in between, and when
// the second cannot be written the first is put back.
//
// The error is ErrGone when the cgroup went away, ErrUnsupported without the
// controller, else the kernel's own: EINVAL where a parent allows less.
func (c *Container) SetQuota(q knowledge.NanoCPU, period time.Duration) error {
	if q < 0 || q > knowledge.MaxCPU {
		return fmt.Errorf("cannot set the CPU quota of %s: %d billionths of a core is not between 0 and %d",
			c.id[:12], int64(q), int64(knowledge.MaxCPU))
	}
	if period != 0 && (period < minPeriod || period > maxPeriod) {
		return fmt.Errorf("cannot set the CPU quota of %s: a period of %s is not between %s and %s",
			c.id[:12], period, minPeriod, maxPeriod)
	}
	c.host.mu.Lock()
	defer c.host.mu.Unlock()
	if err := c.setQuota(q, period); err != nil {
		return c.refused("set the CPU quota", err)
	}
	return nil
}

func (c *Container) setQuota(q knowledge.NanoCPU, period time.Duration) error {
	if err := c.openQuota(); err != nil {
		return err
	}
	now, err := c.presentQuota()
	if err != nil {
		return err
	}
	if period == 0 {
		period = now.Period
	}
	switch {
	case c.host.at[cpu].v2:
		return c.writeQuotaV2(q, period)
	case period > now.Period: // the longer period first, the larger quota last
		if err := c.writePeriod(period); err != nil {
			return err
		}
		if err := c.writeQuotaV1(q, period); err != nil {
			return errors.Join(err, c.writePeriod(now.Period))
		}
	case period < now.Period:
		if err := c.writeQuotaV1(q, period); err != nil {
			return err
		}
		if err := c.writePeriod(period); err != nil {
			return errors.Join(err, c.writeQuotaV1(now.Quota, now.Period))
		}
	default:
		return c.writeQuotaV1(q, period)
	}
	return nil
}

func (c *Container) writeQuotaV1(q knowledge.NanoCPU, period time.Duration) error {
	b := append(c.host.text[:0], "-1"...)
	if q > 0 {
		b = strconv.AppendInt(b[:0], quotaMicros(q, period), 10)
	}
	return pwrite(int(c.quota), append(b, '\n'))
}

func (c *Container) writeQuotaV2(q knowledge.NanoCPU, period time.Duration) error {
	b := append(c.host.text[:0], "max"...)
	if q > 0 {
		b = strconv.AppendInt(b[:0], quotaMicros(q, period), 10)
	}
	b = append(b, ' ')
	b = strconv.AppendInt(b, period.Microseconds(), 10)
	return pwrite(int(c.quota), append(b, '\n'))
}

// quotaMicros is the quota in the kernel's microseconds, cut as the Engine and
// runc cut it, so that both come to the same number. A quota that was converted to
// billionths of a core, however rounded, is the same again to the microsecond.
func quotaMicros(q knowledge.NanoCPU, period time.Duration) int64 {
	p := period.Microseconds()
	return max((int64(q)*p+p-1)/1e9, minQuota.Microseconds())
}

// openQuota opens the file of the quota once, for writing only: a descriptor
// that is never read holds no buffer in the kernel.
func (c *Container) openQuota() error {
	switch {
	case c.closed:
		return fs.ErrClosed
	case c.quota >= 0:
		return nil
	case c.has&(1<<cpuQuota) == 0:
		return ErrUnsupported
	}
	t, name := c.host.file(cpuQuota)
	fd, err := c.host.open(c.dirs[t], name, unix.O_WRONLY)
	if err == nil {
		c.quota = int32(fd)
	}
	return err
}

// presentQuota reads the quota and the period that the kernel holds.
func (c *Container) presentQuota() (now knowledge.Sample, err error) {
	for _, f := range [...]file{cpuPeriod, cpuQuota} {
		if c.has&(1<<f) == 0 {
			continue
		}
		t, name := c.host.file(f)
		b, err := c.host.slurp(c.dirs[t], name, false)
		if err != nil {
			return now, err
		}
		if err := c.parse(f, b, &now); err != nil {
			return now, err
		}
	}
	return now, nil
}

func (c *Container) writePeriod(p time.Duration) error {
	return c.write(cpuPeriod, append(strconv.AppendInt(c.host.text[:0], p.Microseconds(), 10), '\n'))
}

// SetHigh writes memory.high, above which the kernel slows the container down
// instead of killing it; 0 is none. v1 has no such limit: ErrUnsupported.
func (c *Container) SetHigh(b knowledge.Bytes) error {
	if b < 0 || b > knowledge.MaxBytes {
		return fmt.Errorf("cannot set memory.high of %s: %d is not between 0 and %d",
			c.id[:12], int64(b), int64(knowledge.MaxBytes))
	}
	c.host.mu.Lock()
	defer c.host.mu.Unlock()
	if c.closed {
		return c.refused("set memory.high", fs.ErrClosed)
	}
	if c.has&(1<<memoryHigh) == 0 {
		return c.refused("set memory.high", ErrUnsupported)
	}
	text := append(c.host.text[:0], "max"...)
	if b > 0 {
		text = strconv.AppendInt(c.host.text[:0], int64(b), 10)
	}
	if err := c.write(memoryHigh, append(text, '\n')); err != nil {
		return c.refused("set memory.high", err)
	}
	return nil
}

// write opens a file of the slow tier, writes it and closes it.
func (c *Container) write(f file, text []byte) error {
	t, name := c.host.file(f)
	fd, err := c.host.open(c.dirs[t], name, unix.O_WRONLY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return pwrite(fd, text)
}

func pwrite(fd int, text []byte) error {
	for {
		n, err := unix.Pwrite(fd, text, 0)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return err
		case n != len(text):
			return unix.EIO
		default:
			return nil
		}
	}
}

func (c *Container) refused(what string, err error) error {
	if vanished(err) {
		err = ErrGone
	}
	return fmt.Errorf("cannot %s of %s: %w", what, c.id[:12], err)
}

// Writable reports whether SetQuota and SetMemory may work: the files can be opened for
// writing, which changes nothing. A read-only mount (a container of our own, a
// unit with ProtectControlGroups) and missing privileges both show here.
func (c *Container) Writable() bool {
	c.host.mu.Lock()
	defer c.host.mu.Unlock()
	return c.openQuota() == nil && c.memoryWritable()
}
