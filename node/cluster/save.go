package cluster

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/effiscale/effiscale/node/cluster/member"
)

const (
	// saveEvery bounds how often membership is written, and how often an unfit node
	// tries its disk.
	saveEvery = 10 * time.Second
	// seenMost is how many nodes are written down: a life begins with no more. With
	// 8192 stable members it is 0.9 MiB at most, below what the store takes.
	seenMost = 1024
	// toldAgain is how often a disk that does not take the membership is told of.
	toldAgain = 10 * time.Minute
)

// membership is what the next life is to know.
func (c *Cluster) membership() Membership {
	m := Membership{Self: c.self, Seen: worth(c.members.Seen())}
	m.Stable, m.Ballot = c.state.ballot.list, c.state.ballot.Ballot
	m.Tried = slices.Clone(m.Tried)
	return m
}

// worth are the nodes that are worth remembering, by id: who was alive last, which the
// living ones are.
func worth(all []member.Seen) []member.Seen {
	if len(all) <= seenMost {
		return all
	}
	slices.SortFunc(all, func(a, b member.Seen) int { return cmp.Or(b.LastSeen.Compare(a.LastSeen), cmp.Compare(a.ID, b.ID)) })
	all = all[:seenMost]
	slices.SortFunc(all, func(a, b member.Seen) int { return cmp.Compare(a.ID, b.ID) })
	return all
}

func (m Membership) same(o Membership) bool {
	return m.Self == o.Self && m.Ballot.same(o.Ballot) && slices.Equal(m.Stable, o.Stable) && sameSeen(m.Seen, o.Seen)
}

// sameSeen compares who and where, not when.
func sameSeen(a, b []member.Seen) bool {
	return slices.EqualFunc(a, b, func(x, y member.Seen) bool { return x.ID == y.ID && x.Addr == y.Addr && x.Started == y.Started })
}

// saveIfDue writes membership down where it changed, beside the goroutine: a disk that
// takes seconds must not look like a node that was frozen. An unfit node tries whether
// terms can be written again.
func (c *Cluster) saveIfDue(now time.Time) {
	if c.saving || now.Sub(c.savedAt) < saveEvery {
		return
	}
	c.savedAt = now
	m, unfit := c.membership(), c.state.unfit
	changed := !m.same(c.saved) || c.state.ballot.mute
	if !changed && !unfit {
		return
	}
	c.saving = true
	c.job(func(ctx context.Context) {
		var err, termErr error
		if changed {
			err = c.write(ctx, m)
		}
		if unfit {
			termErr = c.terms.Try()
		}
		c.back(func() {
			c.saving = false
			if changed {
				c.wrote(m, err)
			}
			if unfit && termErr == nil {
				c.writes()
			}
		})
	})
}

// saveLast writes down what this life saw last; the channel is closed when that is done.
func (c *Cluster) saveLast() <-chan struct{} {
	done := make(chan struct{})
	m := c.membership()
	if !c.saving && m.same(c.saved) {
		close(done)
		return done
	}
	c.job(func(ctx context.Context) {
		defer close(done)
		if err := c.write(ctx, m); err != nil {
			c.log.Warn().Err(err).Msg("the membership is not written down: the next start begins with an older one")
		}
	})
	return done
}

// write is one write at a time, the last one last.
func (c *Cluster) write(ctx context.Context, m Membership) error {
	select {
	case c.writing <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-c.writing }()
	if m.same(c.onDisk) { // the write before was of the same
		return nil
	}
	err := c.o.Keeper.SaveMembers(m)
	if err == nil {
		c.onDisk = m
	}
	return err
}

func (c *Cluster) wrote(m Membership, err error) {
	c.state.ballot.mute = err != nil
	if err == nil {
		c.saved, c.toldDisk = m, time.Time{}
		c.state.ballot.written = max(c.state.ballot.written, m.newest())
		c.tellViews()
		return
	}
	if now := c.o.Now(); c.toldDisk.IsZero() || now.Sub(c.toldDisk) >= toldAgain {
		c.toldDisk = now
		c.log.Warn().Err(err).Int("members", len(m.Seen)).Msg("the membership is kept in memory only: after a restart this node begins with an older one")
	}
}
