package node

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/effiscale/effiscale/docker/dockertest"
	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/knowledge/store"
	"github.com/effiscale/effiscale/node/api"
	"github.com/effiscale/effiscale/node/view"
)

// TestRow62SameRequestAgain: a key finds how its request ended, good or bad, and
// is good for no other container.
func TestRow62SameRequestAgain(t *testing.T) {
	s, _, err := store.Open(store.Options{Dir: t.TempDir(), Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	n := blank(Options{})
	n.store = s
	id := knowledge.ContainerID(strings.Repeat("ab", 32))
	for _, c := range []struct {
		key    string
		result knowledge.Result
		kind   api.Kind
		ok     bool
	}{
		{"applied", knowledge.ResultApplied, 0, true},
		{"reverted", knowledge.ResultReverted, 0, true},
		{"open", knowledge.ResultOpen, api.KindUnavailable, false},
		{"refused", knowledge.ResultRefused, api.KindRefused, false},
		{"failed", knowledge.ResultFailed, api.KindUnavailable, false},
	} {
		seq, err := s.Journal.Begin(knowledge.Action{
			Kind: knowledge.ActionResize, ID: id, Name: "web", At: time.Now(), Key: c.key,
			Resize: knowledge.Resize{Resource: knowledge.ResourceMemory, Verb: knowledge.Grow, To: 1 << 28},
		})
		if err != nil {
			t.Fatal(err)
		}
		if c.result != knowledge.ResultOpen {
			if err := s.Journal.End(knowledge.Outcome{Seq: seq, Result: c.result, At: time.Now(), Message: "said"}); err != nil {
				t.Fatal(err)
			}
		}
		for _, ref := range []string{"web", string(id), string(id[:12])} {
			res, err := n.Scale(t.Context(), api.ScaleRequest{Container: ref, Key: c.key})
			if c.ok && (err != nil || res.Memory != 1<<28 || len(res.Changes) != 1) {
				t.Errorf("%s: %+v, %v", c.key, res, err)
			}
			if !c.ok && api.KindOf(err) != c.kind {
				t.Errorf("%s: %v", c.key, err)
			}
		}
		if _, err := n.Scale(t.Context(), api.ScaleRequest{Container: "other", Key: c.key}); api.KindOf(err) != api.KindRefused {
			t.Errorf("%s, of another container: %v", c.key, err)
		}
	}
}

func TestWireConfigKeepsTheQuota(t *testing.T) {
	for _, c := range []struct {
		cpu    knowledge.NanoCPU
		period time.Duration
		want   int64
	}{
		{0, 0, -1},
		{290_000_000, 0, 29_000}, // 0.29 * 100000 is 28999.99… in floating point
		{knowledge.OneCPU, 50 * time.Millisecond, 50_000},
		{knowledge.MaxCPU, time.Second, 4096_000_000},
	} {
		if got := view.WireLimits(c.cpu, c.period, 0).CPUQuota; got != c.want {
			t.Errorf("%s in %s: %d, want %d", c.cpu, c.period, got, c.want)
		}
	}
}

// TestRestorePausesFirst: that a service is left alone from now on is on the disk
// before anything is put back, so that a next life does not take it away again
// (row 76).
func TestRestorePausesFirst(t *testing.T) {
	t.Parallel()
	r := newRig(t, dockertest.Options{})
	limits := knowledge.Limits{CPU: knowledge.OneCPU, Memory: 128 * knowledge.MiB, MemorySwap: 128 * knowledge.MiB}
	web := r.e.Run(dockertest.Spec{Name: "web", Labels: opted, Limits: limits})
	r.e.SetMemory(web, 64*knowledge.MiB)
	r.managed(web)
	if _, err := r.n.Scale(t.Context(), api.ScaleRequest{Container: "web", Memory: int64(160 * knowledge.MiB), By: "test"}); err != nil {
		t.Fatal(err)
	}
	r.e.Inject(dockertest.Fault{Op: dockertest.UpdateC, Hang: true})
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if res, err := r.n.Restore(ctx, "web"); err == nil && len(res.Failed) == 0 {
		t.Errorf("the Engine hangs: %+v", res)
	}
	kept := map[knowledge.ServiceKey]knowledge.Pause{}
	if _, err := r.n.store.Documents.Get(docPauses, &kept); err != nil || !kept["web"].On {
		t.Errorf("%+v, %v", kept, err)
	}
	r.e.Heal()
}
