package demo

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/effiscale/effiscale/docker"
	"github.com/effiscale/effiscale/docker/cgroup"
	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/node/demo/process"
)

// nobody is a user id that no user has.
const nobody = 64321

// asRoot leaves a test out for other users, unless the environment requires it.
func asRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("EFFISCALE_REQUIRE_ENGINE") == "1" {
		t.Fatal("it needs root")
	}
	t.Skip("left out: it needs root")
}

// long leaves a test out that repeats the demo's half minute in another way.
func long(t *testing.T) {
	t.Helper()
	if os.Getenv("EFFISCALE_LONG") != "1" {
		t.Skip("left out: it takes long, and runs with EFFISCALE_LONG=1")
	}
}

// groups leaves a test out where no control groups can be created.
func groups(t *testing.T) *cgroup.Host {
	t.Helper()
	asRoot(t)
	h, err := cgroup.Open(cgroup.Options{})
	if err == nil {
		var p *cgroup.Parent
		if p, err = h.CreateParent("effiscale-test-" + idOf(os.Getpid())); err == nil {
			err = p.Remove()
		}
	}
	if err != nil {
		if os.Getenv("EFFISCALE_REQUIRE_ENGINE") == "1" {
			t.Fatal(err)
		}
		t.Skipf("left out: no control group can be created: %v", err)
	}
	return h
}

func says(t *testing.T, out string, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(out, text) {
			t.Errorf("it does not say %q:\n%s", text, out)
		}
	}
}

// TestEngineDemoOfAMember: a member of the socket's group sees the demo in containers, and
// is told what root would add.
func TestEngineDemoOfAMember(t *testing.T) {
	long(t)
	c := engine(t)
	asRoot(t)
	socket := strings.TrimPrefix(docker.DefaultHost, "unix://")
	if host := os.Getenv("DOCKER_HOST"); host != "" {
		socket = strings.TrimPrefix(host, "unix://")
	}
	var st syscall.Stat_t
	if err := syscall.Stat(socket, &st); err != nil || st.Mode&0o060 != 0o060 {
		t.Fatalf("the group of %s cannot use it: mode %o, %v", socket, st.Mode, err)
	}
	file := program(t)
	again(t, func() bool {
		d := startAs(t, file, &syscall.Credential{Uid: nobody, Gid: nobody, Groups: []uint32{st.Gid}})
		code := d.wait(t)
		if code == exitBusy {
			return false
		}
		out := d.out.String()
		says(t, out, "limits are changed through the Engine", "sudo "+file+" demo", "second run", "cpu 0.",
			"Nothing of the demo is left behind")
		if found := left(t, c, d.id); code != 0 || len(found) > 0 || strings.Contains(strings.ToLower(out), "simulated") {
			t.Errorf("exit %d, left behind: %q\n%s", code, found, out)
		}
		return true
	})
}

// TestEngineDemoWithoutAccess: a user whom the Engine refuses is told exactly what to type, and
// sees a simulation that says so.
func TestEngineDemoWithoutAccess(t *testing.T) {
	engine(t)
	asRoot(t)
	file := program(t)
	d := startAs(t, file, &syscall.Credential{Uid: nobody, Gid: nobody})
	code := d.wait(t)
	out := d.out.String()
	says(t, out, "no access to the Docker Engine", "\n    sudo "+file+" demo\n", "sudo usermod -aG", "SIMULATED",
		"first run: fixed limits (simulated)",
		"second run: the same load, with EffiScale (simulated)", "load, simulated", "nothing was changed on this host")
	if _, err := os.Stat(dirOf(d.id)); code != 0 || err == nil {
		t.Errorf("exit %d, directory %v", code, err)
	}
}

// leftOfProcesses is what a demo of processes has left.
func leftOfProcesses(h *cgroup.Host, id string) []string {
	found := h.Parents(groupOf(id))
	if _, err := os.Stat(dirOf(id)); err == nil {
		found = append(found, dirOf(id))
	}
	return found
}

// TestDemoOfProcesses: without an Engine root sees the load in real control groups, and
// nothing is left, however it is interrupted.
func TestDemoOfProcesses(t *testing.T) {
	h, file := groups(t), program(t)
	t.Setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
	for _, tt := range []struct {
		name, at string
		signal   syscall.Signal
		code     int
	}{
		{"to its end", "", 0, 0},
		{"in the first run", " 1s  demand", syscall.SIGINT, exitInterrupted},
		{"while its daemon starts", "starting a daemon", syscall.SIGTERM, exitInterrupted},
		{"in the second run", "second run", syscall.SIGINT, exitInterrupted},
	} {
		t.Run(tt.name, func(t *testing.T) {
			again(t, func() bool {
				d := start(t, file)
				if tt.at != "" {
					if !d.reach(t, tt.at) {
						d.wait(t)
						return false
					}
					if err := d.cmd.Process.Signal(tt.signal); err != nil {
						t.Fatal(err)
					}
				}
				code := d.wait(t)
				if code == exitBusy {
					return false
				}
				out := d.out.String()
				says(t, out, "No Docker Engine answers", "a plain process in a control group")
				if tt.at == "" {
					says(t, out, "second run", "cpu 0.", "latency p99", "Nothing of the demo is left behind")
				}
				found := append(leftOfProcesses(h, d.id), daemonsOf(t, d.id)...)
				if code != tt.code || len(found) > 0 || strings.Contains(strings.ToLower(out), "simulated") {
					t.Errorf("exit %d, left behind: %q\n%s", code, found, out)
				}
				return true
			})
		})
	}
}

// TestDemoOfProcessesKilled: processes and daemon of a demo that was killed end with it, and
// the next demo removes its control group and directory.
func TestDemoOfProcessesKilled(t *testing.T) {
	long(t)
	h, file := groups(t), program(t)
	t.Setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
	var d *demonstration
	again(t, func() bool {
		d = start(t, file)
		return d.reach(t, "second run") || d.wait(t) != exitBusy
	})
	if err := d.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	d.wait(t)
	if found := leftOfProcesses(h, d.id); len(found) != 2 {
		t.Errorf("killed with -9 it left only %q: this test proves nothing", found)
	}
	again(t, func() bool { return len(daemonsOf(t, d.id)) == 0 })
	again(t, func() bool {
		err := survey(t.Context(), nil)
		if err != nil && !errors.Is(err, ErrBusy) {
			t.Fatal(err)
		}
		return err == nil
	})
	if found := leftOfProcesses(h, d.id); len(found) > 0 {
		t.Errorf("after the next demo there is still %q", found)
	}
}

// TestDemoSimulated: without an Engine and without root the demo is simulated, whatever the
// shape, in no time, and the same each time.
func TestDemoSimulated(t *testing.T) {
	if os.Geteuid() == 0 {
		file := program(t)
		t.Setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
		d := startAs(t, file, &syscall.Credential{Uid: nobody, Gid: nobody})
		code := d.wait(t)
		says(t, d.out.String(), "No Docker Engine answers", "sudo "+file+" demo", "SIMULATED",
			"second run: the same load, with EffiScale (simulated)")
		if code != 0 {
			t.Errorf("exit %d", code)
		}
	}
	for _, shape := range shapes() {
		t.Run(shape, func(t *testing.T) {
			var outs [2]output
			for i := range outs {
				d := &demo{Options: Options{Shape: shape, Plain: true, Out: &outs[i], Command: "effiscale"}, kind: simulated,
					plan: planFor(shape, time.Minute, 4, 4)}
				d.screen = newScreen(d, nil)
				began := time.Now()
				fixed, scaled, err := d.simulate(t.Context())
				if err != nil || time.Since(began) > 10*time.Second {
					t.Fatalf("%v after %s", err, time.Since(began))
				}
				if scaled.failed > fixed.failed || scaled.kills > fixed.kills || scaled.p99 > fixed.p99 ||
					fixed.sent != scaled.sent {
					t.Errorf("with EffiScale it is worse: %+v, %+v", fixed, scaled)
				}
				if shape == "leak" && (fixed.kills == 0 || scaled.kills > 0 || scaled.peakMem > d.plan.maxMem) {
					t.Errorf("%d kills, with EffiScale %d; up to %s", fixed.kills, scaled.kills, scaled.peakMem)
				}
				if shape != "leak" && (fixed.failed == 0 || scaled.failed > 0 || scaled.peakCPU > d.plan.maxCPU) {
					t.Errorf("%d errors, with EffiScale %d; up to %g cores", fixed.failed, scaled.failed, scaled.peakCPU)
				}
				if err := d.summary(fixed, scaled); err != nil {
					t.Fatal(err)
				}
			}
			if outs[0].String() != outs[1].String() {
				t.Error("two simulations differ")
			}
		})
	}
}

// TestProcessEngine: containers that are processes have the limits of the record in the
// kernel, follow an update, are killed by it over their memory, start again, and are gone
// after their removal.
func TestProcessEngine(t *testing.T) {
	h, file := groups(t), program(t)
	parent := "effiscale-test-engine-" + idOf(os.Getpid())
	e, err := process.Open(process.Options{Socket: filepath.Join(t.TempDir(), "sock"), Program: file, Parent: parent})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := e.Close(); err != nil || len(h.Parents(parent)) > 0 {
			t.Errorf("%v, left behind: %q", err, h.Parents(parent))
		}
	}()
	c, err := docker.Open(docker.Options{Host: "unix://" + e.Socket()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	events := make(chan knowledge.Event, 64)
	go c.Watch(t.Context(), func(ev knowledge.Event) {
		if ev.Kind != knowledge.EventResync {
			events <- ev
		}
	})
	next := func(want knowledge.EventKind) {
		t.Helper()
		select {
		case ev := <-events:
			if ev.Kind != want {
				t.Errorf("event %v, want %v", ev.Kind, want)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("no event %v", want)
		}
	}
	again(t, func() bool { up, _, _ := c.State(); return up })
	p := planFor("leak", time.Minute, 2, 2)
	id, err := c.Create(t.Context(), p.spec("1-1", "test", nil))
	if err != nil {
		t.Fatal(err)
	}
	r := &run{demo: &demo{plan: p, engine: c, cgroup: h}, id: id, sampler: &sampler{engine: c, host: h}}
	r.gen = newGenerator(&r.plan, time.Now())
	if err := r.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer r.sampler.close()
	limits := func(cpu knowledge.NanoCPU, memory knowledge.Bytes) {
		t.Helper()
		s, err := r.sampler.read(t.Context())
		k, inspectErr := c.Inspect(t.Context(), id)
		if err != nil || inspectErr != nil || s.Quota != cpu || s.MemoryLimit != memory || k.Limits.CPU != cpu ||
			k.Limits.Memory != memory {
			t.Errorf("kernel %v %v, record %+v, %v, %v; want %v %v", s.Quota, s.MemoryLimit, k.Limits, err, inspectErr, cpu,
				memory)
		}
	}
	limits(p.limits.CPU, p.limits.Memory)
	if err := c.UpdateCPU(t.Context(), id, knowledge.Limits{CPU: knowledge.OneCPU / 2}); err != nil {
		t.Fatal(err)
	}
	for _, memory := range []knowledge.Bytes{128 * knowledge.MiB, 64 * knowledge.MiB} {
		if err := c.UpdateMemory(t.Context(), id, memory, memory); err != nil {
			t.Fatal(err)
		}
		limits(knowledge.OneCPU/2, memory)
	}
	if err := r.gen.call(t.Context(), "POST", "/hold/100000000"); err == nil {
		t.Error("it holds more than its limit")
	}
	again(t, func() bool {
		k, err := c.Inspect(t.Context(), id)
		return err == nil && k.State == knowledge.StateExited
	})
	if err := r.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	limits(knowledge.OneCPU/2, 64*knowledge.MiB)
	if err := c.Remove(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if all, err := c.List(t.Context()); err != nil || slices.ContainsFunc(all,
		func(k knowledge.Container) bool { return k.ID == id }) {
		t.Errorf("%v, %v", all, err)
	}
	for _, kind := range []knowledge.EventKind{
		knowledge.EventCreate, knowledge.EventStart, knowledge.EventUpdate, knowledge.EventUpdate, knowledge.EventUpdate,
		knowledge.EventOOM, knowledge.EventDie, knowledge.EventStart, knowledge.EventDie, knowledge.EventDestroy,
	} {
		next(kind)
	}
}
