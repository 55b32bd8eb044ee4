package store

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/knowledge/history"
)

// TestRecordsSinceOutOfOrder: one that began earlier and was folded in later ends
// no query too soon.
func TestRecordsSinceOutOfOrder(t *testing.T) {
	now := epoch.Add(24 * time.Hour)
	s, _ := mustOpen(t, options(t, &clock{now}))
	var folds []knowledge.Record
	for _, age := range []time.Duration{20 * time.Hour, 10 * time.Hour, 50 * time.Minute, 90 * time.Minute,
		5 * time.Minute} {
		folds = append(folds, knowledge.Record{
			Action:  knowledge.Action{Kind: knowledge.ActionResize, ID: "c", At: now.Add(-age)},
			Outcome: knowledge.Outcome{Result: knowledge.ResultApplied},
		})
	}
	if err := s.Learned.Commit(Batch{Folds: folds}); err != nil {
		t.Fatal(err)
	}
	got, err := s.Journal.Records(Filter{Since: now.Add(-time.Hour)})
	if err != nil || len(got) != 2 {
		t.Fatalf("%d records, %v", len(got), err)
	}
}

// TestRow57OneBadValueAlone: a name from a hostile label keeps nothing else from
// the disk.
func TestRow57OneBadValueAlone(t *testing.T) {
	s, _ := mustOpen(t, options(t, &clock{epoch}))
	long := knowledge.ServiceKey(strings.Repeat("x", maxWord+1))
	err := s.Learned.Commit(Batch{
		Profiles: map[knowledge.ServiceKey][]byte{long: {1}, "": {1}, "web": {2}},
		States:   map[knowledge.ContainerID][]byte{"a": make([]byte, maxState+1), "b": {3}},
		Series:   map[knowledge.ServiceKey][]history.Chunk{long: {{Data: []byte{1}}}},
		Folds:    []knowledge.Record{{Action: knowledge.Action{Kind: knowledge.ActionResize, ID: "b", At: epoch}}},
	})
	if !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
	profiles, err1 := s.Learned.Profiles()
	states, err2 := s.Learned.States()
	records, err3 := s.Journal.Records(Filter{})
	if err := errors.Join(err1, err2, err3); err != nil || len(profiles) != 1 || len(states) != 1 || len(records) != 1 {
		t.Errorf("%v, %v, %v, %v", profiles, states, records, err)
	}
}
