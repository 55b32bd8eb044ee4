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
	"net/url"
	"os"
	"strconv"
	"syscall"
)

// ErrNotRunning says that no daemon answers at the socket. Errors that wrap it
// say which socket, and what to do.
var ErrNotRunning = errors.New("the daemon is not running")

// maxAnswer bounds what a client takes: a thousand containers are about 1 MB.
const maxAnswer = 64 << 20

// Client calls a daemon over its socket. Its methods are the daemon's; errors of
// the daemon are *Error, an absent daemon is ErrNotRunning. It may be used from
// several goroutines.
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

// Status is the whole node at a glance.
func (c *Client) Status(ctx context.Context) (v Status, err error) {
	err = c.call(ctx, http.MethodGet, "/status", nil, &v)
	return v, err
}

// Explain is everything about one container.
func (c *Client) Explain(ctx context.Context, container string) (v Explain, err error) {
	if err := CheckPlace(container); err != nil {
		return v, err
	}
	err = c.call(ctx, http.MethodGet, "/explain/"+url.PathEscape(container), nil, &v)
	return v, err
}

// Records is the history of a container or a service, newest first; limit 0
// leaves the count to the daemon.
func (c *Client) Records(ctx context.Context, name string, limit int) (v History, err error) {
	if err := checkPlace(name); err != nil {
		return v, err
	}
	if name == "." || name == ".." {
		return v, Errorf(KindNotFound, "there is no container or service %q", name)
	}
	err = c.call(ctx, http.MethodGet, "/records/"+url.PathEscape(name)+"?limit="+strconv.Itoa(limit), nil, &v)
	return v, err
}

// Plan is what the daemons would do now.
func (c *Client) Plan(ctx context.Context, r PlanRequest) (v Plan, err error) {
	q := url.Values{}
	if r.Name != "" {
		q.Set("name", r.Name)
	}
	if r.AllHosts {
		q.Set("all_hosts", "true")
	}
	err = c.call(ctx, http.MethodGet, "/plan?"+q.Encode(), nil, &v)
	return v, err
}

// Trace is the demand on record of a service.
func (c *Client) Trace(ctx context.Context, r TraceRequest) (v Trace, err error) {
	if err := checkPlace(r.Name); err != nil {
		return v, err
	}
	if r.Name == "." || r.Name == ".." {
		return v, Errorf(KindNotFound, "there is no container or service %q", r.Name)
	}
	q := url.Values{"resource": {r.Resource}, "since": {strconv.FormatFloat(r.Since.Seconds(), 'f', -1, 64)}}
	err = c.call(ctx, http.MethodGet, "/trace/"+url.PathEscape(r.Name)+"?"+q.Encode(), nil, &v)
	return v, err
}

// Scale asks for limits of one container.
func (c *Client) Scale(ctx context.Context, r ScaleRequest) (v ScaleResult, err error) {
	err = c.call(ctx, http.MethodPost, "/scale", r, &v)
	return v, err
}

// Pause stops or resumes the automation of a service.
func (c *Client) Pause(ctx context.Context, r PauseRequest) (v PauseResult, err error) {
	err = c.call(ctx, http.MethodPost, "/pause", r, &v)
	return v, err
}

// Restore puts one container, or with "" all, back to the original limits.
func (c *Client) Restore(ctx context.Context, container string) (v RestoreResult, err error) {
	err = c.call(ctx, http.MethodPost, "/restore", restoreRequest{Container: container}, &v)
	return v, err
}

// Reload makes the daemon read its configuration anew.
func (c *Client) Reload(ctx context.Context) error {
	return c.call(ctx, http.MethodPost, "/reload", struct{}{}, &done{})
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
		return Errorf(KindInternal, "cannot read the daemon's answer: %v; are the daemon and this command of the same version?", err)
	}
	return nil
}

// unreachable says why a call had no answer, and what to do.
func (c *Client) unreachable(ctx context.Context, err error) error {
	var timeout net.Error
	switch {
	case errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOTSOCK):
		return fmt.Errorf("%w: nothing answers at %s; start it (sudo systemctl start effiscale, or effiscale run), or name another socket (--socket PATH, EFFISCALE_SOCKET)", ErrNotRunning, c.socket)
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return Errorf(KindForbidden, "cannot open %s: permission denied; use sudo, or join the socket's group and log in again (sudo usermod -aG %s $USER)", c.socket, groupOf(c.socket))
	case ctx.Err() != nil && errors.Is(ctx.Err(), context.Canceled):
		return ctx.Err()
	case errors.As(err, &timeout) && timeout.Timeout():
		return Errorf(KindTimeout, "the daemon at %s did not answer in time; try again, or see effiscale doctor", c.socket)
	}
	return Errorf(KindUnavailable, "the daemon at %s went away during the call: %v; try again", c.socket, err)
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
