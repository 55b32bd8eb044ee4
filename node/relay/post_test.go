package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"pgregory.net/rapid"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/node/trust"
)

// inbox keeps what arrives, and can say no.
type inbox struct {
	mu  sync.Mutex
	got []string
	no  error
}

func (in *inbox) serve(_ context.Context, _ knowledge.NodeID, body []byte) ([]byte, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.no != nil {
		return nil, in.no
	}
	in.got = append(in.got, string(body))
	return nil, nil
}

func (in *inbox) set(err error) { in.mu.Lock(); defer in.mu.Unlock(); in.no = err }

func (in *inbox) list() []string { in.mu.Lock(); defer in.mu.Unlock(); return in.got }

// TestPostUntilAcknowledged: what is posted while the peer is away arrives when it
// comes back, the newest of each key and nothing older.
func TestPostUntilAcknowledged(t *testing.T) {
	w := newTown(t)
	a, in := w.settle(nil, nil), &inbox{}
	self := member(t, w)
	for i := range 50 {
		a.Post(self.ID(), "report", "web", fmt.Appendf(nil, "web %d", i))
		a.Post(self.ID(), "report", "db", fmt.Appendf(nil, "db %d", i))
	}
	eventually(t, "tries", func() bool { return a.stat(self.ID()).Resent >= 2 })
	if q := a.stat(self.ID()).Queue; q != 2 {
		t.Errorf("%d are queued, want 2", q)
	}
	w.settleAs(self, map[string]Handler{"report": {Serve: in.serve}}, nil)
	eventually(t, "delivery", func() bool { return a.stat(self.ID()).Queue == 0 })
	if got := in.list(); len(got) != 2 || got[0] != "web 49" || got[1] != "db 49" {
		t.Errorf("got %q", got)
	}
	a.Post(self.ID(), "report", "web", []byte("later")) // by a worker that begins anew
	eventually(t, "delivery", func() bool { return len(in.list()) == 3 })
	if s := a.stat(self.ID()); s.Sent != 3 || s.Dropped != 0 {
		t.Errorf("counted %+v", s)
	}
}

// TestPostRefused: a no for good ends a post; any other no is tried again, and
// does not hold up what is for another method.
func TestPostRefused(t *testing.T) {
	w := newTown(t)
	old, busy, other := &inbox{no: &Error{409, "an old term"}}, &inbox{no: errors.New("not now")}, &inbox{}
	b := w.settle(map[string]Handler{"old": {Serve: old.serve}, "busy": {Serve: busy.serve}, "other": {Serve: other.serve}}, nil)
	a := w.settle(nil, nil)
	for _, m := range []string{"busy", "old", "other"} {
		a.Post(b.ID(), m, "k", []byte(m))
	}
	eventually(t, "the other", func() bool { return len(other.list()) == 1 })
	eventually(t, "the refusal and a retry", func() bool { s := a.stat(b.ID()); return s.Refused == 1 && s.Resent >= 2 && s.Queue == 1 })
	busy.set(nil)
	eventually(t, "the end", func() bool { return a.stat(b.ID()).Queue == 0 })
}

// TestPostReplacedOnTheWay: the acknowledgement of the old one is none of the new.
func TestPostReplacedOnTheWay(t *testing.T) {
	w, in := newTown(t), &inbox{}
	begun, release := make(chan struct{}, 2), make(chan struct{})
	b := w.settle(map[string]Handler{"m": {Serve: func(ctx context.Context, from knowledge.NodeID, body []byte) ([]byte, error) {
		begun <- struct{}{}
		<-release
		return in.serve(ctx, from, body)
	}}}, nil)
	a := w.settle(nil, nil)
	a.Post(b.ID(), "m", "k", []byte("old"))
	<-begun
	a.Post(b.ID(), "m", "k", []byte("new"))
	close(release)
	eventually(t, "both", func() bool { return len(in.list()) == 2 })
	eventually(t, "the end", func() bool { return a.stat(b.ID()).Queue == 0 })
	if got := in.list(); got[1] != "new" {
		t.Errorf("got %q", got)
	}
}

// TestQueueIsBounded is held against what a map and a list would say.
func TestQueueIsBounded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q := newQueue()
		latest, dropped := map[key]string{}, 0
		for n := range 1000 { // so that the bound is near
			q.put(key{"m", fmt.Sprint(n)}, []byte("x"))
			latest[key{"m", fmt.Sprint(n)}] = "x"
		}
		for i, n := range rapid.SliceOfN(rapid.IntRange(900, 3000), 100, 300).Draw(t, "keys") {
			k := key{"m", fmt.Sprint(n)}
			body := fmt.Sprint(i)
			latest[k] = body
			dropped += int(q.put(k, []byte(body)))
			if rapid.IntRange(0, 9).Draw(t, "acknowledge") == 0 {
				it, _ := q.next(time.Time{})
				delete(latest, it.key)
				q.remove(it)
			}
		}
		size := 0
		for _, it := range q.order {
			size += len(it.body)
			if q.items[it.key] != it || string(it.body) != latest[it.key] {
				t.Fatalf("%v holds %q, want %q", it.key, it.body, latest[it.key])
			}
		}
		if len(q.order) != len(q.items) || len(q.order) > maxQueue || size != q.bytes || len(q.order)+dropped < len(latest) {
			t.Fatalf("%d in order, %d by key, %d of %d bytes, %d dropped of %d", len(q.order), len(q.items), q.bytes, size, dropped, len(latest))
		}
	})
	q := newQueue()
	for i := range 5 {
		q.put(key{"m", fmt.Sprint(i)}, make([]byte, 3<<20))
	}
	if q.bytes > maxQueueBytes || len(q.order) != 2 {
		t.Errorf("%d of %d MiB", len(q.order), q.bytes>>20)
	}
}

// street is a network in a bubble: writes never block, reads wait on a channel.
type street struct {
	mu     sync.Mutex
	houses map[string]*house
}

type house struct {
	name string
	in   chan net.Conn
	done chan struct{}
	once sync.Once
}

func (h *house) Accept() (net.Conn, error) {
	select {
	case c := <-h.in:
		return c, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

func (h *house) Close() error   { h.once.Do(func() { close(h.done) }); return nil }
func (h *house) Addr() net.Addr { return &net.UnixAddr{Name: h.name} }

func (s *street) listen(name string) net.Listener {
	h := &house{name: name, in: make(chan net.Conn), done: make(chan struct{})}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.houses[name] = h
	return h
}

func (s *street) dial(ctx context.Context, name string) (net.Conn, error) {
	s.mu.Lock()
	h := s.houses[name]
	s.mu.Unlock()
	if h == nil {
		return nil, errors.New("connection refused")
	}
	a, b := twoEnds()
	select {
	case h.in <- b:
		return a, nil
	case <-h.done:
		return nil, errors.New("connection refused")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// TestInABubble: a minute of posts, silence and a peer that leaves, in virtual
// time; nothing is left running.
func TestInABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, w, in := &street{houses: map[string]*house{}}, newTown(t), &inbox{}
		make1 := func(name string, handlers map[string]Handler) *Relay {
			self, err := trust.NewIdentity(nil)
			if err != nil {
				t.Fatal(err)
			}
			w.move(self.ID(), name)
			r, err := New(Options{Self: self, Listener: s.listen(name), Dial: s.dial, Lookup: w.lookup, Known: w.known, Log: zerolog.Nop(), Handlers: handlers})
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
		a, b := make1("a", nil), make1("b", map[string]Handler{"report": {Serve: in.serve}})
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _ = a.Serve(ctx) })
		wg.Go(func() { _ = b.Serve(ctx) })
		id := b.o.Self.ID()
		for i := range 60 {
			a.Post(id, "report", "k", fmt.Append(nil, i))
			time.Sleep(time.Second)
		}
		if n := len(in.list()); n != 60 {
			t.Errorf("%d of 60 arrived", n)
		}
		if err := a.Alive(ctx, id); err != nil {
			t.Error(err)
		}
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if n := b.Stats().Conns; n != 0 {
			t.Errorf("%d connections after 5 silent minutes", n)
		}
		w.expel(id, true)
		a.Post(id, "report", "k", []byte("late"))
		time.Sleep(50 * time.Second)
		if q := a.Stats().Peers[0].Queue; q != 1 {
			t.Errorf("after 50 s unknown: %d queued", q)
		}
		time.Sleep(20 * time.Second)
		if p := a.Stats().Peers[0]; p.Queue != 0 || p.Dropped != 1 {
			t.Errorf("after 70 s unknown: %+v", p)
		}
		time.Sleep(11 * time.Minute)
		if n := len(a.Stats().Peers); n != 0 {
			t.Errorf("%d peers are remembered", n)
		}
		cancel()
		wg.Wait()
		a.Close()
		b.Close()
	})
}
