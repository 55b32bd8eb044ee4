package simnet

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// window is how much one direction holds before its writer waits: about what
// Linux gives a socket to begin with, sending and receiving together.
const window = 256 << 10

// conn is one end of a stream.
type conn struct {
	host, peer    *Host
	in, out       *pipe // out is the other end's in
	other         *conn
	local, remote *net.TCPAddr
	once          sync.Once
}

func pair(a, b *Host, from, to *net.TCPAddr) (*conn, *conn) {
	there, back := newPipe(a, b), newPipe(b, a)
	x := &conn{host: a, peer: b, in: back, out: there, local: from, remote: to}
	y := &conn{host: b, peer: a, in: there, out: back, local: to, remote: from}
	x.other, y.other = y, x
	return x, y
}

// Read implements net.Conn.
func (c *conn) Read(b []byte) (int, error) {
	n, err := c.in.read(b)
	if err != nil && err != io.EOF {
		err = c.fault("read", err)
	}
	return n, err
}

// Write implements net.Conn.
func (c *conn) Write(b []byte) (int, error) {
	n, err := c.out.write(b)
	if err != nil {
		err = c.fault("write", err)
	}
	return n, err
}

func (c *conn) fault(op string, err error) error {
	return &net.OpError{Op: op, Net: "tcp", Source: c.local, Addr: c.remote, Err: err}
}

// Close implements net.Conn: the peer reads what was written, then the end.
func (c *conn) Close() error {
	c.once.Do(func() {
		c.out.finish()
		c.in.abandon()
		c.leave()
	})
	return nil
}

// reset ends both ends at once.
func (c *conn) reset() {
	c.in.fail(syscall.ECONNRESET)
	c.out.fail(syscall.ECONNRESET)
	c.leave()
	c.other.leave()
}

// leave forgets this end; a pipe that still holds something for the other keeps
// following the weather through that one.
func (c *conn) leave() {
	n := c.host.net
	n.mu.Lock()
	delete(n.conns, c)
	n.mu.Unlock()
}

// LocalAddr implements net.Conn.
func (c *conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr implements net.Conn.
func (c *conn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline implements net.Conn.
func (c *conn) SetDeadline(t time.Time) error {
	_ = c.SetReadDeadline(t)
	return c.SetWriteDeadline(t)
}

// SetReadDeadline implements net.Conn.
func (c *conn) SetReadDeadline(t time.Time) error { c.in.deadline(&c.in.readBy, t); return nil }

// SetWriteDeadline implements net.Conn.
func (c *conn) SetWriteDeadline(t time.Time) error { c.out.deadline(&c.out.writeBy, t); return nil }

// chunk is one write on its way.
type chunk struct {
	data []byte
	at   time.Time // when it arrives
	held bool      // the link is cut, or the writer frozen: it waits for the end of that
}

// pipe is one direction of a stream.
type pipe struct {
	from, to *Host

	mu              sync.Mutex // guards all below; taken before net.mu
	chunks          []chunk
	size            int
	last            time.Time // arrival of the last chunk: streams keep their order
	finished        bool      // the writer closed; end says when that arrives
	end             chunk
	abandoned       bool // the reader closed
	err             error
	readBy, writeBy time.Time
	changed         chan struct{} // closed at every change, then another
}

func newPipe(from, to *Host) *pipe {
	return &pipe{from: from, to: to, changed: make(chan struct{})}
}

// tell wakes whoever waits. mu is held.
func (p *pipe) tell() {
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *pipe) deadline(which *time.Time, t time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	*which = t
	p.tell()
}

// send dates a chunk. mu is held.
func (p *pipe) send(c chunk) chunk {
	n := p.from.net
	n.mu.Lock()
	f := n.between(p.from, p.to)
	c.held = f.Cut || p.from.frozen != nil
	c.at = time.Now().Add(n.late(f) + n.tries(f, dataTimeout))
	p.from.stats.StreamOut += uint64(len(c.data))
	n.mu.Unlock()
	if c.at.Before(p.last) {
		c.at = p.last
	}
	p.last = c.at
	return c
}

// weather holds what is on its way when a link is cut, and sends it on when it heals.
func (p *pipe) weather() {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.from.net
	n.mu.Lock()
	f := n.between(p.from, p.to)
	still := p.from.frozen != nil
	late := n.late(f)
	n.mu.Unlock()
	now := time.Now()
	first := now.Add(late)
	move := func(c *chunk) {
		switch {
		case f.Cut && c.at.After(now):
			c.held = true
		case !f.Cut && !still && c.held:
			c.held, c.at = false, first
			p.last = first
		}
		if c.at.After(first) {
			first = c.at
		}
	}
	for i := range p.chunks {
		move(&p.chunks[i])
	}
	if p.finished {
		move(&p.end)
	}
	p.tell()
}

func (p *pipe) read(b []byte) (int, error) {
	for {
		p.to.Stand()
		p.mu.Lock()
		n, wait, err := p.take(b)
		changed := p.changed
		p.mu.Unlock()
		if n > 0 || err != nil || len(b) == 0 {
			return n, err
		}
		await(changed, wait)
	}
}

// take reads what has arrived; else it says until when to wait, zero for ever. mu is held.
func (p *pipe) take(b []byte) (int, time.Time, error) {
	now := time.Now()
	switch {
	case p.abandoned:
		return 0, now, net.ErrClosed
	case p.err != nil:
		return 0, now, p.err
	case past(p.readBy, now):
		return 0, now, os.ErrDeadlineExceeded
	}
	n := 0
	for n < len(b) && len(p.chunks) > 0 && !p.chunks[0].held && !p.chunks[0].at.After(now) {
		c := &p.chunks[0]
		k := copy(b[n:], c.data)
		n, c.data = n+k, c.data[k:]
		if len(c.data) == 0 {
			p.chunks = p.chunks[1:]
		}
	}
	if n > 0 {
		p.size -= n
		p.to.took(n)
		p.tell()
		return n, now, nil
	}
	next := chunk{held: true}
	if len(p.chunks) > 0 {
		next = p.chunks[0]
	} else if p.finished {
		if next = p.end; !next.held && !next.at.After(now) {
			return 0, now, io.EOF
		}
	}
	wait := p.readBy
	if !next.held && (wait.IsZero() || next.at.Before(wait)) {
		wait = next.at
	}
	return 0, wait, nil
}

func (h *Host) took(n int) {
	h.net.mu.Lock()
	h.stats.StreamIn += uint64(n)
	h.net.mu.Unlock()
}

func (p *pipe) write(b []byte) (int, error) {
	written := 0
	for {
		p.mu.Lock()
		n, err := p.put(b[written:])
		written += n
		changed, wait := p.changed, p.writeBy
		p.mu.Unlock()
		if err != nil || written == len(b) {
			return written, err
		}
		await(changed, wait)
	}
}

// put adds what fits. mu is held.
func (p *pipe) put(b []byte) (int, error) {
	switch {
	case p.finished:
		return 0, net.ErrClosed
	case p.err != nil:
		return 0, p.err
	case p.abandoned:
		return 0, syscall.EPIPE
	case past(p.writeBy, time.Now()):
		return 0, os.ErrDeadlineExceeded
	}
	n := min(len(b), window-p.size)
	if n > 0 {
		p.chunks = append(p.chunks, p.send(chunk{data: append([]byte(nil), b[:n]...)}))
		p.size += n
		p.tell()
	}
	return n, nil
}

func (p *pipe) finish() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.finished {
		p.finished = true
		p.end = p.send(chunk{})
		p.tell()
	}
}

func (p *pipe) abandon() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.abandoned = true
	p.chunks, p.size = nil, 0
	p.tell()
}

func (p *pipe) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		p.err = err
	}
	p.chunks, p.size = nil, 0
	p.tell()
}

func past(t, now time.Time) bool { return !t.IsZero() && !now.Before(t) }

// await waits for a change or until t; the zero t is never.
func await(changed <-chan struct{}, t time.Time) {
	if t.IsZero() {
		<-changed
		return
	}
	timer := time.NewTimer(time.Until(t))
	defer timer.Stop()
	select {
	case <-changed:
	case <-timer.C:
	}
}
