package store

import (
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"
)

var epoch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// clock is a wall clock that tests set.
type clock struct{ now time.Time }

func (c *clock) Now() time.Time { return c.now }

func options(t *testing.T, c *clock) Options {
	t.Helper()
	return Options{Dir: t.TempDir(), Log: zerolog.New(zerolog.NewTestWriter(t)), Now: c.Now, LockTimeout: 200 * time.Millisecond}
}

func mustOpen(t *testing.T, o Options) (*Store, Opened) {
	t.Helper()
	s, opened, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s, opened
}

func action(n int) knowledge.Action {
	return knowledge.Action{
		ID: knowledge.ContainerID(hex64(n)), Name: "web-1", Service: "shop_web", Resource: knowledge.ResourceMemory,
		Verb: knowledge.Grow, Actor: knowledge.ActorDeliberation, At: epoch.Add(time.Duration(n) * time.Second),
		From: 128 << 20, To: 256 << 20, Reason: knowledge.Because(knowledge.RuleMemoryTight, 120<<20, 128<<20),
	}
}

func hex64(n int) string {
	const digits = "0123456789abcdef"
	b := make([]byte, 64)
	for i := range b {
		b[i] = digits[(n>>(4*(i%8)))&15]
	}
	return string(b)
}

func TestJournalSurvivesRestart(t *testing.T) {
	c := &clock{epoch}
	o := options(t, c)
	s, opened := mustOpen(t, o)
	if !opened.Fresh || opened.SetAside != "" {
		t.Fatalf("first open: %+v", opened)
	}
	want := Identity{Node: "n1", Name: "host", MachineID: "m", BootID: "b", Created: epoch}
	if err := s.SetIdentity(want); err != nil {
		t.Fatal(err)
	}
	seq1, err := s.Begin(action(1))
	if err != nil {
		t.Fatal(err)
	}
	seq2, err := s.Begin(action(2))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.End(knowledge.Outcome{Seq: seq1, Result: knowledge.ResultApplied, At: epoch.Add(time.Minute), Kernel: 256 << 20}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, opened = mustOpen(t, o)
	if opened.Fresh || opened.Why != "" {
		t.Fatalf("second open: %+v", opened)
	}
	if got, ok := s.Identity(); !ok || got != want {
		t.Fatalf("identity %+v", got)
	}
	open := s.OpenActions()
	if len(open) != 1 || open[0].Action.Seq != seq2 {
		t.Fatalf("open actions: %+v", open)
	}
	got, err := s.Records(Filter{})
	if err != nil || len(got) != 2 {
		t.Fatalf("%d records, %v", len(got), err)
	}
	a := action(1)
	a.Seq = seq1
	if d := cmp.Diff(a, got[1].Action); d != "" {
		t.Fatal(d)
	}
	if seq3, err := s.Begin(action(3)); err != nil || seq3 != seq2+1 {
		t.Fatalf("sequence %d, %v", seq3, err)
	}
}
