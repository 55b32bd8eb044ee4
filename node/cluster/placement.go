package cluster

import (
	"context"
	"math"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/node/cluster/claim"
	"github.com/effiscale/effiscale/node/cluster/member"
	"github.com/effiscale/effiscale/node/cluster/ring"
)

const (
	// stableFor is how long a changed membership must last before ownership follows
	// it: two probe periods of the fast timing. stableMost bounds the wait in a
	// cluster that never rests.
	stableFor, stableMost = 500 * time.Millisecond, 2 * time.Second
	// loadStep is how exactly a node's load is gossiped, in percent.
	loadStep = 10
)

// placement has the ring in force, which assigns services to owners.
type placement struct {
	c    *Cluster
	ring *ring.Ring
	next candidate
	sent struct { // in gossip
		owned uint32
		load  uint8
	}
}

// candidate is a ring that would follow from the newest membership.
type candidate struct {
	nodes        []ring.Node // nil: nothing has changed
	sum          uint64
	since, first time.Time
}

// begin is an empty ring, or that of a single host.
func (p *placement) begin() {
	p.ring = ring.New(nil)
	p.c.storage.alone.Store(p.c.alone())
	if p.c.alone() {
		p.ring, p.c.participation.settled = ring.New([]ring.Node{{ID: p.c.self, Eligible: true}}), true
	}
}

// nodes are the present members. Those that wait own nothing, unless most of them wait:
// then there is no better choice. Those that are unfit own nothing even then, unless all are:
// they would keep services that they cannot plan for from those that can.
func (p *placement) nodes(now time.Time) []ring.Node {
	if p.c.left.Load() {
		return []ring.Node{{ID: p.c.self, Eligible: true}}
	}
	return p.nodesOf(func(m *member.Peer) bool { return p.c.liveness.isAlive(now, m) })
}

func (p *placement) nodesOf(present func(*member.Peer) bool) []ring.Node {
	var nodes []ring.Node
	eligible, unfit := 0, map[knowledge.NodeID]bool{}
	peers := p.c.liveness.peers()
	for i := range peers {
		m := &peers[i]
		if m.State == member.Leaving || !present(m) {
			continue
		}
		ok := m.State == member.Participant
		if ok {
			eligible++
		}
		if m.Unfit() {
			unfit[m.ID] = true
		}
		nodes = append(nodes, ring.Node{ID: m.ID, Eligible: ok})
	}
	if 2*eligible < len(nodes) {
		for i := range nodes {
			nodes[i].Eligible = !unfit[nodes[i].ID]
		}
	}
	return nodes
}

// follow notes a ring that differs from the one in force; adoptIfDue adopts it once it has
// lasted for a while, so that flapping members do not move ownership. A node that has just
// started adopts none before gossip has settled.
func (p *placement) follow(now time.Time) {
	nodes := p.nodes(now)
	switch sum := ring.ChecksumOf(nodes); {
	case sum == p.ring.Checksum():
		p.next = candidate{}
	case p.next.nodes == nil:
		p.next = candidate{nodes: nodes, sum: sum, since: now, first: now}
	case p.next.sum != sum:
		p.next.nodes, p.next.sum, p.next.since = nodes, sum, now
	}
}

func (p *placement) adoptIfDue(now time.Time) {
	c, n := p.c, &p.next
	if !c.participation.settled || n.nodes == nil || now.Sub(n.since) < stableFor && now.Sub(n.first) < stableMost {
		return
	}
	old := p.ring
	p.ring, p.next = ring.New(n.nodes), candidate{}
	c.claims.Keep(func(key knowledge.ServiceKey) bool { return p.ring.Owner(key) == c.self }, claim.ErrMoved)
	c.count.Rings++
	sum := p.ring.Checksum()
	c.members.Update(func(m *member.Meta) { m.Ring = sum })
	c.owner.ringChanged(old)
	if old.Len() == 0 { // no other node knows this host's containers yet
		c.spawn(func(ctx context.Context) {
			ctx, cancel := context.WithTimeout(ctx, sendWithin)
			defer cancel()
			if err := c.host.ReportSoon(ctx); err != nil && ctx.Err() == nil {
				c.log.Debug().Err(err).Msg("first reports delayed to the next interval")
			}
		})
	}
	c.log.Info().Int("members", p.ring.Len()).Msg("ring changed")
}

// sendLoad gossips how busy this node is, in steps of ten percent with hysteresis, so
// that a host between two of them does not gossip all the time.
func (p *placement) sendLoad() {
	owned, load := uint32(p.c.claims.Len()), p.sent.load
	if cores := p.c.o.Meta.Cores; p.c.o.Load != nil && cores > 0 {
		percent := min(100*p.c.o.Load().Cores()/cores.Cores(), 100)
		if math.Abs(percent-float64(load)) > loadStep*0.8 {
			load = uint8(math.Round(percent/loadStep) * loadStep)
		}
	}
	if owned == p.sent.owned && load == p.sent.load {
		return
	}
	p.sent.owned, p.sent.load = owned, load
	p.c.members.Update(func(m *member.Meta) { m.Services, m.Load = owned, load })
}
