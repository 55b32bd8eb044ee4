package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// cache charges page cache to a container's control group: a process joins it and reads a file.
func (b *box) cache(t *testing.T, bytes int64) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "big")
	if err := os.WriteFile(file, make([]byte, bytes), 0o600); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", b.inspect().State.Pid))
	if err != nil {
		t.Fatal(err)
	}
	dir := ""
	for line := range strings.SplitSeq(strings.TrimSpace(string(text)), "\n") {
		switch f := strings.SplitN(line, ":", 3); {
		case f[1] == "memory":
			dir = "/sys/fs/cgroup/memory" + f[2]
		case f[1] == "" && dir == "":
			dir = "/sys/fs/cgroup" + f[2]
		}
	}
	script := `sync "$1"; dd if="$1" iflag=nocache count=0 2> /dev/null; echo $$ > "$0/cgroup.procs" && cat "$1" > /dev/null`
	if out, err := exec.Command("sh", "-c", script, dir, file).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// TestRow107Restore: every field comes back as it was made, page cache does not keep a restore
// from it, a container without limits has none in the kernel again, and what the Engine keeps
// of them is named, with exit code 6.
func TestRow107Restore(t *testing.T) {
	t.Parallel()
	d := newDaemon(t)
	cached := d.box(t, "cached", spec{do: "mem --from 40MiB --to 40MiB --rate 0MB", cpus: 0.5, memory: 256 * MiB,
		swap: 256 * MiB})
	odd := d.box(t, "odd", spec{do: "idle", quota: 400_000, memory: 100_000_000, swap: -1})
	free := d.box(t, "free", spec{do: "idle"})
	wasCached, wasOdd, wasFree := cached.inspect(), odd.inspect(), free.inspect()
	d.start()
	d.sees(cached, odd, free)
	run := func(want int, args ...string) string {
		t.Helper()
		out, errs, code := d.run(args...)
		if code != want {
			t.Errorf("%v ended with %d, want %d: %s%s", args, code, want, out, errs)
		}
		return out + errs
	}
	for _, b := range []*box{cached, odd, free} {
		run(0, "scale", b.name, "--cpu", "0.7", "--memory", "727MiB")
	}
	cached.cache(t, 400*MiB)
	if use := cached.kernel.MemoryUse(); use < 350*MiB {
		t.Fatalf("%d MiB in use: the page cache was not charged", use/MiB)
	}
	run(0, "restore", cached.name)
	run(0, "restore", odd.name)
	text := run(6, "restore", free.name)
	for _, word := range []string{"NanoCpus", "Memory", "instead of 0"} {
		if !strings.Contains(text, word) {
			t.Errorf("the restore of a container without limits does not name %q: %s", word, text)
		}
	}
	if h := cached.inspect().HostConfig; h != wasCached.HostConfig || cached.kernel.Memory() != 256*MiB {
		t.Errorf("cached: the Engine has %+v, had %+v; the kernel %d MiB", h, wasCached.HostConfig, cached.kernel.Memory()/MiB)
	}
	if h := odd.inspect().HostConfig; h != wasOdd.HostConfig || odd.kernel.Memory() != 99_999_744 ||
		odd.kernel.Quota() != 4 {
		t.Errorf("odd: the Engine has %+v, had %+v; the kernel %d, %v cores", h, wasOdd.HostConfig, odd.kernel.Memory(),
			odd.kernel.Quota())
	}
	hold(t, 3*time.Second, "nothing is in the way of the one without limits", func() bool {
		return free.kernel.Memory() == 0 && free.kernel.Quota() == 0
	})
	d.stop()
	cached.same(wasCached)
	odd.same(wasOdd)
	free.same(wasFree)
}
