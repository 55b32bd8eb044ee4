package api

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

func options() Options { return Options{Log: zerolog.Nop(), Version: "test"} }

// bindError is what New or Bind says.
func bindError(t *testing.T, o Options) error {
	t.Helper()
	s, err := New((&fakeDaemon{}).backend(), o)
	if err != nil {
		return err
	}
	defer s.Close(context.Background())
	return s.Bind()
}

func wantWords(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error; want one with %q", words)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q is not said in: %v", w, err)
		}
	}
}

func TestBindBeforeServe(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	o := options()
	o.Monitor, o.Controller = "127.0.0.1:0", taken.Addr().String()
	o.Socket = filepath.Join(t.TempDir(), "s")
	wantWords(t, bindError(t, o), "controller", taken.Addr().String(), "address already in use", "api.controller")
	if _, err := os.Lstat(o.Socket); err == nil {
		t.Error("a socket is left after a failed Bind")
	}
	for _, bad := range []string{"127.0.0.1", "127.0.0.1:99999", "no such host:1"} {
		o := options()
		o.Execution = bad
		wantWords(t, bindError(t, o), "cannot serve execution on "+bad, "api.execution")
	}
	o = options()
	o.Monitor = "192.0.2.1:0" // not an address of this machine
	o.TokensFile, o.TLSCert, o.TLSKey = secrets(t)
	wantWords(t, bindError(t, o), "192.0.2.1", "an address of this machine")
}

// TestRow56BeyondLoopback: row 56, no service is open to others without TLS and
// a token, and the message says how to make both.
func TestRow56BeyondLoopback(t *testing.T) {
	tokens, cert, key := secrets(t)
	for _, address := range []string{"0.0.0.0:0", ":0", "[::]:0"} {
		for _, half := range []Options{{}, {TokensFile: tokens}, {TLSCert: cert, TLSKey: key}} {
			o := half
			o.Execution, o.Log = address, zerolog.Nop()
			wantWords(t, bindError(t, o), address, "openssl req", "sha256sum", "api.tokens_file", "api.tls_cert",
				`"127.0.0.1:0"`)
		}
	}
	o := options()
	o.TLSCert = cert
	wantWords(t, bindError(t, o), "api.tls_key")
	o.TLSKey = tokens
	wantWords(t, bindError(t, o), tokens)
}

const secret = "a secret for tests"

// secrets writes a tokens file with one token of each role, and a certificate.
func secrets(t *testing.T) (tokens, cert, key string) {
	t.Helper()
	dir := t.TempDir()
	var text strings.Builder
	text.WriteString("# role:sha256:name\n\n")
	for _, role := range []string{"read", "operate", "admin"} {
		fmt.Fprintf(&text, "%s:%x:%s-person\n", role, sha256.Sum256([]byte(secret+role)), role)
	}
	pair, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	is := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, is, is, &pair.PublicKey, pair)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalECPrivateKey(pair)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	return write("tokens", []byte(text.String())),
		write("crt", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		write("key", pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: private}))
}

// TestTokenWithALongName: any name that the tokens file may hold is one that may scale.
func TestTokenWithALongName(t *testing.T) {
	name := strings.Repeat("n", maxName)
	path := filepath.Join(t.TempDir(), "tokens")
	line := fmt.Appendf(nil, "operate:%x:%s\n", sha256.Sum256([]byte(secret)), name)
	if err := os.WriteFile(path, line, 0o600); err != nil {
		t.Fatal(err)
	}
	h := serveWith(t, Options{TokensFile: path})
	status, body := h.ask(t, Execution, "POST", "/scale/vertical", `{"container_id":"web","direction":"up"}`,
		"Authorization", "Bearer "+secret)
	if status != http.StatusOK || len(h.d.scales) != 1 || h.d.scales[0].By != "api token "+name {
		t.Errorf("%d %s, %+v", status, body, h.d.scales)
	}
}

// TestRow56Tokens: row 56, roles over TLS.
func TestRow56Tokens(t *testing.T) {
	tokens, cert, key := secrets(t)
	h := serveWith(t, Options{TokensFile: tokens, TLSCert: cert, TLSKey: key})
	pem, err := os.ReadFile(cert)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	config := &tls.Config{RootCAs: roots}
	transport := &http.Transport{TLSClientConfig: config}
	defer transport.CloseIdleConnections()
	ask := func(service, call, body, authorization string) (int, string) {
		t.Helper()
		method, path, _ := strings.Cut(call, " ")
		req, _ := http.NewRequestWithContext(t.Context(), method, "https://"+h.Addr(service)+path, strings.NewReader(body))
		req.Header.Set("Content-Type", "application/json")
		if authorization != "" {
			req.Header.Set("Authorization", authorization)
		}
		resp, err := (&http.Client{Transport: transport}).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.StatusCode == 401 && resp.Header.Get("WWW-Authenticate") == "" {
			t.Error("401 without WWW-Authenticate")
		}
		b, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(b)
	}
	const up = `{"container_id":"web","direction":"up"}`
	for _, c := range []struct {
		service, call, body, authorization string
		status                             int
	}{
		{Monitor, "GET /health", "", "", 401},
		{Monitor, "GET /metrics", "", "", 401},
		{Monitor, "GET /openapi.json", "", "Bearer ", 401},
		{Monitor, "GET /health", "", "Bearer wrong", 401},
		{Monitor, "GET /health", "", "Basic " + secret + "read", 401},
		{Monitor, "GET /health", "", "Bearer " + secret + "read", 200},
		{Monitor, "GET /nothing", "", "Bearer wrong", 401},
		{Execution, "POST /scale/vertical", up, "Bearer " + secret + "read", 403},
		{Execution, "POST /scale/vertical", up, "bearer " + secret + "operate", 200},
		{Controller, "POST /decision", `{"cpu_usage":1,"memory_usage":1}`, "Bearer " + secret + "read", 200},
		{Controller, "POST /register", `{"controller_id":"c2","endpoint":"h:1"}`, "Bearer " + secret + "operate", 403},
		{Controller, "POST /register", `{"controller_id":"c2","endpoint":"h:1"}`, "Bearer " + secret + "admin", 200},
	} {
		status, body := ask(c.service, c.call, c.body, c.authorization)
		if status != c.status {
			t.Errorf("%s with %q: status %d, want %d", c.call, c.authorization, status, c.status)
		}
		if status > 400 {
			isProblem(t, body, "token")
		}
		if strings.Contains(body, secret) {
			t.Error("the answer holds the token")
		}
	}
	if by := h.d.scales[0].By; by != "api token operate-person" {
		t.Errorf("by %q", by)
	}
	if conn, err := tls.Dial("tcp", h.Addr(Monitor), &tls.Config{RootCAs: roots, MaxVersion: tls.VersionTLS11,
		MinVersion: tls.VersionTLS10}); err == nil {
		conn.Close()
		t.Error("TLS 1.1 is accepted")
	}
}

func TestTokensFile(t *testing.T) {
	sum := strings.Repeat("ab", 32)
	for text, want := range map[string]string{
		"read:" + sum:                            "",
		"# c\n\nadmin:" + sum + ":me:too\n":      "",
		"":                                       "no token",
		"# only\n":                               "no token",
		"root:" + sum:                            ":1:",
		"read:abc":                               ":1:",
		"read:" + sum + "ab":                     ":1:",
		"read:" + sum + "\nread":                 ":2:",
		"read:" + sum + ":a\x1b[31m":             ":1:",
		strings.Repeat("read:"+sum+"\n", 257):    "more than 256",
		strings.Repeat("#", maxTokenFile+1) + "": "larger",
	} {
		path := filepath.Join(t.TempDir(), "tokens")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := readTokens(path)
		if want == "" && err != nil {
			t.Error(err)
		}
		if want != "" {
			wantWords(t, err, want, path)
		}
	}
	path := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(path, []byte("read:"+sum), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	_, err := readTokens(path)
	wantWords(t, err, "chmod 600")
	_, err = readTokens(path + "x")
	wantWords(t, err, "api.tokens_file", "no such file")
}

// TestCloseIsFast: a call that hangs and a client that idles do not hold it up.
func TestCloseIsFast(t *testing.T) {
	h := serve(t)
	h.d.hang = true
	c := h.dial(t, Monitor)
	fmt.Fprintf(c, "GET /metrics/web HTTP/1.1\r\nHost: %s\r\n\r\n", h.Addr(Monitor))
	for end := time.Now().Add(patience); len(h.d.asked()) == 0 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	h.dial(t, Controller)
	begun := time.Now()
	h.Close(context.Background())
	h.Close(context.Background())
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("Close took %v", took)
	}
	if _, err := os.Lstat(h.o.Socket); err == nil {
		t.Error("the socket is still there")
	}
	if _, err := net.Dial("tcp", h.Addr(Monitor)); err == nil {
		t.Error("the port is still open")
	}
}

func TestServeEndsWithContext(t *testing.T) {
	o := options()
	o.Monitor = "127.0.0.1:0"
	s, err := New((&fakeDaemon{}).backend(), o)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Bind(); err != nil {
		t.Fatal(err)
	}
	if s.Addr(Monitor) == "" || s.Addr(Execution) != "" || s.Addr("socket") != "" {
		t.Error("Addr")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Serve(ctx); err != nil {
		t.Error(err)
	}
}

// TestServeTellsOfDeadListener: a listener that fails ends Serve with an error.
func TestServeTellsOfDeadListener(t *testing.T) {
	o := options()
	o.Monitor = "127.0.0.1:0"
	s, err := New((&fakeDaemon{}).backend(), o)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Bind(); err != nil {
		t.Fatal(err)
	}
	s.closeListeners()
	wantWords(t, s.Serve(t.Context()), "monitor")
}

// TestCloseBeforeServe: a stop that comes during the start wins, whichever of
// the two goroutines is first.
func TestCloseBeforeServe(t *testing.T) {
	for range 20 {
		o := options()
		o.Monitor = "127.0.0.1:0"
		s, err := New((&fakeDaemon{}).backend(), o)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Bind(); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		served := make(chan error, 1)
		go func() { served <- s.Serve(ctx) }()
		s.Close(t.Context())
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}
}
