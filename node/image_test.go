package node

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/effiscale/effiscale/docker/dockertest"
	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/knowledge/profile"
	"github.com/effiscale/effiscale/knowledge/store"
	"github.com/effiscale/effiscale/node/api"
	"github.com/effiscale/effiscale/node/config"
)

// A container without limits whose image another node knew (the state was copied
// from there) has limits within seconds, and explain says where they come from.
// Another command of that image is another work, and is watched.
func TestAKnownImageOverEngineAndFiles(t *testing.T) {
	t.Parallel()
	sum := sha256.Sum256([]byte("app"))
	key := knowledge.ImageKeyOf("sha256:"+hex.EncodeToString(sum[:]), "app")
	r := newRigOver(t, dockertest.Options{Cgroup: 2}, func(s *store.Store, _ *config.Config) {
		p := profile.New()
		for i := range 180 {
			at := time.Now().Add(time.Duration(i-180) * time.Second)
			p.AddCPU(at, 0.5, time.Second, false)
			p.AddMemoryPeak(at, 100*knowledge.MiB)
		}
		packed := map[store.ImageCopy][]byte{{Image: key, Host: "elsewhere"}: p.Marshal()}
		if err := s.Learned.Commit(store.Batch{Images: packed}); err != nil {
			t.Fatal(err)
		}
	})
	id := r.e.Run(dockertest.Spec{Name: "web", Labels: opted})
	other := r.e.Run(dockertest.Spec{Name: "other", Labels: opted, Args: []string{"--worker"}})
	r.e.SetUsage(id, 0.1)
	took := r.soon(30*time.Second, "first limits", func() bool { k := r.e.Kernel(id); return k.CPU > 0 && k.Memory > 0 })
	t.Logf("limits after %s", took.Round(time.Millisecond))
	if k := r.e.Kernel(id); k.CPU < knowledge.OneCPU/2 || k.CPU > knowledge.OneCPU || k.Memory < 110*knowledge.MiB ||
		k.Memory > 256*knowledge.MiB {
		t.Errorf("%s cores and %s", k.CPU, k.Memory)
	}
	if k := r.e.Kernel(other); k.CPU != 0 || k.Memory != 0 {
		t.Errorf("another command has %s cores and %s", k.CPU, k.Memory)
	}
	ex, err := r.n.ops.Explain(t.Context(), api.ExplainRequest{Name: "web"})
	if err != nil {
		t.Fatal(err)
	}
	var said []string
	for _, s := range ex.Signals {
		if strings.HasPrefix(s.Name, "image: ") {
			said = append(said, s.Name)
		}
	}
	if len(said) != 5 {
		t.Errorf("explain says of the image %q", said)
	}
	r.soon(5*time.Second, "the history says it", func() bool {
		h, err := r.n.ops.Records(t.Context(), api.RecordsRequest{Name: "web", Limit: 10})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range h.Changes {
			if c.Resource == "memory" && strings.Contains(c.Why, "the known use of its image") {
				return true
			}
		}
		return false
	})
	r.stop()
	copies, err := r.n.store.Learned.Images()
	if err != nil || len(copies) != 3 { // elsewhere's, and this node's of both works
		t.Errorf("%d copies, %v", len(copies), err)
	}
	r.checkUpdates()
}
