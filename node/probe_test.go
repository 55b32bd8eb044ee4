package node

import (
	"fmt"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/effiscale/effiscale/docker"
	"github.com/effiscale/effiscale/docker/dockertest"
	"github.com/effiscale/effiscale/knowledge"
)

// TestManyStatsProbes: an Engine that takes its time over statistics is not taken
// for one that does not answer, and updates get through (row 25).
func TestManyStatsProbes(t *testing.T) {
	t.Parallel()
	e := dockertest.New(t, dockertest.Options{})
	limits := knowledge.Limits{CPU: knowledge.OneCPU, Memory: 128 * knowledge.MiB, MemorySwap: 128 * knowledge.MiB}
	c, err := docker.Open(docker.Options{Host: e.Host(), UpdateTimeout: 2 * time.Second, InspectTimeout: 2 * time.Second,
		Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if _, err := c.Host(t.Context()); err != nil {
		t.Fatal(err)
	}
	e.Inject(dockertest.Fault{Op: dockertest.Stats, Delay: 400 * time.Millisecond})
	turns := make(chan struct{}, statsAtOnce)
	record := newRecord(c)
	var probes []*statsProbe
	var last knowledge.ContainerID
	for i := range 100 { // sixteen at a time would need 2.8 s for one round
		last = e.Run(dockertest.Spec{Name: fmt.Sprintf("c%d", i), Limits: limits})
		p := newStatsProbe(record, last, turns)
		t.Cleanup(func() { _ = p.Close() })
		probes = append(probes, p)
	}
	deadline := time.Now().Add(30 * time.Second)
	answered := 0
	for answered < len(probes) && time.Now().Before(deadline) {
		time.Sleep(20 * time.Millisecond)
		answered = 0
		for _, p := range probes {
			p.mu.Lock()
			if !p.sample.At.IsZero() {
				answered++
			}
			p.mu.Unlock()
		}
		if up, _, why := c.State(); !up {
			t.Fatalf("after %d answers the Engine is given up: %s", answered, why)
		}
	}
	if answered < len(probes) {
		t.Errorf("%d of %d have been answered", answered, len(probes))
	}
	if err := c.UpdateMemory(t.Context(), last, 160*knowledge.MiB, 160*knowledge.MiB); err != nil {
		t.Error(err)
	}
}
