package e2e

import (
	"slices"
	"syscall"
	"testing"
	"time"
)

// starts are the ways in which a container's process is started again.
var starts = []string{"restarted", "crashed", "while the daemon is stopped", "while the daemon is killed"}

// startBox is a container that was cut, and what it must start with.
type startBox struct {
	*box
	how           string
	cores, memory float64 // 0: no limit
	cut           float64 // the memory limit in force before, in bytes
}

// TestStartsWithItsHighest: a container that was cut to little use starts again with what it
// was made with, or with the policy's upper bound, whether the daemon runs, is stopped or
// was killed, and settles within seconds (row 101).
func TestStartsWithItsHighest(t *testing.T) {
	t.Parallel()
	d := newDaemon(t, "POLICY_OBSERVE_FIRST=2s", "POLICY_SHRINK_AFTER=10s", "MONITOR_SLOW_EVERY=1s",
		"STORE_FLUSH_EVERY=1s", "LIMITS_HOST_MEMORY_RESERVE=0")
	var all []*startBox
	for i, how := range starts {
		suffix := "-" + string(rune('a'+i))
		all = append(all,
			&startBox{box: d.box(t, "free"+suffix, spec{do: "idle", restart: "always"}), how: how},
			&startBox{box: d.box(t, "made"+suffix, spec{do: "idle", cpus: 1, memory: 256 * MiB, swap: 256 * MiB,
				restart: "always"}), how: how, cores: 1, memory: 256 * MiB},
			&startBox{box: d.box(t, "named"+suffix, spec{do: "idle", restart: "always",
				labels: map[string]string{"effiscale.cpu": "0.05..0.8", "effiscale.memory": "32MiB..400MiB"}}),
				how: how, cores: 0.8, memory: 400 * MiB})
	}
	d.start()
	for _, b := range all {
		eventually(t, 60*time.Second, b.name+" is cut", func() bool {
			q, m := b.kernel.Quota(), b.kernel.Memory()
			return q > 0 && q < 0.3 && m > 0 && (b.memory == 0 || float64(m) < b.memory)
		})
	}
	again := func(how string) {
		t.Helper()
		for _, b := range all {
			if b.how == how {
				b.again(how)
			}
		}
	}
	// A crash soon after a cut is taken for its harm: those that crash are not cut until then,
	// and a start of the daemon forgets the cuts that it watched.
	each := func(how, command string, flags ...string) {
		t.Helper()
		for _, b := range all {
			if b.how == how {
				if out, errs, code := d.run(append([]string{command, b.name}, flags...)...); code != 0 {
					t.Fatalf("%s of %s ended with %d: %s%s", command, b.name, code, out, errs)
				}
			}
		}
	}
	each("crashed", "pause", "--only", "down")
	d.stop()
	again("while the daemon is stopped")
	d.start()
	d.kill()
	again("while the daemon is killed")
	d.start()
	d.sees(all[len(all)-1].box)
	again("restarted")
	again("crashed")
	each("crashed", "resume")
	for _, b := range all {
		b.settles()
		for _, c := range d.changes(b.box) {
			if c.Actor == "external" {
				t.Errorf("%s: a start counts as somebody's change: %+v", b.name, c)
			}
		}
	}
	d.stop()
	if h := all[0].inspect().HostConfig; h.Cores() != 0 || h.Memory != 0 {
		t.Errorf("one without limits has them on record: %+v", h)
	}
}

// again starts the container's process again, and checks what is in force then.
func (b *startBox) again(how string) {
	b.t.Helper()
	b.cut = float64(b.kernel.Memory())
	pid := b.inspect().State.Pid
	if how == "crashed" {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			b.t.Fatal(err)
		}
		eventually(b.t, 20*time.Second, b.name+" runs again", func() bool {
			i := b.inspect()
			return i.State.Pid != pid && i.State.Pid > 0
		})
	} else {
		b.do("POST", "/restart?t=0", nil)
	}
	b.meet()
	q, m := b.kernel.Quota(), float64(b.kernel.Memory())
	if q > 0 && (b.cores == 0 || q < b.cores*0.99) || m > 0 && m < 1<<60 && (b.memory == 0 || m < b.memory) {
		b.t.Errorf("%s, %s: it starts with %.2f cores and %.0f MiB", b.name, how, q, m/MiB)
	}
}

// settles waits until the container is cut again.
func (b *startBox) settles() {
	b.t.Helper()
	eventually(b.t, 30*time.Second, b.name+" settles", func() bool {
		q, m := b.kernel.Quota(), float64(b.kernel.Memory())
		return q > 0 && q < 0.3 && m > 0 && (m <= b.cut*1.05 || m <= 64*MiB)
	})
}

// TestCeilingBelowUse: what a container starts with is brought to the policy's upper bound
// without harm to what runs (row 102).
func TestCeilingBelowUse(t *testing.T) {
	t.Parallel()
	d := newDaemon(t)
	b := d.box(t, "big", spec{do: "mem --from 96MiB --to 96MiB --rate 0MB", cpus: 0.5, memory: 512 * MiB, swap: 512 * MiB,
		labels: map[string]string{"effiscale.memory": "32MiB..64MiB"}})
	was := b.inspect()
	eventually(t, 10*time.Second, "the memory is taken", func() bool { return b.kernel.MemoryUse() > 90*MiB })
	d.start()
	d.sees(b)
	d.met(b)
	hold(t, 5*time.Second, "it is not cut below its use", func() bool { return b.kernel.Memory() >= 96*MiB })
	b.same(was)
	d.stop()
}

// TestReservation: a memory limit below the reservation, which an update takes and the next
// start refuses, is never sent; one that is there is named and repaired (row 104).
func TestReservation(t *testing.T) {
	t.Parallel()
	d := newDaemon(t, "POLICY_SHRINK_AFTER=10s", "MONITOR_SLOW_EVERY=1s")
	made := func(name string, labels map[string]string) *box {
		b := d.box(t, name, spec{do: "idle", cpus: 0.5, memory: 256 * MiB, swap: 256 * MiB, reservation: 200 * MiB,
			labels: labels})
		return b
	}
	free, named := made("free", nil), made("named", map[string]string{"effiscale.memory": "32MiB..100MiB"})
	bad, stopped := made("bad", nil), made("stopped", nil)
	for _, b := range []*box{bad, stopped} { // as an earlier version, or a person, left it
		b.update(map[string]any{"Memory": 64 * MiB, "MemorySwap": 64 * MiB})
	}
	stopped.do("POST", "/stop?t=0", nil)
	d.start()
	all := []*box{free, named, bad, stopped}
	for _, b := range all {
		eventually(t, 30*time.Second, b.name+" can be started", func() bool {
			return b.inspect().HostConfig.Memory >= 200*MiB
		})
	}
	if _, errs, code := d.run("scale", free.name, "--memory", "64MiB"); code != 0 && code != 6 {
		t.Errorf("scale ended with %d: %s", code, errs)
	}
	eventually(t, 40*time.Second, "what is in force may be less", func() bool { return named.kernel.Memory() < 200*MiB })
	stopped.start()
	for _, b := range all {
		b.do("POST", "/stop?t=0", nil)
		b.start() // fails the test when the Engine refuses
	}
	d.run("restore", "--all")
	for _, b := range all {
		b.do("POST", "/stop?t=0", nil)
		b.start()
	}
	d.stop()
	if slices.ContainsFunc(all, func(b *box) bool { return b.inspect().HostConfig.Memory < 200*MiB }) {
		t.Error("a limit is below the reservation")
	}
}
