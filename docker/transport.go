package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/user"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// Limits on the size of an answer. A container is about 2 KB in a listing and 10 KB in an
// inspect: enough for 30,000 containers, and for one with a thousand mounts.
const (
	listBound  = 64 << 20
	otherBound = 8 << 20
	eventBound = 1 << 20
)

var errTooLarge = errors.New("the answer exceeds the size limit")

// exchange is what the transport recorded of one call: the client module converts the
// status to an error class and loses the number.
type exchange struct {
	began  time.Time
	enough time.Duration // of waiting, for a timeout to count as an error of the Engine
	left   atomic.Int64  // bytes that may still be read
	status atomic.Int64  // 0: no answer
	pinged atomic.Int64  // of a ping, which is apart: another call may be one as well
	json   atomic.Bool   // the content type is JSON
	dial   atomic.Pointer[error]
}

func (x *exchange) waited() time.Duration { return time.Since(x.began) }

func (x *exchange) dialErr() error {
	if p := x.dial.Load(); p != nil {
		return *p
	}
	return nil
}

// code is the HTTP status of an operation's answer; 0: none. The ping before the first one is
// not its answer.
func (x *exchange) code(op operation) int {
	if op == opPing {
		return int(x.pinged.Load())
	}
	return int(x.status.Load())
}

type exchangeKey struct{}

func withExchange(ctx context.Context, bound int64) (context.Context, *exchange) {
	x := &exchange{began: time.Now()}
	x.left.Store(bound)
	return context.WithValue(ctx, exchangeKey{}, x), x
}

// meter is the transport: it limits bodies and fills the exchange.
type meter struct{ next *http.Transport }

func (m *meter) RoundTrip(r *http.Request) (*http.Response, error) {
	x, ok := r.Context().Value(exchangeKey{}).(*exchange)
	if ok {
		x.status.Store(0) // one call may be two requests
	}
	resp, err := m.next.RoundTrip(r)
	if err != nil || !ok {
		return resp, err
	}
	if strings.HasSuffix(r.URL.Path, "/_ping") {
		x.pinged.Store(int64(resp.StatusCode))
	} else {
		x.status.Store(int64(resp.StatusCode))
		x.json.Store(strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json"))
	}
	resp.Body = &boundedBody{resp.Body, x}
	return resp, nil
}

type boundedBody struct {
	io.ReadCloser
	x *exchange
}

func (b *boundedBody) Read(p []byte) (int, error) {
	left := b.x.left.Load()
	if left <= 0 {
		return 0, errTooLarge
	}
	if int64(len(p)) > left {
		p = p[:left]
	}
	n, err := b.ReadCloser.Read(p)
	b.x.left.Add(-int64(n))
	return n, err
}

// transport makes the HTTP transport for a host that parseHost accepted. Sixteen
// connections are more than a daemon has workers; beyond them calls wait here.
func transport(network, address string) *http.Transport {
	dialer := &net.Dialer{Timeout: 5 * time.Second}
	return &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			conn, err := dialer.DialContext(ctx, network, address)
			if x, ok := ctx.Value(exchangeKey{}).(*exchange); ok && err != nil {
				x.dial.Store(&err)
			}
			return conn, err
		},
		DisableCompression: true,
		MaxIdleConns:       6,
		MaxConnsPerHost:    16,
		IdleConnTimeout:    30 * time.Second,
	}
}

// parseHost accepts unix:///absolute/path and tcp://host:port.
func parseHost(host string) (network, address string, err error) {
	bad := func(why string) (string, string, error) {
		return "", "", fmt.Errorf("cannot use Docker host %q: %s (allowed: unix:///path/to/docker.sock, tcp://host:port)",
			host, why)
	}
	scheme, rest, ok := strings.Cut(host, "://")
	switch {
	case !ok || rest == "":
		return bad("it is not a URL")
	case strings.ContainsFunc(host, func(r rune) bool { return r <= ' ' || r == 0x7f }):
		return bad("it holds a blank or a control character")
	case scheme == "unix":
		if !strings.HasPrefix(rest, "/") {
			return bad("the path is not absolute")
		}
		if len(rest) >= len(syscall.RawSockaddrUnix{}.Path) {
			return bad("the path is longer than a socket's may be")
		}
		return "unix", rest, nil
	case scheme == "tcp":
		h, p, err := net.SplitHostPort(rest)
		if err != nil || h == "" {
			return bad("it is not host:port")
		}
		if n, err := strconv.ParseUint(p, 10, 16); err != nil || n == 0 {
			return bad("the port is not a number from 1 to 65535")
		}
		return "tcp", rest, nil
	}
	return bad("the scheme is unknown")
}

// permissionHelp names the socket's group and how to get access.
func permissionHelp(address string) string {
	var st syscall.Stat_t
	if err := syscall.Stat(address, &st); err != nil {
		return fmt.Sprintf("permission denied on %s: run effiscale as root, or give its user access to that path", address)
	}
	gid := strconv.FormatUint(uint64(st.Gid), 10)
	group := gid
	if g, err := user.LookupGroupId(gid); err == nil {
		group = g.Name
	}
	return fmt.Sprintf("permission denied on %s, which belongs to group %s (gid %s, mode %04o): run effiscale as root, "+
		"or add its user to that group (in the unit: SupplementaryGroups=%s) and restart",
		address, group, gid, st.Mode&0o7777, group)
}

// dialHelp is why there is no connection, and what to do.
func dialHelp(address string, dial, err error) string {
	switch {
	case errors.Is(dial, fs.ErrNotExist):
		return fmt.Sprintf("%s does not exist: is the Docker Engine installed and running?", address)
	case errors.Is(dial, syscall.ECONNREFUSED):
		return fmt.Sprintf("connection refused at %s: is the Docker Engine running?", address)
	case dial != nil:
		return dial.Error()
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, os.ErrClosed):
		return fmt.Sprintf("the connection to %s was closed before an answer", address)
	}
	return err.Error()
}
