// Package relay carries calls between nodes: HTTP/2 and TLS 1.3 on one TCP port,
// both ends pinned to the fingerprint that is a node's id. Only known nodes
// get as far as HTTP, no peer can make another one wait, and every queue,
// body, count and time has a bound.
package relay

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/node/cluster/trust"
)

// Options of a relay. Self, Lookup and Known are required, Listener for Serve.
type Options struct {
	Self     *trust.Identity
	Listener net.Listener
	Dial     func(ctx context.Context, addr string) (net.Conn, error) // nil: TCP
	// Lookup is a node's address in gossip.
	Lookup func(knowledge.NodeID) (addr string, ok bool)
	// Known reports whether a node may call. It is called for each connection and each call.
	Known    func(knowledge.NodeID) bool
	Log      zerolog.Logger
	Now      func() time.Time // nil: time.Now
	Handlers map[string]Handler
}

// Handler answers one method, by Serve or by Stream. An *Error that it returns keeps
// its status; every other one is a 500.
type Handler struct {
	Serve func(ctx context.Context, from knowledge.NodeID, body []byte) ([]byte, error)
	// Stream writes what may be large, piece by piece: at most 64 MiB in a minute,
	// and each piece waits until the caller reads. After an error, or without nil in
	// the end, the caller gets an error for what is missing.
	Stream  func(ctx context.Context, from knowledge.NodeID, body []byte, w io.Writer) error
	MaxBody int64 // 0: 1 MiB
}

const (
	defaultBody = 1 << 20
	maxAnswer   = trust.MaxMessage
	callTime    = 10 * time.Second
	// maxPeers: a cluster has a thousand nodes; its past members go after a while.
	maxPeers = 4096
)

// limits are what an unknown caller or a failing peer may cost. Tests shorten the times.
type limits struct {
	handshake  time.Duration // of TLS, and of a dial
	read       time.Duration // a whole request
	write      time.Duration // a whole answer
	stuck      time.Duration // no byte could be written
	stream     time.Duration // a whole stream
	unread     time.Duration // a piece of a stream that the caller does not read
	idle       time.Duration // our own connections; the server's are closed later
	janitor    time.Duration
	forget     time.Duration // a peer without anything to do
	handshakes int           // under way; a new one drops the oldest
	conns      int           // of known peers
	peerConns  int           // one is enough; two cross at a restart
	requests   int32         // of one peer at a time
	held       int64         // bytes of all bodies and answers under way
	peerHeld   int64         // of one peer: a single one that stalls must not use up all
	streams    int32         // under way, of all peers; each packs with tables of a megabyte
	peerStream int32         // of one peer
	streamed   int64         // bytes of one stream, unpacked
}

func defaultLimits() limits {
	return limits{
		handshake: 5 * time.Second, read: 10 * time.Second, write: 15 * time.Second, stuck: 5 * time.Second,
		idle: 90 * time.Second, janitor: 15 * time.Second, forget: 10 * time.Minute,
		// 1024 connections at about 50 KiB are 50 MiB: every node of a large
		// cluster may report to one owner. Strangers have 256 places of their own.
		handshakes: 256, conns: 1024, peerConns: 4, requests: 32, held: 64 << 20, peerHeld: 16 << 20,
		stream: time.Minute, unread: 10 * time.Second, streams: 8, peerStream: 2, streamed: 64 << 20,
	}
}

// ErrClosed is a relay that has ended.
var ErrClosed = errors.New("the relay is closed")

// ErrUnknown is a node of which gossip has no address.
var ErrUnknown = errors.New("no address in gossip")

// ErrIdentity is an address where another node answers.
var ErrIdentity = errors.New("a different node answers at this address")

// NoMethod is the text of a 404 for a method that a node does not have: it is of an older
// version.
const NoMethod = "there is no such method" // compared by older versions

// Relay is both ends of a node's calls.
type Relay struct {
	o         Options
	limits    limits
	cert      tls.Certificate
	transport *http.Transport
	pack      *packer
	held      atomic.Int64
	streaming atomic.Int32

	ctx  context.Context // ends with Close
	stop context.CancelFunc
	wg   sync.WaitGroup

	strangers, refusedConns, crowded atomic.Uint64
	began                            time.Time
	lastLog                          atomic.Int64 // nanoseconds since began; 0: never

	mu       sync.Mutex // never held across I/O
	closed   bool
	peers    map[knowledge.NodeID]*peer
	acceptor *acceptor // while Serve runs
	// The bytes of peers that were forgotten: a sum that fell would be taken for a restart.
	pastIn, pastOut uint64
}

// New makes a relay that can call at once and serves when Serve is called. Close
// ends it.
func New(o Options) (*Relay, error) { return newRelay(o, defaultLimits()) }

func newRelay(o Options, l limits) (*Relay, error) {
	if o.Self == nil || o.Lookup == nil || o.Known == nil {
		return nil, errors.New("a relay needs Self, Lookup and Known")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Dial == nil {
		o.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", addr)
		}
	}
	for name, h := range o.Handlers {
		if (h.Serve == nil) == (h.Stream == nil) {
			return nil, fmt.Errorf("relay method %.80q needs either Serve or Stream", name)
		}
		if !validMethod(name) || name == alive {
			return nil, fmt.Errorf("relay method %.80q: invalid name", name)
		}
	}
	cert, err := o.Self.Certificate(o.Now())
	if err != nil {
		return nil, err
	}
	r := &Relay{o: o, limits: l, cert: cert, pack: newPacker(), peers: map[knowledge.NodeID]*peer{}, began: o.Now()}
	r.ctx, r.stop = context.WithCancel(context.Background())
	r.transport = r.newTransport()
	r.spawn(r.tidy)
	return r, nil
}

// spawn runs f until Close waits for it; false after Close.
func (r *Relay) spawn(f func()) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false
	}
	r.wg.Go(f)
	return true
}

// enter is spawn for a goroutine that runs already; wg.Done ends it.
func (r *Relay) enter() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.closed {
		r.wg.Add(1)
	}
	return !r.closed
}

// Close cuts all connections, ends all calls and waits for what the relay began. It
// may be called twice.
func (r *Relay) Close() {
	r.mu.Lock()
	r.closed = true
	g := r.acceptor
	peers := make([]*peer, 0, len(r.peers))
	for _, p := range r.peers {
		peers = append(peers, p)
	}
	r.mu.Unlock()
	r.stop()
	if g != nil {
		g.cut()
	}
	for _, p := range peers {
		p.close()
	}
	r.wg.Wait()
}

// peer finds or makes the state of a node.
func (r *Relay) peer(id knowledge.NodeID) (*peer, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, ErrClosed
	}
	p, ok := r.peers[id]
	if !ok {
		if len(r.peers) >= maxPeers {
			return nil, fmt.Errorf("cannot remember more than %d peers", maxPeers)
		}
		p = newPeer(id)
		r.peers[id] = p
	}
	p.touched = r.o.Now()
	return p, nil
}

// tidy closes idle connections, and forgets peers without any.
func (r *Relay) tidy() {
	tick := time.NewTicker(r.limits.janitor)
	defer tick.Stop()
	for {
		select {
		case <-r.ctx.Done():
			return
		case <-tick.C:
		}
		now := r.o.Now()
		var idle []*link
		r.mu.Lock()
		for id, p := range r.peers {
			old, empty := p.tidy(now, r.limits.idle)
			if old != nil {
				idle = append(idle, old)
			}
			if empty && now.Sub(p.touched) > r.limits.forget {
				r.pastIn, r.pastOut = r.pastIn+p.in.Load(), r.pastOut+p.out.Load()
				delete(r.peers, id)
			}
		}
		r.mu.Unlock()
		for _, l := range idle {
			l.cut()
		}
	}
}

// Stats is what the relay did since it was made.
type Stats struct {
	Peers     []PeerStats // by id
	Strangers uint64      // handshakes that failed: unknown nodes, garbage, other TLS
	Refused   uint64      // connections of known nodes beyond the bounds
	Crowded   uint64      // calls refused because a peer or all of them had too many under way
	Conns     int         // open to this node's port
	In, Out   uint64      // bytes of all peers, with those that were forgotten
}

// PeerStats counts since the peer was last forgotten.
type PeerStats struct {
	ID      knowledge.NodeID
	In, Out uint64 // bytes on the wire, TLS included, TCP's own not
	Calls   uint64 // made to it, with those that failed
	Errors  uint64
	Served  uint64        // made by it
	RTT     time.Duration // smoothed, of Alive and of calls; 0: none yet
}

// Stats is for the metrics and `members`.
func (r *Relay) Stats() Stats {
	s := Stats{Strangers: r.strangers.Load(), Refused: r.refusedConns.Load(), Crowded: r.crowded.Load()}
	r.mu.Lock()
	peers := make([]*peer, 0, len(r.peers))
	for _, p := range r.peers {
		peers = append(peers, p)
	}
	g := r.acceptor
	s.In, s.Out = r.pastIn, r.pastOut
	r.mu.Unlock()
	if g != nil {
		s.Conns = g.open()
	}
	for _, p := range peers {
		of := p.stats()
		s.Peers = append(s.Peers, of)
		s.In, s.Out = s.In+of.In, s.Out+of.Out
	}
	slices.SortFunc(s.Peers, func(a, b PeerStats) int { return cmp.Compare(a.ID, b.ID) })
	return s
}
