package store

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/knowledge/history"
	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"
	bolt "go.etcd.io/bbolt"
	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

var epoch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// clock is a wall clock that tests set.
type clock struct{ now time.Time }

func (c *clock) Now() time.Time { return c.now }

func options(t *testing.T, c *clock) Options {
	t.Helper()
	return Options{Dir: t.TempDir(), Log: zerolog.New(zerolog.NewTestWriter(t)), Now: c.Now,
		LockTimeout: 200 * time.Millisecond}
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
		Kind: knowledge.ActionResize, ID: knowledge.ContainerID(hex64(n)), Name: "web-1", Service: "shop_web",
		Actor: knowledge.ActorDeliberation, At: epoch.Add(time.Duration(n) * time.Second),
		Reason: knowledge.Because(knowledge.RuleMemoryTight, 120<<20, 128<<20),
		Resize: knowledge.Resize{
			Resource: knowledge.ResourceMemory, Verb: knowledge.Grow, From: 128 << 20, To: 256 << 20,
		},
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
	want := Identity{Node: "n1", Name: "host", MachineID: "m", Created: epoch}
	if err := s.SetIdentity(want); err != nil {
		t.Fatal(err)
	}
	seq1, err := s.Journal.Begin(action(1))
	if err != nil {
		t.Fatal(err)
	}
	seq2, err := s.Journal.Begin(action(2))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Journal.End(knowledge.Outcome{Seq: seq1, Result: knowledge.ResultApplied, At: epoch.Add(time.Minute),
		Kernel: 256 << 20}); err != nil {
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
	open := s.Journal.OpenActions()
	if len(open) != 1 || open[0].Action.Seq != seq2 {
		t.Fatalf("open actions: %+v", open)
	}
	got, err := s.Journal.Records(Filter{})
	if err != nil || len(got) != 2 {
		t.Fatalf("%d records, %v", len(got), err)
	}
	a := action(1)
	a.Seq = seq1
	if d := cmp.Diff(a, got[1].Action); d != "" {
		t.Fatal(d)
	}
	if seq3, err := s.Journal.Begin(action(3)); err != nil || seq3 != seq2+1 {
		t.Fatalf("sequence %d, %v", seq3, err)
	}
}

// Row 3: a daemon dies after the change, before it closed the action. The next
// one finds it open, closes it, and finds nothing open afterwards.
func TestRow3OpenActionIsClosedAfterRestart(t *testing.T) {
	o := options(t, &clock{epoch})
	s, _ := mustOpen(t, o)
	seq, err := s.Journal.Begin(action(1))
	if err != nil {
		t.Fatal(err)
	}
	for _, result := range []knowledge.Result{knowledge.ResultApplied, knowledge.ResultReverted} {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s, _ = mustOpen(t, o)
		if err := s.Journal.End(knowledge.Outcome{Seq: seq, Result: result, At: epoch,
			Message: "found in the kernel"}); err != nil {
			t.Fatal(err)
		}
		if got := s.Journal.OpenActions(); len(got) != 0 {
			t.Fatalf("open: %+v", got)
		}
	}
	got, err := s.Journal.Records(Filter{Container: action(1).ID})
	if err != nil || len(got) != 1 || got[0].Outcome.Result != knowledge.ResultReverted || got[0].Outcome.Seq != seq {
		t.Fatalf("%+v, %v", got, err)
	}
	if err := s.Journal.End(knowledge.Outcome{Seq: seq + 1}); !errors.Is(err, ErrInvalid) {
		t.Fatalf("an action that never was: %v", err)
	}
}

// Rows 13 and 43: a second daemon is refused within the time limit; the first one
// is not disturbed; when it ends the file is free.
func TestRow13Row43Locked(t *testing.T) {
	o := options(t, &clock{epoch})
	s, _ := mustOpen(t, o)
	begin := time.Now()
	if _, _, err := Open(o); !errors.Is(err, ErrLocked) {
		t.Fatalf("second open: %v", err)
	}
	if took := time.Since(begin); took > 10*time.Second {
		t.Fatalf("refused after %s", took)
	}
	if _, err := s.Journal.Begin(action(1)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Journal.Begin(action(1)); !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
	if _, err := s.Journal.Records(Filter{}); !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
	mustOpen(t, o)
}

func TestOpenRefusesWhatIsNoDirectoryOrFile(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "state", FileName), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "pipe"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe", FileName), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"file", "state", "pipe"} {
		if s, _, err := Open(quiet(t, filepath.Join(dir, name))); err == nil {
			t.Errorf("%s: opened, %q", name, s.Health())
		}
	}
}

// Row 62: the same request again finds what it did, for a day; others do not.
func TestRow62ByKey(t *testing.T) {
	c := &clock{epoch}
	o := options(t, c)
	s, _ := mustOpen(t, o)
	var seqs []uint64
	for i, key := range []string{"a", "a", "ab", "", "a\x00b"} {
		a := action(i)
		a.Key = key
		seq, err := s.Journal.Begin(a)
		if err != nil {
			t.Fatal(err)
		}
		seqs = append(seqs, seq)
		if err := s.Journal.End(knowledge.Outcome{Seq: seq, Result: knowledge.ResultApplied}); err != nil {
			t.Fatal(err)
		}
	}
	look := func() {
		t.Helper()
		for key, want := range map[string][]uint64{"a": seqs[:2], "ab": seqs[2:3], "a\x00b": seqs[4:], "": nil, "x": nil,
			strings.Repeat("k", 300): nil} {
			got, err := s.Journal.ByKey(key)
			var have []uint64
			for _, r := range got {
				have = append(have, r.Action.Seq)
			}
			if err != nil || !slices.Equal(have, want) {
				t.Errorf("key %q: %v, want %v, %v", key, have, want, err)
			}
		}
	}
	look()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, _ = mustOpen(t, o)
	look()
	c.now = c.now.Add(25 * time.Hour)
	if got, err := s.Journal.ByKey("a"); err != nil || len(got) != 0 {
		t.Fatalf("after a day: %v, %v", got, err)
	}
	if err := s.Prune(c.now); err != nil {
		t.Fatal(err)
	}
	if n := keysIn(t, s, bucketKeys); n != 0 {
		t.Fatalf("%d keys are kept", n)
	}
	a := action(9)
	a.Key = strings.Repeat("k", 300)
	if _, err := s.Journal.Begin(a); !errors.Is(err, ErrInvalid) {
		t.Fatal(err)
	}
}

func keysIn(t *testing.T, s *Store, bucket string) int {
	t.Helper()
	n := 0
	err := s.view(func(tx *bolt.Tx) error {
		return tx.Bucket([]byte(bucket)).ForEach(func(_, _ []byte) error { n++; return nil })
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestRecordsFilters(t *testing.T) {
	s, _ := mustOpen(t, options(t, &clock{epoch}))
	for i := range 30 {
		a := action(i)
		a.ID, a.Service = knowledge.ContainerID(hex64(i%3)), knowledge.ServiceKey([]string{"a", "b<&>"}[i%2])
		if _, err := s.Journal.Begin(a); err != nil {
			t.Fatal(err)
		}
	}
	folds := []knowledge.Record{{Action: action(30)}, {Action: action(31)}}
	folds[0].Action.Service, folds[0].Action.Resize.Count = "b<&>", 17
	folds[0].Action.Reason.Args[1] = math.NaN() // row 36: JSON has no NaN
	if err := s.Learned.Commit(Batch{Folds: folds}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		f    Filter
		want int
	}{
		{Filter{}, 32}, {Filter{Limit: 5}, 5}, {Filter{Service: "a"}, 15}, {Filter{Service: "b<&>"}, 16},
		{Filter{Service: "b"}, 0},
		{Filter{Container: knowledge.ContainerID(hex64(1))}, 10},
		{Filter{Container: knowledge.ContainerID(hex64(1)), Service: "a"}, 5},
		{Filter{Since: epoch.Add(20 * time.Second)}, 12}, {Filter{Container: "nobody"}, 0},
	} {
		got, err := s.Journal.Records(c.f)
		if err != nil || len(got) != c.want {
			t.Errorf("%+v: %d records, want %d, %v", c.f, len(got), c.want, err)
		}
		if !slices.IsSortedFunc(got, func(a, b knowledge.Record) int { return cmp2(b.Action.Seq, a.Action.Seq) }) {
			t.Errorf("%+v: not newest first", c.f)
		}
	}
	got, _ := s.Journal.Records(Filter{Limit: 2})
	if got[1].Action.Resize.Count != 17 || got[1].Outcome.Result != knowledge.ResultApplied || got[1].Action.Seq != 31 {
		t.Fatalf("fold: %+v", got[1])
	}
	if n := len(s.Journal.OpenActions()); n != 30 {
		t.Fatalf("%d open", n)
	}
}

func cmp2(a, b uint64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// Row 51: the journal is a ring; numbers go on.
func TestRow51JournalIsARing(t *testing.T) {
	o := options(t, &clock{epoch})
	o.MaxSize = 512 << 10 // a journal of 256 records
	s, _ := mustOpen(t, o)
	for i := range 100 {
		var folds []knowledge.Record
		for j := range 10 {
			folds = append(folds, knowledge.Record{Action: action(10*i + j)})
		}
		if err := s.Learned.Commit(Batch{Folds: folds}); err != nil {
			t.Fatal(err)
		}
	}
	got, err := s.Journal.Records(Filter{Limit: 10_000})
	if err != nil || len(got) != 256 || got[0].Action.Seq != 1000 || got[255].Action.Seq != 745 {
		t.Fatalf("%d records, %v", len(got), err)
	}
	if n := keysIn(t, s, bucketJournal); n != 256 {
		t.Fatalf("%d on disk", n)
	}
}

func TestOriginalsAndDocs(t *testing.T) {
	o := options(t, &clock{epoch})
	s, _ := mustOpen(t, o)
	orig := knowledge.Original{ID: knowledge.ContainerID(hex64(1)), Name: "web", Service: "w", At: epoch,
		Limits: knowledge.Limits{CPU: 5e8, Dialect: 2, Period: 50 * time.Millisecond, Shares: 512, Memory: 1 << 28,
			MemorySwap: -1}}
	if err := s.Originals.Put(orig); err != nil {
		t.Fatal(err)
	}
	other := orig
	other.Limits.CPU = 1
	if err := s.Originals.Put(other); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if got := s.Originals.All(); len(got) != 1 || got[0] != orig {
			t.Fatalf("the first one stays: %+v", got)
		}
		orig.Limits.Memory /= 2
		if err := s.Originals.Amend(orig); err != nil {
			t.Fatal(err)
		}
		if err := s.Documents.Put("d", []int{1, 2}); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s, _ = mustOpen(t, o)
	}
	if err := errors.Join(s.Originals.Drop(orig.ID), s.Originals.Drop(orig.ID), s.Documents.Put("d", nil),
		s.Documents.Put("d", nil)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, _ = mustOpen(t, o)
	if ok, err := s.Documents.Get("d", new([]int)); ok || err != nil || len(s.Originals.All()) != 0 {
		t.Fatalf("%v %v %v", ok, err, s.Originals.All())
	}
	for i, err := range []error{
		s.Documents.Put("", 1), s.Documents.Put(strings.Repeat("n", 65), 1),
		s.Documents.Put("big", strings.Repeat("x", maxDoc)), s.Documents.Put("odd", math.NaN()),
		s.Originals.Put(knowledge.Original{}), s.SetIdentity(Identity{}),
		s.Learned.Commit(Batch{Profiles: map[knowledge.ServiceKey][]byte{"": nil}}),
		s.Learned.Commit(Batch{States: map[knowledge.ContainerID][]byte{"a": make([]byte, maxState+1)}}),
		s.Learned.Commit(Batch{Series: map[knowledge.ServiceKey][]history.Chunk{"a": {{Data: make([]byte, maxChunk+1)}}}}),
	} {
		if !errors.Is(err, ErrInvalid) {
			t.Errorf("%d: %v", i, err)
		}
	}
	for i := range maxDocs {
		if err := s.Documents.Put(fmt.Sprint(i), i); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Documents.Put("one more", 1); !errors.Is(err, ErrInvalid) || s.Health() != "" {
		t.Fatal(err)
	}
}

func TestManyAtOnce(t *testing.T) {
	defer goleak.VerifyNone(t)
	s, _ := mustOpen(t, quiet(t, t.TempDir()))
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 25 {
				seq, err := s.Journal.Begin(action(g))
				if err == nil {
					err = s.Journal.End(knowledge.Outcome{Seq: seq, Result: knowledge.ResultApplied})
				}
				if err == nil {
					err = s.Learned.Commit(Batch{Profiles: map[knowledge.ServiceKey][]byte{"a": {byte(i)}},
						Folds: []knowledge.Record{{Action: action(g)}}})
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
		wg.Go(func() {
			for range 25 {
				_, err1 := s.Journal.Records(Filter{})
				_, err2 := s.Learned.Profiles()
				if err := errors.Join(err1, err2, s.Prune(epoch)); err != nil {
					t.Error(err)
				}
				s.Journal.OpenActions()
				_ = s.Health()
			}
		})
	}
	wg.Wait()
	if got, err := s.Journal.Records(Filter{Limit: 1000}); err != nil || len(got) != 200 {
		t.Fatalf("%d records, %v", len(got), err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestRecordEncodesAndDecodes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int64()
		word := rapid.StringN(-1, -1, 60)
		r := knowledge.Record{Action: knowledge.Action{
			Seq: 7, Kind: rapid.SampledFrom(kinds).Draw(t, "kind"), ID: knowledge.ContainerID(word.Draw(t, "id")),
			Name: word.Draw(t, "name"), Service: knowledge.ServiceKey(word.Draw(t, "service")),
			Actor: knowledge.Actor(rapid.IntRange(0, 6).Draw(t, "actor")), At: instant(n.Draw(t, "at")),
			Reason: knowledge.Because(knowledge.RuleOOM, rapid.Float64().Draw(t, "arg"), 0, 3), Key: word.Draw(t, "key"),
		}, Outcome: knowledge.Outcome{
			Seq: 7, Result: knowledge.Result(rapid.IntRange(1, 6).Draw(t, "result")), At: instant(n.Draw(t, "ended")),
			Took: time.Duration(n.Draw(t, "took")), Kernel: n.Draw(t, "kernel"), Engine: n.Draw(t, "engine"),
			Message: word.Draw(t, "message"),
		}}
		a, timeout := &r.Action, time.Duration(n.Draw(t, "timeout"))
		switch a.Kind {
		case knowledge.ActionResize:
			a.Resize = knowledge.Resize{
				Resource: knowledge.Resource(rapid.IntRange(0, 1).Draw(t, "resource")),
				Verb:     knowledge.Verb(rapid.IntRange(0, 2).Draw(t, "verb")),
				From:     n.Draw(t, "from"), To: n.Draw(t, "to"), Count: rapid.Int().Draw(t, "count"),
			}
		case knowledge.ActionCreate:
			a.Create = knowledge.Create{
				Image: word.Draw(t, "image"), Template: knowledge.ContainerID(word.Draw(t, "template")),
				Slot: rapid.Int().Draw(t, "slot"),
			}
		case knowledge.ActionStop:
			a.Stop.Timeout = timeout
		case knowledge.ActionRemove:
			a.Remove = knowledge.Remove{Force: rapid.Bool().Draw(t, "force"), Volumes: rapid.Bool().Draw(t, "volumes")}
		case knowledge.ActionRestart:
			a.Restart.Timeout = timeout
		}
		r.Action.Reason.Note = word.Draw(t, "note")
		b, err := encodeRecord(r)
		if err != nil {
			t.Fatal(err)
		}
		got, err := decodeRecord(7, b)
		if err != nil || got != r {
			t.Fatalf("%v\n%+v\n%+v", err, r, got)
		}
	})
}

func FuzzRecordDecode(f *testing.F) {
	b, err := encodeRecord(knowledge.Record{Action: action(1)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decodeRecord(1, b)
		if err != nil {
			return
		}
		if _, err := encodeRecord(r); err != nil {
			t.Fatal(err)
		}
	})
}
