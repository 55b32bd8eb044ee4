package simnet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/memberlist"
)

// streams are both ends of one stream from a to b.
func streams(t *testing.T, a, b *Host) (net.Conn, net.Conn) {
	t.Helper()
	l, err := b.Listen(0)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	x, err := a.Dial(t.Context(), l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	y, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return x, y
}

func TestStreamDelayAndOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(1)
		defer n.Close()
		n.Everywhere(Fault{Delay: 10 * time.Millisecond, Jitter: 20 * time.Millisecond, Loss: 0.2})
		x, y := streams(t, n.Host("10.0.0.1"), n.Host("10.0.0.2"))
		want := bytes.Repeat([]byte("0123456789"), 100_000)
		start := time.Now()
		go func() {
			for part := want; len(part) > 0; {
				k := min(len(part), 7001)
				_, _ = x.Write(part[:k])
				part = part[k:]
			}
			_ = x.Close()
		}()
		got, err := io.ReadAll(y)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
		if d := time.Since(start); d < 10*time.Millisecond {
			t.Errorf("took %v", d)
		}
		if _, err := y.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
			t.Errorf("write to a closed end: %v", err)
		}
		_ = y.Close()
		if s := n.Host("10.0.0.2").Stats(); s.StreamIn != 1_000_000 || n.Host("10.0.0.1").Stats().StreamOut != 1_000_000 {
			t.Errorf("counted %+v", s)
		}
	})
}

func TestStreamDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(1)
		defer n.Close()
		x, y := streams(t, n.Host("10.0.0.1"), n.Host("10.0.0.2"))
		_ = x.SetDeadline(time.Now().Add(time.Second))
		start := time.Now()
		_, err := x.Read(make([]byte, 1))
		var timeout net.Error
		if !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &timeout) || !timeout.Timeout() ||
			time.Since(start) != time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		_ = y.SetWriteDeadline(time.Now().Add(time.Second))
		k, err := y.Write(make([]byte, window+1))
		if k != window || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("wrote %d, %v", k, err)
		}
		_ = x.SetReadDeadline(time.Time{})
		go func() { time.Sleep(time.Second); _ = x.SetReadDeadline(time.Now()) }()
		if _, err := io.Copy(io.Discard, x); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a deadline that is set during a read: %v", err)
		}
	})
}

func TestCutHoldsAndHealDelivers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(1)
		defer n.Close()
		a, b := n.Host("10.0.0.1"), n.Host("10.0.0.2")
		x, y := streams(t, a, b)
		n.Cut("10.0.0.1", "10.0.0.2")
		_, _ = x.Write([]byte("held"))
		_, _ = y.Write([]byte("back"))
		buf := make([]byte, 16)
		if k, err := x.Read(buf); string(buf[:k]) != "back" {
			t.Errorf("the other way: %q, %v", buf[:k], err)
		}
		_ = y.SetReadDeadline(time.Now().Add(time.Minute))
		if _, err := y.Read(buf); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a cut link delivered: %v", err)
		}
		l, err := b.Listen(80)
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range []struct {
			from *Host
			to   string
		}{{a, "10.0.0.2:80"}, {b, "10.0.0.1:80"}} {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			start := time.Now()
			if _, err := h.from.Dial(ctx, h.to); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != 5*time.Second {
				t.Errorf("dial %s: %v after %v", h.to, err, time.Since(start))
			}
			cancel()
		}
		_ = y.SetReadDeadline(time.Time{})
		go func() { time.Sleep(time.Second); n.Heal() }()
		if k, err := y.Read(buf); string(buf[:k]) != "held" {
			t.Errorf("after healing: %q, %v", buf[:k], err)
		}
		_ = l.Close()
		if _, err := a.Dial(t.Context(), "10.0.0.2:80"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("a closed port: %v", err)
		}
	})
}

func TestDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(1)
		defer n.Close()
		a, b := n.Host("10.0.0.1"), n.Host("10.0.0.2")
		l, err := b.Listen(80)
		if err != nil {
			t.Fatal(err)
		}
		x, _ := streams(t, a, b)
		b.Down()
		if _, err := x.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("read: %v", err)
		}
		start := time.Now()
		if _, err := a.Dial(t.Context(), "10.0.0.2:80"); !errors.Is(err, syscall.ECONNREFUSED) || time.Since(start) != 0 {
			t.Errorf("dial: %v after %v", err, time.Since(start))
		}
		b.Up()
		if _, err := a.Dial(t.Context(), "10.0.0.2:80"); err != nil {
			t.Error(err)
		}
		_ = l.Close()
		if len(n.conns) != 0 {
			t.Errorf("%d streams are kept", len(n.conns))
		}
	})
}

// packets sends k of them and counts what came.
func packets(n *Net, k int) (came int) {
	a, b := n.Host("10.0.0.1").Transport(0), n.Host("10.0.0.2").Transport(0)
	for range k {
		_, _ = a.WriteTo([]byte("x"), b.Addr())
		time.Sleep(time.Second)
		for len(b.PacketCh()) > 0 {
			<-b.PacketCh()
			came++
		}
	}
	_, _ = a.Shutdown(), b.Shutdown()
	return came
}

func TestPacketFaults(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault Fault
		want  float64
	}{
		{"none", Fault{}, 1},
		{"late", Fault{Delay: 100 * time.Millisecond, Jitter: 50 * time.Millisecond}, 1},
		{"loss", Fault{Loss: 0.3}, 0.7},
		{"twice", Fault{Duplicate: 0.5}, 1.5},
		{"cut", Fault{Cut: true}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			run := func(seed int64) (came int) {
				synctest.Test(t, func(t *testing.T) {
					n := New(seed)
					defer n.Close()
					n.Link("10.0.0.1", "10.0.0.2", c.fault)
					came = packets(n, 2000)
					if s := n.Stats()["10.0.0.2"]; int(s.PacketsIn) != came || n.Stats()["10.0.0.1"].PacketsOut != 2000 {
						t.Errorf("counted %+v", s)
					}
				})
				return came
			}
			one, again := run(7), run(7)
			if got := float64(one) / 2000; math.Abs(got-c.want) > 0.05 {
				t.Errorf("%.3f of the packets came, want %.3f", got, c.want)
			}
			if one != again {
				t.Errorf("%d and %d packets with one seed", one, again)
			}
		})
	}
}

// TestMemberlist: a cluster forms in a bubble, sees a host go, and everything ends.
func TestMemberlist(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(3)
		var all []*memberlist.Memberlist
		for i := range 5 {
			c := memberlist.DefaultLANConfig()
			c.Name = fmt.Sprint("node", i)
			c.Transport = n.Host(fmt.Sprintf("10.0.0.%d", i+1)).Transport(7946)
			c.LogOutput = io.Discard
			m, err := memberlist.Create(c)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, m)
			if i > 0 {
				if _, err := m.Join([]string{"10.0.0.1:7946"}); err != nil {
					t.Fatal(err)
				}
			}
		}
		time.Sleep(5 * time.Second)
		for _, m := range all {
			if m.NumMembers() != 5 {
				t.Errorf("%d members", m.NumMembers())
			}
		}
		n.Host("10.0.0.5").Down()
		time.Sleep(15 * time.Second)
		if got := all[0].NumMembers(); got != 4 {
			t.Errorf("%d members after one went", got)
		}
		for _, m := range all {
			_ = m.Shutdown()
		}
		n.Close()
		time.Sleep(time.Minute)
	})
}

func TestPorts(t *testing.T) {
	n := New(1)
	defer n.Close()
	h := n.Host("10.0.0.1")
	tr := h.Transport(7946)
	if _, err := h.Bind(7946); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a port taken twice: %v", err)
	}
	_ = tr.Shutdown()
	if _, err := h.Bind(7946); err != nil {
		t.Error(err)
	}
}

// TestFreeze: a frozen host sends nothing, and what was sent to it is there when it
// goes on.
func TestFreeze(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(1)
		defer n.Close()
		a, b := n.Host("10.0.0.1"), n.Host("10.0.0.2")
		at, bt := a.Transport(7), b.Transport(7)
		x, y := streams(t, a, b)
		b.Freeze()
		began := time.Now()
		time.AfterFunc(10*time.Second, b.Thaw)
		_, _ = at.WriteTo([]byte("packet"), bt.Addr())
		_, _ = x.Write([]byte("stream"))
		_, _ = y.Write([]byte("answer"))
		time.Sleep(time.Second)
		if len(bt.PacketCh()) != 0 {
			t.Error("a frozen host took a packet")
		}
		_ = x.SetReadDeadline(began.Add(2 * time.Second))
		if _, err := x.Read(make([]byte, 6)); err == nil {
			t.Error("a frozen host's answer came")
		}
		_ = x.SetReadDeadline(time.Time{})
		for _, c := range []net.Conn{y, x} {
			if _, err := io.ReadFull(c, make([]byte, 6)); err != nil || time.Since(began) != 10*time.Second {
				t.Errorf("read: %v after %v", err, time.Since(began))
			}
		}
		if len(bt.PacketCh()) != 1 {
			t.Errorf("%d packets after the thaw", len(bt.PacketCh()))
		}
		_, _ = at.Shutdown(), bt.Shutdown()
	})
}
