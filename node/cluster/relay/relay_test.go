package relay

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/node/cluster/trust"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// town is some nodes that know each other.
type town struct {
	t    testing.TB
	mu   sync.Mutex
	addr map[knowledge.NodeID]string
	// out are those who are members no more.
	out map[knowledge.NodeID]bool
}

func newTown(t testing.TB) *town {
	return &town{t: t, addr: map[knowledge.NodeID]string{}, out: map[knowledge.NodeID]bool{}}
}

func (w *town) lookup(id knowledge.NodeID) (string, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	a, ok := w.addr[id]
	return a, ok && !w.out[id]
}

func (w *town) known(id knowledge.NodeID) bool { _, ok := w.lookup(id); return ok }

func (w *town) move(id knowledge.NodeID, addr string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.addr[id] = addr
}

func (w *town) expel(id knowledge.NodeID, out bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.out[id] = out
}

type resident struct {
	*Relay
	self *trust.Identity
	addr string
}

func (n *resident) ID() knowledge.NodeID { return n.self.ID() }

// settle makes a node that serves on loopback.
func (w *town) settle(handlers map[string]Handler, change func(*Options, *limits)) *resident {
	w.t.Helper()
	self, err := trust.NewIdentity(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return w.settleAs(self, handlers, change)
}

func (w *town) settleAs(self *trust.Identity, handlers map[string]Handler, change func(*Options, *limits)) *resident {
	w.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	o := Options{Self: self, Listener: ln, Lookup: w.lookup, Known: w.known, Log: zerolog.Nop(), Handlers: handlers}
	l := defaultLimits()
	if change != nil {
		change(&o, &l)
	}
	w.move(self.ID(), ln.Addr().String())
	r, err := newRelay(o, l)
	if err != nil {
		w.t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- r.Serve(context.Background()) }()
	w.t.Cleanup(func() {
		r.Close()
		if err := <-served; err != nil {
			w.t.Errorf("Serve: %v", err)
		}
	})
	return &resident{r, self, ln.Addr().String()}
}

func echo(_ context.Context, from knowledge.NodeID, body []byte) ([]byte, error) {
	return append([]byte(from.Short()+" "), body...), nil
}

// eventually waits for what other goroutines do.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

func (n *resident) stat(id knowledge.NodeID) PeerStats {
	for _, p := range n.Stats().Peers {
		if p.ID == id {
			return p
		}
	}
	return PeerStats{}
}

func TestCall(t *testing.T) {
	w := newTown(t)
	b := w.settle(map[string]Handler{
		"echo": {Serve: echo, MaxBody: 3 << 20},
		"fail": {Serve: func(context.Context, knowledge.NodeID, []byte) ([]byte, error) {
			return nil, errors.New("a\nb\x1b[31m")
		}},
		"refuse": {Serve: func(context.Context, knowledge.NodeID, []byte) ([]byte, error) {
			return nil, &Error{409, "too old"}
		}},
		"panic": {Serve: func(context.Context, knowledge.NodeID, []byte) ([]byte, error) { panic("x") }},
		"endless": {Serve: func(context.Context, knowledge.NodeID, []byte) ([]byte,
			error) {
			return make([]byte, maxAnswer+1), nil
		}},
	}, nil)
	a := w.settle(nil, nil)
	random := make([]byte, 2<<20)
	_, _ = rand.Read(random)
	for _, body := range [][]byte{nil, []byte("x"), bytes.Repeat([]byte("effiscale "), 300), random} {
		got, err := a.Call(t.Context(), b.ID(), "echo", body)
		if want := a.ID().Short() + " " + string(body); err != nil || string(got) != want {
			t.Errorf("%d bytes: got %d bytes, %v", len(body), len(got), err)
		}
	}
	for method, want := range map[string]Error{
		"fail": {500, "a?b?[31m"}, "refuse": {409, "too old"}, "nowhere": {404, "there is no such method"},
		"panic": {500, "internal error, see the log of the node"}, "endless": {500, "the answer has more than 4194304 bytes"},
	} {
		_, err := a.Call(t.Context(), b.ID(), method, nil)
		if e := new(Error); !errors.As(err, &e) || *e != want {
			t.Errorf("%s: %v, want %v", method, err, want)
		}
	}
	for _, bad := range []string{"", "alive", "../etc", "a b", strings.Repeat("x", 65)} {
		if _, err := a.Call(t.Context(), b.ID(), bad, nil); err == nil {
			t.Errorf("%q was called", bad)
		}
	}
	if err := a.Alive(t.Context(), b.ID()); err != nil {
		t.Error(err)
	}
	if s := a.stat(b.ID()); s.Calls != 10 || s.Errors != 5 || s.RTT <= 0 || s.Out < 2<<20 || s.In < 2<<20 {
		t.Errorf("counted %+v", s)
	}
	if s := b.stat(a.ID()); s.Served != 10 || s.In < 2<<20 || s.Out < 2<<20 {
		t.Errorf("counted %+v", s)
	}
	if n := b.Stats().Conns; n != 1 {
		t.Errorf("%d connections were made, want 1", n)
	}
	if held := b.held.Load(); held != 0 {
		t.Errorf("%d bytes are still reserved", held)
	}
}

// TestOneDial: many who call at once share one connection.
func TestOneDial(t *testing.T) {
	w := newTown(t)
	b := w.settle(map[string]Handler{"echo": {Serve: echo}}, nil)
	var dials atomic.Int32
	a := w.settle(nil, func(o *Options, _ *limits) {
		o.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
			dials.Add(1)
			return new(net.Dialer).DialContext(ctx, "tcp", addr)
		}
	})
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			if _, err := a.Call(t.Context(), b.ID(), "echo", []byte("x")); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if dials.Load() != 1 {
		t.Errorf("%d dials", dials.Load())
	}
}

// TestStrangerIsRefused: by its key, before a handler or even HTTP.
func TestStrangerIsRefused(t *testing.T) {
	w := newTown(t)
	var served atomic.Int32
	b := w.settle(map[string]Handler{"m": {Serve: func(context.Context, knowledge.NodeID, []byte) ([]byte, error) {
		served.Add(1)
		return nil, nil
	}}}, nil)
	a := w.settle(nil, nil)
	w.move("someone", b.addr)
	w.expel(a.ID(), true)
	if _, err := a.Call(t.Context(), b.ID(), "m", nil); err == nil {
		t.Error("a stranger was served")
	}
	if err := a.Alive(t.Context(), b.ID()); err == nil {
		t.Error("a stranger had a sign of life")
	}
	eventually(t, "the stranger counted", func() bool { return b.Stats().Strangers >= 2 })
	w.expel(a.ID(), false)
	if _, err := a.Call(t.Context(), b.ID(), "m", nil); err != nil {
		t.Errorf("a member: %v", err)
	}
	w.expel(a.ID(), true) // its connection stays, its calls do not pass
	_, err := a.Call(t.Context(), b.ID(), "m", nil)
	if e := new(Error); !errors.As(err, &e) || e.Status != http.StatusForbidden {
		t.Errorf("a former member: %v", err)
	}
	if served.Load() != 1 {
		t.Errorf("served %d times, want 1", served.Load())
	}
}

func TestWrongServerIsRefused(t *testing.T) {
	w := newTown(t)
	b := w.settle(map[string]Handler{"echo": {Serve: echo}}, nil)
	a, c := w.settle(nil, nil), w.settle(nil, nil)
	w.move(c.ID(), b.addr) // gossip lies, or the address was taken over
	_, err := a.Call(t.Context(), c.ID(), "echo", []byte("secret"))
	if !errors.Is(err, ErrIdentity) {
		t.Errorf("%v, want %v", err, ErrIdentity)
	}
	if n := b.stat(a.ID()).Served; n != 0 {
		t.Error("the wrong node was asked")
	}
}

func TestUnreachable(t *testing.T) {
	w := newTown(t)
	a := w.settle(nil, nil)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = ln.Close()
	w.move("deadbeef", ln.Addr().String())
	begun := time.Now()
	if err := a.Alive(t.Context(), "deadbeef"); err == nil || time.Since(begun) > time.Second {
		t.Errorf("a refused dial: %v after %v", err, time.Since(begun))
	}
	if err := a.Alive(t.Context(), "nobody"); !errors.Is(err, ErrUnknown) {
		t.Errorf("no address: %v", err)
	}
	a.Close()
	if _, err := a.Call(context.Background(), "deadbeef", "m", nil); !errors.Is(err, ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

// TestPeerRestarts: the link of before is dead, the next call makes another.
func TestPeerRestarts(t *testing.T) {
	w := newTown(t)
	a := w.settle(nil, nil)
	handlers := map[string]Handler{"echo": {Serve: echo}}
	b := w.settle(handlers, nil)
	for range 3 {
		if _, err := a.Call(t.Context(), b.ID(), "echo", nil); err != nil {
			t.Fatal(err)
		}
		b.Close()
		if err := a.Alive(t.Context(), b.ID()); err == nil {
			t.Error("a closed node is alive")
		}
		b = w.settleAs(b.self, handlers, nil)
	}
}

// swallowing is a connection whose packets may get lost for good.
type swallowing struct {
	net.Conn
	lost atomic.Bool
}

func (c *swallowing) Write(b []byte) (int, error) {
	if c.lost.Load() {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

// TestDeadLinkIsReplaced: a call that reads nothing in its time ends the link, so
// that the next one does not wait for TCP to send again. One that waits for a slow
// handler only, beside others that are answered, does not.
func TestDeadLinkIsReplaced(t *testing.T) {
	w := newTown(t)
	b := w.settle(map[string]Handler{"echo": {Serve: echo},
		"slow": {Serve: func(ctx context.Context, _ knowledge.NodeID, _ []byte) ([]byte, error) {
			<-ctx.Done()
			return nil, nil
		}}}, nil)
	var last atomic.Pointer[swallowing]
	a := w.settle(nil, func(o *Options, _ *limits) {
		o.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
			c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
			if err != nil {
				return nil, err
			}
			s := &swallowing{Conn: c}
			last.Store(s)
			return s, nil
		}
	})
	if err := a.Alive(t.Context(), b.ID()); err != nil {
		t.Fatal(err)
	}
	first := last.Load()
	var wg sync.WaitGroup
	wg.Go(func() {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		if _, err := a.Call(ctx, b.ID(), "slow", nil); err == nil {
			t.Error("a slow handler answered")
		}
	})
	time.Sleep(50 * time.Millisecond)
	if err := a.Alive(t.Context(), b.ID()); err != nil {
		t.Error(err)
	}
	wg.Wait()
	if err := a.Alive(t.Context(), b.ID()); err != nil || last.Load() != first {
		t.Errorf("a slow handler cost the link, or %v", err)
	}
	first.lost.Store(true)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := a.Alive(ctx, b.ID()); err == nil {
		t.Error("a dead link answered")
	}
	begun := time.Now()
	if _, err := a.Call(t.Context(), b.ID(), "echo", nil); err != nil || time.Since(begun) > 2*time.Second ||
		last.Load() == first {
		t.Errorf("after a dead link: %v in %v", err, time.Since(begun))
	}
}

// TestRow22ReplayedCall: a message that was recorded is refused when a member
// sends it again in its own call, and whoever records the bytes of the
// connection cannot even get that far.
func TestRow22ReplayedCall(t *testing.T) {
	w := newTown(t)
	var opener *trust.Opener
	b := w.settle(map[string]Handler{"intent": {Serve: func(_ context.Context, from knowledge.NodeID,
		body []byte) ([]byte, error) {
		var n int
		signer, _, err := opener.Open(body, "intent", &n)
		if err != nil {
			return nil, &Error{http.StatusConflict, err.Error()}
		}
		return []byte(signer), nil
	}}}, nil)
	opener = trust.NewOpener(b.ID(), 1, w.known)
	a, thief := w.settle(nil, nil), w.settle(nil, nil)
	sealed, err := (&trust.Sealer{Identity: a.self, Epoch: 1}).Seal("intent", b.ID(), 1, 7)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := a.Call(t.Context(), b.ID(), "intent", sealed); err != nil || knowledge.NodeID(got) != a.ID() {
		t.Fatalf("the first time: %q, %v", got, err)
	}
	for _, n := range []*resident{a, thief} {
		_, err := n.Call(t.Context(), b.ID(), "intent", sealed)
		if e := new(Error); !errors.As(err, &e) || e.Status != http.StatusConflict {
			t.Errorf("again: %v", err)
		}
	}
	if c := opener.Counts(); c.Replay != 2 {
		t.Errorf("counted %+v", c)
	}
}

// TestRow42ClockSkew: hosts whose clocks are years apart talk as ever.
func TestRow42ClockSkew(t *testing.T) {
	w := newTown(t)
	skewed := func(d time.Duration) func(*Options, *limits) {
		return func(o *Options, _ *limits) { o.Now = func() time.Time { return time.Now().Add(d) } }
	}
	handlers := map[string]Handler{"echo": {Serve: echo}}
	nodes := []*resident{
		w.settle(handlers, nil), w.settle(handlers, skewed(10*time.Minute)),
		w.settle(handlers, skewed(-30*365*24*time.Hour)), w.settle(handlers, skewed(40*365*24*time.Hour)),
	}
	for _, a := range nodes {
		for _, b := range nodes {
			if a == b {
				continue
			}
			if _, err := a.Call(t.Context(), b.ID(), "echo", []byte("x")); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestBytesOfTheForgotten: a counter of a metrics page never falls.
func TestBytesOfTheForgotten(t *testing.T) {
	w := newTown(t)
	b := w.settle(map[string]Handler{"echo": {Serve: echo}}, nil)
	a := w.settle(nil, func(_ *Options, l *limits) {
		l.idle, l.janitor, l.forget = 50*time.Millisecond, 20*time.Millisecond, 20*time.Millisecond
	})
	if _, err := a.Call(t.Context(), b.ID(), "echo", []byte("hello")); err != nil {
		t.Fatal(err)
	}
	before := a.stat(b.ID())
	eventually(t, "the peer is forgotten", func() bool { return len(a.Stats().Peers) == 0 })
	if s := a.Stats(); before.In == 0 || s.In < before.In || s.Out < before.Out {
		t.Errorf("%d and %d bytes, and then %d and %d", before.In, before.Out, s.In, s.Out)
	}
}

func TestNewRefuses(t *testing.T) {
	self, err := trust.NewIdentity(nil)
	if err != nil {
		t.Fatal(err)
	}
	w := newTown(t)
	for name, o := range map[string]Options{
		"nothing":       {},
		"reserved name": {Self: self, Lookup: w.lookup, Known: w.known, Handlers: map[string]Handler{"alive": {}}},
		"path":          {Self: self, Lookup: w.lookup, Known: w.known, Handlers: map[string]Handler{"a/b": {}}},
	} {
		if _, err := New(o); err == nil {
			t.Errorf("%s: made", name)
		}
	}
}

func ExampleError() {
	fmt.Println(&Error{Status: 409, Text: "a higher term was seen"})
	// Output: 409 Conflict: a higher term was seen
}
