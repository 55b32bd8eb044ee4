package relay

import (
	"container/list"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/node/cluster/trust"
)

// acceptor is the listener of http.Server: it returns only connections of known nodes,
// their handshakes done. Unknown callers have slots of their own, and cannot make a member
// wait.
type acceptor struct {
	r     *Relay
	inner net.Listener
	tls   *tls.Config
	out   chan net.Conn
	done  chan struct{}
	once  sync.Once

	mu      sync.Mutex
	pending *list.List // of *countedConn: handshakes under way, oldest first
	proven  map[knowledge.NodeID][]*countedConn
	conns   int // in proven
}

func (r *Relay) newAcceptor() *acceptor {
	return &acceptor{
		r: r, inner: r.o.Listener, out: make(chan net.Conn), done: make(chan struct{}),
		pending: list.New(), proven: map[knowledge.NodeID][]*countedConn{},
		tls: &tls.Config{
			MinVersion:   tls.VersionTLS13,
			Certificates: []tls.Certificate{r.cert},
			ClientAuth:   tls.RequireAnyClientCert,
			NextProtos:   []string{"h2"},
			// A ticket is bytes for each connection, and they live long.
			SessionTicketsDisabled: true,
			VerifyConnection:       r.verify,
		},
	}
}

// verify admits known nodes only, before a byte of HTTP is read.
func (r *Relay) verify(s tls.ConnectionState) error {
	id, err := trust.PeerID(s)
	switch {
	case err != nil:
		return err
	case !r.o.Known(id):
		return errors.New("node " + id.Short() + " is not a member")
	case s.NegotiatedProtocol != "h2":
		return errors.New("no HTTP/2")
	}
	return nil
}

// run accepts until the acceptor is closed. Errors such as a lack of descriptors pass.
func (g *acceptor) run() {
	const first, last = 5 * time.Millisecond, time.Second
	wait := first
	for {
		c, err := g.inner.Accept()
		if err == nil {
			wait = first
			g.admit(c)
			continue
		}
		if errors.Is(err, net.ErrClosed) {
			return
		}
		timer := time.NewTimer(wait)
		select {
		case <-g.done:
			timer.Stop()
			return
		case <-timer.C:
		}
		wait = min(2*wait, last)
	}
}

// admit begins a handshake. The oldest one under way is dropped: honest ones take
// milliseconds.
func (g *acceptor) admit(c net.Conn) {
	w := &countedConn{Conn: c}
	w.closed = func() { g.leave(w) }
	g.mu.Lock()
	var oldest *countedConn
	if g.pending.Len() >= g.r.limits.handshakes {
		oldest = g.pending.Remove(g.pending.Front()).(*countedConn)
	}
	e := g.pending.PushBack(w)
	g.mu.Unlock()
	if oldest != nil {
		_ = oldest.Close()
	}
	if !g.r.spawn(func() { g.shake(w, e) }) {
		_ = c.Close()
	}
}

func (g *acceptor) shake(w *countedConn, e *list.Element) {
	ctx, cancel := context.WithTimeout(g.r.ctx, g.r.limits.handshake)
	defer cancel()
	conn := tls.Server(w, g.tls)
	err := conn.HandshakeContext(ctx)
	g.mu.Lock()
	g.pending.Remove(e) // not there, when it was dropped
	g.mu.Unlock()
	if err != nil {
		_ = w.Close()
		g.r.strangers.Add(1)
		g.r.logRefusal(w, err)
		return
	}
	id, err := trust.PeerID(conn.ConnectionState())
	if err != nil || !g.prove(w, id) {
		_ = w.Close()
		g.r.refusedConns.Add(1)
		return
	}
	select {
	case g.out <- conn:
	case <-g.done:
		_ = w.Close()
	}
}

// prove gives a known node a slot. The oldest connection of the same node is dropped:
// a node that stalled or restarted leaves dead ones behind.
func (g *acceptor) prove(w *countedConn, id knowledge.NodeID) bool {
	p, err := g.r.peer(id)
	if err != nil {
		return false
	}
	w.belongsTo(p)
	g.mu.Lock()
	mine := g.proven[id]
	var old *countedConn
	switch {
	case w.gone:
		g.mu.Unlock()
		return false
	case len(mine) >= g.r.limits.peerConns:
		// It has no slot from here on: of several that come at once each ends another one.
		old, mine = mine[0], slices.Delete(mine, 0, 1)
		old.owner = ""
		g.conns--
	case g.conns >= g.r.limits.conns:
		g.mu.Unlock()
		return false
	}
	w.owner = id
	g.proven[id] = append(mine, w)
	g.conns++
	g.mu.Unlock()
	if old != nil {
		_ = old.Close()
	}
	return true
}

// leave frees the slot of a connection that is closed.
func (g *acceptor) leave(w *countedConn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	w.gone = true
	if w.owner == "" {
		return
	}
	g.conns--
	left := slices.DeleteFunc(g.proven[w.owner], func(other *countedConn) bool { return other == w })
	g.proven[w.owner] = left
	if len(left) == 0 {
		delete(g.proven, w.owner)
	}
}

func (g *acceptor) open() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.conns
}

// Accept, Close and Addr make the acceptor a net.Listener.
func (g *acceptor) Accept() (net.Conn, error) {
	select {
	case c := <-g.out:
		return c, nil
	case <-g.done:
		return nil, net.ErrClosed
	}
}

func (g *acceptor) Close() error {
	g.once.Do(func() { close(g.done) })
	return g.inner.Close()
}

func (g *acceptor) Addr() net.Addr { return g.inner.Addr() }

// cut ends the acceptor and every connection that came through it, at once.
func (g *acceptor) cut() {
	_ = g.Close()
	g.mu.Lock()
	var all []*countedConn
	for e := g.pending.Front(); e != nil; e = e.Next() {
		all = append(all, e.Value.(*countedConn))
	}
	for _, wires := range g.proven {
		all = append(all, wires...)
	}
	g.mu.Unlock()
	for _, w := range all {
		_ = w.Close()
	}
}

// logRefusal logs at most once a minute which connection was refused and why.
func (r *Relay) logRefusal(w *countedConn, err error) {
	// Since the relay began, not by the wall clock: that may be set back by hours.
	now, last := int64(r.o.Now().Sub(r.began))+1, r.lastLog.Load()
	soon := last != 0 && now-last < int64(time.Minute)
	if r.ctx.Err() != nil || soon || !r.lastLog.CompareAndSwap(last, now) {
		return
	}
	r.o.Log.Warn().Str("from", w.RemoteAddr().String()).Str("cause", plain(err.Error())).
		Uint64("total", r.strangers.Load()).Msg("refused a connection to the relay")
}
