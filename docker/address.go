package docker

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strings"
)

// Address is where an Engine listens.
type Address struct {
	Host string // unix:///path or tcp://host:port
	// CertDir has ca.pem, cert.pem and key.pem for TLS; "": none.
	CertDir string
	From    string // what named it: "docker.host", "DOCKER_HOST", "docker context NAME", "the default"
}

// String is the address and what named it.
func (a Address) String() string {
	with := ""
	if a.CertDir != "" {
		with = " with TLS"
	}
	return fmt.Sprintf("%s%s (%s)", a.Host, with, a.From)
}

// Ports of tcp addresses without one, as docker(1) has them.
const plainPort, tlsPort = "2375", "2376"

// Find is the one rule by which every part of the program finds the Engine, that of
// docker(1): the configured address, else DOCKER_HOST, else the context that DOCKER_CONTEXT
// names, else the current context of config.json, else DefaultHost. env is as os.Environ.
func Find(configured string, env []string) (Address, error) {
	e := environment(env)
	var a Address
	name := e.get("DOCKER_CONTEXT")
	switch {
	case configured != "":
		a = Address{Host: configured, From: "docker.host"}
	case e.get("DOCKER_HOST") != "":
		a = Address{Host: e.get("DOCKER_HOST"), From: "DOCKER_HOST"}
	case name != "" && name != "default":
		return e.context(name, "DOCKER_CONTEXT")
	case name == "":
		if name = e.currentContext(); name != "" && name != "default" {
			return e.context(name, filepath.Join(e.configDir(), "config.json"))
		}
		fallthrough
	default:
		a = Address{Host: DefaultHost, From: "the default"}
	}
	if e.get("DOCKER_TLS_VERIFY") != "" && strings.HasPrefix(a.Host, "tcp://") {
		a.CertDir = e.get("DOCKER_CERT_PATH")
		if a.CertDir == "" {
			a.CertDir = e.configDir()
		}
	}
	return a.complete()
}

// complete fills in what docker(1) would, and refuses what cannot be used.
func (a Address) complete() (Address, error) {
	scheme, rest, _ := strings.Cut(a.Host, "://")
	switch {
	case scheme == "ssh":
		return a, a.refused("it needs the program ssh, and the daemon starts no program: run EffiScale on that host")
	case scheme == "npipe":
		return a, a.refused("named pipes are of Windows")
	case scheme == "fd":
		return a, a.refused("it is an address to listen at")
	case a.Host == "unix://":
		a.Host = DefaultHost
	case scheme == "tcp":
		port := plainPort
		if a.CertDir != "" {
			port = tlsPort
		}
		rest = strings.TrimSuffix(rest, "/")
		if strings.HasPrefix(rest, ":") {
			rest = "127.0.0.1" + rest
		}
		if _, _, err := net.SplitHostPort(rest); err != nil && rest != "" {
			rest = net.JoinHostPort(strings.Trim(rest, "[]"), port)
		}
		a.Host = "tcp://" + rest
	}
	if _, _, err := parseHost(a.Host); err != nil {
		return a, fmt.Errorf("%w; it comes from %s", err, a.From)
	}
	return a, nil
}

func (a Address) refused(why string) error {
	return fmt.Errorf("cannot use Docker host %q of %s: %s; or set docker.host (allowed: unix:///path/to/docker.sock, "+
		"tcp://host:port)", a.Host, a.From, why)
}

// environment are variables as "NAME=value".
type environment []string

func (e environment) get(name string) string {
	for i := len(e) - 1; i >= 0; i-- {
		if v, ok := strings.CutPrefix(e[i], name+"="); ok {
			return v
		}
	}
	return ""
}

// configDir is where docker(1) has its configuration; "": nowhere.
func (e environment) configDir() string {
	if dir := e.get("DOCKER_CONFIG"); dir != "" {
		return dir
	}
	home := e.get("HOME")
	if home == "" {
		if u, err := user.Current(); err == nil {
			home = u.HomeDir
		}
	}
	return filepath.Join(home, ".docker")
}

// maxConfig bounds the files of docker(1) that are read.
const maxConfig = 1 << 20

func readJSON(path string, into any) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return json.NewDecoder(io.LimitReader(f, maxConfig)).Decode(into)
}

// currentContext is the one that `docker context use` chose; "": none, or the file cannot be
// read.
func (e environment) currentContext() string {
	var c struct{ CurrentContext string }
	if readJSON(filepath.Join(e.configDir(), "config.json"), &c) != nil {
		return ""
	}
	return c.CurrentContext
}

// context reads a context of docker(1); by is what named it.
func (e environment) context(name, by string) (Address, error) {
	sum := sha256.Sum256([]byte(name))
	id := hex.EncodeToString(sum[:])
	a := Address{From: fmt.Sprintf("docker context %s of %s", clean(name), by)}
	var m struct {
		Name      string
		Endpoints map[string]struct {
			Host          string
			SkipTLSVerify bool
		}
	}
	err := readJSON(filepath.Join(e.configDir(), "contexts/meta", id, "meta.json"), &m)
	if err != nil {
		return a, fmt.Errorf("cannot read %s: %w; see `docker context ls`, or set docker.host", a.From, err)
	}
	to, ok := m.Endpoints["docker"]
	if !ok || to.Host == "" {
		return a, fmt.Errorf("cannot use %s: it has no address of a Docker Engine; or set docker.host", a.From)
	}
	a.Host = to.Host
	dir := filepath.Join(e.configDir(), "contexts/tls", id, "docker")
	if _, err := os.Stat(dir); err == nil {
		a.CertDir = dir
	}
	if to.SkipTLSVerify {
		return a, a.refused("it does not verify the Engine's certificate, so that any host could answer for it")
	}
	return a.complete()
}

// certificates are the TLS settings of a directory with ca.pem, and cert.pem with key.pem
// where the Engine wants a certificate of its clients.
func certificates(dir, address string) (*tls.Config, error) {
	if dir == "" {
		return nil, nil
	}
	fail := func(err error) (*tls.Config, error) {
		return nil, fmt.Errorf("cannot use the certificates in %s: %w", dir, err)
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return fail(err)
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host}
	ca, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	switch {
	case err == nil:
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(ca) {
			return fail(errors.New("ca.pem has no certificate"))
		}
	case !errors.Is(err, os.ErrNotExist):
		return fail(err)
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
	switch {
	case err == nil:
		c.Certificates = []tls.Certificate{pair}
	case !errors.Is(err, os.ErrNotExist):
		return fail(err)
	}
	return c, nil
}
