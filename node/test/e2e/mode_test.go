package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/effiscale/effiscale/docker/observer"
)

// TestNothingChanges: in off, observe and recommend, and for containers that did
// not opt in, neither the Engine nor the kernel ever holds anything else than at
// the start (the first of the things that must always hold). What it would do
// is shown.
func TestNothingChanges(t *testing.T) {
	t.Parallel()
	d := newDaemon(t, "POLICY_OBSERVE_FIRST=1s", "MONITOR_DELIBERATE_EVERY=1s")
	busy := spec{do: "cpu --cores 0.1", cpus: 0.05, memory: 64 * MiB}
	with := func(s spec, labels map[string]string) spec { s.labels = labels; return s }
	stranger := busy
	stranger.stranger = true
	boxes := map[string]*box{
		"stranger":  d.box(t, "stranger", stranger),
		"false":     d.box(t, "false", with(stranger, map[string]string{"effiscale.enable": "false"})),
		"off":       d.box(t, "off", with(busy, map[string]string{"effiscale.mode": "off"})),
		"observe":   d.box(t, "observe", with(busy, map[string]string{"effiscale.mode": "observe"})),
		"recommend": d.box(t, "recommend", with(busy, map[string]string{"effiscale.mode": "recommend"})),
	}
	was := map[string]observer.Container{}
	for name, b := range boxes {
		was[name] = b.inspect()
	}
	d.start()
	hold(t, 12*time.Second, "limits stay as they were", func() bool {
		for name, b := range boxes {
			if h := b.inspect().HostConfig; h != was[name].HostConfig || !near(b.kernel.Quota(), 0.05) ||
				b.kernel.Memory() != 64*MiB {
				t.Errorf("%s has %+v, in the kernel %v cores, %v bytes", b.name, h, b.kernel.Quota(), b.kernel.Memory())
				return false
			}
		}
		return true
	})
	for name, b := range boxes {
		v, ok := d.view(b)
		if !ok {
			t.Errorf("%s is not shown", b.name)
			continue
		}
		if name == "off" {
			if v.State != "off" {
				t.Errorf("%s is %q: %s", b.name, v.State, v.Why)
			}
			continue
		}
		if v.CPUWanted == nil || *v.CPUWanted <= 0 || v.MemoryWanted == nil || *v.MemoryWanted < 32*MiB {
			t.Errorf("%s: status shows no limits that it would have: %+v", b.name, v)
		}
		if v.State != "observing" || v.Why == "" {
			t.Errorf("%s is %q: %q", b.name, v.State, v.Why)
		}
		if changes := d.changes(b); len(changes) != 0 {
			t.Errorf("%s was changed: %+v", b.name, changes)
		}
	}
	out, _, code := d.run("plan", "--output", "json")
	if code != 0 || strings.Count(out, `"."`) == 0 || strings.Contains(out, `"~"`) ||
		!strings.Contains(out, boxes["recommend"].name) {
		t.Errorf("plan ended with %d:\n%s", code, out)
	}
	d.stop()
}

// TestBadLabel: a label that cannot be read turns automation off for that
// container only, and status says which label (row 57; its neighbours work).
func TestBadLabel(t *testing.T) {
	t.Parallel()
	d := newDaemon(t)
	busy := spec{do: "cpu --cores 0.25", cpus: 0.1, memory: 64 * MiB}
	bad := map[string]map[string]string{
		"number": {"effiscale.cpu": "1e308..2"}, "minus": {"effiscale.memory": "-1..64MiB"},
		"swapped": {"effiscale.cpu": "2..1"}, "typo": {"effiscale.cpus": "1..2"}, "wide": {"effiscale.weight": "１"},
		"long": {"effiscale.class": strings.Repeat("x", 4096)},
	}
	boxes := map[string]*box{}
	for name, labels := range bad {
		s := busy
		s.do, s.labels = "cpu --cores 0.12", labels
		boxes[name] = d.box(t, name, s)
	}
	good := d.box(t, "good", busy)
	d.start()
	eventually(t, 20*time.Second, "the good neighbour grows", func() bool { return good.kernel.Quota() > 0.2 })
	st, err := d.status()
	if err != nil {
		t.Fatal(err)
	}
	problems := strings.Join(st.Problems, "\n")
	for name, labels := range bad {
		b := boxes[name]
		if !near(b.kernel.Quota(), 0.1) || len(d.changes(b)) != 0 {
			t.Errorf("%s was changed", b.name)
		}
		v, _ := d.view(b)
		for label := range labels {
			if v.Managed || v.State != "blocked" || len(v.Problems) == 0 || !strings.Contains(v.Problems[0], label) {
				t.Errorf("%s is %q, managed %v: %q", b.name, v.State, v.Managed, v.Problems)
			}
			if !strings.Contains(problems, b.name+" is not managed: label "+label) {
				t.Errorf("no problem of %s with %s in:\n%s", b.name, label, problems)
			}
		}
	}
	d.stop()
}
