package store

import (
	"bytes"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/knowledge/history"
	"github.com/effiscale/effiscale/knowledge/profile"
)

// yearOfChurn commits what a host with 100 services would on which a container is
// replaced every half hour, with one commit for every four hours of a year.
func yearOfChurn(t *testing.T, s *Store, c *clock) {
	t.Helper()
	const services = 100
	body := fullProfile()
	chunk := map[history.Tier][]byte{history.Fine: bytes.Repeat([]byte{1}, 600),
		history.Coarse: bytes.Repeat([]byte{1}, 1440)}
	for i := range 6 * 365 {
		c.now = c.now.Add(4 * time.Hour)
		b := Batch{
			Profiles: map[knowledge.ServiceKey][]byte{}, States: map[knowledge.ContainerID][]byte{},
			Series: map[knowledge.ServiceKey][]history.Chunk{}, Alive: []knowledge.ContainerID{},
		}
		for j := range 8 {
			// Services drift: over a year 500 have been there.
			key := knowledge.ServiceKey(fmt.Sprint("service-", (i*8+j)%services+i/547*services))
			id := knowledge.ContainerID(hex64(i*8 + j))
			b.Profiles[key], b.States[id] = body, body[:200]
			b.Alive = append(b.Alive, id)
			for _, tier := range history.Tiers() {
				start := c.now.Truncate(tier.Span()).Unix()
				b.Series[key] = append(b.Series[key], history.Chunk{Tier: tier, Start: start, Data: chunk[tier]})
			}
			r := knowledge.Record{Action: action(i)}
			r.Action.At = c.now
			b.Folds = append(b.Folds, r, r)
		}
		if err := s.Learned.Commit(b); err != nil {
			t.Fatal(err)
		}
		if i%24 == 0 {
			if err := s.Prune(c.now); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func fullProfile() []byte {
	p := profile.New()
	for i := range 5000 {
		at := epoch.Add(time.Duration(i) * time.Minute)
		p.AddCPU(at, float64(i%170)/50, time.Second, false)
		p.AddMemoryPeak(at, knowledge.Bytes(100+i%150)*knowledge.MiB)
		p.AddStart(at, time.Duration(i%20)*time.Second)
	}
	return p.Marshal()
}

// Row 51: after a year of churn the file has at most 16 MiB.
func TestRow51SizeAfterAYear(t *testing.T) {
	if testing.Short() {
		t.Skip("2 190 commits take seconds")
	}
	c := &clock{epoch}
	o := quiet(t, t.TempDir())
	o.Now = c.Now
	s, _ := mustOpen(t, o)
	s.file.db.NoSync = true // the size is what is measured
	yearOfChurn(t, s, c)
	n, err := s.Journal.Records(Filter{Limit: maxJournal + 1})
	if err != nil || len(n) != maxJournal {
		t.Fatalf("%d records, %v", len(n), err)
	}
	t.Logf("after a year: %.1f MiB, %d records, %d profiles, %d chunks, %d states", float64(s.Size())/(1<<20), len(n),
		keysIn(t, s, bucketProfiles), keysIn(t, s, bucketSeries), keysIn(t, s, bucketStates))
	if s.Size() > 16<<20 {
		t.Fatalf("%d bytes", s.Size())
	}
}

func benchStore(b *testing.B) *Store {
	b.Helper()
	s, _, err := Open(quiet(b, b.TempDir()))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	})
	return s
}

// cpuTime is what this process has used: the clock on the wall measures its
// neighbours too.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkCommit1000 overwrites 1000 packed records of 1 KiB in one transaction:
// at one commit each 30 s, the cost of a thousand containers.
func BenchmarkCommit1000(b *testing.B) {
	s := benchStore(b)
	batch := Batch{States: map[knowledge.ContainerID][]byte{}}
	for i := range 1000 {
		batch.States[knowledge.ContainerID(hex64(i*7919))] = bytes.Repeat([]byte{byte(i)}, 1024)
	}
	b.ReportAllocs()
	before := cpuTime(b)
	for b.Loop() {
		if err := s.Learned.Commit(batch); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	b.ReportMetric(float64(s.Size()), "file-bytes")
	b.ReportMetric((cpuTime(b)-before).Seconds()*1e3/float64(b.N), "cpu-ms/op")
}

// BenchmarkBegin is one durable journal entry.
func BenchmarkBegin(b *testing.B) {
	s := benchStore(b)
	for i := 0; b.Loop(); i++ {
		seq, err := s.Journal.Begin(action(i))
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := s.Journal.End(knowledge.Outcome{Seq: seq, Result: knowledge.ResultApplied}); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

// BenchmarkRecords searches a full journal for a container that it does not name.
func BenchmarkRecords(b *testing.B) {
	s := benchStore(b)
	for range 20 {
		var folds []knowledge.Record
		for i := range 1000 {
			folds = append(folds, knowledge.Record{Action: action(i)})
		}
		if err := s.Learned.Commit(Batch{Folds: folds}); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		if _, err := s.Journal.Records(Filter{Container: "nobody"}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkOpen opens a file with a full journal, its check included.
func BenchmarkOpen(b *testing.B) {
	s := benchStore(b)
	for range 20 {
		var folds []knowledge.Record
		for i := range 1000 {
			folds = append(folds, knowledge.Record{Action: action(i)})
		}
		if err := s.Learned.Commit(Batch{Folds: folds}); err != nil {
			b.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		s, _, err := Open(s.opt)
		if err != nil {
			b.Fatal(err)
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
