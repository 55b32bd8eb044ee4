// Package member is the membership by gossip: the adapter to hashicorp/memberlist. It
// keeps what memberlist forgets (members that left or failed, their addresses), joins and
// rejoins for ever, refuses what unknown senders and other clusters send and logs that once
// a minute, and detects a second node with this one's name or id.
//
// Gossip alone does not decide which node may act: two nodes can see different members for
// as long as a link works one way only.
package member

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/rs/zerolog"

	"github.com/effiscale/effiscale/knowledge"
)

// DefaultPort is gossip's where none is given.
const DefaultPort = 7946

// DefaultPacket fits IPv6's least MTU, 1280, with its header of 40 bytes, UDP's 8
// and the checksum that memberlist forgets to count.
const DefaultPacket = 1220

// Timing are the failure detection timeouts.
type Timing string

// The timings.
const (
	Fast Timing = "fast" // a crash is detected in about 2 s at 100 nodes, for 0.7 KB/s a node
	LAN  Timing = "lan"  // 10 s, 0.2 KB/s
	WAN  Timing = "wan"
)

// Options are what Open needs. ID, Meta.Name and Bind are required.
type Options struct {
	ID      knowledge.NodeID
	Meta    Meta   // Started is now where it is zero
	Cluster string // its name; others' gossip is refused
	// Bind is an IP address with a port, 0 for any; Advertise is the address for
	// others: host:port, a host, or "" for Bind.
	Bind, Advertise string
	Keys            [][]byte // the first encrypts; none is allowed on loopback only
	Timing          Timing   // "" is Fast
	Join            []string // seeds: host:port, or hosts with DefaultPort
	// Introduced are seeds from discovery; Introduce replaces them.
	Introduced []string
	AllowCIDRs []string // networks that members may be in; none: all
	// Transport is a network of a test; keys are not required there.
	Transport memberlist.Transport
	Kept      []Seen // of earlier starts
	Log       zerolog.Logger
	Now       func() time.Time
	// Changed is called after changes of membership or metadata, several at once
	// perhaps, from a goroutine that waits for it: it must not block.
	Changed func()
	// Conflict is called once for each living node that has this one's name, or
	// this one's id at another address. weYield: this node is to end, for it is new where
	// the other one has settled (both new or both not: for it started later; with the same
	// second, the higher id or address).
	Conflict func(other Peer, weYield bool)
	// RejoinEvery is the least time between two tries to join missing members, the
	// most is three times as much; 0 is 10 s.
	RejoinEvery   time.Duration
	UDPBufferSize int // most bytes of a packet; 0 is DefaultPacket

	networks  []netip.Prefix
	bind      netip.AddrPort
	advertise netip.AddrPort // port 0: bind's
}

// Members is the membership as this node sees it.
type Members struct {
	o        Options
	ml       *memberlist.Memberlist
	keyring  keyring
	refusals *refusals
	addr     netip.AddrPort // advertised

	ctx    context.Context // of all goroutines
	cancel context.CancelFunc
	jobs   sync.WaitGroup
	// closing is held by Leave and Close, which call into memberlist for long: a
	// channel, for a bubble takes waiting on a mutex for work.
	closing chan struct{}
	left    atomic.Bool
	version atomic.Uint64 // counts what changes in Peers, but for times
	changed chan struct{} // another node did
	dirty   chan struct{} // our metadata did

	roster    *roster
	leaves    *leaves
	conflicts *conflicts
	pings     *pings
	joiner    *joiner

	mu     sync.Mutex // guards all below; memberlist is never called with it
	meta   Meta
	packed []byte    // of meta
	edits  int       // of meta
	began  time.Time // when this node started
	ended  time.Time // when it left
	closed bool
}

// Open binds the sockets and answers from then on. Run looks for the others.
func Open(o Options) (*Members, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	m := &Members{
		o: o, meta: o.Meta, refusals: newRefusals(o.Log, o.Now), began: o.Now(),
		closing: make(chan struct{}, 1), changed: make(chan struct{}, 1), dirty: make(chan struct{}, 1),
	}
	m.roster = &roster{m: m, entries: map[knowledge.NodeID]*entry{}}
	m.leaves = &leaves{m: m, queue: &memberlist.TransmitLimitedQueue{NumNodes: m.count, RetransmitMult: 8}}
	m.conflicts = &conflicts{
		m: m, wake: make(chan struct{}, 1), open: map[duplicate]meeting{}, reported: map[duplicate]bool{},
	}
	m.pings = &pings{m: m, queue: make(chan []byte, asksWaiting), asked: map[uint64]chan struct{}{}}
	m.joiner = &joiner{m: m, again: make(chan struct{}, 1), dials: make(chan struct{}, joinAtOnce)}
	m.refusals.suspect, m.refusals.called = m.roster.noteSuspect, m.roster.called
	m.ctx, m.cancel = context.WithCancel(context.Background())
	m.roster.remember(o.Kept)
	if err := m.open(); err != nil {
		m.cancel()
		return nil, fmt.Errorf("cannot gossip on %s: %w", o.Bind, err)
	}
	sent := m.snapshot()
	m.jobs.Go(func() { m.loop(sent) })
	m.jobs.Go(m.conflicts.watch)
	return m, nil
}

func (m *Members) open() error {
	var err error
	if m.keyring, err = newKeyring(m.o.Keys); err != nil {
		return err
	}
	m.meta.Keys = m.keyring.prints()
	if m.packed, err = m.meta.Pack(); err != nil {
		return err
	}
	m.packed = m.pad(m.packed)
	c := m.config()
	inner, err := m.transport(c.Logger)
	if err != nil {
		return err
	}
	if m.addr, err = m.o.reach(inner); err != nil {
		_ = inner.Shutdown()
		return err
	}
	c.AdvertiseAddr, c.AdvertisePort = m.addr.Addr().String(), int(m.addr.Port())
	if len(c.CIDRsAllowed) > 0 && m.addr.Addr().IsLoopback() { // memberlist refuses itself, too
		bits := m.addr.Addr().BitLen()
		c.CIDRsAllowed = append(c.CIDRsAllowed, net.IPNet{IP: m.addr.Addr().AsSlice(), Mask: net.CIDRMask(bits, bits)})
	}
	c.BindAddr, c.BindPort = m.o.bind.Addr().String(), int(m.addr.Port())
	g := newFilter(inner, m.o, m.refusals)
	c.Transport = g
	if m.ml, err = memberlist.Create(c); err != nil {
		_ = g.Shutdown()
	}
	return err
}

// config is memberlist's, but for the addresses.
func (m *Members) config() *memberlist.Config {
	c := memberlist.DefaultLANConfig()
	c.RetransmitMult = 8 // with 4 some miss one of a dozen that start at once for 30 s
	switch m.o.Timing {
	case WAN:
		c = memberlist.DefaultWANConfig()
		c.RetransmitMult = 8
	case LAN:
	default:
		// At 30 % loss five nodes declared each other dead 15 times a minute with
		// 4 (times the log of the members) transmissions, every other minute with 8,
		// once in 48 minutes with 12. More suspicion would make crashes known later.
		c.RetransmitMult = 12
		c.ProbeInterval, c.ProbeTimeout = 250*time.Millisecond, 100*time.Millisecond
		c.GossipInterval, c.SuspicionMult = 100*time.Millisecond, 3
		c.TCPTimeout = 5 * time.Second
	}
	d := delegate{m}
	c.Name, c.Label, c.Keyring = string(m.o.ID), m.o.Cluster, m.keyring.ring
	c.Delegate, c.Events, c.Conflict, c.Merge, c.Ping, c.Alive = d, d, d, d, d, d
	c.EnableCompression = false
	c.UDPBufferSize = m.o.UDPBufferSize
	// A host may come back with another address as soon as it has failed.
	c.DeadNodeReclaimTime = time.Nanosecond
	c.Logger = log.New(m.refusals, "", 0)
	for _, p := range m.o.networks {
		_, n, _ := net.ParseCIDR(p.String())
		c.CIDRsAllowed = append(c.CIDRsAllowed, *n)
	}
	return c
}

// transport is the real network, or the one that was given.
func (m *Members) transport(logger *log.Logger) (memberlist.NodeAwareTransport, error) {
	switch t := m.o.Transport.(type) {
	case nil:
	case memberlist.NodeAwareTransport:
		return t, nil
	default:
		return nil, fmt.Errorf("%T is no memberlist.NodeAwareTransport", t)
	}
	var err error
	// With port 0 the kernel's choice for TCP may be taken for UDP.
	for range 10 {
		var t *memberlist.NetTransport
		t, err = memberlist.NewNetTransport(&memberlist.NetTransportConfig{
			BindAddrs: []string{m.o.bind.Addr().String()}, BindPort: int(m.o.bind.Port()), Logger: logger,
		})
		if err == nil {
			return t, nil
		}
		if m.o.bind.Port() != 0 {
			break
		}
	}
	return nil, err
}

// reach is the address for others.
func (o *Options) reach(t memberlist.Transport) (netip.AddrPort, error) {
	ip, port, err := t.FinalAdvertiseAddr("", 0) // what it is bound to
	if o.advertise.IsValid() {
		ip, err = o.advertise.Addr().AsSlice(), nil
		if real, ok := t.(*memberlist.NetTransport); ok {
			port = real.GetAutoBindPort()
		}
		if p := o.advertise.Port(); p != 0 {
			port = int(p)
		}
	}
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("cannot find this node's address, set cluster.advertise: %w", err)
	}
	a, _ := netip.AddrFromSlice(ip)
	at := netip.AddrPortFrom(a.Unmap(), uint16(port))
	switch {
	case !at.IsValid() || a.IsUnspecified() || port == 0:
		return at, fmt.Errorf("others cannot reach this node at %v: set cluster.advertise", at)
	case !o.allowed(at.Addr()):
		return at, fmt.Errorf("this node's own address %v is in none of the allowed networks %v", at.Addr(), o.networks)
	case a.IsLoopback() && !o.bind.Addr().IsLoopback() && o.Transport == nil:
		return at, fmt.Errorf("others cannot reach this node at %v, it listens on %v: set cluster.advertise", at, o.bind)
	}
	return at, nil
}

// allowed reports whether a member may have the address.
func (o *Options) allowed(a netip.Addr) bool {
	return len(o.networks) == 0 || a.IsLoopback() ||
		slices.ContainsFunc(o.networks, func(p netip.Prefix) bool { return p.Contains(a) })
}

// check completes the options; the error is which one is invalid.
func (o *Options) check() error {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Meta.Started == 0 {
		o.Meta.Started = o.Now().Unix()
	}
	if o.RejoinEvery <= 0 {
		o.RejoinEvery = 10 * time.Second
	}
	if o.UDPBufferSize <= 0 {
		o.UDPBufferSize = DefaultPacket
	}
	var err error
	switch {
	case !validID(string(o.ID)):
		return fmt.Errorf("a node's id is 32 hexadecimal digits, not %q", string(o.ID))
	case o.Timing != "" && o.Timing != Fast && o.Timing != LAN && o.Timing != WAN:
		return fmt.Errorf("the timing is fast, lan or wan, not %q", string(o.Timing))
	case len(o.Cluster) > maxName || !printable(o.Cluster):
		return fmt.Errorf("the cluster's name %q is longer than %d bytes, or cannot be printed", o.Cluster, maxName)
	case len(o.Keys) > maxKeys:
		return fmt.Errorf("at most %d keys are allowed, not %d", maxKeys, len(o.Keys))
	}
	for _, s := range o.AllowCIDRs {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return fmt.Errorf("cannot read the network %q: %w", s, err)
		}
		o.networks = append(o.networks, p.Masked())
	}
	if o.bind, err = netip.ParseAddrPort(o.Bind); err != nil {
		return fmt.Errorf("invalid bind address %q, want an IP address with a port: %w", o.Bind, err)
	}
	if len(o.Keys) == 0 && o.Transport == nil && !o.bind.Addr().IsLoopback() {
		return fmt.Errorf("gossip without a key is allowed on loopback only, not on %v: run effiscale keygen", o.bind)
	}
	return o.checkAdvertise()
}

func (o *Options) checkAdvertise() error {
	if o.Advertise == "" {
		return nil
	}
	host, port, err := net.SplitHostPort(o.Advertise)
	if err != nil {
		host, port = strings.Trim(o.Advertise, "[]"), "0"
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return fmt.Errorf("cannot read the port of the advertised address %q", o.Advertise)
	}
	a, err := netip.ParseAddr(host)
	if err != nil {
		found, err := net.DefaultResolver.LookupNetIP(context.Background(), "ip", host)
		if err != nil || len(found) == 0 {
			return fmt.Errorf("cannot resolve the advertised address %q: %w", o.Advertise, err)
		}
		a = found[0]
	}
	a = a.Unmap()
	if a.IsUnspecified() || a.IsLoopback() && !o.bind.Addr().IsLoopback() {
		return fmt.Errorf("others cannot reach this node at cluster.advertise %s, it listens on %v", o.Advertise, o.bind)
	}
	o.advertise = netip.AddrPortFrom(a, uint16(n))
	return nil
}

func validID(s string) bool {
	if len(s) != 32 {
		return false
	}
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// Addr is the address for others: host:port.
func (m *Members) Addr() string { return m.addr.String() }

// Health is memberlist's score of this node itself: 0 is healthy, up to 7.
func (m *Members) Health() int { return m.ml.GetHealthScore() }

// Counts is for the metrics.
func (m *Members) Counts() Counts {
	refused, at, of := m.refusals.snapshot()
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.roster.counts
	c.Refused, c.RefusedAt, c.RefusedOf = refused, at, of
	return c
}

// count is how many are alive, this node included.
func (m *Members) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.roster.alive + 1
}

var (
	errClosed = errors.New("gossip has ended")
	errLeft   = errors.New("this node has left its cluster: restart its daemon to join again")
)

// Leave sends the leave notice, and waits at most until timeout that some have it. The node
// cannot come back with this Members.
func (m *Members) Leave(timeout time.Duration) error {
	m.closing <- struct{}{}
	defer func() { <-m.closing }()
	if m.isClosed() {
		return errClosed
	}
	if m.left.Load() {
		return nil
	}
	now := m.o.Now()
	m.mu.Lock()
	m.ended = now
	m.mu.Unlock()
	m.left.Store(true)
	m.version.Add(1)
	m.edit(func(meta *Meta) { meta.State = Leaving })
	m.leaves.send()
	defer m.leaves.send() // once more: on a bad network every packet of the first may be lost
	if err := m.ml.Leave(max(timeout, time.Millisecond)); err != nil {
		return fmt.Errorf("left, but the leave notice was not acknowledged; others detect it within seconds: %w", err)
	}
	return nil
}

// Close ends all that Open and Run began, without a leave notice. It may be called twice.
func (m *Members) Close() error {
	m.closing <- struct{}{}
	defer func() { <-m.closing }()
	m.mu.Lock()
	first := !m.closed
	m.closed = true
	m.mu.Unlock()
	if !first {
		return nil
	}
	m.cancel()
	err := m.ml.Shutdown()
	m.jobs.Wait()
	return err
}

func (m *Members) isClosed() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.closed
}

// spawn runs f until Close waits for it; false after Close.
func (m *Members) spawn(f func()) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return false
	}
	m.jobs.Go(f)
	return true
}

// wake sends without waiting: one note is enough.
func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
