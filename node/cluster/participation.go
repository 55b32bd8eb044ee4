package cluster

import (
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/node/cluster/claim"
	"github.com/effiscale/effiscale/node/cluster/member"
)

const (
	// settleFor is how long a new node must see the same members before it offers itself,
	// and settleMost how long it waits for others.
	settleFor, settleMost = time.Second, 5 * time.Second
	// sameFlap is how long one absence may be noticed again: by this node, by the others.
	sameFlap = 10 * time.Second
)

// participation decides whether this node may own services; gossip has its state.
type participation struct {
	c        *Cluster
	state    member.State
	since    time.Time // when it began to wait
	until    time.Time // it waits at least until then
	settled  bool      // it has seen the same members for a while since it started, or stalled
	holdDown claim.HoldDown
	// flappedAt is when the last flap was counted.
	flappedAt time.Time
	// diskFailed: no term can be saved; the node owns nothing until one can.
	// unreachable: others cannot call it, so no report comes.
	diskFailed, unreachable bool
	presence                *presence
}

func newParticipation(c *Cluster) *participation {
	now := c.o.Now()
	p := &participation{c: c, since: now, presence: &presence{c: c}}
	for range min(c.o.Starts-1, 8) {
		p.holdDown.Flap(now)
	}
	p.until = later(p.until, p.holdDown.Until(now))
	return p
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// flap releases what this node owned while it was away, since others own it by now, and
// makes it wait before it owns anything again: longer each time.
func (p *participation) flap(now time.Time) {
	c := p.c
	c.claims.EndAll(claim.ErrMoved)
	c.owner.intents.clear()
	if p.holdDown.Wait() > 0 && now.Sub(p.flappedAt) < sameFlap {
		p.holdDown.Restart(now)
	} else {
		p.holdDown.Flap(now)
		p.flappedAt = now
		c.count.Flaps++
	}
	p.presence.counted(now)
	p.since, c.liveness.changedAt, p.settled = now, now, false
	p.until = later(now.Add(settleFor), p.holdDown.Until(now))
	p.become(member.Waiting)
}

// become changes the state, and lets the others know at once.
func (p *participation) become(state member.State) {
	p.state = state
	p.c.members.Update(func(m *member.Meta) { m.State = state })
}

// why is the reason for waiting; "" when the node does not wait, or is about to participate.
func (p *participation) why(now time.Time) string {
	switch {
	case p.state != member.Waiting:
	case p.diskFailed:
		return "cannot persist terms: it owns no service until node.data_dir is writable"
	case p.unreachable:
		return "other nodes cannot call it: it owns no service until they reach cluster.advertise"
	case !p.settled:
		return "gossip has not settled: it owns no service until then"
	case !p.c.majority.has:
		return "no majority of the cluster: replica counts do not change"
	case now.Before(p.until):
		return "hold-down after restarts or disconnections: other nodes own its services until " +
			p.until.UTC().Format("15:04:05 UTC")
	}
	return ""
}

// update looks on which side of the cluster this node is, and whether it has waited long
// enough.
func (p *participation) update(now time.Time) {
	c := p.c
	c.storage.alone.Store(c.left.Load() || c.placement.ring.Len() <= 1 && c.alone() && len(c.liveness.peers()) == 1)
	if c.left.Load() { // alone, on purpose
		c.majority.has, p.settled = true, true
		c.liveness.visible, p.state = []knowledge.NodeID{c.self}, member.Participant
		return
	}
	alive := c.liveness.update(now)
	company := len(alive) > 1 || c.alone()
	calm := now.Sub(c.liveness.changedAt) >= settleFor || len(alive) == 1
	settled := company && calm || now.Sub(p.since) >= settleMost
	if !p.settled && settled {
		p.settled = true
		p.presence.counted(now)
	}
	if !p.settled {
		return
	}
	if c.majority.update(now, alive) && p.majorityChanged(now, alive) {
		return
	}
	p.presence.ask(now)
	if p.state == member.Waiting && p.fit() && !now.Before(p.until) && settled && c.majority.has {
		if p.holdDown.Wait() > 0 && !p.presence.proven {
			if p.presence.tries == 0 {
				p.presence.doubt()
			}
			return
		}
		p.become(member.Participant)
		c.log.Info().Int("members", len(alive)).Msg("participating: owning the services that the ring assigns")
	}
}

// majorityChanged makes a node without a majority wait, so that it is no owner when it
// returns, and releases what it owned when it has a majority again: others own it.
func (p *participation) majorityChanged(now time.Time, alive []knowledge.NodeID) (flapped bool) {
	c := p.c
	if !c.majority.has {
		p.become(member.Waiting)
		c.log.Error().Int("alive", c.majority.status.Alive).Int("of", c.majority.status.Voters).
			Msg("no majority of the cluster: limits are still adjusted, replica counts are not; " +
				"check the network between the hosts and `effiscale members`")
		return false
	}
	c.log.Info().Int("alive", len(alive)).Int("of", c.majority.status.Voters).Msg("majority of the cluster restored")
	p.flap(now)
	return true
}

// alone reports whether no other node is configured or known.
func (c *Cluster) alone() bool {
	return len(c.o.Member.Join)+len(c.o.Member.Introduced)+len(c.o.Known.Seen) == 0
}

// fit reports whether the node can plan for what it would own.
func (p *participation) fit() bool { return !p.diskFailed && !p.unreachable }

// cannotSave releases what a node without a disk cannot own: a term that is forgotten by
// a crash could be taken twice.
func (p *participation) cannotSave() {
	if p.diskFailed || p.c.left.Load() {
		return
	}
	p.diskFailed = true
	p.release()
	p.c.log.Error().Msg("cannot persist terms to node.data_dir; releasing all services until writes succeed")
}

// canSave ends what cannotSave began.
func (p *participation) canSave() {
	if p.diskFailed {
		p.diskFailed = false
		p.resume()
		p.c.log.Info().Msg("terms persisted again; participating")
	}
}

func (p *participation) reached(yes bool) {
	switch {
	case p.unreachable != yes || p.c.left.Load(): // nothing new
	case yes:
		p.unreachable = false
		p.resume()
		p.c.log.Info().Msg("reachable from other nodes again; participating")
	default:
		p.unreachable = true
		p.release()
		p.c.log.Error().Msg("unreachable from other nodes; releasing all services until they can call this one")
	}
}

func (p *participation) release() {
	p.state = member.Waiting
	p.c.members.Update(func(m *member.Meta) { m.State, m.Features = member.Waiting, m.Features|member.FeatureUnfit })
}

func (p *participation) resume() {
	if p.fit() {
		p.c.members.Update(func(m *member.Meta) { m.Features &^= member.FeatureUnfit })
	}
}
