package node

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/effiscale/effiscale/node/api"
	"github.com/effiscale/effiscale/node/cluster/member"
	"github.com/effiscale/effiscale/node/cluster/relay"
)

// keysOf says "fingerprint n/N", the one that this node sends with first.
func keysOf(t *testing.T, s *testNode) (out []string) {
	t.Helper()
	k, err := s.n.ops.Keys(t.Context(), api.None{})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range k.Keys {
		out = append(out, fmt.Sprintf("%s %d/%d", v.Fingerprint, v.Nodes, v.Of))
	}
	return out
}

func printOf(t *testing.T, key string) string {
	t.Helper()
	b, err := member.ParseKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return member.KeyName(b)
}

// TestRow18KeysOutliveRestarts: the key is changed while nodes come and go. Each comes
// back with what `keys` changed, not with its key file, and nobody can be cut off by
// a change.
func TestRow18KeysOutliveRestarts(t *testing.T) {
	t.Parallel()
	f := newTestCluster(t, 3).startAll()
	a, b, c := f.all[0], f.all[1], f.all[2]
	text, err := os.ReadFile(a.path("cluster.key"))
	if err != nil {
		t.Fatal(err)
	}
	old, fresh := strings.TrimSpace(string(text)), member.NewKey()
	was, is := printOf(t, old), printOf(t, fresh)
	change := func(do, key string, want api.Kind) {
		t.Helper()
		_, err := a.n.ops.KeyChange(t.Context(), api.KeyRequest{Do: do, Key: key})
		if want == api.KindInternal && err != nil || want != api.KindInternal && api.KindOf(err) != want {
			t.Fatalf("%s: %v", do, err)
		}
		if err != nil && (strings.Contains(err.Error(), key) || !strings.Contains(err.Error(), printOf(t, key))) {
			t.Errorf("%s: the error tells the key, or not which: %v", do, err)
		}
	}
	const done = api.KindInternal // of no error
	change("remove", fresh, api.KindNotFound)
	change("remove", old, api.KindRefused)
	change("use", fresh, api.KindRefused)

	c.stop() // down while the key is added, and back before it is used
	change("add", fresh, done)
	c.start()
	f.meet(a, b, c)
	if got := keysOf(t, a); !slices.Equal(got, []string{was + " 3/3", is + " 2/3"}) {
		t.Errorf("in the middle: %v", got)
	}
	change("use", fresh, api.KindRefused) // c could not read it
	change("add", fresh, done)
	if got := keysOf(t, b); !slices.Equal(got, []string{was + " 3/3", is + " 3/3"}) {
		t.Errorf("added: %v", got)
	}

	c.stop() // down while the key is used, with both keys on its disk
	change("use", fresh, done)
	c.start()
	f.meet(a, b, c)
	change("remove", old, api.KindRefused) // c sends with it
	change("use", fresh, done)
	change("remove", old, done)
	for _, s := range f.all {
		s.stop()
	}
	for _, s := range f.all {
		if info, err := os.Stat(s.path("data/" + "cluster.keys")); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", s.name, info.Mode(), err)
		}
		s.start()
	}
	f.meet(a, b, c)
	for _, s := range f.all {
		if got := keysOf(t, s); !slices.Equal(got, []string{is + " 3/3"}) {
			t.Errorf("%s after a restart: %v", s.name, got)
		}
		if out := s.out.String(); !strings.Contains(out, "not those of cluster.key_file") || strings.Contains(out, fresh) ||
			strings.Contains(out, old) {
			t.Errorf("%s says:\n%s", s.name, out)
		}
	}
	k, err := a.n.ops.Keys(t.Context(), api.None{})
	if err != nil || len(k.Notes) != 1 || !strings.Contains(k.Notes[0], was) {
		t.Errorf("%+v, %v", k, err)
	}

	// A key file that a person changed counts, for good.
	third := member.NewKey()
	for _, text := range []string{third, old} {
		a.stop()
		a.write("cluster.key", text)
		a.start()
		if got := a.n.cluster.Members().Keys(); !slices.Equal(got, []string{printOf(t, text)}) {
			t.Errorf("with another key file: %v", got)
		}
	}
	// One with the new key is the end of the rotation.
	a.stop()
	a.write("cluster.key", fresh)
	a.start()
	f.meet(a, b, c)
	if k, err := a.n.ops.Keys(t.Context(), api.None{}); err != nil || len(k.Notes) != 0 {
		t.Errorf("%+v, %v", k, err)
	}
}

// TestKeysOfWhoIsNotHeard: who does not gossip with this node may look, and change nothing.
func TestKeysOfWhoIsNotHeard(t *testing.T) {
	n := newTestCluster(t, 1).startAll().all[0].n
	before := n.cluster.Members().Keys()
	said := new(relay.Error)
	if _, err := n.ops.Handlers()["keys"].Serve(t.Context(), "f00d",
		fmt.Appendf(nil, `{"do":"add","key":%q}`, member.NewKey())); !errors.As(err, &said) ||
		said.Status != http.StatusForbidden {
		t.Errorf("add: %v", err)
	}
	if _, err := n.ops.Handlers()["keys"].Serve(t.Context(), "f00d", []byte("{}")); err != nil {
		t.Errorf("list: %v", err)
	}
	if after := n.cluster.Members().Keys(); !slices.Equal(before, after) {
		t.Errorf("%v became %v", before, after)
	}
}

// TestOrdersOfWhoIsNotHeard: nor does it scale, pause or restore anything.
func TestOrdersOfWhoIsNotHeard(t *testing.T) {
	n := newTestCluster(t, 1).startAll().all[0].n
	for method, body := range map[string]string{"scale": `{"container":"web","cpu":1}`, "pause": `{"all":true}`,
		"restore": `"web"`} {
		for _, body := range []string{body, "{"} {
			said := new(relay.Error)
			if _, err := n.ops.Handlers()[method].Serve(t.Context(), "f00d", []byte(body)); !errors.As(err, &said) ||
				said.Status != http.StatusForbidden {
				t.Errorf("%s %s: %v", method, body, err)
			}
		}
	}
}

// TestDamagedRing: a node whose kept keys cannot be read begins with its key file and
// says so.
func TestDamagedRing(t *testing.T) {
	s := newTestCluster(t, 1).all[0]
	if err := os.Mkdir(s.path("data"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"", "{", `{"keys":[]}`, `{"keys":["AAAA"]}`} {
		s.write("data/cluster.keys", bad)
		s.start()
		if k, err := s.n.ops.Keys(t.Context(), api.None{}); err != nil || len(k.Keys) != 1 || len(k.Notes) != 1 {
			t.Errorf("%q: %+v, %v", bad, k, err)
		}
		if st, err := s.n.ops.Status(t.Context(), api.None{}); err != nil || !st.Degraded {
			t.Errorf("%q: %v, %v", bad, st.Problems, err)
		}
		s.stop()
	}
}
