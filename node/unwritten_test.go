package node

import (
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
				h, err := r.n.Records(t.Context(), name, 1)
				if err != nil {
					t.Fatal(err)
				}
				return len(h.Changes) == 1 && h.Changes[0].Resource == "cpu" && h.Changes[0].Verb == "grow" && strings.Contains(h.Changes[0].Message, "not written yet")
			})
		}
	}
	if records, err := r.n.store.Journal.Records(store.Filter{Container: id, Limit: 10}); err != nil || len(records) != 0 {
		t.Errorf("written: %+v, %v", records, err)
	}
}

// TestWithMoves: a move that a record holds already is not told twice, and the newest is
// first.
func TestWithMoves(t *testing.T) {
	at := time.Unix(1000, 0)
	rec := func(id knowledge.ContainerID, r knowledge.Resource, after time.Duration) knowledge.Record {
		return knowledge.Record{Action: knowledge.Action{ID: id, Resize: knowledge.Resize{Resource: r}, At: at.Add(after)}}
	}
	const cpu, mem = knowledge.ResourceCPU, knowledge.ResourceMemory
	for _, c := range []struct {
		name           string
		moves, records []knowledge.Record
		limit          int
		want           []time.Duration
	}{
		{"nothing", nil, nil, 5, nil},
		{"one not written", []knowledge.Record{rec("a", cpu, 5)}, []knowledge.Record{rec("a", cpu, 1)}, 5, []time.Duration{5, 1}},
		{"written meanwhile", []knowledge.Record{rec("a", cpu, 5)}, []knowledge.Record{rec("a", cpu, 5), rec("a", cpu, 1)}, 5, []time.Duration{5, 1}},
		{"another resource is newer", []knowledge.Record{rec("a", cpu, 5)}, []knowledge.Record{rec("a", mem, 9)}, 5, []time.Duration{9, 5}},
		{"another container is newer", []knowledge.Record{rec("a", cpu, 5)}, []knowledge.Record{rec("b", cpu, 9)}, 5, []time.Duration{9, 5}},
		{"no room", []knowledge.Record{rec("a", cpu, 5)}, []knowledge.Record{rec("b", cpu, 9), rec("b", cpu, 8)}, 2, []time.Duration{9, 8}},
	} {
		got := withMoves(c.moves, c.records, c.limit)
		if len(got) != len(c.want) {
			t.Errorf("%s: %+v", c.name, got)
			continue
		}
		for i := range got {
			if after := got[i].Action.At.Sub(at); after != c.want[i] {
				t.Errorf("%s: place %d is %d after", c.name, i, after)
			}
		}
	}
}

// TestGoneButOnRecord: a service that was only watched stays on record when its container
// is removed: nobody says that it never was.
func TestGoneButOnRecord(t *testing.T) {
	t.Parallel()
	r := newRigOver(t, dockertest.Options{}, func(s *store.Store, _ *config.Config) { keepSeries(t, s, "brief", 10*time.Minute, 7*time.Minute) })
	if h, err := r.n.Records(t.Context(), "brief", 10); err != nil || len(h.Changes) != 0 {
		t.Errorf("history: %+v, %v", h, err)
	}
	for since, words := range map[time.Duration]string{7 * 24 * time.Hour: "its containers are gone", time.Minute: "ask for minutes"} {
		_, err := r.n.Trace(t.Context(), api.TraceRequest{Name: "brief", Resource: "cpu", Since: since})
		wants(t, "a trace of "+since.String(), err, api.KindRefused, words)
	}
	_, err := r.n.Records(t.Context(), "never", 10)
	wants(t, "history of nothing", err, api.KindNotFound)
}
