package execute

import (
	"context"
	"iter"
	"sync"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// Dirty reports whether the kernel has a quota that the Engine does not have.
func (c *Container) Dirty() bool { return !c.sync.dirtySince.IsZero() }

// SyncEngine sends the Engine one quota that the kernel already has: the one that
// waits longest, when it is due. It looks for one once a second.
func (e *Executor) SyncEngine(now time.Time, containers iter.Seq[*Container]) {
	if !e.Host.EngineDown.IsZero() || now.Sub(e.syncedAt) < engineEvery {
		return
	}
	e.syncedAt = now
	var next *Container
	for c := range containers {
		if !c.Dirty() || c.InFlight || c.Gone || !c.due(now) {
			continue
		}
		if next == nil || c.sync.dirtySince.Before(next.sync.dirtySince) {
			next = c
		}
	}
	if next != nil {
		e.sendQuota(next)
	}
}

// due: quiet for a while, or late.
func (c *Container) due(now time.Time) bool {
	if now.Before(c.retry[knowledge.ResourceCPU].at) {
		return false
	}
	moved := c.Marks.LastGrow[knowledge.ResourceCPU]
	if cut := c.Marks.LastShrink[knowledge.ResourceCPU]; cut.After(moved) {
		moved = cut
	}
	return now.Sub(moved) > engineQuiet || now.Sub(c.sync.dirtySince) > engineWithin*3/4
}

// sendQuota sends the quota of the kernel to the Engine. It changes nothing that is in
// force, so it is no action of its own in the journal: TakeQuotaMoves has the record.
func (e *Executor) sendQuota(c *Container) {
	l := c.Marks.Engine
	l.CPU, l.Period = c.Marks.Quota, c.Window.Period
	if sameCPU(c.Marks.Engine.CPU, l.CPU) {
		c.sync.dirtySince = time.Time{}
		return
	}
	id, started := c.ID, e.now()
	c.InFlight = e.workers.Do(func(ctx context.Context) func() {
		err := e.engine.UpdateCPU(ctx, id, l)
		return func() {
			c.InFlight = false
			c.seen.updates++
			e.readBack(c)
			e.rewriteQuota(c)
			now := e.now()
			switch {
			case err == nil:
				c.Marks.Engine.CPU, c.Unsaved = l.CPU, true
				c.sync.dirtySince = time.Time{}
				if !sameCPU(c.Marks.Quota, l.CPU) { // it changed meanwhile
					c.sync.dirtySince = now
				}
				c.retry[knowledge.ResourceCPU].failures = 0
				e.meter.Action("cpu-engine", knowledge.ResultApplied.String(), now.Sub(started))
			case e.engine.Gone(err):
				c.Gone = true
			default:
				c.backOff(now, knowledge.ResourceCPU, err)
				e.meter.Action("cpu-engine", knowledge.ResultFailed.String(), now.Sub(started))
				e.log.Warn().Err(err).Str("container", c.Name).Msg("cannot update the quota in the Engine")
			}
		}
	})
}

// flushWorkers is how many updates run side by side when the daemon ends: the Engine
// takes 16 at once without harm, and four keep its CPU for others.
const flushWorkers = 4

// Flush sends the Engine every quota that only the kernel has, until ctx ends. The loop
// has stopped: nothing changes any more. It returns how many were sent and how many were
// not.
func (e *Executor) Flush(ctx context.Context, containers iter.Seq[*Container]) (sent, left int) {
	for c := range containers {
		if c.cut.on {
			e.cancelCut(e.now(), c, "the daemon stops")
		}
		if c.Adopt && !c.Gone && c.Policy.Acts() {
			// The next start would not know that it has to compare these limits.
			if info, err := e.engine.Inspect(ctx, c.ID); err == nil {
				e.inspected(c, info, c.seen.updates)
			}
		}
	}
	work := make(chan *Container)
	var group sync.WaitGroup
	var mu sync.Mutex // guards sent, left
	for range flushWorkers {
		group.Go(func() {
			for c := range work {
				l := c.Marks.Engine
				l.CPU, l.Period = c.Marks.Quota, c.Window.Period
				err := e.engine.UpdateCPU(ctx, c.ID, l)
				mu.Lock()
				if err == nil {
					sent++
					c.Marks.Engine.CPU, c.sync.dirtySince = l.CPU, time.Time{}
				} else {
					left++
				}
				mu.Unlock()
			}
		})
	}
	for c := range containers {
		if c.Dirty() && !c.Gone && !sameCPU(c.Marks.Engine.CPU, c.Marks.Quota) {
			select {
			case work <- c:
			case <-ctx.Done():
				mu.Lock()
				left++
				mu.Unlock()
			}
		}
	}
	close(work)
	group.Wait()
	return sent, left
}

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
	if near || c.InFlight || now.Sub(c.sync.sharesAt) < sharesEvery || !c.OriginalKept || !c.Policy.Acts() || c.Gone ||
		now.Before(c.Marks.ExternalUntil) || c.Marks.Pinned || c.Pause.Active(now) ||
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
	if !c.OriginalKept || c.Gone || c.InFlight || was == orDefault(c.Marks.Engine.Shares) {
		return
	}
	e.updateShares(now, c, was)
}

// updateShares sends shares to the Engine.
func (e *Executor) updateShares(now time.Time, c *Container, shares int64) bool {
	c.sync.sharesAt = now
	id := c.ID
	c.InFlight = e.workers.Do(func(ctx context.Context) func() {
		err := e.engine.UpdateShares(ctx, id, shares)
		return func() {
			c.InFlight = false
			c.seen.updates++
			e.readBack(c)
			e.rewriteQuota(c)
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
	return c.InFlight
}
