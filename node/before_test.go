package node

import (
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/knowledge/store"
)

// TestRow3OpenActionWaitsForTheKernel: an action that a crash left open is closed as
// what the kernel holds, and not before that is known; a container that is gone, or
// that cannot be measured at all, does not keep it open.
func TestRow3OpenActionWaitsForTheKernel(t *testing.T) {
	s, _, err := store.Open(store.Options{Dir: t.TempDir(), Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	n := blank(Options{})
	n.store, n.started = s, time.Now()
	const want = 1 << 28
	ids := map[string]knowledge.ContainerID{}
	for i, name := range []string{"done", "undone", "gone", "late", "record"} {
		ids[name] = knowledge.ContainerID(strings.Repeat(string(rune('a'+i)), 64))
		if _, err := s.Journal.Begin(knowledge.Action{
			Kind: knowledge.ActionResize, ID: ids[name], Name: name, At: time.Now(),
			Resize: knowledge.Resize{Resource: knowledge.ResourceMemory, Verb: knowledge.Grow, To: want,
				Start: name == "record"},
		}); err != nil {
			t.Fatal(err)
		}
	}
	measured := false
	held := func(id knowledge.ContainerID, _ knowledge.Resource, start bool) (int64, bool, bool) {
		switch {
		case id == ids["gone"]:
			return 0, false, false
		case id == ids["late"], !measured:
			return 0, false, true
		case id == ids["done"], id == ids["record"] && start:
			return want, true, false
		}
		return want / 2, true, false
	}
	left := n.closeOpen(s.Journal.OpenActions(), held)
	if len(left) != 4 || len(s.Journal.OpenActions()) != 4 {
		t.Fatalf("%d actions wait for their containers, want 4", len(left))
	}
	measured = true
	if left = n.closeOpen(left, held); len(left) != 1 {
		t.Fatalf("%d actions still wait, want 1", len(left))
	}
	n.started = time.Now().Add(-closeWithin)
	if left = n.closeOpen(left, held); len(left) != 0 || len(s.Journal.OpenActions()) != 0 {
		t.Fatalf("%d actions wait for ever", len(left))
	}
	for name, want := range map[string]knowledge.Result{
		"done": knowledge.ResultApplied, "undone": knowledge.ResultSuperseded, "gone": knowledge.ResultSuperseded,
		"late": knowledge.ResultSuperseded, "record": knowledge.ResultApplied,
	} {
		got, err := s.Journal.Records(store.Filter{Container: ids[name]})
		if err != nil || len(got) != 1 || got[0].Outcome.Result != want {
			t.Errorf("%s: %+v, %v; want %v", name, got, err, want)
		}
	}
}

// TestLostDiskIsLikeACrash: a first life, and one whose disk is gone, look at what the
// kernel holds and the Engine does not; one after an orderly end need not.
func TestLostDiskIsLikeACrash(t *testing.T) {
	dir := t.TempDir()
	life := func(orderly bool) bool {
		s, _, err := store.Open(store.Options{Dir: dir, Log: zerolog.Nop()})
		if err != nil {
			t.Fatal(err)
		}
		n := blank(Options{})
		n.store = s
		n.countCrashes(time.Now())
		if orderly {
			for _, end := range n.undo {
				if err := end.do(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		return n.before.unclean
	}
	for i, c := range []struct{ orderly, unclean bool }{{true, true}, {false, false}, {true, true}, {true, false}} {
		if got := life(c.orderly); got != c.unclean {
			t.Errorf("life %d: unclean %v, want %v", i+1, got, c.unclean)
		}
	}
}
