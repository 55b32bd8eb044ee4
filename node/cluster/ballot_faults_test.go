package cluster

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/node/cluster/member"
)

// built is a cluster that came from one node, one by one, in calm.
func built(n int) *pollster {
	p := &pollster{now: time.Unix(1e9, 0)}
	p.add(0)
	p.run(2 * stableAfter)
	for len(p.nodes) < n {
		p.add(0)
		p.run(2 * stableAfter)
	}
	return p
}

func (p *pollster) want(t *testing.T, why string, nodes ...*polled) {
	t.Helper()
	for _, n := range nodes {
		if !n.b.majority {
			t.Errorf("%s: %s has no majority\n%s", why, short([]knowledge.NodeID{n.id}), p.say())
			return
		}
	}
}

// TestTieBreakAfterARollingRestart: who said goodbye and came back is as good as new once all
// agree to a view after it: half of an even cluster goes on again where the other half stops.
func TestTieBreakAfterARollingRestart(t *testing.T) {
	for _, size := range []int{2, 4} {
		p := built(size)
		for _, n := range p.nodes {
			p.stop(n)
			p.run(30 * time.Second)
			p.start(n)
			p.run(10 * time.Minute)
		}
		for _, n := range p.nodes[size/2:] {
			p.stop(n)
			p.run(20 * time.Second)
		}
		p.run(time.Hour)
		p.want(t, fmt.Sprintf("half of %d stopped, long after a rolling restart", size), p.nodes[:size/2]...)
	}
}

// TestOlderBallotCountsAgain: a member that came back with an older ballot (a restored disk)
// counts again after the next view, which is one of the same members.
func TestOlderBallotCountsAgain(t *testing.T) {
	p := built(4)
	n := p.nodes[3]
	n.up = false
	n.disk = Membership{} // the key is there
	p.run(10 * time.Second)
	p.start(n)
	p.run(10 * time.Minute)
	p.want(t, "all are back", p.nodes...)
	p.nodes[0].up = false
	p.run(10 * time.Minute)
	p.want(t, "one of four is away", p.nodes[1:]...)
}

// TestTriesAtTheirMost: a disk that hangs, without an error, keeps views from coming into
// force; once its host is replaced they do.
func TestTriesAtTheirMost(t *testing.T) {
	p := built(3)
	p.nodes[2].slow = 1 << 30 // its disk hangs: no error, so it is not mute
	for range 4 {
		n := p.add(0)
		p.run(2 * stableAfter)
		n.up = false // for good: the next one has a new disk
		p.run(time.Minute)
	}
	p.nodes[2].up = false
	p.run(time.Minute)
	a, b := p.add(0), p.add(0) // the host with the bad disk is replaced
	c := p.add(0)
	p.run(time.Hour)
	p.want(t, "an hour after all is mended", p.nodes[0], p.nodes[1], a, b, c)
}

// TestHugeNumber: one lie of a huge number, long gone, is nobody's number.
func TestHugeNumber(t *testing.T) {
	for _, lie := range []uint64{math.MaxUint64, math.MaxUint64 - 1} {
		p := built(3)
		liar := p.add(0)
		p.tell = func(o *polled, v *member.Views, f *uint32) {
			if o == liar && p.tell != nil {
				v.Tried = lie
			}
		}
		p.run(3 * time.Minute)
		p.tell = nil
		liar.up = false
		p.run(10 * time.Minute)
		for range 2 {
			p.add(0)
		}
		p.run(10 * time.Minute)
		p.want(t, fmt.Sprintf("a lie of %d, 20 minutes ago", lie), p.nodes[0], p.nodes[1], p.nodes[2])
		for _, n := range p.nodes[:3] {
			if len(n.b.list) != 5 || n.b.View == 0 {
				t.Errorf("a lie of %d, 20 minutes ago:\n%s", lie, p.say())
				break
			}
		}
	}
}

// TestUnfitTries: a node agrees to a view and is unfit then, or its disk is full: nobody waits
// for it.
func TestUnfitTries(t *testing.T) {
	for _, feature := range []uint32{member.FeatureUnfit, member.FeatureMute} {
		p := built(3)
		sick := p.nodes[0]
		on := false
		p.tell = func(o *polled, v *member.Views, f *uint32) {
			if o == sick && on {
				*f |= feature
			}
		}
		a, b := p.add(0), p.add(0)
		p.deaf = func(n, o *polled) bool { // the others hear of the newcomers later
			return n != sick && (o == a || o == b) && n != o && !on
		}
		for range 150 {
			p.run(2 * time.Second)
			if len(sick.b.Tried) > 0 { // it agreed, and then its disk was full
				on, sick.b.mute = true, feature == member.FeatureMute
			}
		}
		p.run(10 * time.Minute)
		for _, n := range []*polled{p.nodes[1], p.nodes[2], a, b} {
			if len(n.b.list) < 4 {
				t.Errorf("newcomers wait for one sick node (feature %d):\n%s", feature, p.say())
				break
			}
		}
	}
}

// TestFollowsAStranger: all whom 1 was ever with follow others, none of whom it knows. 4 was
// with it, agreed to a view with it, and waits for it, and all wait for 4.
func TestFollowsAStranger(t *testing.T) {
	p := built(5)
	n := p.nodes
	down := func(off ...int) {
		for _, i := range off {
			n[i-1].up = false
		}
		p.run(3 * time.Minute)
	}
	down(1, 4) // {2 3 5}
	p.add(0)
	p.add(0)
	p.run(3 * time.Minute) // {2 3 5 6 7}
	n = p.nodes
	down(3, 5) // {2 6 7}
	down(2)    // {6 7}
	for _, i := range []int{1, 2, 4} {
		p.start(n[i-1])
	}
	for range 100 { // 1 hears of what 2 agreed to before it can agree itself
		p.step(true)
	}
	p.run(time.Hour)
	p.want(t, "an hour after all but two are back", n[0], n[1], n[3], n[5], n[6])
	p.start(n[2])
	p.start(n[4])
	p.run(time.Hour)
	p.want(t, "an hour after all are back", p.nodes...)
}

// TestOneWay: 1 does not hear 2. The majority stays; newcomers are taken in once it is mended.
func TestOneWay(t *testing.T) {
	p := built(5)
	p.deaf = func(n, o *polled) bool { return n == p.nodes[0] && o == p.nodes[1] }
	for range 6 {
		x := p.add(0)
		p.run(2 * time.Minute)
		p.want(t, "one way", p.nodes[:5]...)
		x.up = false
		p.run(2 * time.Minute)
		p.want(t, "one way", p.nodes[:5]...)
	}
	p.deaf = nil
	p.run(10 * time.Minute)
	p.want(t, "healed", p.nodes[:5]...)
	for range 2 {
		p.add(0)
	}
	p.run(10 * time.Minute)
	for _, n := range p.nodes {
		if n.up && len(n.b.list) != 7 {
			t.Fatalf("healed:\n%s", p.say())
		}
	}
}

// TestMuteForGood: a write that failed is tried again, also where what was to be written is
// undone: else the node stays mute on a disk that is well.
func TestMuteForGood(t *testing.T) {
	inCluster(t, 4, func(t *testing.T, hosts []*believer) {
		time.Sleep(3 * time.Minute)
		c, mute := hosts[1].c, false
		_ = c.do(t.Context(), func() {
			m := c.membership() // a stranger came, the disk was full, the stranger was forgotten
			m.Seen = append(m.Seen, member.Seen{ID: "1"})
			c.wrote(m, errNoRoom)
		})
		time.Sleep(20 * time.Minute)
		_ = c.do(t.Context(), func() { mute = c.state.ballot.mute })
		if mute {
			t.Error("mute, 20 minutes later, on a disk that takes all")
		}
	})
}

// TestLeaveAndRestart: a node leaves, forgets, and is back within a minute: it was heard to say
// goodbye, so the others go on, and it counts again with their next view.
func TestLeaveAndRestart(t *testing.T) {
	for _, size := range []int{2, 4} {
		p := built(size)
		n := p.nodes[size-1]
		p.stop(n)
		n.disk = Membership{Stable: []knowledge.NodeID{n.id}}
		p.run(20 * time.Second)
		p.start(n)
		p.run(time.Hour)
		p.want(t, "an hour after leave and restart", p.nodes...)
		if size > 2 {
			p.nodes[0].up = false
			p.run(time.Hour)
			p.want(t, "three of four are there", p.nodes[1:]...)
		}
	}
}

// TestOneOfTwoForgot: without a goodbye the other cannot know that there was no view after the
// last one that it knows of. Leaving and a restart are the way out.
func TestOneOfTwoForgot(t *testing.T) {
	p := built(2)
	stays, forgot := p.nodes[0], p.nodes[1]
	forgot.up = false
	forgot.disk = Membership{}
	p.run(10 * time.Second)
	p.start(forgot)
	p.run(time.Hour)
	if stays.b.majority || forgot.b.majority || stays.b.expected() != 2 {
		t.Errorf("one of two forgot:\n%s", p.say())
	}
	stays.up = false
	stays.disk = Membership{}
	p.run(10 * time.Second)
	p.start(stays)
	p.run(3 * time.Minute)
	p.want(t, "both count anew", p.nodes...)
}

// TestGoodbyeBeforeTheFirstLook: a node that stops before it has looked around is heard to say
// goodbye, and notes it: two of them, and a cut between, are not two majorities.
func TestGoodbyeBeforeTheFirstLook(t *testing.T) {
	p := built(4)
	for _, i := range []int{0, 2} { // crashes, is started, and is stopped within a second or two
		n := p.nodes[i]
		n.up = false
		p.run(4 * time.Second)
		p.start(n)
		p.stop(n)
		p.run(4 * time.Second)
	}
	p.nodes[2].side, p.nodes[3].side = 1, 1
	p.start(p.nodes[0])
	p.start(p.nodes[2])
	for range 10 {
		p.run(30 * time.Second)
		if sides := p.sides(); len(sides) > 1 {
			t.Fatalf("sides with a majority: %v\n%s", sides, p.say())
		}
	}
}

// TestTriedCounts: the cut comes when 3 has told that it agrees to a view, and 1 and 2 have not
// written it down yet.
func TestTriedCounts(t *testing.T) {
	p := built(5)
	n := p.nodes
	n[3].side, n[4].side = 1, 1
	n[0].slow, n[1].slow = 10, 10
	for i := 0; i < 100 && (len(n[0].b.Tried) == 0 || len(n[1].b.Tried) == 0 || len(n[2].b.Tried) == 0); i++ {
		p.run(2 * time.Second)
	}
	p.run(4 * time.Second)
	n[2].side = 1
	p.run(8 * time.Second)
	for range 60 {
		p.run(2 * time.Second)
		if sides := p.sides(); len(sides) > 1 {
			t.Fatalf("sides with a majority: %v\n%s", sides, p.say())
		}
	}
	p.want(t, "agreed", n[0], n[1])
}

// TestWhoForgotCountsNot: three of five have a view of their own; one of them forgets it, all
// of it, and meets the two others: they are no majority of five with it.
func TestWhoForgotCountsNot(t *testing.T) {
	p := built(5)
	n := p.nodes
	n[3].side, n[4].side = 1, 1
	p.run(3 * time.Minute)
	n[2].up = false
	n[2].disk = Membership{}
	p.run(10 * time.Second)
	p.start(n[2])
	n[2].side = 1
	for range 60 {
		p.run(10 * time.Second)
		if sides := p.sides(); len(sides) > 1 {
			t.Fatalf("sides with a majority: %v\n%s", sides, p.say())
		}
	}
	p.want(t, "it has a view of three", n[0], n[1])
}

// TestHalfOfAMajority: of the three that are a majority of five the disk of one is full. The
// other two make no view of two: with the one that did not agree the two beyond are three of
// five.
func TestHalfOfAMajority(t *testing.T) {
	p := built(5)
	n := p.nodes
	n[3].side, n[4].side = 1, 1
	n[2].b.mute = true
	p.run(5 * time.Minute)
	p.want(t, "three of five", n[0], n[1], n[2])
	n[2].side, n[2].b.mute = 1, false
	for range 60 {
		p.run(10 * time.Second)
		if sides := p.sides(); len(sides) > 1 {
			t.Fatalf("sides with a majority: %v\n%s", sides, p.say())
		}
	}
	p.want(t, "it agreed to nothing", n[2:]...)
}

// TestFollowsAFew: who was away while seven became two follows them, though it knows of no view
// that they are a majority of.
func TestFollowsAFew(t *testing.T) {
	p := built(7)
	n := p.nodes
	n[6].side = 1
	for _, gone := range []int{5, 4, 3, 2} {
		p.run(3 * time.Minute)
		n[gone].up = false
	}
	p.run(3 * time.Minute)
	p.want(t, "two of three, each time", n[0], n[1])
	n[6].side = 0
	p.run(5 * time.Minute)
	p.want(t, "they have one", n[0], n[1], n[6])
	if n[6].b.Behind || len(n[0].b.list) != 3 || !slices.Equal(n[0].b.list, n[6].b.list) {
		t.Errorf("no view of three\n%s", p.say())
	}
}

// TestFlappingHoldsNothingUp: one of five fails again and again, half a minute at a time, while
// two are replaced in order, a day apart.
func TestFlappingHoldsNothingUp(t *testing.T) {
	p := built(5)
	n := p.nodes
	without := 0
	flap := func(d time.Duration) {
		for end := p.now.Add(d); p.now.Before(end); {
			if n[4].up = !n[4].up; n[4].up {
				p.start(n[4])
			}
			p.run(30 * time.Second)
			if !n[2].b.majority {
				without++
			}
		}
	}
	flap(time.Hour)
	for _, gone := range n[:2] {
		p.stop(gone)
		p.add(0)
		flap(24 * time.Hour)
	}
	if without > 0 {
		t.Errorf("no majority in %d half minutes\n%s", without, p.say())
	}
	p.want(t, "replaced in order", n[2], n[3], p.nodes[5], p.nodes[6])
	if len(n[2].b.list) != 4 {
		t.Errorf("a view of %d\n%s", len(n[2].b.list), p.say())
	}
}

// TestNewcomerStops: newcomers are stopped in order, for good, after others agreed to a view
// with them and before they did.
func TestNewcomerStops(t *testing.T) {
	for _, c := range []struct{ old, fresh, slow int }{{1, 1, 0}, {1, 1, 5}, {3, 3, 5}, {3, 3, 0}} {
		for _, backwards := range []bool{false, true} {
			p := built(c.old)
			for range c.fresh {
				p.add(0).slow = c.slow
			}
			for i := 0; i < 200 && len(p.nodes[0].b.Tried) == 0; i++ {
				p.step(backwards)
			}
			for _, n := range p.nodes[c.old:] {
				p.stop(n)
			}
			p.run(20 * time.Minute)
			p.want(t, fmt.Sprintf("%+v", c), p.nodes[:c.old]...)
		}
	}
}

// TestCloneIsNoMember: who begins with the disk of another node was in none of its views.
func TestCloneIsNoMember(t *testing.T) {
	p := built(3)
	n := p.nodes
	clone := func(of *polled) *polled {
		c := p.add(0)
		c.disk = of.disk
		p.start(c)
		return c
	}
	c := clone(n[0])
	p.run(10 * time.Second)
	p.stop(n[1])
	p.run(4 * time.Second)
	n[1].side, n[2].side = 1, 1
	p.start(n[1])
	for range 30 {
		p.run(10 * time.Second)
		if sides := p.sides(); len(sides) > 1 {
			t.Fatalf("sides with a majority: %v\n%s", sides, p.say())
		}
	}
	p.want(t, "two of three", n[1], n[2])
	if c.b.majority {
		t.Errorf("a clone counts\n%s", p.say())
	}

	p = built(1) // a template, that never runs again
	c = clone(p.nodes[0])
	p.nodes[0].up = false
	p.run(time.Hour)
	p.want(t, "it is by itself", c)
}

// TestBoundElsewhere: 3 agreed to a view with 2 and 4, who have it in force, and is cut off
// from them before it knows. It meets 1, who had agreed to another view before: with 3 that is
// two of the three that both views came from, and no majority.
func TestBoundElsewhere(t *testing.T) {
	p := built(3)
	a, b, c := p.nodes[0], p.nodes[1], p.nodes[2]
	f := p.add(0)
	p.run(40 * time.Second)
	d := p.add(0)
	p.deaf = func(n, o *polled) bool { return (n == b || n == c) && o == f || n == a && o == d }
	for i := 0; i < 100 && (len(a.b.Tried) == 0 || a.b.written < a.b.newest()); i++ {
		p.run(2 * time.Second)
	}
	b.side, c.side, d.side = 1, 1, 1
	before := b.b.View
	for i := 0; i < 100 && b.b.View == before; i++ {
		p.deaf = func(n, o *polled) bool { return n == c && o != c && d.b.written > before }
		p.run(2 * time.Second)
	}
	p.deaf = nil
	c.side = 0
	if len(a.b.list) != 3 || len(a.b.Tried) == 0 || len(b.b.list) != 3 || len(c.b.Tried) == 0 {
		t.Fatalf("not what it is to be\n%s", p.say())
	}
	p.run(8 * time.Second)
	for range 60 {
		p.run(2 * time.Second)
		if sides := p.sides(); len(sides) > 1 {
			t.Fatalf("sides with a majority: %v\n%s", sides, p.say())
		}
	}
	p.want(t, "in force", b, d)
	a.side, b.side, c.side, d.side, f.side = 0, 0, 0, 0, 0
	p.run(6 * time.Minute)
	p.want(t, "healed", a, b, c, d, f)
}
