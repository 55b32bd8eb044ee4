package hosts

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

const trustRefused = "effiscale_trust_refused_total"

// guest is a further host, which the fleet does not count.
const guest = 6

// undisturbed checks that the fleet sees itself and nobody else, with the terms
// that it had.
func (f *fleet) undisturbed(was map[string]term) {
	f.t.Helper()
	f.together(20*time.Second, f.hosts...) // the stranger may be seen for a moment
	for s, is := range f.terms() {
		if is != was[s] {
			f.t.Errorf("%s: the term was %+v, is %+v", s, was[s], is)
		}
	}
}

// TestRow16WrongKey: a node with another key stays alone, goes on for its own host
// and says what is wrong, once and not for each packet.
func TestRow16WrongKey(t *testing.T) {
	f := newFleet(t, 3).start().watch()
	was := f.terms()
	h := hosts(t, guest)[0]
	h.configure(h.name(), section(h.n, keyFile(t, "other-key")))
	b, err := h.box(spec{service: "alone", do: "cpu --cores 0.3", cpus: 0.1, memory: 64 * MiB})
	if err != nil {
		t.Fatal(err)
	}
	h.start()
	eventually(t, 30*time.Second, "it says that the key is another", func() bool {
		st, err := h.status()
		return err == nil && st.Degraded && strings.Contains(strings.ToLower(strings.Join(st.Problems, "\n")), "key")
	})
	eventually(t, 30*time.Second, "it goes on for its own host", func() bool { return b.kernel.Quota() > 0.15 })
	if n := h.says("key"); n > 10 {
		t.Errorf("its log says %d times that the key is another", n)
	}
	f.undisturbed(was)
	f.intact()
}

// TestRow14DuplicateName: a second node of a name refuses to run, and names the
// address of the first.
func TestRow14DuplicateName(t *testing.T) {
	needAll(t)
	f := newFleet(t, 3).start().watch()
	was, taken := f.terms(), f.hosts[1]
	h := hosts(t, guest)[0]
	h.configure(taken.name(), section(h.n, keyFile(t, "key")))
	h.launch()
	code, took, err := h.daemon().wait(30 * time.Second)
	if err != nil || code != 78 {
		t.Fatalf("a second node named %s ended with code %d, want 78: %v", taken.name(), code, err)
	}
	t.Logf("it ended after %v", took)
	if !strings.Contains(string(h.log()), address(taken.n)) {
		t.Errorf("it does not say that %s has the name:\n%s", address(taken.n), tail(h.log(), 5))
	}
	f.undisturbed(was)
	f.intact()
}

// TestRow15ClonedState: a host that was made from another's image, state and all,
// does not become that other.
func TestRow15ClonedState(t *testing.T) {
	needAll(t)
	f := newFleet(t, 3).start().watch()
	was, original := f.terms(), f.hosts[1]
	h := hosts(t, guest)[0]
	if out, err := exec.Command("cp", "-a", original.path("data"), h.path("data")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	h.configure(h.name(), section(h.n, keyFile(t, "key")))
	h.launch()
	// Both hosts are one machine here: nothing but the other's presence tells.
	eventually(t, 40*time.Second, "the clone ends, or is another node", func() bool {
		m, err := h.members()
		return !h.daemon().alive() || err == nil && m.Self[:8] != original.short()
	})
	if !h.daemon().alive() {
		if code, _, _ := h.daemon().wait(time.Second); code != 78 || !strings.Contains(string(h.log()), address(original.n)) {
			t.Errorf("the clone ended with code %d and:\n%s", code, tail(h.log(), 5))
		}
		f.undisturbed(was)
	}
	f.intact()
}

// TestRow17Row19Row20Plaintext: without a key a daemon does not speak to other hosts
// at all, and what a stranger sends in plain text is not read.
func TestRow17Row19Row20Plaintext(t *testing.T) {
	needAll(t)
	f := newFleet(t, 3).start().watch()
	was := f.terms()
	h := hosts(t, guest)[0]
	h.configure(h.name(), strings.Replace(section(h.n, ""), `key_file = ""`, "", 1))
	h.launch()
	if code, _, err := h.daemon().wait(20 * time.Second); err != nil || code != 78 {
		t.Errorf("without a key it ended with code %d, want 78: %v", code, err)
	}
	refused := f.hosts[0].metric(trustRefused)
	if found := h.asks("plain " + address(h.n) + " " + address(1) + ":7946"); found != "0 true\n" {
		t.Errorf("a node without a key found others (how many, refused): %s", found)
	}
	f.undisturbed(was)
	if is := f.hosts[0].metric(trustRefused); is <= refused {
		t.Errorf("%s refused %v, and %v after a node without a key was there", f.hosts[0].name(), refused, is)
	}
	before := map[*host]int{}
	for _, one := range f.hosts {
		before[one] = len(one.log())
	}
	for _, port := range []string{":7946", ":7947"} {
		p, err := h.helper("flood " + address(1) + port)
		if err != nil {
			t.Fatal(err)
		}
		if code, _, err := p.wait(time.Minute); err != nil || code != 0 {
			log, _ := os.ReadFile(h.path("helper.log"))
			t.Fatalf("no flood: code %d, %v: %s", code, err, log)
		}
		f.undisturbed(was)
	}
	if grown := len(f.hosts[0].log()) - before[f.hosts[0]]; grown > 64<<10 {
		t.Errorf("the flood made %d KiB of log", grown>>10)
	}
	f.intact()
}
