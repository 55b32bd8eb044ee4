package dockertest_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/effiscale/effiscale/docker"
	"github.com/effiscale/effiscale/docker/cgroup"
	"github.com/effiscale/effiscale/docker/dockertest"
	"github.com/effiscale/effiscale/knowledge"
)

const (
	core = knowledge.OneCPU
	mib  = knowledge.MiB
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// machine is one kind of host: a fake Engine, its client, and its kernel files
// as docker/cgroup reads them.
type machine struct {
	*dockertest.Engine
	c *docker.Client
	h *cgroup.Host
}

// everywhere runs a test on cgroup v1 and v2, with both drivers.
func everywhere(t *testing.T, test func(t *testing.T, m machine, o dockertest.Options)) {
	for _, o := range []dockertest.Options{
		{Cgroup: 1}, {Cgroup: 2}, {Cgroup: 2, Driver: "systemd"}, {Cgroup: 1, Driver: "systemd"},
	} {
		t.Run(fmt.Sprintf("v%d %s", o.Cgroup, o.Driver), func(t *testing.T) {
			o.Files = true
			e := dockertest.New(t, o)
			c, err := docker.Open(docker.Options{Host: e.Host()})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = c.Close() })
			h, err := cgroup.Open(cgroup.Options{Root: e.Root(), Driver: o.Driver})
			if err != nil {
				t.Fatal(err)
			}
			test(t, machine{e, c, h}, o)
		})
	}
}

func (m machine) attach(t *testing.T, id knowledge.ContainerID) *cgroup.Container {
	t.Helper()
	k, err := m.c.Inspect(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	a, err := m.h.Attach(k)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}

func read(t *testing.T, a *cgroup.Container) (s knowledge.Sample) {
	t.Helper()
	if err := errors.Join(a.Read(&s, knowledge.FastTier), a.Read(&s, knowledge.SlowTier)); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestFilesTellWhatTheKernelModelHolds(t *testing.T) {
	everywhere(t, func(t *testing.T, m machine, o dockertest.Options) {
		id := m.Run(dockertest.Spec{Limits: knowledge.Limits{CPU: core / 2, Memory: 256 * mib}})
		a := m.attach(t, id)
		m.SetUsage(id, 2)
		m.SetMemory(id, 100*mib)
		m.SetCache(id, 28*mib)
		m.Advance(time.Second)
		s := read(t, a)
		const want = knowledge.HasCPU | knowledge.HasThrottle | knowledge.HasMemory | knowledge.HasMemoryStat |
			knowledge.HasLimits | knowledge.HasOOM | knowledge.HasIO | knowledge.HasPids | knowledge.HasNetwork
		if s.Have&want != want {
			t.Errorf("read %b of %b", s.Have, want)
		}
		if s.CPUUsage != 500*time.Millisecond || s.Periods != 10 || s.Throttled != 10 ||
			s.ThrottledTime != 1500*time.Millisecond {
			t.Errorf("cpu: %+v", s)
		}
		if s.MemoryUsage != 128*mib || s.Anon != 100*mib || s.CleanFile != 28*mib || s.MemoryLimit != 256*mib ||
			s.Quota != core/2 {
			t.Errorf("memory: %+v", s)
		}
		if o.Cgroup == 2 != (s.Have&knowledge.HasMemoryPressure != 0) {
			t.Errorf("pressure: %b", s.Have)
		}
		// An update changes the files that are held open.
		if err := m.c.UpdateMemory(t.Context(), id, 512*mib, 0); err != nil {
			t.Fatal(err)
		}
		if err := m.c.UpdateCPU(t.Context(), id, knowledge.Limits{CPU: 3 * core}); err != nil {
			t.Fatal(err)
		}
		m.SetMemory(id, 9*mib) // fewer digits than before
		m.SetCache(id, 0)
		m.Advance(time.Second)
		if s = read(t, a); s.MemoryUsage != 9*mib || s.MemoryLimit != 512*mib || s.Quota != 3*core || s.Throttled != 10 ||
			s.CPUUsage != 2500*time.Millisecond {
			t.Errorf("after: %+v", s)
		}
		var host cgroup.HostSample
		u, err := m.h.OpenUsage()
		if err != nil {
			t.Fatal(err)
		}
		defer u.Close()
		if err := u.Read(&host); err != nil || host.Busy != 2500*time.Millisecond || host.Total != 8*knowledge.GiB {
			t.Errorf("%+v %v", host, err)
		}
	})
}

// A quota that is written to the file takes effect with the next period.
func TestDirectWritesAreObeyed(t *testing.T) {
	everywhere(t, func(t *testing.T, m machine, o dockertest.Options) {
		id := m.Run(dockertest.Spec{Limits: knowledge.Limits{CPU: core}})
		a := m.attach(t, id)
		m.SetUsage(id, 2)
		for _, q := range []knowledge.NanoCPU{core / 4, 2 * core, core / 20, 0} {
			if err := a.SetQuota(q, 0); err != nil {
				t.Fatal(err)
			}
			if k := m.Kernel(id); k.CPU != q {
				t.Errorf("wrote %v, the kernel holds %v", q, k.CPU)
			}
		}
		if err := a.SetQuota(core/4, 0); err != nil {
			t.Fatal(err)
		}
		before := read(t, a)
		m.Advance(time.Second)
		after := read(t, a)
		if got := after.CPUUsage - before.CPUUsage; got != 250*time.Millisecond {
			t.Errorf("used %v", got)
		}
		if r := m.Record(id); r.CPU != core {
			t.Errorf("the Engine believes %v", r.CPU)
		}
		// When the Engine sets memory, systemd restores the unit's quota.
		if err := m.c.UpdateMemory(t.Context(), id, 64*mib, 0); err != nil {
			t.Fatal(err)
		}
		want := core / 4
		if o.Driver == "systemd" {
			want = core
		}
		if k := m.Kernel(id); k.CPU != want {
			t.Errorf("after an update of memory the kernel holds %v, want %v", k.CPU, want)
		}
		if err := a.SetQuota(core/4, 0); err != nil {
			t.Fatal(err)
		}
		m.DaemonReload()
		if k := m.Kernel(id); k.CPU != want {
			t.Errorf("after daemon-reload the kernel holds %v, want %v", k.CPU, want)
		}
	})
}

func TestRestartedContainerHasANewCgroup(t *testing.T) {
	everywhere(t, func(t *testing.T, m machine, o dockertest.Options) {
		id := m.Run(dockertest.Spec{Restart: true, Limits: knowledge.Limits{Memory: 64 * mib}})
		a := m.attach(t, id)
		m.SetUsage(id, 1)
		m.Advance(time.Second)
		m.SetMemory(id, 65*mib) // kills
		var s knowledge.Sample
		if err := a.Read(&s, knowledge.FastTier); !errors.Is(err, cgroup.ErrGone) {
			t.Errorf("the old cgroup: %v", err)
		}
		if s = read(t, m.attach(t, id)); s.CPUUsage != 0 || s.MemoryUsage != 0 {
			t.Errorf("the new one: %+v", s)
		}
		k, err := m.c.Inspect(t.Context(), id)
		if err != nil || k.Restarts != 1 || m.OOMKills(id) != 1 {
			t.Errorf("%+v %v, %d kills", k, err, m.OOMKills(id))
		}
		m.Remove(id)
		left, err := filepath.Glob(filepath.Join(m.Root(), "sys/fs/cgroup/*", "*", "*"+string(id)+"*"))
		if err != nil || len(left) != 0 {
			t.Errorf("left behind: %v %v", left, err)
		}
	})
}

func TestMemoryGrowsUntilTheLimitKills(t *testing.T) {
	everywhere(t, func(t *testing.T, m machine, o dockertest.Options) {
		id := m.Run(dockertest.Spec{Survives: true, Limits: knowledge.Limits{Memory: 64 * mib}})
		a := m.attach(t, id)
		m.SetMemory(id, 32*mib)
		m.SetCache(id, 32*mib)
		m.SetGrowth(id, float64(5*mib))
		for range 6 {
			m.Advance(time.Second)
		}
		if s := read(t, a); s.Anon != 62*mib || s.File != 2*mib || s.MaxEvents == 0 || s.OOMKills != 0 {
			t.Errorf("cache goes first: %+v", s)
		}
		m.Advance(time.Second)
		if s := read(t, a); s.OOMKills != 1 || m.OOMKills(id) != 1 {
			t.Errorf("%+v", s)
		}
	})
}

func TestMemoryHigh(t *testing.T) {
	e := dockertest.New(t, dockertest.Options{Files: true})
	id := e.Run(dockertest.Spec{Limits: knowledge.Limits{Memory: 64 * mib}})
	h, err := cgroup.Open(cgroup.Options{Root: e.Root()})
	if err != nil {
		t.Fatal(err)
	}
	a, err := h.Attach(knowledge.Container{ID: id})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if err := a.SetHigh(32 * mib); err != nil {
		t.Fatal(err)
	}
	e.SetMemory(id, 40*mib)
	s := read(t, a)
	if s.MemoryHigh != 32*mib || s.HighEvents != 1 || s.OOMKills != 0 {
		t.Errorf("%+v", s)
	}
}

// Remainders of a CFS period are not lost between calls.
func TestTimePassesInPeriods(t *testing.T) {
	e := dockertest.New(t, dockertest.Options{Files: true, Cgroup: 1})
	id := e.Run(dockertest.Spec{Limits: knowledge.Limits{CPU: core / 10}})
	e.SetUsage(id, 0.05)
	for range 100 {
		e.Advance(13 * time.Millisecond)
	}
	text, err := os.ReadFile(filepath.Join(e.Root(), "sys/fs/cgroup/cpu/docker", string(id), "cpu.stat"))
	if err != nil || !strings.HasPrefix(string(text), "nr_periods 13\nnr_throttled 0\nthrottled_time 0\n") {
		t.Errorf("%s %v", text, err)
	}
}

// An update is not atomic: the CPU part fails in the kernel, the record is restored, and
// the memory limit stays.
func TestFailedUpdateIsNotAtomic(t *testing.T) {
	e := dockertest.New(t, dockertest.Options{Cgroup: 1})
	id := e.Run(dockertest.Spec{Limits: knowledge.Limits{Memory: 256 * mib}})
	status := post(t, e, id, `{"Memory":200000000,"MemorySwap":200000000,"NanoCpus":5000000}`)
	if status != 500 {
		t.Errorf("status %d", status)
	}
	if r, k := e.Record(id), e.Kernel(id); r.Memory != 256*mib || k.Memory != 199_999_488 {
		t.Errorf("record %v, kernel %v", r.Memory, k.Memory)
	}
}

func TestRefusalsOfTheEngine(t *testing.T) {
	e := dockertest.New(t, dockertest.Options{Cgroup: 1, NCPU: 2})
	free := e.Run(dockertest.Spec{})
	nano := e.Run(dockertest.Spec{Limits: knowledge.Limits{CPU: core, Memory: 64 * mib, MemorySwap: 64 * mib}})
	quota := e.Run(dockertest.Spec{Limits: knowledge.Limits{CPU: core, Dialect: docker.CPUQuota}})
	gone := knowledge.ContainerID(strings.Repeat("0", 64))
	for _, c := range []struct {
		id   knowledge.ContainerID
		body string
		want int
	}{
		{free, `{"Memory":67108864}`, 409}, // the first limit without memory+swap
		{free, `{"Memory":67108864,"MemorySwap":134217728}`, 200},
		{nano, `{"Memory":134217728}`, 409},
		{nano, `{"Memory":134217728,"MemorySwap":67108864}`, 400},
		{nano, `{"Memory":6291455,"MemorySwap":67108864}`, 400},
		{nano, `{"Memory":6291456,"MemorySwap":67108864}`, 200},
		{nano, `{"Memory":-1}`, 400},
		{nano, `{"NanoCpus":2000000001}`, 400},
		{nano, `{"NanoCpus":-1}`, 400},
		{nano, `{"CpuQuota":50000}`, 409},
		{nano, `{"CpuPeriod":50000}`, 409},
		{quota, `{"NanoCpus":500000000}`, 409},
		{quota, `{"CpuQuota":999}`, 400},
		{quota, `{"CpuQuota":1000,"CpuPeriod":999}`, 400},
		{quota, `{"CpuQuota":100000000}`, 200}, // 1000 CPUs: no upper bound
		{quota, `{"NanoCpus":1,"CpuQuota":1000}`, 400},
		{gone, `{"CpuShares":2}`, 404},
		{nano, `{"Memory":`, 400},
	} {
		if got := post(t, e, c.id, c.body); got != c.want {
			t.Errorf("%s: %d, want %d", c.body, got, c.want)
		}
	}
}

// A quota of -1 on a container with NanoCPUs: a later limit is in force, and lost at the
// next start.
func TestTheTrapOfLiftingWithMinusOne(t *testing.T) {
	e := dockertest.New(t, dockertest.Options{})
	id := e.Run(dockertest.Spec{Limits: knowledge.Limits{CPU: core}})
	post(t, e, id, `{"CpuQuota":-1}`)
	post(t, e, id, `{"NanoCpus":1000000000}`)
	if k := e.Kernel(id); k.CPU != core {
		t.Errorf("live: %v", k.CPU)
	}
	e.Stop(id)
	e.Start(id)
	if k := e.Kernel(id); k.CPU != 0 {
		t.Errorf("after a restart: %v", k.CPU)
	}
}

func TestStoppedContainerStoresOnly(t *testing.T) {
	e := dockertest.New(t, dockertest.Options{})
	id := e.Run(dockertest.Spec{})
	e.Stop(id)
	if status := post(t, e, id, `{"NanoCpus":5000000}`); status != 200 {
		t.Errorf("status %d", status)
	}
	if r := e.Record(id); r.CPU == 0 {
		t.Error("not stored")
	}
}

func TestStaleInspect(t *testing.T) {
	e := dockertest.New(t, dockertest.Options{})
	c, err := docker.Open(docker.Options{Host: e.Host()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	id := e.Run(dockertest.Spec{Limits: knowledge.Limits{CPU: core}})
	if err := c.UpdateCPU(t.Context(), id, knowledge.Limits{CPU: 2 * core}); err != nil {
		t.Fatal(err)
	}
	e.Inject(dockertest.Fault{Op: dockertest.Inspect, Stale: true, Times: 1})
	for _, want := range []knowledge.NanoCPU{core, 2 * core} {
		if k, err := c.Inspect(t.Context(), id); err != nil || k.Limits.CPU != want {
			t.Errorf("%v %v, want %v", k.Limits.CPU, err, want)
		}
	}
}

// A change by a person, systemd or the container is visible in API and files.
func TestChangesFromOutside(t *testing.T) {
	everywhere(t, func(t *testing.T, m machine, o dockertest.Options) {
		id := m.Run(dockertest.Spec{Health: "starting", Limits: knowledge.Limits{CPU: core, Memory: 64 * mib}})
		a := m.attach(t, id)
		m.SetKernel(id, knowledge.Limits{CPU: core / 2, Memory: 32 * mib})
		m.SetPressure(id, 12.5, 3)
		m.SetHealth(id, "healthy")
		m.Pause(id, true)
		s := read(t, a)
		if s.Quota != core/2 || s.MemoryLimit != 32*mib {
			t.Errorf("%+v", s)
		}
		if o.Cgroup == 2 && (s.CPUPressure.Some10 != 12.5 || s.MemoryPressure.Some10 != 3) {
			t.Errorf("%+v", s)
		}
		k, err := m.c.Inspect(t.Context(), id)
		if err != nil || k.Health != knowledge.HealthHealthy || k.State != knowledge.StatePaused || k.Limits.CPU != core ||
			k.Limits.Memory != 64*mib {
			t.Errorf("%+v %v", k, err)
		}
		m.SetKernel(id, knowledge.Limits{})
		if s := read(t, a); s.Quota != 0 || s.MemoryLimit != 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestLive(t *testing.T) {
	e := dockertest.New(t, dockertest.Options{})
	c, err := docker.Open(docker.Options{Host: e.Host()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	id := e.Run(dockertest.Spec{})
	e.SetUsage(id, 1)
	stop := e.Live(5 * time.Millisecond)
	var s knowledge.Sample
	for deadline := time.Now().Add(10 * time.Second); s.CPUUsage < 200*time.Millisecond; time.Sleep(time.Millisecond) {
		if err := c.Stats(t.Context(), id, &s); err != nil || time.Now().After(deadline) {
			t.Fatal(err, s)
		}
	}
	stop()
}
