package node

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/knowledge/store"
	"github.com/effiscale/effiscale/node/api"
	"github.com/effiscale/effiscale/node/cluster/claim"
	"github.com/effiscale/effiscale/node/cluster/member"
	"github.com/effiscale/effiscale/node/cluster/trust"
)

// life is what a node needs of its disk to trust and to obey.
type life struct {
	n      *Node
	number uint64
	terms  *claim.Terms
	opener *trust.Opener
}

func begin(t *testing.T, dir string, self knowledge.NodeID) life {
	t.Helper()
	n := blank(Options{})
	n.log = zerolog.Nop()
	var err error
	if n.store, _, err = store.Open(store.Options{Dir: dir, Log: n.log}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.store.Close() })
	l := life{n: n, number: n.nextIncarnation(), terms: claim.NewTerms(n.store.Terms.All(), keeper{n.store})}
	l.opener = trust.NewOpener(self, l.number, nil)
	return l
}

// kill9 is what the disk holds at this moment, in another directory: nobody had the
// time to write or close anything.
func kill9(t *testing.T, dir string) (next string) {
	t.Helper()
	next = t.TempDir()
	b, err := os.ReadFile(filepath.Join(dir, store.FileName))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(next, store.FileName), b, 0o600); err != nil {
		t.Fatal(err)
	}
	return next
}

// Row 22: after kill -9 at any moment, and in the same second as the start, no message
// to the life before is opened, whether it was heard or not, and no term is obeyed that
// is lower than one that was, also of a service that was forgotten.
func TestRow22NothingOldAfterKill(t *testing.T) {
	who, err := trust.NewIdentity(nil)
	if err != nil {
		t.Fatal(err)
	}
	dir, self, sealer := t.TempDir(), knowledge.NodeID("self"), &trust.Sealer{Identity: who, Epoch: 1}
	admit := func(l life, key knowledge.ServiceKey, round uint64) bool {
		refused, err := l.terms.Admit(map[knowledge.ServiceKey]knowledge.Term{key: {Round: round, Owner: who.ID()}})
		return err == nil && len(refused) == 0
	}
	const many = 10_000
	var recorded [][]byte
	for lives := range uint64(3) {
		l := begin(t, dir, self)
		for _, b := range recorded {
			if _, _, err := l.opener.Open(b, "intents", new(int)); !errors.Is(err, trust.ErrRecipient) {
				t.Errorf("life %d: a recorded message: %v", lives, err)
			}
		}
		for i := range 2 {
			b, err := sealer.Seal("intents", self, l.number, 7)
			if err != nil {
				t.Fatal(err)
			}
			if recorded = append(recorded, b); i > 0 {
				continue // on its way while the node is killed
			}
			if _, _, err := l.opener.Open(b, "intents", new(int)); err != nil {
				t.Errorf("life %d: %v", lives, err)
			}
		}
		if lives > 0 && (admit(l, "web", 2*lives-1) || admit(l, "gone", 1)) {
			t.Errorf("life %d obeys what it refused before", lives)
		}
		if !admit(l, "web", 2*lives+2) {
			t.Errorf("life %d refuses a higher term", lives)
		}
		if lives == 0 { // a host of many services forgets some
			crowd := map[knowledge.ServiceKey]knowledge.Term{"gone": {Round: 1, Owner: who.ID()}}
			for i := range many {
				crowd[knowledge.ServiceKey(fmt.Sprintf("service-%d", i))] = knowledge.Term{Round: 1, Owner: who.ID()}
			}
			if _, err := l.terms.Admit(crowd); err != nil {
				t.Fatal(err)
			}
			if err := l.terms.Forget(func(key knowledge.ServiceKey) bool {
				return key != "gone" &&
					key != "service-0"
			}); err != nil {
				t.Fatal(err)
			}
			if kept := len(l.n.store.Terms.All()); kept != many+1 { // and the floor
				t.Errorf("the file keeps %d terms", kept)
			}
		}
		dir = kill9(t, dir)
	}
}

// TestMembersSayWhy: the list of the members says since when one is what it is, why
// this node waits, and what a person should look at; under the name in force.
func TestMembersSayWhy(t *testing.T) {
	t.Parallel()
	f := newTestCluster(t, 4)
	a, b, late, stranger := f.all[0], f.all[1], f.all[2], f.all[3]
	members := func(s *testNode) (api.Members, map[string]api.MemberView) {
		t.Helper()
		m, err := s.n.ops.Members(t.Context(), api.None{})
		if err != nil {
			t.Fatal(err)
		}
		by := map[string]api.MemberView{}
		for _, v := range m.Members {
			by[v.Name] = v
		}
		return m, by
	}
	began := time.Now()
	a.start()
	gossip, _ := a.n.cluster.Addr()
	b.set("CLUSTER_JOIN", gossip)
	b.start()
	f.meet(a, b)
	soon(t, "nobody waits", func() bool {
		_, by := members(a)
		return by[a.name].State == "participant" && by[b.name].State == "participant"
	})
	m, by := members(a)
	for _, v := range by {
		if v.Since.Before(began) || v.Since.After(time.Now()) || v.Note != "" {
			t.Errorf("%s is %s since %s, %q", v.Name, v.Status, v.Since, v.Note)
		}
	}
	if len(m.Problems) != 0 || m.Problems == nil {
		t.Errorf("problems of a healthy cluster: %q", m.Problems)
	}

	late.set("CLUSTER_JOIN", "127.0.0.1:1") // nobody: it looks around for longer
	late.start()
	if _, by := members(late); by[late.name].State != "waiting" || !strings.Contains(by[late.name].Note, "settled") {
		t.Errorf("a node that has just started: %+v", by[late.name])
	}
	late.stop()

	was := a.n.o.Env
	a.n.o.Env = append(slices.Clone(was), "EFFISCALE_CLUSTER_NAME=other")
	if err := a.n.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if m, _ := members(a); m.Cluster != "effiscale" || a.n.cfg.Load().Cluster.Name != "other" {
		t.Errorf("a name that is not in force yet: %q, configured %q", m.Cluster, a.n.cfg.Load().Cluster.Name)
	}

	stranger.write("cluster.key", member.NewKey())
	stranger.set("CLUSTER_JOIN", gossip)
	stranger.start()
	soon(t, "another key is a problem", func() bool {
		m, _ := members(a)
		return len(m.Problems) == 1 && strings.Contains(m.Problems[0], "another cluster key")
	})
	stranger.stop()

	at := time.Now()
	b.crash()
	soon(t, "b is given up", func() bool { return statusOf(a, b.name) == "failed" })
	if _, by := members(a); by[b.name].Since.Before(at) || by[b.name].Since.After(time.Now()) {
		t.Errorf("%+v, crashed at %s", by[b.name], at)
	}
	if _, err := a.n.ops.Leave(t.Context(), api.LeaveRequest{}); err != nil {
		t.Log(err) // nobody heard it
	}
	if _, by := members(a); by[a.name].Status != "left" || by[a.name].Since.Before(at) {
		t.Errorf("%+v, left after %s", by[a.name], at)
	}
}
