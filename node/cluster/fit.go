package cluster

import "github.com/effiscale/effiscale/node/cluster/member"

// fit reports whether the node can plan for what it would own.
func (s *standing) fit() bool { return !s.unfit && !s.unreached }

// unfit gives up what a node without a disk cannot own: a term that is forgotten by
// a crash could be taken twice.
func (c *Cluster) unfit() {
	if c.state.unfit || c.left.Load() {
		return
	}
	c.state.unfit = true
	c.giveUp()
	c.log.Error().Msg("terms cannot be written down: this node owns nothing until its disk (node.data_dir) takes something again")
}

// writes ends what unfit began.
func (c *Cluster) writes() {
	if c.state.unfit {
		c.state.unfit = false
		c.recover()
		c.log.Info().Msg("terms can be written down again: this node takes its part as before")
	}
}

// Reached says whether other members can call this node. One that they cannot call gets
// no reports, so it gives up what it owns, for as long.
func (c *Cluster) Reached(yes bool) {
	c.back(func() {
		switch s := &c.state; {
		case s.unreached != yes || c.left.Load(): // nothing new
		case yes:
			s.unreached = false
			c.recover()
			c.log.Info().Msg("other nodes can call this one again: it takes its part as before")
		default:
			s.unreached = true
			c.giveUp()
			c.log.Error().Msg("other nodes cannot call this one: it owns nothing until they can")
		}
	})
}

func (c *Cluster) giveUp() {
	c.state.state = member.Waiting
	c.members.Update(func(m *member.Meta) { m.State, m.Features = member.Waiting, m.Features|member.FeatureUnfit })
}

func (c *Cluster) recover() {
	if c.state.fit() {
		c.members.Update(func(m *member.Meta) { m.Features &^= member.FeatureUnfit })
	}
}
