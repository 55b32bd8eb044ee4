package node

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/effiscale/effiscale/docker/dockertest"
	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/knowledge/profile"
	"github.com/effiscale/effiscale/knowledge/store"
	"github.com/effiscale/effiscale/node/api"
	"github.com/effiscale/effiscale/node/cluster/trust"
)

// watched leaves a node, before its first start, what it saw of an image for 20 minutes.
func (s *testNode) watched(key knowledge.ImageKey, cores float64, memory knowledge.Bytes) {
	s.t.Helper()
	if err := os.MkdirAll(s.path("data"), 0o700); err != nil {
		s.t.Fatal(err)
	}
	id, _, err := trust.LoadKey(s.path("data"))
	if err != nil {
		s.t.Fatal(err)
	}
	disk, _, err := store.Open(store.Options{Dir: s.path("data"), Log: zerolog.Nop()})
	if err != nil {
		s.t.Fatal(err)
	}
	if err := disk.SetIdentity(store.Identity{Node: id.ID()}); err != nil { // it has lived, so its key is still its own
		s.t.Fatal(err)
	}
	const seconds = 1200
	p, from := profile.New(), time.Now().Add(-seconds*time.Second)
	p.Epoch, p.Version = uint64(from.Unix()), 1
	for i := range seconds {
		at := from.Add(time.Duration(i) * time.Second)
		p.AddCPU(at, cores, time.Second, false)
		p.AddMemoryPeak(at, memory)
	}
	err = disk.Learned.Commit(store.Batch{Images: map[store.ImageCopy][]byte{{Image: key, Host: id.ID()}: p.Marshal()}})
	if err != nil {
		s.t.Fatal(err)
	}
	if err := disk.Close(); err != nil {
		s.t.Fatal(err)
	}
}

// TestANewHostKnowsWhatItsPeersKnow: a container of an image that others know has its
// limits within seconds of its host's first start, and again after its host lost its
// disk; what one of four says of an image that is far off moves them to twice the highest
// of the others at most.
func TestANewHostKnowsWhatItsPeersKnow(t *testing.T) {
	t.Parallel()
	sum := sha256.Sum256([]byte("app"))
	key := knowledge.ImageKeyOf("sha256:"+hex.EncodeToString(sum[:]), "app")
	f := newTestCluster(t, 5)
	peers, fresh := f.all[:4], f.all[4]
	for i, s := range peers {
		if i == 1 {
			s.watched(key, 40, 40*knowledge.GiB)
		} else {
			s.watched(key, 0.5, 100*knowledge.MiB)
		}
	}
	for i, s := range peers {
		if i > 0 {
			gossip, _ := peers[0].n.cluster.Addr()
			s.set("CLUSTER_JOIN", gossip)
		}
		s.start()
	}
	f.meet(peers...)
	gossip, _ := peers[0].n.cluster.Addr()
	fresh.set("CLUSTER_JOIN", gossip)
	for _, life := range []string{"a new host", "a host that lost its disk"} {
		e := dockertest.New(t, dockertest.Options{})
		web := e.Run(dockertest.Spec{Name: "web", Labels: opted})
		e.SetUsage(web, 0.1)
		e.SetMemory(web, 50*knowledge.MiB)
		stopped := e.Live(100 * time.Millisecond)
		fresh.set("DOCKER_HOST", e.Host())
		began := time.Now()
		fresh.start()
		said := map[string]float64{}
		soon(t, life+" knows the image by all its peers", func() bool {
			ex, err := fresh.n.ops.Explain(t.Context(), api.ExplainRequest{Name: "web"})
			if err != nil {
				return false
			}
			for _, s := range ex.Signals {
				if rest, ok := strings.CutPrefix(s.Name, "image: "); ok {
					said[rest] = s.Value
				}
			}
			return said["watched for, in all services"] > 3*1200
		})
		knows := time.Now()
		t.Logf("%s knows it %v after its start: %v", life, time.Since(began).Round(100*time.Millisecond), said)
		if v := said["cpu, highest"]; v < 0.37 || v > 1.1 {
			t.Errorf("%s thinks that it uses %v cores at most", life, v)
		}
		if v := said["memory, highest"]; v < float64(75*knowledge.MiB) || v > float64(220*knowledge.MiB) {
			t.Errorf("%s thinks that it uses %v bytes at most", life, v)
		}
		for k := e.Kernel(web); k.CPU == 0 || k.Memory == 0; k = e.Kernel(web) {
			if time.Since(knows) > 45*time.Second { // by itself it would watch for a minute
				t.Fatalf("%s: its container has %s cores and %s", life, k.CPU, k.Memory)
			}
			time.Sleep(50 * time.Millisecond)
		}
		t.Logf("%s: its container has limits %v after its start", life, time.Since(began).Round(100*time.Millisecond))
		if k := e.Kernel(web); k.CPU > 2*knowledge.OneCPU || k.Memory < 75*knowledge.MiB || k.Memory > 512*knowledge.MiB {
			t.Errorf("%s begins with %s cores and %s", life, k.CPU, k.Memory)
		}
		fresh.stop()
		stopped()
		f.meet(peers...)
		if err := os.RemoveAll(fresh.path("data")); err != nil {
			t.Fatal(err)
		}
	}
}
