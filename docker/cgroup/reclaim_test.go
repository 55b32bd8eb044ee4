package cgroup

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/effiscale/effiscale/knowledge"
)

// TestRow107EngineReclaim: page cache beside 20 MiB in use is given back; what is in use is not,
// and nothing is killed for it.
func TestRow107EngineReclaim(t *testing.T) {
	const mib = knowledge.MiB
	e := realEngine(t)
	c, err := e.machine().Attach(e.run("reclaim", map[string]any{"Memory": 256 << 20, "MemorySwap": 256 << 20}, "/burn",
		"hold", "20"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if !c.Writable() {
		t.Fatal("this user cannot write the cgroup's files")
	}
	// A file is read by a process that joins the container's cgroup.
	file := filepath.Join(t.TempDir(), "big")
	if err := os.WriteFile(file, make([]byte, 120<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	// The written pages are charged to this process: dd drops those of this file.
	script := `sync "$1"; dd if="$1" iflag=nocache count=0 2> /dev/null
		echo $$ > "$0/cgroup.procs" && cat "$1" > /dev/null`
	if out, err := exec.Command("sh", "-c", script, c.dirs[memory], file).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	use := func() (s knowledge.Sample) {
		if err := c.Read(&s, knowledge.HasMemory|memorySignals); err != nil {
			t.Fatal(err)
		}
		return s
	}
	if s := use(); s.MemoryUsage < 100*mib {
		t.Fatalf("%s in use: the page cache was not charged", s.MemoryUsage)
	}
	if err := c.Reclaim(60 * mib); err != nil {
		t.Fatal(err)
	}
	if s := use(); s.MemoryUsage > 60*mib || s.OOMKills > 0 {
		t.Errorf("%s in use, %d kills", s.MemoryUsage, s.OOMKills)
	}
	err = c.Reclaim(8 * mib)
	if err == nil || !strings.Contains(err.Error(), "cannot be reclaimed") {
		t.Errorf("less than is in use: %v", err)
	}
	if s := use(); s.OOMKills > 0 || s.Anon < 20*mib {
		t.Errorf("%d kills, %s", s.OOMKills, s.Anon)
	}
}
