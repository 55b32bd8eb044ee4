package vm

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/effiscale/effiscale/node/api"
)

// patience is how long anything may take in the machine: the slowest, the
// watchdog, needs 30 s of it, and an Engine update is 2 s away.
const patience = 150 * time.Second

// run runs a command that must end well and returns what it printed.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// try runs a command whatever it says.
func try(name string, args ...string) string {
	out, _ := exec.Command(name, args...).CombinedOutput()
	return strings.TrimSpace(string(out))
}

// commands runs a block of README.md as it stands there.
func commands(t *testing.T, name string) {
	t.Helper()
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	script, err := block(string(readme), name)
	if err != nil {
		t.Fatal(err)
	}
	// The machine has no sudo, and root for its only user.
	out := run(t, "bash", "-euxc", `sudo() { "$@"; }; `+script)
	t.Log(out)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// until waits for a condition, with patience.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	began := time.Now()
	for !holds() {
		if time.Since(began) > patience {
			t.Fatalf("waited %v in vain for %s", patience, what)
		}
		time.Sleep(250 * time.Millisecond)
	}
	t.Logf("%s: after %v", what, time.Since(began).Round(100*time.Millisecond))
}

func status(t *testing.T) (s api.Status) {
	t.Helper()
	ask(t, &s, "status")
	return s
}

func explain(t *testing.T, name string) (e api.Explain) {
	t.Helper()
	ask(t, &e, "explain", name)
	return e
}

// ask reads a command's JSON. The exit status is that of the host's state (3:
// degraded), so only what was printed counts.
func ask(t *testing.T, into any, args ...string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "effiscale", append(args, "-o", "json")...).Output()
	if jsonErr := json.Unmarshal(out, into); jsonErr != nil {
		t.Fatalf("effiscale %v: %v, %v: %s", args, err, jsonErr, out)
	}
}

// ready asks without failing: the daemon may be about to start.
func ready() bool {
	var s api.Status
	out, _ := exec.Command("effiscale", "status", "-o", "json").Output()
	return json.Unmarshal(out, &s) == nil && s.Node.Ready
}

func restarts(t *testing.T) int {
	t.Helper()
	n, err := strconv.Atoi(run(t, "systemctl", "show", "effiscale", "-p", "NRestarts", "--value"))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// container is one container of the test.
type container struct{ name, id string }

// start runs a managed container of the load image.
func start(t *testing.T, name, flags, label, work string) container {
	t.Helper()
	args := append(
		[]string{"run", "-d", "--name", name, "--label", "effiscale.enable=true", "--label", label},
		strings.Fields(flags)...)
	args = append(args, "load", "/load")
	run(t, "docker", append(args, strings.Fields(work)...)...)
	return find(t, name)
}

func find(t *testing.T, name string) container {
	t.Helper()
	return container{name, run(t, "docker", "inspect", "-f", "{{.Id}}", name)}
}

func (c container) inspect(t *testing.T, format string) string {
	t.Helper()
	return run(t, "docker", "inspect", "-f", format, c.name)
}

func (c container) engineCPU(t *testing.T) float64 {
	t.Helper()
	return float64(parse(t, c.inspect(t, "{{.HostConfig.NanoCpus}}"))) / 1e9
}

func (c container) engineMemory(t *testing.T) int64 {
	t.Helper()
	return parse(t, c.inspect(t, "{{.HostConfig.Memory}}"))
}

func (c container) running(t *testing.T) bool {
	t.Helper()
	return c.inspect(t, "{{.State.Running}}") == "true"
}

// life changes when the container is restarted.
func (c container) life(t *testing.T) string {
	t.Helper()
	return c.inspect(t, "{{.State.StartedAt}} {{.RestartCount}}")
}

// file is a file of the container's scope, as the systemd driver places it.
func (c container) file(t *testing.T, name string) string {
	t.Helper()
	return filepath.Join("/sys/fs/cgroup/system.slice/docker-"+c.id+".scope", name)
}

// read is "" when the container is between two lives.
func (c container) read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(c.file(t, name))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// quota is cpu.max in cores; infinite without a limit, and 0 without a file.
func (c container) quota(t *testing.T) float64 {
	t.Helper()
	var quota, period float64
	text := c.read(t, "cpu.max")
	if strings.HasPrefix(text, "max") {
		return math.Inf(1)
	}
	if _, err := fmt.Sscan(text, &quota, &period); err != nil {
		return 0
	}
	return quota / period
}

func (c container) memory(t *testing.T) int64 {
	t.Helper()
	return c.number(t, "memory.max")
}

func (c container) number(t *testing.T, name string) int64 {
	t.Helper()
	text := c.read(t, name)
	if text == "max" {
		return math.MaxInt64
	}
	if text == "" {
		return 0
	}
	return parse(t, text)
}

// event is a counter of memory.events.
func (c container) event(t *testing.T, key string) int64 {
	t.Helper()
	for line := range strings.Lines(c.read(t, "memory.events")) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && name == key {
			return parse(t, value)
		}
	}
	t.Fatalf("memory.events of %s has no %s", c.name, key)
	return 0
}

// view is the daemon's view of it; empty when it has none yet.
func (c container) view(t *testing.T) api.ContainerView {
	t.Helper()
	all := status(t).Containers
	if i := slices.IndexFunc(all, func(v api.ContainerView) bool { return v.Name == c.name }); i >= 0 {
		return all[i]
	}
	return api.ContainerView{}
}

func parse(t *testing.T, s string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// near allows what the systemd driver rounds: whole percents of a core.
func near(a, b float64) bool { return math.Abs(a-b) <= 0.0101 }
