package member

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// Bounds on what unknown senders may hold before a key is checked. memberlist
// alone starts a goroutine for each stream and buffers up to 20 MiB in it.
const (
	maxStreams   = 256
	maxFrom      = 64       // streams of one address; an IPv6 network of 64 bits is one
	maxState     = 4 << 20  // bytes read from one stream: the state of 6000 members
	maxBuffered  = 32 << 20 // of all streams together
	fromBuffered = 16 << 20 // of one address
)

// The first byte of a message, from memberlist's net.go.
const (
	typeIndirect = 1
	typeCompress = 9
	typeHighest  = 13
	typeLabel    = 244
	// encryption is the version byte of an encrypted packet; a nonce of 12 bytes
	// and a tag of 16 belong to it.
	encryption  = 1
	leastCipher = 1 + 12 + 16
)

// filter is the transport between the network and memberlist. What can be refused without
// a key is refused here, counted and logged; streams have bounds and end with it.
type filter struct {
	inner    memberlist.NodeAwareTransport
	label    string
	keyed    bool
	allow    []netip.Prefix
	refusals *refusals
	direct   bool // dial by itself, so that Shutdown can cancel

	packets chan *memberlist.Packet
	streams chan net.Conn
	ctx     context.Context // ends when the inner transport has shut down
	cancel  context.CancelFunc
	dialing context.Context // ends when Shutdown begins
	hangUp  context.CancelFunc
	pump    sync.WaitGroup

	mu     sync.Mutex // guards all below
	open   map[*stream]bool
	from   map[string]*holding
	total  holding
	count  uint64 // incoming streams so far
	closed bool
}

// holding is what one address has of this node.
type holding struct{ streams, bytes int }

var _ memberlist.NodeAwareTransport = (*filter)(nil)

func newFilter(inner memberlist.NodeAwareTransport, o Options, r *refusals) *filter {
	g := &filter{
		inner: inner, label: o.Cluster, keyed: len(o.Keys) > 0, allow: o.networks, refusals: r, direct: o.Transport == nil,
		packets: make(chan *memberlist.Packet, 64), streams: make(chan net.Conn),
		open: map[*stream]bool{}, from: map[string]*holding{},
	}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	g.dialing, g.hangUp = context.WithCancel(g.ctx)
	g.pump.Go(g.run)
	return g
}

func (g *filter) run() {
	for {
		select {
		case p := <-g.inner.PacketCh():
			if cause, detail := g.judge(p); cause != "" {
				g.refusals.note(cause, hostOf(p.From.String()), detail)
				continue
			}
			select {
			case g.packets <- p:
			case <-g.ctx.Done():
				return
			}
		case c := <-g.inner.StreamCh():
			s := g.admit(c)
			if s == nil {
				continue
			}
			select {
			case g.streams <- s:
			case <-g.ctx.Done():
				_ = s.Close()
				return
			}
		case <-g.ctx.Done():
			return
		}
	}
}

// judge checks a packet as far as no key is needed; "" accepts it.
func (g *filter) judge(p *memberlist.Packet) (Cause, string) {
	if !g.allowed(p.From) {
		return CauseNetwork, ""
	}
	b, label, err := memberlist.RemoveLabelHeaderFromPacket(p.Buf)
	switch {
	case err != nil || len(b) == 0:
		return CauseGarbage, ""
	case label != g.label && label != "" && printable(label):
		return CauseCluster, fmt.Sprintf("%.64q", label)
	case label != g.label:
		return CauseGarbage, ""
	case g.keyed && b[0] != encryption && b[0] <= typeHighest:
		return CausePlaintext, ""
	case g.keyed && (b[0] != encryption || len(b) < leastCipher):
		return CauseGarbage, ""
	case g.keyed:
		return "", ""
	case b[0] == typeCompress:
		return CauseCompressed, ""
	case b[0] == typeIndirect && len(b) >= leastCipher && b[1]&0xf0 != 0x80: // no map of MessagePack follows
		return CauseEncrypted, ""
	case b[0] > typeHighest:
		return CauseGarbage, ""
	}
	return "", ""
}

func (g *filter) allowed(from net.Addr) bool {
	if len(g.allow) == 0 {
		return true
	}
	ap, err := netip.ParseAddrPort(from.String())
	if err != nil {
		return false
	}
	for _, p := range g.allow {
		if p.Contains(ap.Addr().Unmap()) {
			return true
		}
	}
	return false
}

// admit wraps an incoming stream, or closes it and returns nil.
func (g *filter) admit(c net.Conn) *stream {
	at := hostOf(c.RemoteAddr().String())
	if !g.allowed(c.RemoteAddr()) {
		_ = c.Close()
		g.refusals.note(CauseNetwork, at, "")
		return nil
	}
	s := &stream{Conn: c, filter: g, at: at, group: groupOf(c.RemoteAddr()), incoming: true}
	out, ok := g.take(s)
	crowd := fmt.Sprintf("%d streams and %d of one address are allowed", maxStreams, maxFrom)
	if out != nil {
		_ = out.Close()
		g.refusals.note(CauseCrowd, out.at, crowd)
	}
	if !ok {
		_ = c.Close()
		g.refusals.note(CauseCrowd, at, crowd)
		return nil
	}
	return s
}

// groupOf is the address, or its IPv6 network of 64 bits, whose streams are counted
// together: one host may have 2^64 addresses.
func groupOf(a net.Addr) string {
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return hostOf(a.String())
	}
	ip := ap.Addr().Unmap().WithZone("")
	if ip.Is6() {
		if p, err := ip.Prefix(64); err == nil {
			return p.String()
		}
	}
	return ip.String()
}

// take counts a stream; false when there are too many. Before that the oldest one without
// an answer, of those of the same address where these are too many, is dropped and is to
// be closed: honest ones take milliseconds.
func (g *filter) take(s *stream) (out *stream, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil, false
	}
	if s.incoming {
		h := g.from[s.group]
		crowded := h != nil && h.streams >= maxFrom
		if crowded || g.total.streams >= maxStreams {
			if out = g.oldest(s.group, crowded); out == nil {
				return nil, false
			}
			g.drop(out)
		}
		if h = g.from[s.group]; h == nil {
			h = &holding{}
			g.from[s.group] = h
		}
		h.streams++
		g.total.streams++
		g.count++
		s.number = g.count
	}
	g.open[s] = true
	return out, true
}

// oldest is the oldest stream to which nothing was written yet; nil: there is none. A peer
// that got an answer has the key, or is disconnected after it.
func (g *filter) oldest(group string, only bool) (first *stream) {
	for s := range g.open {
		if s.incoming && !s.answered && (!only || s.group == group) && (first == nil || s.number < first.number) {
			first = s
		}
	}
	return first
}

// release gives back what a stream held.
func (g *filter) release(s *stream) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.drop(s)
}

// drop needs mu.
func (g *filter) drop(s *stream) {
	if !g.open[s] {
		return
	}
	delete(g.open, s)
	if !s.incoming {
		return
	}
	h := g.from[s.group]
	h.streams--
	h.bytes -= s.read
	g.total.streams--
	g.total.bytes -= s.read
	if h.streams == 0 {
		delete(g.from, s.group)
	}
}

var errTooMuch = errors.New("larger than any gossip message")

// grow counts what a stream has read; an error ends it.
func (g *filter) grow(s *stream, n int) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	s.read += n
	if !s.incoming || !g.open[s] {
		if s.read > maxState {
			return errTooMuch
		}
		return nil
	}
	h := g.from[s.group]
	h.bytes += n
	g.total.bytes += n
	if s.read > maxState || h.bytes > fromBuffered || g.total.bytes > maxBuffered {
		return errTooMuch
	}
	return nil
}

// stream is a connection that counts.
type stream struct {
	net.Conn
	filter   *filter
	at       string
	group    string // see groupOf
	incoming bool
	number   uint64 // of an incoming one, in order of arrival
	answered bool   // something was written to it; guarded by filter.mu
	head     []byte // what was read, until it is judged
	judged   bool
	read     int // guarded by filter.mu
}

// Read implements net.Conn.
func (s *stream) Read(b []byte) (int, error) {
	n, err := s.Conn.Read(b)
	if n > 0 {
		if tooMuch := s.filter.grow(s, n); tooMuch != nil {
			s.filter.refusals.note(CauseCrowd, s.at, "a stream sends "+tooMuch.Error())
			return 0, tooMuch
		}
		if !s.judged {
			s.head = append(s.head, b[:n]...)
			cause, more := judgeHead(s.head[:min(len(s.head), headMost)])
			if cause != "" {
				s.filter.refusals.note(cause, s.at, "")
				return 0, errors.New(string(cause))
			}
			if !more {
				s.judged, s.head = true, nil
			}
		}
	}
	return n, err
}

// Write implements net.Conn. It closes the stream after an error: memberlist does not
// when writing the label failed.
func (s *stream) Write(b []byte) (int, error) {
	s.filter.mu.Lock()
	s.answered = true
	s.filter.mu.Unlock()
	n, err := s.Conn.Write(b)
	if err != nil {
		_ = s.Close()
	}
	return n, err
}

// Close implements net.Conn.
func (s *stream) Close() error {
	s.filter.release(s)
	return s.Conn.Close()
}

// FinalAdvertiseAddr implements memberlist.Transport.
func (g *filter) FinalAdvertiseAddr(ip string, port int) (net.IP, int, error) {
	return g.inner.FinalAdvertiseAddr(ip, port)
}

// WriteTo implements memberlist.Transport.
func (g *filter) WriteTo(b []byte, addr string) (time.Time, error) { return g.inner.WriteTo(b, addr) }

// WriteToAddress implements memberlist.NodeAwareTransport.
func (g *filter) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	return g.inner.WriteToAddress(b, a)
}

// PacketCh implements memberlist.Transport.
func (g *filter) PacketCh() <-chan *memberlist.Packet { return g.packets }

// StreamCh implements memberlist.Transport.
func (g *filter) StreamCh() <-chan net.Conn { return g.streams }

// DialTimeout implements memberlist.Transport.
func (g *filter) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return g.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

// DialAddressTimeout implements memberlist.NodeAwareTransport.
func (g *filter) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	if err := g.dialing.Err(); err != nil {
		return nil, net.ErrClosed
	}
	c, err := g.dial(a, timeout)
	if err != nil {
		return nil, err
	}
	s := &stream{Conn: c, filter: g, at: hostOf(a.Addr)}
	if _, ok := g.take(s); !ok {
		_ = c.Close()
		return nil, net.ErrClosed
	}
	// memberlist sets a deadline only after it has written the label.
	_ = c.SetDeadline(time.Now().Add(timeout))
	return s, nil
}

func (g *filter) dial(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	if !g.direct {
		return g.inner.DialAddressTimeout(a, timeout)
	}
	d := net.Dialer{Timeout: timeout}
	return d.DialContext(g.dialing, "tcp", a.Addr)
}

// Shutdown implements memberlist.Transport. memberlist still reads while the inner
// transport ends; after that every stream is closed.
func (g *filter) Shutdown() error {
	g.hangUp()
	err := g.inner.Shutdown()
	g.cancel()
	g.pump.Wait()
	g.mu.Lock()
	g.closed = true
	var all []*stream
	for s := range g.open {
		all = append(all, s)
	}
	g.mu.Unlock()
	for _, s := range all {
		_ = s.Close()
	}
	return err
}
