package node

import (
	"errors"
	"fmt"
	"net"
	"testing"

	"github.com/rs/zerolog"

	"github.com/effiscale/effiscale/knowledge/store"
	"github.com/effiscale/effiscale/node/cluster/member"
)

// TestRow23RegisteredBeforeItRuns: a node that is registered before it answers is joined
// when it does, also by a life after the one that was told. One that is registered again
// elsewhere is looked for there; where there are too many, the oldest gives way.
func TestRow23RegisteredBeforeItRuns(t *testing.T) {
	t.Parallel()
	f := newTestCluster(t, 2)
	first, late := f.all[0], f.all[1]
	l, err := net.Listen("tcp", "127.0.0.1:0") // a free port; nobody answers there yet
	if err != nil {
		t.Fatal(err)
	}
	at := l.Addr().String()
	_ = l.Close()
	late.set("CLUSTER_BIND", at)
	first.start()
	register := func(id, at string) error { return first.n.ops.Register(t.Context(), id, at) }
	if err := register("late", "127.0.0.1:1"); err != nil {
		t.Fatal(err)
	}
	if err := register("late", at); err != nil {
		t.Fatal(err)
	}
	late.start()
	f.meet(f.all...)
	late.stop()
	first.stop()

	// Other lives, of which one knows the registered address and nobody else.
	first.forgetMembers()
	late.forgetMembers()
	first.start()
	late.start()
	f.meet(f.all...)

	for i := 1; i < member.MaxIntroduced+1; i++ { // the member's place is free again
		if err := register(fmt.Sprint("c", i), "127.0.0.1:1"); err != nil {
			t.Fatal(err)
		}
	}
	if err := register("more", "127.0.0.1:1"); err != nil {
		t.Error(err)
	}
	known, err := first.n.ops.Neighbors(t.Context())
	if err != nil || known["c1"] != "" || known["c2"] == "" || known["more"] == "" {
		t.Errorf("the oldest that never answered does not give way: %v, %v", known, err)
	}
}

// forgetMembers takes what a node that does not run remembers of the others.
func (s *testNode) forgetMembers() {
	s.t.Helper()
	kept, _, err := store.Open(store.Options{Dir: s.path("data"), Log: zerolog.Nop()})
	if err != nil {
		s.t.Fatal(err)
	}
	if err := errors.Join(kept.Documents.Put(docMembers, nil), kept.Close()); err != nil {
		s.t.Fatal(err)
	}
}
