package relay

import (
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// end is one side of a connection in memory. Unlike net.Pipe's, its writes do not
// wait: http2 holds mutexes over them, which stops the time of a bubble.
type end struct {
	mine, theirs *flow
}

type flow struct {
	mu       sync.Mutex
	buf      []byte
	closed   bool
	changed  chan struct{} // closed and replaced at each change
	deadline time.Time
}

func twoEnds() (net.Conn, net.Conn) {
	a, b := &flow{changed: make(chan struct{})}, &flow{changed: make(chan struct{})}
	return &end{a, b}, &end{b, a}
}

func (f *flow) change(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do()
	close(f.changed)
	f.changed = make(chan struct{})
}

func (e *end) Read(b []byte) (int, error) {
	f := e.mine
	for {
		f.mu.Lock()
		n, closed, changed, deadline := copy(b, f.buf), f.closed, f.changed, f.deadline
		f.buf = f.buf[n:]
		f.mu.Unlock()
		switch {
		case n > 0:
			return n, nil
		case closed:
			return 0, io.EOF
		}
		var late <-chan time.Time
		if !deadline.IsZero() {
			left := time.Until(deadline)
			if left <= 0 {
				return 0, os.ErrDeadlineExceeded
			}
			timer := time.NewTimer(left)
			defer timer.Stop()
			late = timer.C
		}
		select {
		case <-changed:
		case <-late:
			return 0, os.ErrDeadlineExceeded
		}
	}
}

func (e *end) Write(b []byte) (int, error) {
	var err error
	e.theirs.change(func() {
		if e.theirs.closed {
			err = net.ErrClosed
			return
		}
		e.theirs.buf = append(e.theirs.buf, b...)
	})
	if err != nil {
		return 0, err
	}
	return len(b), nil
}

func (e *end) Close() error {
	e.mine.change(func() { e.mine.closed = true })
	e.theirs.change(func() { e.theirs.closed = true })
	return nil
}

func (e *end) SetReadDeadline(t time.Time) error {
	e.mine.change(func() { e.mine.deadline = t })
	return nil
}
func (e *end) SetDeadline(t time.Time) error    { return e.SetReadDeadline(t) }
func (e *end) SetWriteDeadline(time.Time) error { return nil }
func (e *end) LocalAddr() net.Addr              { return &net.UnixAddr{} }
func (e *end) RemoteAddr() net.Addr             { return &net.UnixAddr{} }
