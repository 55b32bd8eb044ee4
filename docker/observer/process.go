package observer

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// EngineTime is the CPU time of the Engines of this host so far: dockerd, containerd and the
// shims, whose ended children are the runc processes of updates.
func EngineTime(t *testing.T) time.Duration {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	var sum time.Duration
	for _, e := range entries {
		name, err := os.ReadFile("/proc/" + e.Name() + "/comm")
		if err != nil || !strings.HasPrefix(string(name), "dockerd") && !strings.HasPrefix(string(name), "containerd") {
			continue
		}
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			t.Fatal(err)
		}
		sum += ProcessTime(t, pid)
	}
	if sum == 0 {
		t.Fatal("no dockerd on this host")
	}
	return sum
}

// tick is the kernel's USER_HZ, which is 100 on every Linux that Go supports.
const tick = 10 * time.Millisecond

// ProcessTime is user and system time of a process, with that of its children that
// ended.
func ProcessTime(t *testing.T, pid int) time.Duration {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	// The name in parentheses may hold blanks; utime is field 14, three after it.
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	var sum time.Duration
	for _, f := range fields[11:15] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		sum += time.Duration(n) * tick
	}
	return sum
}
