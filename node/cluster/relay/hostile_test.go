package relay

import (
	"bytes"
	"compress/flate"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/node/cluster/trust"
)

// raw is a connection of a known node that speaks what it likes.
func raw(t *testing.T, self *trust.Identity, addr string, change func(*tls.Config)) (*tls.Conn, error) {
	t.Helper()
	cert, err := self.Certificate(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	c := &tls.Config{Certificates: []tls.Certificate{cert}, InsecureSkipVerify: true, NextProtos: []string{"h2"}}
	if change != nil {
		change(c)
	}
	conn, err := tls.Dial("tcp", addr, c)
	if err == nil {
		t.Cleanup(func() { _ = conn.NetConn().Close() })
	}
	return conn, err
}

// cut reports whether the other side closes c within d.
func cut(c net.Conn, d time.Duration) bool {
	_ = c.SetReadDeadline(time.Now().Add(d))
	_, err := io.Copy(io.Discard, c)
	var ne net.Error
	return err == nil || !errors.As(err, &ne) || !ne.Timeout()
}

func quick(_ *Options, l *limits) {
	l.handshake, l.read, l.write, l.stuck, l.idle = 300*time.Millisecond, 300*time.Millisecond, 600*time.Millisecond,
		300*time.Millisecond, 450*time.Millisecond
}

func member(t *testing.T, w *town) *trust.Identity {
	t.Helper()
	self, err := trust.NewIdentity(nil)
	if err != nil {
		t.Fatal(err)
	}
	w.move(self.ID(), "127.0.0.1:1")
	return self
}

func TestOldTLSIsRefused(t *testing.T) {
	w := newTown(t)
	b, self := w.settle(nil, nil), member(t, w)
	for name, change := range map[string]func(*tls.Config){
		"TLS 1.2":        func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 },
		"HTTP/1.1":       func(c *tls.Config) { c.NextProtos = []string{"http/1.1"} },
		"no protocol":    func(c *tls.Config) { c.NextProtos = nil },
		"no certificate": func(c *tls.Config) { c.Certificates = nil },
	} {
		c, err := raw(t, self, b.addr, change)
		if err != nil {
			continue
		}
		if _, err = c.Write([]byte(preface)); err == nil { // TLS 1.3 tells a client late
			_, err = c.Read(make([]byte, 1))
		}
		if err == nil {
			t.Errorf("%s: it answers", name)
		}
	}
	if n := b.Stats().Conns; n != 0 {
		t.Errorf("%d connections came through", n)
	}
}

// TestGarbageOnThePort: connections that say nothing, half a hello or nonsense are
// cut, and members are served meanwhile.
func TestGarbageOnThePort(t *testing.T) {
	w := newTown(t)
	b := w.settle(map[string]Handler{"echo": {Serve: echo}}, func(o *Options, l *limits) {
		quick(o, l)
		l.handshakes = 20
	})
	a := w.settle(nil, nil)
	var conns []net.Conn
	for i := range 500 {
		c, err := net.Dial("tcp", b.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		_, _ = c.Write([][]byte{nil, []byte("GET / HTTP/1.1\r\n\r\n"), {22, 3, 1, 2, 0, 1},
			bytes.Repeat([]byte{0xff}, 5000)}[i%4])
		conns = append(conns, c)
		if i%50 == 0 {
			if _, err := a.Call(t.Context(), b.ID(), "echo", nil); err != nil {
				t.Errorf("a member among garbage: %v", err)
			}
		}
	}
	for _, c := range conns {
		if !cut(c, 10*time.Second) {
			t.Fatal("a connection of garbage is still open")
		}
	}
	eventually(t, "all counted", func() bool { return b.Stats().Strangers == 500 })
}

const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

func frame(kind, flags byte, stream uint32, payload []byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(payload))<<8|uint32(kind))
	b = append(b, flags)
	b = binary.BigEndian.AppendUint32(b, stream)
	return append(b, payload...)
}

// headers is a HEADERS block for POST /path by RFC 7541, without a table.
func headers(path string) []byte {
	b := []byte{0x83, 0x87, 0x04, byte(len(path))}
	b = append(b, path...)
	return append(b, 0x01, 1, 'x')
}

// TestSlowloris: whoever dribbles is cut, at whichever place it dribbles.
func TestSlowloris(t *testing.T) {
	w := newTown(t)
	b := w.settle(map[string]Handler{"echo": {Serve: echo}}, func(o *Options, l *limits) {
		quick(o, l)
		l.peerConns = 20
	})
	self := member(t, w)
	settings := append([]byte(preface), frame(4, 0, 0, nil)...)
	for name, start := range map[string][]byte{
		"frames that change nothing": settings,
		"half a header":              append(bytes.Clone(settings), frame(1, 0, 1, headers("/echo")[:5])...),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := raw(t, self, b.addr, nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.Write(start); err != nil {
				t.Fatal(err)
			}
			stop := make(chan struct{})
			defer close(stop)
			go func() {
				for i := uint32(0); ; i++ {
					select {
					case <-stop:
						return
					case <-time.After(50 * time.Millisecond):
					}
					next := frame(8, 0, 0, []byte{0, 0, 0, 1}) // a window one byte larger
					if name == "half a header" {
						next = frame(9, 0, 1, []byte{0})
					}
					if _, err := c.Write(next); err != nil {
						return
					}
				}
			}()
			if !cut(c, 10*time.Second) {
				t.Error("it is still open")
			}
		})
	}
}

// TestDribbledBody: 408, and nothing of it is held any more.
func TestDribbledBody(t *testing.T) {
	w := newTown(t)
	b := w.settle(map[string]Handler{"echo": {Serve: echo}},
		func(_ *Options, l *limits) { l.read = 300 * time.Millisecond })
	c, err := raw(t, member(t, w), b.addr, nil)
	if err != nil {
		t.Fatal(err)
	}
	ask := append([]byte(preface), frame(4, 0, 0, nil)...)
	if _, err := c.Write(append(ask, frame(1, 4, 1, headers("/echo"))...)); err != nil {
		t.Fatal(err)
	}
	dribbled := make(chan struct{})
	go func() {
		defer close(dribbled)
		for {
			time.Sleep(50 * time.Millisecond)
			if _, err := c.Write(frame(0, 0, 1, []byte{1})); err != nil {
				return
			}
		}
	}()
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	var got []byte
	buf := make([]byte, 4096)
	for !bytes.Contains(got, []byte("the body did not arrive in time")) {
		n, err := c.Read(buf)
		got = append(got, buf[:n]...)
		if err != nil {
			t.Fatalf("%v; got %q", err, got)
		}
	}
	_ = c.NetConn().Close()
	<-dribbled
	eventually(t, "the memory is given back", func() bool { return b.held.Load() == 0 })
}

// TestOversizedBody: said before it is read, while it is read, and after it was
// unpacked; 413 each time.
func TestOversizedBody(t *testing.T) {
	w := newTown(t)
	b := w.settle(map[string]Handler{"echo": {Serve: echo}, "small": {Serve: echo, MaxBody: 100}}, nil)
	a := w.settle(nil, nil)
	status := func(method string, body []byte) int {
		_, err := a.Call(t.Context(), b.ID(), method, body)
		e := new(Error)
		if !errors.As(err, &e) {
			t.Errorf("%v", err)
		}
		return e.Status
	}
	if got := status("small", make([]byte, 101)); got != http.StatusRequestEntityTooLarge {
		t.Errorf("101 of 100 bytes: %d", got)
	}
	if got := status("echo", make([]byte, maxAnswer)); got != http.StatusRequestEntityTooLarge { // 18 KiB when packed
		t.Errorf("a bomb: %d", got)
	}
	if _, err := a.Call(t.Context(), b.ID(), "echo", make([]byte, maxAnswer+1)); !errors.Is(err, trust.ErrTooLarge) {
		t.Errorf("more than any node takes: %v", err)
	}
}

// TestUnpackIsBounded: also on the caller's side, and for what is not packed.
func TestUnpackIsBounded(t *testing.T) {
	var z bytes.Buffer
	fw, _ := flate.NewWriter(&z, 9)
	_, _ = fw.Write(make([]byte, 10<<20))
	_ = fw.Close()
	k := newPacker()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, _ = k.unpack(bytes.NewReader(z.Bytes()), true, 1000, nil)
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 1<<20 {
		t.Errorf("a bomb of 10 MiB cost %d KiB", grown>>10)
	}
	for range 2 { // the second with a reader that is used again
		if _, err := k.unpack(bytes.NewReader(z.Bytes()), true, 1000, nil); !errors.Is(err, errBody) {
			t.Errorf("a bomb: %v", err)
		}
	}
	if b, err := k.unpack(bytes.NewReader(make([]byte, 1000)), false, 1000, nil); err != nil || len(b) != 1000 {
		t.Errorf("just so many: %d, %v", len(b), err)
	}
	if _, err := k.unpack(bytes.NewReader(make([]byte, 1001)), false, 1000, nil); !errors.Is(err, errBody) {
		t.Errorf("one more: %v", err)
	}
	if _, err := k.unpack(bytes.NewReader(append(bytes.Clone(z.Bytes()), 'x')), true, 11<<20, nil); err == nil {
		t.Error("bytes after the end were taken")
	}
	if _, err := k.unpack(bytes.NewReader(make([]byte, 100)), false, 1000,
		func(int64) bool { return false }); !errors.Is(err, errBusy) {
		t.Errorf("no room: %v", err)
	}
}

// TestDeafClient: a member asks for large answers and never reads one. It is cut,
// and what it made the server hold is bounded and given back.
func TestDeafClient(t *testing.T) {
	w := newTown(t)
	large := make([]byte, maxAnswer)
	_, _ = rand.Read(large) // or it packs, and the kernel's buffers take it all
	var served atomic.Int32
	b := w.settle(map[string]Handler{"large": {Serve: func(context.Context, knowledge.NodeID, []byte) ([]byte, error) {
		served.Add(1)
		return bytes.Clone(large), nil
	}}}, func(o *Options, l *limits) {
		l.stuck = 300 * time.Millisecond // alone: nothing else may do its work
		l.held = 16 << 20
	})
	self := member(t, w)
	c, err := raw(t, self, b.addr, nil)
	if err != nil {
		t.Fatal(err)
	}
	ask := append([]byte(preface), frame(4, 0, 0, []byte{0, 4, 0x7f, 0xff, 0xff, 0xff})...) // a window of 2 GiB
	ask = append(ask, frame(8, 0, 0, []byte{0x7f, 0, 0, 0})...)
	for i := range uint32(30) {
		ask = append(ask, frame(1, 5, 2*i+1, headers("/large"))...)
	}
	if _, err := c.Write(ask); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it asked", func() bool { return served.Load() >= 4 })
	eventually(t, "it is cut", func() bool { return b.Stats().Conns == 0 })
	if b.Stats().Crowded == 0 {
		t.Error("30 answers of 4 MiB were held in 16")
	}
	eventually(t, "the memory is given back", func() bool { return b.held.Load() == 0 })
	if s := b.stat(self.ID()); s.Out > 16<<20 {
		t.Errorf("%d MiB were sent to a deaf client", s.Out>>20)
	}
}

// TestSlowPeerDelaysNobody: one peer is frozen in the middle of TLS, one in its
// handler; the third is served at once.
func TestSlowPeerDelaysNobody(t *testing.T) {
	w := newTown(t)
	frozen, err := net.Listen("tcp", "127.0.0.1:0") // accepts, never answers
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = frozen.Close() }()
	w.move("frozen", frozen.Addr().String())
	release := make(chan struct{})
	slow := w.settle(map[string]Handler{"echo": {Serve: func(ctx context.Context, _ knowledge.NodeID, _ []byte) ([]byte,
		error) {
		select {
		case <-release:
		case <-ctx.Done():
		}
		return nil, nil
	}}}, nil)
	fast := w.settle(map[string]Handler{"echo": {Serve: echo}}, nil)
	a := w.settle(nil, nil)
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	for range 40 { // more than there are slots
		wg.Go(func() { _, _ = a.Call(ctx, slow.ID(), "echo", nil) })
		wg.Go(func() { _, _ = a.Call(ctx, "frozen", "echo", nil) })
	}
	begun := time.Now()
	for range 100 {
		if _, err := a.Call(t.Context(), fast.ID(), "echo", nil); err != nil {
			t.Fatal(err)
		}
	}
	if d := time.Since(begun); d > 4*time.Second {
		t.Errorf("100 calls beside slow peers took %v", d)
	}
	close(release)
	cancel()
	wg.Wait()
}

// TestOnePeersShare: bodies of one peer that are not done with leave room for others'.
func TestOnePeersShare(t *testing.T) {
	w := newTown(t)
	release := make(chan struct{})
	b := w.settle(map[string]Handler{"echo": {Serve: echo},
		"wait": {Serve: func(ctx context.Context, _ knowledge.NodeID, _ []byte) ([]byte, error) {
			select {
			case <-release:
			case <-ctx.Done():
			}
			return nil, nil
		}}}, func(_ *Options, l *limits) { l.held, l.peerHeld = 8<<20, 3<<20 })
	greedy, other := w.settle(nil, nil), w.settle(nil, nil)
	body := make([]byte, 1<<20)
	_, _ = rand.Read(body)
	var refused atomic.Int32
	var wg sync.WaitGroup
	for range 12 {
		wg.Go(func() {
			said := new(Error)
			if _, err := greedy.Call(t.Context(), b.ID(), "wait", body); errors.As(err, &said) &&
				said.Status == http.StatusServiceUnavailable {
				refused.Add(1)
			}
		})
	}
	eventually(t, "all but its share is refused", func() bool { return refused.Load() >= 9 })
	if _, err := other.Call(t.Context(), b.ID(), "echo", body); err != nil {
		t.Errorf("another peer: %v", err)
	}
	close(release)
	wg.Wait()
	eventually(t, "the memory is given back", func() bool { return b.held.Load() == 0 })
}

// TestOnePeersPlaces: connections of one peer that arrive together take no more places
// than those that come one after the other.
func TestOnePeersPlaces(t *testing.T) {
	w := newTown(t)
	b := w.settle(nil, func(_ *Options, l *limits) { l.conns = 6 })
	self := member(t, w)
	cert, err := self.Certificate(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "it serves", func() bool { b.mu.Lock(); defer b.mu.Unlock(); return b.acceptor != nil })
	var wg sync.WaitGroup
	for range 60 {
		wg.Go(func() {
			c, err := tls.Dial("tcp", b.addr,
				&tls.Config{Certificates: []tls.Certificate{cert}, InsecureSkipVerify: true, NextProtos: []string{"h2"}})
			if err != nil {
				return
			}
			t.Cleanup(func() { _ = c.NetConn().Close() })
			_, _ = c.Write([]byte(preface))
		})
	}
	wg.Wait()
	eventually(t, "the others are cut", func() bool { return b.Stats().Conns <= 4 })
	b.acceptor.mu.Lock()
	defer b.acceptor.mu.Unlock()
	if of := len(b.acceptor.proven[self.ID()]); of > 4 || of != b.acceptor.conns {
		t.Errorf("%d places of one peer, %d in all", of, b.acceptor.conns)
	}
}

// TestTooManyAtATime: a peer that ignores its bounds is told so.
func TestTooManyAtATime(t *testing.T) {
	w := newTown(t)
	release := make(chan struct{})
	var inside, most atomic.Int32
	b := w.settle(map[string]Handler{"wait": {Serve: func(context.Context, knowledge.NodeID, []byte) ([]byte, error) {
		for n := inside.Add(1); ; {
			if m := most.Load(); n <= m || most.CompareAndSwap(m, n) {
				break
			}
		}
		defer inside.Add(-1)
		<-release
		return nil, nil
	}}}, nil)
	self := member(t, w)
	for range 6 { // of which the two oldest connections are cut
		c, err := raw(t, self, b.addr, nil)
		if err != nil {
			t.Fatal(err)
		}
		ask := append([]byte(preface), frame(4, 0, 0, nil)...)
		for i := range uint32(30) {
			ask = append(ask, frame(1, 5, 2*i+1, headers("/wait"))...)
		}
		_, _ = c.Write(ask)
	}
	eventually(t, "some are refused", func() bool { return b.Stats().Crowded > 30 })
	if n := b.Stats().Conns; n > 4 {
		t.Errorf("one node has %d connections", n)
	}
	close(release)
	if most.Load() > 32 {
		t.Errorf("%d calls of one node were served at a time", most.Load())
	}
}
