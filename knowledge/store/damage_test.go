package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/knowledge/history"
	bolt "go.etcd.io/bbolt"
)

// sound are the bytes of a file with something in every bucket, made once.
func sound(t testing.TB) []byte {
	soundOnce.Do(func() { soundBytes = fill(t, quiet(t, t.TempDir())) })
	return bytes.Clone(soundBytes)
}

var (
	soundOnce  sync.Once
	soundBytes []byte
)

func fill(t testing.TB, o Options) []byte {
	t.Helper()
	s, _, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(s.SetIdentity(Identity{Node: "n1"}))
	check(s.Documents.Put("pauses", map[string]int{"a": 1}))
	batch := Batch{
		Profiles: map[knowledge.ServiceKey][]byte{}, States: map[knowledge.ContainerID][]byte{},
		Series: map[knowledge.ServiceKey][]history.Chunk{},
	}
	for i := range 200 {
		check(s.Originals.Put(knowledge.Original{ID: knowledge.ContainerID(hex64(i)), Name: "c",
			Limits: knowledge.Limits{CPU: 1e9}}))
		seq, err := s.Journal.Begin(action(i))
		check(err)
		if i%2 == 0 {
			check(s.Journal.End(knowledge.Outcome{Seq: seq, Result: knowledge.ResultApplied, Kernel: int64(i)}))
		}
		batch.Profiles[knowledge.ServiceKey(fmt.Sprint("service-", i))] = profileOf(i)
		batch.States[knowledge.ContainerID(hex64(i))] = profileOf(i)[:100]
	}
	check(s.Learned.Commit(batch))
	check(s.Close())
	b, err := os.ReadFile(filepath.Join(o.Dir, FileName))
	check(err)
	return b
}

// profileOf are bytes that tell for which i they were made.
func profileOf(i int) []byte { return bytes.Repeat([]byte(fmt.Sprintf("%08d", i)), 100) }

// use reads everything and writes a little; what is read must be what fill wrote.
func use(t *testing.T, s *Store) (profiles, records int) {
	t.Helper()
	ps, err := s.Learned.Profiles()
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range ps {
		var i int
		if _, err := fmt.Sscanf(string(k), "service-%d", &i); err != nil || !bytes.Equal(v, profileOf(i)) {
			t.Fatalf("profile of %q: %.40q", k, v)
		}
	}
	if _, err := s.Learned.States(); err != nil {
		t.Fatal(err)
	}
	rs, err := s.Journal.Records(Filter{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rs {
		i := int(r.Action.At.Sub(epoch) / time.Second)
		if want := action(i); r.Action.ID != want.ID || r.Action.Resize.To != want.Resize.To ||
			(r.Outcome.Result == knowledge.ResultApplied && r.Outcome.Kernel != int64(i)) {
			t.Fatalf("record %+v", r)
		}
	}
	for _, o := range s.Originals.All() {
		if o.Limits.CPU != 1e9 {
			t.Fatalf("original %+v", o)
		}
	}
	seq, err := s.Journal.Begin(action(500))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Journal.End(knowledge.Outcome{Seq: seq, Result: knowledge.ResultApplied, Kernel: 500}); err != nil {
		t.Fatal(err)
	}
	if err := s.Learned.Commit(Batch{Profiles: map[knowledge.ServiceKey][]byte{"service-7": profileOf(7)}}); err != nil {
		t.Fatal(err)
	}
	if h := s.Health(); h != "" {
		t.Fatal(h)
	}
	return len(ps), len(rs)
}

// quiet are options that log nothing, for tests with many rounds.
func quiet(t testing.TB, dir string) Options {
	t.Helper()
	return Options{Dir: dir, Now: (&clock{epoch}).Now, LockTimeout: 200 * time.Millisecond}
}

func writeFile(t *testing.T, dir string, b []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, FileName), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func asides(t *testing.T, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, FileName+".corrupt-*"))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// Row 44: garbage, text, zeros, both head pages bad, another program's file, a
// newer version's: set aside with a message, and work begins with an empty file.
func TestRow44UnusableFileIsSetAside(t *testing.T) {
	good := sound(t)
	page := os.Getpagesize()
	bothMetas := bytes.Clone(good)
	for i := range page * 2 {
		bothMetas[i] ^= 0x5A
	}
	noise := make([]byte, 100_000)
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := range noise {
		noise[i] = byte(rnd.Uint32())
	}
	for name, b := range map[string][]byte{
		"noise": noise, "text": []byte("what is this?\n"), "zeros": make([]byte, 64<<10), "both metas": bothMetas,
		"one byte": {0}, "foreign": boltFile(t, "buckets-of-others", "x"), "newer": boltFile(t, bucketMeta, "99"),
		"no version": boltFile(t, bucketMeta, ""),
	} {
		t.Run(name, func(t *testing.T) {
			o := options(t, &clock{epoch})
			writeFile(t, o.Dir, b)
			s, opened := mustOpen(t, o)
			if !opened.Fresh || opened.Why == "" {
				t.Fatalf("opened %+v", opened)
			}
			kept, err := os.ReadFile(opened.SetAside)
			if err != nil || !bytes.Equal(kept, b) {
				t.Fatalf("set aside as %q: %v", opened.SetAside, err)
			}
			first, err := s.Journal.Begin(action(1))
			if err != nil || first < 1e12 {
				t.Fatalf("numbers go on from %d, %v: they could repeat those of the lost journal", first, err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if _, opened := mustOpen(t, o); opened.SetAside != "" || opened.Why != "" {
				t.Fatalf("again: %+v", opened)
			}
		})
	}
}

// boltFile is a sound bbolt file with one bucket and a schema of that text.
func boltFile(t *testing.T, bucket, version string) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x")
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		b, err := tx.CreateBucket([]byte(bucket))
		if err != nil || version == "" {
			return err
		}
		return b.Put([]byte(keySchema), seal(cell{bucketMeta, keySchema}, []byte(version)))
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Row 44: files that were set aside are themselves bounded.
func TestRow44SetAsideFilesAreBounded(t *testing.T) {
	c := &clock{epoch}
	o := options(t, c)
	for range 6 {
		c.now = c.now.Add(time.Hour)
		writeFile(t, o.Dir, []byte("no"))
		s, _ := mustOpen(t, o)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if got := asides(t, o.Dir); len(got) != keepCorrupt || !strings.Contains(got[2], "T180000") {
		t.Fatalf("kept %q", got)
	}
}

// Row 45: with one head page bad the other one is used, nothing that was in it is
// lost, and the next write repairs the bad one.
func TestRow45OneHeadPageBad(t *testing.T) {
	good := sound(t)
	for _, n := range []int{0, 1} {
		o := options(t, &clock{epoch})
		b := bytes.Clone(good)
		b[n*os.Getpagesize()+pageHeader+20] ^= 1
		writeFile(t, o.Dir, b)
		s, opened := mustOpen(t, o)
		if opened.SetAside != "" || opened.Why == "" || opened.Fresh {
			t.Fatalf("meta %d: %+v", n, opened)
		}
		if profiles, records := use(t, s); profiles < 0 || records < 199 {
			t.Fatalf("meta %d: %d profiles, %d records", n, profiles, records)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if _, opened := mustOpen(t, o); opened.Why != "" {
			t.Fatalf("meta %d, again: %+v", n, opened)
		}
	}
}

// Row 46: files cut short anywhere.
func TestRow46Truncated(t *testing.T) {
	good := sound(t)
	rnd := rand.New(rand.NewPCG(3, 4))
	lost := 0
	for i := range 40 {
		o := quiet(t, t.TempDir())
		n := rnd.IntN(len(good))
		if i < 12 {
			n = i * os.Getpagesize()
		}
		writeFile(t, o.Dir, good[:n])
		s, opened := mustOpen(t, o)
		use(t, s)
		if opened.SetAside != "" {
			lost++
		}
	}
	if lost < 30 {
		t.Fatalf("%d of 40 were noticed", lost)
	}
}

// Row 46: random pages overwritten. Never a crash, never wrong data.
func TestRow46RandomPageDamage(t *testing.T) {
	good := sound(t)
	pages := len(good) / os.Getpagesize()
	noticed := 0
	for seed := range uint64(80) {
		rnd := rand.New(rand.NewPCG(seed, 46))
		o := quiet(t, t.TempDir())
		b := bytes.Clone(good)
		at := rnd.IntN(pages) * os.Getpagesize()
		from, n := rnd.IntN(os.Getpagesize()/2), 1+rnd.IntN(os.Getpagesize()/2)
		if seed%2 == 0 {
			from, n = 0, 64 // its head, where bbolt's own pointers are
		}
		for i := range n {
			b[at+from+i] = byte(rnd.Uint32())
		}
		writeFile(t, o.Dir, b)
		s, opened := mustOpen(t, o)
		use(t, s)
		if opened.SetAside != "" || opened.Why != "" || s.file.badCount > 0 {
			noticed++
		}
	}
	t.Logf("damage noticed in %d of 80 files; the others' lay in free pages", noticed)
	if noticed < 20 {
		t.Fatalf("noticed %d of 80", noticed)
	}
}

// Row 46: structure that lies: what inspect must not let bbolt see.
func TestRow46Structure(t *testing.T) {
	page, ne := os.Getpagesize(), binary.NativeEndian
	for name, harm := range map[string]func(b []byte, root []byte){
		"two buckets on one page": func(b, root []byte) {
			copy(bucketValue(root, bucketStates)[:8], bucketValue(root, bucketProfiles)[:8])
		},
		"a bucket that is its own parent": func(b, root []byte) {
			ne.PutUint64(bucketValue(root, bucketStates), ne.Uint64(root))
		},
		"a bucket outside":         func(b, root []byte) { ne.PutUint64(bucketValue(root, bucketStates), 1<<40) },
		"a bucket on a head page":  func(b, root []byte) { ne.PutUint64(bucketValue(root, bucketStates), 1) },
		"a count too high":         func(b, root []byte) { ne.PutUint16(root[10:], 0xFFFF) },
		"an endless page":          func(b, root []byte) { ne.PutUint32(root[12:], 1<<31) },
		"a wrong number":           func(b, root []byte) { ne.PutUint64(root, ne.Uint64(root)+1) },
		"a wrong kind":             func(b, root []byte) { ne.PutUint16(root[8:], flagMeta) },
		"a value that is too long": func(b, root []byte) { ne.PutUint32(root[pageHeader+12:], 1<<31) },
		"a key that is too long":   func(b, root []byte) { ne.PutUint32(root[pageHeader+8:], 1<<31) },
		"keys in another order":    func(b, root []byte) { root[bytes.Index(root, []byte(bucketDocs))] = 'z' },
	} {
		b := sound(t)
		m, _, err := readMetas(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		harm(b, b[int(m.root)*page:int(m.root+1)*page])
		if _, err := inspectPages(bytes.NewReader(b), int64(len(b))); !errors.Is(err, errDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// bucketValue is where the root page's number of a bucket stands.
func bucketValue(root []byte, name string) []byte {
	return root[bytes.Index(root, []byte(name))+len(name):]
}

// Row 47: single bits flipped. What is read is true; what is not is dropped.
func TestRow47BitFlips(t *testing.T) {
	good := sound(t)
	dropped := 0
	for seed := range uint64(80) {
		rnd := rand.New(rand.NewPCG(seed, 47))
		o := quiet(t, t.TempDir())
		b := bytes.Clone(good)
		for range 3 {
			b[rnd.IntN(len(b))] ^= 1 << rnd.IntN(8)
		}
		writeFile(t, o.Dir, b)
		s, _ := mustOpen(t, o)
		use(t, s)
		dropped += s.file.badCount
	}
	if dropped == 0 {
		t.Fatal("no flipped bit was ever noticed")
	}
}

// Row 47: a record that is dropped is counted once and deleted.
func TestRow47BadRecordIsDeleted(t *testing.T) {
	o := options(t, &clock{epoch})
	b := sound(t)
	at := bytes.Index(b, profileOf(42))
	if at < 0 {
		t.Fatal("profile 42 is not in the file")
	}
	for ; at >= 0; at = bytes.Index(b, profileOf(42)) {
		b[at+50] ^= 1
	}
	writeFile(t, o.Dir, b)
	s, opened := mustOpen(t, o)
	if opened.SetAside != "" {
		t.Fatalf("%+v", opened)
	}
	for range 3 {
		if ps, err := s.Learned.Profiles(); err != nil || len(ps) != 199 || ps["service-42"] != nil {
			t.Fatalf("%d profiles, %v", len(ps), err)
		}
	}
	if got := s.file.badCount; got != 1 {
		t.Fatalf("%d bad records", got)
	}
	if err := s.Learned.Commit(Batch{}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, _ = mustOpen(t, o)
	if ps, err := s.Learned.Profiles(); err != nil || len(ps) != 199 || s.file.badCount != 0 {
		t.Fatalf("again: %d profiles, %d bad, %v", len(ps), s.file.badCount, err)
	}
}

// Row 48: a file of 0 bytes is a first boot, and says so.
func TestRow48EmptyFile(t *testing.T) {
	o := options(t, &clock{epoch})
	writeFile(t, o.Dir, nil)
	s, opened := mustOpen(t, o)
	if !opened.Fresh || opened.SetAside != "" {
		t.Fatalf("%+v", opened)
	}
	if _, ok := s.Identity(); ok {
		t.Fatal("an identity from nowhere")
	}
	use(t, s)
}

// Row 46: the file is cut or overwritten while it is open: a fault on the mapped
// file is caught, the file is set aside, and what memory holds goes into a new one.
func TestRow46DamagedWhileOpen(t *testing.T) {
	for name, harm := range map[string]func(*testing.T, string){
		"truncated": func(t *testing.T, path string) {
			if err := os.Truncate(path, int64(2*os.Getpagesize())); err != nil {
				t.Fatal(err)
			}
		},
		"overwritten": func(t *testing.T, path string) {
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			junk := bytes.Repeat([]byte{0xFF}, 4096)
			for at := int64(2 * os.Getpagesize()); at < 200*4096; at += 4096 {
				if _, err := f.WriteAt(junk, at); err != nil {
					t.Fatal(err)
				}
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
		},
	} {
		for _, first := range []string{"read", "write"} {
			t.Run(name+"/"+first, func(t *testing.T) {
				o := options(t, &clock{epoch})
				writeFile(t, o.Dir, sound(t))
				s, _ := mustOpen(t, o)
				harm(t, filepath.Join(o.Dir, FileName))
				if first == "read" {
					if _, err := s.Learned.Profiles(); err != nil {
						t.Fatal(err)
					}
				}
				if _, err := s.Journal.Begin(action(1)); err != nil {
					t.Fatal(err)
				}
				if got := len(asides(t, o.Dir)); got != 1 {
					t.Fatalf("%d files set aside", got)
				}
				// The 200 originals, the identity, the document and the 100 open
				// actions live in memory: the new file has them.
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				s, _ = mustOpen(t, o)
				if id, _ := s.Identity(); id.Node != "n1" || len(s.Originals.All()) != 200 || len(s.Journal.OpenActions()) != 101 {
					t.Fatalf("node %q, %d originals, %d open", id.Node, len(s.Originals.All()), len(s.Journal.OpenActions()))
				}
				var doc map[string]int
				if ok, err := s.Documents.Get("pauses", &doc); !ok || err != nil || doc["a"] != 1 {
					t.Fatalf("document %v %v %v", ok, doc, err)
				}
			})
		}
	}
}

// FuzzInspect: whatever the file holds, inspect neither panics nor runs for ever, and
// what it lets through bbolt can open and walk.
func FuzzInspect(f *testing.F) {
	good := sound(f)
	f.Add(uint32(0), uint64(0))
	f.Add(uint32(2*4096), uint64(0xFFFF))
	f.Add(uint32(16), uint64(1))
	f.Fuzz(func(t *testing.T, at uint32, v uint64) {
		b := bytes.Clone(good)
		for i := range 8 {
			b[(int(at)+i)%len(b)] = byte(v >> (8 * i))
		}
		if _, err := inspectPages(bytes.NewReader(b), int64(len(b))); err != nil {
			if !errors.Is(err, errDamaged) {
				t.Fatal(err)
			}
			return
		}
		path := filepath.Join(t.TempDir(), "x")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		db, err := bolt.Open(path, 0o600, &bolt.Options{NoFreelistSync: true, FreelistType: bolt.FreelistMapType,
			Timeout: time.Second})
		if err != nil {
			t.Fatalf("inspect let through what bbolt refuses: %v", err)
		}
		err = db.View(func(tx *bolt.Tx) error {
			return tx.ForEach(func(_ []byte, b *bolt.Bucket) error { return b.ForEach(func(_, _ []byte) error { return nil }) })
		})
		if err := errors.Join(err, db.Close()); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzInspectRaw feeds inspect what is no bbolt file at all.
func FuzzInspectRaw(f *testing.F) {
	f.Add([]byte("text"))
	f.Add(make([]byte, 4096*4))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := inspectPages(bytes.NewReader(b), int64(len(b))); err != nil && !errors.Is(err, errDamaged) {
			t.Fatal(err)
		}
	})
}
