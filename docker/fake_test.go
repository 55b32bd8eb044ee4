package docker_test

import (
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/effiscale/effiscale/docker"
	"github.com/effiscale/effiscale/docker/dockertest"
	"github.com/effiscale/effiscale/knowledge"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// open is a client of the fake Engine with a short cool-down.
func open(t *testing.T, e *dockertest.Engine, change ...func(*docker.Options)) *docker.Client {
	t.Helper()
	o := docker.Options{
		Host: e.Host(), UpdateTimeout: 10 * time.Second, InspectTimeout: 5 * time.Second, ListTimeout: 5 * time.Second,
		Cooldown: 50 * time.Millisecond, Log: zerolog.Nop(),
	}
	for _, f := range change {
		f(&o)
	}
	c, err := docker.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// wantKind fails unless err is of that kind.
func wantKind(t *testing.T, err error, want docker.Kind) {
	t.Helper()
	k, ok := docker.KindOf(err)
	if !ok || k != want {
		t.Fatalf("error %v (%T): want kind %s", err, err, want)
	}
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

// watched collects the events of a Watch that ends with the test.
type watched struct {
	mu     sync.Mutex
	events []knowledge.Event
	hold   chan struct{} // not nil: emit waits for it
}

func watch(t *testing.T, c *docker.Client, w *watched) {
	t.Helper()
	ctx, cancel := contextOf(t)
	var wg sync.WaitGroup
	wg.Go(func() {
		c.Watch(ctx, func(e knowledge.Event) {
			w.mu.Lock()
			w.events = append(w.events, e)
			hold := w.hold
			w.mu.Unlock()
			if hold != nil {
				<-hold
			}
		})
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
}

func (w *watched) count(k knowledge.EventKind, id knowledge.ContainerID) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.events {
		if e.Kind == k && e.ID == id {
			n++
		}
	}
	return n
}
