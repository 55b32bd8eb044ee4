package e2e

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/effiscale/effiscale/node/api"
)

const churns = 45

// TestChurn: containers that come and go all the time leave nothing behind in
// the daemon, and those that stay are not disturbed (row 32 at the pace of a real
// Engine; descriptors as in row 73).
func TestChurn(t *testing.T) {
	t.Parallel()
	d := newDaemon(t)
	stays := d.box(t, "stays", spec{do: "idle", cpus: 0.2, memory: 64 * MiB})
	was := stays.inspect()
	d.start()
	d.sees(stays)
	files, resident := d.files(), d.resident()
	began := time.Now()
	var workers sync.WaitGroup
	for w := range 3 {
		workers.Go(func() {
			for i := range churns / 3 {
				b := d.box(t, fmt.Sprintf("churn-%d-%d", w, i), spec{do: "cpu --cores 0.05", cpus: 0.1, memory: 32 * MiB})
				if i%2 == 0 {
					_ = waitFor(300*time.Millisecond, func() bool { _, ok := d.view(b); return ok })
				}
				b.remove()
			}
		})
	}
	workers.Wait()
	figure(t, "churn: %d containers made and removed in %.0f s", churns, time.Since(began).Seconds())
	eventually(t, 40*time.Second, "the daemon knows only the one that stays", func() bool {
		st, err := d.status()
		return err == nil && len(st.Containers) == 1 && st.Containers[0].ID == stays.id
	})
	eventually(t, 20*time.Second, "its descriptors are closed again", func() bool { return d.files() <= files+4 })
	if more := d.resident() - resident; more > 24*MiB {
		t.Errorf("after the churn it holds %d MiB more", more/MiB)
	}
	stays.same(was)
	d.stop()
}

func (d *daemon) files() int {
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", d.cmd.Process.Pid))
	if err != nil {
		d.t.Fatal(err)
	}
	return len(list)
}

func (d *daemon) resident() int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", d.cmd.Process.Pid))
	if err != nil {
		d.t.Fatal(err)
	}
	pages, err := strconv.ParseInt(strings.Fields(string(b))[1], 10, 64)
	if err != nil {
		d.t.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}

// TestRecreated: a container made anew under an old name is another container:
// nothing of the old one's limits, originals or marks is used (row 34).
func TestRecreated(t *testing.T) {
	t.Parallel()
	d := newDaemon(t)
	old := d.box(t, "web", spec{do: "idle", cpus: 0.4, memory: 96 * MiB})
	d.start()
	d.sees(old)
	d.met(old)
	request := api.ScaleRequest{Container: old.name, CPU: 0.7, Memory: 160 * MiB}
	if _, err := api.OpScale.Call(t.Context(), d.Client, request); err != nil {
		t.Fatal(err)
	}
	old.remove()
	fresh := d.box(t, "web", spec{do: "idle", cpus: 0.3, memory: 64 * MiB})
	d.sees(fresh)
	d.met(fresh)
	e, err := api.OpExplain.Call(t.Context(), d.Client, api.ExplainRequest{Name: fresh.name})
	if err != nil || e.Container.ID != fresh.id || *e.OriginalCPU != 0.3 || *e.OriginalMemory != 64*MiB {
		t.Errorf("the new one is explained as %+v, %v", e, err)
	}
	if changes := d.changes(fresh); len(changes) != 0 {
		t.Errorf("the new one has the history %+v", changes)
	}
	if got := fresh.kernel.Memory(); got != 64*MiB {
		t.Errorf("the new one has %d MiB", got/MiB)
	}
	st, err := d.status()
	if err != nil || len(st.Containers) != 1 {
		t.Errorf("status shows %d containers, %v", len(st.Containers), err)
	}
	d.stop()
}

// TestVanishes: a container that goes away during an update is gone, not a
// failure, and nothing is tried again (row 33).
func TestVanishes(t *testing.T) {
	t.Parallel()
	d := newDaemon(t).start()
	results := map[string]int{}
	for i := range 8 {
		b := d.box(t, fmt.Sprint("gone", i), spec{do: "idle", cpus: 0.2, memory: 64 * MiB})
		d.sees(b)
		d.met(b)
		var asking sync.WaitGroup
		asking.Go(func() {
			_, _ = api.OpScale.Call(t.Context(), d.Client, api.ScaleRequest{Container: b.name, CPU: 0.3, Memory: 80 * MiB})
		})
		_ = waitFor(time.Duration(i)*4*time.Millisecond, func() bool { return false })
		b.remove()
		asking.Wait()
		if !d.alive() {
			t.Fatal("the daemon ended")
		}
		h, err := api.OpRecords.Call(
			t.Context(),
			d.Client,
			api.RecordsRequest{Name: b.name, Limit: 100},
		) // by the service's name now
		if err != nil && api.KindOf(err) != api.KindNotFound {
			t.Fatal(err)
		}
		if len(h.Changes) > 3 {
			t.Errorf("it was tried again and again: %+v", h.Changes)
		}
		for _, c := range h.Changes {
			results[c.Result]++
			if c.Result == "open" || c.Result == "failed" {
				t.Errorf("the record of a container that is gone: %+v", c)
			}
		}
	}
	t.Logf("results: %v", results)
	d.stop()
}

// TestContainerRestart: docker restart makes a new process, a new control group
// and counters from zero: the container is not lost, its limits stay, and nothing
// is made of the difference of the counters (row 35).
func TestContainerRestart(t *testing.T) {
	t.Parallel()
	d := newDaemon(t)
	b := d.box(t, "web", spec{do: "http --work 10ms", cpus: 0.3, memory: 64 * MiB, network: true,
		labels: map[string]string{"effiscale.cpu": "0.2..0.8"}})
	d.start()
	d.sees(b)
	d.met(b)
	request := api.ScaleRequest{Container: b.name, Memory: 96 * MiB}
	if _, err := api.OpScale.Call(t.Context(), d.Client, request); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		at := time.Now()
		b.do("POST", "/restart?t=1", nil)
		b.meet()
		eventually(t, 20*time.Second, "it is measured again", func() bool {
			v, ok := d.view(b)
			return ok && v.Managed && v.Run == "running" && v.SampledAt.After(at) && v.State != "unmeasured"
		})
		if v, _ := d.view(b); v.CPUUsed > cores() || v.MemoryUsed > 96*MiB {
			t.Errorf("after the restart it uses %v cores and %d bytes", v.CPUUsed, v.MemoryUsed)
		}
		if got := b.kernel.Memory(); got != 96*MiB {
			t.Errorf("after the restart it has %d MiB", got/MiB)
		}
	}
	if _, errs, code := d.run("resume", b.name); code != 0 {
		t.Fatalf("resume ended with %d: %s", code, errs)
	}
	eventually(t, 40*time.Second, "it settles", func() bool { return b.kernel.Quota() < 0.3 })
	quota := b.kernel.Quota()
	p := b.press(t)
	p.rate.Store(50)
	eventually(t, 40*time.Second, "it grows as before", func() bool { return b.kernel.Quota() > quota+0.05 })
	for _, c := range d.changes(b) {
		if c.Actor == "external" {
			t.Errorf("a restart counts as somebody's change: %+v", c)
		}
	}
	p.stop()
	d.stop()
	b.covered(time.Second)
}
