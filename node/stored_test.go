package node

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/rs/zerolog"

	"github.com/effiscale/effiscale/docker/dockertest"
	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/knowledge/history"
	"github.com/effiscale/effiscale/knowledge/store"
	"github.com/effiscale/effiscale/mape/analyse"
	"github.com/effiscale/effiscale/mape/plan"
	"github.com/effiscale/effiscale/mape/service"
	"github.com/effiscale/effiscale/node/api"
	"github.com/effiscale/effiscale/node/config"
)

// storedDir is the data directory of a daemon of commit 932bd6d. The tests of
// knowledge/store say how it was made, and check what is in its records.
const storedDir = "../knowledge/store/testdata/932bd6d"

// storedNode is the identity of that daemon, storedWeb and so on its containers.
const (
	storedNode = "402ddfd3d249dea57132722b5ad664dc"
	storedCron = "19954ae83eaf0b0afd5f3fa365b43e6f3611ffa0461148b9f9405d597106fed6"
	storedWeb  = "6b355703f7776fc0ee53f186fea0988c3e0336a479ebc4de23694f3ce8a8588c"
	storedDB   = "6e2a277ce1ebdb1009c32a130eebfb176fb0bd25231a408a96b44f0df086edf2"
)

func copyStored(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for _, name := range []string{store.FileName, "node.key"} {
		b, err := os.ReadFile(filepath.Join(storedDir, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestStoredIdentity: the node of an earlier version keeps its identity.
func TestStoredIdentity(t *testing.T) {
	cfg := config.Defaults()
	cfg.Node.DataDir, cfg.Node.Name = copyStored(t), "host-a"
	n := blank(Options{})
	n.log = zerolog.Nop()
	if err := n.openStore(cfg); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = n.store.Close() }()
	if n.identity.Node != storedNode || n.key.ID() != storedNode || n.before.store != "" {
		t.Errorf("%+v, key %s, %q", n.identity, n.key.ID(), n.before.store)
	}
	if !n.before.unclean {
		t.Error("the earlier process was killed, and this one does not know it")
	}
}

// TestStoredModels: forecasts, recommendations and thresholds of an earlier version
// go on as they were, and are packed into the same bytes again.
func TestStoredModels(t *testing.T) {
	type outlook struct {
		Horizon, ScoredFor, Period         time.Duration
		Upper                              knowledge.NanoCPU
		Level, Coverage, Gain, Value, Peak float64
		Trusted                            bool
		Member                             string
	}
	type models struct {
		Outlooks []outlook
		Advice   []plan.Advice
		Lesson   analyse.Lesson
		Knee     float64
	}
	want, got := map[knowledge.ServiceKey]models{}, map[knowledge.ServiceKey]models{}
	b, err := os.ReadFile(filepath.Join(storedDir, "models.json"))
	if err == nil {
		err = json.Unmarshal(b, &want)
	}
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 30, 16, 50, 24, 0, time.UTC)
	s, _, err := store.Open(store.Options{Dir: copyStored(t), Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	packed, err := s.Learned.Models()
	if err != nil || len(packed) != len(want) {
		t.Fatal(len(packed), err)
	}
	services := service.NewRegistry()
	unusable := services.Restore(now, 10*time.Second, service.Stored{
		Models: packed, Recent: map[knowledge.ServiceKey][]history.Bucket{},
	})
	if len(unusable) > 0 {
		t.Fatal(unusable)
	}
	for key := range want {
		sv := services.Lookup(key)
		if !bytes.Equal(sv.Models.Marshal(), packed[key]) {
			t.Errorf("the models of %s are packed into other bytes than they were read from", key)
		}
		m := models{Advice: sv.Models.Advice[:], Lesson: sv.Models.Lesson, Knee: sv.Models.Adaptive.Thresholds(0, 1).Knee}
		for _, o := range sv.Outlooks(knowledge.ClassServing) {
			m.Outlooks = append(m.Outlooks, outlook{o.Horizon, o.ScoredFor, o.Period, o.Upper, o.Level, o.Coverage,
				o.Gain, o.Value, o.Peak, o.Trusted, o.Member})
		}
		got[key] = m
	}
	// Other processors may fuse multiplications and additions.
	if d := cmp.Diff(want, got, cmpopts.EquateApprox(1e-9, 0)); d != "" {
		t.Error(d)
	}
}

// TestStoredRestore: the daemon starts over the directory of an earlier version with
// that one's containers, closes the action that was cut short, leaves the paused
// service unchanged, and restores the limits that were recorded then.
func TestStoredRestore(t *testing.T) {
	t.Parallel()
	s, opened, err := store.Open(store.Options{Dir: copyStored(t), Log: zerolog.Nop()})
	if err != nil || opened.Why != "" {
		t.Fatal(opened, err)
	}
	r := newRigWith(t, dockertest.Options{Cgroup: 1, Files: true}, s,
		func(cfg *config.Config) { cfg.Node.Mode = knowledge.ModeAuto })
	run := func(id knowledge.ContainerID, name, service string, cpu knowledge.NanoCPU, memory, swap knowledge.Bytes) {
		r.e.Run(dockertest.Spec{ID: id, Name: name,
			Labels: map[string]string{"effiscale.enable": "true", // that version joined them as shop_web (row 126)
				"com.docker.compose.project": "shop", "com.docker.compose.service": service},
			Limits: knowledge.Limits{CPU: cpu, Dialect: 1, Memory: memory, MemorySwap: swap}})
		r.e.SetMemory(id, 10*knowledge.MiB)
	}
	run(storedCron, "shop-cron-1", "cron", 1e9, 128<<20, 256<<20)
	run(storedWeb, "shop-web-1", "web", 265467881, 84934656, 353370112)
	run(storedDB, "shop-db-1", "db", 50000000, 174063616, 576716800)
	for _, id := range []knowledge.ContainerID{storedCron, storedWeb, storedDB} {
		r.managed(id)
	}
	if u, ok := r.unit(storedCron); !ok || !u.Pause.On {
		t.Errorf("the pause is lost: %+v", u.Pause)
	}
	r.soon(10*time.Second, "the action that was cut short is closed", func() bool {
		return len(r.n.store.Journal.OpenActions()) == 0
	})
	records, err := r.n.store.Journal.Records(store.Filter{Container: storedDB, Limit: 100})
	if err != nil || len(records) < 19 {
		t.Errorf("%d records of shop-db-1, %v", len(records), err)
	}
	for _, name := range []string{"shop/web", "web", "shop_web"} {
		h, err := r.n.ops.Records(t.Context(), api.RecordsRequest{Name: name, Limit: 100})
		if err != nil || h.Name != "shop/web" || len(h.Changes) < 10 {
			t.Errorf("history of %s: %q, %d changes, %v", name, h.Name, len(h.Changes), err)
		}
	}
	res, err := r.n.ops.Restore(t.Context(), api.RestoreRequest{})
	if err != nil || len(res.Failed) > 0 || len(res.Restored) == 0 {
		t.Fatalf("%+v, %v", res, err)
	}
	for id, want := range map[knowledge.ContainerID]knowledge.Limits{
		storedCron: {CPU: 1e9, Memory: 128 << 20, MemorySwap: 256 << 20},
		storedWeb:  {CPU: 5e8, Memory: 256 << 20, MemorySwap: 512 << 20},
		storedDB:   {CPU: 4e8, Memory: 384 << 20, MemorySwap: 768 << 20},
	} {
		k, e := r.e.Kernel(id), r.e.Record(id)
		if k.CPU != want.CPU || k.Memory != want.Memory || e.CPU != want.CPU || e.Memory != want.Memory ||
			e.MemorySwap != want.MemorySwap {
			t.Errorf("%s: kernel %+v, Engine %+v, want %+v", id.Short(), k, e, want)
		}
	}
}
