package relay

import (
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// clientSlots leaves two of the 32 that the other side serves to Alive.
const clientSlots = 30

// peer is what is under way with one node.
type peer struct {
	id      knowledge.NodeID
	touched time.Time // guarded by Relay.mu
	slots   chan struct{}

	in, out               atomic.Uint64
	calls, errors, served atomic.Uint64
	rtt                   atomic.Int64
	serving, streaming    atomic.Int32
	pending               atomic.Int32 // calls on the link
	held                  atomic.Int64 // of Relay.held

	mu      sync.Mutex // never held across I/O
	closed  bool
	link    *link
	dialing *dialing
}

func newPeer(id knowledge.NodeID) *peer {
	return &peer{id: id, slots: make(chan struct{}, clientSlots)}
}

// link is the one connection that this node made to a peer.
type link struct {
	conn *http.ClientConn
	wire *countedConn
	used time.Time // guarded by peer.mu
}

// cut closes at once: an orderly end with a peer that does not read would wait.
func (l *link) cut() {
	_ = l.wire.Close()
	_ = l.conn.Close()
}

// dialing is a link that is being made; all callers wait for done.
type dialing struct {
	done chan struct{}
	link *link
	err  error
}

// current is the link, when it can still be used.
func (p *peer) current(now time.Time) *link {
	if p.link == nil || p.link.conn.Err() != nil {
		return nil
	}
	p.link.used = now
	return p.link
}

// drop ends a link that proved dead; a newer one stays.
func (p *peer) drop(l *link) {
	p.mu.Lock()
	if p.link == l {
		p.link = nil
	}
	p.mu.Unlock()
	l.cut()
}

func (p *peer) close() {
	p.mu.Lock()
	l := p.link
	p.link, p.closed = nil, true
	p.mu.Unlock()
	if l != nil {
		l.cut()
	}
}

// tidy takes out a link that was idle for long, and reports whether nothing else is left
// to do.
func (p *peer) tidy(now time.Time, idle time.Duration) (old *link, empty bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if l := p.link; l != nil && p.pending.Load() == 0 && (l.conn.Err() != nil || now.Sub(l.used) > idle) {
		old, p.link = l, nil
	}
	return old, p.link == nil && p.dialing == nil && p.serving.Load() == 0 && p.pending.Load() == 0
}

// took smooths the round trip like TCP does, by an eighth (RFC 6298).
func (p *peer) took(d time.Duration) {
	old := time.Duration(p.rtt.Load())
	if old > 0 {
		d = old + (d-old)/8
	}
	p.rtt.Store(int64(max(d, 1)))
}

func (p *peer) stats() PeerStats {
	return PeerStats{
		ID: p.id, In: p.in.Load(), Out: p.out.Load(), Calls: p.calls.Load(), Errors: p.errors.Load(), Served: p.served.Load(),
		RTT: time.Duration(p.rtt.Load()),
	}
}

// wire counts bytes below TLS, and reports when it is closed.
type countedConn struct {
	net.Conn
	in, out atomic.Uint64 // before the peer is known
	reads   atomic.Int64  // how many reads brought something
	peer    atomic.Pointer[peer]
	once    sync.Once
	closed  func() // called once; may be nil
	place          // guarded by acceptor.mu
}

// place is what a connection that was accepted takes up.
type place struct {
	owner knowledge.NodeID // "": not proven
	gone  bool
}

// belongsTo is called when the handshake proved the peer.
func (w *countedConn) belongsTo(p *peer) {
	w.peer.Store(p)
	p.in.Add(w.in.Swap(0))
	p.out.Add(w.out.Swap(0))
}

func (w *countedConn) Read(b []byte) (int, error) {
	n, err := w.Conn.Read(b)
	if n > 0 {
		w.reads.Add(1)
		if p := w.peer.Load(); p != nil {
			p.in.Add(uint64(n))
		} else {
			w.in.Add(uint64(n))
		}
	}
	return n, err
}

func (w *countedConn) Write(b []byte) (int, error) {
	n, err := w.Conn.Write(b)
	if p := w.peer.Load(); p != nil {
		p.out.Add(uint64(n))
	} else {
		w.out.Add(uint64(n))
	}
	if err != nil {
		// After half a record nothing can follow: those who wait get the error now.
		_ = w.Close()
	}
	return n, err
}

func (w *countedConn) Close() error {
	err := w.Conn.Close()
	w.once.Do(func() {
		if w.closed != nil {
			w.closed()
		}
	})
	return err
}
