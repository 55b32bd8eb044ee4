package e2e

import (
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/effiscale/effiscale/node/api"
)

// trouble is what the daemon's Engine does for a while instead of answering well.
type trouble struct {
	mode  string
	delay time.Duration // of an answer
	lasts time.Duration
}

// TestEngineTrouble puts an ill Engine between the daemon and the real one: slow
// (row 25), stopped (row 26), gone and back (row 27), and answering nonsense
// (row 30). Each time measuring goes on, CPU grows through the kernel's files, no
// request storm begins, and when the Engine is well the daemon finds out by itself.
func TestEngineTrouble(t *testing.T) {
	t.Parallel()
	for name, troubles := range map[string][]trouble{
		"no answer":   {{hangs, 0, 10 * time.Second}, {drops, 0, 8 * time.Second}},
		"late answer": {{slow, 5 * time.Second, 11 * time.Second}, {slow, 30 * time.Second, 10 * time.Second}},
		"nonsense":    {{fails, 0, 8 * time.Second}, {html, 0, 8 * time.Second}, {truncated, 0, 8 * time.Second}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			meetTroubles(t, troubles)
		})
	}
}

// meetTroubles lets one daemon meet troubles one after the other, each beside a
// container that needs more CPU.
func meetTroubles(t *testing.T, troubles []trouble) {
	d := newDaemon(t, "DOCKER_TIMEOUT=4s", "MONITOR_LIST_EVERY=5s")
	p := newProxy(t, d.path("docker.sock"))
	d.env = append(d.env, "EFFISCALE_DOCKER_HOST=unix://"+p.path)
	var boxes []*box
	for i, trouble := range troubles {
		boxes = append(
			boxes,
			d.box(t, trouble.mode+"-"+string(rune('a'+i)), spec{do: "http --work 10ms", cpus: 0.1, memory: 64 * MiB,
				network: true, labels: map[string]string{"effiscale.cpu": "0.05..0.24"}}),
		)
	}
	d.start()
	d.sees(boxes...)
	for i, trouble := range troubles {
		b := boxes[i]
		d.met(b)
		load := b.press(t)
		load.rate.Store(20)
		p.set(trouble.mode, trouble.delay)
		began := time.Now()
		eventually(
			t,
			40*time.Second,
			trouble.mode+": the kernel's quota grows without the Engine",
			func() bool { return b.kernel.Quota() > 0.14 },
		)
		grown := time.Since(began)
		_ = waitFor(trouble.lasts-time.Since(began), func() bool { return false })
		v, ok := d.view(b)
		if !d.alive() || !ok || time.Since(v.SampledAt) > 5*time.Second {
			t.Fatalf("%s: alive %v, shown %v, last measured %v ago", trouble.mode, d.alive(), ok, time.Since(v.SampledAt))
		}
		n, lasted := p.requests(), time.Since(began)
		if most := 20 + int(6*lasted.Seconds()); n > most {
			t.Errorf("%s: %d requests in %v: a storm", trouble.mode, n, lasted)
		}
		st, err := d.status()
		if trouble.mode != slow && n > 0 && (err != nil || !st.Degraded) {
			t.Errorf("%s: status says engine %q, degraded %v, %v", trouble.mode, st.Node.Engine, st.Degraded, err)
		}
		p.set(well, 0)
		back := time.Now()
		eventually(t, 45*time.Second, trouble.mode+": the daemon finds the Engine again", func() bool {
			st, err := d.status()
			return err == nil && st.Node.Engine == "connected"
		})
		load.stop()
		figure(
			t,
			"engine %s %v: %d requests in %.0f s, quota grown after %d ms, found again after %d ms",
			trouble.mode,
			trouble.delay,
			n,
			lasted.Seconds(),
			grown.Milliseconds(),
			time.Since(back).Milliseconds(),
		)
		if n := load.failed.Load(); n > 0 {
			t.Errorf("%s: %d requests of the service failed: %v", trouble.mode, n, load.last.Load())
		}
	}
	for _, b := range boxes {
		b.covered(90 * time.Second)
	}
	if took := d.stop(); took > 2*time.Second {
		t.Errorf("stopping took %v", took)
	}
}

// TestEngineLate: the Engine's socket is not there at boot; the daemon starts
// all the same, serves, and begins when it comes (row 28).
func TestEngineLate(t *testing.T) {
	t.Parallel()
	d := newDaemon(t)
	b := d.box(t, "web", spec{do: "cpu --cores 0.2", cpus: 0.1, memory: 64 * MiB})
	d.env = append(d.env, "EFFISCALE_DOCKER_HOST=unix://"+d.path("docker.sock"))
	d.launch()
	eventually(t, 10*time.Second, "it serves without an Engine", func() bool {
		st, err := d.status()
		return err == nil && st.Degraded && strings.HasPrefix(st.Node.Engine, "unreachable")
	})
	resp, err := http.Get(d.address("monitor") + "/health")
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("GET /health: %v %v", resp, err)
	} else {
		resp.Body.Close()
	}
	hold(t, 3*time.Second, "it goes on", d.alive)
	newProxy(t, d.path("docker.sock"))
	came := time.Now()
	eventually(t, 40*time.Second, "it manages what runs", func() bool { v, ok := d.view(b); return ok && v.Managed })
	figure(t, "engine socket appears after boot: found after %d ms", time.Since(came).Milliseconds())
	eventually(t, 40*time.Second, "it acts", func() bool { return b.kernel.Quota() > 0.12 })
	d.stop()
	b.covered(time.Second)
}

// TestTwoDaemons: a second daemon on the same state, or the same socket, says so
// and ends within seconds, with the exit code that systemd does not restart for;
// the first one notices nothing (rows 13 and 43).
func TestTwoDaemons(t *testing.T) {
	t.Parallel()
	first := newDaemon(t).start()
	second := newDaemon(t)
	second.configure(strings.Replace(second.config(), second.path("data"), first.path("data"), 1))
	second.launch()
	code, took := second.wait(10 * time.Second)
	if code != 75 || !strings.Contains(string(second.log()), "data_dir") {
		t.Errorf("the second on one state ended with %d after %v:\n%s", code, took, tail(second.log(), 5))
	}
	figure(t, "a second daemon on one data_dir: exit code %d after %d ms", code, took.Milliseconds())
	third := newDaemon(t)
	third.configure(strings.Replace(third.config(), third.path("sock"), first.path("sock"), 1))
	third.launch()
	if code, _ := third.wait(10 * time.Second); code == 0 ||
		!strings.Contains(string(third.log()), "another daemon answers there") {
		t.Errorf("the third on one socket ended with %d:\n%s", code, tail(third.log(), 5))
	}
	if _, err := first.status(); err != nil || !first.alive() {
		t.Errorf("the first does not answer: %v", err)
	}
	first.stop()
}

// TestRow133DiskFullAtFirstStart: row 133, the first start on a full disk ends with a code that
// systemd restarts for, and a start after that succeeds.
func TestRow133DiskFullAtFirstStart(t *testing.T) {
	t.Parallel()
	d := newDaemon(t)
	if err := os.Mkdir(d.path("data"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", d.path("data"), "tmpfs", 0, "size=64k"); err != nil {
		t.Fatalf("cannot mount a small file system: %v", err)
	}
	t.Cleanup(func() { d.kill(); _ = syscall.Unmount(d.path("data"), syscall.MNT_DETACH) })
	fill := d.path("data/filler")
	if err := os.WriteFile(fill, make([]byte, 1<<20), 0o600); err == nil {
		t.Fatal("the disk is not full")
	}
	d.launch()
	if code, _ := d.wait(20 * time.Second); code != 74 || len(d.said("no space left")) == 0 {
		t.Errorf("ended with %d:\n%s", code, tail(d.log(), 5))
	}
	if err := os.Remove(fill); err != nil {
		t.Fatal(err)
	}
	d.start()
	d.stop()
}

// TestDiskFull: a full disk, and one that can only be read, stop learning and
// never scaling; status says so, and it recovers by itself (rows 49 and 50).
func TestDiskFull(t *testing.T) {
	t.Parallel()
	d := newDaemon(t, "STORE_FLUSH_EVERY=1s")
	if err := os.Mkdir(d.path("data"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", d.path("data"), "tmpfs", 0, "size=6m"); err != nil {
		t.Fatalf("cannot mount a small file system: %v", err)
	}
	t.Cleanup(func() { d.kill(); _ = syscall.Unmount(d.path("data"), syscall.MNT_DETACH) })
	b := d.box(t, "web", spec{do: "http --work 10ms", cpus: 0.1, memory: 64 * MiB, network: true})
	d.start()
	d.sees(b)
	d.met(b)
	fill := d.path("data/filler")
	f, err := os.Create(fill)
	if err != nil {
		t.Fatal(err)
	}
	for chunk := make([]byte, 4096); err == nil; _, err = f.Write(chunk) {
	}
	f.Close()
	p := b.press(t)
	p.rate.Store(30)
	eventually(t, 40*time.Second, "CPU grows on a full disk", func() bool { return b.kernel.Quota() > 0.2 })
	// Requests write as well, until one finds no room.
	eventually(t, 40*time.Second, "status says that the disk is full", func() bool {
		_, err := api.OpScale.Call(
			t.Context(),
			d.Client,
			api.ScaleRequest{Container: b.name, Memory: b.kernel.Memory() + 8*MiB},
		)
		if err != nil {
			t.Errorf("a person's request on a full disk: %v", err)
		}
		st, statusErr := d.status()
		return statusErr == nil && st.Degraded && strings.HasPrefix(st.Node.Store, "degraded")
	})
	if n := len(d.said("degraded")) + len(d.said("no space")); n > 20 {
		t.Errorf("the log says %d times that the disk is full", n)
	}
	if err := os.Remove(fill); err != nil {
		t.Fatal(err)
	}
	eventually(t, 40*time.Second, "with room again, it recovers by itself", func() bool {
		st, err := d.status()
		return err == nil && st.Node.Store == "ok"
	})
	grown := len(d.changes(b))
	d.stop()

	if err := syscall.Mount("", d.path("data"), "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatalf("cannot make it read-only: %v", err)
	}
	d.start()
	d.sees(b)
	st, err := d.status()
	if err != nil || !strings.HasPrefix(st.Node.Store, "degraded") {
		t.Errorf("read-only: store %q, %v", st.Node.Store, err)
	}
	if n := len(d.changes(b)); n < grown {
		t.Errorf("read-only: %d of %d records can be read", n, grown)
	}
	resp, err := http.Get(d.address("controller") + "/health")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var health struct{ Status string }
	if err := json.NewDecoder(resp.Body).Decode(&health); err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("read-only: GET /health: %s %v", resp.Status, err)
	}
	if _, err := api.OpScale.Call(t.Context(), d.Client, api.ScaleRequest{Container: b.name, CPU: 0.9}); err != nil ||
		!near(b.kernel.Quota(), 0.9) {
		t.Errorf("read-only: a person's request: %v, quota %v", err, b.kernel.Quota())
	}
	d.stop()
}
