package cgroup

import (
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/effiscale/effiscale/knowledge"
)

// What reclaim cannot take, from the files of both versions: page cache counts where it is dirty,
// being written or locked, shared memory always, and of the kernel's memory all but its caches.
func TestMemoryThatCannotBeReclaimed(t *testing.T) {
	const mib = 1 << 20
	lines := func(format string, values ...int) string {
		for _, v := range values {
			format = strings.Replace(format, "%", strconv.Itoa(v*mib), 1)
		}
		return format
	}
	for _, c := range []struct {
		name, stat string
		v2         bool
		kernel     int // MiB, of v1
		hard       int
	}{
		{"v2", lines("anon %\nfile %\nkernel %\nsock %\nshmem %\nfile_dirty %\nfile_writeback %\ninactive_file %\n"+
			"active_file %\nslab_reclaimable %\nslab_unreclaimable %\nworkingset_refault_file 7\n",
			50, 1000, 220, 3, 16, 5, 2, 600, 380, 200, 4), true, 0, 50 + 20 + 7 + 20 + 3},
		{"v2 of Linux 5.4", lines("anon %\nfile %\nslab %\nkernel_stack %\ninactive_file %\nactive_file %\n"+
			"slab_reclaimable %\n", 50, 1000, 120, 2, 600, 400, 100), true, 0, 50 + 22},
		{"v1", lines("cache 1\nrss 1\ntotal_cache %\ntotal_rss %\ntotal_shmem %\ntotal_dirty %\ntotal_writeback %\n"+
			"total_inactive_file %\ntotal_active_file %\ntotal_unevictable %\ntotal_workingset_refault_file 7\n",
			1000, 64, 16, 5, 2, 600, 376, 8), false, 220, 64 + 24 + 7 + 10},
		{"v1 without kernel memory", lines("total_cache %\ntotal_rss %\ntotal_inactive_file %\ntotal_active_file %\n",
			100, 50, 60, 40), false, -1, 50},
		{"all of its cache is dirty", lines("anon %\nfile %\nfile_dirty %\ninactive_file %\nactive_file %\n",
			10, 100, 120, 60, 40), true, 0, 110},
	} {
		var s knowledge.Sample
		if err := parseMemoryStat([]byte(c.stat), &s, c.v2); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if !c.v2 && c.kernel >= 0 {
			if err := parseKernelMemory([]byte(strconv.Itoa(c.kernel*mib)+"\n"), &s); err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
		}
		if got := s.Hard(); got != knowledge.Bytes(c.hard*mib) {
			t.Errorf("%s: %s, want %d MiB: %+v", c.name, got, c.hard, s.MemoryDetail)
		}
		if strings.Contains(c.stat, "refault") && s.Refaults != 7 {
			t.Errorf("%s: %d refaults", c.name, s.Refaults)
		}
	}
	var s knowledge.Sample
	if err := parseMemoryStat([]byte("total_rss 1\ntotal_inactive_file 1\ntotal_pgmajfault 9\n"), &s, false); err != nil ||
		s.Refaults != 9 {
		t.Errorf("without a counter of refaults: %d major faults, %v", s.Refaults, err)
	}
}

// The real kernel: files that were written and read twice, and names that do not exist, fill
// memory, and next to nothing of it cannot be reclaimed.
func TestFilesAndNamesAreReclaimable(t *testing.T) {
	p, g, id := realGroup(t, "memory")
	if err := g.SetLimits(knowledge.Limits{Memory: 512 << 20, MemorySwap: 512 << 20}); err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("/var/tmp", "effiscale-memory-") // /tmp may be memory
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	cmd := exec.Command("sh", "-c", "read go; cd "+dir+` &&
		dd if=/dev/zero of=file bs=1M count=96 conv=fsync &&
		cat file >/dev/null; cat file >/dev/null
		seq -f "none%.0f" 150000 | xargs stat >/dev/null 2>&1; echo done; read end`)
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close(); _ = cmd.Wait() }()
	if err := join(g, cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Write([]byte("go\n")); err != nil {
		t.Fatal(err)
	}
	if n, err := out.Read(make([]byte, 16)); n == 0 {
		t.Fatal(err)
	}
	c := attachTo(t, p.host, knowledge.Container{ID: id, PID: cmd.Process.Pid})
	if names, _ := c.Processes(); len(names) != 1 || names[0] != "sh" {
		t.Errorf("processes %q", names)
	}
	var s knowledge.Sample
	if err := errors.Join(c.Read(&s, knowledge.HasMemory|knowledge.HasMemoryStat), c.Close()); err != nil {
		t.Fatal(err)
	}
	t.Logf("%s in use, %s cannot be reclaimed: %+v", s.MemoryUsage, s.Hard(), s.MemoryDetail)
	if s.MemoryUsage < 110<<20 || s.Hard() > 20<<20 {
		t.Errorf("of %s in use %s cannot be reclaimed: %+v", s.MemoryUsage, s.Hard(), s.MemoryDetail)
	}
}

// Shared memory that is mapped at the start takes memory later: PostgreSQL's buffers.
func TestSharedMemory(t *testing.T) {
	const maps = `55d0c0a00000-55d0c0b00000 r-xp 00000000 fe:00 1234 /usr/lib/postgresql/15/bin/postgres
7f0000000000-7f0008e00000 rw-s 00000000 00:01 1025 /dev/zero (deleted)
7f0010000000-7f0010001000 rw-s 00000000 00:01 7 /SYSV0052e2c1 (deleted)
7f0020000000-7f0020100000 rw-s 00000000 00:15 9 /dev/shm/PostgreSQL.1
7f0030000000-7f0040000000 rw-s 00000000 fe:00 4321 /var/lib/data
7f0050000000-7f0060000000 rw-p 00000000 00:00 0
7f0070000000-7f0080000000 rw-p 00000000 00:01 8 /dev/zero
ffffffffffffffff-0 rw-s 0 0 0 /dev/zero
x-y
`
	if got, want := sharedMemory(maps), knowledge.Bytes(0x8e00000+0x1000+0x100000); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
