package relay

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/node/cluster/trust"
)

// Call asks a node and waits for its answer, until ctx ends and at most 10 s. It
// is tried once: what failed on the way may have been done. An *Error is the
// peer's own refusal.
func (r *Relay) Call(ctx context.Context, to knowledge.NodeID, method string, body []byte) ([]byte, error) {
	p, err := r.peerFor(to, method, body)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	case <-ctx.Done():
		return nil, callError(to, ctx.Err())
	}
	return r.ask(ctx, p, question{http.MethodPost, method, body, r.readAnswer})
}

// peerFor is the peer to call, where the call is valid.
func (r *Relay) peerFor(to knowledge.NodeID, method string, body []byte) (*peer, error) {
	if !validMethod(method) || method == alive {
		return nil, fmt.Errorf("cannot call %.80q: invalid method name", method)
	}
	if len(body) > trust.MaxMessage {
		return nil, callError(to, trust.ErrTooLarge)
	}
	p, err := r.peer(to)
	if err != nil {
		return nil, callError(to, err)
	}
	return p, nil
}

// question is one request, and what reads the answer to it.
type question struct {
	verb, method string
	body         []byte
	read         func(*http.Response) ([]byte, error) // closes the response's body, or sees to it
}

// Alive checks that a node answers. A node whose process has ended refuses the connection,
// which is an error at once.
func (r *Relay) Alive(ctx context.Context, to knowledge.NodeID) error {
	p, err := r.peer(to)
	if err != nil {
		return callError(to, err)
	}
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	_, err = r.ask(ctx, p, question{http.MethodGet, alive, nil, r.readAnswer})
	return err
}

func callError(to knowledge.NodeID, err error) error {
	return fmt.Errorf("cannot call node %s: %w", to.Short(), err)
}

// ask makes one call and counts it.
func (r *Relay) ask(ctx context.Context, p *peer, q question) ([]byte, error) {
	p.calls.Add(1)
	begun := r.o.Now()
	answer, err := r.try(ctx, p, q)
	if err == nil || errors.As(err, new(*Error)) {
		p.took(r.o.Now().Sub(begun))
	}
	if err != nil {
		p.errors.Add(1)
		return nil, callError(p.id, err)
	}
	return answer, nil
}

// try begins again on a new link when the old one was dead before the request was
// on it: the peer restarted since. Alive may be sent twice anyway.
func (r *Relay) try(ctx context.Context, p *peer, q question) ([]byte, error) {
	for {
		l, fresh, err := r.connect(ctx, p)
		if err != nil {
			return nil, err
		}
		answer, sent, err := r.exchange(ctx, p, l, q)
		if err == nil || fresh || sent && q.verb != http.MethodGet || ctx.Err() != nil || errors.As(err, new(*Error)) {
			return answer, err
		}
		p.drop(l)
	}
}

// exchange sends the request on a link and reads the answer. sent: some of it may
// have reached the peer.
func (r *Relay) exchange(ctx context.Context, p *peer, l *link, q question) (answer []byte, sent bool, err error) {
	p.pending.Add(1)
	defer p.pending.Add(-1)
	reads := l.wire.reads.Load()
	defer func() {
		// A link on which nothing came while we waited in vain is likely dead: TCP
		// would go on sending into it for minutes, even after the way is free again.
		silent := errors.Is(ctx.Err(), context.DeadlineExceeded) && l.wire.reads.Load() == reads
		if silent || err != nil && l.conn.Err() != nil {
			p.drop(l)
		}
	}()
	headers := make(chan struct{}) // the transport may close it after we gave up: no shared variable
	trace := &httptrace.ClientTrace{WroteHeaders: func() { close(headers) }}
	traced := httptrace.WithClientTrace(ctx, trace)
	req, err := r.request(traced, p.id, q)
	if err != nil {
		return nil, false, err
	}
	resp, err := l.conn.RoundTrip(req)
	if err == nil {
		answer, err = q.read(resp)
	}
	select {
	case <-headers:
		sent = true
	default:
	}
	return answer, sent, err
}

func (r *Relay) request(ctx context.Context, to knowledge.NodeID, q question) (*http.Request, error) {
	packedBody, packed := r.pack.pack(q.body)
	u := url.URL{Scheme: "https", Host: string(to), Path: "/" + q.method}
	req, err := http.NewRequestWithContext(ctx, q.verb, u.String(), bytes.NewReader(packedBody))
	if err != nil {
		return nil, err
	}
	req.Header["User-Agent"] = []string{""} // none: gossip has the version
	if packed {
		req.Header.Set("Content-Encoding", encoding)
	}
	return req, nil
}

// readAnswer reads a whole answer.
func (r *Relay) readAnswer(resp *http.Response) ([]byte, error) {
	defer func() { _ = resp.Body.Close() }()
	packed := resp.Header.Get("Content-Encoding") == encoding
	if resp.StatusCode >= 300 {
		text, _ := r.pack.unpack(resp.Body, packed, maxText, nil) // what there is of it
		return nil, &Error{Status: resp.StatusCode, Text: plain(string(text))}
	}
	b, err := r.pack.unpack(resp.Body, packed, maxAnswer, nil)
	if err != nil {
		return nil, fmt.Errorf("cannot read the answer: %w", err)
	}
	return b, nil
}

// connect finds the link or waits until one is made. The first caller dials for all; the
// dial goes on for the others when that one gives up.
func (r *Relay) connect(ctx context.Context, p *peer) (l *link, fresh bool, err error) {
	if err := ctx.Err(); err != nil {
		return nil, false, err
	}
	p.mu.Lock()
	if l := p.current(r.o.Now()); l != nil {
		p.mu.Unlock()
		return l, false, nil
	}
	d := p.dialing
	if d == nil {
		d = &dialing{done: make(chan struct{})}
		p.dialing = d
		p.mu.Unlock()
		if !r.spawn(func() { r.dial(p, d) }) {
			p.landed(d, nil, ErrClosed)
		}
	} else {
		p.mu.Unlock()
	}
	select {
	case <-d.done:
		return d.link, true, d.err
	case <-ctx.Done():
		return nil, false, ctx.Err()
	}
}

// landed ends a dial.
func (p *peer) landed(d *dialing, l *link, err error) {
	p.mu.Lock()
	old := p.link
	if p.closed && l != nil {
		old, l, err = l, nil, ErrClosed
	}
	d.link, d.err, p.link, p.dialing = l, err, l, nil
	p.mu.Unlock()
	close(d.done)
	if old != nil {
		old.cut()
	}
}

type linkKey struct{}

func (r *Relay) dial(p *peer, d *dialing) {
	ctx, cancel := context.WithTimeout(r.ctx, r.limits.handshake)
	defer cancel()
	l := &link{used: r.o.Now()}
	host := net.JoinHostPort(string(p.id), "443")
	conn, err := r.transport.NewClientConn(context.WithValue(ctx, linkKey{}, l), "https", host)
	if err != nil {
		if l.wire != nil {
			_ = l.wire.Close()
		}
		if r.ctx.Err() != nil {
			err = ErrClosed
		}
		p.landed(d, nil, err)
		return
	}
	l.conn = conn
	l.wire.belongsTo(p)
	p.landed(d, l, nil)
}

// newTransport makes links. It keeps none: one for each peer is kept here, so
// that a dead one can be found and ended.
func (r *Relay) newTransport() *http.Transport {
	h2 := new(http.Protocols)
	h2.SetHTTP2(true)
	return &http.Transport{
		Protocols:              h2,
		DialTLSContext:         r.dialTLS,
		DisableCompression:     true, // it would ask for gzip in each request
		MaxResponseHeaderBytes: maxHeader,
		HTTP2: &http.HTTP2Config{
			WriteByteTimeout:              r.limits.stuck,
			MaxReceiveBufferPerConnection: window,
			MaxReceiveBufferPerStream:     streamWindow,
			MaxDecoderHeaderTableSize:     4 << 10,
			MaxEncoderHeaderTableSize:     4 << 10,
		},
	}
}

// dialTLS reaches a node by its id and makes sure that it is the one.
func (r *Relay) dialTLS(ctx context.Context, _, hostport string) (net.Conn, error) {
	to := knowledge.NodeID(strings.TrimSuffix(hostport, ":443"))
	addr, ok := r.o.Lookup(to)
	if !ok {
		return nil, ErrUnknown
	}
	c, err := r.o.Dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	w := &countedConn{Conn: c}
	if l, ok := ctx.Value(linkKey{}).(*link); ok {
		l.wire = w
	}
	conn := tls.Client(w, &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{r.cert},
		ServerName:   string(to),
		NextProtos:   []string{"h2"},
		// Names and dates mean nothing here, the key is all: VerifyConnection.
		InsecureSkipVerify: true,
		VerifyConnection: func(s tls.ConnectionState) error {
			id, err := trust.PeerID(s)
			switch {
			case err != nil:
				return err
			case id != to:
				return fmt.Errorf("%w: %s", ErrIdentity, id.Short())
			}
			return nil
		},
	})
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = w.Close()
		return nil, fmt.Errorf("%s: %w", addr, err)
	}
	return conn, nil
}
