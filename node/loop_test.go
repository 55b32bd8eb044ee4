package node

import (
	"context"
	"math/rand/v2"
	"net/http"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/effiscale/effiscale/docker"
	"github.com/effiscale/effiscale/docker/cgroup"
	"github.com/effiscale/effiscale/docker/dockertest"
	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/knowledge/store"
	"github.com/effiscale/effiscale/mape"
	"github.com/effiscale/effiscale/node/api"
	"github.com/effiscale/effiscale/node/config"
	"github.com/effiscale/effiscale/node/ops"
)

// rig is the whole walk: the loop, the real client of an Engine that is a test's,
// the reader of its kernel files, a real store.
type rig struct {
	t      *testing.T
	e      *dockertest.Engine
	n      *Node
	client *docker.Client
	stop   func()
}

var opted = map[string]string{"effiscale.enable": "true"}

func newRig(t *testing.T, o dockertest.Options) *rig {
	t.Helper()
	return newRigOver(t, o, func(*store.Store, *config.Config) {})
}

// newRigOver begins with what an earlier life left in the store, and other settings.
func newRigOver(t *testing.T, o dockertest.Options, leave func(*store.Store, *config.Config)) *rig {
	t.Helper()
	s, _, err := store.Open(store.Options{Dir: t.TempDir(), Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	return newRigWith(t, o, s, func(cfg *config.Config) { leave(s, cfg) })
}

// newRigWith begins with a store, and other settings.
func newRigWith(t *testing.T, o dockertest.Options, s *store.Store, set func(*config.Config)) *rig {
	t.Helper()
	return newRigSeeing(t, o, s, set, true)
}

// newRigSeeing may be one that sees no kernel files.
func newRigSeeing(t *testing.T, o dockertest.Options, s *store.Store, set func(*config.Config), files bool) *rig {
	t.Helper()
	t.Cleanup(func() { _ = s.Close() })
	o.Files = true
	r := &rig{t: t, e: dockertest.New(t, o)}
	cfg := config.Defaults()
	cfg.Monitor.ListEvery, cfg.Monitor.SlowEvery = time.Second, time.Second
	cfg.Store.FlushEvery = time.Second
	client, err := docker.Open(docker.Options{Host: r.e.Host(), UpdateTimeout: time.Second, InspectTimeout: time.Second,
		ListTimeout: time.Second, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	host, err := client.Host(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	set(&cfg)
	kernel, err := cgroup.Open(cgroup.Options{Root: r.e.Root(), Driver: o.Driver})
	if err != nil {
		t.Fatal(err)
	}
	if !files {
		kernel = nil
	}
	r.client = client
	r.n = blank(Options{})
	r.n.store, r.n.engine, r.n.log, r.n.metrics = s, client, zerolog.Nop(), api.NewMetrics("test")
	r.n.probes = newProbes(kernel, client, r.n.log)
	r.n.identity.Node = "self"
	r.n.cfg.Store(&cfg)
	r.n.machine.described.Store(&host)
	r.n.openLoop(cfg)
	if err := r.n.openOps(r.n.cfg.Load(), &ops.KeyRing{}); err != nil {
		t.Fatal(err)
	}
	r.start()
	return r
}

func (r *rig) start() {
	ctx, cancel := context.WithCancel(context.Background())
	watched := make(chan struct{})
	go r.n.loop.Run(ctx)
	go func() { defer close(watched); r.client.Watch(ctx, r.n.loop.Emit) }()
	r.stop = func() { cancel(); <-r.n.loop.Stopped(); <-watched }
	r.t.Cleanup(func() { r.stop() })
	r.e.Live(20 * time.Millisecond)
}

// soon waits for a condition; the bounds are generous for a busy machine.
func (r *rig) soon(most time.Duration, what string, ok func() bool) time.Duration {
	r.t.Helper()
	began := time.Now()
	for !ok() {
		if time.Since(began) > most {
			r.t.Fatalf("not within %s: %s", most, what)
		}
		time.Sleep(5 * time.Millisecond)
	}
	return time.Since(began)
}

// pass lets real time go by, and looks all the while.
func (r *rig) pass(d time.Duration, look func()) {
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		look()
	}
}

func (r *rig) unit(id knowledge.ContainerID) (mape.ContainerStatus, bool) {
	v, _, err := r.n.loop.Find(r.t.Context(), string(id))
	return v, err == nil
}

// managed waits until a container was met and may be acted upon.
func (r *rig) managed(id knowledge.ContainerID) {
	r.t.Helper()
	r.soon(10*time.Second, "managed", func() bool {
		u, ok := r.unit(id)
		return ok && u.OriginalKept && u.Window.Samples > 3
	})
}

// serve starts the services, until the test ends, and makes a client of them.
func (r *rig) serve(o api.Options) (*api.Server, *http.Client) {
	r.t.Helper()
	o.Log, o.Metrics = zerolog.Nop(), r.n.metrics
	s, err := api.New(r.n.ops.Backend(), o)
	if err != nil {
		r.t.Fatal(err)
	}
	if err := s.Bind(); err != nil {
		r.t.Fatal(err)
	}
	s.Start()
	c := &http.Client{Transport: &http.Transport{}}
	r.t.Cleanup(func() { c.CloseIdleConnections(); s.Close(context.Background()) })
	return s, c
}

// checkUpdates holds every update that reached the Engine against I3 and ENGINE.md.
func (r *rig) checkUpdates() {
	r.t.Helper()
	for _, u := range r.e.Updates() {
		switch {
		case u.Overlapped:
			r.t.Errorf("I3: two updates of one container at once: %+v", u)
		case u.RestartPolicy:
			r.t.Errorf("an update with a restart policy: %+v", u)
		case u.Memory != 0 && (u.NanoCPUs != 0 || u.Quota != 0):
			r.t.Errorf("CPU and memory in one update, which is not atomic: %+v", u)
		case u.Memory != 0 && u.Swap < u.Memory:
			r.t.Errorf("memory without memory+swap: %+v", u)
		}
	}
	if open := r.n.store.Journal.OpenActions(); len(open) != 0 {
		r.t.Errorf("I4: actions left open: %+v", open)
	}
}

func machines() map[string]dockertest.Options {
	return map[string]dockertest.Options{
		"v1": {Cgroup: 1}, "v2": {Cgroup: 2}, "v2 systemd": {Cgroup: 2, Driver: "systemd", API: "1.51"},
	}
}

// Row 101: limits that move below what a container starts with are not the Engine's business.
func TestTheEngineIsLeftAlone(t *testing.T) {
	for name, o := range machines() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o.NCPU = 16
			r := newRig(t, o)
			limits := knowledge.Limits{CPU: knowledge.OneCPU, Memory: 128 * knowledge.MiB, MemorySwap: 128 * knowledge.MiB}
			var ids []knowledge.ContainerID
			for range 10 {
				ids = append(ids, r.e.Run(dockertest.Spec{Labels: opted, Limits: limits}))
			}
			for _, id := range ids {
				r.managed(id)
			}
			least, began := knowledge.OneCPU, time.Now()
			r.pass(20*time.Second, func() {
				high := time.Since(began) > 15*time.Second
				for i, id := range ids {
					r.e.SetUsage(id, map[bool]float64{true: 0.2, false: 0.01 * float64(i)}[high])
					least = min(least, r.e.Kernel(id).CPU)
				}
			})
			if n := len(r.e.Updates()); n > 0 || least > knowledge.OneCPU*9/10 {
				t.Errorf("%d updates of the Engine; the lowest quota is %s", n, least)
			}
		})
	}
}

// The main job over real files and HTTP: a step of load, memory that grows, and at
// the end it starts with what is in force.
func TestLoopOverEngineAndFiles(t *testing.T) {
	for name, o := range machines() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, o)
			limits := knowledge.Limits{CPU: knowledge.OneCPU, Memory: 128 * knowledge.MiB, MemorySwap: 128 * knowledge.MiB}
			web := r.e.Run(dockertest.Spec{Name: "web", Labels: opted, Limits: limits})
			other := r.e.Run(dockertest.Spec{Name: "other", Limits: limits})
			r.e.SetMemory(web, 64*knowledge.MiB)
			r.managed(web)
			r.e.SetUsage(web, 3)
			r.e.SetUsage(other, 3)
			r.e.SetGrowth(web, 5e6)
			took := r.soon(10*time.Second, "a quota for 3 cores",
				func() bool { return r.e.Kernel(web).CPU >= 29*knowledge.OneCPU/10 })
			t.Logf("a sufficient quota after %s", took.Round(time.Millisecond))
			r.soon(30*time.Second, "memory grows ahead", func() bool { return r.e.Kernel(web).Memory > 160*knowledge.MiB })
			r.stop()
			if k, rec := r.e.Kernel(web), r.e.Record(web); k.CPU-rec.CPU > knowledge.OneCPU/50 || k.Memory > rec.Memory {
				t.Errorf("it starts with %s cores, %s; in force are %s, %s", rec.CPU, rec.Memory, k.CPU, k.Memory)
			}
			if got := r.e.Kernel(other); got.CPU != limits.CPU || got.Memory != limits.Memory {
				t.Errorf("one that did not opt in was changed: %+v", got)
			}
			if n := r.e.OOMKills(web); n != 0 {
				t.Errorf("%d OOM kills", n)
			}
			r.checkUpdates()
		})
	}
}

// Row 31: the stream of events is deaf; the listing finds who came and who went.
func TestLoopWithoutEvents(t *testing.T) {
	t.Parallel()
	r := newRig(t, dockertest.Options{})
	r.e.DropEvents(true)
	a := r.e.Run(dockertest.Spec{Name: "a", Labels: opted})
	r.managed(a)
	b := r.e.Recreate(a) // row 34 with it: the same name, another container
	r.managed(b)
	r.soon(5*time.Second, "a is forgotten", func() bool { _, ok := r.unit(a); return !ok })
}

// ENGINE.md 12 and 14: daemon-reload puts older values back; they are repaired,
// and it is not taken for a person's change.
func TestLoopRepairsAfterDaemonReload(t *testing.T) {
	t.Parallel()
	r := newRig(t, dockertest.Options{Driver: "systemd"})
	id := r.e.Run(dockertest.Spec{Name: "web", Labels: opted, Limits: knowledge.Limits{CPU: knowledge.OneCPU / 2}})
	r.managed(id)
	r.e.SetUsage(id, 2)
	r.soon(5*time.Second, "growth", func() bool { return r.e.Kernel(id).CPU >= 19*knowledge.OneCPU/10 })
	r.e.DaemonReload()
	r.soon(10*time.Second, "repaired", func() bool { return r.e.Kernel(id).CPU >= 19*knowledge.OneCPU/10 })
	if u, _ := r.unit(id); !u.Marks.ExternalUntil.IsZero() {
		t.Error("taken for a person's change")
	}
}

// Row 63: a person's own update is seen and respected.
func TestLoopSeesAPersonsUpdate(t *testing.T) {
	t.Parallel()
	r := newRig(t, dockertest.Options{Cgroup: 1})
	id := r.e.Run(dockertest.Spec{Name: "web", Labels: opted, Limits: knowledge.Limits{CPU: knowledge.OneCPU}})
	r.managed(id)
	person, err := docker.Open(docker.Options{Host: r.e.Host(), Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	defer person.Close()
	if err := person.UpdateCPU(t.Context(), id, knowledge.Limits{CPU: 2 * knowledge.OneCPU}); err != nil {
		t.Fatal(err)
	}
	r.soon(10*time.Second, "seen", func() bool { u, _ := r.unit(id); return !u.Marks.ExternalUntil.IsZero() })
	r.e.SetUsage(id, 4)
	r.pass(time.Second, func() {
		if got := r.e.Kernel(id).CPU; got != 2*knowledge.OneCPU {
			t.Fatalf("a person's 2 cores became %s", got)
		}
	})
}

// Rows 26, 30 and 33: an Engine that fails in every way, and containers that go in
// the middle of an update: nothing is lost, nothing stays open, no storm.
func TestLoopUnderFaults(t *testing.T) {
	t.Parallel()
	r := newRig(t, dockertest.Options{Cgroup: 1, NCPU: 32})
	limits := knowledge.Limits{CPU: knowledge.OneCPU, Memory: 128 * knowledge.MiB, MemorySwap: 128 * knowledge.MiB}
	for range 6 {
		r.managed(r.e.Run(dockertest.Spec{Labels: opted, Limits: limits}))
	}
	chance := rand.New(rand.NewPCG(1, 2))
	faults := []dockertest.Fault{
		{Op: dockertest.UpdateC, Status: 500, Message: "internal"},
		{Op: dockertest.UpdateC, Status: 500, Message: "internal", After: true},
		{Op: dockertest.UpdateC, Vanish: true},
		{Op: dockertest.UpdateC, StopFirst: true},
		{Op: dockertest.UpdateC, Drop: true},
		{Op: dockertest.List, Status: 500, Message: "internal"},
		{Op: dockertest.List, Truncate: true},
		{Op: dockertest.Inspect, Body: "<html>", Type: "text/html"},
		{Op: dockertest.Inspect, Status: 404, Message: "No such container"},
	}
	for range 15 {
		f := faults[chance.IntN(len(faults))]
		f.Times = 1
		r.e.Inject(f)
		for _, id := range r.e.Containers() {
			r.e.SetUsage(id, 4*chance.Float64())
			if l := r.e.Kernel(id); l.Memory > 0 {
				r.e.SetMemory(id, l.Memory*9/10)
			}
		}
		r.pass(200*time.Millisecond, func() {})
	}
	r.e.Heal()
	fresh := r.e.Run(dockertest.Spec{Name: "fresh", Labels: opted, Limits: limits})
	r.managed(fresh)
	r.e.SetUsage(fresh, 2)
	r.soon(5*time.Second, "growth after the faults", func() bool {
		return r.e.Kernel(
			fresh).CPU >= 19*knowledge.OneCPU/10
	})
	r.soon(time.Minute, "actions without an answer are closed", func() bool {
		return len(r.n.store.Journal.OpenActions()) == 0
	})
	r.stop()
	r.checkUpdates()
	if n := r.e.Calls(dockertest.UpdateC); n > 150 {
		t.Errorf("%d updates: a storm", n)
	}
}
