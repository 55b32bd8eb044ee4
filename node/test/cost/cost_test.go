// Package costtest measures what the daemon itself costs: 100 real containers,
// automatic mode, default settings, some minutes.
//
//	EFFISCALE_COST=10m go test -v -timeout 30m ./node/test/cost
package cost

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/effiscale/effiscale/docker/observer"
	"github.com/effiscale/effiscale/node/api"
)

const (
	moduleRoot = "../../.."
	containers = 100
	// Goals on an otherwise idle machine, and the bounds of the test: half as
	// much again, for a machine that is shared.
	goalCPU, mostCPU = 0.010, 0.015       // of one core
	goalRSS, mostRSS = 40 << 20, 60 << 20 // bytes
)

// TestCost prints the daemon's share of a core and its memory, and the Engine's
// share of a core without and with it.
func TestCost(t *testing.T) {
	lasting, err := time.ParseDuration(os.Getenv("EFFISCALE_COST"))
	if err != nil || lasting < time.Minute {
		t.Skip("LEFT OUT: takes its time; EFFISCALE_COST=10m runs it")
	}
	dir := t.TempDir()
	build(t, filepath.Join(dir, "effiscale"), moduleRoot)
	build(t, filepath.Join(dir, "load"), moduleRoot+"/node/test/vm/load")
	fleet := startFleet(t, filepath.Join(dir, "load"))

	rest(t, 15*time.Second) // starting 100 containers echoes for a while
	quiet := lasting / 5
	before := observer.EngineTime(t)
	rest(t, quiet)
	without := share(observer.EngineTime(t)-before, quiet)

	daemon := startDaemon(t, filepath.Join(dir, "effiscale"))
	start, engineStart := time.Now(), observer.EngineTime(t)
	var peak, half int64
	var halfTime time.Duration
	for time.Since(start) < lasting {
		rest(t, 5*time.Second)
		peak = max(peak, residentBytes(t, daemon.pid))
		if half == 0 && time.Since(start) >= lasting/2 {
			half, halfTime = int64(observer.ProcessTime(t, daemon.pid)), time.Since(start)
		}
	}
	took := time.Since(start)
	cpu := observer.ProcessTime(t, daemon.pid)
	with := share(observer.EngineTime(t)-engineStart, took)
	whole, late := share(cpu, took), share(cpu-time.Duration(half), took-halfTime)

	s, err := api.OpStatus.Call(t.Context(), api.NewClient(daemon.socket), api.None{})
	if err != nil {
		t.Fatal(err)
	}
	managed := 0
	for _, c := range s.Containers {
		if c.Managed && fleet[c.Name] {
			managed++
		}
	}
	t.Logf("%d containers managed, %v", managed, took.Round(time.Second))
	t.Logf("daemon: %.2f %% of a core from its start, %.2f %% in the second half (goal: under %.0f %%); "+
		"%.1f MiB resident at most (goal: under %d MiB)",
		100*whole, 100*late, 100*goalCPU, float64(peak)/(1<<20), goalRSS>>20)
	t.Logf("Engine (dockerd, containerd, runc): %.2f %% of a core without the daemon, %.2f %% with it", 100*without,
		100*with)
	t.Logf("actions in the last hour: %d, failed %d, reverted %d, drift repaired %d", s.Summary.Actions, s.Summary.Failed,
		s.Summary.Reverted, s.Summary.DriftRepaired)
	if managed != containers {
		t.Errorf("%d containers are managed, want %d", managed, containers)
	}
	if late > mostCPU || peak > mostRSS {
		t.Errorf("too dear: at most %.1f %% of a core and %d MiB", 100*mostCPU, mostRSS>>20)
	}
}

// process is a daemon under test.
type process struct {
	pid    int
	socket string
}

// startDaemon runs it with the default settings, but for the places of its files,
// its ports and whose containers it sees, and waits until it is ready.
func startDaemon(t *testing.T, binary string) process {
	t.Helper()
	dir := t.TempDir()
	socket := filepath.Join(dir, "effiscale.sock")
	cmd := exec.Command(binary, "run")
	cmd.Env = append(os.Environ(), "EFFISCALE_NODE_DATA_DIR="+dir, "EFFISCALE_API_SOCKET="+socket,
		"EFFISCALE_LOG_LEVEL=warn",
		"EFFISCALE_DOCKER_ONLY_LABEL=cost="+prefix(), // of this test alone
		"EFFISCALE_API_MONITOR=127.0.0.1:0", "EFFISCALE_API_CONTROLLER=127.0.0.1:0", "EFFISCALE_API_EXECUTION=127.0.0.1:0")
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("the daemon ended with %v", err)
		}
	})
	client := api.NewClient(socket)
	for deadline := time.Now().Add(30 * time.Second); ; {
		s, err := api.OpStatus.Call(t.Context(), client, api.None{})
		if err == nil && s.Node.Ready {
			return process{cmd.Process.Pid, socket}
		}
		if time.Now().After(deadline) {
			t.Fatalf("the daemon is not ready: %v", err)
		}
		rest(t, 100*time.Millisecond)
	}
}

func build(t *testing.T, to, what string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", to, what)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("cannot build %s: %v\n%s", what, err, out)
	}
}

// rest lets time pass, which is what this test measures over.
func rest(t *testing.T, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	<-ctx.Done()
	if t.Context().Err() != nil {
		t.Fatal(t.Context().Err())
	}
}

func share(cpu, of time.Duration) float64 { return cpu.Seconds() / of.Seconds() }
