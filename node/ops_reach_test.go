package node

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/effiscale/effiscale/knowledge/store"
	"github.com/effiscale/effiscale/node/api"
)

// TestRow23WrongAddress: a node that tells others an address at which it is not says
// so, with that address and the one that they see, until it is corrected.
func TestRow23WrongAddress(t *testing.T) {
	t.Parallel()
	f := newTestCluster(t, 2)
	lost := f.all[1]
	lost.set("CLUSTER_ADVERTISE", "127.0.0.77")
	for i, s := range f.all {
		if i > 0 {
			gossip, _ := f.all[0].n.cluster.Addr()
			s.set("CLUSTER_JOIN", gossip)
		}
		s.start()
	}
	problems := func(s *testNode) string {
		st, err := s.n.ops.Status(t.Context(), api.None{})
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(st.Problems, "\n")
	}
	soon(t, "the wrong address is told", func() bool {
		said := problems(lost)
		return strings.Contains(said, "127.0.0.77:") && strings.Contains(said, "from 127.0.0.1:")
	})
	if !strings.Contains(lost.out.String(), "cannot reach this one at 127.0.0.77:") {
		t.Error("the log does not say it")
	}
	lost.stop()
	lost.set("CLUSTER_ADVERTISE", "")
	lost.start()
	f.meet(f.all...)
	for _, s := range f.all {
		soon(t, s.name+" was told that it is reached", func() bool { _, checked := s.n.ops.Reach.Trouble(); return checked })
		if said := problems(s); strings.Contains(said, "cannot reach") {
			t.Errorf("%s: %s", s.name, said)
		}
	}
}

// gaveWay waits for the end of a node that may not run beside another one.
func (s *testNode) gaveWay() error {
	s.t.Helper()
	select {
	case err := <-s.ended:
		s.n = nil
		return err
	case <-time.After(20 * time.Second):
		s.t.Fatalf("%s goes on", s.name)
		return nil
	}
}

// TestRow14SameName: of two nodes with one name the one that started later ends, and
// says where the other is.
func TestRow14SameName(t *testing.T) {
	f := newTestCluster(t, 2)
	a, b := f.all[0], f.all[1]
	a.start()
	gossip, _ := a.n.cluster.Addr()
	time.Sleep(time.Until(time.Unix(time.Now().Unix()+1, 0))) // lives are told apart by the second
	b.set("NODE_NAME", a.name)
	b.set("CLUSTER_JOIN", gossip)
	b.start()
	err := b.gaveWay()
	if !errors.Is(err, ErrConflict) || !strings.Contains(err.Error(), gossip) ||
		!strings.Contains(err.Error(), "node.name") {
		t.Errorf("it ended with %v", err)
	}
	if st, err := a.n.ops.Status(t.Context(), api.None{}); err != nil || st.Node.Name != a.name {
		t.Errorf("the first one: %v", err)
	}
	// It is listed as refused, with what to do, and lacks no key.
	of := func() (v api.MemberView) {
		m, err := a.n.ops.Members(t.Context(), api.None{})
		if err != nil {
			t.Fatal(err)
		}
		for _, v = range m.Members {
			if !v.Self {
				return v
			}
		}
		return api.MemberView{}
	}
	soon(t, "the second one is gone", func() bool { return of().Status != "alive" && of().Status != "suspect" })
	if v := of(); v.ID == "" || v.Status != "refused" || !strings.Contains(v.Note, "node.name") {
		t.Errorf("the second one: %+v", v)
	}
	if k, err := a.n.ops.Keys(t.Context(), api.None{}); err != nil || len(k.Notes) != 0 || k.Keys[0].Of != 1 {
		t.Errorf("keys: %+v, %v", k, err)
	}
	if st, err := a.n.ops.Status(t.Context(), api.None{}); err != nil || st.Cluster.Members != 1 ||
		len(st.Cluster.Hosts) != 1 {
		t.Errorf("status: %+v, %v", st.Cluster, err)
	}
}

// clone copies the directory of a node that does not run.
func (s *testNode) clone(to *testNode) {
	s.t.Helper()
	if err := os.CopyFS(to.path("data"), os.DirFS(s.path("data"))); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Chmod(to.path("data/node.key"), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// TestRow15ClonedHost: a host that was made from another one's image, state and all, is
// a node of its own: the key of the first is set aside. A copy on the same machine is
// the same node twice, and the later one gives way.
func TestRow15ClonedHost(t *testing.T) {
	t.Parallel()
	if firstLine("/etc/machine-id") == "" && os.Getenv("EFFISCALE_REQUIRE_ENGINE") != "1" {
		t.Skip("this machine has no machine-id")
	}
	f := newTestCluster(t, 3)
	a, b, c := f.all[0], f.all[1], f.all[2]
	a.start()
	first, gossip := a.n.cluster.Self(), ""
	a.stop()
	a.clone(b)
	a.clone(c)
	s, _, err := store.Open(store.Options{Dir: b.path("data"), Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	id, _ := s.Identity()
	id.MachineID = strings.Repeat("0", 32) // as if it had been written elsewhere
	if err := errors.Join(s.SetIdentity(id), s.Close()); err != nil {
		t.Fatal(err)
	}
	a.start()
	gossip, _ = a.n.cluster.Addr()
	b.set("CLUSTER_JOIN", gossip)
	c.set("CLUSTER_JOIN", gossip)
	b.start()
	f.meet(a, b)
	if a.n.cluster.Self() != first || b.n.cluster.Self() == first {
		t.Errorf("%s, and the clone is %s", first, b.n.cluster.Self())
	}
	if kept, err := filepath.Glob(b.path("data/node.key*")); err != nil ||
		!slices.Contains(kept, b.path("data/node.key.of-another-machine")) || len(kept) != 2 {
		t.Errorf("%v, %v", kept, err)
	}
	if !strings.Contains(b.out.String(), "made on another machine") {
		t.Error("the log does not say it")
	}
	second := b.n.cluster.Self()
	b.stop()
	b.start()
	if b.n.cluster.Self() != second {
		t.Error("it takes a new identity at each start")
	}
	time.Sleep(time.Until(time.Unix(time.Now().Unix()+1, 0)))
	c.start() // the same machine, the same key
	if err := c.gaveWay(); !errors.Is(err, ErrConflict) || !strings.Contains(err.Error(), "node.key") {
		t.Errorf("the copy ended with %v", err)
	}
}

// TestRow44ANewIdentityWithoutTerms: a node whose knowledge file was lost while its key
// was not is another node: it does not know in which terms it has spoken.
func TestRow44ANewIdentityWithoutTerms(t *testing.T) {
	a := newTestCluster(t, 1).all[0]
	a.start()
	first := a.n.cluster.Self()
	a.stop()
	a.start()
	if a.n.cluster.Self() != first {
		t.Error("a restart is another node")
	}
	a.stop()
	if err := os.WriteFile(a.path("data/"+store.FileName), []byte(strings.Repeat("no knowledge", 1000)),
		0o600); err != nil {
		t.Fatal(err)
	}
	a.start()
	second := a.n.cluster.Self()
	if _, err := os.Stat(a.path("data/node.key.of-lost-knowledge")); second == first || err != nil ||
		!strings.Contains(a.out.String(), "starting with a new node identity") {
		t.Errorf("%s without its terms, %s before; %v", second, first, err)
	}
	a.stop()
	a.start()
	if a.n.cluster.Self() != second {
		t.Error("it takes a new identity at each start")
	}
}
