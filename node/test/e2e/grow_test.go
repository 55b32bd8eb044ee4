package e2e

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/effiscale/effiscale/node/api"
)

// TestMemoryGrowth: a container that takes 5 MB/s more, from 64 MiB under a limit
// of 128 MiB to 1 GiB (384 MiB without EFFISCALE_LONG=1), is never killed for memory
// and never restarted.
func TestMemoryGrowth(t *testing.T) {
	t.Parallel()
	to := int64(384)
	if long() {
		to = 1024
	}
	d := newDaemon(t)
	b := d.box(t, "mem", spec{do: fmt.Sprintf("mem --from 64MiB --to %dMiB --rate 5MB", to), cpus: 0.5, memory: 128 * MiB, swap: 128 * MiB})
	was := b.inspect()
	d.start()
	least := int64(1 << 40)
	done := waitFor(5*time.Minute, func() bool {
		use, limit := b.kernel.MemoryUse(), b.kernel.Memory()
		if use > 80*MiB && limit > 0 {
			least = min(least, limit-use)
		}
		return use >= (to-1)*MiB || b.kernel.OOMKills() > 0 || b.kernel.Memory() == 0
	})
	if kills := b.kernel.OOMKills(); !done || kills > 0 {
		t.Errorf(
			"done: %v, OOM kills: %d, in use: %d MiB of %d MiB",
			done,
			kills,
			b.kernel.MemoryUse()/MiB,
			b.kernel.Memory()/MiB,
		)
	}
	b.same(was)
	if got := b.kernel.Memory(); got < to*MiB {
		t.Errorf("the limit is %d MiB at the end", got/MiB)
	}
	b.covered(45 * time.Second)
	eventually(t, 10*time.Second, "no change is open", func() bool {
		return !slices.ContainsFunc(d.changes(b), func(c api.Change) bool { return c.Result == "open" })
	})
	if h := b.inspect().HostConfig; h.MemorySwap != h.Memory {
		t.Errorf("the Engine has %+v: memory and swap go together", h)
	}
	grows := 0
	for _, c := range d.changes(b) {
		if c.Resource == "memory" {
			grows++
			if c.Result != "applied" || c.To <= c.From {
				t.Errorf("a memory change while it grew: %+v", c)
			}
		}
	}
	figure(
		t,
		"memory growth 5 MB/s from 64 to %d MiB: 0 OOM kills, %d updates, least distance to the limit %d MiB",
		to,
		grows,
		least/MiB,
	)
	d.stop()
}

// TestRow114FastGrowth: memory that grows by 40 MB/s is never killed, and its limit ends at no more
// than 1.35 times its need.
func TestRow114FastGrowth(t *testing.T) {
	t.Parallel()
	const to = 450
	d := newDaemon(t)
	d.start()
	b := d.box(t, "ramp", spec{do: fmt.Sprintf("mem --from 64MiB --to %dMiB --rate 40MB", to), cpus: 1, memory: 192 * MiB,
		swap: 192 * MiB})
	highest, ended := int64(0), time.Time{}
	waitFor(2*time.Minute, func() bool {
		highest = max(highest, b.kernel.Memory())
		if ended.IsZero() && b.kernel.MemoryUse() >= (to-1)*MiB {
			ended = time.Now()
		}
		return !ended.IsZero() && time.Since(ended) > 5*time.Second || b.kernel.OOMKills() > 0 || b.kernel.Memory() == 0
	})
	if ended.IsZero() || b.kernel.OOMKills() > 0 {
		t.Errorf("%d OOM kills, %d MiB of %d MiB", b.kernel.OOMKills(), b.kernel.MemoryUse()/MiB, b.kernel.Memory()/MiB)
	}
	figure(t, "memory growth 40 MB/s from 64 to %d MiB: highest limit %d MiB", to, highest/MiB)
	if highest > to*135/100*MiB {
		t.Errorf("the limit went to %d MiB for %d MiB of need", highest/MiB, to)
	}
	d.stop()
}

// TestRow115Files: files that are written and read twice, and names that are looked for in vain,
// raise no limit.
func TestRow115Files(t *testing.T) {
	t.Parallel()
	d := newDaemon(t)
	d.start()
	b := d.box(t, "files", spec{do: "files --size 400MiB --names 250000", cpus: 1, memory: 96 * MiB, swap: 96 * MiB})
	highest := int64(0)
	waitFor(20*time.Second, func() bool {
		highest = max(highest, b.kernel.Memory())
		return b.kernel.OOMKills() > 0 || b.kernel.Memory() == 0
	})
	if b.kernel.OOMKills() > 0 || b.kernel.Memory() == 0 {
		t.Errorf("it ended, %d OOM kills", b.kernel.OOMKills())
	}
	figure(t, "400 MiB of files and 250000 failed look-ups under 96 MiB: highest limit %d MiB", highest/MiB)
	if highest > 96*MiB {
		t.Errorf("the limit went to %d MiB", highest/MiB)
	}
	d.stop()
}

// TestIdleAndBack: an idle service shrinks to its floor, also in memory, and
// grows back under load without one failed request.
func TestIdleAndBack(t *testing.T) {
	t.Parallel()
	d := newDaemon(t, "POLICY_SHRINK_AFTER=10s", "MONITOR_SLOW_EVERY=2s")
	b := d.box(t, "web", spec{do: "http --work 3ms", cpus: 1, memory: 256 * MiB, swap: 512 * MiB, network: true,
		labels: map[string]string{"effiscale.cpu": "0.1..1.5", "effiscale.memory": "64MiB..512MiB"}})
	was := b.inspect()
	p := b.press(t)
	p.rate.Store(2) // somebody asks now and then, all the time
	d.start()
	// Changes of less than 0.02 core are not made.
	eventually(t, 90*time.Second, "idle, its quota goes to the floor", func() bool { return b.kernel.Quota() < 0.121 })
	eventually(t, 90*time.Second, "idle, its memory limit goes down", func() bool { return b.kernel.Memory() < 256*MiB })
	b.covered(time.Second)
	at := time.Now()
	p.rate.Store(200)
	eventually(t, 20*time.Second, "under 0.6 cores of load it grows back", func() bool { return b.kernel.Quota() >= 0.6 })
	figure(
		t,
		"an idle service at its floor of 0.1 cores meets 0.6 cores of requests: enough after %d ms",
		time.Since(at).Milliseconds(),
	)
	hold(t, 3*time.Second, "it stays grown", func() bool { return b.kernel.Quota() >= 0.5 })
	p.stop()
	if n := p.failed.Load(); n > 0 || p.sent.Load() < 60 {
		t.Errorf("%d of %d requests failed: %v", n, p.sent.Load(), p.last.Load())
	}
	b.same(was)
	if h := b.inspect().HostConfig; h.MemorySwap-h.Memory != 256*MiB {
		t.Errorf("its own allowance of 256 MiB of swap became %d MiB", (h.MemorySwap-h.Memory)/MiB)
	}
	d.stop()
}
