package simnet

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// queue is how many packets wait to be read; what comes on top is lost, as with
// a socket's buffer.
const queue = 1024

// Transport is a host's packets and streams on one port, for memberlist.
type Transport struct {
	host    *Host
	port    int
	streams *listener
	packets chan *memberlist.Packet
	once    sync.Once
}

var _ memberlist.NodeAwareTransport = (*Transport)(nil)

// Transport binds a port; 0 is any free one. It panics when the port is taken:
// see Bind.
func (h *Host) Transport(port int) *Transport {
	t, err := h.Bind(port)
	if err != nil {
		panic("simnet: " + err.Error())
	}
	return t
}

// Bind is Transport with an error.
func (h *Host) Bind(port int) (*Transport, error) {
	l, err := h.listen(port)
	if err != nil {
		return nil, err
	}
	t := &Transport{host: h, port: l.port, streams: l, packets: make(chan *memberlist.Packet, queue)}
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	h.packets[l.port] = t
	return t, nil
}

// Addr is "ip:port".
func (t *Transport) Addr() string { return t.host.tcp(t.port).String() }

// FinalAdvertiseAddr implements memberlist.Transport.
func (t *Transport) FinalAdvertiseAddr(ip string, port int) (net.IP, int, error) {
	if ip == "" {
		return t.host.ip.AsSlice(), t.port, nil
	}
	a := net.ParseIP(ip)
	if a == nil {
		return nil, 0, fmt.Errorf("cannot parse the address %q", ip)
	}
	if four := a.To4(); four != nil {
		a = four
	}
	return a, port, nil
}

// WriteTo implements memberlist.Transport. Like UDP it never waits, and is silent
// about what is lost.
func (t *Transport) WriteTo(b []byte, addr string) (time.Time, error) {
	t.host.Stand()
	now := time.Now()
	n := t.host.net
	n.mu.Lock()
	defer n.mu.Unlock()
	if t.host.packets[t.port] != t {
		return now, fmt.Errorf("write %s: %w", t.Addr(), net.ErrClosed)
	}
	t.host.stats.PacketsOut++
	t.host.stats.BytesOut += uint64(len(b))
	to, port := n.find(addr)
	if to == nil {
		return now, nil
	}
	f := n.between(t.host, to)
	copies := 1
	if n.chance.Float64() < f.Duplicate {
		copies = 2
	}
	for range copies {
		if f.Cut || t.host.down || f.MTU > 0 && len(b) > f.MTU || n.chance.Float64() < f.Loss {
			to.stats.Lost++
			continue
		}
		data := append([]byte(nil), b...)
		late := n.late(f)
		if late == 0 {
			to.deliver(t, port, data)
			continue
		}
		time.AfterFunc(late, func() {
			n.mu.Lock()
			defer n.mu.Unlock()
			to.deliver(t, port, data)
		})
	}
	return now, nil
}

// deliver hands a packet over, if the way is still open. net.mu is held.
func (h *Host) deliver(from *Transport, port int, data []byte) {
	t := h.packets[port]
	if t == nil || h.down || h.net.between(from.host, h).Cut {
		h.stats.Lost++
		return
	}
	if h.frozen != nil {
		if len(h.buffered) < queue {
			h.buffered = append(h.buffered, func() { h.deliver(from, port, data) })
		} else {
			h.stats.Lost++
		}
		return
	}
	p := &memberlist.Packet{
		Buf: data, Timestamp: time.Now(),
		From: &net.UDPAddr{IP: from.host.ip.AsSlice(), Port: from.port},
	}
	select {
	case t.packets <- p:
		h.stats.PacketsIn++
		h.stats.BytesIn += uint64(len(data))
	default:
		h.stats.Lost++
	}
}

// WriteToAddress implements memberlist.NodeAwareTransport.
func (t *Transport) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	return t.WriteTo(b, a.Addr)
}

// PacketCh implements memberlist.Transport.
func (t *Transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

// StreamCh implements memberlist.Transport.
func (t *Transport) StreamCh() <-chan net.Conn { return t.streams.accept }

// DialTimeout implements memberlist.Transport.
func (t *Transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return t.host.Dial(ctx, addr)
}

// DialAddressTimeout implements memberlist.NodeAwareTransport.
func (t *Transport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return t.DialTimeout(a.Addr, timeout)
}

// Shutdown implements memberlist.Transport: the port is free again, and what
// waits for an answer from it is reset.
func (t *Transport) Shutdown() error {
	t.once.Do(func() {
		t.host.net.mu.Lock()
		if t.host.packets[t.port] == t {
			delete(t.host.packets, t.port)
		}
		t.host.net.mu.Unlock()
		_ = t.streams.Close()
	})
	return nil
}
