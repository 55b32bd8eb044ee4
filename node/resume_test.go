package node

import (
	"slices"
	"testing"

	"github.com/effiscale/effiscale/docker/dockertest"
	"github.com/effiscale/effiscale/node/api"
)

// TestRow110ResumeTellsWhatItEnds: a service that was not paused is not "resumed"; the time for
// which a requested limit is kept ends, and the answer names the container.
func TestRow110ResumeTellsWhatItEnds(t *testing.T) {
	t.Parallel()
	s := newTestCluster(t, 1).all[0]
	s.giveEngine(dockertest.Spec{Name: "web", Labels: of("web")})
	s.start()
	s.explained("web")
	soon(t, "web is scaled", func() bool {
		_, err := s.n.ops.Scale(t.Context(), api.ScaleRequest{Container: "web", Memory: 2 << 30, By: "test"})
		return err == nil
	})
	resume := func(notPaused bool, ended ...string) {
		t.Helper()
		res, err := s.n.ops.Pause(t.Context(), api.PauseRequest{Service: "web", Resume: true})
		if err != nil || res.NotPaused != notPaused || !slices.Equal(res.HoldsEnded, ended) {
			t.Errorf("%+v %v", res, err)
		}
	}
	resume(true, "web")
	resume(true)
	if _, err := s.n.ops.Pause(t.Context(), api.PauseRequest{Service: "web"}); err != nil {
		t.Fatal(err)
	}
	resume(false)
}
