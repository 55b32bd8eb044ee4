package node

import (
	"strings"
	"testing"
	"time"

	"github.com/effiscale/effiscale/docker/dockertest"
	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/knowledge/history"
	"github.com/effiscale/effiscale/knowledge/store"
	"github.com/effiscale/effiscale/node/api"
	"github.com/effiscale/effiscale/node/config"
	"github.com/effiscale/effiscale/node/view"
)

// keepSeries puts a service's demand from a while ago until a shorter while ago on record.
func keepSeries(t *testing.T, s *store.Store, service knowledge.ServiceKey, from, to time.Duration) {
	t.Helper()
	now := time.Now()
	series, chunks := history.NewSeries(), []history.Chunk(nil)
	for at := now.Add(-from); at.Before(now.Add(-to)); at = at.Add(20 * time.Second) {
		p := knowledge.Point{At: at.UnixNano(), CPU: 0.5, Demand: 0.75, Throttled: 0.2, WorkingSet: 64 * knowledge.MiB}
		series.Add(p, 20*time.Second, 2)
		chunks = append(chunks, series.Chunks()...)
	}
	if err := s.Learned.Commit(store.Batch{Series: map[knowledge.ServiceKey][]history.Chunk{
		service: chunks}}); err != nil {
		t.Fatal(err)
	}
}

// The demand on record comes in the finest steps that reach as far back, from disk
// and memory; what is not on record is said.
func TestTrace(t *testing.T) {
	t.Parallel()
	r := newRigOver(t, dockertest.Options{}, func(s *store.Store, _ *config.Config) {
		record := func(service knowledge.ServiceKey, from, to time.Duration) { keepSeries(t, s, service, from, to) }
		record("old", 30*time.Hour, 2*time.Minute)
		record("young", 3*time.Hour, 2*time.Minute)
		record("gone", 26*time.Hour, 25*time.Hour)
		record("gone", 20*time.Minute, 2*time.Minute)
	})
	id := r.e.Run(dockertest.Spec{Name: "web", Labels: opted, Limits: knowledge.Limits{CPU: knowledge.OneCPU}})
	r.e.SetUsage(id, 0.5)
	r.managed(id)
	for _, c := range []struct {
		name        string
		since       time.Duration
		step        float64
		least, most int
	}{
		{"old", 7 * 24 * time.Hour, 600, 175, 181}, {"old", 2 * time.Hour, 60, 110, 120},
		{"young", 7 * 24 * time.Hour, 60, 170, 180},
	} {
		got, err := r.n.ops.Trace(t.Context(), api.TraceRequest{Name: c.name, Resource: "cpu", Since: c.since})
		if err != nil || got.Step != c.step || len(got.Values) < c.least || len(got.Values) > c.most ||
			len(got.Peaks) != len(got.Values) {
			t.Errorf("%s of %s: %d steps of %g s, %v", c.name, c.since, len(got.Values), got.Step, err)
			continue
		}
		if got.Values[5] != 1.5 || got.Peaks[5] != 1.5 || got.Throttled < c.least || got.Filled > 1 ||
			got.Service != c.name || got.Unit != "cores" {
			t.Errorf("%s of %s: %g cores, %+v", c.name, c.since, got.Values[5], got)
		}
	}
	if got, err := r.n.ops.Trace(t.Context(), api.TraceRequest{Name: "young", Resource: "memory",
		Since: time.Hour}); err != nil || got.Values[3] != 128<<20 || got.Unit != "bytes" {
		t.Errorf("%+v, %v", got, err)
	}
	for name, want := range map[string]struct {
		kind  api.Kind
		since time.Duration
		part  string
	}{
		"nobody": {api.KindNotFound, time.Hour, "no container or service"},
		"web":    {api.KindRefused, time.Hour, "a trace needs 12"},
		"gone":   {api.KindRefused, 48 * time.Hour, "are on record: use a shorter --since"},
	} {
		_, err := r.n.ops.Trace(t.Context(), api.TraceRequest{Name: name, Resource: "cpu", Since: want.since})
		if err == nil || api.KindOf(err) != want.kind || !strings.Contains(err.Error(), want.part) {
			t.Errorf("%s: %v", name, err)
		}
	}
	var seconds api.Trace
	r.soon(30*time.Second, "12 seconds are on record", func() (ok bool) {
		var err error
		seconds, err = r.n.ops.Trace(t.Context(), api.TraceRequest{Name: string(id), Resource: "cpu", Since: time.Minute})
		return err == nil
	})
	mean := 0.0 // a second alone may be off on a busy machine
	for _, v := range seconds.Values {
		mean += v / float64(len(seconds.Values))
		if v != view.Round(v) {
			t.Errorf("%v cores have the digits of a float32", v)
		}
	}
	if seconds.Step != 1 || mean < 0.4 || mean > 0.6 || seconds.Service != "web" ||
		seconds.Policy != "effiscale.class=serving" {
		t.Errorf("%+v", seconds)
	}
}
