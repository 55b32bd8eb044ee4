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
	at := freePorts(t) // nobody answers there yet
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

// freePorts is an address of loopback whose port is free, and the next one, where a node
// listens for calls.
func freePorts(t *testing.T) string {
	t.Helper()
	for range 50 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := l.Addr().(*net.TCPAddr).Port
		next, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port+1))
		_ = l.Close()
		if err == nil {
			_ = next.Close()
			return l.Addr().String()
		}
	}
	t.Fatal("no two free ports in a row")
	return ""
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
