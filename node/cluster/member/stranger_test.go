package member

import (
	"bytes"
	"compress/lzw"
	"crypto/rand"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
)

// outsider tries to join a cluster of two, and must not; it returns what the
// cluster counted, and what the outsider was told.
func outsider(t *testing.T, change func(*Options), cause Cause, line string) error {
	t.Helper()
	var logs record
	o := options(1)
	o.Log = logs.logger()
	a := start(t, o)
	o = options(2)
	o.Join = []string{a.Addr()}
	b := start(t, o)
	eventually(t, "two", func() bool { return see([]*Members{a, b}, 2) })
	o = options(3)
	o.RejoinEvery = 20 * time.Millisecond
	o.Join = []string{a.Addr()}
	change(&o)
	c := start(t, o)
	_, err := c.Join(t.Context(), a.Addr())
	if err == nil {
		t.Error("it joined")
	}
	eventually(t, "counted: "+string(cause), func() bool { return a.Counts().Refused[cause] > 2 })
	if n := logs.count(line); n != 1 {
		t.Errorf("%d lines with %q", n, line)
	}
	if n := logs.count(`"level":"warn"`) + logs.count(`"level":"error"`); n != 1 {
		t.Errorf("%d lines of warning: %s", n, logs.b.String())
	}
	if alive(a) != 2 || alive(b) != 2 || alive(c) != 1 || a.Health() != 0 {
		t.Errorf("%d, %d and %d members, health %d", alive(a), alive(b), alive(c), a.Health())
	}
	return err
}

func says(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("it was told %v, want %q", err, want)
	}
}

func TestRow16WrongKey(t *testing.T) {
	begin := time.Now()
	err := outsider(t, func(o *Options) { o.Keys = [][]byte{keyOf(9)} }, CauseKey,
		"a node at 127.0.0.1: it has another cluster key")
	says(t, err, "another cluster key")
	t.Logf("in %v", time.Since(begin))
}

func TestRow17Plaintext(t *testing.T) {
	err := outsider(t, func(o *Options) { o.Keys = nil }, CausePlaintext, "a node at 127.0.0.1: it has no cluster key")
	says(t, err, "it has a cluster key and this node has none")
}

func TestOtherCluster(t *testing.T) {
	err := outsider(t, func(o *Options) { o.Cluster = "other" }, CauseCluster, `of another cluster, \"other\"`)
	says(t, err, "name")
}

// TestKeylessRefusesEncrypted: the other way round, this node is the one without a key.
func TestKeylessRefusesEncrypted(t *testing.T) {
	o := options(1)
	o.Keys = nil
	a := start(t, o)
	b := start(t, options(2))
	_, err := b.Join(t.Context(), a.Addr())
	says(t, err, "it has no cluster key")
	if a.Counts().Refused[CauseEncrypted] == 0 {
		t.Errorf("counted %+v", a.Counts())
	}
	_ = a.AddKey(keyOf(1))
	if err := a.AddKey(keyOf(1)); err != errNoKeys {
		t.Error(err)
	}
}

// TestForeignMembers: memberlist's own users with our key and label are no members.
func TestForeignMembers(t *testing.T) {
	a := start(t, options(1))
	for _, name := range []string{"web-1", string(idOf(7))} {
		c := memberlist.DefaultLocalConfig()
		c.Name, c.Label, c.SecretKey = name, "test", keyOf(1)
		c.BindAddr, c.BindPort, c.LogOutput = "127.0.0.1", 0, io.Discard
		f, err := memberlist.Create(c)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = f.Join([]string{a.Addr()})
		_ = f.Shutdown()
	}
	// It answers first and judges what it was told then.
	refused := func() map[Cause]uint64 { return a.Counts().Refused }
	for end := time.Now().Add(5 * time.Second); (refused()[CauseID] == 0 || refused()[CauseMeta] == 0) &&
		time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	if c := refused(); alive(a) != 1 || c[CauseID] == 0 || c[CauseMeta] == 0 {
		t.Errorf("%d members, %v", alive(a), c)
	}
}

// TestRow18KeyRotation: a node is down while the others change the key.
func TestRow18KeyRotation(t *testing.T) {
	all := three(t, nil)
	old, fresh := keyOf(1), keyOf(2)
	kept := all[2].Seen()
	_ = all[2].Close()
	eventually(t, "two", func() bool { return see(all[:2], 2) })
	for _, m := range all[:2] {
		if err := m.AddKey(fresh); err != nil {
			t.Fatal(err)
		}
	}
	// It comes back with the old key alone, in the middle of the rotation.
	o := options(2)
	o.Kept = kept
	all[2] = start(t, o)
	eventually(t, "three with two keys", func() bool { return see(all, 3) })
	eventually(t, "who has which key is seen", func() bool {
		return slices.Equal(peerOf(all[0], idOf(1)).KeyNames(), []string{KeyName(old), KeyName(fresh)}) &&
			slices.Equal(peerOf(all[0], idOf(2)).KeyNames(), []string{KeyName(old)})
	})
	if err := all[2].UseKey(fresh); err == nil {
		t.Error("used a key that it has not")
	}
	if err := all[2].AddKey(fresh); err != nil {
		t.Fatal(err)
	}
	for _, m := range all {
		if err := m.UseKey(fresh); err != nil {
			t.Fatal(err)
		}
		if err := m.RemoveKey(fresh); err == nil {
			t.Error("removed the key in use")
		}
	}
	if got := all[0].Keys(); !slices.Equal(got, []string{KeyName(fresh), KeyName(old)}) {
		t.Errorf("keys %v", got)
	}
	for _, m := range all {
		if err := m.RemoveKey(old); err != nil {
			t.Fatal(err)
		}
	}
	all[1].Update(func(m *Meta) { m.Ring = 9 })
	eventually(t, "gossip with the new key", func() bool { return peerOf(all[2], idOf(1)).Ring == 9 })
	for _, m := range all[:2] {
		if c := m.Counts(); c.Failures != 1 || !see(all, 3) {
			t.Errorf("somebody was lost: %+v", c)
		}
	}
}

// TestRow19Flood: garbage datagrams, as fast as they go for two seconds.
func TestRow19Flood(t *testing.T) {
	var logs record
	all := three(t, func(_ int, o *Options) { o.Log = logs.logger() })
	runtime.GC()
	before := heap()
	packets := make([][]byte, 64)
	for i := range packets {
		packets[i] = make([]byte, 20+20*i)
		_, _ = rand.Read(packets[i])
		if i%2 == 0 { // as far as one comes without a key
			copy(packets[i], "\xf4\x04test\x01")
		}
	}
	c := udp(t, all[0].Addr())
	lines, sent, most := logs.count("\n"), 0, before
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); sent++ {
		_, _ = c.Write(packets[sent%len(packets)])
		if sent%10000 == 0 {
			most = max(most, heap())
		}
	}
	eventually(t, "three see three", func() bool { return see(all, 3) })
	counts := all[0].Counts()
	t.Logf("%d datagrams; %v refused; heap %d KiB, at most %d KiB; health %d", sent, counts.Refused, before>>10, most>>10, all[0].Health())
	if counts.Refused[CauseGarbage] == 0 || counts.Refused[CauseKey] == 0 || counts.Failures > 0 {
		t.Errorf("counts %+v", counts)
	}
	// One line a cause, and perhaps one for each member whose packets were crowded out.
	if n := logs.count("\n") - lines; logs.count("refused") > 2 || n > 8 {
		t.Errorf("%d lines about it: %s", n, logs.b.String())
	}
	if most > before+64<<20 {
		t.Errorf("%d MiB of heap", most>>20)
	}
}

// TestRow20HeldConnections: 500 streams that bring garbage, or nothing, and stay.
func TestRow20HeldConnections(t *testing.T) {
	all := three(t, nil)
	before := runtime.NumGoroutine()
	var held []net.Conn
	for i := range 500 {
		c, err := net.Dial("tcp", all[0].Addr())
		if err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 {
			_, _ = c.Write([]byte("\xf4\x04test\x0a\x00\xff\xff\xff half of a state"))
		}
		held = append(held, c)
	}
	// One that is refused has a goroutine until its turn comes: what counts is what stays.
	most := runtime.NumGoroutine() - before
	for end := time.Now().Add(time.Second); most > maxFrom+30 && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
		most = runtime.NumGoroutine() - before
	}
	late := options(4)
	late.Join = []string{all[0].Addr()}
	all = append(all, start(t, late)) // from the same address
	all[1].Update(func(m *Meta) { m.Load = 77 })
	eventually(t, "gossip goes on", func() bool { return peerOf(all[0], idOf(1)).Load == 77 && see(all, 4) })
	_ = all[3].Leave(500 * time.Millisecond)
	_ = all[3].Close()
	for _, c := range held {
		_ = c.Close()
	}
	begin := time.Now()
	eventually(t, "the goroutines are back", func() bool { return runtime.NumGoroutine() < before+10 })
	t.Logf("at most %d goroutines more, back after %v; refused %v", most, time.Since(begin), all[0].Counts().Refused)
	if most > maxFrom+30 || all[0].Counts().Refused[CauseCrowd] < 400 {
		t.Errorf("%d goroutines more, refused %v", most, all[0].Counts().Refused)
	}
	if all[0].Counts().Failures > 0 {
		t.Error("a member was lost")
	}
}

// TestGroups: one host with many addresses of IPv6 is one.
func TestGroups(t *testing.T) {
	for addr, want := range map[string]string{
		"10.0.0.1:5": "10.0.0.1", "[::ffff:10.0.0.1]:5": "10.0.0.1", "[2001:db8:1:2:3::4]:5": "2001:db8:1:2::/64",
		"[fe80::1%eth0]:5": "fe80::/64",
	} {
		a := net.TCPAddrFromAddrPort(netip.MustParseAddrPort(addr))
		if got := groupOf(a); got != want {
			t.Errorf("%s: %s, want %s", addr, got, want)
		}
	}
}

// bomb is a compressed message that would be 256 MiB.
func bomb() []byte {
	var b bytes.Buffer
	w := lzw.NewWriter(&b, lzw.LSB, 8)
	zeros := make([]byte, 1<<20)
	for range 256 {
		_, _ = w.Write(zeros)
	}
	_ = w.Close()
	head := []byte("\x09\x82\xa4Algo\x00\xa3Buf\xc6")
	return append(binary.BigEndian.AppendUint32(head, uint32(b.Len())), b.Bytes()...)
}

// TestRow21Bombs: compressed bombs and headers that promise too much, to a node
// with a key and to one without.
func TestRow21Bombs(t *testing.T) {
	blast := bomb()
	huge := []byte("\x06\x83\xa5Nodes\xce\x7f\xff\xff\xff\xacUserStateLen\xce\x7f\xff\xff\xff\xa4Join\xc3")
	many := []byte("\x06\x83\xa5Nodes\xce\x00\x10\x00\x00\xacUserStateLen\x00\xa4Join\xc3")
	long := append([]byte("\x0a\x01\x3f\xff\xff"), make([]byte, 30<<20)...) // an encrypted state of 20 MiB, and it comes
	for _, c := range []struct {
		what   string
		stream []byte
		most   uint64 // MiB that may be allocated
	}{{"bomb", blast, 4}, {"huge", huge, 1}, {"many", many, 140}, {"long", long, 24}} {
		for _, keyed := range []bool{true, false} {
			o := options(1)
			if !keyed {
				o.Keys = nil
			}
			m := start(t, o)
			if c.what == "bomb" {
				_, _ = udp(t, m.Addr()).Write(append([]byte("\xf4\x04test"), c.stream[:min(len(c.stream), 60000)]...))
			}
			packet := append([]byte("\xf4\x04test"), c.stream...)
			var s, e runtime.MemStats
			runtime.ReadMemStats(&s)
			conn, err := net.Dial("tcp", m.Addr())
			if err != nil {
				t.Fatal(err)
			}
			_ = conn.SetDeadline(time.Now().Add(2 * time.Second))
			_, _ = conn.Write(packet)
			_ = conn.(*net.TCPConn).CloseWrite()
			_, _ = io.Copy(io.Discard, conn)
			_ = conn.Close()
			runtime.ReadMemStats(&e)
			got := (e.TotalAlloc - s.TotalAlloc) >> 20
			t.Logf("%s of %d KiB, keyed %v: %d MiB allocated, refused %v", c.what, len(c.stream)>>10, keyed, got,
				m.Counts().Refused)
			if got > c.most {
				t.Errorf("%s, keyed %v: %d MiB", c.what, keyed, got)
			}
			if len(m.Counts().Refused) == 0 {
				t.Errorf("%s, keyed %v: not counted", c.what, keyed)
			}
			_ = m.Close()
		}
	}
}

// TestAllowedNetworks: who is elsewhere is refused before anything is read.
func TestAllowedNetworks(t *testing.T) {
	o := options(1)
	o.AllowCIDRs = []string{"10.0.0.0/8"}
	said := make(chan struct{}, 64)
	o.Changed = func() { said <- struct{}{} }
	a := start(t, o)
	b := start(t, options(2))
	if _, err := b.Join(t.Context(), a.Addr()); err == nil {
		t.Error("it joined")
	}
	if a.Counts().Refused[CauseNetwork] == 0 {
		t.Errorf("counted %v", a.Counts())
	}
	// On loopback it is not in them itself, and what it says of itself still counts: memberlist
	// dereferenced nil where the node had been refused by itself.
	a.Update(func(m *Meta) { m.State = Participant })
	eventually(t, "it says so", func() bool {
		<-said // what is read is written before
		meta, err := Unpack(a.ml.LocalNode().Meta)
		return err == nil && meta.State == Participant
	})
}

// TestOwnAddressIsAllowed: where allow leaves out what a name stands for, the start fails.
func TestOwnAddressIsAllowed(t *testing.T) {
	o := options(1)
	o.Bind, o.Advertise, o.AllowCIDRs = "0.0.0.0:0", "192.168.77.1", []string{"10.0.0.0/8"}
	o.Keys = [][]byte{make([]byte, 32)}
	m, err := Open(o)
	if err == nil {
		_ = m.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "own address 192.168.77.1") {
		t.Errorf("Open: %v", err)
	}
}
