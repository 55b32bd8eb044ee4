package cluster

import (
	"context"
	"slices"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/node/cluster/member"
	"github.com/effiscale/effiscale/node/cluster/quorum"
	"github.com/effiscale/effiscale/node/cluster/trust"
)

const (
	// votersWithin bounds one change of the list of voters: three writes of slow disks.
	votersWithin = 20 * time.Second
	// votersAtOnce bounds the calls of one change that are under way.
	votersAtOnce = 64
)

// majority knows whether this side of a partitioned cluster has more than half of the
// voters: see package quorum.
type majority struct {
	c      *Cluster
	voters *quorum.Quorum
	status quorum.Status
	has    bool
	busy   bool // a change of the list is under way
	sent   member.Voters
	calls  chan struct{}
}

func newMajority(c *Cluster) *majority {
	m := &majority{c: c, has: true, calls: make(chan struct{}, votersAtOnce)}
	m.voters = quorum.New(c.self, c.o.Known.Record, c.o.Now(), c.storage.saveRecord)
	m.status.List = m.voters.Record().Counted()
	m.sent = m.gossip()
	return m
}

// gossip are the numbers that others are to see; the record is on the disk.
func (m *majority) gossip() member.Voters { return member.Voters(m.voters.Gossip()) }

// update counts the voters in sight, and begins what is due. It reports whether the
// majority came or went.
func (m *majority) update(now time.Time, alive []knowledge.NodeID) (changed bool) {
	if v := m.gossip(); v != m.sent {
		m.sent = v
		m.c.members.Update(func(meta *member.Meta) { meta.Voters = v })
	}
	list := m.c.liveness.peers()
	peers := make([]quorum.Peer, 0, len(list))
	for i := range list {
		p := &list[i]
		_, is := slices.BinarySearch(alive, p.ID)
		peers = append(peers, quorum.Peer{
			ID: p.ID, Name: p.Name, Alive: is, Since: p.Since, Gossip: quorum.Gossip(p.Voters),
			Votes: p.Features&member.FeatureVoters != 0,
		})
	}
	m.status = m.voters.Look(now, peers)
	m.act()
	changed = m.status.Majority != m.has
	m.has = m.status.Majority
	return changed
}

// act learns a newer list, or proposes the next one.
func (m *majority) act() {
	s := m.status
	if m.busy || !s.Due() {
		return
	}
	m.busy = true
	m.c.spawn(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, votersWithin)
		defer cancel()
		list, err := m.voters.Act(ctx, s, m.ask)
		m.c.post(func() {
			m.busy = false
			if err != nil {
				m.c.log.Debug().Err(err).Msg("voter list not changed, retrying")
				return
			}
			m.changed(list)
		})
	})
}

func (m *majority) changed(list quorum.List) {
	if list.Number == 0 {
		return
	}
	m.c.log.Info().Uint64("number", list.Number).Int("members", len(list.Members)).Msg("voter list changed")
}

// ask calls one voter. One that is not alive is not waited for.
func (m *majority) ask(ctx context.Context, to knowledge.NodeID, req quorum.Request) (res quorum.Response, err error) {
	select {
	case m.calls <- struct{}{}:
		defer func() { <-m.calls }()
	case <-ctx.Done():
		return res, ctx.Err()
	}
	if p, _ := m.c.members.Peer(to); !p.Alive {
		return res, errGone
	}
	b, err := m.c.seal("voters", to, req)
	if err != nil {
		return res, err
	}
	if b, err = m.c.relay.Call(ctx, to, "voters", b); err != nil {
		return res, err
	}
	return res, trust.Unmarshal(b, &res)
}

// answer serves a voter's request.
func (m *majority) answer(ctx context.Context, from knowledge.NodeID, body []byte) ([]byte, error) {
	var req quorum.Request
	if _, err := m.c.open(from, "voters", body, &req); err != nil {
		return nil, err
	}
	before := m.voters.Record().Counted()
	res, err := m.voters.Answer(ctx, req)
	if err != nil {
		return nil, err
	}
	if is := m.voters.Record().Counted(); is.Number != before.Number {
		m.c.post(func() { m.changed(is) })
	}
	return trust.Marshal(res)
}

// expected is how many members are to be there: the voters where there is no majority,
// else those that did not leave, and new members.
func (m *majority) expected() int {
	if m.c.left.Load() {
		return 1
	}
	list := m.status.List
	if !m.has {
		return len(list.Members)
	}
	n := len(list.Members)
	peers := m.c.liveness.peers()
	for i := range peers {
		p := &peers[i]
		switch voter := list.Has(p.ID); {
		case voter && p.Status == "left" && !p.Self:
			n--
		case !voter && m.c.liveness.sees(p.ID):
			n++
		}
	}
	return n
}
