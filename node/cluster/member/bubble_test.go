package member

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/effiscale/effiscale/node/test/sim/simnet"
)

// bubble is a cluster in virtual time.
type bubble struct {
	net *simnet.Net
	all []*Members
	ips []string
	log record
	// timing of all nodes.
	timing Timing
}

// inBubble runs test with a cluster of n nodes that see each other.
func inBubble(t *testing.T, n int, test func(t *testing.T, b *bubble)) {
	t.Helper()
	inBubbleTimed(t, Fast, n, test)
}

func inBubbleTimed(t *testing.T, timing Timing, n int, test func(t *testing.T, b *bubble)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &bubble{net: simnet.New(11), timing: timing}
		b.net.Everywhere(simnet.Fault{Delay: 200 * time.Microsecond, Jitter: 300 * time.Microsecond})
		for i := range n {
			b.ips = append(b.ips, fmt.Sprintf("10.0.0.%d", i+1))
			b.all = append(b.all, b.open(t, i, nil))
		}
		defer func() {
			for _, m := range b.all {
				_ = m.Close()
			}
			b.net.Close()
			time.Sleep(time.Minute) // memberlist's last probes
		}()
		b.within(t, 10*time.Second, "the cluster forms", func() bool { return see(b.all, n) })
		test(t, b)
	})
}

func (b *bubble) open(t *testing.T, i int, kept []Seen) *Members {
	o := options(i)
	o.Bind, o.Join, o.Kept = b.ips[i]+":7946", []string{"10.0.0.1"}, kept
	o.RejoinEvery, o.Timing, o.Log = 0, b.timing, b.log.logger()
	o.Transport = b.net.Host(b.ips[i]).Transport(7946)
	m, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	go m.Run(t.Context())
	return m
}

// within waits for it in virtual time, and returns how long it took.
func (b *bubble) within(t *testing.T, most time.Duration, what string, ok func() bool) time.Duration {
	t.Helper()
	begin := time.Now()
	for time.Since(begin) <= most {
		if ok() {
			return time.Since(begin)
		}
		time.Sleep(10 * time.Millisecond)
	}
	for _, m := range b.all {
		t.Logf("%s sees %d alive", m.Addr(), alive(m))
	}
	t.Fatalf("not in %v: %s", most, what)
	return most
}

func (b *bubble) failures() (n uint64) {
	for _, m := range b.all {
		n += m.Counts().Failures
	}
	return n
}

// TestRow1CrashIsSeen: a host that goes is known by all the others within 3 s.
func TestRow1CrashIsSeen(t *testing.T) {
	var took []time.Duration
	for range 20 {
		inBubble(t, 5, func(t *testing.T, b *bubble) {
			time.Sleep(5 * time.Second)
			b.net.Host(b.ips[4]).Down()
			took = append(took, b.within(t, 3*time.Second, "a crash is seen", func() bool {
				return !slices.ContainsFunc(b.all[:4], func(m *Members) bool { return peerOf(m, idOf(4)).Status != "failed" })
			}))
		})
	}
	slices.Sort(took)
	t.Logf("a crash is known by all of 4 after %v (median), %v (worst of %d)", took[len(took)/2], took[len(took)-1], len(took))
}

// TestRow10Loss: 30 % of packets are lost for a minute, late by 300 ms ± 200 ms as well.
func TestRow10Loss(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault simnet.Fault
		// most is how many verdicts of death, by all five, are accepted.
		most uint64
	}{
		{"loss", simnet.Fault{Loss: 0.3, Delay: time.Millisecond}, 4},
		{"loss and jitter", simnet.Fault{Loss: 0.3, Delay: 50 * time.Millisecond, Jitter: 200 * time.Millisecond}, 40},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, 5, func(t *testing.T, b *bubble) {
				time.Sleep(5 * time.Second)
				b.net.Everywhere(c.fault)
				suspects := 0
				for range 600 {
					time.Sleep(100 * time.Millisecond)
					for _, m := range b.all {
						for _, p := range m.Peers() {
							if p.Status == "suspect" {
								suspects++
							}
						}
					}
				}
				health := 0
				for _, m := range b.all {
					health = max(health, m.Health())
				}
				t.Logf("%d false verdicts in 60 s by 5 nodes; suspected for %.1f of 1200 s; worst health %d", b.failures(), float64(suspects)/10, health)
				if n := b.failures(); n > c.most {
					t.Errorf("%d false verdicts, over %d", n, c.most)
				}
				b.net.Heal()
				b.within(t, 35*time.Second, "all are back", func() bool { return see(b.all, 5) })
			})
		})
	}
}

// TestRow8PartitionHeals: rows 7 and 8, three against two, for so long that
// memberlist has forgotten them. The loop of Run brings them together again.
func TestRow8PartitionHeals(t *testing.T) {
	for _, long := range []time.Duration{10 * time.Second, 5 * time.Minute} {
		inBubble(t, 5, func(t *testing.T, b *bubble) {
			b.net.Partition(b.ips[:3], b.ips[3:])
			b.within(t, 10*time.Second, "both sides see it", func() bool { return see(b.all[:3], 3) && see(b.all[3:], 2) })
			time.Sleep(long)
			if !see(b.all[:3], 3) || !see(b.all[3:], 2) {
				t.Error("a cut is not a cut")
			}
			b.net.Heal()
			took := b.within(t, 35*time.Second, "they find each other", func() bool { return see(b.all, 5) })
			t.Logf("cut for %v, together again after %v", long, took)
		})
	}
}

// TestRow9OneWay: a node that hears and is not heard. Others lose it or not, but
// after healing all agree.
func TestRow9OneWay(t *testing.T) {
	inBubble(t, 5, func(t *testing.T, b *bubble) {
		for _, ip := range b.ips[:4] {
			b.net.Cut(b.ips[4], ip)
		}
		b.within(t, 10*time.Second, "the others lose it", func() bool { return see(b.all[:4], 4) })
		time.Sleep(time.Minute)
		t.Logf("who is not heard sees %d alive", alive(b.all[4]))
		b.net.Heal()
		took := b.within(t, 35*time.Second, "all agree", func() bool { return see(b.all, 5) })
		t.Logf("together again after %v", took)
	})
}

// TestRestartFromKept: all seeds are gone, what was kept is enough.
func TestRestartFromKept(t *testing.T) {
	inBubble(t, 4, func(t *testing.T, b *bubble) {
		kept := b.all[3].Seen()
		_ = b.all[3].Close()
		b.net.Host(b.ips[0]).Down()
		b.within(t, 10*time.Second, "two are left", func() bool { return see(b.all[1:3], 2) })
		time.Sleep(3 * time.Minute)
		b.all[3] = b.open(t, 3, kept)
		b.within(t, 10*time.Second, "it is back", func() bool { return see(b.all[1:], 3) })
	})
}

// TestGoodbyeIsKept: who left on purpose has not failed for one that starts again and finds
// nobody else who knew.
func TestGoodbyeIsKept(t *testing.T) {
	inBubble(t, 2, func(t *testing.T, b *bubble) {
		_ = b.all[1].Leave(500 * time.Millisecond)
		_ = b.all[1].Close()
		b.within(t, 10*time.Second, "it left", func() bool { return peerOf(b.all[0], idOf(1)).Status == "left" })
		kept := b.all[0].Seen()
		_ = b.all[0].Close()
		b.all[0] = b.open(t, 0, kept)
		if p := peerOf(b.all[0], idOf(1)); p.Status != "left" {
			t.Errorf("after a restart: %q", p.Status)
		}
	})
}

// TestForget: a node that is down is gone for all when a person says so, and a member
// again when it comes back.
func TestForget(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, b *bubble) {
		for name, want := range map[string]string{"host9": "no member has this name", "host2": "alive"} {
			if _, err := b.all[0].Forget(name); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v", name, err)
			}
		}
		kept := b.all[2].Seen()
		_ = b.all[2].Close()
		b.within(t, 20*time.Second, "it failed", func() bool {
			return peerOf(b.all[0], idOf(2)).Status == "failed" && peerOf(b.all[1], idOf(2)).Status == "failed"
		})
		if ids, err := b.all[0].Forget("host2"); err != nil || len(ids) != 1 || ids[0] != idOf(2) {
			t.Fatal(err)
		}
		b.within(t, 10*time.Second, "all are told", func() bool { return peerOf(b.all[1], idOf(2)).Status == "left" })
		for i, m := range b.all[:2] {
			if c := m.Counts(); peerOf(m, idOf(2)).Status != "left" || c.Failures != 0 || c.Leaves != 1 {
				t.Errorf("node %d: %+v", i, c)
			}
		}
		b.all[2] = b.open(t, 2, kept)
		b.within(t, time.Minute, "it is back", func() bool {
			return peerOf(b.all[0], idOf(2)).Alive &&
				peerOf(b.all[1], idOf(2)).Alive
		})
	})
}

// TestLeaveUnderLoss: a goodbye is heard by all, though a third of the packets is lost.
func TestLeaveUnderLoss(t *testing.T) {
	inBubble(t, 7, func(t *testing.T, b *bubble) {
		b.net.Everywhere(simnet.Fault{Loss: 0.3, Delay: time.Millisecond})
		_ = b.all[6].Leave(500 * time.Millisecond)
		_ = b.all[6].Close()
		b.within(t, 40*time.Second, "all know that it left", func() bool {
			return !slices.ContainsFunc(b.all[:6], func(m *Members) bool { return peerOf(m, idOf(6)).Status != "left" })
		})
	})
}

// TestGoodbyeOfALifeUnseen: who was down while another one started anew and left hears of
// that goodbye afterwards; one of an earlier life than it has seen counts for nothing.
func TestGoodbyeOfALifeUnseen(t *testing.T) {
	inBubble(t, 2, func(t *testing.T, b *bubble) {
		m, other := b.all[0], b.all[1]
		seen := m.Seen()
		if len(seen) != 1 || seen[0].Started == 0 {
			t.Fatalf("kept: %+v", seen)
		}
		was := seen[0].Started
		status := func() string {
			p, _ := m.Peer(other.o.ID)
			return p.Status
		}
		m.leaves.receive(packNotices([]notice{{other.o.ID, was + 1}}))
		if status() != "alive" {
			t.Error("a goodbye took away who is there")
		}
		_ = other.Close()
		b.within(t, 20*time.Second, "the other one is gone", func() bool { return status() == "failed" })
		m.leaves.receive(packNotices([]notice{{other.o.ID, was - 1}, {other.o.ID, 0}, {other.o.ID, -1}}))
		if status() != "failed" {
			t.Errorf("%s after the goodbye of an earlier life", status())
		}
		m.leaves.receive(packNotices([]notice{{other.o.ID, was + 1}}))
		if status() != "left" {
			t.Errorf("%s after the goodbye of a later life", status())
		}
	})
}

// TestRow24SmallPackets: the least MTU of IPv6 is enough for a cluster of metadata
// at its longest.
func TestRow24SmallPackets(t *testing.T) {
	inBubble(t, 5, func(t *testing.T, b *bubble) {
		b.net.Everywhere(simnet.Fault{MTU: 1232})
		for _, m := range b.all {
			m.Update(func(meta *Meta) {
				next := full()
				next.State = Participant
				*meta = next
			})
		}
		b.within(t, 5*time.Second, "metadata is seen", func() bool {
			for _, m := range b.all {
				for _, p := range m.Peers() {
					if p.State != Participant || p.Zone != full().Zone {
						return false
					}
				}
			}
			return true
		})
		lost := uint64(0)
		for _, s := range b.net.Stats() {
			lost += s.Lost
		}
		if lost > 0 || b.failures() > 0 {
			t.Errorf("%d packets were too long, %d members lost", lost, b.failures())
		}
	})
}

// TestRow22Replay: the packets of a minute ago, once more, change nothing.
func TestRow22Replay(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, b *bubble) {
		b.net.Everywhere(simnet.Fault{Duplicate: 1, Delay: time.Millisecond, Jitter: 200 * time.Millisecond})
		b.all[1].Update(func(m *Meta) { m.Load = 1 })
		time.Sleep(5 * time.Second)
		b.all[1].Update(func(m *Meta) { m.Load = 2 })
		time.Sleep(30 * time.Second)
		for _, m := range b.all {
			if p := peerOf(m, idOf(1)); p.Load != 2 || alive(m) != 3 {
				t.Errorf("%s sees load %d, %d alive", m.Addr(), p.Load, alive(m))
			}
		}
	})
}

// TestVersion: whoever copies the members only when the version is another one sees
// what all others see, but for times; and does not copy them for nothing.
func TestVersion(t *testing.T) {
	inBubble(t, 4, func(t *testing.T, b *bubble) {
		var version, copies uint64
		var peers []Peer
		watch := func(d time.Duration) {
			for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
				if v := b.all[0].Version(); peers == nil || v != version {
					version, peers, copies = v, b.all[0].Peers(), copies+1
				}
				for i, p := range b.all[0].Peers() {
					p.RTT = peers[i].RTT
					if was := peers[i]; p != was && !(p.Alive && was.Alive) || p.Meta != was.Meta || p.Addr != was.Addr {
						t.Fatalf("%+v, and the copy has %+v", p, was)
					}
				}
			}
		}
		watch(5 * time.Second)
		copies = 0
		watch(20 * time.Second)
		if copies > 0 {
			t.Errorf("%d copies while nothing happened", copies)
		}
		b.all[0].Update(func(m *Meta) { m.Ring = 7 })
		b.all[1].Update(func(m *Meta) { m.State = Leaving })
		watch(5 * time.Second)
		b.net.Host(b.ips[2]).Down()
		watch(10 * time.Second)
		b.net.Host(b.ips[2]).Up()
		watch(time.Minute)
		if err := b.all[3].Leave(time.Second); err != nil {
			t.Error(err)
		}
		watch(5 * time.Second)
		if copies < 5 || len(peers) != 4 {
			t.Errorf("%d copies, %d members in the last one", copies, len(peers))
		}
	})
}

// TestVotersAreSentAtOnce: also two updates of them that follow each other.
func TestVotersAreSentAtOnce(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, b *bubble) {
		time.Sleep(time.Minute)
		for base := uint64(1); base < 6; base++ {
			for _, v := range []Voters{{Number: base - 1, Next: base, Sum: 1}, {Number: base, Next: base, Sum: 1}} {
				b.all[0].Update(func(m *Meta) { m.Voters, m.Features = v, m.Features|FeatureVoters })
			}
			time.Sleep(2 * time.Second)
			if p, _ := b.all[1].Peer(b.all[0].o.ID); p.Voters.Number != base {
				t.Errorf("list %d, two seconds later %d arrived", base, p.Voters.Number)
			}
		}
	})
}
