package main

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestRunRefusesNonsense(t *testing.T) {
	for _, args := range []string{
		"", "dance", "cpu --cores NaN", "cpu --cores -1", "cpu --cores 1e9", "cpu x",
		"mem --from 2GiB --to 1GiB", "mem --rate 5XB", "mem --from 99999999999999999999", "mem --from -1MB",
	} {
		if err := run(t.Context(), strings.Fields(args), &bytes.Buffer{}); err == nil {
			t.Errorf("load %s: no error", args)
		}
	}
}

func TestParseSize(t *testing.T) {
	for in, want := range map[string]int64{"5": 5, "5B": 5, "64KiB": 65536, "5MB": 5e6, "1GiB": 1 << 30} {
		if got, err := parseSize(in); err != nil || got != want {
			t.Errorf("parseSize(%q) = %d, %v; want %d", in, got, err, want)
		}
	}
}

// TestBurn checks the amount of work, not its timing: a busy machine makes it
// less, never more.
func TestBurn(t *testing.T) {
	before := processTime(t)
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	var out bytes.Buffer
	if err := burn(ctx, &out, []step{{cores: 0.2}, {after: 200 * time.Millisecond, cores: 0.6}}); err != nil {
		t.Fatal(err)
	}
	// 0.2 s at 0.2 cores and 0.3 s at 0.6 are 0.22 s of CPU time.
	if used := processTime(t) - before; used < 20*time.Millisecond || used > 400*time.Millisecond {
		t.Errorf("used %v of CPU time, want about 220ms", used)
	}
	if got := out.String(); !strings.Contains(got, " cores=0.2\n") || !strings.Contains(got, " cores=0.6\n") {
		t.Errorf("the schedule was not told: %q", got)
	}
}

func TestRemember(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	var out bytes.Buffer
	if err := remember(ctx, &out, 2<<20, 4<<20, 100e6); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); !strings.Contains(got, " bytes=2097152\n") || !strings.Contains(got, " bytes=4194304\n") {
		t.Errorf("memory went another way: %q", got)
	}
}

func processTime(t *testing.T) time.Duration {
	t.Helper()
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &ts); err != nil {
		t.Fatal(err)
	}
	return time.Duration(ts.Nano())
}
