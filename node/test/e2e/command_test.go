package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/effiscale/effiscale/docker/observer"
	"github.com/effiscale/effiscale/node/api"
)

// TestPause: a pause holds for its time, and with --only down growth goes on.
func TestPause(t *testing.T) {
	t.Parallel()
	d := newDaemon(t)
	s := spec{do: "http --work 10ms", cpus: 0.15, memory: 64 * MiB, network: true}
	all, down := d.box(t, "all", s), d.box(t, "down", s)
	d.start()
	d.sees(all, down)
	at := time.Now()
	for _, args := range [][]string{{"pause", all.name, "--for", "9s"}, {"pause", down.name, "--only", "down"}} {
		if out, errs, code := d.run(args...); code != 0 {
			t.Fatalf("%v ended with %d: %s%s", args, code, out, errs)
		}
	}
	pAll, pDown := all.press(t), down.press(t)
	// 0.6 cores, four times the quota: after less growth a cut saves too little to be made soon.
	pAll.rate.Store(60)
	pDown.rate.Store(60)
	eventually(t, 8*time.Second, "paused for shrinking only, it grows", func() bool { return down.kernel.Quota() > 0.45 })
	if !near(all.kernel.Quota(), 0.15) {
		t.Errorf("paused, it has %v cores", all.kernel.Quota())
	}
	if v, _ := d.view(all); v.State != "paused" && v.State != "steady" {
		t.Errorf("it is %q: %s", v.State, v.Why)
	}
	eventually(t, 15*time.Second, "the pause ends by itself", func() bool { return all.kernel.Quota() > 0.45 })
	if took := time.Since(at); took < 8*time.Second {
		t.Errorf("the pause of 9 s lasted %v", took)
	}
	pAll.rate.Store(0)
	pDown.rate.Store(0)
	most := down.kernel.Quota()
	eventually(
		t,
		40*time.Second,
		"idle, the one that is not paused shrinks",
		func() bool { return all.kernel.Quota() < 0.14 },
	)
	if got := down.kernel.Quota(); got < most-0.01 {
		t.Errorf("paused for shrinking, it went from %v to %v", most, got)
	}
	if _, errs, code := d.run("resume", down.name); code != 0 {
		t.Fatalf("resume ended with %d: %s", code, errs)
	}
	eventually(t, 20*time.Second, "resumed, it shrinks", func() bool { return down.kernel.Quota() < most-0.05 })
	if n := pAll.failed.Load() + pDown.failed.Load(); n > 0 {
		t.Errorf("%d requests failed: %v %v", n, pAll.last.Load(), pDown.last.Load())
	}
	d.stop()
}

// TestScaleThroughGuards: what a person asks for passes the same guards.
func TestScaleThroughGuards(t *testing.T) {
	t.Parallel()
	d := newDaemon(t)
	b := d.box(t, "db", spec{do: "mem --from 96MiB --to 96MiB --rate 0MB", cpus: 0.3, memory: 160 * MiB, swap: 160 * MiB,
		labels: map[string]string{"effiscale.cpu": "0.1..0.5", "effiscale.memory": "64MiB..256MiB"}})
	was := b.inspect()
	d.start()
	d.sees(b)
	eventually(t, 10*time.Second, "the memory is taken", func() bool { return b.kernel.MemoryUse() >= 96*MiB })
	scale := func(want int, args ...string) string {
		t.Helper()
		out, errs, code := d.run(append([]string{"scale", b.name}, args...)...)
		if code != want {
			t.Errorf("scale %v ended with %d, want %d: %s%s", args, code, want, out, errs)
		}
		return out + errs
	}
	scale(0, "--cpu", "0.4", "--memory", "192MiB")
	if !near(b.kernel.Quota(), 0.4) || b.kernel.Memory() != 192*MiB {
		t.Errorf("the kernel has %v cores and %d bytes", b.kernel.Quota(), b.kernel.Memory())
	}
	if h := b.inspect().HostConfig; h.NanoCPUs != 400e6 || h.Memory != 192*MiB || h.MemorySwap != 192*MiB {
		t.Errorf("the Engine has %+v: a person's request is in both at once", h)
	}
	scale(0, "--cpu", "4") // cut to the label's ceiling, and said
	if !near(b.kernel.Quota(), 0.5) {
		t.Errorf("the kernel has %v cores", b.kernel.Quota())
	}
	if text := scale(6, "--cpu", "4"); !strings.Contains(text, "0.5") {
		t.Errorf("beyond the maximum: %q", text)
	}
	scale(0, "--memory", "160MiB")
	if got := b.kernel.Memory(); got < 140*MiB {
		t.Errorf("the limit went to %d MiB with 96 in use", got/MiB)
	}
	scale(0, "--memory", "64MiB") // cut to what its working set needs
	scale(6, "--memory", "64MiB")
	if got := b.kernel.Memory(); got < 140*MiB {
		t.Errorf("the limit went to %d MiB with 96 in use", got/MiB)
	}
	before := b.kernel.Quota()
	scale(0, "--cpu", "0.2", "--dry-run")
	if !near(b.kernel.Quota(), before) {
		t.Error("a dry run changed the quota")
	}
	scale(2, "--cpu", "NaN")
	scale(2, "--memory", "-1")
	if _, _, code := d.run("scale", "no-such-container", "--cpu", "1"); code != 5 {
		t.Errorf("an unknown container: exit code %d", code)
	}
	for _, c := range d.changes(b) {
		if c.Actor == "user" && (c.Result != "applied" || c.Seq == 0) {
			t.Errorf("a person's change is recorded as %+v", c)
		}
	}
	b.same(was)
	d.stop()
}

// TestRestore: uninstalling is one command: every container has the limits that
// it had, in the dialect that it was made with, and keeps running (row 76).
func TestRestore(t *testing.T) {
	t.Parallel()
	d := newDaemon(t, "POLICY_OBSERVE_FIRST=1s")
	boxes := []*box{
		d.box(t, "nano", spec{do: "cpu --cores 0.3", cpus: 0.2, memory: 128 * MiB, swap: 256 * MiB}),
		d.box(t, "quota", spec{do: "cpu --cores 0.3", quota: 10000, period: 50000, memory: 128 * MiB, swap: 128 * MiB}),
		d.box(t, "default", spec{do: "idle", cpus: 0.5, memory: 96 * MiB}),
		d.box(t, "free", spec{do: "cpu --cores 0.1"}),
	}
	var was []observer.Container
	for _, b := range boxes {
		was = append(was, b.inspect())
	}
	d.start()
	d.sees(boxes...)
	for _, b := range boxes[:2] {
		eventually(t, 40*time.Second, b.name+" grows by itself", func() bool { return b.kernel.Quota() > 0.22 })
	}
	for _, b := range boxes[:3] {
		request := api.ScaleRequest{Container: b.name, CPU: 0.7, Memory: 192 * MiB}
		if _, err := api.OpScale.Call(t.Context(), d.Client, request); err != nil {
			t.Errorf("%s: %v", b.name, err)
		}
	}
	eventually(
		t,
		60*time.Second,
		"the one without a limit gets its first",
		func() bool { return boxes[3].kernel.Quota() > 0 },
	)
	out, errs, code := d.run("restore", "--all")
	if code != 0 {
		t.Fatalf("restore ended with %d: %s%s", code, out, errs)
	}
	for i, b := range boxes[:3] {
		if h := b.inspect().HostConfig; h != was[i].HostConfig {
			t.Errorf("%s: the Engine has %+v, had %+v", b.name, h, was[i].HostConfig)
		}
		if !near(b.kernel.Quota(), was[i].HostConfig.Cores()) || b.kernel.Memory() != was[i].HostConfig.Memory {
			t.Errorf("%s: the kernel has %v cores and %d bytes", b.name, b.kernel.Quota(), b.kernel.Memory())
		}
	}
	// The Engine cannot take a limit away: it becomes all that the host has.
	if h := boxes[3].inspect().HostConfig; h.Cores() != 0 && h.Cores() < cores() {
		t.Errorf("%s had no limit and is left with %+v", boxes[3].name, h)
	}
	hold(t, 3*time.Second, "they stay so: their services are paused", func() bool {
		return near(boxes[0].kernel.Quota(), 0.2) && near(boxes[1].kernel.Quota(), 0.2)
	})
	if out, _, code := d.run("restore", "--all"); code != 0 || !strings.Contains(out, "Nothing to restore") {
		t.Errorf("a second time it ended with %d: %s", code, out)
	}
	d.stop()
	for i, b := range boxes {
		b.same(was[i])
	}
}
