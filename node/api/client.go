package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"syscall"
)

// ErrNotRunning says that no daemon answers at the socket. Errors that wrap it
// name the socket and the remedy.
var ErrNotRunning = errors.New("the daemon is not running")

// maxAnswer bounds what a client takes: a thousand containers are about 1 MB.
const maxAnswer = 64 << 20

// Client calls a daemon over its socket. Errors of the daemon are *Error, an absent daemon
// is ErrNotRunning. It may be used from several goroutines.
type Client struct {
	socket string
	http   *http.Client
}

// NewClient makes a client for the socket; nothing is opened before a call.
func NewClient(socket string) *Client {
	return &Client{socket: socket, http: &http.Client{
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "unix", socket)
			},
			DisableCompression: true,
			MaxIdleConns:       2,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Close gives up connections that are kept open between calls.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Call sends one request over the socket.
func (c *Client) Call(ctx context.Context, row Row, request, answer any) error {
	path, body := row.Path, any(nil)
	if row.Verb == http.MethodGet {
		var err error
		if path, err = target(row, request); err != nil {
			return err
		}
	} else {
		body = request
	}
	return c.call(ctx, row.Verb, path, body, answer)
}

func (c *Client) call(ctx context.Context, method, path string, body, into any) error {
	var sent io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return Errorf(KindBadRequest, "cannot send the request: %v", err)
		}
		sent = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://effiscale"+path, sent)
	if err != nil {
		return Errorf(KindBadRequest, "cannot send the request: %v", err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return c.unreachable(ctx, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return c.unreachable(ctx, err)
	}
	if resp.StatusCode != http.StatusOK {
		var p problem
		if json.Unmarshal(b, &p) != nil || p.Detail == "" {
			p.Detail = "the daemon answered " + resp.Status
		}
		return &Error{Kind: kindOfStatus(resp.StatusCode), Detail: p.Detail}
	}
	if err := json.Unmarshal(b, into); err != nil {
		return Errorf(KindInternal,
			"cannot read the daemon's answer: %v; are the daemon and this command of the same version?", err)
	}
	return nil
}

// unreachable is the error of a call without an answer, with the remedy.
func (c *Client) unreachable(ctx context.Context, err error) error {
	var timeout net.Error
	switch {
	case errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOTSOCK):
		return fmt.Errorf("%w: nothing answers at %s; start it (sudo systemctl start effiscale, or effiscale run), "+
			"or name another socket (--socket PATH, EFFISCALE_SOCKET)", ErrNotRunning, c.socket)
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return Errorf(KindForbidden, "cannot open %s: permission denied; use sudo, or join the socket's group and "+
			"log in again (sudo usermod -aG %s $USER)", c.socket, groupOf(c.socket))
	case ctx.Err() != nil && errors.Is(ctx.Err(), context.Canceled):
		return ctx.Err()
	case errors.As(err, &timeout) && timeout.Timeout():
		return Errorf(KindTimeout, "the daemon at %s accepts the call and did not answer in time: it is stopped or "+
			"overloaded; see its log, and try again", c.socket)
	}
	return Errorf(KindUnavailable, "the daemon at %s closed the connection during the call: %v; try again", c.socket, err)
}

// groupOf names the group of the socket, for the advice.
func groupOf(socket string) string {
	if st, err := os.Stat(socket); err == nil {
		if sys, ok := st.Sys().(*syscall.Stat_t); ok && sys.Gid != 0 {
			return groupName(sys.Gid)
		}
	}
	return "effiscale"
}
