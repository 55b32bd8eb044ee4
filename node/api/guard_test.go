package api

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// patience bounds every wait in these tests; what they wait for takes a
// fraction of a second.
const patience = 20 * time.Second

func (h *testServer) dial(t *testing.T, service string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", h.Addr(service))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return c.(*net.TCPConn)
}

// raw sends a request as it stands and reads one answer.
func (h *testServer) raw(t *testing.T, service, request string) (int, string) {
	t.Helper()
	c := h.dial(t, service)
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b)
}

// TestRow54HugeBody: row 54, a body of 10 GB is refused when 64 KiB were read.
func TestRow54HugeBody(t *testing.T) {
	h := serve(t)
	for _, framing := range []string{"Content-Length: 10737418240", "Transfer-Encoding: chunked"} {
		c := h.dial(t, Execution)
		fmt.Fprintf(c, "POST /scale/vertical HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\n%s\r\n\r\n",
			h.Addr(Execution), framing)
		sent, block := 0, bytes.Repeat([]byte("x"), 1<<16)
		if strings.HasPrefix(framing, "Transfer") {
			block = fmt.Appendf(nil, "%x\r\n%s\r\n", len(block), block)
		}
		const enough = 256 << 20 // what the kernel's buffers can take is far less
		for sent < enough {
			n, err := c.Write(block)
			sent += n
			if err != nil {
				break
			}
		}
		if sent >= enough {
			t.Errorf("%s: the server took %d bytes", framing, sent)
		}
	}
	status, body := h.ask(t, Execution, "POST", "/scale/vertical", strings.Repeat(" ", maxBody+1))
	if status != 413 {
		t.Errorf("status %d", status)
	}
	isProblem(t, body, "65536")
	if status, _ := h.ask(t, Execution, "POST", "/scale/vertical",
		`{"container_id":"web","direction":"up"}`+strings.Repeat(" ", maxBody-39)); status != 200 {
		t.Errorf("a body of just 64 KiB: status %d", status)
	}
}

// TestRow54Headers: row 54, a million headers.
func TestRow54Headers(t *testing.T) {
	h := serve(t)
	c := h.dial(t, Monitor)
	w := bufio.NewWriterSize(c, 1<<16)
	fmt.Fprintf(w, "GET /health HTTP/1.1\r\nHost: %s\r\n", h.Addr(Monitor))
	taken := 0
	for ; taken < 1_000_000; taken++ {
		if _, err := fmt.Fprintf(w, "X-%d: y\r\n", taken); err != nil {
			break
		}
	}
	if taken == 1_000_000 && w.Flush() == nil {
		t.Error("the server read a million headers")
	}
	if status, _ := h.raw(t, Monitor, "GET /health HTTP/1.1\r\nHost: "+h.Addr(Monitor)+"\r\nX: "+strings.Repeat("y",
		30<<10)+"\r\n\r\n"); status != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("a header of 30 KiB: status %d", status)
	}
}

// TestRow54Slowloris: row 54, clients that hold every connection and send
// nothing are cut, and the next one is served.
func TestRow54Slowloris(t *testing.T) {
	h := serve(t, func(s *Server) { s.limits.connections, s.limits.readHeader = 8, 200*time.Millisecond })
	var slow []net.Conn
	for range 20 {
		c := h.dial(t, Monitor)
		io.WriteString(c, "GET /health HTTP/1.1\r\nHo")
		slow = append(slow, c)
	}
	if status, _ := h.raw(t, Monitor, "GET /health HTTP/1.1\r\nHost: "+h.Addr(Monitor)+"\r\n\r\n"); status != 200 {
		t.Errorf("status %d", status)
	}
	for i, c := range slow {
		if _, err := io.ReadAll(c); err != nil && strings.Contains(err.Error(), "timeout") {
			t.Errorf("connection %d is still open: %v", i, err)
		}
	}
}

// TestRow54Connections: row 54, over the bound a connection waits for a place.
func TestRow54Connections(t *testing.T) {
	h := serve(t, func(s *Server) { s.limits.connections = 2 })
	request := "GET /health HTTP/1.1\r\nHost: " + h.Addr(Monitor) + "\r\n\r\n"
	var open []net.Conn
	for range 2 {
		c := h.dial(t, Monitor)
		io.WriteString(c, request)
		if _, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
	}
	third := h.dial(t, Monitor)
	io.WriteString(third, request)
	third.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	if n, err := third.Read(make([]byte, 1)); err == nil {
		t.Errorf("a third connection is served beside two: %d bytes", n)
	}
	open[0].Close()
	third.SetReadDeadline(time.Now().Add(patience))
	if _, err := http.ReadResponse(bufio.NewReader(third), nil); err != nil {
		t.Errorf("after one has gone: %v", err)
	}
}

// TestRow54SlowBody: row 54, a body that never ends.
func TestRow54SlowBody(t *testing.T) {
	h := serve(t, func(s *Server) { s.limits.read = 200 * time.Millisecond })
	status, body := h.raw(t, Execution, "POST /scale/vertical HTTP/1.1\r\nHost: "+h.Addr(
		Execution)+"\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
	if status != http.StatusRequestTimeout {
		t.Errorf("status %d", status)
	}
	isProblem(t, body, "in time")
}

// TestRow54NeverReads: row 54, a client that asks and never reads does not keep
// its place.
func TestRow54NeverReads(t *testing.T) {
	h := serve(t, func(s *Server) { s.limits.connections, s.limits.write = 1, 300*time.Millisecond })
	h.d.metrics = make([]Metric, 30_000) // some 10 MB of answer
	c := h.dial(t, Monitor)
	if err := c.SetReadBuffer(4096); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(c, "GET /metrics/web/history HTTP/1.1\r\nHost: %s\r\n\r\n", h.Addr(Monitor))
	if status, _ := h.raw(t, Monitor, "GET /health HTTP/1.1\r\nHost: "+h.Addr(Monitor)+"\r\n\r\n"); status != 200 {
		t.Errorf("status %d", status)
	}
}

// TestRow54Rate: row 54, a flood gets 429 and a time to wait.
func TestRow54Rate(t *testing.T) {
	h := serve(t)
	var served, refused int
	for range 3 * clientBurst {
		req, _ := http.NewRequestWithContext(t.Context(), "GET", "http://"+h.Addr(Monitor)+"/health", nil)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		switch resp.StatusCode {
		case 200:
			served++
		case 429:
			refused++
			if resp.Header.Get("Retry-After") != "1" {
				t.Error("no Retry-After")
			}
			isProblem(t, string(b), "too many")
		default:
			t.Fatalf("status %d", resp.StatusCode)
		}
	}
	if served < clientBurst {
		t.Errorf("only %d served", served)
	}
	t.Logf("%d served, %d refused", served, refused)
}

func TestLimiter(t *testing.T) {
	now := time.Unix(0, 0)
	l := newLimiter()
	count := func(n int, remote string) (passed int) {
		for range n {
			if l.allow(remote, now) {
				passed++
			}
		}
		return passed
	}
	if got := count(1000, "10.0.0.1:5"); got != clientBurst {
		t.Errorf("one client: %d, want %d", got, clientBurst)
	}
	if got := count(1, "10.0.0.1:6"); got != 0 {
		t.Error("another port is the same client")
	}
	if a, b := clientKey("[2001:db8::1]:1"), clientKey("[2001:db8::ffff]:1"); a != b {
		t.Error("a /64 is one client")
	}
	for i := range 100 {
		count(1000, fmt.Sprintf("10.1.0.%d:1", i))
	}
	if got := count(10, "10.2.0.1:1"); got != 0 {
		t.Errorf("over the global rate: %d", got)
	}
	for i := range 5000 {
		l.bucket(clientKey(fmt.Sprintf("10.%d.%d.1:1", 3+i/250, i%250)), now).AllowN(now, clientBurst)
	}
	if n := len(l.clients); n > maxClients {
		t.Errorf("%d buckets, at most %d", n, maxClients)
	}
	now = now.Add(time.Minute)
	if got := count(10, "172.16.0.1:1"); got != 10 {
		t.Errorf("after a minute: %d of 10", got)
	}
}

// TestRow55Paths: row 55, path tricks end at the service with 400.
func TestRow55Paths(t *testing.T) {
	h := serve(t)
	for _, ref := range []string{
		"..", ".", "../../etc/passwd", "%2e%2e", "%2e%2e%2fetc", "..%2f..", "%2E", "a%2fb", "a%5cb", "", "%00", "web%00",
		"%0a", "a%20b",
		"-web", ".web", "_web", "a", "1", "%ef%bc%91%ef%bc%91", "web%0d%0aX:1", "web;x", "web%25", strings.Repeat("a", 129),
		strings.Repeat("a", 10000),
		"web%ff", "%zz", "web/../web", "web//",
	} {
		for _, path := range []string{"GET /metrics/" + ref + "/history", "POST /monitor/start/" + ref, "GET /predictions/" +
			ref} {
			status, body := h.raw(t, Monitor, path+" HTTP/1.1\r\nHost: "+h.Addr(Monitor)+"\r\nContent-Length: 0\r\n\r\n")
			if status != 400 {
				t.Errorf("%.80s: status %d: %.200s", path, status, body)
			}
		}
	}
	for _, target := range []string{"*", "http://evil.example/health"} {
		if status, _ := h.raw(t, Monitor, "OPTIONS "+target+" HTTP/1.1\r\nHost: "+h.Addr(
			Monitor)+"\r\n\r\n"); status != 400 && status != 403 {
			t.Errorf("OPTIONS %s: status %d", target, status)
		}
		if status, _ := h.raw(t, Monitor, "GET "+target+" HTTP/1.1\r\nHost: "+h.Addr(Monitor)+"\r\n\r\n"); status != 400 &&
			status != 403 {
			t.Errorf("%s: status %d", target, status)
		}
	}
	if got := h.d.asked(); len(got) > 0 {
		t.Errorf("the daemon was asked %v", got)
	}
}

// TestRow55ShortPrefix: row 55, a short prefix can only be a name, and is not one.
func TestRow55ShortPrefix(t *testing.T) {
	h := serve(t)
	if status, body := h.ask(t, Monitor, "GET", "/metrics/0123abz", ""); status != 404 {
		t.Errorf("status %d %s", status, body)
	}
}

// TestRow25SlowDaemon: row 25, a call may take longer than its request took to
// arrive: net/http must not end it when the time to read is over.
func TestRow25SlowDaemon(t *testing.T) {
	h := serve(t, func(s *Server) {
		s.limits.read, s.limits.handle = 50*time.Millisecond, 400*time.Millisecond
		for _, d := range s.listeners[:3] {
			d.handler, _ = s.serviceHandler(d.name)
		}
	})
	h.d.hang = true
	if status, body := h.ask(t, Execution, "POST", "/scale/vertical",
		`{"container_id":"web","direction":"up"}`); status != 504 {
		t.Errorf("status %d: %s", status, body)
	}
	if status, body := h.ask(t, Monitor, "GET", "/metrics/web", ""); status != 504 {
		t.Errorf("status %d: %s", status, body)
	}
	if status, body := h.ask(t, Monitor, "POST", "/monitor/start/web", ""); status != 504 {
		t.Errorf("status %d: %s", status, body)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
	defer cancel()
	if _, err := OpRestore.Call(ctx, h.client(t), RestoreRequest{"web"}); KindOf(err) != KindTimeout {
		t.Errorf("over the socket: %v", err)
	}
}

func TestMethods(t *testing.T) {
	h := serve(t)
	for _, c := range []struct{ service, call, allow string }{
		{Monitor, "POST /metrics/web", "GET, HEAD"},
		{Monitor, "DELETE /metrics/web", "GET, HEAD"},
		{Monitor, "GET /monitor/start/web", "POST"},
		{Monitor, "PUT /", "GET, HEAD"},
		{Monitor, "OPTIONS /metrics", "GET, HEAD"},
		{Controller, "GET /decision", "POST"},
		{Controller, "GET /register", "POST"},
		{Execution, "GET /scale/vertical", "POST"},
		{Execution, "PATCH /scale/horizontal", "POST"},
		{Execution, "TRACE /history/web", "GET, HEAD"},
	} {
		method, path, _ := strings.Cut(c.call, " ")
		req, _ := http.NewRequestWithContext(t.Context(), method, "http://"+h.Addr(c.service)+path, nil)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != 405 || resp.Header.Get("Allow") != c.allow {
			t.Errorf("%s: status %d, Allow %q", c.call, resp.StatusCode, resp.Header.Get("Allow"))
		}
		isProblem(t, string(b), c.allow)
	}
	req, _ := http.NewRequestWithContext(t.Context(), "HEAD", "http://"+h.Addr(Monitor)+"/health", nil)
	resp, err := http.DefaultClient.Do(req)
	if err != nil || resp.StatusCode != 200 {
		t.Errorf("HEAD: %v %v", resp, err)
	}
	resp.Body.Close()
	if got := h.d.asked(); len(got) > 0 {
		t.Errorf("the daemon was asked %v", got)
	}
}

// TestRow56Rebinding: row 56, a Host header that is not ours is refused.
func TestRow56Rebinding(t *testing.T) {
	h := serveWith(t, Options{Hosts: []string{"effiscale.lan", "proxy.lan:443"}})
	port := h.Addr(Monitor)[strings.LastIndex(h.Addr(Monitor), ":"):]
	for host, want := range map[string]int{
		"127.0.0.1" + port: 200, "localhost" + port: 200, "LocalHost" + port: 200, "[::1]" + port: 200,
		"effiscale.lan": 200, "effiscale.lan:99": 200, "proxy.lan:443": 200,
		"proxy.lan": 403, "proxy.lan:444": 403, "evil.example" + port: 403, "127.0.0.1.evil.com" + port: 403,
		"127.0.0.1:1":               403,
		"localhost.evil.com" + port: 403, "localhost": 403, "xlocalhost" + port: 403, "10.0.0.1" + port: 403, "127.0.0.1" +
			port + port: 403, "localhost." + port: 403,
	} {
		if status, body := h.ask(t, Monitor, "GET", "/health", "", "Host", host); status != want {
			t.Errorf("Host %s: status %d, want %d: %s", host, status, want, body)
		}
	}
	status, body := h.raw(t, Monitor, "GET /health HTTP/1.0\r\n\r\n")
	if status != 403 {
		t.Errorf("no Host: status %d", status)
	}
	isProblem(t, body, "api.hosts")
}

// TestRow56Browser: row 56, a page in a browser cannot write; what only answers
// by GET changes nothing.
func TestRow56Browser(t *testing.T) {
	h := serve(t)
	const body = `{"container_id":"web","direction":"up"}`
	for _, headers := range [][]string{
		{"Origin", "http://evil.example"},
		{"Origin", "null"},
		{"Origin", "http://" + h.Addr(Execution)},
		{"Sec-Fetch-Site", "cross-site"},
		{"Sec-Fetch-Site", "same-site"},
	} {
		status, said := h.ask(t, Execution, "POST", "/scale/vertical", body, headers...)
		if status != 403 {
			t.Errorf("%v: status %d", headers, status)
		}
		isProblem(t, said, "browser")
	}
	for _, kind := range []string{
		"text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "",
		"application/json; charset=iso-8859-1", "application/json; charset=UTF-16", "application/json; charset=",
	} {
		if status, _ := h.ask(t, Execution, "POST", "/scale/vertical", body, "Content-Type", kind); status != 415 {
			t.Errorf("Content-Type %q: status %d", kind, status)
		}
	}
	if status, _ := h.ask(t, Execution, "POST", "/scale/vertical", body, "Content-Encoding", "gzip"); status != 415 {
		t.Errorf("gzip: status %d", status)
	}
	if got := h.d.asked(); len(got) > 0 {
		t.Errorf("the daemon was asked %v", got)
	}
	for _, charset := range []string{"utf-8", "UTF-8", `"utf-8"`, "utf8"} {
		if status, _ := h.ask(t, Execution, "POST", "/scale/vertical", body, "Content-Type",
			"application/json; charset="+charset); status != 200 {
			t.Errorf("charset %s: status %d", charset, status)
		}
	}
	req, _ := http.NewRequestWithContext(t.Context(), "GET", "http://"+h.Addr(Execution)+"/history/web", nil)
	req.Header.Set("Origin", "http://evil.example")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	for k := range resp.Header {
		if strings.HasPrefix(k, "Access-Control") {
			t.Errorf("a read gives %s to a page", k)
		}
	}
}

// TestReadsMutateNothing calls every GET and looks at what the daemon was asked.
func TestReadsMutateNothing(t *testing.T) {
	h := serve(t)
	for service, paths := range map[string][]string{
		Monitor:    {"/", "/metrics/web", "/metrics/web/history", "/predictions/web", "/health", "/metrics", "/openapi.json"},
		Controller: {"/neighbors", "/leader", "/leader?container_id=web"},
		Execution:  {"/history/web"},
	} {
		for _, p := range paths {
			if status, body := h.ask(t, service, "GET", p, ""); status != 200 {
				t.Errorf("%s: %d %s", p, status, body)
			}
		}
	}
	for _, call := range h.d.asked() {
		verb, _, _ := strings.Cut(call, " ")
		if slices.Contains([]string{"scale", "pause", "restore", "reload", "replicate", "watch", "register"}, verb) {
			t.Errorf("a GET led to %q", call)
		}
	}
}
