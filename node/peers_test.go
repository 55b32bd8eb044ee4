package node

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/rs/zerolog"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/knowledge/store"
	"github.com/effiscale/effiscale/node/claim"
	"github.com/effiscale/effiscale/node/trust"
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
	l := life{n: n, number: n.nextLife(), terms: claim.NewTerms(n.store.Terms(), keeper{n.store})}
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
			if err := l.terms.Forget(func(key knowledge.ServiceKey) bool { return key != "gone" && key != "service-0" }); err != nil {
				t.Fatal(err)
			}
			if kept := len(l.n.store.Terms()); kept != many+1 { // and the floor
				t.Errorf("the file keeps %d terms", kept)
			}
		}
		dir = kill9(t, dir)
	}
}
