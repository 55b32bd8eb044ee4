package api

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// dialAs connects as another user: a socket belongs to the user of the thread that makes it.
func dialAs(t *testing.T, uid int, address string) net.Conn {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	was, err := unix.SetfsuidRetUid(uid)
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", address)
	if _, back := unix.SetfsuidRetUid(was); back != nil {
		t.Fatal(back)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return c
}

// sendOn sends one request on a connection and returns its answer.
func sendOn(t *testing.T, c net.Conn, r *bufio.Reader, call, body, headers string) (int, string) {
	t.Helper()
	method, path, _ := strings.Cut(call, " ")
	_, port, _ := net.SplitHostPort(c.RemoteAddr().String())
	if _, err := fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: localhost:%s\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n%s",
		method, path, port, headers, len(body), body); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b)
}

// TestRow128LocalUsers: row 128, without tokens, writes over loopback are for root, the daemon's
// own user and the socket's group; reads are for every user.
func TestRow128LocalUsers(t *testing.T) {
	users := map[int]bool{os.Geteuid(): true}
	if os.Geteuid() == 0 {
		users[4_000_000], users[65534] = false, false
	}
	for _, at := range []string{"127.0.0.1:0", "[::1]:0"} {
		h := serve(t, func(s *Server) {
			for _, d := range s.listeners[:3] {
				d.address = at
			}
		})
		for uid, may := range users {
			for _, q := range []struct {
				service, call, body string
				write               bool
			}{
				{Execution, "POST /scale/vertical", `{"container_id":"web","direction":"up"}`, true},
				{Execution, "POST /scale/horizontal", `{"container_id":"web","direction":"out","replicas":1}`, true},
				{Monitor, "POST /monitor/stop/web", "", true},
				{Monitor, "POST /monitor/start/web", "", true},
				{Controller, "POST /register", `{"controller_id":"c2","endpoint":"h:1"}`, true},
				{Controller, "POST /decision", `{"container_id":"web"}`, false},
				{Execution, "GET /history/web", "", false},
				{Monitor, "GET /metrics/web", "", false},
				{Monitor, "GET /metrics", "", false},
			} {
				c := dialAs(t, uid, h.Addr(q.service))
				r := bufio.NewReader(c)
				for range 2 { // the second is answered from what the first found out
					status, body := sendOn(t, c, r, q.call, q.body, "")
					if want := !q.write || may; want != (status == 200) || !want && status != 403 {
						t.Errorf("%s as %d: %d %s", q.call, uid, status, body)
					}
					if status == 403 {
						isProblem(t, body, "without a token only root")
						isProblem(t, body, "api.tokens_file")
						isProblem(t, body, userName(uint32(uid)))
					}
				}
			}
		}
	}
}

// TestRow128Mapped: an IPv6 socket that reached an IPv4 service is found too.
func TestRow128Mapped(t *testing.T) {
	h := serve(t)
	at := netip.MustParseAddrPort(h.Addr(Execution))
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "mapped")
	defer f.Close()
	to := &unix.SockaddrInet6{Port: int(at.Port()), Addr: netip.AddrFrom16(at.Addr().As16()).As16()}
	if err := unix.Connect(fd, to); err != nil {
		t.Fatal(err)
	}
	c, err := net.FileConn(f)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if status, body := sendOn(t, c, bufio.NewReader(c), "POST /scale/vertical", `{"container_id":"web","direction":"up"}`,
		""); status != 200 {
		t.Errorf("%d %s", status, body)
	}
}

// TestRow128Closed: of a connection that its process closed the kernel shows user 0; it is
// nobody's.
func TestRow128Closed(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	here, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer here.Close()
	remote, local := plain(here.RemoteAddr().(*net.TCPAddr)), plain(here.LocalAddr().(*net.TCPAddr))
	if uid, err := ownerOf(remote, local); err != nil || int(uid) != os.Geteuid() {
		t.Fatalf("%d, %v", uid, err)
	}
	_ = c.Close()
	if uid, err := ownerOf(remote, local); !errors.Is(err, errNoSocket) {
		t.Errorf("closed: user %d, %v", uid, err)
	}
	_ = here.Close()
	if uid, err := ownerOf(remote, local); !errors.Is(err, errNoSocket) {
		t.Errorf("both ends closed: user %d, %v", uid, err)
	}
	listening := plain(ln.Addr().(*net.TCPAddr))
	if uid, err := ownerOf(listening, remote); !errors.Is(err, errNoSocket) {
		t.Errorf("a listener: user %d, %v", uid, err)
	}
	if err := CheckLocalUsers(); err != nil {
		t.Error(err)
	}
	far := netip.MustParseAddrPort("10.0.0.1:80")
	for _, pair := range [][2]netip.AddrPort{{far, local}, {local, far}, {netip.MustParseAddrPort("[::1]:80"), local}} {
		if _, err := ownerOf(pair[0], pair[1]); !errors.Is(err, errNotLocal) {
			t.Errorf("%v: %v", pair, err)
		}
	}
}

// TestRow128Forwarded: what a proxy sends is not of the proxy's user, and what has no known
// peer is refused.
func TestRow128Forwarded(t *testing.T) {
	h := serve(t)
	const body = `{"container_id":"web","direction":"up"}`
	for _, name := range forwardedBy() {
		status, said := h.ask(t, Execution, "POST", "/scale/vertical", body, name, "10.0.0.9")
		if status != 403 {
			t.Errorf("%s: %d", name, status)
		}
		isProblem(t, said, name)
		if status, said := h.ask(t, Execution, "GET", "/history/web", "", name, "10.0.0.9"); status != 200 {
			t.Errorf("%s: %d %s", name, status, said)
		}
	}
	r, _ := http.NewRequestWithContext(t.Context(), "POST", "/scale/vertical", nil)
	if p := h.admitLocal(r); p == nil || p.status != 403 {
		t.Errorf("%+v", p)
	}
	if got := strings.Join(h.d.asked(), ";"); strings.Contains(got, "scale") {
		t.Errorf("the daemon was asked %v", got)
	}
}
