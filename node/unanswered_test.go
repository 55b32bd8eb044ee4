package node

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/effiscale/effiscale/docker/dockertest"
	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/node/api"
)

// TestRow108ScaleAnswerLost: the Engine executes a request of a person, and its answer comes too
// late, or not at all. The command answers "not known yet", the history then shows how it
// ended, the original stays, and a restore finds it, also after a restart of the daemon.
func TestRow108ScaleAnswerLost(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]dockertest.Fault{
		"dropped": {After: true, Drop: true}, "late": {Late: 3 * time.Second},
		"stopped": {Delay: 3 * time.Second, Stopped: true},
		"half":    {Truncate: true}, "proxy": {After: true, Status: 504, Body: "<html>", Type: "text/html"},
	} {
		for _, restart := range []bool{false, true} {
			if restart && name != "dropped" && name != "stopped" {
				continue
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				s := newTestCluster(t, 1).all[0]
				e := s.giveEngine(dockertest.Spec{Name: "web", Labels: of("web")})
				s.set("DOCKER_TIMEOUT", "1s")
				s.start()
				s.explained("web")
				fault.Op, fault.Times = dockertest.UpdateC, 1
				e.Inject(fault)
				soon(t, "web can be scaled", func() bool {
					_, err := s.n.ops.Scale(t.Context(), api.ScaleRequest{Container: "web", Memory: 2 << 30, By: "test"})
					return err == nil || strings.Contains(err.Error(), "not known yet")
				})
				if restart {
					s.stop()
					s.start()
					s.explained("web")
				}
				soon(t, "the history tells that it was done", func() bool {
					h, err := s.n.ops.Records(t.Context(), api.RecordsRequest{Name: "web", Limit: 10})
					for _, c := range h.Changes {
						if c.Actor == "external" {
							t.Fatalf("it is somebody else's: %+v", c)
						}
					}
					return err == nil && slices.ContainsFunc(h.Changes, func(c api.Change) bool {
						return c.Resource == "memory" && c.To == 2<<30 && c.Result == "applied"
					})
				})
				if ex := s.explained("web"); ex.OriginalMemory == nil || *ex.OriginalMemory != 1<<30 {
					t.Errorf("%+v", ex.LimitsInForce)
				}
				soon(t, "a restore finds what to do", func() bool { // the Engine counts as ill for a moment
					res, err := s.n.ops.Restore(t.Context(), api.RestoreRequest{Container: "web"})
					return err == nil && len(res.Failed) == 0 && !res.Nothing
				})
				if r := e.Record(containerID(t, s, "web")); r.Memory != knowledge.GiB {
					t.Errorf("on record %s", r.Memory)
				}
			})
		}
	}
}

func containerID(t *testing.T, s *testNode, name string) knowledge.ContainerID {
	t.Helper()
	u, _, err := s.n.loop.Find(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return u.Container.ID
}
