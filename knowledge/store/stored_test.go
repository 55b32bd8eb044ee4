package store_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/knowledge/history"
	"github.com/effiscale/effiscale/knowledge/profile"
	"github.com/effiscale/effiscale/knowledge/store"
)

// The directory holds what a daemon of commit 932bd6d left: half an hour on a host
// with three containers of services shop_web, shop_db and shop_cron (paused), beside
// a second node; killed during an update. records.json and models.json are what that
// commit's own code reads from it.
const storedDir = "testdata/932bd6d"

// storedAt is when the daemon was killed.
func storedAt() time.Time { return time.Date(2026, 11, 30, 16, 50, 24, 0, time.UTC) }

// stored is what the directory holds, in the terms of that commit.
type stored struct {
	Identity  store.Identity
	Originals []storedOriginal
	Journal   []storedRecord // newest first
	Open      []uint64
	ByKey     []uint64
	Terms     map[knowledge.ServiceKey]knowledge.Term
	Documents map[string]json.RawMessage
	Profiles  map[string]storedProfile
	Images    map[string]storedProfile
	Seals     map[string]string
	States    map[knowledge.ContainerID]string
	Models    map[knowledge.ServiceKey]string // SHA-256
	Series    map[string][]history.Bucket
	Running   map[knowledge.ServiceKey]int
}

type storedOriginal struct {
	ID, Name, Service       string
	CPU, Memory, MemorySwap int64
	CPUField                int
	Period                  time.Duration
	Shares                  int64
	At                      time.Time
}

type storedRecord struct {
	Seq                              uint64
	ID, Name, Service, Resource, Key string
	Verb, Actor, Rule, Note          string
	At                               time.Time
	From, To                         int64
	Args                             [4]float64
	Count                            int
	Result, Message                  string
	Ended                            time.Time
	Took                             time.Duration
	Kernel, Engine                   int64
}

type storedProfile struct {
	SHA256              string
	Epoch, Version      uint64
	P50, P95, Max, Mean float64
	Weight, Censored    float64
	Memory98, MemoryMax knowledge.Bytes
	Growth, Starts      float64
	Observed, StartTime time.Duration
	First, Last         time.Time
	Peaks               []profile.Peak
	MemoryGrown, CPUCut profile.Tally
}

// TestStoredData: a data directory of an earlier version is read with everything in
// it, and its profiles are packed into the same bytes again.
func TestStoredData(t *testing.T) {
	var want stored
	b, err := os.ReadFile(filepath.Join(storedDir, "records.json"))
	if err == nil {
		err = json.Unmarshal(b, &want)
	}
	if err != nil {
		t.Fatal(err)
	}
	s := openStored(t)
	got := stored{Documents: map[string]json.RawMessage{}}
	got.Identity, _ = s.Identity()
	got.Terms = s.Terms.All()
	readJournal(t, s, &got)
	for name := range want.Documents {
		var v json.RawMessage
		if ok, err := s.Documents.Get(name, &v); !ok || err != nil {
			t.Errorf("document %s: %v, %v", name, ok, err)
		}
		got.Documents[name] = v
	}
	readLearned(t, s, &got)
	compact := cmp.Transformer("compact", func(m json.RawMessage) string {
		var b bytes.Buffer
		if err := json.Compact(&b, m); err != nil {
			t.Fatal(err)
		}
		return b.String()
	})
	// Other processors may fuse multiplications and additions.
	if d := cmp.Diff(want, got, compact, cmpopts.EquateApprox(1e-9, 0)); d != "" {
		t.Error(d)
	}
}

func openStored(t *testing.T) *store.Store {
	t.Helper()
	dir := t.TempDir()
	b, err := os.ReadFile(filepath.Join(storedDir, store.FileName))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, store.FileName), b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	s, opened, err := store.Open(store.Options{Dir: dir, Now: storedAt})
	if err != nil || opened != (store.Opened{}) {
		t.Fatalf("%+v, %v", opened, err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func readJournal(t *testing.T, s *store.Store, got *stored) {
	t.Helper()
	for _, o := range s.Originals.All() {
		l := o.Limits
		got.Originals = append(got.Originals, storedOriginal{
			ID: string(o.ID), Name: o.Name, Service: string(o.Service), CPU: int64(l.CPU), Memory: int64(l.Memory),
			MemorySwap: int64(l.MemorySwap), CPUField: int(l.Dialect), Period: l.Period, Shares: l.Shares, At: o.At,
		})
	}
	records, err := s.Journal.Records(store.Filter{Limit: 20_000})
	byKey, err2 := s.Journal.ByKey("request-1")
	if err != nil || err2 != nil {
		t.Fatal(err, err2)
	}
	for _, r := range records {
		a, o := r.Action, r.Outcome
		if a.Kind != knowledge.ActionResize || a.Newer {
			t.Errorf("action %d is of kind %s, newer: %v", a.Seq, a.Kind, a.Newer)
		}
		got.Journal = append(got.Journal, storedRecord{
			Seq: a.Seq, ID: string(a.ID), Name: a.Name, Service: string(a.Service), Key: a.Key,
			Resource: a.Resize.Resource.String(), Verb: a.Resize.Verb.String(), Actor: a.Actor.String(),
			Rule: string(a.Reason.Rule), Note: a.Reason.Note, Args: a.Reason.Args, At: a.At,
			From: a.Resize.From, To: a.Resize.To, Count: a.Resize.Count, Result: o.Result.String(), Message: o.Message,
			Ended: o.At, Took: o.Took, Kernel: o.Kernel, Engine: o.Engine,
		})
	}
	for _, r := range s.Journal.OpenActions() {
		got.Open = append(got.Open, r.Action.Seq)
	}
	for _, r := range byKey {
		got.ByKey = append(got.ByKey, r.Action.Seq)
	}
}

func readLearned(t *testing.T, s *store.Store, got *stored) {
	t.Helper()
	profiles, err1 := s.Learned.Profiles()
	images, err2 := s.Learned.Images()
	seals, err3 := s.Learned.Seals()
	states, err4 := s.Learned.States()
	models, err5 := s.Learned.Models()
	for _, err := range []error{err1, err2, err3, err4, err5} {
		if err != nil {
			t.Fatal(err)
		}
	}
	got.Profiles, got.Images, got.Seals = map[string]storedProfile{}, map[string]storedProfile{}, map[string]string{}
	got.States, got.Models = map[knowledge.ContainerID]string{}, map[knowledge.ServiceKey]string{}
	got.Series, got.Running = map[string][]history.Bucket{}, map[knowledge.ServiceKey]int{}
	for service, b := range profiles {
		got.Profiles[string(service)] = readProfile(t, b)
		for _, tier := range history.Tiers() {
			series, err := s.Learned.Series(service, tier, storedAt().Add(-24*time.Hour), storedAt())
			if err != nil {
				t.Fatal(err)
			}
			for i := range series {
				series[i].At = series[i].At.UTC()
			}
			got.Series[fmt.Sprintf("%s %d", service, tier)] = series
		}
		chunks, err := s.Learned.Running(service, storedAt())
		if err != nil {
			t.Fatal(err)
		}
		got.Running[service] = len(chunks)
		checkChunks(t, chunks)
	}
	for at, b := range images {
		got.Images[string(at.Image)+"/"+string(at.Host)] = readProfile(t, b)
	}
	for at, b := range seals {
		got.Seals[string(at.Image)+"/"+string(at.Host)] = hex.EncodeToString(b)
	}
	for id, b := range states {
		got.States[id] = string(b)
	}
	for service, b := range models {
		got.Models[service] = digest(b)
	}
}

// checkChunks: running chunks are continued in the bytes that they were read from.
func checkChunks(t *testing.T, chunks []history.Chunk) {
	t.Helper()
	series := history.NewSeries()
	for _, c := range chunks {
		if err := series.Restore(c); err != nil {
			t.Fatal(err)
		}
	}
	for at := storedAt(); at.Before(storedAt().Add(15 * time.Minute)); at = at.Add(30 * time.Second) {
		series.Add(knowledge.Point{At: at.UnixNano(), CPU: 1, Demand: 1}, 30*time.Second, 1)
	}
	packed := series.Chunks()
	for _, c := range chunks {
		if !slices.ContainsFunc(packed, func(p history.Chunk) bool {
			return p.Tier == c.Tier && p.Start == c.Start && bytes.HasPrefix(p.Data, c.Data)
		}) {
			t.Errorf("a chunk of tier %d is packed into other bytes", c.Tier)
		}
	}
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func readProfile(t *testing.T, b []byte) storedProfile {
	t.Helper()
	p, err := profile.Unmarshal(b)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(p.Marshal(), b) {
		t.Error("a profile is packed into other bytes than it was read from")
	}
	return storedProfile{
		SHA256: digest(b), Epoch: p.Epoch, Version: p.Version, P50: p.CPU(0.5), P95: p.CPU(0.95), Max: p.CPUMax(),
		Mean: p.CPUMean(), Weight: p.CPUWeight(), Censored: p.CensoredShare(), Memory98: p.MemoryNeed(0.98),
		MemoryMax: p.MemoryMax(), Growth: p.Growth(storedAt()), Starts: p.Starts(), Observed: p.ObservedFor(),
		StartTime: p.StartTime(0.9), First: p.First().UTC(), Last: p.Last().UTC(), Peaks: p.Peaks(),
		MemoryGrown: p.Outcomes(knowledge.ResourceMemory, knowledge.Grow),
		CPUCut:      p.Outcomes(knowledge.ResourceCPU, knowledge.Shrink),
	}
}
