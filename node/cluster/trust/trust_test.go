package trust

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// identity is the nth of a test; the same in every run.
func identity(t testing.TB, n byte) *Identity {
	t.Helper()
	id, err := NewIdentity(rand.NewChaCha8([32]byte{n}))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestIDIsTheFingerprint(t *testing.T) {
	id := identity(t, 1)
	der, err := x509.MarshalPKIXPublicKey(id.Public())
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(der)
	if want := hex.EncodeToString(sum[:16]); string(id.ID()) != want {
		t.Errorf("id is %s, want %s", id.ID(), want)
	}
	if got := identity(t, 1).ID(); got != id.ID() {
		t.Errorf("the same chance made %s and %s", id.ID(), got)
	}
	for _, bad := range [][]byte{nil, make([]byte, 31), make([]byte, 33)} {
		if got := IDOf(bad); got != "" {
			t.Errorf("a key of %d bytes has the id %s", len(bad), got)
		}
	}
	if _, err := NewIdentity(strings.NewReader("short")); err == nil {
		t.Error("a key was made of 5 bytes of chance")
	}
}

// TestRow42CertificateOutlivesSkew: clocks that are years apart find the
// certificate valid, should anybody look at its dates.
func TestRow42CertificateOutlivesSkew(t *testing.T) {
	id, now := identity(t, 1), time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)
	cert, err := id.Certificate(now)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert.Leaf)
	for _, skew := range []time.Duration{0, -9 * 365 * 24 * time.Hour, 50 * 365 * 24 * time.Hour} {
		_, err := cert.Leaf.Verify(x509.VerifyOptions{DNSName: string(id.ID()), Roots: roots, CurrentTime: now.Add(skew)})
		if err != nil {
			t.Errorf("%v away: %v", skew, err)
		}
	}
	if got := IDOf(cert.Leaf.PublicKey.(ed25519.PublicKey)); got != id.ID() {
		t.Errorf("the certificate is of %s, want %s", got, id.ID())
	}
}

func TestLoadKey(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	first, made, err := LoadKey(dir)
	if err != nil || !made {
		t.Fatalf("first start: made %v, %v", made, err)
	}
	again, made, err := LoadKey(dir)
	if err != nil || made || again.ID() != first.ID() {
		t.Fatalf("second start: %s, made %v, %v; want %s", again.ID(), made, err, first.ID())
	}
	st, err := os.Stat(filepath.Join(dir, keyFile))
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the file is %v, %v; want mode 0600", st.Mode(), err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*new*")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestLoadKeyTogether(t *testing.T) {
	dir, ids := t.TempDir(), make([]knowledge.NodeID, 8)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			if id, _, err := LoadKey(dir); err == nil {
				ids[i] = id.ID()
			}
		})
	}
	wg.Wait()
	kept, _, err := LoadKey(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		if id != kept.ID() {
			t.Errorf("one start has %q, the file %q", id, kept.ID())
		}
	}
}

func TestLoadKeyRefuses(t *testing.T) {
	good := t.TempDir()
	if _, _, err := LoadKey(good); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(filepath.Join(good, keyFile))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		make func(path string) error
		want string
	}{
		{"others may read", func(p string) error { return os.WriteFile(p, whole, 0o644) }, "chmod 600"},
		{"the group may read", func(p string) error { return os.WriteFile(p, whole, 0o640) }, "0640"},
		{"empty", func(p string) error { return os.WriteFile(p, nil, 0o600) }, "PEM"},
		{"half", func(p string) error { return os.WriteFile(p, whole[:60], 0o600) }, "PEM"},
		{"two", func(p string) error { return os.WriteFile(p, append(bytes.Clone(whole), whole...), 0o600) }, "PEM"},
		{"huge", func(p string) error { return os.WriteFile(p, make([]byte, maxKeyFile+1), 0o600) }, "4096"},
		{"a directory", func(p string) error { return os.Mkdir(p, 0o700) }, "regular"},
		{"a link", func(p string) error { return os.Symlink(filepath.Join(good, keyFile), p) }, "symbolic"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, keyFile)
			if err := c.make(path); err != nil {
				t.Fatal(err)
			}
			if _, made, err := LoadKey(dir); err == nil || made || !strings.Contains(err.Error(), c.want) ||
				!strings.Contains(err.Error(), path) {
				t.Errorf("made %v, %v; want %q and the path", made, err, c.want)
			}
		})
	}
}
