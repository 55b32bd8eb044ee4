package cluster

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/node/cluster/member"
)

// pollster is a cluster of ballots alone: who is on one side hears each other with the
// next step, and disks take a step or several to write.
type pollster struct {
	now   time.Time
	nodes []*polled
	made  int
	// tell changes what a node says, deaf is who does not hear whom. nil: neither.
	tell func(o *polled, v *member.Views, features *uint32)
	deaf func(hears, o *polled) bool
}

type polled struct {
	id      knowledge.NodeID
	b       *ballot
	up      bool
	side    int
	disk    Membership
	slow    int // steps until the disk has what is to be written
	waits   int
	life    int
	heard   map[knowledge.NodeID]int // goodbyes: of which life
	seen    map[knowledge.NodeID]int // which life of whom
	settles int
	words   map[knowledge.NodeID]voter // the last ones of each: members keep those of who is gone
}

func (p *pollster) add(side int) *polled {
	p.made++
	n := &polled{id: knowledge.NodeID(fmt.Sprintf("%032x", p.made)), side: side}
	p.nodes = append(p.nodes, n)
	p.start(n)
	return n
}

func (p *pollster) start(n *polled) {
	n.b, n.up, n.waits, n.settles = newBallot(n.id, n.disk, p.now), true, 0, 1
	seen := n.seen
	n.heard, n.seen = map[knowledge.NodeID]int{}, map[knowledge.NodeID]int{}
	n.words = map[knowledge.NodeID]voter{}
	for _, id := range append(slices.Clone(n.disk.Left), n.disk.Stable...) {
		n.seen[id] = max(1, seen[id])
	}
	n.life++
}

func (n *polled) save() {
	n.disk = Membership{Self: n.id, Stable: slices.Clone(n.b.list), Ballot: n.b.Ballot}
	n.disk.Tried = slices.Clone(n.b.Tried)
	n.b.written = n.b.newest()
}

// stop says goodbye to its side.
func (p *pollster) stop(n *polled) {
	n.b.goodbye()
	n.save()
	n.up = false
	for _, o := range p.nodes {
		if o.up && o.side == n.side {
			o.heard[n.id] = n.life
		}
	}
}

// step is two seconds, in the order of the ids or the other way round.
func (p *pollster) step(backwards bool) {
	p.now = p.now.Add(2 * time.Second)
	order := slices.Clone(p.nodes)
	if backwards {
		slices.Reverse(order)
	}
	for _, n := range order {
		if !n.up {
			continue
		}
		if n.settles--; n.settles >= 0 {
			continue
		}
		voters := map[knowledge.NodeID]voter{}
		for _, o := range p.nodes {
			if o.up && o.side == n.side && (p.deaf == nil || o == n || !p.deaf(n, o)) {
				n.seen[o.id] = o.life
				v, f := o.b.says()
				if o.settles >= 0 {
					f &^= member.FeatureMajority | member.FeatureMinority | member.FeatureCounts
				}
				if p.tell != nil {
					p.tell(o, &v, &f)
				}
				voters[o.id] = voter{Views: v, features: f, alive: true}
				n.words[o.id] = voters[o.id]
				for id, life := range o.heard { // passed on in push/pull
					n.heard[id] = max(n.heard[id], life)
				}
			} else if n.seen[o.id] > 0 {
				v := n.words[o.id]
				v.alive, v.left, v.features = false, n.heard[o.id] >= n.seen[o.id], v.features|member.FeatureViews
				voters[o.id] = v
			}
		}
		if n.b.step(p.now, voters) {
			n.waits = max(n.waits, n.slow+1)
		}
		if n.waits > 0 {
			if n.waits--; n.waits == 0 {
				n.save()
			}
		}
	}
}

// run is a while without a fault.
func (p *pollster) run(d time.Duration) {
	for i := range int(d / (2 * time.Second)) {
		p.step(i%2 == 1)
	}
}

func (p *pollster) sides() map[int]string {
	out := map[int]string{}
	for i, n := range p.nodes {
		if n.up && n.settles < 0 && n.b.majority {
			out[n.side] += fmt.Sprintf(" %d", i+1)
		}
	}
	return out
}

func (p *pollster) say() string {
	var s strings.Builder
	for i, n := range p.nodes {
		var tried []string
		for _, t := range n.b.Tried {
			tried = append(tried, fmt.Sprintf("%d%v", t.Number, short(t.Members)))
		}
		fmt.Fprintf(&s, "%d: up %v, side %d, view %d%v, tried %v, left %v, behind %v, back %v, majority %v\n",
			i+1, n.up, n.side, n.b.View, short(n.b.list), tried, short(n.b.Left), n.b.Behind, n.b.Back, n.b.majority)
	}
	return s.String()
}

func short(ids []knowledge.NodeID) (out []string) {
	for _, id := range ids {
		out = append(out, strings.TrimLeft(string(id), "0"))
	}
	return out
}

// grown is a cluster that came from one node, by one, two and so on.
func grown(t *rapid.T, n int) *pollster {
	p := &pollster{now: time.Unix(1e9, 0)}
	p.add(0)
	p.run(2 * stableAfter)
	for len(p.nodes) < n {
		for range min(rapid.IntRange(1, 2).Draw(t, "join"), n-len(p.nodes)) {
			p.add(0)
		}
		p.run(time.Duration(rapid.IntRange(3, 100).Draw(t, "grown")) * 2 * time.Second)
	}
	return p
}

// TestNeverTwoMajorities: a cluster that came from one node parts in any way, again and
// again, also without healing between; nodes crash, with a disk that has not written yet,
// stop in order and come back; newcomers come, on the side of any. Ten seconds after each
// change at most one side has nodes that see a majority. Healed, and with all of them, all
// see one.
func TestNeverTwoMajorities(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := grown(t, rapid.IntRange(2, 7).Draw(t, "nodes"))
		for _, n := range p.nodes {
			if n.b.View > 0 {
				n.slow = rapid.SampledFrom([]int{0, 0, 1, 3, 8}).Draw(t, "slow")
			}
		}
		for range rapid.IntRange(1, 25).Draw(t, "faults") {
			n := p.nodes[rapid.IntRange(0, len(p.nodes)-1).Draw(t, "node")]
			switch what := rapid.IntRange(0, 11).Draw(t, "what"); {
			case what > 9: // a cut just when a view is tried, and not on all disks
				for i := 0; i < 40 && !slices.ContainsFunc(p.nodes, func(n *polled) bool { return n.up && len(n.b.Tried) > 0 }); i++ {
					p.step(false)
				}
				for range rapid.IntRange(0, 5).Draw(t, "steps") {
					p.step(rapid.Bool().Draw(t, "backwards"))
				}
				for _, n := range p.nodes {
					n.side = rapid.IntRange(0, 1).Draw(t, "side")
				}
			case what < 4:
				for _, n := range p.nodes {
					n.side = rapid.IntRange(0, 2).Draw(t, "side")
				}
			case what == 4:
				for _, n := range p.nodes {
					n.side = 0
				}
			case what == 5 && n.up:
				n.up = false
			case what == 6 && n.up:
				p.stop(n)
			case what < 8 && !n.up:
				p.start(n)
			case what == 8 && n.b.View > 0: // a newcomer whose disk has not written yet has met nobody
				n.slow = rapid.IntRange(0, 5).Draw(t, "slow")
			case what == 9 && len(p.nodes) < 9 && n.up && n.settles < 0 && n.b.majority:
				x := p.add(n.side)
				p.run(6 * time.Second)
				if x.b.View == 0 && !x.b.Behind { // it has never met a majority: it counts from itself
					p.nodes = p.nodes[:len(p.nodes)-1]
				}
			}
			long := time.Duration(rapid.SampledFrom([]int{1, 2, 3, 5, 5, 30, 31, 32, 33, 70, 100}).Draw(t, "for")) * 2 * time.Second
			for i := range int(long / (2 * time.Second)) {
				p.step(i%2 == 1)
				if i < 4 {
					continue
				}
				if sides := p.sides(); len(sides) > 1 {
					t.Fatalf("after %v sides have a majority: %v\n%s", 2*time.Second*time.Duration(i), sides, p.say())
				}
			}
		}
		for _, n := range p.nodes {
			n.side, n.slow = 0, 0
			if !n.up {
				p.start(n)
			}
		}
		p.run(6 * time.Minute)
		for i, n := range p.nodes {
			if !n.b.majority || len(n.b.list) != len(p.nodes) || len(n.b.Tried) > 0 {
				t.Fatalf("healed, and with all of them, node %d:\n%s", i+1, p.say())
			}
		}
	})
}

// TestViewsOutOfReach: a member that tells the highest numbers there are uses them up for
// nobody: it is as if it were not there.
func TestViewsOutOfReach(t *testing.T) {
	for _, lie := range []member.Views{{Base: 1 << 63, Tried: 1<<64 - 1}, {Tried: 1<<64 - 1, Sum: 1}, {Base: 1<<64 - 1}, {Base: 9, Tried: 8}} {
		p := &pollster{now: time.Unix(1e9, 0)}
		for range 4 {
			p.add(0)
		}
		p.run(3 * stableAfter)
		liar := p.nodes[3]
		p.tell = func(o *polled, v *member.Views, features *uint32) {
			if o == liar {
				*v, *features = lie, member.FeatureViews|member.FeatureMajority
			}
		}
		p.run(3 * stableAfter)
		for i, n := range p.nodes[:3] {
			if !n.b.majority || n.b.View > 100 || len(n.b.list) != 3 {
				t.Errorf("%+v, node %d:\n%s", lie, i+1, p.say())
			}
		}
	}
}

// BenchmarkBallot is one look of a calm cluster: four a second.
func BenchmarkBallot(b *testing.B) {
	for _, n := range []int{3, 30, 300} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			now, voters := time.Unix(1e9, 0), map[knowledge.NodeID]voter{}
			var known Membership
			for i := range n {
				known.Stable = append(known.Stable, knowledge.NodeID(fmt.Sprintf("%032x", i+1)))
			}
			known.View = 7
			one := newBallot(known.Stable[0], known, now)
			said, features := one.says()
			for _, id := range known.Stable {
				voters[id] = voter{Views: said, features: features, alive: true}
			}
			b.ReportAllocs()
			for b.Loop() {
				now = now.Add(beat)
				if one.step(now, voters) || !one.majority {
					b.Fatal("something changed")
				}
			}
		})
	}
}
