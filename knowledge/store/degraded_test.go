package store

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/knowledge/history"
	"github.com/rs/zerolog"
)

// tmpfs mounts a file system of its own; the test is left out without the right to.
func tmpfs(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("effiscale-test", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("left out: mounting a small file system needs root: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// ballast fills the file system that holds dir and returns the file to remove.
func ballast(t *testing.T, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "ballast")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	for chunk := 64 << 10; chunk >= 1; chunk /= 2 {
		for err == nil {
			_, err = f.Write(make([]byte, chunk))
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
		err = nil
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// pushUntilDegraded commits growing profiles until the disk refuses.
func pushUntilDegraded(t *testing.T, s *Store) {
	t.Helper()
	for i := range 2000 {
		key := knowledge.ServiceKey("s" + hex64(i))
		err := s.Learned.Commit(Batch{Profiles: map[knowledge.ServiceKey][]byte{key: make([]byte, 8000)}})
		if errors.Is(err, ErrDegraded) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Fatal("the disk never filled up")
}

// checkDegraded: actions go on from memory, readers see them.
func checkDegraded(t *testing.T, s *Store, word string) (seq uint64) {
	t.Helper()
	seq, err := s.Journal.Begin(action(70))
	if !errors.Is(err, ErrDegraded) || seq == 0 {
		t.Fatalf("begin: %d, %v", seq, err)
	}
	if err := s.Journal.End(knowledge.Outcome{Seq: seq, Result: knowledge.ResultApplied}); !errors.Is(err, ErrDegraded) {
		t.Fatal(err)
	}
	if err := s.Documents.Put("pauses", "p"); !errors.Is(err, ErrDegraded) {
		t.Fatal(err)
	}
	err = s.Originals.Put(knowledge.Original{ID: "new", Limits: knowledge.Limits{CPU: 7}})
	if !errors.Is(err, ErrDegraded) {
		t.Fatal(err)
	}
	a := action(71)
	a.Key = "k"
	keyed, err := s.Journal.Begin(a)
	if !errors.Is(err, ErrDegraded) || keyed != seq+1 {
		t.Fatal(keyed, err)
	}
	if !strings.HasPrefix(s.Health(), "degraded: ") || !strings.Contains(s.Health(), word) {
		t.Fatalf("health %q, want %q in it", s.Health(), word)
	}
	checkKept(t, s, seq)
	return seq
}

// checkKept: what checkDegraded did is there.
func checkKept(t *testing.T, s *Store, seq uint64) {
	t.Helper()
	got, err := s.Journal.Records(Filter{Limit: 2})
	if err != nil || len(got) != 2 || got[0].Action.Seq != seq+1 || got[1].Action.Seq != seq ||
		got[1].Outcome.Result != knowledge.ResultApplied {
		t.Fatalf("records %+v, %v", got, err)
	}
	if got, err := s.Journal.ByKey("k"); err != nil || len(got) != 1 || got[0].Action.Seq != seq+1 { // row 62
		t.Fatalf("by key: %+v, %v", got, err)
	}
	var doc string
	if ok, err := s.Documents.Get("pauses", &doc); !ok || err != nil || doc != "p" {
		t.Fatal(ok, err, doc)
	}
	if !slices.ContainsFunc(s.Originals.All(), func(o knowledge.Original) bool {
		return o.ID == "new" &&
			o.Limits.CPU == 7
	}) {
		t.Fatal(s.Originals.All())
	}
}

// Row 49: the disk fills up while the store is open, and gets room again.
func TestRow49DiskFull(t *testing.T) {
	var logged bytes.Buffer
	c := &clock{epoch}
	o := Options{Dir: tmpfs(t, "1m"), Log: zerolog.New(&logged), Now: c.Now}
	s, _ := mustOpen(t, o)
	if err := s.Learned.Commit(Batch{Profiles: map[knowledge.ServiceKey][]byte{"first": []byte("kept")}}); err != nil {
		t.Fatal(err)
	}
	heavy := ballast(t, o.Dir)
	pushUntilDegraded(t, s)
	// A large write does not fit. Small ones do, until the last free page is used.
	actions := 0
	for ok := true; ok; actions++ {
		c.now = c.now.Add(retryEvery)
		_, err := s.Journal.Begin(action(70))
		ok = err == nil
	}
	c.now = c.now.Add(warnEvery)
	logged.Reset()
	seq := checkDegraded(t, s, "disk full")
	for range 200 { // ten minutes, an action each 3 s
		c.now = c.now.Add(3 * time.Second)
		if _, err := s.Journal.Begin(action(70)); !errors.Is(err, ErrDegraded) {
			t.Fatal(err)
		}
	}
	if n := strings.Count(logged.String(), "cannot write the knowledge file"); n < 9 || n > 12 {
		t.Fatalf("logged %d times in ten minutes, want once a minute", n)
	}
	if err := os.Remove(heavy); err != nil {
		t.Fatal(err)
	}
	c.now = c.now.Add(retryEvery)
	last, err := s.Journal.Begin(action(70))
	if err != nil || last != seq+202 || s.Health() != "" {
		t.Fatalf("with room again: %d, %v, %q", last, err, s.Health())
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, opened := mustOpen(t, o)
	if opened.Why != "" || opened.SetAside != "" {
		t.Fatalf("%+v", opened)
	}
	if got, err := s.Journal.Records(Filter{Limit: 20_000}); err != nil || len(got) != 203+actions {
		t.Fatalf("%d records, %v", len(got), err)
	}
	if ps, err := s.Learned.Profiles(); err != nil || string(ps["first"]) != "kept" {
		t.Fatal(err)
	}
}

// Row 49: the disk is full when the daemon starts for the first time.
func TestRow49DiskFullAtStart(t *testing.T) {
	c := &clock{epoch}
	o := Options{Dir: tmpfs(t, "1m"), Now: c.Now}
	heavy := ballast(t, o.Dir)
	s, opened := mustOpen(t, o)
	if !opened.Fresh || opened.Why == "" || opened.SetAside != "" {
		t.Fatalf("%+v", opened)
	}
	if err := s.SetIdentity(Identity{Node: "n9"}); !errors.Is(err, ErrDegraded) {
		t.Fatal(err)
	}
	seq := checkDegraded(t, s, "disk full")
	if seq < 1e12 {
		t.Fatalf("numbers begin at %d: they could repeat those of a journal that is there later", seq)
	}
	for range 20 {
		c.now = c.now.Add(retryEvery)
		if err := s.Learned.Commit(Batch{}); !errors.Is(err, ErrDegraded) {
			t.Fatal(err)
		}
	}
	if err := os.Remove(heavy); err != nil {
		t.Fatal(err)
	}
	c.now = c.now.Add(retryEvery)
	if err := s.Learned.Commit(Batch{}); err != nil || s.Health() != "" {
		t.Fatal(err, s.Health())
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if got := asides(t, o.Dir); len(got) != 0 {
		t.Fatalf("set aside: %q", got)
	}
	s, _ = mustOpen(t, o)
	checkKept(t, s, seq)
	if id, ok := s.Identity(); !ok || id.Node != "n9" {
		t.Fatal(id)
	}
}

// Row 50: a file system that is read-only at start: what is known is read, what
// is new stays in memory, and is written when the file system is writable again.
func TestRow50ReadOnly(t *testing.T) {
	c := &clock{epoch}
	o := Options{Dir: tmpfs(t, "8m"), Now: c.Now}
	s, _ := mustOpen(t, o)
	if err := s.SetIdentity(Identity{Node: "n1"}); err != nil {
		t.Fatal(err)
	}
	before, err := s.Journal.Begin(action(1))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Learned.Commit(Batch{Profiles: map[knowledge.ServiceKey][]byte{"p": []byte("known")}}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	remount := func(flags uintptr) {
		t.Helper()
		if err := syscall.Mount("effiscale-test", o.Dir, "tmpfs", syscall.MS_REMOUNT|flags, "size=8m"); err != nil {
			t.Fatal(err)
		}
	}
	remount(syscall.MS_RDONLY)
	s, opened := mustOpen(t, o)
	if opened.Fresh || opened.Why == "" || opened.SetAside != "" {
		t.Fatalf("%+v", opened)
	}
	if ps, err := s.Learned.Profiles(); err != nil || string(ps["p"]) != "known" || len(s.Journal.OpenActions()) != 1 {
		t.Fatalf("%q %v, %d open", ps, err, len(s.Journal.OpenActions()))
	}
	seq := checkDegraded(t, s, "read-only")
	if seq != before+1 {
		t.Fatalf("numbers go on at %d after %d", seq, before)
	}
	for range 5 {
		c.now = c.now.Add(retryEvery)
		if err := s.Learned.Commit(Batch{}); !errors.Is(err, ErrDegraded) {
			t.Fatal(err)
		}
	}
	checkKept(t, s, seq)
	remount(0)
	c.now = c.now.Add(retryEvery)
	if err := s.Learned.Commit(Batch{}); err != nil || s.Health() != "" {
		t.Fatal(err, s.Health())
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, _ = mustOpen(t, o)
	checkKept(t, s, seq)
}

// Row 50: an empty directory on a read-only file system.
func TestRow50ReadOnlyAndEmpty(t *testing.T) {
	dir := tmpfs(t, "1m")
	if err := syscall.Mount("effiscale-test", dir, "tmpfs", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	c := &clock{epoch}
	s, opened := mustOpen(t, Options{Dir: filepath.Join(dir, "state"), Now: c.Now})
	if !opened.Fresh || opened.Why == "" {
		t.Fatalf("%+v", opened)
	}
	checkDegraded(t, s, "read-only")
}

// Row 51: the file reaches its bound. It never exceeds it: what is oldest is given
// up for what is new.
func TestRow51MaxSize(t *testing.T) {
	c := &clock{epoch}
	o := quiet(t, t.TempDir())
	o.Now, o.MaxSize = c.Now, 1<<20
	s, _ := mustOpen(t, o)
	chunk := history.Chunk{Tier: history.Fine, Data: make([]byte, 600)}
	if err := s.Learned.Commit(Batch{Series: map[knowledge.ServiceKey][]history.Chunk{"a": {chunk}}}); err != nil {
		t.Fatal(err)
	}
	for i := range 300 {
		c.now = c.now.Add(time.Second)
		key := knowledge.ServiceKey(fmt.Sprint("s", i))
		if err := s.Learned.Commit(Batch{Profiles: map[knowledge.ServiceKey][]byte{key: make([]byte, 8000)}}); err != nil {
			t.Fatalf("profile %d: %v", i, err)
		}
		if got := s.Size(); got > o.MaxSize {
			t.Fatalf("the file has %d bytes", got)
		}
	}
	ps, err := s.Learned.Profiles()
	if err != nil || ps["s299"] == nil || ps["s0"] != nil || len(ps) < 20 {
		t.Fatalf("%d profiles, %v", len(ps), err)
	}
	if n := keysIn(t, s, bucketSeries); n != 0 {
		t.Fatal("a profile went before a chunk of a series")
	}
	// One batch that is larger than the file is refused, and harms nothing.
	huge := Batch{Profiles: map[knowledge.ServiceKey][]byte{}}
	for i := range 300 {
		huge.Profiles[knowledge.ServiceKey(fmt.Sprint("h", i))] = make([]byte, 8000)
	}
	if err := s.Learned.Commit(huge); !errors.Is(err, ErrDegraded) || s.Size() > o.MaxSize {
		t.Fatal(err, s.Size())
	}
	seq := checkDegraded(t, s, "bound of 1 MiB")
	c.now = c.now.Add(retryEvery)
	if err := s.Learned.Commit(Batch{}); err != nil || s.Health() != "" {
		t.Fatal(err, s.Health())
	}
	checkKept(t, s, seq)
}

// Row 49: what waits in memory is bounded too.
func TestRow49WaitingRecordsAreBounded(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, FileName), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c := &clock{epoch}
	s, _ := mustOpen(t, Options{Dir: dir, Now: c.Now})
	s.mu.Lock()
	_ = s.degrade(syscall.ENOSPC) // as the disk would
	s.mu.Unlock()
	for i := range 3 * maxPending {
		seq, err := s.Journal.Begin(action(i))
		if !errors.Is(err, ErrDegraded) {
			t.Fatal(err)
		}
		if err := s.Journal.End(knowledge.Outcome{Seq: seq, Result: knowledge.ResultApplied}); !errors.Is(err, ErrDegraded) {
			t.Fatal(err)
		}
	}
	if n := len(s.Journal.pending); n > maxPending+1 {
		t.Fatalf("%d records wait", n)
	}
	got, err := s.Journal.Records(Filter{Limit: 1})
	if err != nil || len(got) != 1 || got[0].Action.Seq != 3*maxPending {
		t.Fatalf("the newest is kept: %+v, %v", got, err)
	}
	c.now = c.now.Add(retryEvery)
	if err := s.Learned.Commit(Batch{}); err != nil {
		t.Fatal(err)
	}
}
