package hosts

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/effiscale/effiscale/docker/observer"
	"github.com/effiscale/effiscale/node/api"
)

// TestHarnessNetwork: a fault that is not one would make every scenario pass.
func TestHarnessNetwork(t *testing.T) {
	hs := hosts(t, 1, 2)
	a, b := hs[0], hs[1]
	at := b.echo()
	eventually(t, 5*time.Second, "the echo answers", func() bool { back, _ := a.probe(at); return back > 90 })
	near := func(what string, least, most int, fast, slow time.Duration) {
		t.Helper()
		back, trip := a.probe(at)
		t.Logf("%s: %d of %d came back in %v", what, back, probes, trip)
		if back < least || back > most || back > 0 && (trip < fast || trip > slow) {
			t.Errorf("%s: %d of %d came back in %v, want %d to %d in %v to %v", what, back, probes, trip, least, most, fast,
				slow)
		}
	}
	near("whole", 95, 100, 0, 30*time.Millisecond)
	rig.net.spoil(0.3, 0, 0)
	near("30 % loss, there and back", 30, 68, 0, 30*time.Millisecond)
	rig.net.spoil(0, 60*time.Millisecond, 40*time.Millisecond)
	near("60 ms ± 40 ms", 95, 100, 90*time.Millisecond, 180*time.Millisecond)
	rig.net.heal()
	rig.net.cut([]int{b.n}, []int{a.n})
	near("the way back is cut", 0, 0, 0, 0)
	rig.net.heal()
	rig.net.isolate(b.n)
	near("isolated", 0, 0, 0, 0)
	rig.net.heal()
	b.unplug()
	near("no cable", 0, 0, 0, 0)
	b.plug()
	near("healed", 95, 100, 0, 30*time.Millisecond)
}

// TestHarnessDaemon: the faults of one host, without a cluster.
func TestHarnessDaemon(t *testing.T) {
	needAll(t)
	h := hosts(t, 1)[0]
	h.configure(h.name(), "")
	b, err := h.box(spec{service: "web", do: "cpu --cores 0.3", cpus: 0.1, memory: 64 * MiB, restart: "always"})
	if err != nil {
		t.Fatal(err)
	}
	h.smallDisk(8 * MiB)
	h.start()
	eventually(t, 20*time.Second, "the daemon raises the limit of its host's container",
		func() bool { return b.kernel.Quota() > 0.15 })
	eventually(t, 20*time.Second, "its history tells", func() bool { return len(h.changes(b.name)) > 0 })
	path := h.fill()
	// A request writes, until one finds no room.
	eventually(t, 40*time.Second, "a full disk is said", func() bool {
		_, err := api.OpScale.Call(t.Context(), h.Client,
			api.ScaleRequest{Container: b.name, Memory: b.kernel.Memory() + MiB})
		if err != nil {
			t.Errorf("a request on a full disk: %v", err)
		}
		st, err := h.status()
		return err == nil && st.Node.Store != "ok"
	})
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	h.freeze()
	if _, err := h.status(); err == nil {
		t.Error("a frozen daemon answers")
	}
	h.thaw()
	h.ready()
	h.throttle(0.01) // a daemon that is alone does not feel a tenth of a core
	eventually(t, 20*time.Second, "a hundredth of a core is felt",
		func() bool { _, err := h.status(); return err == nil && h.starved() > 0 })
	h.unthrottle()
	b.undisturbed()
	h.daemon().kill()
	h.stopStart()
	h.restartEngine()
	eventually(t, 20*time.Second, "the container is back", func() bool { return b.inspect().State.Running })
	if err := b.meet(); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, "the daemon sees it again", func() bool {
		st, err := h.status()
		return err == nil && len(st.Containers) == 1 && st.Containers[0].State != "unmeasured" &&
			strings.HasPrefix(st.Node.Engine, "connected")
	})
	h.program = rig.newer
	was, _ := h.status()
	h.stop()
	h.start()
	if is, _ := h.status(); is.Version == was.Version {
		t.Errorf("both builds call themselves %s", is.Version)
	}
	h.stop()
	h.wipe()
	h.start()
	if n := len(h.changes(b.name)); n > 3 {
		t.Errorf("%d changes survived the loss of the disk", n)
	}
}

// starved is how often the kernel held the daemon back.
func (h *host) starved() int64 {
	k, err := observer.KernelOf(h.daemon().cmd.Process.Pid)
	if err != nil {
		return 0
	}
	return k.Throttled()
}

// stopStart ends a crash and begins a life that ends in order.
func (h *host) stopStart() {
	h.t.Helper()
	h.start()
	h.stop()
	h.start()
}

// TestHarnessSweep: what a killed run leaves is found and removed. A process in
// one of our namespaces stands for it.
func TestHarnessSweep(t *testing.T) {
	needHosts(t)
	if err := command("ip", "netns", "add", "effi-h99"); err != nil {
		t.Fatal(err)
	}
	p := exec.Command("nsenter", "--net=/var/run/netns/effi-h99", "sleep", "1000")
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	found := func() bool {
		for _, pid := range inNamespaces() {
			if pid == p.Process.Pid {
				return true
			}
		}
		return false
	}
	eventually(t, 5*time.Second, "the process is found", found)
	_ = syscall.Kill(p.Process.Pid, syscall.SIGKILL)
	_ = p.Wait()
	eventually(t, 5*time.Second, "the process is gone", func() bool { return !found() })
	if err := command("ip", "netns", "delete", "effi-h99"); err != nil {
		t.Fatal(err)
	}
}
