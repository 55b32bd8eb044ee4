package sim

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/node/test/sim/simnet"
)

// inWorld runs a test in a settled cluster in virtual time.
func inWorld(t *testing.T, n, services int, test func(w *world)) {
	synctest.Test(t, func(t *testing.T) {
		inThis(newWorld(t, n, services), test)
	})
}

func inThis(w *world, test func(w *world)) {
	for _, h := range w.hosts {
		h.start()
	}
	w.until(30*time.Second, "the start")
	time.Sleep(90 * time.Second) // the membership is the one that majorities are counted against
	w.until(10*time.Second, "the start, and calm")
	test(w)
	w.end()
}

// terms are what each host obeys.
func (w *world) terms() map[string]map[knowledge.ServiceKey]knowledge.Term {
	out := map[string]map[knowledge.ServiceKey]knowledge.Term{}
	for _, h := range w.hosts {
		h.mu.Lock()
		out[h.name] = map[knowledge.ServiceKey]knowledge.Term{}
		for key, t := range h.obeyed {
			out[h.name][key] = t
		}
		h.mu.Unlock()
	}
	return out
}

// moved counts terms that are others than before.
func (w *world) moved(before map[string]map[knowledge.ServiceKey]knowledge.Term) (n int) {
	for name, all := range w.terms() {
		for key, t := range all {
			if before[name][key] != t {
				n++
			}
		}
	}
	return n
}

// TestRow10LossMovesNothing: 30 % of all packets are lost and the rest comes late for
// five minutes; no ownership moves.
func TestRow10LossMovesNothing(t *testing.T) {
	inWorld(t, 5, 20, func(w *world) {
		before := w.terms()
		w.net.Everywhere(simnet.Fault{Loss: 0.3})
		time.Sleep(5 * time.Minute)
		w.net.Everywhere(simnet.Fault{})
		for _, h := range w.hosts {
			w.t.Logf("%s: %+v, gossip %+v", h.name, h.c.View().Counts, h.c.Members().Counts())
		}
		if n := w.moved(before); n > 0 {
			w.t.Errorf("%d of %d ownerships moved", n, 5*20)
		}
	})
}

// TestRow7Row8Partition: three of five nodes go on with a majority and two without;
// all go on planning, and after healing there is one owner for each service again.
func TestRow7Row8Partition(t *testing.T) {
	inWorld(t, 5, 20, func(w *world) {
		var ips []string
		for _, h := range w.hosts {
			ips = append(ips, h.ip)
		}
		w.net.Partition(ips[:3], ips[3:])
		time.Sleep(30 * time.Second)
		for i, h := range w.hosts {
			if got, want := h.c.View().Majority, i < 3; got != want {
				w.t.Errorf("%s: majority %v, want %v", h.name, got, want)
			}
			h.mu.Lock()
			for key, at := range h.at {
				if time.Since(at) > 15*time.Second {
					w.t.Errorf("%s: no intent for %s for %v", h.name, key, time.Since(at))
				}
			}
			h.mu.Unlock()
		}
		time.Sleep(2 * time.Minute)
		w.net.Heal()
		w.t.Logf("one owner for each service %v after healing", w.until(2*time.Minute, "healing"))
		time.Sleep(2 * time.Minute)
		w.until(10*time.Second, "healed for a while")
		for _, h := range w.hosts {
			if !h.c.View().Majority {
				w.t.Errorf("%s still sees no majority", h.name)
			}
		}
	})
}

// TestThawIsCounted: a host that stood still gives up what it owned, and counts it once.
func TestThawIsCounted(t *testing.T) {
	inWorld(t, 3, 10, func(w *world) {
		h := w.hosts[0]
		h.net.Freeze()
		time.Sleep(15 * time.Second)
		h.net.Thaw()
		time.Sleep(time.Second) // its next beat: one that owned nothing changes nothing
		w.until(time.Minute, "a host stood still")
		for i, h := range w.hosts {
			if got := h.c.View().Counts.Stalls; got != uint64(1-min(i, 1)) {
				w.t.Errorf("%s counts %d thaws", h.name, got)
			}
		}
	})
}

// TestRow7EvenSplit: of two halves none has a majority.
func TestRow7EvenSplit(t *testing.T) {
	inWorld(t, 4, 10, func(w *world) {
		var ips []string
		for _, h := range w.hosts {
			ips = append(ips, h.ip)
		}
		w.net.Partition(ips[:2], ips[2:])
		time.Sleep(time.Minute)
		for _, h := range w.hosts {
			if h.c.View().Majority {
				w.t.Errorf("%s sees a majority", h.name)
			}
		}
		w.net.Heal()
		w.until(2*time.Minute, "healing")
	})
}

// TestRow9OneWay: a node that receives nothing cannot make others obey it for long, and
// its intents are refused once another owner has sent one. It loses all others, and
// they do not believe it.
func TestRow9OneWay(t *testing.T) {
	inWorld(t, 5, 20, func(w *world) {
		deaf := w.hosts[2]
		before := w.terms()
		for _, h := range w.hosts {
			if h != deaf {
				w.net.Cut(h.ip, deaf.ip)
			}
		}
		time.Sleep(time.Minute)
		for _, h := range w.hosts {
			if h == deaf {
				continue
			}
			h.mu.Lock()
			for key, at := range h.at {
				if time.Since(at) > 20*time.Second {
					w.t.Errorf("%s: no intent for %s for %v", h.name, key, time.Since(at))
				}
				was, is := before[h.name][key], h.obeyed[key]
				if was.Owner != deaf.c.Self() && is != was || is.Round > was.Round+2 {
					w.t.Errorf("%s: the term of %s was %v, is %v: a node that receives nothing moved it", h.name, key, was, is)
				}
			}
			h.mu.Unlock()
		}
		w.net.Heal()
		w.until(2*time.Minute, "healing")
	})
}

// TestRow11Flapping: a node that is cut off for ten seconds and back for ten, again
// and again, gets back what it owned twice at most: from its third return on it waits
// for longer than it stays. Not each time that it could come back it does.
func TestRow11Flapping(t *testing.T) {
	inWorld(t, 5, 20, func(w *world) {
		flapper := w.hosts[4]
		owned := 0
		for _, is := range w.terms()["n1"] {
			if is.Owner == flapper.c.Self() {
				owned++
			}
		}
		var moves []int
		sum := 0
		for range 9 {
			before := w.terms()
			for _, h := range w.hosts[:4] {
				w.net.CutBoth(h.ip, flapper.ip)
			}
			time.Sleep(10 * time.Second)
			away := w.terms()
			for _, h := range w.hosts[:4] {
				w.net.Mend(h.ip, flapper.ip)
			}
			time.Sleep(10 * time.Second)
			n := 0
			for key, t := range w.terms()["n1"] {
				if before["n1"][key].Owner != away["n1"][key].Owner {
					n++
				}
				if away["n1"][key].Owner != t.Owner {
					n++
				}
			}
			moves, sum = append(moves, n), sum+n
		}
		w.t.Logf("the node owned %d services of 20; changes of an owner on n1 in each of nine rounds: %v", owned, moves)
		if most := owned * (1 + 4*2); sum > most { // away, and four times back and away
			w.t.Errorf("%d changes, at most %d are allowed", sum, most)
		}
		w.until(6*time.Minute, "calm")
	})
}

// TestLeaveAndReturn: a node leaves while its daemon goes on. The others plan for its
// services at once, it plans for its own host, and its later messages are refused.
// After a restart it is one of them again.
func TestLeaveAndReturn(t *testing.T) {
	inWorld(t, 5, 20, func(w *world) {
		h, before := w.hosts[3], w.terms()
		h.leave()
		t.Logf("%s has left: its services are planned for after %v", h.name, w.until(3*time.Second, h.name+" has left"))
		for key, is := range w.terms()["n1"] {
			if was := before["n1"][key]; was.Owner != h.c.Self() && is != was {
				t.Errorf("the term of %s was %v, is %v: the node that left did not own it", key, was, is)
			}
		}
		h.net.Freeze()
		time.Sleep(10 * time.Second)
		h.net.Thaw()
		time.Sleep(time.Second)
		if v := h.c.View(); v.Why != "" || v.Counts.Stalls != 1 {
			t.Errorf("after %d thaws the node that left waits: %s", v.Counts.Stalls, v.Why)
		}
		time.Sleep(5 * time.Minute)
		w.until(time.Second, h.name+" has left for long")
		w.agreed()
		h.stop()
		h.again()
		w.until(time.Minute, h.name+" is back")
		time.Sleep(time.Minute)
		w.agreed()
	})
}

// TestMajorityByHand: two of three nodes lose their disks at once. Too few voters are left
// to tell this from the smaller side of a cluster that parted, so the
// third waits, for as long as it takes; all services are planned for. `effiscale leave`
// and a restart let it count from itself.
func TestMajorityByHand(t *testing.T) {
	inWorld(t, 3, 10, func(w *world) {
		kept, lost := w.hosts[1], []*host{w.hosts[0], w.hosts[2]}
		for _, h := range lost {
			h.kill()
		}
		time.Sleep(20 * time.Second)
		for _, h := range lost {
			h.lose()
			h.again()
		}
		w.until(time.Minute, "two disks are lost")
		time.Sleep(20 * time.Minute)
		w.until(time.Second, "two disks are lost for long")
		if v := kept.c.View(); v.Majority || v.Expected != 3 {
			t.Errorf("%s: majority %v of %d: it cannot know", kept.name, v.Majority, v.Expected)
		}
		kept.leave()
		kept.stop()
		kept.again()
		w.until(time.Minute, "by hand")
		time.Sleep(time.Minute)
		w.agreed()
	})
}

// TestMajorityByName: the same, and `effiscale leave NAME` on the third for each node that is
// no more: the new ones become voters.
func TestMajorityByName(t *testing.T) {
	inWorld(t, 3, 10, func(w *world) {
		kept, lost := w.hosts[1], []*host{w.hosts[0], w.hosts[2]}
		for _, h := range lost {
			h.kill()
		}
		time.Sleep(20 * time.Second)
		for _, h := range lost {
			h.lose()
			h.again()
		}
		time.Sleep(3 * time.Minute)
		if kept.c.View().Majority {
			t.Error("one of three is a majority")
		}
		for _, h := range lost {
			if err := kept.c.Forget(w.t.Context(), h.name); err != nil {
				t.Error(err)
			}
		}
		time.Sleep(2 * time.Minute)
		for _, h := range w.hosts {
			if v := h.c.View(); !v.Majority || v.Expected != 3 {
				t.Errorf("%s: majority %v of %d", h.name, v.Majority, v.Expected)
			}
		}
		w.until(time.Minute, "by name")
	})
}

// TestLastOfThreeByHand: two of three nodes are gone for ever; the same commands make the
// third a cluster of its own, which is no smaller side of anything.
func TestLastOfThreeByHand(t *testing.T) {
	inWorld(t, 3, 10, func(w *world) {
		last := w.hosts[1]
		w.hosts[0].kill()
		w.hosts[2].kill()
		time.Sleep(20 * time.Minute)
		w.until(time.Second, "two are gone")
		if last.c.View().Majority {
			t.Errorf("%s sees a majority: it cannot know", last.name)
		}
		last.leave()
		last.stop()
		last.again()
		w.until(time.Minute, "by hand")
		time.Sleep(time.Minute)
		w.owns(last, []*host{last})
	})
}

// TestLostDiskIsLeftAlone: a host whose disk was lost is a new node at the old address,
// which refuses every call to the old one. The others stop calling it.
func TestLostDiskIsLeftAlone(t *testing.T) {
	inWorld(t, 4, 20, func(w *world) {
		lost := w.hosts[3]
		time.Sleep(time.Until(time.Now().Truncate(every).Add(every - time.Second/2))) // half a second before reports
		lost.kill()
		time.Sleep(10 * time.Second)
		lost.lose()
		lost.again()
		w.until(time.Minute, "a disk is lost")
		time.Sleep(2 * time.Minute)
		before := lost.c.Relay().Stats().Strangers
		time.Sleep(10 * time.Minute)
		if n := lost.c.Relay().Stats().Strangers - before; n > 0 {
			t.Errorf("%d connections in ten minutes to a node that is no more", n)
		}
		w.agreed()
	})
}
