package node

import (
	"testing"
	"time"

	"github.com/effiscale/effiscale/docker/dockertest"
	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/knowledge/history"
	"github.com/effiscale/effiscale/knowledge/store"
)

// TestMetricsGoBackBeyondTheRing: what was kept on disk answers for hours and
// days, in order, unless the service has several containers.
func TestMetricsGoBackBeyondTheRing(t *testing.T) {
	t.Parallel()
	r := newRig(t, dockertest.Options{})
	r.e.Run(dockertest.Spec{Name: "web", Labels: opted})
	r.soon(10*time.Second, "a second is on record", func() bool {
		m, err := r.n.ops.Metrics(t.Context(), "web", time.Minute)
		return err == nil && len(m) > 0
	})
	now := time.Now()
	series := history.NewSeries()
	for at := now.Add(-30 * time.Hour); at.Before(now.Add(-10 * time.Minute)); at = at.Add(30 * time.Second) {
		series.Add(knowledge.Point{At: at.UnixNano(), CPU: 0.5, CPULimit: 1, WorkingSet: 64 * knowledge.MiB,
			MemoryLimit: 128 * knowledge.MiB}, time.Second, 1)
		if at.Minute() == 0 {
			r.commit(series)
		}
	}
	r.commit(series)
	for _, c := range []struct {
		window      time.Duration
		least, most int
	}{
		{time.Minute, 1, 100}, {2 * time.Hour, 50, 400}, {48 * time.Hour, 1200, 2000},
	} {
		got, err := r.n.ops.Metrics(t.Context(), "web", c.window)
		if err != nil || len(got) < c.least || len(got) > c.most {
			t.Fatalf("%s: %d metrics, %v", c.window, len(got), err)
		}
		for i := 1; i < len(got); i++ {
			if got[i].Timestamp.Before(got[i-1].Timestamp) {
				t.Fatalf("%s: %s after %s", c.window, got[i].Timestamp, got[i-1].Timestamp)
			}
		}
		if old := got[0]; c.window > time.Hour && (old.CPUUsage != 0.5 || old.MemoryUsage != 0.5 ||
			*old.CPUUtilization != 0.5) {
			t.Errorf("%s: %+v", c.window, old)
		}
	}
	twin := r.e.Run(dockertest.Spec{Name: "twin", Labels: map[string]string{"effiscale.service": "web"}})
	r.soon(10*time.Second, "measured", func() bool { u, ok := r.unit(twin); return ok && u.Measured })
	if got, err := r.n.ops.Metrics(t.Context(), "web", 2*time.Hour); err != nil || len(got) > 100 {
		t.Errorf("two containers: %d metrics, %v", len(got), err)
	}
}

func (r *rig) commit(s *history.Series) {
	r.t.Helper()
	if err := r.n.store.Learned.Commit(store.Batch{Series: map[knowledge.ServiceKey][]history.Chunk{
		"web": s.Chunks()}}); err != nil {
		r.t.Fatal(err)
	}
}
