package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// callerKey is the key of the caller in a context.
type callerKey struct{}

// caller is the name of the client, for the history.
func caller(ctx context.Context) string {
	s, _ := ctx.Value(callerKey{}).(string)
	return s
}

// answer holds a whole response until it is known to be good: nothing is sent
// half, and an error of the mux in plain text can be sent as JSON.
type answer struct {
	header http.Header
	status int
	body   bytes.Buffer
	under  http.ResponseWriter
}

func (a *answer) Header() http.Header { return a.header }

func (a *answer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
}

func (a *answer) Write(b []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(b)
}

// Unwrap lets http.ResponseController find the connection.
func (a *answer) Unwrap() http.ResponseWriter { return a.under }

func (a *answer) problem(p *problem) {
	a.header, a.status = http.Header{}, p.status
	for k, v := range p.header {
		a.header[k] = v
	}
	a.header.Set("Content-Type", "application/json")
	a.body.Reset()
	b, _ := json.Marshal(p) // one string: cannot fail
	a.body.Write(append(b, '\n'))
}

func (a *answer) send() {
	h := a.under.Header()
	for k, v := range a.header {
		h[k] = v
	}
	h.Set("Content-Length", strconv.Itoa(a.body.Len()))
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	a.under.WriteHeader(a.status)
	_, _ = a.under.Write(a.body.Bytes()) // a client that is gone needs no answer
}

// check admits a request, or returns why not. It may replace the request.
type check func(a *answer, r *http.Request) (*http.Request, *problem)

// guarded puts the checks before a mux, and makes sure that every answer is
// whole and every error is a problem.
func (s *Server) guarded(service string, mux *http.ServeMux, timeout time.Duration, checks []check) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a := &answer{header: http.Header{}, under: w}
		ctx, cancel := context.WithTimeout(r.Context(), timeout)
		defer cancel()
		r = r.WithContext(ctx)
		s.pass(service, a, r, admitted{mux, checks})
		a.WriteHeader(http.StatusOK) // of a handler that set none
		s.metrics.request(service, a.status)
		a.send()
	})
}

// pass runs the checks and the handler. What panics (the encoder of huma does,
// on a number that JSON cannot hold) becomes a 500 and a line in the log.
func (s *Server) pass(service string, a *answer, r *http.Request, to admitted) {
	defer func() {
		if v := recover(); v != nil {
			s.o.Log.Error().Str("path", r.URL.Path).Str("cause", fmt.Sprint(v)).Msg("cannot answer a request")
			a.problem(refuse(http.StatusInternalServerError, "cannot make the answer; the daemon's log has the cause"))
		}
	}()
	for _, admit := range to.checks {
		next, p := admit(a, r)
		if p != nil {
			s.metrics.refusedRequest(service, p.status)
			a.problem(p)
			return
		}
		r = next
	}
	to.mux.ServeHTTP(a, r)
}

// admitted is a mux and the checks before it.
type admitted struct {
	mux    *http.ServeMux
	checks []check
}

// admitHost refuses a Host header that is neither the address that the client
// reached nor a configured name: a page whose name was pointed here (DNS
// rebinding) sends its own name. Matches are whole, never of a prefix.
func (s *Server) admitHost(_ *answer, r *http.Request) (*http.Request, *problem) {
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if hostAllowed(r.Host, local, s.names) {
		return r, nil
	}
	return nil, refuse(http.StatusForbidden, fmt.Sprintf(
		"the Host header %s is not an address of this service; if it should be, add it to api.hosts", quote(r.Host)))
}

func hostAllowed(hostport string, local net.Addr, names []string) bool {
	host, port, err := net.SplitHostPort(hostport)
	if err != nil {
		host, port = strings.TrimSuffix(strings.TrimPrefix(hostport, "["), "]"), ""
	}
	for _, n := range names {
		if strings.EqualFold(n, hostport) || strings.EqualFold(n, host) {
			return true
		}
	}
	tcp, ok := local.(*net.TCPAddr)
	if !ok || port != strconv.Itoa(tcp.Port) {
		return false
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		at := tcp.AddrPort().Addr().Unmap()
		return ip.Unmap() == at || ip.IsLoopback() && at.IsLoopback()
	}
	return tcp.IP.IsLoopback() && strings.EqualFold(host, "localhost")
}

func (s *Server) admitRate(_ *answer, r *http.Request) (*http.Request, *problem) {
	if s.limiter.allow(r.RemoteAddr, time.Now()) {
		return r, nil
	}
	p := refuse(http.StatusTooManyRequests, fmt.Sprintf(
		"too many requests: the limit is %d a second for one client, %d for all; wait a second", clientRate, globalRate))
	p.header = http.Header{"Retry-After": {"1"}}
	return nil, p
}

// admitPath refuses paths that no client of ours sends: dot segments, empty
// ones, NUL and what does not decode, before the mux would tidy them up.
func admitPath(_ *answer, r *http.Request) (*http.Request, *problem) {
	const longest = 1024
	raw := r.URL.EscapedPath()
	if !strings.HasPrefix(raw, "/") || len(raw) > longest {
		return nil, refuse(http.StatusBadRequest,
			fmt.Sprintf("the path must begin with / and have at most %d bytes", longest))
	}
	for part := range strings.SplitSeq(raw[1:], "/") {
		if raw == "/" {
			break
		}
		seg, err := url.PathUnescape(part)
		if err != nil || seg == "" || seg == "." || seg == ".." || strings.ContainsAny(seg, "/\\\x00") {
			return nil, refuse(http.StatusBadRequest, fmt.Sprintf("the path has the segment %s, which is no name", quote(part)))
		}
	}
	return r, nil
}

// admitRoute answers 404 and 405 in JSON.
func admitRoute(mux *http.ServeMux) check {
	return func(_ *answer, r *http.Request) (*http.Request, *problem) {
		h, pattern := mux.Handler(r)
		if pattern != "" {
			return r, nil
		}
		reply := &answer{header: http.Header{}}
		h.ServeHTTP(reply, r)
		if reply.status != http.StatusMethodNotAllowed {
			return nil, refuse(http.StatusNotFound,
				fmt.Sprintf("there is no %s here; GET /openapi.json lists the paths", quote(r.URL.Path)))
		}
		allow := reply.header.Get("Allow")
		p := refuse(http.StatusMethodNotAllowed,
			fmt.Sprintf("method %s is not for this path; use %s", quote(r.Method), allow))
		p.header = http.Header{"Allow": {allow}}
		return nil, p
	}
}

// admitToken asks for a token where a tokens file is configured, and for the user elsewhere.
func (s *Server) admitToken(_ *answer, r *http.Request) (*http.Request, *problem) {
	by := "api " + clientKey(r.RemoteAddr).Addr().String()
	if len(s.tokens) > 0 {
		t, presented := bearer(s.tokens, r)
		if t.role == RoleNone {
			detail := "this service wants a token: send the header Authorization: Bearer TOKEN"
			if presented {
				detail = "the token is not one of api.tokens_file"
			}
			p := refuse(http.StatusUnauthorized, detail)
			p.header = http.Header{"Www-Authenticate": {`Bearer realm="effiscale"`}}
			return nil, p
		}
		if need := roleFor(r); t.role < need {
			return nil, refuse(http.StatusForbidden, fmt.Sprintf("the token's role is %s, this call needs %s", t.role, need))
		}
		if t.name != "" {
			by = "api token " + t.name
		}
	} else if p := s.admitLocal(r); p != nil {
		return nil, p
	}
	return r.WithContext(context.WithValue(r.Context(), callerKey{}, by)), nil
}

// isRead reports whether a request changes nothing by its method.
func isRead(r *http.Request) bool {
	return r.Method == http.MethodGet || r.Method == http.MethodHead
}

// admitBrowser refuses writes that a page in a browser sent: programs set
// neither Origin nor Sec-Fetch-Site.
func (s *Server) admitBrowser(_ *answer, r *http.Request) (*http.Request, *problem) {
	if isRead(r) {
		return r, nil
	}
	if len(r.Header.Values("Origin")) > 0 || s.crossOrigin.Check(r) != nil {
		return nil, refuse(http.StatusForbidden, "this call changes something and comes from a page in a browser "+
			"(Origin, Sec-Fetch-Site); use the command line or a program")
	}
	return r, nil
}

// maxBody bounds a request's body.
const maxBody = 64 << 10

// admitBody reads the body of a write, bounded and in time, and wants JSON.
func admitBody(a *answer, r *http.Request) (*http.Request, *problem) {
	if isRead(r) {
		return r, nil
	}
	b, err := io.ReadAll(http.MaxBytesReader(a.under, r.Body, maxBody))
	if err != nil {
		var nerr net.Error
		switch {
		case errors.As(err, new(*http.MaxBytesError)):
			return nil, refuse(http.StatusRequestEntityTooLarge, fmt.Sprintf("the body is larger than %d bytes", maxBody))
		case errors.As(err, &nerr) && nerr.Timeout():
			return nil, refuse(http.StatusRequestTimeout, "the body did not arrive in time")
		}
		return nil, refuse(http.StatusBadRequest, "cannot read the body: "+err.Error())
	}
	if len(b) > 0 {
		kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
		charset := strings.ToLower(params["charset"])
		if err != nil || kind != "application/json" || r.Header.Get("Content-Encoding") != "" ||
			charset != "" && charset != "utf-8" && charset != "utf8" {
			return nil, refuse(http.StatusUnsupportedMediaType,
				"the body must be JSON in UTF-8, uncompressed, with the header Content-Type: application/json")
		}
	}
	r.Body = body{bytes.NewReader(b), b}
	r.ContentLength = int64(len(b))
	return r, nil
}

// body is a body that was read.
type body struct {
	*bytes.Reader
	whole []byte
}

func (body) Close() error { return nil }

// bodyOf is the body that admitBody read.
func bodyOf(r *http.Request) []byte {
	b, _ := r.Body.(body)
	return b.whole
}
