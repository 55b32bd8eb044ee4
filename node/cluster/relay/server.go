package relay

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"

	"github.com/effiscale/effiscale/knowledge"
)

const (
	maxHeader = 16 << 10
	// window is what a peer may have sent that was not read yet, streamWindow what
	// of it may be one answer: two streams that are not read leave half to calls.
	window, streamWindow = 1 << 20, 256 << 10
)

// Serve answers other nodes until ctx ends or Close is called, which are no
// errors. The listener is closed then, and so is every connection to it.
func (r *Relay) Serve(ctx context.Context) error {
	if r.o.Listener == nil {
		return errors.New("cannot serve a relay without a listener")
	}
	g := r.newAcceptor()
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return r.o.Listener.Close()
	}
	if r.acceptor != nil {
		r.mu.Unlock()
		return errors.New("cannot serve a relay twice")
	}
	r.acceptor = g
	r.mu.Unlock()
	if !r.spawn(g.run) {
		return g.Close()
	}
	h2 := new(http.Protocols)
	h2.SetHTTP2(true)
	srv := &http.Server{
		Handler:           http.HandlerFunc(r.serveHTTP),
		Protocols:         h2,
		TLSConfig:         g.tls.Clone(), // the server changes it
		MaxHeaderBytes:    maxHeader,
		ReadHeaderTimeout: r.limits.handshake,
		ReadTimeout:       r.limits.read,
		WriteTimeout:      r.limits.write,
		IdleTimeout:       r.limits.idle + r.limits.idle/3, // the caller closes first: no call meets a closing link
		ErrorLog:          log.New(io.Discard, "", 0),      // what a peer can cause is counted
		BaseContext:       func(net.Listener) context.Context { return r.ctx },
		ConnContext:       withCaller,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          int(r.limits.requests),
			WriteByteTimeout:              r.limits.stuck,
			MaxReceiveBufferPerConnection: window,
			MaxReceiveBufferPerStream:     window,
			MaxDecoderHeaderTableSize:     4 << 10,
			MaxEncoderHeaderTableSize:     4 << 10,
		},
	}
	stop := context.AfterFunc(ctx, g.cut)
	defer stop()
	err := srv.Serve(g)
	g.cut()
	_ = srv.Close()
	if ctx.Err() != nil || r.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return fmt.Errorf("cannot serve the relay: %w", err)
}

type callerKey struct{}

type remoteKey struct{}

// RemoteAddr is the address from which the call came whose handler has ctx.
func RemoteAddr(ctx context.Context) string {
	s, _ := ctx.Value(remoteKey{}).(string)
	return s
}

// withCaller keeps the node that the handshake proved, and its address.
func withCaller(ctx context.Context, c net.Conn) context.Context {
	ctx = context.WithValue(ctx, remoteKey{}, c.RemoteAddr().String())
	if t, ok := c.(*tls.Conn); ok {
		if w, ok := t.NetConn().(*countedConn); ok {
			return context.WithValue(ctx, callerKey{}, w.peer.Load())
		}
	}
	return ctx
}

func (r *Relay) serveHTTP(w http.ResponseWriter, req *http.Request) {
	if !r.enter() {
		panic(http.ErrAbortHandler)
	}
	defer r.wg.Done()
	p, _ := req.Context().Value(callerKey{}).(*peer)
	h := w.Header()
	h["Date"], h["Content-Type"] = nil, nil // neither is sent: no peer reads them
	answer, err := r.serve(p, w, req)
	if errors.Is(err, errStreamed) {
		return
	}
	if err != nil {
		answered := &Error{Status: http.StatusInternalServerError, Text: err.Error()}
		if e := new(Error); errors.As(err, &e) && e.Status >= 400 && e.Status < 600 {
			answered = e
		}
		answer = []byte(plain(answered.Text))
		h.Set("Content-Length", strconv.Itoa(len(answer)))
		w.WriteHeader(answered.Status)
		_, _ = w.Write(answer)
		return
	}
	size := int64(len(answer))
	defer r.give(p, size)
	if !r.take(p, size) {
		r.crowded.Add(1)
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	out, packed := r.pack.pack(answer)
	if packed {
		h.Set("Content-Encoding", encoding)
	}
	h.Set("Content-Length", strconv.Itoa(len(out)))
	_, _ = w.Write(out) // a caller that is gone needs no answer
}

// take reserves n bytes of the memory for all calls, and of a peer's share. They are
// counted even when there are too many: the caller gives them back in any case.
func (r *Relay) take(p *peer, n int64) bool {
	all, own := r.held.Add(n), p.held.Add(n)
	return all <= r.limits.held && own <= r.limits.peerHeld
}

func (r *Relay) give(p *peer, n int64) {
	r.held.Add(-n)
	p.held.Add(-n)
}

// serve is one admitted request. A stream is written to w, and the error is
// errStreamed then.
func (r *Relay) serve(p *peer, w http.ResponseWriter, req *http.Request) ([]byte, error) {
	if p == nil || !r.o.Known(p.id) {
		return nil, &Error{http.StatusForbidden, "the node is not a member"}
	}
	if _, err := r.peer(p.id); err != nil { // it has something to do: not to be forgotten
		return nil, &Error{http.StatusServiceUnavailable, "the relay is closed"}
	}
	defer p.serving.Add(-1)
	if p.serving.Add(1) > r.limits.requests {
		r.crowded.Add(1)
		text := fmt.Sprintf("overloaded: %d calls of one node at a time, retry later", r.limits.requests)
		return nil, &Error{http.StatusTooManyRequests, text}
	}
	p.served.Add(1)
	name := req.URL.Path[min(1, len(req.URL.Path)):]
	if name == alive && req.Method == http.MethodGet {
		return nil, nil
	}
	h, ok := r.o.Handlers[name]
	if !ok {
		return nil, &Error{http.StatusNotFound, NoMethod}
	}
	if req.Method != http.MethodPost {
		return nil, &Error{http.StatusMethodNotAllowed, "use POST"}
	}
	var held int64
	defer func() { r.give(p, held) }()
	body, err := r.body(req, h.MaxBody, func(n int64) bool {
		held += n
		return r.take(p, n)
	})
	if err != nil {
		return nil, err
	}
	if h.Stream != nil {
		return nil, r.stream(req.Context(), w, p, h, body)
	}
	ctx, cancel := context.WithTimeout(req.Context(), callTime)
	defer cancel()
	return r.handle(ctx, h, p.id, body)
}

func (r *Relay) body(req *http.Request, limit int64, take func(int64) bool) ([]byte, error) {
	if limit <= 0 {
		limit = defaultBody
	}
	tooLarge := &Error{http.StatusRequestEntityTooLarge, fmt.Sprintf("the body is larger than %d bytes", limit)}
	if req.ContentLength > limit {
		return nil, tooLarge
	}
	coding := req.Header.Get("Content-Encoding")
	if coding != "" && coding != encoding {
		return nil, &Error{http.StatusUnsupportedMediaType, "unknown encoding of the body"}
	}
	b, err := r.pack.unpack(req.Body, coding == encoding, limit, take)
	switch {
	case err == nil:
		return b, nil
	case errors.Is(err, errBody):
		return nil, tooLarge
	case errors.Is(err, errBusy):
		r.crowded.Add(1)
		return nil, &Error{http.StatusServiceUnavailable, errBusy.Error()}
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, &Error{http.StatusRequestTimeout, "the body did not arrive in time"}
	}
	return nil, &Error{http.StatusBadRequest, "the body cannot be read"}
}

// handle runs a handler. One that panics is a 500 and a line in the log.
func (r *Relay) handle(ctx context.Context, h Handler, from knowledge.NodeID, body []byte) (answer []byte, err error) {
	defer func() {
		if v := recover(); v != nil {
			r.o.Log.Error().Str("from", from.Short()).Str("cause", fmt.Sprint(v)).Msg("cannot answer a node")
			answer, err = nil, &Error{http.StatusInternalServerError, "internal error, see the log of the node"}
		}
	}()
	answer, err = h.Serve(ctx, from, body)
	if err == nil && len(answer) > maxAnswer {
		return nil, &Error{http.StatusInternalServerError, fmt.Sprintf("the answer has more than %d bytes", maxAnswer)}
	}
	return answer, err
}
