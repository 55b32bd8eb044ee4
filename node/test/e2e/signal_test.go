package e2e

import (
	"context"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/effiscale/effiscale/node/api"
)

// TestSignals: SIGHUP reads the configuration anew, all or nothing; SIGPIPE and
// SIGUSR1 are harmless; SIGQUIT dumps all stacks (row 5; the reload of row 59).
func TestSignals(t *testing.T) {
	t.Parallel()
	d := newDaemon(t).start()
	mode := func() string { st, _ := d.status(); return st.Node.Mode }
	for _, s := range []syscall.Signal{syscall.SIGPIPE, syscall.SIGUSR1, syscall.SIGUSR2} {
		d.signal(s)
	}
	hold(t, 500*time.Millisecond, "SIGPIPE and SIGUSR1 are ignored", func() bool { return d.alive() && mode() == "auto" })

	d.configure(strings.Replace(d.config(), "[node]\n", "[node]\nmode = \"observe\"\n", 1))
	d.signal(syscall.SIGHUP)
	eventually(t, 5*time.Second, "SIGHUP reads the configuration anew", func() bool { return mode() == "observe" })
	d.configure(strings.Replace(d.config(), "[node]\n", "[node]\nmode = \"obsreve\"\n", 1))
	d.signal(syscall.SIGHUP)
	eventually(
		t,
		5*time.Second,
		"a wrong file is refused",
		func() bool { return len(d.said("the previous configuration stays in force")) > 0 },
	)
	if got := mode(); got != "observe" {
		t.Errorf("after a wrong file the mode is %q", got)
	}
	if _, errs, code := d.run("reload"); code == 0 || !strings.Contains(errs, `did you mean "observe"`) ||
		!strings.Contains(errs, "x.toml:2") {
		t.Errorf("reload ended with %d: %s", code, errs)
	}
	d.configure(d.config())
	if _, errs, code := d.run("reload"); code != 0 || mode() != "auto" {
		t.Errorf("reload ended with %d, the mode is %q: %s", code, mode(), errs)
	}

	d.signal(syscall.SIGQUIT)
	if code, _ := d.wait(5 * time.Second); code != 2 || strings.Count(string(d.log()), "\ngoroutine ") < 5 {
		t.Errorf("SIGQUIT ended it with %d:\n%s", code, tail(d.log(), 5))
	}
	d.start()
	if took := d.stop(); took > 2*time.Second {
		t.Errorf("stopping took %v", took)
	}
}

// TestStopWithHungEngine: with an Engine that hangs and a request under way,
// SIGTERM ends the daemon in its two seconds, and a second SIGINT at once, with
// 130 (rows 4 and 5). What the request had become is known after the next start.
func TestStopWithHungEngine(t *testing.T) {
	t.Parallel()
	d := newDaemon(t)
	p := newProxy(t, d.path("docker.sock"))
	d.env = append(d.env, "EFFISCALE_DOCKER_HOST=unix://"+p.path)
	b := d.box(t, "web", spec{do: "idle", cpus: 0.2, memory: 64 * MiB})
	hung := func(memory int64) {
		t.Helper()
		d.start()
		d.sees(b)
		d.met(b)
		p.set(hangs, 0)
		ctx, cancel := context.WithCancel(t.Context())
		t.Cleanup(cancel)
		go func() { _, _ = api.OpScale.Call(ctx, d.Client, api.ScaleRequest{Container: b.name, Memory: memory}) }()
		eventually(t, 5*time.Second, "the update hangs", func() bool { return p.requests() > 0 })
	}
	hung(80 * MiB)
	took := d.stop()
	figure(t, "SIGTERM with a hung Engine and an update under way: ended after %d ms", took.Milliseconds())
	if took > 2*time.Second {
		t.Errorf("stopping took %v", took)
	}
	p.set(well, 0)
	hung(96 * MiB)
	d.signal(syscall.SIGINT)
	_ = waitFor(100*time.Millisecond, func() bool { return false })
	d.signal(syscall.SIGINT)
	if code, took := d.wait(2 * time.Second); code != 130 || took > 500*time.Millisecond {
		t.Errorf("the second SIGINT ended it with %d after %v", code, took)
	}
	p.set(well, 0)
	d.start()
	d.sees(b)
	eventually(t, 5*time.Second, "what was under way is closed", func() bool {
		for _, c := range d.changes(b) {
			if c.Result == "open" {
				return false
			}
		}
		return len(d.changes(b)) > 0
	})
	d.stop()
}

// TestFrozen stops the daemon for 12 s while the load changes: when it wakes, it
// decides nothing from what it knew before (row 6); a pass that comes late because
// the daemon had no CPU is told and decides nothing either (row 74).
func TestFrozen(t *testing.T) {
	t.Parallel()
	d := newDaemon(t)
	b := d.box(t, "web", spec{do: "http --work 10ms", cpus: 1, memory: 64 * MiB, network: true,
		labels: map[string]string{"effiscale.cpu": "0.1..1.5"}})
	p := b.press(t)
	p.rate.Store(10)
	d.start()
	d.sees(b)
	d.met(b)
	// In 10 s it would take half of the quota of a load that uses a tenth of it.
	_ = waitFor(6*time.Second, func() bool { return false })
	d.signal(syscall.SIGSTOP)
	stopped := time.Now()
	p.rate.Store(70)
	_ = waitFor(12*time.Second, func() bool { return false })
	before := len(d.said("tick is late"))
	d.signal(syscall.SIGCONT)
	woke := time.Now()
	hold(t, 6*time.Second, "no cut is made for the load of before", func() bool { return b.kernel.Quota() > 0.6 })
	if len(d.said("tick is late")) == before {
		t.Error("the log does not tell of the gap")
	}
	for _, c := range d.changes(b) {
		if c.At.After(stopped) && c.At.Before(woke) {
			t.Errorf("decided while it was stopped: %+v", c)
		}
	}
	before = len(d.said("tick is late"))
	d.signal(syscall.SIGSTOP)
	_ = waitFor(1500*time.Millisecond, func() bool { return false })
	d.signal(syscall.SIGCONT)
	eventually(t, 5*time.Second, "a late pass is told", func() bool { return len(d.said("tick is late")) > before })
	p.stop()
	if n := p.failed.Load(); n > 0 {
		t.Errorf("%d requests failed: %v", n, p.last.Load())
	}
	d.stop()
}
