package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	maxCores = 256
	// slice is how often a burner pays what it owes: ten times in a CFS period.
	slice = 10 * time.Millisecond
	// backlog is how much unpaid work a burner remembers. A real service has a
	// queue; an endless one would hide that a container recovered.
	backlog = 200 * time.Millisecond
	// chunk is how much memory is taken at once.
	chunk = 1 << 20
)

// step is one change of the schedule, after the start.
type step struct {
	after time.Duration
	cores float64
}

// burn uses CPU to the schedule: each burner owes its share of the time that
// passes, and pays in CPU time of its own thread, so that what a quota holds
// back stays demanded.
func burn(ctx context.Context, out io.Writer, steps []step) error {
	var most float64
	for _, s := range steps {
		most = max(most, s.cores)
	}
	n := max(1, int(math.Ceil(most)))
	runtime.GOMAXPROCS(n + 1)
	var share atomic.Uint64 // Float64bits of the cores that each burner owes
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() { burner(ctx, &share) })
	}
	start := time.Now()
	for _, s := range steps {
		if wait(ctx, s.after-time.Since(start)) != nil {
			break
		}
		share.Store(math.Float64bits(s.cores / float64(n)))
		say(out, "cores=%g", s.cores)
	}
	<-ctx.Done()
	wg.Wait()
	return nil
}

func burner(ctx context.Context, share *atomic.Uint64) {
	runtime.LockOSThread()
	last := time.Now()
	var owed time.Duration
	for ctx.Err() == nil {
		now := time.Now()
		owed += time.Duration(float64(now.Sub(last)) * math.Float64frombits(share.Load()))
		last = now
		owed = min(owed, backlog)
		owed -= spend(min(owed, slice))
		if owed < slice {
			time.Sleep(slice - min(time.Since(now), slice))
		}
	}
}

// spend burns d of the calling thread's CPU time and returns what it took.
func spend(d time.Duration) time.Duration {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	start := threadTime()
	for {
		used := threadTime() - start
		if used >= d {
			return used
		}
		// About 0.1 ms: the clock of a thread is a system call.
		for i, x := 0, 1.0; i < 20000; i++ {
			x = math.Sqrt(x + float64(i))
		}
	}
}

func threadTime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		return math.MaxInt64 / 2 // ends every spend at once
	}
	return time.Duration(ts.Nano())
}

// remember holds from bytes, touched, and then grows by rate bytes a second
// to the bytes; at the end it holds them until ctx ends.
func remember(ctx context.Context, out io.Writer, from, to, rate int64) error {
	var held int64
	grow := func(target int64) error {
		for ; held+chunk <= target; held += chunk {
			b, err := unix.Mmap(-1, 0, chunk, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
			if err != nil {
				return fmt.Errorf("cannot take memory: %w", err)
			}
			for i := 0; i < chunk; i += 4096 {
				b[i] = 1
			}
		}
		return nil
	}
	if err := grow(from); err != nil {
		return err
	}
	say(out, "bytes=%d", held)
	start := time.Now()
	for rate > 0 && held+chunk <= to {
		if wait(ctx, slice) != nil {
			return nil
		}
		target := float64(from) + time.Since(start).Seconds()*float64(rate)
		if err := grow(int64(min(target, float64(to)))); err != nil {
			return err
		}
	}
	say(out, "bytes=%d", held)
	<-ctx.Done()
	return nil
}

// copyFiles writes a file of size bytes, reads it twice, and looks for names that do not exist, as
// a database does that is loaded; then it waits until ctx ends.
func copyFiles(ctx context.Context, out io.Writer, size int64, names int) error {
	dir, err := os.MkdirTemp("/", "files")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	f, err := os.Create(filepath.Join(dir, "file"))
	if err != nil {
		return err
	}
	defer f.Close()
	block := make([]byte, chunk)
	for n := int64(0); n < size && ctx.Err() == nil; n += chunk {
		if _, err := f.Write(block); err != nil {
			return err
		}
	}
	for range 2 {
		for n := int64(0); n < size && ctx.Err() == nil; n += chunk {
			if _, err := f.ReadAt(block, n); err != nil {
				return err
			}
		}
	}
	say(out, "bytes=%d", size)
	for i := 0; i < names && ctx.Err() == nil; i++ {
		if _, err := os.Lstat(filepath.Join(dir, strconv.Itoa(i))); err == nil {
			return errors.New("a name that should not exist does")
		}
	}
	say(out, "names=%d", names)
	<-ctx.Done()
	return nil
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return ctx.Err()
	}
}
