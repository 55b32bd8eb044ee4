package node

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/effiscale/effiscale/node/api"
	"github.com/effiscale/effiscale/node/config"
	"github.com/effiscale/effiscale/node/doctor"
)

// certificate writes a certificate that is valid until an instant, and its key.
func certificate(t *testing.T, dir, name string, from, until time.Time) (cert, key string) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	is := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: from, NotAfter: until, DNSNames: []string{"localhost"}}
	der, err := x509.CreateCertificate(rand.Reader, is, is, public, private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key")
	for path, block := range map[string]*pem.Block{
		cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: pkcs8}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// fileCase is one configuration: settings of the environment, and what is said of it.
type fileCase struct {
	env     []string
	fault   string // ends the start
	warning string
}

// TestRow132Files: row 132, a file that the configuration names is judged alike by validate, the
// start, the reload and the doctor, with the same text.
func TestRow132Files(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	write := func(name, text string, mode os.FileMode) string {
		if err := errors.Join(os.WriteFile(at(name), []byte(text), mode), os.Chmod(at(name), mode)); err != nil {
			t.Fatal(err)
		}
		return at(name)
	}
	if err := errors.Join(syscall.Mkfifo(at("pipe"), 0o600), os.MkdirAll(at("keyed"), 0o700),
		os.MkdirAll(at("db/effiscale.db"), 0o700), os.MkdirAll(at("folder"), 0o700)); err != nil {
		t.Fatal(err)
	}
	write("keyed/node.key", "no key", 0o600)
	file := write("file", "text", 0o600)
	now := time.Now()
	good, goodKey := certificate(t, dir, "good", now.Add(-time.Hour), now.Add(90*24*time.Hour))
	old, oldKey := certificate(t, dir, "old", now.Add(-48*time.Hour), now.Add(-24*time.Hour))
	soon, soonKey := certificate(t, dir, "soon", now.Add(-time.Hour), now.Add(48*time.Hour))
	early, earlyKey := certificate(t, dir, "early", now.Add(24*time.Hour), now.Add(90*24*time.Hour))
	open, openKey := certificate(t, dir, "open", now.Add(-time.Hour), now.Add(90*24*time.Hour))
	if err := os.Chmod(openKey, 0o644); err != nil {
		t.Fatal(err)
	}
	tls := func(cert, key string) []string {
		return []string{"EFFISCALE_API_TLS_CERT=" + cert, "EFFISCALE_API_TLS_KEY=" + key}
	}
	one := func(name, value string) []string { return []string{"EFFISCALE_" + name + "=" + value} }
	for name, c := range map[string]fileCase{
		"all well":             {},
		"a certificate":        {env: tls(good, goodKey)},
		"no tokens file":       {env: one("API_TOKENS_FILE", at("none")), fault: "api.tokens_file"},
		"bad tokens":           {env: one("API_TOKENS_FILE", file), fault: "file:1: a line is role:sha256"},
		"open tokens":          {env: one("API_TOKENS_FILE", write("open-tokens", "x", 0o666)), fault: "chmod 600"},
		"a pipe of tokens":     {env: one("API_TOKENS_FILE", at("pipe")), fault: "not a regular file"},
		"expired":              {env: tls(old, oldKey), warning: old + " expired on "},
		"ends soon":            {env: tls(soon, soonKey), warning: soon + " expires on "},
		"not yet valid":        {env: tls(early, earlyKey), warning: early + " is valid from "},
		"a readable key":       {env: tls(open, openKey), warning: openKey + " can be used by others (mode 0644); allowed: 0600"},
		"another key":          {env: tls(good, oldKey), fault: "api.tls_key " + oldKey},
		"no certificate":       {env: tls(at("none"), goodKey), fault: "api.tls_cert " + at("none")},
		"a pipe of a key":      {env: tls(good, at("pipe")), fault: "not a regular file"},
		"a readable node key":  {env: one("CLUSTER_KEY_FILE", write("open-key", "x", 0o644)), fault: "chmod 600"},
		"no cluster key":       {env: one("CLUSTER_KEY_FILE", at("none")), fault: "cluster.key_file"},
		"a bad cluster key":    {env: one("CLUSTER_KEY_FILE", file), fault: "line 1"},
		"data_dir is a file":   {env: one("NODE_DATA_DIR", file), fault: "node.data_dir " + file},
		"data_dir in a file":   {env: one("NODE_DATA_DIR", filepath.Join(file, "x")), fault: "node.data_dir"},
		"a folder as database": {env: one("NODE_DATA_DIR", at("db")), fault: "not a regular file"},
		"a bad node.key":       {env: one("NODE_DATA_DIR", at("keyed")), fault: "node.key"},
		"socket is a file":     {env: one("API_SOCKET", file), fault: "exists and is not a socket"},
		"socket is a folder":   {env: one("API_SOCKET", at("folder")), fault: "exists and is not a socket"},
		"socket in a file":     {env: one("API_SOCKET", filepath.Join(file, "s")), fault: "api.socket"},
	} {
		t.Run(name, func(t *testing.T) { c.check(t) })
	}
}

// check starts a node with the settings, and asks the others about them.
func (c fileCase) check(t *testing.T) {
	dir := t.TempDir()
	env := []string{
		"EFFISCALE_NODE_DATA_DIR=" + filepath.Join(dir, "data"), "EFFISCALE_API_SOCKET=" + filepath.Join(dir, "s"),
		"EFFISCALE_CLUSTER_BIND=127.0.0.1:0", "EFFISCALE_API_MONITOR=", "EFFISCALE_API_CONTROLLER=",
		"EFFISCALE_API_EXECUTION=127.0.0.1:0",
		"EFFISCALE_DOCKER_HOST=unix://" + filepath.Join(dir, "none"),
	}
	for _, set := range c.env {
		name, _, _ := strings.Cut(set, "=")
		env = append(slices.DeleteFunc(env, func(s string) bool { return strings.HasPrefix(s, name+"=") }), set)
	}
	text, warnings, err := Validate("", env)
	c.judged(t, "validate", warnings, err)
	if text == "" {
		t.Error("validate shows no values")
	}
	out := &bytes.Buffer{}
	n, err := New(t.Context(), Options{Out: out, Env: env})
	if err == nil {
		if err := n.Stop(); err != nil {
			t.Error(err)
		}
	}
	if c.fault != "" { // refused before the loop is asked
		n := blank(Options{Env: env})
		n.cfg.Store(&config.Config{})
		n.metrics = api.NewMetrics("test")
		c.judged(t, "reload", nil, n.Reload(t.Context()))
	}
	c.judged(t, "start", []string{out.String()}, err)
	if c.fault != "" && !errors.Is(err, ErrConfig) {
		t.Errorf("not an error of the configuration: %v", err)
	}
	for _, v := range doctor.Run(t.Context(), doctor.Options{Env: env}) {
		if v.Name != "files" {
			continue
		}
		if want := c.fault + c.warning; v.OK != (want == "") || !strings.Contains(v.Detail, want) ||
			!v.OK && (v.Severity == "error") != (c.fault != "") {
			t.Errorf("doctor: %+v", v)
		}
	}
}

func (c fileCase) judged(t *testing.T, by string, warnings []string, err error) {
	t.Helper()
	if (err != nil) != (c.fault != "") || err != nil && !strings.Contains(err.Error(), c.fault) {
		t.Errorf("%s: %v, want %q", by, err, c.fault)
	}
	if !strings.Contains(strings.Join(warnings, "\n"), c.warning) {
		t.Errorf("%s: warnings %q, want %q", by, warnings, c.warning)
	}
}

// TestRow133DiskFault: row 133, a disk that is full or fails is no error of the configuration.
func TestRow133DiskFault(t *testing.T) {
	for _, cause := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS, syscall.EIO} {
		err := configFault(&os.PathError{Op: "write", Path: "node.key", Err: cause})
		if got := diskFault(err); !errors.Is(got, ErrDisk) || !errors.Is(got, cause) || errors.Is(got, ErrConfig) {
			t.Errorf("%v: %v", cause, got)
		}
	}
	if err := diskFault(configFault(os.ErrNotExist)); errors.Is(err, ErrDisk) || !errors.Is(err, ErrConfig) {
		t.Error(err)
	}
}
