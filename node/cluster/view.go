package cluster

import (
	"cmp"
	"context"
	"math"
	"slices"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/node/cluster/claim"
	"github.com/effiscale/effiscale/node/cluster/member"
	"github.com/effiscale/effiscale/node/cluster/ring"
)

const (
	// steadyFor is how long a changed membership must stand before ownership follows
	// it: two probe periods of the fast timing. steadyMost bounds the wait in a
	// cluster that never rests.
	steadyFor, steadyMost = 500 * time.Millisecond, 2 * time.Second
	// settleFor is how long a new node looks around before it offers itself, and
	// settleMost how long it waits for somebody to look at.
	settleFor, settleMost = time.Second, 5 * time.Second
	// loadStep is how exactly a node's load is told, in percent.
	loadStep = 10
)

// candidate is a ring that would follow from the newest membership.
type candidate struct {
	nodes        []ring.Node // nil: nothing has changed
	sum          uint64
	since, first time.Time
}

// standing is what this node says of itself: whether it is to own anything, and why.
type standing struct {
	state    member.State
	since    time.Time // when it began to wait
	until    time.Time // it waits at least until then
	settled  bool      // this life has looked around
	penalty  claim.Penalty
	majority bool
	ballot   *ballot
	viewAt   time.Time // since when the same members are alive
	lastView []knowledge.NodeID
	// with are the members that had the ring of this node, and this node as an owner
	// in it.
	with map[knowledge.NodeID]bool
	// unfit: no term can be written down here. The node owns nothing until its disk
	// takes something again. unreached: others cannot call it, so no report comes.
	unfit, unreached bool
}

func (s *standing) begin(c *Cluster) {
	now := c.o.Now()
	s.state, s.since, s.majority, s.viewAt = member.Waiting, now, true, now
	s.ballot, s.with = newBallot(c.self, c.o.Known, now), map[knowledge.NodeID]bool{}
	for range min(c.o.Starts-1, 8) {
		s.penalty.Flap(now)
	}
	s.until = later(s.until, s.penalty.Until(now))
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// flap makes the node wait before it owns anything: longer each time. What it owned
// while it was away is others' by now, and it looks around before it believes anything.
func (s *standing) flap(c *Cluster, now time.Time) {
	c.book.EndAll(claim.ErrMoved)
	c.intents.clear()
	s.penalty.Flap(now)
	clear(s.with)
	s.since, s.viewAt, s.settled = now, now, false
	s.ballot.pause(now)
	s.until = later(now.Add(settleFor), s.penalty.Until(now))
	c.become(member.Waiting)
}

// become changes what this node is, and lets the others know at once.
func (c *Cluster) become(state member.State) {
	c.state.state = state
	c.members.Update(func(m *member.Meta) { m.State = state })
}

// why says why this node waits; "" when it does not, or is about to take its part.
func (s *standing) why(now time.Time) string {
	switch {
	case s.state != member.Waiting:
	case s.unfit:
		return "its disk takes no terms: it plans for nothing until node.data_dir can be written again"
	case s.unreached:
		return "other nodes cannot call it: it plans for nothing until they can reach cluster.advertise"
	case !s.settled:
		return "it looks around: it plans for nothing until gossip has settled"
	case !s.majority:
		return "it does not see a majority of the cluster: replica counts stay as they are"
	case now.Before(s.until):
		return "it started or was away too often of late: others plan for its services until " + s.until.UTC().Format("15:04:05 UTC")
	}
	return ""
}

// standing looks at which side of the cluster this node is on, and whether it has
// waited long enough.
func (c *Cluster) standing(now time.Time) {
	s := &c.state
	c.apart.Store(c.left.Load() || c.ring.Len() <= 1 && c.alone() && len(c.peers()) == 1)
	if c.left.Load() { // alone, on purpose
		s.majority, s.settled = true, true
		s.ballot.voters = nil
		s.lastView, s.state = []knowledge.NodeID{c.self}, member.Participant // nobody else has what is its own
		return
	}
	alive := c.alives()
	if !slices.Equal(alive, s.lastView) {
		c.inSight(alive)
		s.lastView, s.viewAt = alive, now
	}
	company := len(alive) > 1 || c.alone()
	calm := now.Sub(s.viewAt) >= settleFor || len(alive) == 1
	settled := company && calm || now.Sub(s.since) >= settleMost
	s.settled = s.settled || settled
	if !s.settled {
		return
	}
	c.countMajority(now, alive)
	if c.excluded() {
		c.log.Warn().Msg("others went on without this node for a while: it waits before it owns anything again")
		s.flap(c, now)
		return
	}
	if s.state == member.Waiting && s.fit() && !now.Before(s.until) && settled && s.majority {
		c.become(member.Participant)
		c.log.Info().Int("members", len(alive)).Msg("this node takes its part: it plans for the services that the ring gives it")
	}
}

// excluded reports whether most members went over from this node's ring to the one
// without it: the node was given up, by more than gossip, and may not have noticed.
// A node alone takes up to ten seconds to see that it is. Who says that it waits is
// left out by right.
func (c *Cluster) excluded() bool {
	if c.state.state != member.Participant {
		clear(c.state.with)
		return false
	}
	s, mine, without := &c.state, c.ring.Checksum(), uint64(0)
	peers, others, gone, has := c.peers(), 0, 0, c.ring.Has(c.self)
	for i := range peers {
		p := &peers[i]
		if p.Self || !p.Alive {
			continue
		}
		others++
		switch {
		case p.Ring == mine && has:
			s.with[p.ID] = true
		case s.with[p.ID]:
			if without == 0 {
				without = ring.ChecksumOf(c.nodesOf(func(p *member.Peer) bool { return p.Alive && !p.Self }))
			}
			if p.Ring == without {
				gone++
			}
		}
	}
	if len(s.with) > len(peers) { // some are forgotten
		clear(s.with)
	}
	return 2*gone > others
}

// alone reports whether there is nobody to look for.
func (c *Cluster) alone() bool {
	return len(c.o.Member.Join)+len(c.o.Member.Introduced)+len(c.o.Known.Seen) == 0
}

// countMajority looks whether this side of the cluster has a majority: see ballot.
func (c *Cluster) countMajority(now time.Time, alive []knowledge.NodeID) {
	s, b := &c.state, c.state.ballot
	voters, peers := make(map[knowledge.NodeID]voter, len(alive)), c.peers()
	for i := range peers {
		p := &peers[i]
		voters[p.ID] = voter{Views: p.Views, features: p.Features, left: p.Status == "left"}
	}
	for _, id := range alive {
		v := voters[id]
		v.alive = true
		voters[id] = v
	}
	was := b.View
	if b.step(now, voters) {
		c.savedAt = time.Time{} // what is told of it waits for the disk
	}
	c.tellViews()
	if b.View != was && len(b.list) > 1 {
		c.log.Info().Uint64("view", b.View).Int("members", len(b.list)).Msg("all members agreed to who they are: a majority is counted among them now")
	}
	if b.majority == s.majority {
		return
	}
	s.majority = b.majority
	if !s.majority {
		// Said while nobody listens, so that nobody takes it for an owner on its return.
		c.become(member.Waiting)
		c.log.Error().Int("alive", len(b.present)).Int("of", b.expected()).
			Msg("this node does not see a majority of the cluster: containers are kept at the right size, but replica counts stay as they are; check the network between the hosts, and `effiscale members`")
		return
	}
	c.log.Info().Int("alive", len(b.present)).Int("of", b.expected()).Msg("a majority of the cluster is in sight again")
	s.flap(c, now)
}

// tellViews lets the others know what this node says of views, at once.
func (c *Cluster) tellViews() {
	v, features := c.state.ballot.says()
	if s := &c.said; v == s.views && features == s.features {
		return
	}
	c.said.views, c.said.features = v, features
	c.members.Update(func(m *member.Meta) {
		m.Views, m.Features = v, m.Features&^member.FeaturesOfViews|features
	})
}

// peers are all members as of now, for reading only: they are asked for several
// times a beat, and change seldom.
func (c *Cluster) peers() []member.Peer {
	if v := c.members.Version(); c.asOf.peers == nil || v != c.asOf.version {
		c.asOf.version, c.asOf.peers = v, c.members.Peers()
	}
	return c.asOf.peers
}

// alives are the living members, in order.
func (c *Cluster) alives() []knowledge.NodeID {
	var out []knowledge.NodeID
	now, peers := c.o.Now(), c.peers()
	for i := range peers {
		if c.lives(now, &peers[i]) {
			out = append(out, peers[i].ID)
		}
	}
	slices.Sort(out)
	return out
}

// inSight makes plans due for hosts that come into sight: a report may be here before
// its host is, and what is planned for others meanwhile leaves it out.
func (c *Cluster) inSight(alive []knowledge.NodeID) {
	var back []knowledge.NodeID
	for _, id := range alive {
		if !c.sees(id) {
			back = append(back, id)
		}
	}
	for _, s := range c.services {
		for _, id := range back {
			s.dirty = s.dirty || s.reports[id] != nil
		}
	}
}

// sees reports whether a host was there at the last beat, this one always.
func (c *Cluster) sees(id knowledge.NodeID) bool {
	return id == c.self || slices.Contains(c.state.lastView, id)
}

func (c *Cluster) known(id knowledge.NodeID) bool {
	_, ok := c.lookup(id)
	return ok
}

// gone reports whether nothing is to be sent to a node: it or this one left, it is unknown,
// or was given up for so long that the ring is another one. Its host may have a new id by
// now, and would turn each call away.
func (c *Cluster) gone(now time.Time, id knowledge.NodeID) bool {
	p, _ := c.members.Peer(id)
	return c.left.Load() || !c.known(id) || !p.Alive && now.Sub(p.Since) > stableAfter && !c.sees(id)
}

// lookup is where a living member answers calls.
func (c *Cluster) lookup(id knowledge.NodeID) (string, bool) {
	p, ok := c.members.Peer(id)
	return p.Relay, ok && p.Status != "left" && p.Relay != ""
}

func (c *Cluster) coresOf(id knowledge.NodeID) knowledge.NanoCPU {
	p, _ := c.members.Peer(id)
	return p.Cores
}

// nodes are the present members. Who waits owns nothing, unless most of them wait:
// then there is no better choice. Who is unfit is none even then, unless all are: it
// would keep services that it cannot plan for from those that can.
func (c *Cluster) nodes(now time.Time) []ring.Node {
	if c.left.Load() {
		return []ring.Node{{ID: c.self, Eligible: true}}
	}
	return c.nodesOf(func(p *member.Peer) bool { return c.lives(now, p) })
}

func (c *Cluster) nodesOf(present func(*member.Peer) bool) []ring.Node {
	var nodes []ring.Node
	eligible, unfit := 0, map[knowledge.NodeID]bool{}
	peers := c.peers()
	for i := range peers {
		p := &peers[i]
		if p.State == member.Leaving || !present(p) {
			continue
		}
		ok := p.State == member.Participant
		if ok {
			eligible++
		}
		if p.Unfit() {
			unfit[p.ID] = true
		}
		nodes = append(nodes, ring.Node{ID: p.ID, Eligible: ok})
	}
	if 2*eligible < len(nodes) {
		for i := range nodes {
			nodes[i].Eligible = !unfit[nodes[i].ID]
		}
	}
	return nodes
}

// adopt notes a ring that differs from the one in force; adoptIfDue follows it
// once it has stood for a while, so that a node that comes and goes moves nothing. A
// node that has just started follows none before it has looked around.
func (c *Cluster) adopt(now time.Time) {
	nodes := c.nodes(now)
	switch sum := ring.ChecksumOf(nodes); {
	case sum == c.ring.Checksum():
		c.next = candidate{}
	case c.next.nodes == nil:
		c.next = candidate{nodes: nodes, sum: sum, since: now, first: now}
	case c.next.sum != sum:
		c.next.nodes, c.next.sum, c.next.since = nodes, sum, now
	}
}

func (c *Cluster) adoptIfDue(now time.Time) {
	n := &c.next
	if !c.state.settled || n.nodes == nil || now.Sub(n.since) < steadyFor && now.Sub(n.first) < steadyMost {
		return
	}
	old := c.ring
	c.ring, c.next = ring.New(n.nodes), candidate{}
	c.book.Keep(func(key knowledge.ServiceKey) bool { return c.ring.Owner(key) == c.self }, claim.ErrMoved)
	for key, s := range c.services {
		if owner := c.ring.Owner(key); owner != c.self {
			c.intents.drop(key)
			s.agree(owner)
		}
	}
	c.count.Rings++
	sum := c.ring.Checksum()
	c.members.Update(func(m *member.Meta) { m.Ring = sum })
	c.resend(old)
	if old.Len() == 0 { // nobody has heard of this host's containers yet
		c.job(func(ctx context.Context) {
			ctx, cancel := context.WithTimeout(ctx, sendWithin)
			defer cancel()
			if err := c.host.ReportSoon(ctx); err != nil && ctx.Err() == nil {
				c.log.Debug().Err(err).Msg("the first reports come with the next interval")
			}
		})
	}
	c.log.Info().Int("members", c.ring.Len()).Msg("the ring has changed")
}

// tellLoad lets the others know how busy this node is, in steps of ten percent that
// are left late, so that a host between two of them does not gossip all the time.
func (c *Cluster) tellLoad() {
	owned, load := uint32(c.book.Len()), c.said.load
	if cores := c.o.Meta.Cores; c.o.Load != nil && cores > 0 {
		percent := min(100*c.o.Load().Cores()/cores.Cores(), 100)
		if math.Abs(percent-float64(load)) > loadStep*0.8 {
			load = uint8(math.Round(percent/loadStep) * loadStep)
		}
	}
	if owned == c.said.owned && load == c.said.load {
		return
	}
	c.said.owned, c.said.load = owned, load
	c.members.Update(func(m *member.Meta) { m.Services, m.Load = owned, load })
}

// View is what this node sees of the cluster, as of its last beat: for status,
// without asking anybody.
type View struct {
	Ring     *ring.Ring
	State    member.State
	Why      string // it waits
	Majority bool
	Expected int // members of the last view that a majority held, and newcomers
	Claims   int
	Copies   int
	Waiting  int // reports and intents that nobody has acknowledged yet
	Counts   Counts
	Terms    map[knowledge.ServiceKey]knowledge.Term // of what this host obeys
}

// publish makes the view of this beat.
func (c *Cluster) publish() {
	expected := c.state.ballot.expected()
	if c.left.Load() {
		expected = 1
	}
	v := &View{
		Ring: c.ring, State: c.state.state, Why: c.state.why(c.o.Now()), Majority: c.state.majority, Expected: expected, Claims: c.book.Len(),
		Copies: c.copies(), Waiting: c.reports.waiting() + c.intents.waiting(), Counts: c.count, Terms: c.shown,
	}
	if c.shown == nil {
		v.Terms = make(map[knowledge.ServiceKey]knowledge.Term, len(c.obeyed))
		for key, h := range c.obeyed {
			v.Terms[key] = h.term
		}
		c.shown = v.Terms
	}
	c.view.Store(v)
}

// Settings are those that all members should have alike: attestation by quorum, and the
// timing of gossip.
func (c *Cluster) Settings() (attest bool, timing member.Timing) {
	return c.o.Attest, cmp.Or(c.o.Member.Timing, member.Fast)
}

// View is the newest one.
func (c *Cluster) View() View { return *c.view.Load() }
