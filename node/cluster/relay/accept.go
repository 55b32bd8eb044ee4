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

// gate is the listener that http.Server sees: only connections of known nodes
// come out, their handshakes done. So a stranger has a place among strangers
// only, and cannot make a member wait.
type gate struct {
	r     *Relay
	inner net.Listener
	tls   *tls.Config
	out   chan net.Conn
	done  chan struct{}
	once  sync.Once

	mu     sync.Mutex
	green  *list.List // of *wire: handshakes under way, oldest first
	proven map[knowledge.NodeID][]*wire
	conns  int // in proven
}

func (r *Relay) newGate() *gate {
	return &gate{
		r: r, inner: r.o.Listener, out: make(chan net.Conn), done: make(chan struct{}),
		green: list.New(), proven: map[knowledge.NodeID][]*wire{},
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

// verify lets known nodes pass, before a byte of HTTP is read.
func (r *Relay) verify(s tls.ConnectionState) error {
	id, err := trust.PeerID(s)
	switch {
	case err != nil:
		return err
	case !r.o.Known(id):
		return errors.New("node " + id.Short() + " is no member")
	case s.NegotiatedProtocol != "h2":
		return errors.New("it does not speak HTTP/2")
	}
	return nil
}

// run accepts until the gate is closed. Errors such as a lack of descriptors pass.
func (g *gate) run() {
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

// admit begins a handshake. The oldest one under way gives way: honest ones take
// milliseconds.
func (g *gate) admit(c net.Conn) {
	w := &wire{Conn: c}
	w.closed = func() { g.leave(w) }
	g.mu.Lock()
	var oldest *wire
	if g.green.Len() >= g.r.limits.handshakes {
		oldest = g.green.Remove(g.green.Front()).(*wire)
	}
	e := g.green.PushBack(w)
	g.mu.Unlock()
	if oldest != nil {
		_ = oldest.Close()
	}
	if !g.r.spawn(func() { g.greet(w, e) }) {
		_ = c.Close()
	}
}

func (g *gate) greet(w *wire, e *list.Element) {
	ctx, cancel := context.WithTimeout(g.r.ctx, g.r.limits.handshake)
	defer cancel()
	conn := tls.Server(w, g.tls)
	err := conn.HandshakeContext(ctx)
	g.mu.Lock()
	g.green.Remove(e) // nothing, when it had to give way
	g.mu.Unlock()
	if err != nil {
		_ = w.Close()
		g.r.strangers.Add(1)
		g.r.complain(w, err)
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

// prove gives a known node its place. The oldest connection of the same node
// gives way: a node that was frozen or restarted leaves dead ones behind.
func (g *gate) prove(w *wire, id knowledge.NodeID) bool {
	p, err := g.r.peer(id)
	if err != nil {
		return false
	}
	w.belongsTo(p)
	g.mu.Lock()
	mine := g.proven[id]
	var old *wire
	switch {
	case w.gone:
		g.mu.Unlock()
		return false
	case len(mine) >= g.r.limits.peerConns:
		// It has no place from here on: of several that come at once each ends another one.
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

// leave frees the place of a connection that is closed.
func (g *gate) leave(w *wire) {
	g.mu.Lock()
	defer g.mu.Unlock()
	w.gone = true
	if w.owner == "" {
		return
	}
	g.conns--
	left := slices.DeleteFunc(g.proven[w.owner], func(other *wire) bool { return other == w })
	g.proven[w.owner] = left
	if len(left) == 0 {
		delete(g.proven, w.owner)
	}
}

func (g *gate) open() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.conns
}

// Accept, Close and Addr make the gate a net.Listener.
func (g *gate) Accept() (net.Conn, error) {
	select {
	case c := <-g.out:
		return c, nil
	case <-g.done:
		return nil, net.ErrClosed
	}
}

func (g *gate) Close() error {
	g.once.Do(func() { close(g.done) })
	return g.inner.Close()
}

func (g *gate) Addr() net.Addr { return g.inner.Addr() }

// cut ends the gate and every connection that came through it, without goodbyes.
func (g *gate) cut() {
	_ = g.Close()
	g.mu.Lock()
	var all []*wire
	for e := g.green.Front(); e != nil; e = e.Next() {
		all = append(all, e.Value.(*wire))
	}
	for _, wires := range g.proven {
		all = append(all, wires...)
	}
	g.mu.Unlock()
	for _, w := range all {
		_ = w.Close()
	}
}

// complain says at most once a minute who was turned away and why.
func (r *Relay) complain(w *wire, err error) {
	// Since the relay began, not by the wall clock: that may be set back by hours.
	now, last := int64(r.o.Now().Sub(r.began))+1, r.lastLog.Load()
	if r.ctx.Err() != nil || last != 0 && now-last < int64(time.Minute) || !r.lastLog.CompareAndSwap(last, now) {
		return
	}
	r.o.Log.Warn().Str("from", w.RemoteAddr().String()).Str("cause", plain(err.Error())).Uint64("so_far", r.strangers.Load()).
		Msg("turned away a connection to the relay's port")
}
