package quorum

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/effiscale/effiscale/knowledge"
)

// model is a cluster of voters alone: nodes of one side see each other with the next
// step, and calls arrive or are lost.
type model struct {
	now   time.Time
	nodes []*node
	made  int
	// lost reports whether a request, or its answer, is lost; nil: none is.
	lost func(from, to *node, kind Kind) (request, answer bool)
	// blind reports whether n does not see o.
	blind func(n, o *node) bool
	// lie changes what a node gossips.
	lie func(o *node, p *Peer)
}

type node struct {
	m        *model
	id       knowledge.NodeID
	name     string
	q        *Quorum
	up, full bool
	side     int
	disk     Record
	since    map[knowledge.NodeID]time.Time
	alive    map[knowledge.NodeID]bool
	last     map[knowledge.NodeID]Peer
	status   Status
	old      bool // a version that does not speak
}

var errFull, errLost = errors.New("no space left on device"), errors.New("lost")

func (m *model) add(side int) *node {
	m.made++
	n := &node{m: m, id: knowledge.NodeID(fmt.Sprintf("%032x", m.made)), name: fmt.Sprint(m.made), side: side}
	m.nodes = append(m.nodes, n)
	n.start()
	return n
}

func (n *node) start() {
	n.up, n.status = true, Status{}
	n.since, n.alive, n.last = map[knowledge.NodeID]time.Time{}, map[knowledge.NodeID]bool{}, map[knowledge.NodeID]Peer{}
	n.q = New(n.id, n.disk, n.m.now, func(_ context.Context, r Record) error {
		if n.full {
			return errFull
		}
		n.disk = r
		return nil
	})
	n.q.spawn = func(f func()) { f() }
}

// replace is a new disk under the old name.
func (m *model) replace(n *node) *node {
	n.up = false
	x := m.add(n.side)
	x.name = n.name
	return x
}

func (m *model) sees(n, o *node) bool {
	return o.up && o.side == n.side && (m.blind == nil || o == n || !m.blind(n, o))
}

func (n *node) ask(ctx context.Context, to knowledge.NodeID, req Request) (Response, error) {
	i := slices.IndexFunc(n.m.nodes, func(o *node) bool { return o.id == to })
	if i < 0 || !n.m.sees(n, n.m.nodes[i]) || n.m.nodes[i].old {
		return Response{}, errLost
	}
	o := n.m.nodes[i]
	var request, answer bool
	if n.m.lost != nil {
		request, answer = n.m.lost(n, o, req.Kind)
	}
	if request || !n.up {
		return Response{}, errLost
	}
	res, err := o.q.Answer(ctx, req)
	if answer {
		return Response{}, errLost
	}
	return res, err
}

func (n *node) peers() []Peer {
	var peers []Peer
	for _, o := range n.m.nodes {
		is := n.m.sees(n, o)
		if is != n.alive[o.id] || n.since[o.id].IsZero() {
			if !is && n.last[o.id].ID == "" {
				continue // never seen
			}
			n.alive[o.id], n.since[o.id] = is, n.m.now
		}
		p := n.last[o.id]
		if is {
			p = Peer{ID: o.id, Name: o.name, Votes: !o.old}
			p.Gossip = o.q.Gossip()
			if n.m.lie != nil {
				n.m.lie(o, &p)
			}
		}
		p.Alive, p.Since = is, n.since[o.id]
		n.last[o.id] = p
		peers = append(peers, p)
	}
	return peers
}

// step is two seconds, in the order of the ids or the other way round.
func (m *model) step(backwards bool) {
	m.now = m.now.Add(2 * time.Second)
	order := slices.Clone(m.nodes)
	if backwards {
		slices.Reverse(order)
	}
	for _, n := range order {
		if n.up {
			n.status = n.q.Look(m.now, n.peers())
		}
	}
	for _, n := range order {
		n.act()
	}
}

// act does what the last Look asked for.
func (n *node) act() {
	if !n.up || n.old {
		return
	}
	_, _ = n.q.Act(context.Background(), n.status, n.ask)
}

func (m *model) run(d time.Duration) {
	for i := range int(d / (2 * time.Second)) {
		m.step(i%2 == 1)
	}
}

func (m *model) sides() map[int]string {
	out := map[int]string{}
	for i, n := range m.nodes {
		if n.up && n.status.Majority {
			out[n.side] += fmt.Sprintf(" %d", i+1)
		}
	}
	return out
}

func (m *model) dump() string {
	var s strings.Builder
	for i, n := range m.nodes {
		r := n.q.Record()
		fmt.Fprintf(&s, "%d: up %v, side %d, list %d%v, next %v, majority %v\n", i+1, n.up, n.side, r.Number, short(r.Members), fmt.Sprint(r.Next, " follows ", r.Follows), n.status.Majority)
	}
	return s.String()
}

func short(ids []knowledge.NodeID) (out []string) {
	for _, id := range ids {
		out = append(out, strings.TrimLeft(string(id), "0"))
	}
	return out
}

func (m *model) want(t *testing.T, why string, nodes ...*node) {
	t.Helper()
	for _, n := range nodes {
		if !n.status.Majority {
			t.Errorf("%s: %s has no majority\n%s", why, short([]knowledge.NodeID{n.id}), m.dump())
			return
		}
	}
}

// oneAtMost fails where two sides have a majority at any time of d, but for the first ten seconds.
func (m *model) oneAtMost(t *testing.T, d time.Duration) {
	t.Helper()
	for i := range int(d / (2 * time.Second)) {
		m.step(i%2 == 1)
		if sides := m.sides(); i >= 4 && len(sides) > 1 {
			t.Fatalf("sides with a majority: %v\n%s", sides, m.dump())
		}
	}
}

func built(n int) *model {
	m := &model{now: time.Unix(1e9, 0)}
	for range n {
		m.add(0)
	}
	m.run(30 * time.Second)
	return m
}

// TestNeverTwoMajorities: a cluster is cut in any way, again and again, also without healing between;
// nodes crash and come back, calls and answers are lost in the middle of a change, proposers
// compete, disks are full, nodes come new or with a new disk, are gone for hours, or are removed
// by an operator. Ten seconds after each change at most one side has nodes that see a majority.
// Healed, and with all of them, all see one.
func TestNeverTwoMajorities(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := built(rapid.IntRange(2, 7).Draw(t, "nodes"))
		loss, depth := 0, 0
		m.lost = func(_, _ *node, _ Kind) (request, answer bool) {
			if loss == 0 {
				return false, false
			}
			if depth == 0 && rapid.IntRange(0, 19).Draw(t, "compete") == 0 { // another proposer in the middle
				depth++
				o := m.nodes[rapid.IntRange(0, len(m.nodes)-1).Draw(t, "other")]
				if s := o.q.Look(m.now, o.peers()); o.up && 2*s.Alive > s.Voters && s.learn == "" {
					_, _ = o.q.propose(context.Background(), slices.DeleteFunc(slices.Clone(s.List.Members),
						func(id knowledge.NodeID) bool {
							return len(s.List.Members) > 2 && id == s.List.Members[0]
						}), o.ask)
				}
				depth--
			}
			d := rapid.IntRange(0, 99).Draw(t, "loss")
			return d < loss, d >= 100-loss
		}
		for range rapid.IntRange(1, 25).Draw(t, "faults") {
			n := m.nodes[rapid.IntRange(0, len(m.nodes)-1).Draw(t, "node")]
			switch what := rapid.IntRange(0, 11).Draw(t, "what"); {
			case what < 4:
				for _, n := range m.nodes {
					n.side = rapid.IntRange(0, 2).Draw(t, "side")
				}
			case what == 4:
				for _, n := range m.nodes {
					n.side = 0
				}
			case what == 5 && n.up:
				n.up = false
			case what < 8 && !n.up:
				n.start()
			case what == 8:
				n.full = !n.full
			case what == 9:
				loss = rapid.SampledFrom([]int{0, 10, 30}).Draw(t, "loss")
			case what == 10 && len(m.nodes) < 9 && n.up && n.status.Majority && n.q.Record().Number > 0:
				x := m.add(n.side)
				x.disk = Record{Follows: []List{n.q.Record().Counted()}} // it has met the cluster
				x.start()
			case what == 11 && !n.up && n.side != 3: // an operator declares it gone for good
				n.side = 3
				for _, o := range m.nodes {
					if o.up {
						_ = o.q.Remove(context.Background(), n.id)
					}
				}
			}
			for _, n := range m.nodes {
				if n.side == 3 {
					n.up = false
				}
			}
			long := rapid.SampledFrom([]int{1, 2, 3, 5, 5, 30, 31, 32, 33, 70, 100, 1900}).Draw(t, "for")
			for i := range long {
				m.step(i%2 == 1)
				if i < 4 {
					continue
				}
				if sides := m.sides(); len(sides) > 1 {
					t.Fatalf("after %v sides have a majority: %v\n%s", 2*time.Second*time.Duration(i), sides, m.dump())
				}
				if i > 200 {
					m.now = m.now.Add(10 * time.Second)
				}
			}
		}
		loss = 0
		var there []*node
		for _, n := range m.nodes {
			if n.side == 3 {
				continue
			}
			n.side, n.full = 0, false
			if !n.up {
				n.start()
			}
			there = append(there, n)
		}
		for _, n := range m.nodes {
			if n.side == 3 {
				for _, o := range there {
					_ = o.q.Remove(context.Background(), n.id)
				}
			}
		}
		m.run(2 * dropAfter)
		for i, n := range there {
			if !n.status.Majority || len(n.status.List.Members) != len(there) || n.status.Pending {
				t.Fatalf("healed, and with all of them, node %d of %d:\n%s", i+1, len(there), m.dump())
			}
		}
	})
}

// TestCutThatMoves: three of five drop the two that are gone. The cut moves so that one
// of the three is with the two: only it knows that list.
func TestCutThatMoves(t *testing.T) {
	m := built(5)
	n := m.nodes
	n[3].side, n[4].side = 1, 1
	m.run(dropAfter + time.Minute)
	if got := len(n[0].status.List.Members); got != 3 {
		t.Fatalf("a list of %d, want 3\n%s", got, m.dump())
	}
	n[2].side = 1
	m.oneAtMost(t, 10*time.Minute)
	m.want(t, "two of three", n[0], n[1])
	n[3].side, n[4].side, n[2].side = 0, 0, 0
	m.run(5 * time.Minute)
	m.want(t, "healed", n...)
	if got := len(n[4].status.List.Members); got != 5 {
		t.Fatalf("a list of %d, want 5\n%s", got, m.dump())
	}
}

// TestHalfAccepted: a voter with a new disk takes the place of its former identity; the list is decided by 1, 2
// and 3, and 3 misses the decision. The cut puts 3 with 4 and the former identity: three of the old
// list, one of which has accepted the new one.
func TestHalfAccepted(t *testing.T) {
	m := built(5)
	n := m.nodes
	n[4].up = false
	x := m.replace(n[4])
	m.lost = func(_, to *node, kind Kind) (bool, bool) {
		return kind == Accept && to == n[3] || kind == Decide && to != x, false
	}
	m.blind = func(_, o *node) bool { return o == n[0] } // no node learns it
	for i := 0; i < 100 && len(n[2].q.Record().Next) == 0; i++ {
		m.step(false)
	}
	m.lost, m.blind = nil, nil
	n[2].side, n[3].side, n[4].side = 1, 1, 1
	n[4].start()
	if n[0].q.Record().Number != 2 || n[2].q.Record().Number != 1 {
		t.Fatalf("not half done:\n%s", m.dump())
	}
	m.lost = func(_, to *node, kind Kind) (bool, bool) { return kind == Prepare && to.side == 1, false }
	m.oneAtMost(t, 5*time.Minute)
	if n[2].status.Majority || n[3].status.Majority {
		t.Fatalf("a majority with a voter in sight that accepted another list:\n%s", m.dump())
	}
	m.lost = nil // then the proposal is ended first
	m.oneAtMost(t, 5*time.Minute)
	for _, o := range m.nodes {
		o.side = 0
	}
	m.run(5 * time.Minute)
	m.want(t, "healed", m.nodes...)
}

// TestNewDisk: a node with a new disk takes the place of its former identity after a minute; one that
// crashes sooner each time changes nothing, and takes the majority from no other.
func TestNewDisk(t *testing.T) {
	for _, up := range []time.Duration{20 * time.Second, 100 * time.Second} {
		m := built(4)
		well, sick := slices.Clone(m.nodes[:3]), m.nodes[3]
		for range 20 {
			sick.up = false
			m.run(10 * time.Second)
			sick = m.replace(sick)
			m.run(up)
			m.want(t, "one of four crashes again and again", well...)
		}
		if got := len(well[0].status.List.Members); got != 4 {
			t.Errorf("a list of %d, want 4\n%s", got, m.dump())
		}
	}
}

// TestRemove: of two hosts one is gone for good. The other one has no majority until an operator removes it;
// then a newcomer makes it two again.
func TestRemove(t *testing.T) {
	m := built(2)
	stays, gone := m.nodes[0], m.nodes[1]
	gone.up = false
	m.run(2 * dropAfter)
	if stays.status.Majority || stays.status.Voters != 2 {
		t.Errorf("one of two is gone:\n%s", m.dump())
	}
	if err := stays.q.Remove(t.Context(), gone.id); err != nil {
		t.Fatal(err)
	}
	m.run(10 * time.Second)
	m.want(t, "removed", stays)
	if r := stays.q.Record(); len(r.Members) != 1 || len(r.Removed) != 0 {
		t.Errorf("the list after it: %+v", r)
	}
	x := m.add(0)
	m.run(3 * time.Minute)
	m.want(t, "a new one", stays, x)
	gone.start() // it was not gone for good: a newcomer
	m.run(3 * time.Minute)
	m.want(t, "it is back", m.nodes...)
	if got := len(gone.status.List.Members); got != 3 {
		t.Errorf("a list of %d, want 3\n%s", got, m.dump())
	}
}

// TestRemovedIsAlive: one that was declared gone for good is seen again before the others agreed: it counts.
func TestRemovedIsAlive(t *testing.T) {
	m := built(4)
	n := m.nodes
	n[2].side, n[3].side = 1, 1
	m.run(time.Minute)
	n[0].full = true // nothing is agreed
	_ = n[0].q.Remove(t.Context(), n[2].id)
	n[0].full = false
	n[2].side = 0
	m.run(2 * time.Minute)
	m.want(t, "three of four", n[0], n[1], n[2])
	if n[3].status.Majority {
		t.Errorf("one of four has a majority\n%s", m.dump())
	}
}

// TestOutOfReach: a member that gossips the highest numbers there are uses them up for no other.
func TestOutOfReach(t *testing.T) {
	for _, lie := range []Gossip{
		{Number: 1 << 63, Next: math.MaxUint64}, {Next: math.MaxUint64, Sum: 1}, {Number: math.MaxUint64},
		{Number: 9, Next: 8},
		{Number: math.MaxUint64 - 1, Next: math.MaxUint64 - 1},
	} {
		m := built(3)
		liar := m.add(0)
		m.lie = func(o *node, p *Peer) {
			if o == liar {
				origin := p.Origin
				p.Gossip = lie
				p.Origin = origin
			}
		}
		m.run(3 * time.Minute)
		m.want(t, fmt.Sprintf("%+v", lie), m.nodes[:3]...)
		m.lie, liar.up = nil, false
		m.add(0)
		m.run(10 * time.Minute)
		m.want(t, "it is gone", m.nodes[0], m.nodes[1], m.nodes[2], m.nodes[4])
		if r := m.nodes[0].q.Record(); r.Number > 100 {
			t.Errorf("%+v: the number is %d", lie, r.Number)
		}
	}
	r := Request{Kind: Decide, Base: List{Number: 1 << 50, Members: built(2).nodes[0].q.Record().Members}}
	r.Next = r.Base
	if _, err := built(2).nodes[0].q.Answer(t.Context(), r); err == nil {
		t.Error("a decision with a number far above is believed")
	}
}

// TestProposerIsBroken: the first voter's disk is full, so it proposes in vain; the next one does.
func TestProposerIsBroken(t *testing.T) {
	m := built(4)
	m.nodes[0].full = true
	m.add(0)
	m.run(3 * time.Minute)
	for _, n := range m.nodes[1:] {
		if len(n.status.List.Members) != 5 {
			t.Fatalf("the newcomer waits for a full disk\n%s", m.dump())
		}
	}
	m.nodes[0].full = false
	m.run(time.Minute)
	m.want(t, "space again", m.nodes...)
}

// TestOneWay: 1 does not see 2. The majority stays.
func TestOneWay(t *testing.T) {
	m := built(5)
	m.blind = func(n, o *node) bool { return n == m.nodes[0] && o == m.nodes[1] }
	for range 6 {
		x := m.add(0)
		m.run(2 * time.Minute)
		m.want(t, "one way", m.nodes[:5]...)
		x.up = false
		m.run(2 * time.Minute)
		m.want(t, "one way", m.nodes[2:5]...)
	}
	m.blind = nil
	m.run(3 * dropAfter)
	m.want(t, "healed", m.nodes[:5]...)
}

// TestTwoClustersMeet: two clusters that began apart become one, with the list of the higher number.
func TestTwoClustersMeet(t *testing.T) {
	m := &model{now: time.Unix(1e9, 0)}
	for i := range 6 {
		m.add(i % 2)
	}
	m.run(time.Minute)
	if sides := m.sides(); len(sides) != 2 {
		t.Fatalf("two clusters: %v", sides)
	}
	for _, n := range m.nodes {
		n.side = 0
	}
	m.run(5 * time.Minute)
	m.want(t, "met", m.nodes...)
	for _, n := range m.nodes {
		if len(n.status.List.Members) != 6 {
			t.Fatalf("no list of six\n%s", m.dump())
		}
	}
}

// TestOlderClusterStays: nodes with new disks that see none of the cluster begin one of their own, and change
// it more often. When both meet, the older one keeps its majority, and the others join it.
func TestOlderClusterStays(t *testing.T) {
	m := built(3)
	old := slices.Clone(m.nodes)
	for range 4 {
		m.add(1)
		m.run(2 * time.Minute)
	}
	if r := m.nodes[4].q.Record(); r.Number < 3 || m.sides()[1] == "" {
		t.Fatalf("not a cluster of its own:\n%s", m.dump())
	}
	for _, n := range m.nodes {
		n.side = 0
	}
	for range 150 {
		m.step(false)
		m.want(t, "the older one", old...)
	}
	m.want(t, "met", m.nodes...)
	for _, n := range m.nodes {
		if l := n.status.List; len(l.Members) != 7 || l.Origin != old[0].q.Record().Origin || l.Origin == 0 {
			t.Fatalf("no list of seven of the older cluster\n%s", m.dump())
		}
	}
}

// TestOlderVersion: while a voter of an older version is in sight the list stays, and it counts as it did.
func TestOlderVersion(t *testing.T) {
	m := built(3)
	m.nodes[2].old = true
	m.add(0)
	m.run(10 * time.Minute)
	m.want(t, "one of three is older", m.nodes[:3]...)
	if got := len(m.nodes[0].status.List.Members); got != 3 {
		t.Fatalf("a list of %d, want 3\n%s", got, m.dump())
	}
	m.nodes[2].old = false
	m.run(3 * time.Minute)
	if got := len(m.nodes[0].status.List.Members); got != 4 {
		t.Fatalf("all are upgraded: a list of %d, want 4\n%s", got, m.dump())
	}
}

// TestOlderRecord: a record of a version before 0.2 has the list that was in force, and those that were
// agreed to. The newest of these is decided first.
func TestOlderRecord(t *testing.T) {
	m := built(3)
	var ids []knowledge.NodeID
	for _, n := range m.nodes {
		ids = append(ids, n.id)
	}
	for i, n := range m.nodes {
		n.disk = Record{Number: 7, Members: ids}
		if i == 0 {
			n.disk.Next = []Accepted{{List: List{Number: 8, Members: ids[:2]}}, {List: List{Number: 9, Members: ids}}}
		}
		n.start()
	}
	m.step(false)
	if m.nodes[1].status.Majority {
		t.Errorf("a majority while one has agreed to what may be in force elsewhere\n%s", m.dump())
	}
	m.run(time.Minute)
	m.want(t, "it is decided", m.nodes...)
	for _, n := range m.nodes {
		if n.status.List.Number != 9 {
			t.Fatalf("list %d, want 9\n%s", n.status.List.Number, m.dump())
		}
	}
}

// TestReset: none of the others is left. An operator lets a node count from itself.
func TestReset(t *testing.T) {
	m := built(3)
	last := m.nodes[1]
	m.nodes[0].up, m.nodes[2].up = false, false
	m.run(2 * dropAfter)
	if last.status.Majority {
		t.Errorf("one of three has a majority\n%s", m.dump())
	}
	if err := last.q.Reset(t.Context()); err != nil {
		t.Fatal(err)
	}
	m.run(10 * time.Second)
	m.want(t, "it counts from itself", last)
}

// TestResetAmongNewDisks: two of three lose their disks at once. This cannot be told from the smaller
// side of a cut, so the third waits; an operator resets it, and the three begin anew.
func TestResetAmongNewDisks(t *testing.T) {
	for kept := range 3 {
		m := built(3)
		var lost []*node
		for i, n := range slices.Clone(m.nodes) {
			if i != kept {
				lost = append(lost, m.replace(n))
			}
		}
		n := m.nodes[kept]
		m.run(time.Hour)
		if n.status.Majority || lost[0].status.Majority || n.status.Voters != 3 {
			t.Errorf("two of three forgot:\n%s", m.dump())
		}
		n.up = false
		_ = n.q.Reset(t.Context())
		m.run(10 * time.Second)
		n.start()
		m.run(3 * time.Minute)
		m.want(t, "reset", append(lost, n)...)
		if got := len(n.status.List.Members); got != 3 {
			t.Errorf("a list of %d, want 3\n%s", got, m.dump())
		}
	}
}

// TestNewcomerCutOff: a node that has met the cluster, and is no voter yet, does not count from itself when
// it is cut off, also not after a restart.
func TestNewcomerCutOff(t *testing.T) {
	m := built(3)
	x := m.add(0)
	m.run(20 * time.Second)
	m.want(t, "it follows", x)
	x.side = 1
	m.run(time.Minute)
	x.up = false
	m.run(time.Minute)
	x.start()
	m.oneAtMost(t, 10*time.Minute)
	y := m.add(1) // neither with one that has met no other
	m.run(10 * time.Minute)
	if x.status.Majority || y.status.Majority {
		t.Errorf("newcomers have a majority\n%s", m.dump())
	}
}

// BenchmarkLook is one look of a calm cluster: four a second.
func BenchmarkLook(b *testing.B) {
	for _, n := range []int{3, 30, 300} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			now := time.Unix(1e9, 0)
			r := Record{Number: 7}
			for i := range n {
				r.Members = append(r.Members, knowledge.NodeID(fmt.Sprintf("%032x", i+1)))
			}
			q := New(r.Members[0], r, now, nil)
			var peers []Peer
			for _, id := range r.Members {
				p := Peer{ID: id, Alive: true, Since: now, Votes: true}
				p.Gossip = q.Gossip()
				peers = append(peers, p)
			}
			b.ReportAllocs()
			for b.Loop() {
				now = now.Add(250 * time.Millisecond)
				if s := q.Look(now, peers); !s.Majority || s.Due() {
					b.Fatal("something changed")
				}
			}
		})
	}
}
