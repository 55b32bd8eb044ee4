package sim

import (
	"testing"
	"time"
)

// majorities are how many of the running hosts see a majority.
func majorities(hosts []*host) (n int) {
	for _, h := range hosts {
		if h.c != nil && h.c.View().Majority {
			n++
		}
	}
	return n
}

func (w *world) ips() (ips []string) {
	for _, h := range w.hosts {
		ips = append(ips, h.ip)
	}
	return ips
}

// TestCutThatMoves: three of five hosts drop the other two from the list of voters, then the
// cut moves so that one of them is with these two: only it knows of that list.
func TestCutThatMoves(t *testing.T) {
	inWorld(t, 5, 10, func(w *world) {
		ips := w.ips()
		w.net.Partition(ips[:3], ips[3:])
		time.Sleep(11 * time.Minute)
		w.net.Heal()
		w.net.Partition(ips[:2], ips[2:])
		time.Sleep(15 * time.Second) // to notice it
		for range 60 {
			time.Sleep(5 * time.Second)
			if a, b := majorities(w.hosts[:2]), majorities(w.hosts[2:]); a != 2 || b != 0 {
				t.Fatalf("%d of two and %d of three see a majority, want 2 and 0", a, b)
			}
		}
		w.net.Heal()
		w.until(time.Minute, "healing")
		time.Sleep(2 * time.Minute)
		for _, h := range w.hosts {
			if v := h.c.View(); !v.Majority || v.Expected != 5 {
				t.Errorf("%s: majority %v of %d", h.name, v.Majority, v.Expected)
			}
		}
		w.net.Partition(ips[:3], ips[3:]) // and the next list is in force everywhere
		time.Sleep(30 * time.Second)
		if a, b := majorities(w.hosts[:3]), majorities(w.hosts[3:]); a != 3 || b != 0 {
			t.Errorf("%d of three and %d of two see a majority, want 3 and 0", a, b)
		}
	})
}

// TestCrashLoopWithoutADisk: each start of a host without a disk is a new node. It takes the
// majority from no other node, whether it runs for less than a minute or for more, and is
// forgotten when it is taken away.
func TestCrashLoopWithoutADisk(t *testing.T) {
	for _, up := range []time.Duration{20 * time.Second, 100 * time.Second} {
		inWorld(t, 4, 10, func(w *world) {
			sick, well := w.hosts[3], w.hosts[:3]
			for range 8 {
				sick.kill()
				time.Sleep(10 * time.Second)
				sick.lose()
				sick.again()
				for range up / (5 * time.Second) {
					time.Sleep(5 * time.Second)
					if n := majorities(well); n < 3 {
						t.Fatalf("%d of three see a majority while a host crashes again and again", n)
					}
				}
			}
			sick.kill()
			time.Sleep(11 * time.Minute)
			for _, h := range well {
				if v := h.c.View(); !v.Majority || v.Expected != 3 {
					t.Errorf("%s: majority %v of %d after the sick host was taken away", h.name, v.Majority, v.Expected)
				}
			}
		})
	}
}

// TestLastOfTwo: one of two hosts stops for good. The other one is no majority of two, also
// after a restart, until an operator removes the one that is gone. The one that stopped,
// alone, has none either; together they are two again.
func TestLastOfTwo(t *testing.T) {
	inWorld(t, 2, 10, func(w *world) {
		stays, goes := w.hosts[0], w.hosts[1]
		goes.stop()
		time.Sleep(2 * time.Second)
		stays.kill()
		time.Sleep(10 * time.Second)
		stays.again()
		time.Sleep(15 * time.Minute)
		if v := stays.c.View(); v.Majority || v.Expected != 2 {
			t.Errorf("%s: majority %v of %d", stays.name, v.Majority, v.Expected)
		}
		if err := stays.c.Forget(w.t.Context(), goes.name); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Second)
		if v := stays.c.View(); !v.Majority || v.Expected != 1 {
			t.Errorf("%s: majority %v of %d after the other one was removed", stays.name, v.Majority, v.Expected)
		}
		w.net.CutBoth(stays.ip, goes.ip)
		goes.again()
		time.Sleep(2 * time.Minute)
		if goes.c.View().Majority {
			t.Errorf("%s sees a majority: it does not know what came after its stop", goes.name)
		}
		w.net.Heal()
		time.Sleep(3 * time.Minute)
		for _, h := range w.hosts {
			if v := h.c.View(); !v.Majority || v.Expected != 2 {
				t.Errorf("%s: majority %v of %d", h.name, v.Majority, v.Expected)
			}
		}
	})
}

// TestLeaveAllInTurn: one host after the other leaves and is started again, faster than
// the list of voters follows, as when a binary is replaced. It is the same cluster after it.
func TestLeaveAllInTurn(t *testing.T) {
	for _, n := range []int{2, 3, 5} {
		inWorld(t, n, 10, func(w *world) {
			for _, h := range w.hosts {
				h.leave()
				time.Sleep(3 * time.Second)
				h.stop()
				h.again()
				time.Sleep(15 * time.Second)
			}
			time.Sleep(time.Minute)
			for _, h := range w.hosts {
				if v := h.c.View(); !v.Majority || v.Expected != n {
					t.Errorf("%s: majority %v of %d", h.name, v.Majority, v.Expected)
				}
			}
		})
	}
}

// TestRollingRestart: the hosts are upgraded in turn; the others have a majority all the time
// where there are three, and all have one after it.
func TestRollingRestart(t *testing.T) {
	for _, n := range []int{2, 3} {
		inWorld(t, n, 10, func(w *world) {
			for i, h := range w.hosts {
				h.stop()
				for range 10 {
					time.Sleep(2 * time.Second)
					if m := majorities(w.hosts); n == 3 && m != 2 {
						t.Errorf("%d of two hosts see a majority while %s restarts", m, w.hosts[i].name)
					}
				}
				h.again()
				time.Sleep(2 * time.Minute)
			}
			if m := majorities(w.hosts); m != n {
				t.Errorf("%d of %d see a majority", m, n)
			}
		})
	}
}

// TestLeaveAndRestart: `leave` and a restart half a minute later.
func TestLeaveAndRestart(t *testing.T) {
	inWorld(t, 2, 10, func(w *world) {
		w.hosts[1].leave()
		time.Sleep(20 * time.Second)
		w.hosts[1].stop()
		w.hosts[1].again()
		time.Sleep(20 * time.Minute)
		if n := majorities(w.hosts); n != 2 {
			t.Errorf("%d of two healthy hosts see a majority", n)
		}
	})
}

// TestStoppedAtOnce: nodes that are stopped before gossip settled are seen all
// the same: two of four, and a cut, are not two majorities.
func TestStoppedAtOnce(t *testing.T) {
	for _, wait := range []time.Duration{300 * time.Millisecond, 700 * time.Millisecond} {
		inWorld(t, 4, 10, func(w *world) {
			for _, i := range []int{0, 2} {
				h := w.hosts[i]
				before := h.disk.members() // kill lets it save its record, a crash does not
				h.kill()
				_ = h.disk.SaveMembers(before)
				time.Sleep(4 * time.Second)
				h.again()
				time.Sleep(wait)
				h.stop()
				time.Sleep(4 * time.Second)
			}
			ips := w.ips()
			w.net.Partition(ips[:2], ips[2:])
			w.hosts[0].again()
			w.hosts[2].again()
			time.Sleep(30 * time.Second)
			for range 30 {
				time.Sleep(5 * time.Second)
				if a, b := majorities(w.hosts[:2]), majorities(w.hosts[2:]); a > 0 && b > 0 {
					t.Errorf("stopped after %v: %d of one side and %d of the other see a majority", wait, a, b)
					break
				}
			}
			w.net.Heal()
			time.Sleep(time.Minute)
		})
	}
}
