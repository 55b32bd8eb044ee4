package docker_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/effiscale/effiscale/docker"
)

// dockerConfig is a directory as docker(1) has it, with contexts by name.
type dockerConfig struct {
	t   *testing.T
	dir string
}

func (d dockerConfig) write(path, text string) string {
	d.t.Helper()
	path = filepath.Join(d.dir, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		d.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		d.t.Fatal(err)
	}
	return path
}

func contextID(name string) string {
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:])
}

func (d dockerConfig) context(name, host, more string) {
	d.t.Helper()
	d.write("contexts/meta/"+contextID(name)+"/meta.json",
		fmt.Sprintf(`{"Name":%q,"Metadata":{},"Endpoints":{"docker":{"Host":%q%s}}}`, name, host, more))
}

// TestRow138Address: daemon, doctor, demo and validate find the Engine by one rule, docker(1)'s,
// and what cannot be used is refused with the reason.
func TestRow138Address(t *testing.T) {
	d := dockerConfig{t, t.TempDir()}
	d.context("rootless", "unix:///run/user/1000/docker.sock", "")
	d.context("remote", "ssh://root@far", "")
	d.context("open", "tcp://10.0.0.5:2375", "")
	d.context("secret", "tcp://10.0.0.5", "")
	d.write("contexts/tls/"+contextID("secret")+"/docker/ca.pem", "")
	d.context("blind", "tcp://10.0.0.5:2376", `,"SkipTLSVerify":true`)
	d.context("nothing", "", "")
	d.write("contexts/meta/"+contextID("half")+"/meta.json", `{"Name":"ha`)
	current := func(name string) string {
		dir := t.TempDir()
		dockerConfig{t, dir}.write("config.json", fmt.Sprintf(`{"auths":{},"currentContext":%q}`, name))
		if err := os.Symlink(filepath.Join(d.dir, "contexts"), filepath.Join(dir, "contexts")); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	home := t.TempDir()
	if err := os.Symlink(current("rootless"), filepath.Join(home, ".docker")); err != nil {
		t.Fatal(err)
	}
	bad := dockerConfig{t, t.TempDir()}
	bad.write("config.json", "{")
	certs := filepath.Join(d.dir, "contexts/tls", contextID("secret"), "docker")
	for _, c := range []struct {
		name, configured, env string
		want, from            string // want: the address, or a part of the error
	}{
		{"nothing", "", "HOME=/nonexistent", "unix:///var/run/docker.sock", "the default"},
		{"configured", "unix:///x", "DOCKER_HOST=unix:///y DOCKER_CONTEXT=open", "unix:///x", "docker.host"},
		{"DOCKER_HOST", "", "DOCKER_HOST=unix:///y DOCKER_CONTEXT=open", "unix:///y", "DOCKER_HOST"},
		{"no path", "", "DOCKER_HOST=unix://", "unix:///var/run/docker.sock", "DOCKER_HOST"},
		{"no port", "", "DOCKER_HOST=tcp://localhost", "tcp://localhost:2375", "DOCKER_HOST"},
		{"no host", "", "DOCKER_HOST=tcp://:2375/", "tcp://127.0.0.1:2375", "DOCKER_HOST"},
		{"IPv6", "", "DOCKER_HOST=tcp://[::1]", "tcp://[::1]:2375", "DOCKER_HOST"},
		{"DOCKER_CONTEXT", "", "DOCKER_CONTEXT=open DOCKER_CONFIG=" + current("rootless"), "tcp://10.0.0.5:2375",
			"docker context open of DOCKER_CONTEXT"},
		{"DOCKER_CONTEXT=default", "", "DOCKER_CONTEXT=default DOCKER_CONFIG=" + current("rootless"),
			"unix:///var/run/docker.sock", "the default"},
		{"current", "", "DOCKER_CONFIG=" + current("rootless"), "unix:///run/user/1000/docker.sock", "docker context rootless"},
		{"current of HOME", "", "HOME=" + home, "unix:///run/user/1000/docker.sock", "docker context rootless"},
		{"current is default", "", "DOCKER_CONFIG=" + current("default"), "unix:///var/run/docker.sock", "the default"},
		{"half a config.json", "", "DOCKER_CONFIG=" + bad.dir, "unix:///var/run/docker.sock", "the default"},
		{"TLS of a context", "", "DOCKER_CONTEXT=secret DOCKER_CONFIG=" + d.dir, "tcp://10.0.0.5:2376 with TLS",
			"docker context secret"},
		{"TLS of the environment", "", "DOCKER_HOST=tcp://h DOCKER_TLS_VERIFY=1 DOCKER_CERT_PATH=" + certs,
			"tcp://h:2376 with TLS", "DOCKER_HOST"},
		{"TLS of the environment in the file", "tcp://h:1", "DOCKER_TLS_VERIFY=1 DOCKER_CERT_PATH=" + certs,
			"tcp://h:1 with TLS", "docker.host"},
		{"ssh", "", "DOCKER_CONTEXT=remote DOCKER_CONFIG=" + d.dir, "starts no program", ""},
		{"ssh in DOCKER_HOST", "", "DOCKER_HOST=ssh://far", "starts no program", ""},
		{"npipe", "", "DOCKER_HOST=npipe:////./pipe/docker_engine", "Windows", ""},
		{"fd", "", "DOCKER_HOST=fd://", "listen", ""},
		{"no scheme", "", "DOCKER_HOST=/var/run/docker.sock", "comes from DOCKER_HOST", ""},
		{"unverified", "", "DOCKER_CONTEXT=blind DOCKER_CONFIG=" + d.dir, "does not verify", ""},
		{"missing", "", "DOCKER_CONTEXT=gone DOCKER_CONFIG=" + d.dir, "docker context ls", ""},
		{"current is missing", "", "DOCKER_CONFIG=" + current("gone"), "docker context gone of", ""},
		{"half a context", "", "DOCKER_CONTEXT=half DOCKER_CONFIG=" + d.dir, "cannot read docker context half", ""},
		{"without an address", "", "DOCKER_CONTEXT=nothing DOCKER_CONFIG=" + d.dir, "no address", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, err := docker.Find(c.configured, strings.Fields(c.env))
			switch {
			case err != nil && (c.from != "" || !strings.Contains(err.Error(), c.want)):
				t.Errorf("%v", err)
			case err != nil:
			case c.from == "":
				t.Errorf("got %s, want an error with %q", a, c.want)
			case !strings.HasPrefix(a.String(), c.want+" ("+c.from):
				t.Errorf("got %s", a)
			}
		})
	}
}

// TestRow138TLS: an Engine with TLS is verified by the certificates of the address, and one with
// another certificate is refused.
func TestRow138TLS(t *testing.T) {
	server := func() *httptest.Server {
		s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Api-Version", "1.41")
			w.Header().Set("Content-Type", "application/json")
			if strings.HasSuffix(r.URL.Path, "/info") {
				_, _ = w.Write([]byte(`{"NCPU":3,"MemTotal":1000000,"ServerVersion":"20.10.24"}`))
			}
		}))
		t.Cleanup(s.Close)
		return s
	}
	s := server()
	d := dockerConfig{t, t.TempDir()}
	d.write("ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})))
	ask := func(s *httptest.Server, dir string) (int, error) {
		c, err := docker.Open(docker.Options{Host: "tcp://" + s.Listener.Addr().String(), CertDir: dir, Log: zerolog.Nop()})
		if err != nil {
			return 0, err
		}
		defer c.Close()
		h, err := c.Host(t.Context())
		return h.CPUs, err
	}
	if cpus, err := ask(s, d.dir); err != nil || cpus != 3 {
		t.Errorf("%d CPUs, %v", cpus, err)
	}
	if _, err := ask(s, ""); err == nil {
		t.Error("no TLS: no error")
	}
	other := dockerConfig{t, t.TempDir()}
	if _, err := ask(s, other.dir); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("another authority: %v", err)
	}
	other.write("ca.pem", "nonsense")
	if _, err := ask(s, other.dir); err == nil || !strings.Contains(err.Error(), "ca.pem has no certificate") {
		t.Errorf("nonsense: %v", err)
	}
}
