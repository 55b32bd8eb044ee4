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

	"github.com/effiscale/effiscale/node/cluster/trust"
)

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

// TestInABubble: a minute of calls, silence and a peer that leaves, in virtual
// time; nothing is left running.
func TestInABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, w := &street{houses: map[string]*house{}}, newTown(t)
		make1 := func(name string, handlers map[string]Handler) *Relay {
			self, err := trust.NewIdentity(nil)
			if err != nil {
				t.Fatal(err)
			}
			w.move(self.ID(), name)
			r, err := New(Options{Self: self, Listener: s.listen(name), Dial: s.dial, Lookup: w.lookup, Known: w.known,
				Log: zerolog.Nop(), Handlers: handlers})
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
		a, b := make1("a", nil), make1("b", map[string]Handler{"echo": {Serve: echo}})
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _ = a.Serve(ctx) })
		wg.Go(func() { _ = b.Serve(ctx) })
		id := b.o.Self.ID()
		for i := range 60 {
			want := fmt.Sprint(a.o.Self.ID().Short(), " ", i)
			if got, err := a.Call(ctx, id, "echo", fmt.Append(nil, i)); err != nil || string(got) != want {
				t.Fatalf("call %d: %q, %v", i, got, err)
			}
			time.Sleep(time.Second)
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
		if _, err := a.Call(ctx, id, "echo", nil); err == nil {
			t.Error("a peer that left answers")
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
