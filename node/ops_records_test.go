package node

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/effiscale/effiscale/docker/dockertest"
	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/knowledge/store"
	"github.com/effiscale/effiscale/node/api"
	"github.com/effiscale/effiscale/node/config"
)

// TestHistoryOfThisMoment: quota moves are in the answer before they are on the disk, and
// they stay to be written.
func TestHistoryOfThisMoment(t *testing.T) {
	t.Parallel()
	r := newRigOver(t, dockertest.Options{}, func(_ *store.Store, cfg *config.Config) { cfg.Store.FlushEvery = time.Hour })
	id := r.e.Run(dockertest.Spec{Name: "web", Labels: opted, Limits: knowledge.Limits{CPU: knowledge.OneCPU / 2}})
	r.e.SetUsage(id, 1.5)
	r.managed(id)
	for range 2 {
		for _, name := range []string{"web", string(id)} {
			r.soon(30*time.Second, "a move is told that is not written", func() bool {
				h, err := r.n.ops.Records(t.Context(), api.RecordsRequest{Name: name, Limit: 10})
				if err != nil {
					t.Fatal(err)
				}
				return slices.ContainsFunc(h.Changes, func(c api.Change) bool {
					return c.Resource == "cpu" && c.Verb == "grow" && strings.Contains(c.Message, "not written yet")
				})
			})
		}
	}
	records, err := r.n.store.Journal.Records(store.Filter{Container: id, Limit: 10})
	if moves := func(r knowledge.Record) bool { return !r.Action.Resize.Start }; err != nil ||
		slices.ContainsFunc(records, moves) {
		t.Errorf("written: %+v, %v", records, err)
	}
}

// TestGoneButOnRecord: a service that was only watched stays on record when its container
// is removed: nobody says that it never was.
func TestGoneButOnRecord(t *testing.T) {
	t.Parallel()
	r := newRigOver(t, dockertest.Options{}, func(s *store.Store,
		_ *config.Config) {
		keepSeries(t, s, "brief", 10*time.Minute, 7*time.Minute)
	})
	if h, err := r.n.ops.Records(t.Context(), api.RecordsRequest{Name: "brief", Limit: 10}); err != nil ||
		len(h.Changes) != 0 {
		t.Errorf("history: %+v, %v", h, err)
	}
	for since, words := range map[time.Duration]string{7 * 24 * time.Hour: "its containers are gone",
		time.Minute: "for minutes"} {
		_, err := r.n.ops.Trace(t.Context(), api.TraceRequest{Name: "brief", Resource: "cpu", Since: since})
		wants(t, "a trace of "+since.String(), err, api.KindRefused, words)
	}
	_, err := r.n.ops.Records(t.Context(), api.RecordsRequest{Name: "never", Limit: 10})
	wants(t, "history of nothing", err, api.KindNotFound)
}

// TestHistoryOfAll: without a name the changes of all containers are listed, newest first, and a
// folded move stands where it happened (row 140).
func TestHistoryOfAll(t *testing.T) {
	t.Parallel()
	began := time.Unix(1e9, 0)
	r := newRigOver(t, dockertest.Options{}, func(s *store.Store, _ *config.Config) {
		for i, minute := range []int{1, 5, 3, 9, 7} { // as they were recorded
			name := []string{"web", "db"}[i%2]
			seq, err := s.Journal.Begin(knowledge.Action{Kind: knowledge.ActionResize, Name: name,
				Service: knowledge.ServiceKey(name), At: began.Add(time.Duration(minute) * time.Minute),
				Resize: knowledge.Resize{From: int64(i + 1), To: int64(10 * (i + 1))}})
			if err == nil {
				err = s.Journal.End(knowledge.Outcome{Seq: seq, Result: knowledge.ResultApplied})
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	})
	h, err := r.n.ops.AllRecords(t.Context(), api.AllRecordsRequest{})
	if err != nil || len(h.Changes) != 5 {
		t.Fatalf("%d changes, %v", len(h.Changes), err)
	}
	for i, minute := range []int{9, 7, 5, 3, 1} {
		if got := h.Changes[i].At.Sub(began); got != time.Duration(minute)*time.Minute {
			t.Errorf("change %d is of %s", i, got)
		}
	}
}
