package node

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/effiscale/effiscale/node/cluster/member"
)

// testCluster is a cluster of whole nodes in this process: real files, real sockets on
// loopback; without containers, unless a test says where an Engine is.
type testCluster struct {
	t   *testing.T
	all []*testNode
}

// testNode is one of them; its directory stays when it stops.
type testNode struct {
	t      *testing.T
	name   string
	dir    string
	env    []string
	bound  bool
	n      *Node // nil: it does not run
	out    *syncWriter
	cancel context.CancelFunc
	ended  chan error
}

// newTestCluster makes n nodes that have a key file of their own each, with the same key.
func newTestCluster(t *testing.T, n int) *testCluster {
	t.Helper()
	f := &testCluster{t: t}
	key := member.NewKey()
	for i := range n {
		s := &testNode{t: t, name: fmt.Sprintf("ship%d", i+1), dir: t.TempDir()}
		s.write("cluster.key", key)
		for _, pair := range [][2]string{
			{"NODE_NAME", s.name}, {"NODE_DATA_DIR", s.path("data")}, {"DOCKER_HOST", "unix://" + s.path("none")},
			{"CLUSTER_BIND", "127.0.0.1:0"}, {"CLUSTER_KEY_FILE", s.path("cluster.key")},
			{"API_SOCKET", s.path("s")}, {"API_MONITOR", ""}, {"API_CONTROLLER", ""}, {"API_EXECUTION", ""},
		} {
			s.set(pair[0], pair[1])
		}
		f.all = append(f.all, s)
		t.Cleanup(func() {
			s.stop()
			if t.Failed() && s.out != nil {
				t.Logf("the log of %s:\n%s", s.name, s.out.String())
			}
		})
	}
	return f
}

// startAll starts all, and waits until all see all.
func (f *testCluster) startAll() *testCluster {
	f.t.Helper()
	for i, s := range f.all {
		if i > 0 {
			gossip, _ := f.all[0].n.cluster.Addr()
			s.set("CLUSTER_JOIN", gossip)
		}
		s.start()
	}
	f.meet(f.all...)
	return f
}

// meet waits until these see each other, and nobody else.
func (f *testCluster) meet(some ...*testNode) {
	f.t.Helper()
	soon(f.t, "all see each other", func() bool {
		for _, s := range some {
			alive := 0
			for _, p := range s.n.cluster.Members().Peers() {
				if p.Alive {
					alive++
				}
			}
			if alive != len(some) {
				return false
			}
		}
		return true
	})
}

func (s *testNode) path(name string) string { return filepath.Join(s.dir, name) }

// set chooses a setting for the next start.
func (s *testNode) set(key, value string) {
	name := "EFFISCALE_" + key + "="
	s.env = append(slices.DeleteFunc(s.env, func(v string) bool { return strings.HasPrefix(v, name) }), name+value)
}

func (s *testNode) write(name, text string) {
	s.t.Helper()
	if err := os.WriteFile(s.path(name), []byte(text+"\n"), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *testNode) start() {
	s.t.Helper()
	s.out = &syncWriter{}
	n, err := New(context.Background(), Options{Out: s.out, Env: s.env})
	if err != nil {
		s.t.Fatalf("%s: %v", s.name, err)
	}
	if !s.bound { // its next lives are where the first was
		gossip, calls := n.cluster.Addr()
		_, port, err := net.SplitHostPort(gossip)
		if err != nil {
			s.t.Fatal(err)
		}
		s.set("CLUSTER_BIND", "127.0.0.1:"+port)
		s.set("CLUSTER_RELAY", calls)
		s.bound = true
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.n, s.cancel, s.ended = n, cancel, make(chan error, 1)
	go func() { s.ended <- n.Serve(ctx) }()
}

// stop is an orderly end.
func (s *testNode) stop() {
	if s.n == nil {
		return
	}
	s.cancel()
	if err := <-s.ended; err != nil {
		s.t.Errorf("%s ended with %v", s.name, err)
	}
	s.n = nil
}

// crash ends what others hear of a node, and what it hears, without a goodbye. The
// cluster itself runs on: it may not be closed before it has ended.
func (s *testNode) crash() {
	s.t.Helper()
	s.n.cluster.Relay().Close()
	if err := s.n.cluster.Members().Close(); err != nil {
		s.t.Error(err)
	}
}

// soon waits 20 s at most.
func soon(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not in a minute: %s", what)
		}
	}
}
