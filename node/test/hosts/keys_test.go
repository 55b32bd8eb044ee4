package hosts

import (
	"os"
	"strings"
	"testing"
	"time"
)

// keyed gives a host a key file of its own.
func (h *host) keyed(keys ...string) {
	h.t.Helper()
	h.write("own-key", keys...)
	h.configure(h.name(), section(h.n, h.path("own-key")))
}

func (h *host) write(name string, lines ...string) string {
	h.t.Helper()
	if err := os.WriteFile(h.path(name), []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		h.t.Fatal(err)
	}
	return h.path(name)
}

// TestRow18KeyRotation changes the cluster's key while one node is down. It comes
// back in each phase with the file that it then has: with the old key alone until
// the new one is used, with both from then on. With the old one alone it is refused
// when that is gone, and says so.
func TestRow18KeyRotation(t *testing.T) {
	needAll(t)
	f := newFleet(t, 3)
	var keys []string
	for _, name := range []string{"key", "next-key"} {
		b, err := os.ReadFile(keyFile(t, name))
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, strings.TrimSpace(string(b)))
	}
	before, after := keys[0], keys[1]
	for _, h := range f.hosts {
		h.keyed(before)
	}
	f.start().watch()
	one, away := f.hosts[0], f.hosts[2]
	f.steady(2*time.Second, "nothing happens")
	old, new := one.write("old.key", before), one.write("new.key", after)
	rotate := func(what, file string, of ...*host) {
		t.Helper()
		if out, err := one.run("keys", what, file); err != nil {
			t.Fatalf("keys %s: %v: %s", what, err, out)
		}
		f.together(30*time.Second, of...)
	}
	away.stop()
	f.together(30*time.Second, f.without(away)...)
	rotate("add", new, f.without(away)...)
	away.start() // with the old key
	f.settle(30 * time.Second)
	if out, err := one.run("keys", "list"); err != nil || !strings.Contains(out, "3/3") || !strings.Contains(out, "2/3") {
		t.Errorf("one node has not got the new key, and the list says: %v\n%s", err, out)
	}
	away.stop()
	f.together(30*time.Second, f.without(away)...)
	rotate("use", new, f.without(away)...)
	away.keyed(before, after)
	away.start()
	f.settle(30 * time.Second)
	away.stop()
	f.together(30*time.Second, f.without(away)...)
	rotate("remove", old, f.without(away)...)
	away.keyed(before)
	away.start()
	eventually(t, 30*time.Second, "with the old key it is refused and says so", func() bool {
		st, err := away.status()
		return err == nil && st.Degraded && strings.Contains(strings.Join(st.Problems, "\n"), "cluster.key_file")
	})
	f.together(5*time.Second, f.without(away)...)
	away.stop()
	away.keyed(after)
	away.start()
	f.settle(30 * time.Second)
	for _, h := range f.without(away) { // as the last step of a rotation
		h.keyed(after)
		h.stop()
		h.start()
		f.settle(30 * time.Second)
	}
	f.intact()
}
