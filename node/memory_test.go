package node

import (
	"testing"
	"time"

	"github.com/effiscale/effiscale/docker/dockertest"
	"github.com/effiscale/effiscale/knowledge"
)

// Row 115 from the Engine's start to the kernel's files of both versions: page cache, half of it
// active, fills the limit for seconds, the kernel reclaims and waits for that, and no limit is
// raised; memory that is needed raises it at once, though use stays at the limit meanwhile.
func TestRow115BothVersions(t *testing.T) {
	const mib = knowledge.MiB
	for version := 1; version <= 2; version++ {
		r := newRig(t, dockertest.Options{Cgroup: version})
		id := r.e.Run(dockertest.Spec{Labels: opted, Limits: knowledge.Limits{CPU: knowledge.OneCPU, Memory: 256 * mib,
			MemorySwap: 256 * mib}})
		r.e.SetUsage(id, 0.3)
		r.e.SetMemory(id, 80*mib)
		r.managed(id)
		r.e.SetPressure(id, 0, 20)
		cache, highest := 20*mib, knowledge.Bytes(0)
		r.pass(3*time.Second, func() {
			cache = min(cache+mib, 2*knowledge.GiB)
			r.e.SetCache(id, cache)
			if u, ok := r.unit(id); ok {
				highest = max(highest, u.Window.MemoryLimit)
			}
		})
		if highest != 256*mib {
			t.Errorf("cgroup v%d: page cache raised the limit to %s", version, highest)
		}
		r.e.SetPressure(id, 0, 0)
		for use := 80 * mib; use <= 300*mib; use += 2 * mib { // 40 MiB/s, in the place of cache
			r.e.SetMemory(id, use)
			r.pass(50*time.Millisecond, func() {})
		}
		u, _ := r.unit(id)
		if u.Kills > 0 || u.Window.MemoryLimit < 310*mib || u.Window.MemoryLimit > 405*mib {
			t.Errorf("cgroup v%d: %d kills, a limit of %s for 300 MiB", version, u.Kills, u.Window.MemoryLimit)
		}
		r.stop()
	}
}
