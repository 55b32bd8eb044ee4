package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/effiscale/effiscale/node/api"
)

// has finds the newest record by an actor about a resource.
func has(changes []api.Change, actor, resource string) (api.Change, bool) {
	for _, c := range changes {
		if c.Actor == actor && c.Resource == resource {
			return c, true
		}
	}
	return api.Change{}, false
}

// met waits until the way back is kept: what the Engine held is known.
func (d *daemon) met(b *box) {
	d.t.Helper()
	eventually(d.t, 20*time.Second, b.name+" was inspected and its limits kept", func() bool {
		e, err := api.OpExplain.Call(d.t.Context(), d.Client, api.ExplainRequest{Name: b.name})
		return err == nil && e.EngineCPU != nil && e.OriginalCPU != nil
	})
}

// TestExternalChange: what a person sets with docker update is respected, also
// where it hurts, recorded as theirs, and taken over after yield_for (row 63).
func TestExternalChange(t *testing.T) {
	t.Parallel()
	d := newDaemon(t, "POLICY_YIELD_FOR=8s")
	b := d.box(t, "web", spec{do: "cpu --cores 0.3", cpus: 0.6, memory: 128 * MiB, swap: 256 * MiB})
	d.start()
	d.sees(b)
	d.met(b)
	at := time.Now()
	b.update(map[string]any{"NanoCpus": 150e6, "Memory": 96 * MiB, "MemorySwap": 200 * MiB})
	eventually(t, 5*time.Second, "the change is in the history as somebody else's", func() bool {
		changes := d.changes(b)
		cpu, ok := has(changes, "external", "cpu")
		mem, okMem := has(changes, "external", "memory")
		return ok && okMem && cpu.To == 150e6 && mem.To == 96*MiB && mem.From == 128*MiB && cpu.Result == "applied"
	})
	// A third of its demand, throttled in each period: the daemon yields.
	left := 6*time.Second - time.Since(at)
	states := map[string]bool{}
	hold(t, left, "the person's quota is left alone", func() bool {
		v, _ := d.view(b)
		states[v.State] = true
		return near(b.kernel.Quota(), 0.15)
	})
	if !states["yielding"] {
		t.Errorf("status never said that it yields, only %v", states)
	}
	eventually(t, 40*time.Second, "after yield_for it grows again", func() bool { return b.kernel.Quota() > 0.25 })
	if took := time.Since(at); took < 7*time.Second {
		t.Errorf("the change was respected for %v only", took)
	}
	d.stop()
	b.covered(time.Second)
}

// TestExternalOutside: a person's limit outside the policy's bounds is never
// corrected silently; it stays until somebody says resume (row 64).
func TestExternalOutside(t *testing.T) {
	t.Parallel()
	d := newDaemon(t, "POLICY_YIELD_FOR=1s")
	b := d.box(t, "web", spec{do: "cpu --cores 0.2", cpus: 0.4, memory: 64 * MiB,
		labels: map[string]string{"effiscale.cpu": "0.1..0.8"}})
	d.start()
	d.sees(b)
	d.met(b)
	b.update(map[string]any{"NanoCpus": 1500e6})
	eventually(t, 5*time.Second, "it is recorded", func() bool {
		_, ok := has(d.changes(b), "external", "cpu")
		return ok
	})
	hold(
		t,
		14*time.Second,
		"the limit stays, though it is above the ceiling and idle",
		func() bool { return near(b.kernel.Quota(), 1.5) },
	)
	if v, _ := d.view(b); v.State != "yielding" {
		t.Errorf("it is %q: %s", v.State, v.Why)
	}
	if st, err := d.status(); err != nil || !strings.Contains(strings.Join(st.Problems, "\n"), "effiscale resume") {
		t.Errorf("status does not say what to do: %v %q", err, st.Problems)
	}
	if _, errs, code := d.run("resume", b.name); code != 0 {
		t.Fatalf("resume ended with %d: %s", code, errs)
	}
	within := func(b *box) bool { return b.kernel.Quota() <= 0.81 }
	eventually(
		t,
		20*time.Second,
		"after resume it is brought into its bounds",
		func() bool { return within(b) && !waitFor(time.Second, func() bool { return !within(b) }) },
	)
	d.stop()
	b.covered(time.Second)
}
