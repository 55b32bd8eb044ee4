package docker_test

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/effiscale/effiscale/docker"
	"github.com/effiscale/effiscale/docker/cgroup"
	"github.com/effiscale/effiscale/knowledge"
)

// real is a client of this machine's Engine, with an image for containers.
type real struct {
	*docker.Client
	t     *testing.T
	image string
	host  knowledge.Host
	seq   int
}

func openReal(t *testing.T) *real {
	t.Helper()
	c, err := docker.Open(docker.Options{Host: os.Getenv("DOCKER_HOST"), Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	h, err := c.Host(t.Context())
	if err != nil {
		if os.Getenv("EFFISCALE_REQUIRE_ENGINE") == "1" {
			t.Fatal(err)
		}
		t.Skipf("left out: it needs a Docker Engine: %v", err)
	}
	r := &real{Client: c, t: t, host: h, image: fmt.Sprintf("effiscale-docker-test:%d", os.Getpid())}
	if err := c.ImportImage(t.Context(), r.image, bytes.NewReader(sleeper(t))); err != nil {
		t.Fatal(err)
	}
	r.cleanup("image", func(ctx context.Context) error { return c.RemoveImage(ctx, r.image) })
	return r
}

// sleeper is a tar with the static test program in it.
var sleeperOnce struct {
	sync.Once
	tar []byte
	err error
}

func sleeper(t *testing.T) []byte {
	t.Helper()
	sleeperOnce.Do(func() { sleeperOnce.tar, sleeperOnce.err = buildSleeper() })
	if sleeperOnce.err != nil {
		t.Fatal(sleeperOnce.err)
	}
	return sleeperOnce.tar
}

func buildSleeper() ([]byte, error) {
	dir, err := os.MkdirTemp("", "sleeper")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "sleeper")
	cmd := exec.Command("go", "build", "-ldflags=-s -w", "-o", out, "./testdata/sleeper")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("cannot build the test program: %w: %s", err, text)
	}
	program, err := os.ReadFile(out)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: "sleeper", Mode: 0o755, Size: int64(len(program))}); err != nil {
		return nil, err
	}
	if _, err := w.Write(program); err != nil {
		return nil, err
	}
	return b.Bytes(), w.Close()
}

func (r *real) cleanup(what string, f func(context.Context) error) {
	r.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := f(ctx); err != nil {
			r.t.Errorf("%s left behind: %v", what, err)
		}
	})
}

// run starts a container that holds some MiB.
func (r *real) run(mib int, l knowledge.Limits) knowledge.ContainerID {
	r.t.Helper()
	r.seq++
	id, err := r.Create(r.t.Context(), knowledge.ContainerSpec{
		Name:    fmt.Sprintf("effiscale-docker-test-%d-%s-%d", os.Getpid(), strings.ReplaceAll(r.t.Name(), "/", "."), r.seq),
		Image:   r.image,
		Command: []string{"/sleeper", fmt.Sprint(mib), "a word that is ignored"},
		Labels:  map[string]string{"effiscale.test": "docker"},
		Limits:  l, Network: "none",
	})
	if err != nil {
		r.t.Fatal(err)
	}
	r.cleanup("container", func(ctx context.Context) error { return r.Remove(ctx, id) })
	if err := r.Start(r.t.Context(), id); err != nil {
		r.t.Fatal(err)
	}
	return id
}

// kernel reads limits and use from the kernel.
func (r *real) kernel(id knowledge.ContainerID) (s knowledge.Sample) {
	r.t.Helper()
	k, err := r.Inspect(r.t.Context(), id)
	if err != nil {
		r.t.Fatal(err)
	}
	h, err := cgroup.Open(cgroup.Options{Driver: r.host.CgroupDriver})
	if err != nil {
		r.t.Skip(err)
	}
	c, err := h.Attach(k)
	if err != nil {
		r.t.Skip(err)
	}
	defer c.Close()
	if err := c.Read(&s, knowledge.HasLimits); err != nil {
		r.t.Fatal(err)
	}
	if err := c.Read(&s, knowledge.FastTier); err != nil {
		r.t.Fatal(err)
	}
	return s
}

func (r *real) record(id knowledge.ContainerID) knowledge.Limits {
	r.t.Helper()
	k, err := r.Inspect(r.t.Context(), id)
	if err != nil {
		r.t.Fatal(err)
	}
	return k.Limits
}

func TestRealListAndInspect(t *testing.T) {
	r := openReal(t)
	if r.host.CPUs < 1 || r.host.Memory < 64*knowledge.MiB || r.host.APIVersion < "1.41" || r.host.EngineVersion == "" ||
		r.host.CgroupDriver == "" {
		t.Errorf("%+v", r.host)
	}
	limits := knowledge.Limits{CPU: core / 2, Dialect: docker.CPUQuota, Period: 50 * time.Millisecond,
		Memory: 64 * knowledge.MiB, Shares: 512}
	id := r.run(1, limits)
	k, err := r.Inspect(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	limits.Recorded = knowledge.Recorded{Quota: 25000, Period: 50000, Memory: 64 << 20,
		MemorySwap: int64(k.Limits.MemorySwap)}
	limits.MemorySwap = k.Limits.MemorySwap // twice the memory, or -1 without swap accounting
	if k.Limits != limits || k.PID == 0 || k.State != knowledge.StateRunning || time.Since(k.StartedAt) > time.Hour ||
		len(k.Hazards) != 0 {
		t.Errorf("%+v", k)
	}
	all, err := r.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range all {
		if l.ID != id {
			continue
		}
		if l.Name != k.Name || l.Labels["effiscale.test"] != "docker" || l.State != k.State || l.Service != k.Service ||
			l.Inspected ||
			l.Image != k.Image || l.Image == "" || l.ImageName != r.image || k.ImageName != r.image {
			t.Errorf("listed as %+v", l)
		}
		return
	}
	t.Error("not in the listing")
}

func TestRealCPUInBothDialects(t *testing.T) {
	r := openReal(t)
	small := core / 4
	for _, made := range []knowledge.Limits{
		{CPU: core / 2, Dialect: docker.CPUNano},
		{CPU: core / 2, Dialect: docker.CPUQuota},
		{CPU: core / 2, Dialect: docker.CPUQuota, Period: 20 * time.Millisecond},
		{}, // the first limit of an unlimited container
	} {
		id := r.run(1, made)
		l := r.record(id)
		if l.Dialect != made.Dialect {
			t.Errorf("made with %v, recorded %v", made.Dialect, l.Dialect)
		}
		for _, to := range []knowledge.NanoCPU{small, core, 0} {
			l.CPU = to
			if err := r.UpdateCPU(t.Context(), id, l); err != nil {
				t.Fatalf("%+v: %v", l, err)
			}
			want := to
			if to == 0 {
				want = knowledge.NanoCPU(r.host.CPUs) * core
			}
			rec, ker := r.record(id), r.kernel(id)
			if rec.CPU != want || ker.Quota != want {
				t.Errorf("asked for %v: Engine %v, kernel %v", want, rec.CPU, ker.Quota)
			}
			if made.Dialect == docker.CPUQuota && (rec.Period != l.Period || ker.Period != l.Period) {
				t.Errorf("period %v: Engine %v, kernel %v", l.Period, rec.Period, ker.Period)
			}
		}
	}
}

func TestRealWrongDialectIsAConflict(t *testing.T) {
	r := openReal(t)
	id := r.run(1, knowledge.Limits{CPU: core / 2, Dialect: docker.CPUNano})
	err := r.UpdateCPU(t.Context(), id, knowledge.Limits{CPU: core / 4, Dialect: docker.CPUQuota})
	wantKind(t, err, docker.KindConflict)
}

func TestRealMemoryGrowsAndShrinks(t *testing.T) {
	r := openReal(t)
	const mib = knowledge.MiB
	for _, made := range []knowledge.Bytes{0, 64 * mib} { // 0: the first limit of an unlimited container
		id := r.run(8, knowledge.Limits{Memory: made})
		for _, to := range []knowledge.Bytes{96 * mib, 512 * mib, 48 * mib, 200_000_000, 0} {
			if err := r.UpdateMemory(t.Context(), id, to, 0); err != nil {
				t.Fatalf("made with %v, to %v: %v", made, to, err)
			}
			want := to / 4096 * 4096
			if to == 0 {
				want = r.host.Memory / 4096 * 4096
			}
			if rec, ker := r.record(id), r.kernel(id); rec.Memory != want || ker.MemoryLimit != want {
				t.Errorf("asked for %v: Engine %v, kernel %v", want, rec.Memory, ker.MemoryLimit)
			}
		}
	}
}

func TestRealMemoryBelowUseIsRefusedOnV1(t *testing.T) {
	r := openReal(t)
	if r.host.CgroupVersion != 1 {
		t.Skip("cgroup v2 would kill the container")
	}
	id := r.run(48, knowledge.Limits{Memory: 256 * knowledge.MiB})
	eventually(t, "memory in use", func() bool { return r.kernel(id).MemoryUsage > 48*knowledge.MiB })
	err := r.UpdateMemory(t.Context(), id, 16*knowledge.MiB, 0)
	wantKind(t, err, docker.KindRefused)
	if !strings.Contains(err.Error(), "memory limit") {
		t.Error(err)
	}
	if ker := r.kernel(id); ker.MemoryLimit != 256*knowledge.MiB {
		t.Errorf("the kernel holds %v", ker.MemoryLimit)
	}
}

func TestRealGoneAndStopped(t *testing.T) {
	r := openReal(t)
	id := r.run(1, knowledge.Limits{})
	if err := r.Stop(t.Context(), id, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	var s knowledge.Sample
	wantKind(t, r.Stats(t.Context(), id, &s), docker.KindGone)
	if k, err := r.Inspect(t.Context(), id); err != nil || k.State != knowledge.StateExited || k.PID != 0 {
		t.Errorf("%+v %v", k, err)
	}
	if err := r.Remove(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	err := r.UpdateCPU(t.Context(), id, knowledge.Limits{CPU: core / 2})
	wantKind(t, err, docker.KindGone)
	_, err = r.Inspect(t.Context(), id)
	wantKind(t, err, docker.KindGone)
}

// Row 33 on the real Engine: an update that races a kill succeeds or is KindGone.
func TestRealRow33KillRacesUpdate(t *testing.T) {
	r := openReal(t)
	said := map[string]int{}
	for range 6 {
		id := r.run(1, knowledge.Limits{CPU: core / 2, Dialect: docker.CPUNano})
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := r.Stop(t.Context(), id, 0); err != nil {
				t.Error(err)
			}
		})
		for range 5 {
			err := r.UpdateCPU(t.Context(), id, knowledge.Limits{CPU: core / 4, Dialect: docker.CPUNano})
			switch {
			case err == nil:
				said["done"]++
			case docker.IsGone(err):
				said["gone"]++
			default:
				t.Error(err)
			}
		}
		wg.Wait()
	}
	t.Log(said)
}

func TestRealStats(t *testing.T) {
	r := openReal(t)
	id := r.run(32, knowledge.Limits{Memory: 128 * knowledge.MiB, CPU: core / 2})
	var s knowledge.Sample
	eventually(t, "memory in use", func() bool {
		if err := r.Stats(t.Context(), id, &s); err != nil {
			t.Fatal(err)
		}
		return s.MemoryUsage > 32*knowledge.MiB
	})
	want := knowledge.HasCPU | knowledge.HasThrottle | knowledge.HasMemory | knowledge.HasMemoryStat
	if s.Have&want != want || s.CPUUsage <= 0 || s.Anon < 32*knowledge.MiB || s.Anon > 128*knowledge.MiB ||
		s.MemoryLimit != 128*knowledge.MiB {
		t.Errorf("%+v", s)
	}
	if k := r.kernel(id); k.MemoryUsage < s.MemoryUsage/2 || k.MemoryUsage > s.MemoryUsage*2 {
		t.Errorf("statistics %v, kernel %v", s.MemoryUsage, k.MemoryUsage)
	}
}

func TestRealEvents(t *testing.T) {
	r := openReal(t)
	var w watched
	watch(t, r.Client, &w)
	eventually(t, "the stream", func() bool { return w.count(knowledge.EventResync, "") >= 2 })
	id := r.run(1, knowledge.Limits{CPU: core / 2})
	if err := r.UpdateCPU(t.Context(), id, knowledge.Limits{CPU: core / 4, Dialect: docker.CPUNano}); err != nil {
		t.Fatal(err)
	}
	if err := r.Remove(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	eventually(t, "its whole life", func() bool { return w.count(knowledge.EventDestroy, id) == 1 })
	for _, k := range []knowledge.EventKind{knowledge.EventCreate, knowledge.EventStart, knowledge.EventUpdate,
		knowledge.EventDie} {
		if n := w.count(k, id); n != 1 {
			t.Errorf("%d %s events", n, k)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.events {
		if e.Kind != knowledge.EventResync && e.ID == id && (e.Name == "" || time.Since(e.At).Abs() > time.Hour) {
			t.Errorf("%+v", e)
		}
	}
}

func TestRealEndpoints(t *testing.T) {
	r := openReal(t)
	id, err := r.Create(t.Context(), knowledge.ContainerSpec{
		Name: fmt.Sprintf("effiscale-docker-test-%d-port", os.Getpid()), Image: r.image, Command: []string{"/sleeper"},
		Publish: []int{8080},
	})
	if err != nil {
		t.Fatal(err)
	}
	r.cleanup("container", func(ctx context.Context) error { return r.Remove(ctx, id) })
	_, err = r.Endpoints(t.Context(), id, 8080)
	wantKind(t, err, docker.KindGone) // not started: no address
	if err := r.Start(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	at, err := r.Endpoints(t.Context(), id, 8080)
	if err != nil || len(at) == 0 || !strings.HasPrefix(at[0], "127.0.0.1:") || strings.HasSuffix(at[0], ":0") {
		t.Errorf("%v %v", at, err)
	}
}

// TestRealLatency prints the latencies of the real Engine (go test -v -run Latency).
func TestRealLatency(t *testing.T) {
	r := openReal(t)
	id := r.run(1, knowledge.Limits{CPU: core / 2, Memory: 64 * knowledge.MiB})
	measure := func(what string, n int, f func(i int) error) {
		took := make([]time.Duration, 0, n)
		for i := range n {
			began := time.Now()
			if err := f(i); err != nil {
				t.Fatal(err)
			}
			took = append(took, time.Since(began))
		}
		slices.Sort(took)
		t.Logf("%-14s n=%d p50 %s p95 %s worst %s", what, n, took[n/2], took[n*95/100], took[n-1])
	}
	ctx := t.Context()
	measure("list", 50, func(int) error { _, err := r.List(ctx); return err })
	measure("inspect", 50, func(int) error { _, err := r.Inspect(ctx, id); return err })
	measure("update cpu", 20, func(i int) error {
		err := r.UpdateCPU(ctx, id, knowledge.Limits{CPU: core/4 + knowledge.NanoCPU(i)*1e7, Dialect: docker.CPUNano})
		return err
	})
	measure("update memory", 20, func(i int) error {
		err := r.UpdateMemory(ctx, id, 64*knowledge.MiB+knowledge.Bytes(i)*knowledge.MiB, 0)
		return err
	})
}
