package vm

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// stage is one thing that must hold in the machine. They run in order: each
// finds what the ones before it left.
type stage struct {
	name string
	run  func(*testing.T)
}

func stages() []stage {
	return []stage{
		{"install", install},
		{"doctor", doctor},
		{"grow", grow},
		{"shrink", shrink},
		{"memory guard", memoryGuard},
		{"row 101 an update kills nothing", updateBesideGrowth},
		{"row 65 OOM kill", oomKill},
		{"daemon-reload", daemonReload},
		{"drift is repaired", drift},
		{"row 101 a start", startsAgain},
		{"row 63 docker update by hand", byHand},
		{"kill -9", killed},
		{"watchdog", hung},
		{"the group's commands", group},
		{"without root", rootless},
		{"demo without an Engine", demoOfProcesses},
		{"stop", stopped},
		{"row 76 uninstall", uninstall},
	}
}

// busy is how many cores vm-grow uses. The rest of the machine is for its Engine.
const busy = 0.4

// TestGuest runs inside the machine.
func TestGuest(t *testing.T) {
	if os.Getenv(inGuest) == "" {
		t.Skip("LEFT OUT: runs in a virtual machine, started by TestVM (EFFISCALE_VM)")
	}
	run(t, "tar", "cf", "load.tar", "load")
	run(t, "docker", "import", "load.tar", "load")
	for _, s := range stages() {
		if !t.Run(s.name, s.run) {
			t.Log(try("effiscale", "status"))
			t.Fatal("the later stages build on this one")
		}
	}
}

// install does what README.md says, with values of time that fit a test.
func install(t *testing.T) {
	commands(t, "install-commands")
	write(t, "/etc/systemd/system/effiscale.service.d/test.conf", "[Service]\n"+
		"Environment=EFFISCALE_POLICY_YIELD_FOR=40s\n"+
		"Environment=EFFISCALE_DOCKER_TIMEOUT=1m\n") // the emulated Engine needs seconds
	run(t, "systemctl", "daemon-reload")
	run(t, "systemctl", "restart", "effiscale")
	if state := try("systemctl", "is-active", "effiscale"); state != "active" {
		t.Fatalf("is-active: %s", state)
	}
	s := status(t)
	if !s.Node.Ready || s.Node.Cgroup != "v2 systemd" || s.Node.Actuator != "kernel" {
		t.Errorf(
			"ready %v, cgroup %q, actuator %q; want true, v2 systemd, kernel",
			s.Node.Ready,
			s.Node.Cgroup,
			s.Node.Actuator,
		)
	}
	until(t, "a status line for systemd", func() bool {
		return try("systemctl", "show", "effiscale", "-p", "StatusText", "--value") != ""
	})
	if mode := try("stat", "-c", "%a %U:%G", "/run/effiscale/effiscale.sock"); mode != "660 root:effiscale" {
		t.Errorf("the socket is %s", mode)
	}
}

func doctor(t *testing.T) {
	t.Log(run(t, "effiscale", "doctor"))
}

func grow(t *testing.T) {
	c := start(t, "vm-grow", "--cpus=0.2 -m 64m", "effiscale.cpu=0.05..1.5", fmt.Sprintf("cpu --cores %g", busy))
	until(t, "a sufficient quota in the kernel", func() bool { return c.quota(t) >= busy })
	until(t, "a start with as much", func() bool { return c.engineCPU(t) >= busy })
	// Quota moves come into the history once an interval, folded together.
	until(t, "explain to say why", func() bool {
		h := explain(t, c.name).History
		return len(h) > 0 && h[0].Why != ""
	})
	if h := try("effiscale", "history", c.name); !strings.Contains(h, "cpu") {
		t.Errorf("history: %s", h)
	}
}

func shrink(t *testing.T) {
	c := start(t, "vm-idle", "--cpus=1 -m 64m", "effiscale.cpu=0.1..1.5", "idle")
	until(t, "the floor", func() bool { return c.quota(t) < 0.2 })
	if q := c.quota(t); q < 0.1 {
		t.Errorf("%.2f cores are under the label's 0.1", q)
	}
}

// memoryGuard: a container that grows is never killed.
func memoryGuard(t *testing.T) {
	c := start(
		t,
		"vm-mem",
		"--cpus=0.5 -m 64m --memory-swap 64m",
		"effiscale.memory=64MiB..512MiB",
		"mem --from 16MiB --to 200MiB --rate 4MB",
	)
	until(t, "the limit to rise", func() bool { return c.memory(t) > 200<<20 })
	until(t, "200 MiB in use", func() bool { return c.number(t, "memory.current") > 200<<20 })
	if kills := c.event(t, "oom_kill"); kills != 0 || !c.running(t) {
		t.Errorf("%d OOM kills, running %v", kills, c.running(t))
	}
	if engine := c.engineMemory(t); engine != 512<<20 || c.memory(t) > engine {
		t.Errorf("it starts with %d bytes, in force are %d; want the label's 512 MiB, and less", engine, c.memory(t))
	}
	run(t, "docker", "rm", "-f", c.name)
}

// updateBesideGrowth: each update of the Engine puts the whole record in force, also less memory
// than is in use by now: that is put on record first.
func updateBesideGrowth(t *testing.T) {
	c := start(t, "vm-both", "--cpus=0.5 -m 64m --memory-swap 64m", "effiscale.cpu=0.05..1.5",
		"mem --from 16MiB --to 120MiB --rate 4MB")
	until(t, "more in use than it started with", func() bool { return c.number(t, "memory.current") > 100<<20 })
	t.Logf("on record are %d bytes of memory", c.engineMemory(t))
	run(t, "effiscale", "scale", c.name, "--cpu", "0.8")
	until(t, "the CPU on record", func() bool { return near(c.engineCPU(t), 0.8) })
	if kills := c.event(t, "oom_kill"); kills != 0 || !c.running(t) || c.engineMemory(t) < 100<<20 {
		t.Errorf("%d OOM kills, running %v, on record %d bytes", kills, c.running(t), c.engineMemory(t))
	}
	run(t, "docker", "rm", "-f", c.name)
}

// oomKill: a leap over the limit kills, and the next life gets more.
func oomKill(t *testing.T) {
	c := start(
		t,
		"vm-oom",
		"--cpus=0.5 -m 64m --memory-swap 64m --restart always",
		"effiscale.memory=64MiB..256MiB",
		"mem --from 90MiB --to 90MiB",
	)
	until(t, "the limit to rise after the kill", func() bool { return c.engineMemory(t) > 90<<20 })
	until(t, "a life with the new limit", func() bool { return c.running(t) && c.number(t, "memory.current") > 80<<20 })
	run(t, "docker", "rm", "-f", c.name)
}

// daemonReload: systemd puts its own values back; what the container needs holds.
func daemonReload(t *testing.T) {
	c := find(t, "vm-grow")
	run(t, "systemctl", "daemon-reload")
	until(t, "a sufficient quota again", func() bool { return c.quota(t) >= busy })
}

// drift: somebody writes to the kernel's file, behind the Engine's back. Now and
// then a move of the reflex's own overwrites that before it is noticed.
func drift(t *testing.T) {
	c := find(t, "vm-idle")
	before := c.quota(t)
	for range 4 {
		write(t, c.file(t, "cpu.max"), "150000 100000")
		until(t, "the repair", func() bool { return c.quota(t) < 2*before })
		for range 10 {
			if n := status(t).Summary.DriftRepaired; n > 0 {
				t.Logf("%d repairs are counted", n)
				return
			}
			time.Sleep(500 * time.Millisecond)
		}
	}
	t.Fatal("no repair is counted after four drifts")
}

// startsAgain: a container that was cut starts with the label's bound, with the daemon stopped
// or not, and is cut again; daemon-reload puts the bound in force, which is repaired.
func startsAgain(t *testing.T) {
	c := find(t, "vm-idle")
	cut := func(what string) { until(t, what, func() bool { return c.quota(t) < 0.3 }) }
	cut("a cut")
	bound := c.engineCPU(t)
	if bound < 1 || c.quota(t) > bound/2 {
		t.Fatalf("it starts with %.2f cores, and has %.2f", bound, c.quota(t))
	}
	run(t, "systemctl", "stop", "effiscale")
	run(t, "docker", "restart", "-t", "0", c.name)
	if q, m := c.quota(t), c.memory(t); !near(q, bound) || m != c.engineMemory(t) {
		t.Errorf("it started with %.2f cores and %d bytes; on record are %.2f and %d", q, m, bound, c.engineMemory(t))
	}
	run(t, "systemctl", "start", "effiscale")
	cut("a cut after the start")
	run(t, "docker", "restart", "-t", "0", c.name)
	cut("a cut after a restart")
	run(t, "systemctl", "daemon-reload")
	cut("a cut after daemon-reload")
	if got := c.engineCPU(t); !near(got, bound) {
		t.Errorf("it starts with %.2f cores, before with %.2f", got, bound)
	}
}

// byHandCores is what a person gives vm-idle.
const byHandCores = 0.7

// byHand: a person's change is respected for a while, then the policy holds.
func byHand(t *testing.T) {
	c := find(t, "vm-idle")
	run(t, "docker", "update", "--cpus", fmt.Sprint(byHandCores), c.name)
	until(t, "it to be noticed", func() bool { return c.view(t).State == "yielding" })
	if q := c.quota(t); !near(q, byHandCores) {
		t.Errorf("the kernel holds %.2f cores, want the person's %.1f", q, byHandCores)
	}
	until(t, "the policy after the time to yield", func() bool { return c.quota(t) < 0.3 })
}

// killed: the daemon's death changes nothing for the containers.
func killed(t *testing.T) {
	c := find(t, "vm-grow")
	life, before := c.life(t), restarts(t)
	run(t, "systemctl", "kill", "-s", "KILL", "effiscale")
	until(t, "the restart", func() bool { return restarts(t) > before })
	until(t, "readiness", ready)
	if now := c.life(t); now != life {
		t.Errorf("the container's life was %s and is %s", life, now)
	}
	if q := c.quota(t); q < busy {
		t.Errorf("the quota fell to %.2f", q)
	}
}

// hung: a daemon that does nothing is ended and started anew.
func hung(t *testing.T) {
	before := restarts(t)
	run(t, "systemctl", "kill", "-s", "STOP", "effiscale")
	until(t, "the watchdog", func() bool { return restarts(t) > before })
	until(t, "readiness", ready)
}

// group: members of the group effiscale give orders, others do not.
func group(t *testing.T) {
	nobody := []string{"--reuid=65534", "--clear-groups", "effiscale", "pause", "vm-idle", "--for", "1s"}
	run(t, "setpriv", append([]string{"--regid=effiscale"}, nobody...)...)
	if err := exec.Command("setpriv", append([]string{"--regid=65534"}, nobody...)...).Run(); err == nil ||
		!strings.Contains(err.Error(), "exit status 77") {
		t.Errorf("an outsider's order: %v, want exit status 77", err)
	}
}

// rootless: the drop-in makes a daemon that changes limits through the Engine.
func rootless(t *testing.T) {
	const dropIn = "/etc/systemd/system/effiscale.service.d/engine-actuator.conf"
	run(t, "install", "-Dm644", "systemd/engine-actuator.conf", dropIn)
	run(t, "systemctl", "daemon-reload")
	run(t, "systemctl", "restart", "effiscale")
	if s := status(t); s.Node.Actuator != "engine" {
		t.Errorf("actuator %q", s.Node.Actuator)
	}
	if user := try("sh", "-c", "ps -o user= -p $(systemctl show effiscale -p MainPID --value)"); !strings.HasPrefix(
		user,
		"effisca",
	) {
		t.Errorf("runs as %s", user)
	}
	c := start(t, "vm-user", "--cpus=0.2 -m 64m", "effiscale.cpu=0.05..1.5", fmt.Sprintf("cpu --cores %g", busy))
	until(t, "a sufficient quota by the Engine", func() bool { return c.engineCPU(t) >= busy && c.quota(t) >= busy })
	run(t, "docker", "rm", "-f", c.name)
	run(t, "rm", dropIn)
	run(t, "systemctl", "daemon-reload")
	run(t, "systemctl", "restart", "effiscale")
}

// demoOfProcesses: without an Engine the demo's load is a process in a control group of
// version 2, whose limits follow, and nothing is left.
func demoOfProcesses(t *testing.T) {
	out := run(t, "env", "DOCKER_HOST=unix:///nowhere.sock", "effiscale", "demo", "--plain", "--duration", "20s")
	for _, text := range []string{"cgroup version 2", "second run", "Nothing of the demo is left behind"} {
		if !strings.Contains(out, text) {
			t.Errorf("it does not say %q:\n%s", text, out)
		}
	}
	if left := try("sh", "-c", "ls -d /sys/fs/cgroup/effiscale-demo* /tmp/effiscale-demo* 2>/dev/null"); left != "" {
		t.Errorf("left behind: %s", left)
	}
}

// stopped: the daemon's end changes nothing, and the Engine knows the limits.
func stopped(t *testing.T) {
	c := find(t, "vm-grow")
	quota, life := c.quota(t), c.life(t)
	began := time.Now()
	run(t, "systemctl", "stop", "effiscale")
	t.Logf("stopped after %v of emulated time", time.Since(began).Round(10*time.Millisecond))
	if result := try("systemctl", "show", "effiscale", "-p", "Result", "--value"); result != "success" {
		t.Errorf("the unit ended with %s", result)
	}
	if now := c.quota(t); now < 0.9*quota || c.life(t) != life {
		t.Errorf("quota %.2f → %.2f, life %s → %s", quota, now, life, c.life(t))
	}
	if engine := c.engineCPU(t); engine < 0.9*quota {
		t.Errorf("the Engine was left at %.2f cores, the kernel holds %.2f", engine, quota)
	}
	run(t, "systemctl", "start", "effiscale")
	until(t, "readiness", ready)
}

// uninstall puts the original limits back, as README.md says: what the container
// was made with, or what a person chose since (byHand).
func uninstall(t *testing.T) {
	commands(t, "uninstall-commands")
	for name, cores := range map[string]float64{"vm-grow": 0.2, "vm-idle": byHandCores} {
		c := find(t, name)
		if !c.running(t) || !near(c.engineCPU(t), cores) || !near(c.quota(t), cores) || c.engineMemory(t) != 64<<20 ||
			c.memory(t) != 64<<20 {
			t.Errorf("%s: Engine %.2f cores %d bytes, kernel %.2f cores %d bytes, running %v; want %.2f cores and 64 MiB",
				name, c.engineCPU(t), c.engineMemory(t), c.quota(t), c.memory(t), c.running(t), cores)
		}
	}
	if left := try("sh", "-c", "ls -d /usr/local/bin/effiscale /etc/effiscale /etc/systemd/system/effiscale.service* /run/effiscale /var/lib/effiscale 2>/dev/null"); left != "" {
		t.Errorf("left behind: %s", left)
	}
}
