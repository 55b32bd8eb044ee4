package store

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/rs/zerolog"
	bolt "go.etcd.io/bbolt"
)

// originalOf is the original of container i, which differs from all others'.
func originalOf(i int) knowledge.Original {
	return knowledge.Original{ID: knowledge.ContainerID(hex64(i)), Name: fmt.Sprint("c", i), At: epoch,
		Limits: knowledge.Limits{CPU: knowledge.NanoCPU(i+1) * 1e8, Memory: knowledge.Bytes(i+1) << 20}}
}

// withOriginals leaves a directory of a node that recorded originals.
func withOriginals(t *testing.T, o Options, count int) {
	t.Helper()
	s, _ := mustOpen(t, o)
	if err := s.SetIdentity(Identity{Node: "n1"}); err != nil {
		t.Fatal(err)
	}
	for i := range count {
		if err := s.Originals.Put(originalOf(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func checkOriginals(t *testing.T, s *Store, count int) {
	t.Helper()
	all := s.Originals.All()
	if len(all) != count {
		t.Fatalf("%d originals, want %d", len(all), count)
	}
	for _, o := range all {
		var i int
		if _, err := fmt.Sscanf(o.Name, "c%d", &i); err != nil || o != originalOf(i) {
			t.Fatalf("%+v, want %+v", o, originalOf(i))
		}
	}
}

func truncate(t *testing.T, path string, size int64) {
	t.Helper()
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
}

func remove1(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

func scribble(t *testing.T, paths ...string) {
	t.Helper()
	for _, path := range paths {
		b, err := os.ReadFile(path)
		for i := range b {
			b[i] ^= byte(i*7 + 1)
		}
		if err == nil {
			err = os.WriteFile(path, b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestRow105OriginalsSurviveTheKnowledgeFile: whatever happens to one of the two files, the
// original limits come back, and a loss of the knowledge file has its time and a warning.
func TestRow105OriginalsSurviveTheKnowledgeFile(t *testing.T) {
	db := func(o Options) string { return filepath.Join(o.Dir, FileName) }
	second := func(o Options) string { return filepath.Join(o.Dir, CopyName) }
	for name, c := range map[string]struct {
		harm    func(t *testing.T, o Options)
		lost    bool // the knowledge file
		kept    int
		warning string
	}{
		"nothing":          {harm: func(*testing.T, Options) {}, kept: 20},
		"damaged":          {func(t *testing.T, o Options) { scribble(t, db(o)) }, true, 20, "damaged"},
		"cut":              {func(t *testing.T, o Options) { truncate(t, db(o), 9000) }, true, 20, "damaged"},
		"emptied":          {func(t *testing.T, o Options) { truncate(t, db(o), 0) }, true, 20, "empty"},
		"deleted":          {func(t *testing.T, o Options) { remove1(t, db(o)) }, true, 20, "copy"},
		"second damaged":   {func(t *testing.T, o Options) { scribble(t, second(o)) }, false, 20, "copy"},
		"second cut":       {func(t *testing.T, o Options) { truncate(t, second(o), 1000) }, false, 20, ""},
		"second emptied":   {func(t *testing.T, o Options) { truncate(t, second(o), 0) }, false, 20, ""},
		"second deleted":   {func(t *testing.T, o Options) { remove1(t, second(o)) }, false, 20, ""},
		"both damaged":     {func(t *testing.T, o Options) { scribble(t, db(o), second(o)) }, true, 0, "damaged"},
		"deleted, damaged": {func(t *testing.T, o Options) { remove1(t, db(o)); scribble(t, second(o)) }, true, 0, "copy"},
		"one line damaged, emptied": {func(t *testing.T, o Options) {
			b, err := os.ReadFile(second(o))
			if err == nil {
				b = bytes.Replace(b, []byte(`"name":"c7"`), []byte(`"name":"c8"`), 1)
				err = os.WriteFile(second(o), b, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			truncate(t, db(o), 0)
		}, true, 19, "damaged"},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			cl := &clock{now: epoch.Add(time.Hour)}
			o := options(t, cl)
			o.Log = zerolog.New(&log)
			withOriginals(t, o, 20)
			log.Reset()
			c.harm(t, o)
			for range 2 { // the loss stays known
				s, opened := mustOpen(t, o)
				checkOriginals(t, s, c.kept)
				if got := s.Originals.Lost(); got.IsZero() == c.lost {
					t.Errorf("lost at %v", got)
				} else if c.lost && !got.Equal(epoch.Add(time.Hour)) {
					t.Errorf("lost at %v", got)
				}
				if opened.Fresh && c.lost && opened.Why == "" {
					t.Error("the start does not tell what happened to the file")
				}
				if err := s.SetIdentity(Identity{Node: "n2"}); err != nil {
					t.Fatal(err)
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				cl.now = cl.now.Add(time.Hour)
			}
			if !strings.Contains(log.String(), c.warning) {
				t.Errorf("the log does not name %q:\n%s", c.warning, &log)
			}
			remove1(t, db(o)) // and again: the second file is whole
			s, _ := mustOpen(t, o)
			checkOriginals(t, s, c.kept)
			_ = s.Close()
		})
	}
}

// TestRow105FirstStart: without anything of before nothing was lost.
func TestRow105FirstStart(t *testing.T) {
	cl := &clock{now: epoch}
	o := options(t, cl)
	for _, size := range []int64{-1, 0} {
		if size == 0 {
			writeFile(t, o.Dir, nil)
		}
		s, opened := mustOpen(t, o)
		if !opened.Fresh || !s.Originals.Lost().IsZero() {
			t.Errorf("%+v, lost at %v", opened, s.Originals.Lost())
		}
		if size == 0 && opened.Why == "" {
			t.Error("nothing tells that the file was empty")
		}
		_ = s.Close()
		remove1(t, filepath.Join(o.Dir, FileName))
	}
}

// TestRow105ChangesReachTheCopy: what is amended or dropped is so in the second file, also
// after it was removed, replaced or emptied while the store is open, and it stays small.
func TestRow105ChangesReachTheCopy(t *testing.T) {
	cl := &clock{now: epoch}
	o := options(t, cl)
	withOriginals(t, o, 3)
	path := filepath.Join(o.Dir, CopyName)
	for name, harm := range map[string]func(){
		"whole": func() {}, "removed": func() { remove1(t, path) }, "emptied": func() { truncate(t, path, 0) },
		"longer": func() { truncate(t, path, 100_000) },
	} {
		s, _ := mustOpen(t, o)
		harm()
		changed := originalOf(1)
		changed.Limits.Memory = 77 << 20
		if err := s.Originals.Amend(changed); err != nil {
			t.Fatal(err)
		}
		for i := 100; i < 400; i++ {
			if err := s.Originals.Put(originalOf(i)); err != nil {
				t.Fatal(err)
			}
			if err := s.Originals.Drop(originalOf(i).ID); err != nil {
				t.Fatal(err)
			}
		}
		if h := s.Health(); h != "" {
			t.Error(name, h)
		}
		if fi, err := os.Stat(path); err != nil || fi.Size() > 200*400 {
			t.Errorf("%s: %v %v", name, fi, err)
		}
		_ = s.Close()
		remove1(t, filepath.Join(o.Dir, FileName))
		s, _ = mustOpen(t, o)
		all := s.Originals.All()
		if len(all) != 3 || all[1].Limits.Memory != 77<<20 {
			t.Errorf("%s: %+v", name, all)
		}
		if err := s.SetIdentity(Identity{Node: "n1"}); err != nil {
			t.Fatal(err)
		}
		_ = s.Close()
	}
}

// TestRow105EarlierVersion: an earlier version changes the knowledge file alone. What it
// recorded counts, unless it lost the file and took limits of this daemon for original ones.
func TestRow105EarlierVersion(t *testing.T) {
	cl := &clock{now: epoch}
	o := options(t, cl)
	withOriginals(t, o, 3)
	path := filepath.Join(o.Dir, CopyName)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	earlier := func(node knowledge.NodeID, memory knowledge.Bytes) {
		s, _ := mustOpen(t, o)
		if err := s.SetIdentity(Identity{Node: node}); err != nil {
			t.Fatal(err)
		}
		changed := originalOf(1)
		changed.Limits.Memory = memory
		if err := s.Originals.Amend(changed); err != nil {
			t.Fatal(err)
		}
		_ = s.Close()
		if err := os.WriteFile(path, whole, 0o600); err != nil { // it does not know of this one
			t.Fatal(err)
		}
	}
	earlier("n1", 99<<20)
	s, _ := mustOpen(t, o)
	if all := s.Originals.All(); len(all) != 3 || all[1].Limits.Memory != 99<<20 || !s.Originals.Lost().IsZero() {
		t.Errorf("%+v, lost %v", all, s.Originals.Lost())
	}
	_ = s.Close()

	remove1(t, filepath.Join(o.Dir, FileName))
	remove1(t, path)
	earlier("n9", 5<<20)
	s, _ = mustOpen(t, o)
	checkOriginals(t, s, 3)
	if s.Originals.Lost().IsZero() {
		t.Error("the loss is not known")
	}
	_ = s.Close()
}

// TestRow105RecordDamaged: one damaged original comes from the second file.
func TestRow105RecordDamaged(t *testing.T) {
	cl := &clock{now: epoch}
	o := options(t, cl)
	withOriginals(t, o, 3)
	db, err := bolt.Open(filepath.Join(o.Dir, FileName), 0o600, nil)
	if err == nil {
		err = db.Update(func(tx *bolt.Tx) error {
			return tx.Bucket([]byte(bucketOriginals)).Put([]byte(hex64(1)), []byte("xxxxxxxx"))
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	_ = db.Close()
	s, _ := mustOpen(t, o)
	checkOriginals(t, s, 3)
	if !s.Originals.Lost().IsZero() {
		t.Error("nothing was lost")
	}
	_ = s.Close()
}

// TestRow105BothLost: the second file is lost as well. That originals are unknown is noted, also
// where one record alone is damaged.
func TestRow105BothLost(t *testing.T) {
	for name, harm := range map[string]func(path string) error{
		"the file": func(path string) error { return os.WriteFile(path, bytes.Repeat([]byte("x"), 1<<16), 0o600) },
		"one record": func(path string) error {
			db, err := bolt.Open(path, 0o600, nil)
			if err != nil {
				return err
			}
			defer db.Close()
			return db.Update(func(tx *bolt.Tx) error {
				return tx.Bucket([]byte(bucketOriginals)).Put([]byte(hex64(1)), []byte("xxxxxxxx"))
			})
		},
	} {
		cl := &clock{now: epoch}
		o := options(t, cl)
		withOriginals(t, o, 3)
		if err := harm(filepath.Join(o.Dir, FileName)); err != nil {
			t.Fatal(err)
		}
		remove1(t, filepath.Join(o.Dir, CopyName))
		s, _ := mustOpen(t, o)
		if !s.Originals.Lost().Equal(epoch) {
			t.Errorf("%s: lost at %s", name, s.Originals.Lost())
		}
		_ = s.Close()
	}
}

// TestRow105CopyDiskFull: the second file does not fit. The knowledge file has the original;
// the fault shows, and the file is written when there is room.
func TestRow105CopyDiskFull(t *testing.T) {
	cl := &clock{now: epoch}
	o := options(t, cl)
	withOriginals(t, o, 3)
	s, _ := mustOpen(t, o)
	path := filepath.Join(o.Dir, CopyName)
	remove1(t, path)
	// A directory in its place refuses as a full disk does, for this file alone.
	if err := os.MkdirAll(filepath.Join(path, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := s.Originals.Put(originalOf(3)); err != nil {
		t.Errorf("the original is on disk, and yet: %v", err)
	}
	if s.Health() == "" {
		t.Error("the fault does not show")
	}
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
	cl.now = cl.now.Add(time.Minute)
	if err := s.Documents.Put("x", 1); err != nil {
		t.Fatal(err)
	}
	if h := s.Health(); h != "" {
		t.Error(h)
	}
	_ = s.Close()
	remove1(t, filepath.Join(o.Dir, FileName))
	s, _ = mustOpen(t, o)
	checkOriginals(t, s, 4)
	_ = s.Close()
}

// TestRow105RemovedWhileOpen: the knowledge file is removed under the running store.
func TestRow105RemovedWhileOpen(t *testing.T) {
	cl := &clock{now: epoch}
	o := options(t, cl)
	withOriginals(t, o, 3)
	s, _ := mustOpen(t, o)
	remove1(t, filepath.Join(o.Dir, FileName))
	if err := s.Documents.Put("x", 1); err != nil {
		t.Fatal(err)
	}
	_ = s.Close()
	s, opened := mustOpen(t, o)
	if opened.Fresh || !s.Originals.Lost().IsZero() {
		t.Errorf("%+v", opened)
	}
	checkOriginals(t, s, 3)
	_ = s.Close()
}
