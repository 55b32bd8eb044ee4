package member

import (
	"fmt"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	code := m.Run()
	// memberlist's own probes end up to 2 s after Shutdown.
	end := time.Now().Add(5 * time.Second)
	err := goleak.Find()
	for err != nil && time.Now().Before(end) {
		err = goleak.Find()
	}
	if err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// TestJoinUpdateLeave is a cluster's everyday.
func TestJoinUpdateLeave(t *testing.T) {
	var changes atomic.Int64
	all := three(t, func(i int, o *Options) {
		if i == 0 {
			o.Changed = func() { changes.Add(1) }
		}
	})
	first := all[0].Peers()
	if !first[0].Self || first[0].ID != idOf(0) || first[1].Name != "host1" || first[2].Name != "host2" ||
		first[1].Relay != "127.0.0.1:1" {
		t.Errorf("peers: %+v", first)
	}
	before := changes.Load()
	all[2].Update(func(m *Meta) { m.State, m.Load, m.Ring = Participant, 42, 7 })
	eventually(t, "metadata is seen", func() bool {
		p := peerOf(all[0], idOf(2))
		return p.State == Participant && p.Load == 42 && p.Ring == 7
	})
	eventually(t, "a round trip", func() bool { return peerOf(all[0], idOf(2)).RTT > 0 })
	if changes.Load() == before {
		t.Error("Changed was not called")
	}
	all[2].Update(func(m *Meta) { m.Load, m.Name = 200, "other" })
	if p := all[2].Peers()[0]; p.Load != 42 || p.Name != "host2" {
		t.Errorf("out of bounds, and still taken: %+v", p)
	}
	if err := all[2].Leave(5 * time.Second); err != nil {
		t.Error(err)
	}
	_ = all[2].Close()
	eventually(t, "a goodbye", func() bool {
		return peerOf(all[0], idOf(2)).Status == "left" && peerOf(all[1], idOf(2)).Status == "left"
	})
	if c := all[0].Counts(); c.Joins != 2 || c.Leaves != 1 || c.Failures != 0 || len(c.Refused) != 0 {
		t.Errorf("counts: %+v", c)
	}
	if _, err := all[2].Join(t.Context(), all[0].Addr()); err == nil {
		t.Error("a node that left joined")
	}
}

// TestUpdatesAreFew: a busy node does not fill the cluster's gossip.
func TestUpdatesAreFew(t *testing.T) {
	all := three(t, nil)
	seen := map[uint8]bool{}
	for i := range 100 {
		all[0].Update(func(m *Meta) { m.Load = uint8(i) })
		seen[peerOf(all[1], idOf(0)).Load] = true
		time.Sleep(10 * time.Millisecond)
	}
	eventually(t, "the last value", func() bool { return peerOf(all[1], idOf(0)).Load == 99 })
	if len(seen) > 4 {
		t.Errorf("%d values were spread in a second", len(seen))
	}
}

// TestKillAndRejoin, row 1: a node that is killed is known to have failed; what it
// kept is enough to come back, at another address, without a seed.
func TestKillAndRejoin(t *testing.T) {
	all := three(t, nil)
	kept := all[2].Seen()
	if len(kept) != 2 || kept[0].Name != "host0" || kept[0].Addr != all[0].Addr() || kept[0].LastSeen.IsZero() {
		t.Fatalf("kept %+v", kept)
	}
	start2 := time.Now()
	_ = all[2].Close()
	eventually(t, "a failure", func() bool {
		return peerOf(all[0], idOf(2)).Status == "failed" && peerOf(all[1], idOf(2)).Status == "failed"
	})
	t.Logf("known by both after %v", time.Since(start2).Round(time.Millisecond))
	var conflicts atomic.Int64
	o := options(2)
	o.Kept = kept
	o.Conflict = func(p Peer, yield bool) { conflicts.Add(1); t.Errorf("conflict with %+v, %v", p, yield) }
	all[2] = start(t, o)
	eventually(t, "three see three again", func() bool { return see(all, 3) })
	if got := peerOf(all[0], idOf(2)).Addr; got != all[2].Addr() {
		t.Errorf("it is at %s, others think at %s", all[2].Addr(), got)
	}
}

// TestRestartAtOnce: back at another address before anybody knew that it was gone.
func TestRestartAtOnce(t *testing.T) {
	all := three(t, nil)
	kept := all[2].Seen()
	_ = all[2].Close()
	o := options(2)
	o.Kept = kept
	o.Conflict = func(p Peer, yield bool) { t.Errorf("its own former life is taken for another node: %+v", p) }
	all[2] = start(t, o)
	eventually(t, "three see three again", func() bool {
		return see(all, 3) &&
			peerOf(all[0], idOf(2)).Addr == all[2].Addr()
	})
	time.Sleep(time.Second)
}

// TestRow14DuplicateName: two nodes, one name. Both are told, the later one yields.
func TestRow14DuplicateName(t *testing.T) {
	type told struct {
		p     Peer
		yield bool
	}
	early, late := make(chan told, 9), make(chan told, 9)
	o := options(1)
	o.Meta.Started = 1000
	o.Conflict = func(p Peer, y bool) { early <- told{p, y} }
	a := start(t, o)
	o = options(2)
	o.Meta.Started, o.Meta.Name, o.Join = 2000, "host1", []string{a.Addr()}
	o.Conflict = func(p Peer, y bool) { late <- told{p, y} }
	b := start(t, o)
	if got := <-late; !got.yield || got.p.Addr != a.Addr() || got.p.ID != idOf(1) {
		t.Errorf("the later one was told %+v", got)
	}
	if got := <-early; got.yield || got.p.Addr != b.Addr() {
		t.Errorf("the earlier one was told %+v", got)
	}
	time.Sleep(1500 * time.Millisecond)
	if len(early)+len(late) > 0 {
		t.Error("told twice")
	}
}

// TestRow42RunningNodeKeepsItsName: of two nodes with one name the newcomer yields, by
// however much either clock is wrong.
func TestRow42RunningNodeKeepsItsName(t *testing.T) {
	for _, ahead := range []int64{600, -600} {
		running, newcomer := make(chan bool, 9), make(chan bool, 9)
		o := options(1)
		o.Meta.Started = 10_000 + ahead // five minutes before the other
		o.Conflict = func(_ Peer, yield bool) { running <- yield }
		a := start(t, o)
		a.Update(func(m *Meta) { m.State = Participant })
		a.Update(func(m *Meta) { m.State = Waiting }) // frozen for a moment since
		time.Sleep(200 * time.Millisecond)            // for its gossip
		o = options(2)
		o.Meta.Started, o.Meta.Name, o.Join = 10_300, "host1", []string{a.Addr()}
		o.Conflict = func(_ Peer, yield bool) { newcomer <- yield }
		b := start(t, o)
		eventually(t, "two see two", func() bool { return see([]*Members{a, b}, 2) })
		b.Update(func(m *Meta) { m.State = Participant }) // too late to be at home
		if !<-newcomer {
			t.Errorf("clock of the running node %d s ahead: the newcomer stays", ahead)
		}
		if <-running {
			t.Errorf("clock of the running node %d s ahead: it yields to a newcomer", ahead)
		}
		_, _ = a.Close(), b.Close()
	}
}

// TestRow15DuplicateID: a cloned disk. The later node is told to give way.
func TestRow15DuplicateID(t *testing.T) {
	late := make(chan bool, 9)
	o := options(1)
	o.Meta.Started = 1000
	a := start(t, o)
	o = options(3)
	o.Join = []string{a.Addr()}
	c := start(t, o)
	eventually(t, "two", func() bool { return see([]*Members{a, c}, 2) })
	o = options(1)
	o.Meta.Started, o.Meta.Name, o.Join = 2000, "clone", []string{c.Addr()}
	o.Conflict = func(p Peer, y bool) {
		if p.Addr != a.Addr() || p.ID != idOf(1) {
			t.Errorf("told of %+v", p)
		}
		late <- y
	}
	start(t, o)
	select {
	case yield := <-late:
		if !yield {
			t.Error("the later one does not yield")
		}
	case <-time.After(10 * time.Second):
		t.Error("not told in 10 s")
	}
	if len(late) > 0 {
		t.Error("told twice")
	}
}

// TestRow23Advertise: what others could never reach is an error at once.
func TestRow23Advertise(t *testing.T) {
	for _, c := range []struct {
		bind, advertise string
		keys            bool
		want            string
	}{
		{"0.0.0.0:0", "127.0.0.1:7946", true, "cannot reach this node"},
		{"0.0.0.0:0", "0.0.0.0", true, "cannot reach this node"},
		{"[::]:0", "", true, "set cluster.advertise"},
		{"0.0.0.0:0", "", false, "without a key"},
		{"192.0.2.1:7946", "", false, "without a key"},
		{"192.0.2.1:7946", "", true, "cannot assign requested address"},
		{"localhost:7946", "", true, "invalid bind address"},
		{"127.0.0.1:0", "10.0.0.1:x", true, "port"},
		{"127.0.0.1:0", "", false, ""},
		{"127.0.0.1:0", "10.0.0.1", true, ""},
		{"127.0.0.1:0", "10.0.0.1:77", true, ""},
	} {
		o := options(1)
		o.Bind, o.Advertise = c.bind, c.advertise
		if !c.keys {
			o.Keys = nil
		}
		m, err := Open(o)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%+v: %v", c, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%+v: %v", c, err)
		}
		if m == nil {
			continue
		}
		_, bound, _ := net.SplitHostPort(m.ml.LocalNode().Address())
		if host, port, _ := net.SplitHostPort(m.Addr()); c.advertise != "" && host != "10.0.0.1" || port != bound ||
			port == "0" {
			t.Errorf("%+v: advertised as %s", c, m.Addr())
		}
		_ = m.Close()
	}
}

func TestOpenRefuses(t *testing.T) {
	for want, change := range map[string]func(*Options){
		"32 hexadecimal": func(o *Options) { o.ID = "host1" },
		"needs a name":   func(o *Options) { o.Meta.Name = "" },
		"fast, lan":      func(o *Options) { o.Timing = "slow" },
		"the network":    func(o *Options) { o.AllowCIDRs = []string{"10.0.0.0"} },
		"key size":       func(o *Options) { o.Keys = [][]byte{[]byte("short")} },
		"name":           func(o *Options) { o.Cluster = strings.Repeat("x", 65) },
	} {
		o := options(1)
		change(&o)
		if m, err := Open(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", want, err)
			if m != nil {
				_ = m.Close()
			}
		}
	}
}

// TestOnePort: a port that is taken is an error, and nothing stays behind.
func TestOnePort(t *testing.T) {
	a := start(t, options(1))
	o := options(2)
	o.Bind = a.Addr()
	if _, err := Open(o); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a port taken twice: %v", err)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	if err := a.Leave(time.Second); err == nil {
		t.Error("a closed node left")
	}
}
