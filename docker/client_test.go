package docker_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/effiscale/effiscale/docker"
	"github.com/effiscale/effiscale/docker/dockertest"
	"github.com/effiscale/effiscale/knowledge"
)

func contextOf(t *testing.T) (context.Context, context.CancelFunc) {
	return context.WithCancel(context.Background())
}

func TestOpenRefusesBadHosts(t *testing.T) {
	for _, host := range []string{
		"x", "unix://", "unix://relative", "tcp://", "tcp://nohost", "tcp://h:0", "tcp://h:70000", "ftp://h:1",
		"unix:///a b", "unix:///a\x00b", "unix:///" + strings.Repeat("x", 200), "http://127.0.0.1:2375",
	} {
		_, err := docker.Open(docker.Options{Host: host})
		if err == nil || !strings.Contains(err.Error(), "Docker host") {
			t.Errorf("host %q: error %v must name the host", host, err)
		}
	}
	for _, host := range []string{"", "unix:///run/docker.sock", "tcp://127.0.0.1:2375", "tcp://[::1]:2375"} {
		if _, err := docker.Open(docker.Options{Host: host}); err != nil {
			t.Errorf("host %q: %v", host, err)
		}
	}
}

func TestHost(t *testing.T) {
	e := dockertest.New(t, dockertest.Options{NCPU: 6, Memory: 3 * knowledge.GiB, Driver: "systemd"})
	h, err := open(t, e).Host(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := knowledge.Host{
		Name: "fake", CPUs: 6, Memory: 3 * knowledge.GiB, EngineVersion: "20.10.24", APIVersion: "1.41",
		CgroupVersion: 2, CgroupDriver: "systemd", SwapLimit: true,
	}
	if d := cmp.Diff(want, h); d != "" {
		t.Error(d)
	}
}

func TestListTellsAllContainersInOneCall(t *testing.T) {
	e := dockertest.New(t, dockertest.Options{})
	e.Run(dockertest.Spec{Name: "web", Health: "starting", Labels: map[string]string{"effiscale.service": "front"}})
	e.Run(dockertest.Spec{Name: "db", Health: "healthy"})
	e.Run(dockertest.Spec{Name: "sick", Health: "unhealthy"})
	e.Stop(e.Run(dockertest.Spec{Name: "old", Health: "healthy"}))
	all, err := open(t, e).List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	type line struct {
		Name    string
		Service knowledge.ServiceKey
		State   knowledge.RunState
		Health  knowledge.Health
	}
	var got []line
	for _, c := range all {
		got = append(got, line{c.Name, c.Service, c.State, c.Health})
		if c.Inspected || c.Created.IsZero() {
			t.Errorf("%s: Inspected %v, Created %v", c.Name, c.Inspected, c.Created)
		}
	}
	want := []line{
		{"db", "db", knowledge.StateRunning, knowledge.HealthHealthy},
		{"old", "old", knowledge.StateExited, knowledge.HealthNone},
		{"sick", "sick", knowledge.StateRunning, knowledge.HealthUnhealthy},
		{"web", "front", knowledge.StateRunning, knowledge.HealthStarting},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if n := e.Calls(dockertest.Inspect) + e.Calls(dockertest.List); n != 1 {
		t.Errorf("%d calls", n)
	}
}

func TestInspect(t *testing.T) {
	e := dockertest.New(t, dockertest.Options{})
	nano := knowledge.Limits{CPU: knowledge.OneCPU / 2, Dialect: docker.CPUNano, Memory: 64 * knowledge.MiB, Shares: 512}
	quota := knowledge.Limits{CPU: knowledge.OneCPU * 3 / 2, Dialect: docker.CPUQuota, Period: 20 * time.Millisecond}
	for _, c := range []struct {
		name    string
		spec    dockertest.Spec
		want    knowledge.Limits
		hazards []string
	}{
		{"nano", dockertest.Spec{Limits: nano},
			knowledge.Limits{CPU: nano.CPU, Dialect: nano.Dialect, Period: knowledge.DefaultPeriod, Shares: 512,
				Memory: nano.Memory, MemorySwap: 2 * nano.Memory}, nil},
		{"quota", dockertest.Spec{Limits: quota}, quota, nil},
		{"none", dockertest.Spec{Runtime: "io.containerd.runc.v2"}, knowledge.Limits{}, nil},
		{"gpu", dockertest.Spec{GPU: true, Runtime: "nvidia"}, knowledge.Limits{}, []string{"gpu", "runtime"}},
		{"kata", dockertest.Spec{Runtime: "kata"}, knowledge.Limits{}, []string{"runtime"}},
		{"swarm", dockertest.Spec{Labels: map[string]string{"com.docker.swarm.task.id": "x",
			"com.docker.swarm.service.name": "s"}}, knowledge.Limits{}, []string{"swarm"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.spec.Name, c.spec.CgroupParent = c.name, "/custom"
			id := e.Run(c.spec)
			k, err := open(t, e).Inspect(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			k.Limits.Recorded = knowledge.Recorded{}
			if d := cmp.Diff(c.want, k.Limits); d != "" {
				t.Error(d)
			}
			if d := cmp.Diff(c.hazards, k.Hazards); d != "" {
				t.Error(d)
			}
			if !k.Inspected || k.ID != id || k.Name != c.name || k.PID == 0 || k.StartedAt.IsZero() ||
				k.CgroupParent != "/custom" || k.State != knowledge.StateRunning {
				t.Errorf("%+v", k)
			}
		})
	}
}

// The image key is the same from a listing and from an inspect, and for another container
// of the same image and command only.
func TestImageKeyOfListAndInspect(t *testing.T) {
	e := dockertest.New(t, dockertest.Options{})
	for _, s := range []dockertest.Spec{
		{Name: "a", Image: "web:1", Args: []string{"--port", "80"}},
		{Name: "b", Image: "web:1", Args: []string{"--port", "80"}},
		{Name: "c", Image: "web:1"}, {Name: "d", Image: "web:2", Args: []string{"--port", "80"}},
	} {
		e.Run(s)
	}
	c := open(t, e)
	all, err := c.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	keys := map[knowledge.ImageKey][]string{}
	for _, k := range all {
		keys[k.Image] = append(keys[k.Image], k.Name)
		one, err := c.Inspect(t.Context(), k.ID)
		if err != nil || one.Image != k.Image || k.Image == "" || one.ImageName != k.ImageName {
			t.Errorf("%s: %q in the listing, %q inspected, %v", k.Name, k.Image, one.Image, err)
		}
	}
	if len(keys) != 3 || len(keys[all[0].Image]) != 2 {
		t.Errorf("%v", keys)
	}
}

func TestStatsOfBothCgroupVersions(t *testing.T) {
	for version := 1; version <= 2; version++ {
		e := dockertest.New(t, dockertest.Options{Cgroup: version})
		id := e.Run(dockertest.Spec{Limits: knowledge.Limits{CPU: knowledge.OneCPU / 5, Memory: 256 * knowledge.MiB}})
		e.SetUsage(id, 1)
		e.SetMemory(id, 100*knowledge.MiB)
		e.SetCache(id, 20*knowledge.MiB)
		e.Advance(time.Second)
		var s knowledge.Sample
		if err := open(t, e).Stats(t.Context(), id, &s); err != nil {
			t.Fatal(err)
		}
		if s.At.IsZero() {
			t.Error("no time")
		}
		s.At = time.Time{}
		want := knowledge.Sample{
			Have: knowledge.HasCPU | knowledge.HasThrottle | knowledge.HasMemory | knowledge.HasMemoryStat |
				knowledge.HasIO | knowledge.HasPids | knowledge.HasNetwork,
			CPUUsage: 200 * time.Millisecond, Periods: 10, Throttled: 10, ThrottledTime: 800 * time.Millisecond,
			MemoryUsage: 120 * knowledge.MiB,
			MemoryLimit: 256 * knowledge.MiB, ReadBytes: 4096, Pids: 1, RxBytes: 100, TxBytes: 200,
			MemoryDetail: knowledge.MemoryDetail{Anon: 100 * knowledge.MiB, File: 20 * knowledge.MiB,
				InactiveFile: 20 * knowledge.MiB, Reclaimable: 20 * knowledge.MiB, CleanFile: 20 * knowledge.MiB},
		}
		if d := cmp.Diff(want, s); d != "" {
			t.Errorf("cgroup v%d: %s", version, d)
		}
		e.Stop(id)
		wantKind(t, open(t, e).Stats(t.Context(), id, &s), docker.KindGone)
	}
}
