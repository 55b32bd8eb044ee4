package docker_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/effiscale/effiscale/docker"
	"github.com/effiscale/effiscale/docker/dockertest"
	"github.com/effiscale/effiscale/knowledge"
)

// Row 25: the Engine is slow. Each call ends at its deadline, and a slow call does not
// delay one of another kind.
func TestRow25SlowEngine(t *testing.T) {
	e := dockertest.New(t, dockertest.Options{})
	id := e.Run(dockertest.Spec{})
	e.Inject(dockertest.Fault{Op: dockertest.UpdateC, Delay: 30 * time.Second})
	c := open(t, e, func(o *docker.Options) { o.UpdateTimeout = 300 * time.Millisecond })
	var slow sync.WaitGroup
	began := time.Now()
	for range 3 {
		slow.Go(func() {
			err := c.UpdateShares(t.Context(), id, 512)
			if k, _ := docker.KindOf(err); k != docker.KindTimeout || !strings.Contains(err.Error(), "no answer within") {
				t.Errorf("slow update: %v", err)
			}
		})
	}
	for range 20 {
		if _, err := c.List(t.Context()); err != nil {
			t.Errorf("list beside a slow update: %v", err)
		}
	}
	slow.Wait()
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("took %s", took)
	}
	if len(e.Updates()) != 0 {
		t.Error("an update was carried out")
	}
}

// A short deadline of the caller does not count as an error of the Engine.
func TestShortDeadlineOfTheCallerOpensNoBreaker(t *testing.T) {
	e := dockertest.New(t, dockertest.Options{})
	c := open(t, e, func(o *docker.Options) { o.Cooldown = time.Hour })
	if _, err := c.List(t.Context()); err != nil {
		t.Fatal(err)
	}
	e.Inject(dockertest.Fault{Op: dockertest.List, Delay: 30 * time.Second, Times: 20})
	for i := range 20 {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
		want := docker.KindTimeout
		if i%2 == 0 {
			want = docker.KindCanceled
			cancel()
		}
		_, err := c.List(ctx)
		wantKind(t, err, want)
		cancel()
	}
	if up, _, _ := c.State(); !up {
		t.Error("not connected")
	}
	e.Heal()
	if _, err := c.List(t.Context()); err != nil {
		t.Error(err)
	}
}

// Row 26: the Engine is stopped (SIGSTOP): it accepts and never answers. Calls time out,
// then fail at once without a request, and work again afterwards.
func TestRow26StoppedEngine(t *testing.T) {
	e := dockertest.New(t, dockertest.Options{})
	c := open(t, e, func(o *docker.Options) {
		o.ListTimeout, o.Cooldown = 50*time.Millisecond, 500*time.Millisecond
	})
	if _, err := c.List(t.Context()); err != nil {
		t.Fatal(err)
	}
	e.Inject(dockertest.Fault{Hang: true})
	for range 5 {
		_, err := c.List(t.Context())
		wantKind(t, err, docker.KindTimeout)
	}
	before := e.Calls(dockertest.List)
	for range 1000 {
		_, err := c.List(t.Context())
		if err == nil {
			t.Fatal("an answer from a stopped Engine")
		}
	}
	if n := e.Calls(dockertest.List) - before; n > 3 {
		t.Errorf("1000 calls while it hangs made %d requests", n)
	}
	up, since, last := c.State()
	if up || since.IsZero() || !strings.Contains(last, "no answer") {
		t.Errorf("state %v %v %q", up, since, last)
	}
	e.Heal()
	eventually(t, "works again", func() bool { _, err := c.List(t.Context()); return err == nil })
	if up, _, last := c.State(); !up || last != "" {
		t.Errorf("state %v %q", up, last)
	}
}

// Row 27: the Engine restarts without live-restore. All containers exit without an event;
// the client connects again, requests a resync, and goes on.
func TestRow27EngineRestart(t *testing.T) {
	e := dockertest.New(t, dockertest.Options{})
	var ids []knowledge.ContainerID
	for range 10 {
		ids = append(ids, e.Run(dockertest.Spec{Restart: true, Limits: knowledge.Limits{CPU: core}}))
	}
	stays := e.Run(dockertest.Spec{Name: "down"})
	c := open(t, e)
	var w watched
	watch(t, c, &w)
	eventually(t, "listens", func() bool { return e.Listeners() == 1 })
	old, err := c.Inspect(t.Context(), ids[0])
	if err != nil {
		t.Fatal(err)
	}
	resyncs, before := w.count(knowledge.EventResync, ""), time.Now()
	e.Restart()
	eventually(t, "a resync after the restart",
		func() bool { return w.count(knowledge.EventResync, "") > resyncs && e.Listeners() == 1 })
	if up, since, last := c.State(); !up || since.Before(before) || last != "" {
		t.Errorf("state %v %v %q", up, since, last)
	}
	fresh, err := c.Inspect(t.Context(), ids[0])
	if err != nil {
		t.Fatal(err)
	}
	if fresh.PID == old.PID || fresh.Limits != old.Limits {
		t.Errorf("before %+v, after %+v", old, fresh)
	}
	k, err := c.Inspect(t.Context(), stays)
	if err != nil || k.State != knowledge.StateExited {
		t.Errorf("%v %v", k.State, err)
	}
	if err := c.UpdateCPU(t.Context(), ids[0], knowledge.Limits{CPU: core / 2}); err != nil {
		t.Error(err)
	}
}

// Row 28: the Engine is absent at boot. Open succeeds, calls return an error that names the
// socket, and the watch connects when the Engine starts.
func TestRow28EngineAbsentAtBoot(t *testing.T) {
	e := dockertest.New(t, dockertest.Options{})
	id := e.Run(dockertest.Spec{})
	e.Shutdown()
	c := open(t, e)
	_, err := c.List(t.Context())
	wantKind(t, err, docker.KindUnreachable)
	if !strings.Contains(err.Error(), strings.TrimPrefix(e.Host(), "unix://")) {
		t.Errorf("%v must name the socket", err)
	}
	var w watched
	watch(t, c, &w)
	eventually(t, "a first resync", func() bool { return w.count(knowledge.EventResync, "") == 1 })
	e.Listen()
	eventually(t, "a resync with the stream",
		func() bool { return w.count(knowledge.EventResync, "") == 2 && e.Listeners() == 1 })
	e.Stop(id)
	eventually(t, "the event", func() bool { return w.count(knowledge.EventDie, id) == 1 })
	if up, _, last := c.State(); !up || last != "" {
		t.Errorf("state %v %q", up, last)
	}
}

// Row 30: answers that are errors, or of another server.
func TestRow30BadAnswers(t *testing.T) {
	json := "application/json"
	for _, c := range []struct {
		name  string
		fault dockertest.Fault
		want  docker.Kind
		says  string
	}{
		{"404", dockertest.Fault{Status: 404, Message: "No such container: x"}, docker.KindGone, "No such container"},
		{"404 of another server", dockertest.Fault{Status: 404, Body: "<html>not found", Type: "text/html"},
			docker.KindDenied, "allow GET /containers/ID/json"},
		{"404 page", dockertest.Fault{Status: 404, Message: "page not found"}, docker.KindDenied, ""},
		{"409", dockertest.Fault{Status: 409, Message: "Conflicting options: Nano CPUs cannot be updated"},
			docker.KindConflict, "Nano CPUs"},
		{"409 marked", dockertest.Fault{Status: 409, Message: `container is marked for removal and cannot be "update"`},
			docker.KindGone, ""},
		{"400", dockertest.Fault{Status: 400, Message: "Minimum memory limit allowed is 6MB"}, docker.KindRefused, "6MB"},
		{"403 of a socket proxy", dockertest.Fault{Status: 403, Message: "forbidden"}, docker.KindDenied, "forbidden"},
		{"500 of the kernel", dockertest.Fault{Status: 500, Message: "OCI runtime update failed: invalid argument"},
			docker.KindRefused, "invalid argument"},
		{"500 of a race", dockertest.Fault{Status: 500, Message: "cannot update a stopped container: unknown"},
			docker.KindGone, ""},
		{"500 of a later race", dockertest.Fault{Status: 500, Message: "cannot update a deleted process: unknown"},
			docker.KindGone, ""},
		{"500 of a lost task", dockertest.Fault{Status: 500, Message: "task 293b53 not found: not found"}, docker.KindGone,
			""},
		{"500 of a lost scope", dockertest.Fault{Status: 500,
			Message: "runc did not terminate successfully: exit status 1: unable to set unit properties: " +
				"Unit docker-1f.scope not found. : unknown"}, docker.KindGone, ""},
		{"500 of an ended scope", dockertest.Fault{Status: 500,
			Message: "unable to set unit properties: Unit docker-1f.scope not loaded."}, docker.KindGone, ""},
		{"500 of a missing unit", dockertest.Fault{Status: 500, Message: "Unit docker.service not found."},
			docker.KindRefused, "docker.service"},
		{"500 of a lost cgroup", dockertest.Fault{Status: 500,
			Message: "open /sys/fs/cgroup/cpu/docker/x/cpu.shares: no such file or directory"}, docker.KindGone, ""},
		{"500 of a missing file", dockertest.Fault{Status: 500, Message: "open /etc/x: no such file or directory"},
			docker.KindRefused, "/etc/x"},
		{"500 of a proxy", dockertest.Fault{Status: 500, Body: "oops", Type: "text/plain"}, docker.KindUnreachable, ""},
		{"502", dockertest.Fault{Status: 502, Message: "bad gateway"}, docker.KindUnreachable, ""},
		{"503", dockertest.Fault{Status: 503, Message: "shutting down"}, docker.KindUnreachable, "shutting down"},
		{"200 with HTML", dockertest.Fault{Body: "<html><body>Hello", Type: "text/html"}, docker.KindUnreachable,
			"does not answer like"},
		{"200 with HTML called JSON", dockertest.Fault{Body: "<html>", Type: json}, docker.KindUnreachable, ""},
		{"200 with nothing", dockertest.Fault{Status: 200, Body: " ", Type: json}, docker.KindUnreachable, ""},
		{"200 with another shape", dockertest.Fault{Body: `{"State":[1,2]}`, Type: json}, docker.KindUnreachable, ""},
		{"200 with null", dockertest.Fault{Body: `null`, Type: json}, docker.KindUnreachable, ""},
		{"200 with an empty object", dockertest.Fault{Body: `{}`, Type: json}, docker.KindUnreachable, ""},
		{"truncated", dockertest.Fault{Truncate: true}, docker.KindUnreachable, ""},
		{"closed", dockertest.Fault{Drop: true}, docker.KindUnreachable, "closed before an answer"},
		{"endless", dockertest.Fault{Body: `{"Name":"` + strings.Repeat("x", 9<<20), Type: json}, docker.KindUnreachable,
			"exceeds the size limit"},
		{"escape sequences", dockertest.Fault{Status: 400, Message: "\x1b[31mred\n\x00" + strings.Repeat("é", 5000)},
			docker.KindRefused, "[31mred"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := dockertest.New(t, dockertest.Options{})
			id := e.Run(dockertest.Spec{})
			c.fault.Op = dockertest.Inspect
			e.Inject(c.fault)
			cl := open(t, e)
			_, err := cl.Inspect(t.Context(), id)
			wantKind(t, err, c.want)
			if !strings.Contains(err.Error(), c.says) {
				t.Errorf("%q must say %q", err, c.says)
			}
			if len(err.Error()) > 1000 || strings.ContainsAny(err.Error(), "\x1b\n\x00") {
				t.Errorf("not one bounded clean line: %q", err)
			}
			e.Heal()
			if _, err := cl.Inspect(t.Context(), id); err != nil {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
}

// Row 30: refusals do not open the circuit breaker, and an update is never sent twice.
func TestRow30RefusalsOpenNoBreakerAndAreNotRepeated(t *testing.T) {
	e := dockertest.New(t, dockertest.Options{})
	id := e.Run(dockertest.Spec{})
	c := open(t, e, func(o *docker.Options) { o.Cooldown = time.Hour })
	e.Inject(dockertest.Fault{Op: dockertest.UpdateC, Status: http.StatusInternalServerError,
		Message: "runc: invalid argument"})
	for i := 1; i <= 20; i++ {
		err := c.UpdateShares(t.Context(), id, 512)
		wantKind(t, err, docker.KindRefused)
		if n := e.Calls(dockertest.UpdateC); n != i {
			t.Fatalf("%d requests for %d calls", n, i)
		}
	}
	if up, _, last := c.State(); !up || last != "" {
		t.Errorf("state %v %q", up, last)
	}
}

// An answer that is lost after the update: one request, an error, and the kernel holds the
// new limit.
func TestLostAnswerIsNotAskedForAgain(t *testing.T) {
	e := dockertest.New(t, dockertest.Options{})
	id := e.Run(dockertest.Spec{})
	e.Inject(dockertest.Fault{Op: dockertest.UpdateC, After: true, Drop: true, Times: 1})
	err := open(t, e).UpdateMemory(t.Context(), id, 64*knowledge.MiB, 0)
	wantKind(t, err, docker.KindUnreachable)
	if n := e.Calls(dockertest.UpdateC); n != 1 {
		t.Errorf("%d requests", n)
	}
	if k := e.Kernel(id); k.Memory != 64*knowledge.MiB {
		t.Errorf("the kernel holds %v", k.Memory)
	}
}

// Row 31: a stream that ends is opened again at the last event, and no event in between is
// lost; events that the Engine itself lost are covered by the periodic resync.
func TestRow31StreamLost(t *testing.T) {
	e := dockertest.New(t, dockertest.Options{})
	c := open(t, e, func(o *docker.Options) { o.ResyncEvery = 200 * time.Millisecond })
	var w watched
	watch(t, c, &w)
	eventually(t, "listens", func() bool { return e.Listeners() == 1 })
	var ids []knowledge.ContainerID
	for i := range 5 {
		e.EndEvents()
		id := e.Run(dockertest.Spec{Name: fmt.Sprint("n", i)}) // without a listener
		ids = append(ids, id)
		eventually(t, "the start in the gap", func() bool { return w.count(knowledge.EventStart, id) > 0 })
	}
	for _, id := range ids {
		if n := w.count(knowledge.EventStart, id); n != 1 {
			t.Errorf("%d starts of one container", n)
		}
	}
	eventually(t, "listens again", func() bool { return e.Listeners() == 1 })
	e.DropEvents(true)
	e.Stop(ids[0])
	before := w.count(knowledge.EventResync, "")
	eventually(t, "two periodic resyncs", func() bool { return w.count(knowledge.EventResync, "") >= before+2 })
	if w.count(knowledge.EventDie, ids[0]) != 0 {
		t.Error("the event was not dropped")
	}
}

// Row 31: a receiver that is too slow gets a resync, and the stream is not blocked.
func TestRow31ReceiverTooSlow(t *testing.T) {
	e := dockertest.New(t, dockertest.Options{})
	id := e.Run(dockertest.Spec{})
	c := open(t, e, func(o *docker.Options) { o.ResyncEvery = time.Hour })
	var w watched
	watch(t, c, &w)
	eventually(t, "the resyncs of the start and of the stream",
		func() bool { return w.count(knowledge.EventResync, "") == 2 })
	hold := make(chan struct{})
	w.mu.Lock()
	w.hold = hold
	w.mu.Unlock()
	const sent = 4000 // more than the queue and the socket hold
	for range sent / 200 {
		for range 100 {
			e.Pause(id, true)
			e.Pause(id, false)
		}
		eventually(t, "the stream drains", func() bool { return e.Backlog() == 0 })
	}
	w.mu.Lock()
	w.hold = nil
	w.mu.Unlock()
	close(hold)
	eventually(t, "a resync for the lost ones", func() bool {
		return w.count(knowledge.EventResync, "") >= 3 && w.count(knowledge.EventPause, id) > 100
	})
	if n := w.count(knowledge.EventPause, id) + w.count(knowledge.EventUnpause, id); n >= sent {
		t.Errorf("all %d events were kept", n)
	}
}

// Row 32 (of the client): hundreds of containers start and stop, and nothing accumulates.
// TestMain checks for leaked goroutines.
func TestRow32Churn(t *testing.T) {
	e := dockertest.New(t, dockertest.Options{})
	c := open(t, e, func(o *docker.Options) { o.ResyncEvery = 100 * time.Millisecond })
	var w watched
	watch(t, c, &w)
	eventually(t, "listens", func() bool { return e.Listeners() == 1 })
	var last knowledge.ContainerID
	for range 1000 {
		last = e.Run(dockertest.Spec{})
		e.Remove(last)
	}
	resyncs := w.count(knowledge.EventResync, "")
	eventually(t, "the last destroy, or a resync for it", func() bool {
		return w.count(knowledge.EventDestroy, last) == 1 || w.count(knowledge.EventResync, "") > resyncs
	})
	all, err := c.List(t.Context())
	if err != nil || len(all) != 0 {
		t.Errorf("%d containers, %v", len(all), err)
	}
}

// Row 33: the container ends during an update: KindGone, one request.
func TestRow33GoneDuringUpdate(t *testing.T) {
	for name, f := range map[string]dockertest.Fault{
		"removed": {Vanish: true},
		"stopped, and runc finds out": {StopFirst: true, Status: 500,
			Message: "Cannot update container x: OCI runtime update failed: cannot update a stopped container: unknown"},
	} {
		e := dockertest.New(t, dockertest.Options{})
		id := e.Run(dockertest.Spec{})
		f.Op = dockertest.UpdateC
		e.Inject(f)
		c := open(t, e)
		err := c.UpdateCPU(t.Context(), id, knowledge.Limits{CPU: core})
		if !docker.IsGone(err) {
			t.Errorf("%s: %v", name, err)
		}
		if n := e.Calls(dockertest.UpdateC); n != 1 {
			t.Errorf("%s: %d requests", name, n)
		}
	}
	// Between the inspect and the update of one call.
	e := dockertest.New(t, dockertest.Options{})
	id := e.Run(dockertest.Spec{})
	e.Inject(dockertest.Fault{Op: dockertest.Inspect, Vanish: true})
	if err := open(t, e).UpdateMemory(t.Context(), id, 64*knowledge.MiB, 0); !docker.IsGone(err) {
		t.Error(err)
	}
	if len(e.Updates()) != 0 {
		t.Error("an update was sent")
	}
}

// Row 34: a container that was created again under the same name is another one.
func TestRow34Recreated(t *testing.T) {
	e := dockertest.New(t, dockertest.Options{})
	old := e.Run(dockertest.Spec{Name: "web", Limits: knowledge.Limits{CPU: core}})
	c := open(t, e)
	var w watched
	watch(t, c, &w)
	eventually(t, "listens", func() bool { return e.Listeners() == 1 })
	fresh := e.Recreate(old)
	eventually(t, "both", func() bool {
		return w.count(knowledge.EventDestroy, old) == 1 && w.count(knowledge.EventStart, fresh) == 1
	})
	err := c.UpdateCPU(t.Context(), old, knowledge.Limits{CPU: core / 2})
	wantKind(t, err, docker.KindGone)
	if k := e.Kernel(fresh); k.CPU != core {
		t.Errorf("the new one has %v", k.CPU)
	}
}

// While the Engine is down the watch backs off.
func TestNoRetryStorm(t *testing.T) {
	e := dockertest.New(t, dockertest.Options{})
	c := open(t, e)
	e.Inject(dockertest.Fault{Op: dockertest.Events, Status: 503, Message: "shutting down"})
	var w watched
	watch(t, c, &w)
	began := time.Now()
	eventually(t, "three attempts", func() bool { return e.Calls(dockertest.Events) >= 3 })
	time.Sleep(500 * time.Millisecond) // the interval of the count
	// Pauses of at least 50, 100, 200, 400 ms …: the n-th attempt comes after
	// 50·(2^n-1) ms at the earliest.
	most := 1
	for at := 50 * time.Millisecond; at < time.Since(began); at = 2*at + 50*time.Millisecond {
		most++
	}
	if n := e.Calls(dockertest.Events); n > most {
		t.Errorf("%d attempts in %s, at most %d", n, time.Since(began), most)
	}
	if n := w.count(knowledge.EventResync, ""); n != 1 {
		t.Errorf("%d resyncs without a stream", n)
	}
}

func TestNegotiation(t *testing.T) {
	e := dockertest.New(t, dockertest.Options{API: "1.51"})
	c := open(t, e)
	version := func() string {
		t.Helper()
		h, err := c.Host(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return h.APIVersion
	}
	if v := version(); v != "1.51" {
		t.Error(v)
	}
	// Another Engine took its place without a broken connection.
	e.SetAPI("1.43")
	_, err := c.List(t.Context())
	wantKind(t, err, docker.KindRefused)
	if v := version(); v != "1.43" {
		t.Error(v)
	}
	// A newer API than the client's: the client's newest is used. The stream detects the
	// broken connection.
	watch(t, c, &watched{})
	eventually(t, "listens", func() bool { return e.Listeners() == 1 })
	e.Shutdown()
	e.SetAPI("1.99")
	e.Listen()
	eventually(t, "the newest", func() bool { return version() == "1.51" })
	// Too old, and not an Engine.
	for api, want := range map[string]docker.Kind{"1.40": docker.KindRefused, "": docker.KindUnreachable,
		"one": docker.KindUnreachable} {
		e := dockertest.New(t, dockertest.Options{})
		e.SetAPI(api)
		_, err := open(t, e).List(t.Context())
		wantKind(t, err, want)
	}
}

// The fake Engine detects two updates of one container at a time: callers' tests rely on
// it.
func TestOverlappingUpdatesAreSeen(t *testing.T) {
	e := dockertest.New(t, dockertest.Options{})
	id := e.Run(dockertest.Spec{})
	c := open(t, e)
	e.Inject(dockertest.Fault{Op: dockertest.UpdateC, Hang: true, Times: 1})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() { _ = c.UpdateShares(t.Context(), id, 512) })
	}
	eventually(t, "both", func() bool { return e.Calls(dockertest.UpdateC) == 2 && len(e.Updates()) == 1 })
	e.Heal()
	wg.Wait()
	if u := e.Updates(); !u[0].Overlapped {
		t.Errorf("%+v", u)
	}
	// The answer comes before the fake has recorded the end of the update.
	eventually(t, "one alone overlaps none", func() bool {
		_ = c.UpdateShares(t.Context(), id, 512)
		u := e.Updates()
		return !u[len(u)-1].Overlapped
	})
}

func TestObserveCountsCalls(t *testing.T) {
	e := dockertest.New(t, dockertest.Options{})
	var mu sync.Mutex
	seen := map[string]int{}
	c := open(t, e, func(o *docker.Options) {
		o.Observe = func(op string, status int, took time.Duration) {
			mu.Lock()
			defer mu.Unlock()
			seen[fmt.Sprint(op, " ", status)]++
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	watched := make(chan struct{})
	go func() { defer close(watched); c.Watch(ctx, func(knowledge.Event) {}) }()
	eventually(t, "the first ping is answered", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return seen["ping 200"] == 1
	})
	cancel()
	<-watched
	_, _ = c.List(t.Context())
	_, _ = c.Inspect(t.Context(), knowledge.ContainerID(strings.Repeat("0", 64)))
	e.Shutdown()
	_, _ = c.List(t.Context())
	mu.Lock()
	defer mu.Unlock()
	if seen["ping 0"] != 0 || seen["list 200"] == 0 || seen["inspect 404"] != 1 || seen["list 0"] != 1 {
		t.Error(seen)
	}
}
