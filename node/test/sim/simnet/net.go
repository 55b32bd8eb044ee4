// Package simnet is a network in memory for tests: packets for memberlist, and
// streams with deadlines for everything else. It has no sockets, so that a whole
// cluster fits into a testing/synctest bubble, where memberlist's own MockTransport
// deadlocks: nothing here blocks while it holds a lock, a sender never waits for a
// receiver, and whoever shuts down is gone at once. It works outside a bubble, too.
//
// Faults are per directed link, per host, or everywhere. Chance comes from one
// seed; what happens is as repeatable as the order in which goroutines ask for it.
package simnet

import (
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Fault is what a link does to what crosses it. The zero value is a perfect link.
type Fault struct {
	// Loss and Duplicate are the shares of packets, 0 to 1. Streams lose nothing:
	// what they send is late by TCP's retransmission timeouts instead.
	Loss, Duplicate float64
	// Delay is one way; Jitter is what may be added to it, evenly.
	Delay, Jitter time.Duration
	// Cut: packets vanish, streams hang until the link heals or their deadline.
	Cut bool
	// MTU drops packets with a longer payload; 0 takes all.
	MTU int
}

// and is both faults, one after the other.
func (f Fault) and(o Fault) Fault {
	return Fault{
		Loss:      1 - (1-f.Loss)*(1-o.Loss),
		Duplicate: 1 - (1-f.Duplicate)*(1-o.Duplicate),
		Delay:     f.Delay + o.Delay,
		Jitter:    f.Jitter + o.Jitter,
		Cut:       f.Cut || o.Cut,
		MTU:       least(f.MTU, o.MTU),
	}
}

// least is the smaller of two bounds of which 0 is none.
func least(a, b int) int {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

type link struct{ from, to string }

// Net is a network. All methods may be used by many goroutines.
type Net struct {
	mu     sync.Mutex // guards all below; never held while anything waits
	chance *rand.Rand
	hosts  map[string]*Host
	links  map[link]Fault
	all    Fault
	conns  map[*conn]bool
	closed bool
}

// New makes an empty network.
func New(seed int64) *Net {
	return &Net{
		chance: rand.New(rand.NewPCG(uint64(seed), 0x51e7)),
		hosts:  map[string]*Host{}, links: map[link]Fault{}, conns: map[*conn]bool{},
	}
}

// Host is a machine with one address.
type Host struct {
	net  *Net
	ip   netip.Addr
	name string

	// Guarded by net.mu.
	fault     Fault
	down      bool
	frozen    chan struct{} // closed by Thaw; nil: it is not frozen
	buffered  []func()      // packets that came meanwhile
	listeners map[int]*listener
	packets   map[int]*Transport
	nextPort  int
	stats     Stats
}

// Stats counts what a host sent and took. Bytes are payloads: the headers of UDP
// and TCP, 28 and 40 bytes each over IPv4, are not in them.
type Stats struct {
	PacketsOut, PacketsIn uint64
	BytesOut, BytesIn     uint64
	StreamOut, StreamIn   uint64 // bytes in streams
	Dials, Accepted       uint64
	Lost                  uint64 // packets to this host that never came: loss, cuts, a full queue
}

// Host finds or makes the machine with this IP address.
func (n *Net) Host(ip string) *Host {
	a, err := netip.ParseAddr(ip)
	if err != nil {
		panic("simnet: " + err.Error())
	}
	a = a.Unmap()
	n.mu.Lock()
	defer n.mu.Unlock()
	if h, ok := n.hosts[a.String()]; ok {
		return h
	}
	h := &Host{net: n, ip: a, name: a.String(), listeners: map[int]*listener{}, packets: map[int]*Transport{},
		nextPort: 40000}
	n.hosts[h.name] = h
	return h
}

// Everywhere sets the fault of every link that has none of its own.
func (n *Net) Everywhere(f Fault) { n.change(func() { n.all = f }) }

// Link sets the fault of one direction, instead of Everywhere's.
func (n *Net) Link(from, to string, f Fault) { n.change(func() { n.links[link{from, to}] = f }) }

// Cut stops what goes one way; what goes back still arrives.
func (n *Net) Cut(from, to string) {
	n.change(func() { n.cut(from, to) })
}

// CutBoth stops both directions.
func (n *Net) CutBoth(a, b string) {
	n.change(func() { n.cut(a, b); n.cut(b, a) })
}

// Partition cuts every link between hosts of different sides.
func (n *Net) Partition(sides ...[]string) {
	n.change(func() {
		for i, side := range sides {
			for _, other := range sides[i+1:] {
				for _, a := range side {
					for _, b := range other {
						n.cut(a, b)
						n.cut(b, a)
					}
				}
			}
		}
	})
}

func (n *Net) cut(from, to string) {
	l := link{from, to}
	f, ok := n.links[l]
	if !ok {
		f = n.all
	}
	f.Cut = true
	n.links[l] = f
}

// Mend takes back what Link and the cuts did between two hosts, both ways.
func (n *Net) Mend(a, b string) {
	n.change(func() { delete(n.links, link{a, b}); delete(n.links, link{b, a}) })
}

// Heal makes every link and host perfect again. Hosts that are down stay down.
func (n *Net) Heal() {
	n.change(func() {
		n.all = Fault{}
		clear(n.links)
		for _, h := range n.hosts {
			h.fault = Fault{}
		}
	})
}

// change applies f, then lets streams follow.
func (n *Net) change(f func()) {
	n.mu.Lock()
	f()
	conns := make([]*conn, 0, len(n.conns))
	for c := range n.conns {
		conns = append(conns, c)
	}
	n.mu.Unlock()
	for _, c := range conns {
		c.in.weather()
	}
}

// Fault sets what happens to all that this host sends and takes, besides the links' faults.
func (h *Host) Fault(f Fault) { h.net.change(func() { h.fault = f }) }

// Down resets the host's streams, refuses new ones at once and drops packets.
// Whoever listened still does after Up.
func (h *Host) Down() {
	h.net.mu.Lock()
	h.down = true
	gone := h.own()
	h.net.mu.Unlock()
	for _, c := range gone {
		c.reset()
	}
}

// Up ends Down.
func (h *Host) Up() { h.net.change(func() { h.down = false }) }

// Freeze makes the host's process stand still, as SIGSTOP or a paused virtual
// machine does: nothing leaves it, and what comes waits in the kernel's buffers, of
// packets as many as those hold. Who writes a packet, dials or reads stands still
// with it; the rest of the process is the test's to stop.
func (h *Host) Freeze() {
	h.net.change(func() {
		if h.frozen == nil {
			h.frozen = make(chan struct{})
		}
	})
}

// Thaw ends Freeze.
func (h *Host) Thaw() {
	h.net.change(func() {
		if h.frozen == nil {
			return
		}
		close(h.frozen)
		h.frozen = nil
		for _, deliver := range h.buffered {
			deliver()
		}
		h.buffered = nil
	})
}

// Frozen reports whether Freeze is in force.
func (h *Host) Frozen() bool {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	return h.frozen != nil
}

// Stand waits while the host is frozen.
func (h *Host) Stand() {
	for {
		h.net.mu.Lock()
		frozen := h.frozen
		h.net.mu.Unlock()
		if frozen == nil {
			return
		}
		<-frozen
	}
}

// own is the host's ends of streams. n.mu is held.
func (h *Host) own() []*conn {
	var own []*conn
	for c := range h.net.conns {
		if c.host == h {
			own = append(own, c)
		}
	}
	return own
}

// IP is the host's address.
func (h *Host) IP() string { return h.name }

// Stats is what the host sent and took since the network was made.
func (h *Host) Stats() Stats {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	return h.stats
}

// Stats is that of every host, by address.
func (n *Net) Stats() map[string]Stats {
	n.mu.Lock()
	defer n.mu.Unlock()
	all := make(map[string]Stats, len(n.hosts))
	for ip, h := range n.hosts {
		all[ip] = h.stats
	}
	return all
}

// Close ends every stream, listener and transport. Nothing is delivered any more.
func (n *Net) Close() {
	n.mu.Lock()
	n.closed = true
	var listeners []*listener
	var conns []*conn
	for _, h := range n.hosts {
		for _, l := range h.listeners {
			listeners = append(listeners, l)
		}
		clear(h.packets)
	}
	for c := range n.conns {
		conns = append(conns, c)
	}
	n.mu.Unlock()
	for _, l := range listeners {
		_ = l.Close()
	}
	for _, c := range conns {
		c.reset()
	}
}

// between is the fault from one host to another. n.mu is held.
func (n *Net) between(from, to *Host) Fault {
	if from == to {
		return Fault{}
	}
	f, ok := n.links[link{from.name, to.name}]
	if !ok {
		f = n.all
	}
	return f.and(from.fault).and(to.fault)
}

// late is one passage's delay. n.mu is held.
func (n *Net) late(f Fault) time.Duration {
	d := f.Delay
	if f.Jitter > 0 {
		d += time.Duration(n.chance.Int64N(int64(f.Jitter)))
	}
	return d
}

// tries is how long TCP takes to get something through a lossy link: its timeout
// doubles with every loss. n.mu is held.
func (n *Net) tries(f Fault, timeout time.Duration) time.Duration {
	var d time.Duration
	for range 10 {
		if n.chance.Float64() >= f.Loss {
			break
		}
		d += timeout
		timeout *= 2
	}
	return d
}

// find is the host of an address, nil if there is none. n.mu is held.
func (n *Net) find(addr string) (*Host, int) {
	ap, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, 0
	}
	return n.hosts[ap.Addr().Unmap().String()], int(ap.Port())
}

// port is the first free one from the host's last. n.mu is held.
func (h *Host) port() int {
	for {
		h.nextPort++
		if h.nextPort > 65535 {
			h.nextPort = 40001
		}
		if h.listeners[h.nextPort] == nil && h.packets[h.nextPort] == nil {
			return h.nextPort
		}
	}
}

func (h *Host) tcp(port int) *net.TCPAddr {
	return &net.TCPAddr{IP: h.ip.AsSlice(), Port: port}
}
