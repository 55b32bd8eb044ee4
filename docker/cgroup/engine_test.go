package cgroup

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/effiscale/effiscale/docker/observer"
	"github.com/effiscale/effiscale/knowledge"
)

// engine speaks to a real Engine, with the few calls that these tests need. The
// product's own client is another room, which this one does not know.
type engine struct {
	*observer.Engine
	t      *testing.T
	image  string
	driver string
}

// burnOnce builds the program of the image. A machine without Go is told where a
// built one lies.
var burnOnce = sync.OnceValues(func() ([]byte, error) {
	if built := os.Getenv("EFFISCALE_TEST_BURN"); built != "" {
		return os.ReadFile(built)
	}
	dir, err := os.MkdirTemp("", "effiscale-burn")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "burn"), "./testdata/burn")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	return os.ReadFile(filepath.Join(dir, "burn"))
})

// realEngine connects to the Engine and imports an image of one static program.
// Without an Engine the test is skipped, unless EFFISCALE_REQUIRE_ENGINE is 1.
func realEngine(t *testing.T) *engine {
	t.Helper()
	if testing.Short() {
		t.Skip("a real Engine takes a while")
	}
	e := &engine{Engine: observer.Local(), t: t, image: fmt.Sprintf("effiscale-cgroup-test-%d", os.Getpid())}
	t.Cleanup(e.Close)
	var info struct{ CgroupDriver string }
	if err := e.Call("GET", "/info", nil, &info); err != nil {
		if os.Getenv("EFFISCALE_REQUIRE_ENGINE") == "1" {
			t.Fatalf("an Engine is required: %v", err)
		}
		t.Skipf("left out: it needs a Docker Engine: %v", err)
	}
	e.driver = info.CgroupDriver
	program, err := burnOnce()
	if err != nil {
		t.Fatal(err)
	}
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	if err := w.WriteHeader(&tar.Header{Name: "burn", Mode: 0o755, Size: int64(len(program))}); err != nil {
		t.Fatal(err)
	}
	w.Write(program)
	w.Close()
	if err := e.Call("POST", "/images/create?fromSrc=-&repo="+e.image, layer.Bytes(), nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Call("DELETE", "/images/"+e.image+"?force=1", nil, nil) })
	return e
}

// run starts a container that is gone after the test.
func (e *engine) run(name string, host map[string]any, cmd ...string) knowledge.Container {
	e.t.Helper()
	var made struct{ ID string }
	name = fmt.Sprintf("effiscale-cgroup-%s-%d", name, os.Getpid())
	body := map[string]any{"Image": e.image, "Cmd": cmd, "HostConfig": host}
	if err := e.Call("POST", "/containers/create?name="+url.QueryEscape(name), body, &made); err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { e.Call("DELETE", "/containers/"+made.ID+"?force=1", nil, nil) })
	if err := e.Call("POST", "/containers/"+made.ID+"/start", nil, nil); err != nil {
		e.t.Fatal(err)
	}
	return e.inspect(made.ID)
}

func (e *engine) inspect(id string) knowledge.Container {
	e.t.Helper()
	var c struct {
		ID         string
		State      struct{ Pid int }
		HostConfig struct{ CgroupParent string }
	}
	if err := e.Call("GET", "/containers/"+id+"/json", nil, &c); err != nil {
		e.t.Fatal(err)
	}
	return knowledge.Container{ID: knowledge.ContainerID(c.ID), PID: c.State.Pid, CgroupParent: c.HostConfig.CgroupParent}
}

// machine opens this machine's cgroups, for the Engine's driver.
func (e *engine) machine() *Host {
	e.t.Helper()
	h, err := Open(Options{Driver: e.driver})
	if err != nil {
		e.t.Fatal(err)
	}
	return h
}

// stats is what the Engine says of the same container.
type stats struct {
	CPU struct {
		Usage struct {
			Total int64 `json:"total_usage"`
		} `json:"cpu_usage"`
		Throttling struct {
			Periods        uint64 `json:"periods"`
			Throttled      uint64 `json:"throttled_periods"`
			ThrottledNanos int64  `json:"throttled_time"`
		} `json:"throttling_data"`
	} `json:"cpu_stats"`
	Memory struct {
		Usage, Limit int64
	} `json:"memory_stats"`
	Pids     struct{ Current int64 } `json:"pids_stats"`
	Networks map[string]struct {
		Rx uint64 `json:"rx_bytes"`
		Tx uint64 `json:"tx_bytes"`
	}
}

// TestEngine holds our readings against a real Engine's and a real kernel's: the
// Engine's counters lie between our reading before and our reading after.
func TestEngine(t *testing.T) {
	e := realEngine(t)
	h := e.machine()
	const limit = 64 << 20
	made := e.run("hold", map[string]any{"NanoCpus": 200e6, "Memory": limit}, "/burn", "hold", "16")
	listed, err := h.Attach(knowledge.Container{ID: made.ID}) // as a listing knows it
	if err != nil {
		t.Fatal(err)
	}
	listed.Close()
	c, err := h.Attach(made)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	t.Logf("%s, driver %s, PSI %t: %s", h.Version(), e.driver, h.PSI(), c.Path())

	var first, before, after knowledge.Sample
	var said stats
	if err := c.Read(&first, knowledge.FastTier); err != nil {
		t.Fatal(err)
	}
	observer.Eventually(t, 2*time.Minute, "five periods, four of them throttled, and the memory taken", func() bool {
		if err := errors.Join(c.Read(&before, knowledge.FastTier), c.Read(&before, knowledge.SlowTier)); err != nil {
			t.Fatal(err)
		}
		return before.Periods >= first.Periods+5 && before.Throttled >= first.Throttled+4 && before.Anon >= 16<<20
	})
	if err := e.Call("GET", "/containers/"+string(made.ID)+"/stats?stream=false&one-shot=true", nil, &said); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(c.Read(&after, knowledge.FastTier), c.Read(&after, knowledge.SlowTier)); err != nil {
		t.Fatal(err)
	}
	between(t, "CPU time", int64(before.CPUUsage), said.CPU.Usage.Total, int64(after.CPUUsage))
	between(t, "periods", int64(before.Periods), int64(said.CPU.Throttling.Periods), int64(after.Periods))
	between(t, "throttled periods", int64(before.Throttled), int64(said.CPU.Throttling.Throttled), int64(after.Throttled))
	between(t, "throttled time", int64(before.ThrottledTime), said.CPU.Throttling.ThrottledNanos,
		int64(after.ThrottledTime))
	var rx, tx uint64
	for _, n := range said.Networks {
		rx, tx = rx+n.Rx, tx+n.Tx
	}
	between(t, "bytes received", int64(before.RxBytes), int64(rx), int64(after.RxBytes))
	between(t, "bytes sent", int64(before.TxBytes), int64(tx), int64(after.TxBytes))

	if after.MemoryLimit != limit || said.Memory.Limit != limit || after.Quota != 200e6 ||
		after.Period != 100*time.Millisecond {
		t.Errorf("limits %d, %d per %s", after.MemoryLimit, after.Quota, after.Period)
	}
	if after.Anon < 16<<20 || after.MemoryUsage < after.Anon || after.MemoryUsage > limit || after.Pids < 1 ||
		after.Pids > 100 {
		t.Errorf("levels: %+v", after)
	}
	if diff := int64(after.MemoryUsage) - said.Memory.Usage; diff > 8<<20 || diff < -8<<20 {
		t.Errorf("memory in use %d, the Engine says %d", after.MemoryUsage, said.Memory.Usage)
	}
	want := knowledge.FastTier | knowledge.SlowTier
	if h.Version() != V2 {
		want &^= knowledge.HasIO // newer kernels do not account for it there
	}
	if !h.PSI() {
		want &^= knowledge.HasCPUPressure | knowledge.HasMemoryPressure | knowledge.HasIOPressure
	}
	if after.Have&want != want {
		t.Errorf("have %b, want at least %b", after.Have, want)
	}
	if h.PSI() {
		observer.Eventually(t, 30*time.Second, "a throttled container shows CPU pressure", func() bool {
			return c.Read(&after, knowledge.SlowTier) == nil && after.CPUPressure.Some10 > 1
		})
	}
}

// TestEngineRestart: a restarted container is a new cgroup with counters at 0,
// under the same id and path. FAULTS rows 33, 35 and 39, with a real kernel.
func TestEngineRestart(t *testing.T) {
	e := realEngine(t)
	h := e.machine()
	made := e.run("restart", map[string]any{"NanoCpus": 500e6}, "/burn", "hold", "1")
	c, err := h.Attach(made)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var s knowledge.Sample
	observer.Eventually(t, time.Minute, "some CPU time",
		func() bool { return c.Read(&s, knowledge.FastTier) == nil && s.CPUUsage > 50*time.Millisecond })
	refused := !c.Writable()                                 // this user is not root
	if err := c.SetQuota(400e6, 0); err != nil && !refused { // keeps the file of the quota open
		t.Fatal(err)
	}
	if err := e.Call("POST", "/containers/"+string(made.ID)+"/restart?t=0", nil, nil); err != nil {
		t.Fatal(err)
	}
	if err := c.Read(&s, knowledge.FastTier); !errors.Is(err, ErrGone) || s.Have&knowledge.FastTier != 0 {
		t.Errorf("Fast after a restart: have %b, %v", s.Have, err)
	}
	if err := c.SetQuota(300e6, 0); !errors.Is(err, ErrGone) && !refused {
		t.Errorf("SetQuota after a restart: %v", err)
	}
	again := e.inspect(string(made.ID))
	c2, err := h.Attach(again)
	if err != nil {
		t.Fatal(err)
	}
	defer c2.Close()
	if err := errors.Join(c2.Read(&s, knowledge.FastTier), c2.Read(&s, knowledge.SlowTier)); err != nil {
		t.Fatal(err)
	}
	if s.Quota != 500e6 || again.PID == made.PID {
		t.Errorf("after a restart: quota %d, PID %d then %d", s.Quota, made.PID, again.PID)
	}
	if err := e.Call("DELETE", "/containers/"+string(made.ID)+"?force=1", nil, nil); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(c2.Read(&s, knowledge.FastTier)); !errors.Is(err, ErrGone) {
		t.Errorf("Fast of a removed container: %v", err)
	}
	if err := c2.Read(&s, knowledge.SlowTier); !errors.Is(err, ErrGone) || s.Have != 0 {
		t.Errorf("Slow of a removed container: have %b, %v", s.Have, err)
	}
	if _, err := h.Attach(again); !errors.Is(err, ErrNotFound) {
		t.Errorf("Attach to a removed container: %v", err)
	}
}

// between checks a counter of the Engine against ours.
func between(t *testing.T, what string, before, said, after int64) {
	t.Helper()
	if before > said || said > after {
		t.Errorf("%s: %d before, the Engine said %d, %d after", what, before, said, after)
	}
}
