package execute

import (
	"context"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

const (
	// sharesEvery is the least time between two changes of shares, which go through the
	// Engine.
	sharesEvery = 30 * time.Second
	// sharesStep is the least change of shares that is worth a call, as a factor.
	sharesStep = 1.2
)

// SetShares sets a container's CPU shares (1024 is Docker's default), and reports whether
// the update is in progress. Shares are no hard limit, so they are not in the journal; the
// original is kept.
func (e *Executor) SetShares(now time.Time, c *Container, shares int64) bool {
	have := c.Marks.Engine.Shares
	if have == 0 {
		have = 1024
	}
	near := float64(shares) < float64(have)*sharesStep && float64(shares)*sharesStep > float64(have)
	if near || c.InFlight || c.engine.busy || now.Sub(c.engine.sharesAt) < sharesEvery || !c.OriginalKept ||
		!c.Policy.Acts() || c.Gone || now.Before(c.Marks.ExternalUntil) || c.Marks.Pinned || c.Pause.Active(now) ||
		!e.Host.EngineDown.IsZero() || e.Host.Crashes > 0 || e.Host.Late > 0 {
		return false
	}
	return e.updateShares(now, c, shares)
}

// RestoreShares sets the original CPU shares.
func (e *Executor) RestoreShares(now time.Time, c *Container) {
	orDefault := func(shares int64) int64 {
		if shares == 0 {
			return 1024
		}
		return shares
	}
	was := orDefault(c.Original.Shares)
	if !c.OriginalKept || c.Gone || c.InFlight || c.engine.busy || was == orDefault(c.Marks.Engine.Shares) {
		return
	}
	e.updateShares(now, c, was)
}

// amendShares takes over shares that a person set: a restore keeps them.
func amendShares(now time.Time, e *Executor, c *Container, shares int64) {
	if !c.OriginalKept || shares == c.Marks.Engine.Shares || shares == c.engine.shares {
		return
	}
	c.Original.Shares = shares
	original := knowledge.Original{ID: c.ID, Name: c.Name, Service: c.Service, At: now,
		Limits: c.Original.Limits, Lost: c.Original.Lost}
	e.workers.Do(func(context.Context) func() {
		if err := e.journal.Amend(original); err != nil {
			return func() { e.log.Debug().Err(err).Msg("cannot persist the CPU shares that a person set") }
		}
		return nil
	})
}

// updateShares sends shares to the Engine.
func (e *Executor) updateShares(now time.Time, c *Container, shares int64) bool {
	c.engine.sharesAt, c.engine.shares = now, shares
	id := c.ID
	first := c.cover(knowledge.ResourceCPU, &e.Host, e.writesKernel(c))
	first.note(now, c)
	c.engine.busy = e.workers.Do(func(ctx context.Context) func() {
		err := first.send(ctx, e.engine, id)
		if err == nil {
			err = e.engine.UpdateShares(ctx, id, shares)
		}
		return func() {
			c.engine.busy = false
			c.seen.updates++
			first.sent(e, c)
			e.readBack(c)
			e.reapply(c)
			result := knowledge.ResultApplied
			if err != nil {
				c.Gone = c.Gone || e.engine.Gone(err)
				result = knowledge.ResultFailed
				c.LastError, c.LastErrorAt = err.Error(), e.now()
			} else {
				c.Marks.Engine.Shares = shares
			}
			e.meter.Action("shares", result.String(), 0)
			e.log.Info().Str("container", c.Name).Int64("shares", shares).Stringer("result", result).
				Str("why", knowledge.Because(knowledge.RuleWeight, c.Window.Usage.Cores(),
					float64(shares)).String()).Msg("update shares")
		}
	})
	return c.engine.busy
}
