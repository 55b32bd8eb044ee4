package simnet

import (
	"context"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// backlog is how many streams wait to be accepted; a dialer tries again when it
// is full, as with Linux.
const backlog = 128

// The first retransmission timeouts of TCP on Linux: of a SYN, and of data.
const (
	synTimeout  = time.Second
	dataTimeout = 200 * time.Millisecond
)

type listener struct {
	host *Host
	port int
	// accept holds what nobody took yet. It is sent to under mu, and never closed.
	accept chan net.Conn
	done   chan struct{}

	mu     sync.Mutex // guards closed, and sends to accept against Close
	closed bool
}

// Listen takes streams on a port; 0 is any free one.
func (h *Host) Listen(port int) (net.Listener, error) { return h.listen(port) }

func (h *Host) listen(port int) (*listener, error) {
	n := h.net
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil, net.ErrClosed
	}
	if port == 0 {
		port = h.port()
	}
	if h.listeners[port] != nil {
		return nil, &net.OpError{Op: "listen", Net: "tcp", Addr: h.tcp(port),
			Err: os.NewSyscallError("bind", syscall.EADDRINUSE)}
	}
	l := &listener{host: h, port: port, accept: make(chan net.Conn, backlog), done: make(chan struct{})}
	h.listeners[port] = l
	return l, nil
}

// Addr implements net.Listener.
func (l *listener) Addr() net.Addr { return l.host.tcp(l.port) }

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.accept:
		return c, nil
	case <-l.done:
		return nil, &net.OpError{Op: "accept", Net: "tcp", Addr: l.Addr(), Err: net.ErrClosed}
	}
}

// Close implements net.Listener. Streams that nobody accepted are reset.
func (l *listener) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	close(l.done)
	l.mu.Unlock()

	l.host.net.mu.Lock()
	if l.host.listeners[l.port] == l {
		delete(l.host.listeners, l.port)
	}
	l.host.net.mu.Unlock()
	for {
		select {
		case c := <-l.accept:
			c.(*conn).reset()
		default:
			return nil
		}
	}
}

// offer queues a stream's end. It never waits.
func (l *listener) offer(c *conn) (queued, open bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false, false
	}
	select {
	case l.accept <- c:
		return true, true
	default:
		return false, true
	}
}

// Dial opens a stream to "ip:port". It is refused where nobody listens, and hangs
// until ctx ends where a link is cut, either way.
func (h *Host) Dial(ctx context.Context, addr string) (net.Conn, error) {
	h.Stand()
	remote, port := h.reach(addr)
	if remote == nil {
		return nil, h.dialError(addr, syscall.EHOSTUNREACH)
	}
	for timeout := synTimeout; ; timeout *= 2 {
		wait, ok := h.handshake(remote)
		if ok {
			if err := sleep(ctx, wait); err != nil {
				return nil, h.dialError(addr, err)
			}
			c, err := h.connect(remote, port)
			if err != nil {
				return nil, h.dialError(addr, err)
			}
			if c != nil {
				return c, nil
			}
		}
		if err := sleep(ctx, timeout); err != nil {
			return nil, h.dialError(addr, err)
		}
	}
}

func (h *Host) reach(addr string) (*Host, int) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	h.stats.Dials++
	if h.down {
		return nil, 0
	}
	return h.net.find(addr)
}

// handshake is how long it takes; false while a link is cut.
func (h *Host) handshake(remote *Host) (time.Duration, bool) {
	n := h.net
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return 0, true // connect refuses
	}
	there, back := n.between(h, remote), n.between(remote, h)
	if there.Cut || back.Cut {
		return 0, false
	}
	return n.late(there) + n.late(back) + n.tries(there, synTimeout) + n.tries(back, synTimeout), true
}

// connect makes the stream. Both nil: try again later.
func (h *Host) connect(remote *Host, port int) (*conn, error) {
	n := h.net
	n.mu.Lock()
	l := remote.listeners[port]
	if n.closed || h.down || remote.down || l == nil {
		n.mu.Unlock()
		return nil, syscall.ECONNREFUSED
	}
	if n.between(h, remote).Cut || n.between(remote, h).Cut {
		n.mu.Unlock()
		return nil, nil
	}
	here, there := pair(h, remote, h.tcp(h.port()), remote.tcp(port))
	n.conns[here], n.conns[there] = true, true
	remote.stats.Accepted++
	n.mu.Unlock()

	queued, open := l.offer(there)
	if queued {
		return here, nil
	}
	here.reset()
	if !open {
		return nil, syscall.ECONNREFUSED
	}
	return nil, nil
}

func (h *Host) dialError(addr string, err error) error {
	if err == context.DeadlineExceeded {
		err = os.ErrDeadlineExceeded
	}
	to, _ := net.ResolveTCPAddr("tcp", addr)
	if to == nil {
		return fmt.Errorf("dial %s: %w", addr, err)
	}
	return &net.OpError{Op: "dial", Net: "tcp", Addr: to, Err: err}
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
