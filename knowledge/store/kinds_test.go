package store

import (
	"bytes"
	"errors"
	"os"
	"slices"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/effiscale/effiscale/knowledge"
)

var kinds = []knowledge.ActionKind{
	knowledge.ActionResize, knowledge.ActionCreate, knowledge.ActionStart,
	knowledge.ActionStop, knowledge.ActionRemove, knowledge.ActionRestart,
}

// oldRecords are what the journal lines in testdata, written by commit 932bd6d, hold.
func oldRecords() []knowledge.Record {
	id := knowledge.ContainerID("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef")
	at := time.Unix(1767225600, 123456789).UTC()
	resize := func(actor knowledge.Actor, after time.Duration, reason knowledge.Reason) knowledge.Action {
		return knowledge.Action{Kind: knowledge.ActionResize, ID: id, Name: "web", Service: "shop-web",
			Actor: actor, At: at.Add(after), Reason: reason}
	}
	first := resize(knowledge.ActorUser, 0,
		knowledge.Reason{Rule: knowledge.RuleOOM, Args: [4]float64{1, 0, 2.5}, Note: "by \"hand\" ü"})
	first.Key = "a-key"
	first.Resize = knowledge.Resize{Resource: knowledge.ResourceMemory, Verb: knowledge.Grow, From: 256 << 20,
		To: 512 << 20}
	second := resize(knowledge.ActorReflex, time.Minute, knowledge.Because(knowledge.RuleDrift, 2, 1))
	second.Resize = knowledge.Resize{Verb: knowledge.Shrink, From: 2e9, To: 1e9, Count: 17}
	third := resize(knowledge.ActorRestore, time.Hour, knowledge.Because(knowledge.RuleRestore))
	first.Seq, second.Seq, third.Seq = 1, 2, 3
	return []knowledge.Record{
		{Action: first, Outcome: knowledge.Outcome{Seq: 1, Result: knowledge.ResultAdjusted, At: at.Add(time.Second),
			Took: 52 * time.Millisecond, Kernel: 512<<20 - 4096, Engine: 512 << 20, Message: "rounded"}},
		{Action: second, Outcome: knowledge.Outcome{Seq: 2, Result: knowledge.ResultApplied, At: at.Add(time.Minute),
			Kernel: 1e9}},
		{Action: third},
	}
}

// TestOldJournal: the records of commit 932bd6d are read whole, and written in the form
// that that version reads.
func TestOldJournal(t *testing.T) {
	text, err := os.ReadFile("testdata/journal-932bd6d.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	want := oldRecords()
	if len(lines) != len(want) {
		t.Fatalf("%d lines, %d records", len(lines), len(want))
	}
	for i, line := range lines {
		got, err := decodeRecord(uint64(i+1), line)
		if err != nil || got != want[i] {
			t.Errorf("line %d: %v\n got %+v\nwant %+v", i+1, err, got, want[i])
		}
		if again, err := encodeRecord(want[i]); err != nil || !bytes.Equal(again, line) {
			t.Errorf("line %d: %v\n got %s\nwant %s", i+1, err, again, line)
		}
	}
}

// TestNewerJournal: records of a newer version are shown as far as they are understood,
// are neither open nor closed here, and stay in the file as they were written.
func TestNewerJournal(t *testing.T) {
	lines := []string{
		`{"p":"migrate","i":"c1","n":"web","a":"user","t":5000000000,"y":"oom","z":{"to":"other"},"x":"open"}`,
		`{"p":"create","i":"c2","n":"web","a":"user","t":6000000000,"z":"another form","x":"applied","e":6000000000}`,
		`{"i":"c3","n":"web","r":"disk","v":"grow","a":"user","t":7000000000,"f":1,"o":2,"x":"open"}`,
		`{"i":"c4","n":"web","r":"cpu","v":"grow","a":"optimizer","t":8000000000,"o":2,"x":"throttled","e":1}`,
	}
	dir := t.TempDir()
	s, _ := mustOpen(t, Options{Dir: dir})
	if err := s.file.db.Update(func(tx *bolt.Tx) error {
		for i, line := range lines {
			if err := put(tx, cell{bucketJournal, seqKey(uint64(i + 1))}, []byte(line)); err != nil {
				return err
			}
			if err := put(tx, cell{bucketOpen, seqKey(uint64(i + 1))}, []byte{1}); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	s, _ = mustOpen(t, Options{Dir: dir})
	if open := s.Journal.OpenActions(); len(open) != 0 {
		t.Errorf("open: %+v", open)
	}
	got, err := s.Journal.Records(Filter{})
	if err != nil || len(got) != len(lines) {
		t.Fatalf("%d records, %v", len(got), err)
	}
	slices.Reverse(got)
	for i, r := range got {
		a := r.Action
		if !a.Newer || a.Name != "web" || a.At != time.Unix(int64(5+i), 0).UTC() {
			t.Errorf("record %d: %+v", i+1, a)
		}
		if err := s.Journal.End(knowledge.Outcome{Seq: a.Seq, Result: knowledge.ResultApplied}); !errors.Is(err, ErrInvalid) {
			t.Errorf("record %d is ended: %v", i+1, err)
		}
	}
	if a := got[0].Action; a.Kind != "migrate" || a.Actor != knowledge.ActorUser || a.Reason.Rule != knowledge.RuleOOM {
		t.Errorf("%+v", a)
	}
	if r := got[2].Action.Resize; r.Resource.String() != "unknown(255)" || r.Verb != knowledge.Grow || r.To != 2 {
		t.Errorf("%+v", r)
	}
	if r := got[3]; r.Action.Actor.String() != "unknown(255)" || r.Outcome.Result.String() != "unknown(255)" {
		t.Errorf("%+v", r)
	}
	seq, err := s.Journal.Begin(knowledge.Action{Kind: knowledge.ActionStart, ID: "c5", At: epoch})
	if err != nil || seq != 5 {
		t.Errorf("seq %d, %v", seq, err)
	}
	if _, err := s.Journal.Begin(knowledge.Action{Kind: "migrate"}); !errors.Is(err, ErrInvalid) {
		t.Errorf("an unknown kind is recorded: %v", err)
	}
	if n := s.file.badCount; n != 0 {
		t.Errorf("%d bad records", n)
	}
	if err := s.view(func(tx *bolt.Tx) error {
		for i, line := range lines {
			c := cell{bucketJournal, seqKey(uint64(i + 1))}
			if b, ok := unseal(c, tx.Bucket([]byte(c.bucket)).Get([]byte(c.key))); !ok || string(b) != line {
				t.Errorf("record %d was changed: %s", i+1, b)
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}
