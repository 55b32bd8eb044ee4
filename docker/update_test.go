package docker_test

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/effiscale/effiscale/docker"
	"github.com/effiscale/effiscale/docker/dockertest"
	"github.com/effiscale/effiscale/knowledge"
)

const core = knowledge.OneCPU

// lastUpdate is the request that the Engine got. It fails where a request breaks a rule:
// CPU and memory apart, no -1, no restart policy.
func lastUpdate(t testing.TB, e *dockertest.Engine) dockertest.Update {
	t.Helper()
	all := e.Updates()
	if len(all) == 0 {
		t.Fatal("no update came")
	}
	u := all[len(all)-1]
	cpu, memory := u.NanoCPUs != 0 || u.Quota != 0 || u.Period != 0, u.Memory != 0 || u.Swap != 0
	if cpu && memory || u.RestartPolicy || u.Quota < 0 || u.Swap < 0 || u.Memory < 0 || u.NanoCPUs < 0 {
		t.Fatalf("a bad request was sent: %+v", u)
	}
	if (u.Memory == 0) != (u.Swap == 0) || u.Quota != 0 && u.Period == 0 {
		t.Fatalf("half a request was sent: %+v", u)
	}
	return u
}

func TestUpdateCPUSpeaksTheDialect(t *testing.T) {
	nano, quota := docker.CPUNano, docker.CPUQuota
	ms := time.Millisecond
	for _, c := range []struct {
		name         string
		made, set    knowledge.Limits
		nano, us, of int64 // the request
	}{
		{"nano", knowledge.Limits{CPU: core, Dialect: nano}, knowledge.Limits{CPU: core / 2, Dialect: nano}, 5e8, 0, 0},
		{"first limit", knowledge.Limits{}, knowledge.Limits{CPU: core / 2}, 5e8, 0, 0},
		{"quota", knowledge.Limits{CPU: core, Dialect: quota}, knowledge.Limits{CPU: core / 2, Dialect: quota}, 0, 50000,
			100000},
		{"own period", knowledge.Limits{CPU: core, Dialect: quota, Period: 20 * ms},
			knowledge.Limits{CPU: core / 2, Dialect: quota, Period: 20 * ms}, 0, 10000, 20000},
		{"lift nano", knowledge.Limits{CPU: core, Dialect: nano}, knowledge.Limits{Dialect: nano}, 4e9, 0, 0},
		{"lift quota", knowledge.Limits{CPU: core, Dialect: quota, Period: 50 * ms},
			knowledge.Limits{Dialect: quota, Period: 50 * ms}, 0, 200000, 50000},
		{"more than the host", knowledge.Limits{CPU: core, Dialect: nano},
			knowledge.Limits{CPU: knowledge.MaxCPU, Dialect: nano}, 4e9, 0, 0},
		{"quota beyond the host", knowledge.Limits{CPU: core, Dialect: quota},
			knowledge.Limits{CPU: knowledge.MaxCPU, Dialect: quota}, 0, 400000, 100000},
		{"next to nothing", knowledge.Limits{CPU: core, Dialect: nano}, knowledge.Limits{CPU: 1, Dialect: nano}, 1e7, 0, 0},
		{"next to no quota", knowledge.Limits{CPU: core, Dialect: quota, Period: 20 * ms},
			knowledge.Limits{CPU: 1, Dialect: quota, Period: 20 * ms}, 0, 1000, 20000},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := dockertest.New(t, dockertest.Options{NCPU: 4})
			id := e.Run(dockertest.Spec{Limits: c.made})
			if err := open(t, e).UpdateCPU(t.Context(), id, c.set); err != nil {
				t.Fatal(err)
			}
			if u := lastUpdate(t, e); u.NanoCPUs != c.nano || u.Quota != c.us || u.Period != c.of {
				t.Errorf("sent nano %d quota %d period %d, want %d %d %d", u.NanoCPUs, u.Quota, u.Period, c.nano, c.us, c.of)
			}
		})
	}
}

func TestUpdateCPUInTheWrongDialectIsAConflict(t *testing.T) {
	e := dockertest.New(t, dockertest.Options{})
	c := open(t, e)
	nano := e.Run(dockertest.Spec{Limits: knowledge.Limits{CPU: core, Dialect: docker.CPUNano}})
	quota := e.Run(dockertest.Spec{Limits: knowledge.Limits{CPU: core, Dialect: docker.CPUQuota}})
	err := c.UpdateCPU(t.Context(), nano, knowledge.Limits{CPU: core, Dialect: docker.CPUQuota})
	wantKind(t, err, docker.KindConflict)
	err = c.UpdateCPU(t.Context(), quota, knowledge.Limits{CPU: core})
	wantKind(t, err, docker.KindConflict)
}

func TestUpdateMemory(t *testing.T) {
	const mib = knowledge.MiB
	for _, c := range []struct {
		name               string
		made               knowledge.Limits
		mem, swap          knowledge.Bytes
		wantMem, wantTotal knowledge.Bytes
	}{
		{"first limit of an unlimited container", knowledge.Limits{}, 64 * mib, 0, 64 * mib, 128 * mib},
		{"grow, the Engine's default swap", knowledge.Limits{Memory: 64 * mib}, 200 * mib, 0, 200 * mib, 264 * mib},
		{"shrink keeps the allowance", knowledge.Limits{Memory: 200 * mib}, 64 * mib, 0, 64 * mib, 264 * mib},
		{"no swap stays no swap", knowledge.Limits{Memory: 64 * mib, MemorySwap: 64 * mib}, 200 * mib, 0, 200 * mib,
			200 * mib},
		{"unlimited swap on record", knowledge.Limits{Memory: 64 * mib, MemorySwap: -1}, 200 * mib, 0, 200 * mib, 8392 * mib},
		{"unlimited swap given", knowledge.Limits{Memory: 64 * mib}, 200 * mib, -1, 200 * mib, 8392 * mib},
		{"total given", knowledge.Limits{Memory: 64 * mib}, 200 * mib, 300 * mib, 200 * mib, 300 * mib},
		{"total below memory", knowledge.Limits{Memory: 64 * mib}, 200 * mib, 100 * mib, 200 * mib, 200 * mib},
		{"down to a page", knowledge.Limits{Memory: 64 * mib, MemorySwap: 64 * mib}, 200_000_000, 0, 199_999_488,
			199_999_488},
		{"never under 6 MiB", knowledge.Limits{Memory: 64 * mib, MemorySwap: 64 * mib}, 1, 0, 6 * mib, 6 * mib},
		{"never beyond the host", knowledge.Limits{Memory: 64 * mib, MemorySwap: 64 * mib}, knowledge.MaxBytes, 0,
			8192 * mib, 8192 * mib},
		{"lift", knowledge.Limits{Memory: 64 * mib, MemorySwap: 64 * mib}, 0, 0, 8192 * mib, 8192 * mib},
	} {
		for version := 1; version <= 2; version++ {
			e := dockertest.New(t, dockertest.Options{Cgroup: version})
			id := e.Run(dockertest.Spec{Limits: c.made})
			if err := open(t, e).UpdateMemory(t.Context(), id, c.mem, c.swap); err != nil {
				t.Errorf("%s, v%d: %v", c.name, version, err)
				continue
			}
			if u := lastUpdate(t, e); knowledge.Bytes(u.Memory) != c.wantMem || knowledge.Bytes(u.Swap) != c.wantTotal {
				t.Errorf("%s, v%d: sent %d and %d, want %d and %d", c.name, version, u.Memory, u.Swap, c.wantMem, c.wantTotal)
			}
			if k := e.Kernel(id); k.Memory != c.wantMem {
				t.Errorf("%s, v%d: the kernel holds %d", c.name, version, k.Memory)
			}
		}
	}
}

func TestMemoryBelowUse(t *testing.T) {
	const mib = knowledge.MiB
	spec := dockertest.Spec{Limits: knowledge.Limits{Memory: 256 * mib}}
	t.Run("v1 refuses and says how much is used", func(t *testing.T) {
		e := dockertest.New(t, dockertest.Options{Cgroup: 1})
		id := e.Run(spec)
		e.SetMemory(id, 100*mib)
		err := open(t, e).UpdateMemory(t.Context(), id, 64*mib, 0)
		wantKind(t, err, docker.KindRefused)
		if !strings.Contains(err.Error(), "current usage: 104857600") {
			t.Error(err)
		}
		if k := e.Kernel(id); k.Memory != 256*mib || e.OOMKills(id) != 0 {
			t.Errorf("kernel %v, %d kills", k.Memory, e.OOMKills(id))
		}
	})
	t.Run("v2 kills, and may call that an error", func(t *testing.T) {
		for _, isError := range []bool{false, true} {
			e := dockertest.New(t, dockertest.Options{Cgroup: 2, KilledIsError: isError})
			id := e.Run(spec)
			e.SetMemory(id, 100*mib)
			err := open(t, e).UpdateMemory(t.Context(), id, 64*mib, 0)
			if isError {
				wantKind(t, err, docker.KindGone)
			} else if err != nil {
				t.Error(err)
			}
			if e.OOMKills(id) != 1 {
				t.Errorf("%d kills", e.OOMKills(id))
			}
		}
	})
}

func TestUpdateShares(t *testing.T) {
	e := dockertest.New(t, dockertest.Options{})
	id := e.Run(dockertest.Spec{})
	c := open(t, e)
	for shares, want := range map[int64]int64{0: 1024, 1: 2, 512: 512, 1 << 40: 262144} {
		if err := c.UpdateShares(t.Context(), id, shares); err != nil {
			t.Fatal(err)
		}
		if u := lastUpdate(t, e); u.Shares != want {
			t.Errorf("%d: sent %d, want %d", shares, u.Shares, want)
		}
	}
}

// Row 55 (of the client), row 36: invalid values are refused without a request.
func TestNonsenseIsRefusedHere(t *testing.T) {
	e := dockertest.New(t, dockertest.Options{})
	good := e.Run(dockertest.Spec{Name: "web"})
	c := open(t, e)
	ctx := t.Context()
	for _, id := range []knowledge.ContainerID{"", "web", "a", good[:12], good + "0", "../" + good, good[:60] + "/../",
		knowledge.ContainerID(strings.ToUpper(string(good)))} {
		if id == good {
			continue
		}
		_, err := c.Inspect(ctx, id)
		wantKind(t, err, docker.KindRefused)
		err = c.UpdateCPU(ctx, id, knowledge.Limits{CPU: core})
		wantKind(t, err, docker.KindRefused)
		wantKind(t, c.Remove(ctx, id), docker.KindRefused)
	}
	err := c.UpdateCPU(ctx, good, knowledge.Limits{CPU: -1})
	wantKind(t, err, docker.KindRefused)
	err = c.UpdateCPU(ctx, good, knowledge.Limits{CPU: core, Period: 2 * time.Second})
	wantKind(t, err, docker.KindRefused)
	err = c.UpdateMemory(ctx, good, -1, 0)
	wantKind(t, err, docker.KindRefused)
	err = c.UpdateMemory(ctx, good, 64*knowledge.MiB, -2)
	wantKind(t, err, docker.KindRefused)
	err = c.UpdateShares(ctx, good, -1)
	wantKind(t, err, docker.KindRefused)
	if n := len(e.Updates()) + e.Calls(dockertest.Inspect) + e.Calls(dockertest.RemoveC); n != 0 {
		t.Errorf("the Engine was asked %d times", n)
	}
}

// For all arguments the request is valid, and kernel and record agree.
func TestUpdatesAreAlwaysLegal(t *testing.T) {
	e := dockertest.New(t, dockertest.Options{NCPU: 4, Memory: 8 * knowledge.GiB})
	c := open(t, e)
	rapid.Check(t, func(r *rapid.T) {
		made := knowledge.Limits{
			CPU:     knowledge.NanoCPU(rapid.Int64Range(0, int64(4*core)).Draw(r, "made cpu")) / 1e7 * 1e7,
			Dialect: rapid.SampledFrom([]uint8{docker.CPUNano, docker.CPUQuota}).Draw(r, "field"),
			Memory:  knowledge.Bytes(rapid.SampledFrom([]int64{0, 6 << 20, 64 << 20, 4 << 30}).Draw(r, "made memory")),
			Period:  100 * time.Millisecond,
		}
		id := e.Run(dockertest.Spec{Limits: made})
		defer e.Remove(id)
		l := made
		l.CPU = knowledge.NanoCPU(rapid.Int64Range(0, 1<<62).Draw(r, "cpu"))
		if made.CPU == 0 {
			l.Dialect = 0
		}
		if err := c.UpdateCPU(t.Context(), id, l); err != nil {
			r.Fatalf("cpu: %v", err)
		}
		lastUpdate(t, e)
		mem := knowledge.Bytes(rapid.Int64Range(0, 1<<62).Draw(r, "memory"))
		swap := knowledge.Bytes(rapid.Int64Range(-1, 1<<62).Draw(r, "swap"))
		if err := c.UpdateMemory(t.Context(), id, mem, swap); err != nil {
			r.Fatalf("memory: %v", err)
		}
		lastUpdate(t, e)
		k, rec := e.Kernel(id), e.Record(id)
		if k.CPU != rec.CPU || k.Memory != rec.Memory || k.CPU > 4*core || k.CPU < core/100 || k.Memory > 8*knowledge.GiB ||
			k.Memory < 6*knowledge.MiB {
			r.Fatalf("kernel %+v, record %+v", k, rec)
		}
	})
}
