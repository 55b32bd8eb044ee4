package execute

import (
	"context"
	"sync"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// Dirty reports whether the kernel holds a quota that the Engine does not know.
func (s *Subject) Dirty() bool { return !s.dirtySince.IsZero() }

// Follow tells the Engine of one quota that the kernel already has: the one that
// waits longest, when it is due, at most one a second for the whole host.
func (e *Executor) Follow(now time.Time, subjects []*Subject) {
	if !e.Host.EngineDown.IsZero() || now.Sub(e.lastLazy) < engineEvery {
		return
	}
	var next *Subject
	for _, s := range subjects {
		if !s.Dirty() || s.InFlight || s.Gone || !s.due(now) {
			continue
		}
		if next == nil || s.dirtySince.Before(next.dirtySince) {
			next = s
		}
	}
	if next == nil {
		return
	}
	e.lastLazy = now
	e.tell(next)
}

// due: quiet for a while, or late.
func (s *Subject) due(now time.Time) bool {
	if now.Before(s.retryAt[knowledge.ResourceCPU]) {
		return false
	}
	moved := s.Marks.LastGrow[knowledge.ResourceCPU]
	if cut := s.Marks.LastShrink[knowledge.ResourceCPU]; cut.After(moved) {
		moved = cut
	}
	return now.Sub(moved) > engineQuiet || now.Sub(s.dirtySince) > engineWithin*3/4
}

// tell sends the quota of the kernel to the Engine. It changes nothing that is in
// force, so it is no action of its own in the journal: the folded record is.
func (e *Executor) tell(s *Subject) {
	l := s.Marks.Engine
	l.CPU, l.Period = s.Marks.Quota, s.Window.Period
	if sameCPU(s.Marks.Engine.CPU, l.CPU) {
		s.dirtySince = time.Time{}
		return
	}
	id, started := s.Container.ID, e.now()
	s.InFlight = e.hands.Do(func(ctx context.Context) func() {
		_, err := e.engine.UpdateCPU(ctx, id, l)
		return func() {
			s.InFlight = false
			s.heard++
			e.readBack(s)
			e.keepQuota(s)
			now := e.now()
			switch {
			case err == nil:
				s.Marks.Engine.CPU, s.Unsaved = l.CPU, true
				if s.Marks.Engine.CPUField == knowledge.CPUFieldNone {
					s.Marks.Engine.CPUField = knowledge.CPUFieldNano
				}
				s.dirtySince = time.Time{}
				if !sameCPU(s.Marks.Quota, l.CPU) { // it moved on meanwhile
					s.dirtySince = now
				}
				s.failures[knowledge.ResourceCPU] = 0
				e.meter.Action("cpu-engine", knowledge.ResultApplied.String(), now.Sub(started))
			case e.engine.Gone(err):
				s.Gone = true
			default:
				e.backOff(now, s, knowledge.ResourceCPU, err)
				e.meter.Action("cpu-engine", knowledge.ResultFailed.String(), now.Sub(started))
				e.log.Warn().Err(err).Str("container", s.Container.Name).Msg("the Engine does not take the quota that the kernel has")
			}
		}
	})
}

// flushers is how many updates run side by side when the daemon ends: the Engine
// takes 16 at once without harm, and four keep its CPU for others.
const flushers = 4

// Flush tells the Engine of every quota that the kernel is ahead with, until ctx
// ends. The loop has stopped: nothing moves any more. It returns how many were
// told and how many were not.
func (e *Executor) Flush(ctx context.Context, subjects []*Subject) (told, left int) {
	for _, s := range subjects {
		if s.probing.on {
			e.endProbe(e.now(), s, "the daemon ends")
		}
		if s.Adopt && !s.Gone && s.Policy.Acts() {
			e.adoptNow(ctx, s)
		}
	}
	work := make(chan *Subject)
	var group sync.WaitGroup
	var mu sync.Mutex // guards told, left
	for range flushers {
		group.Go(func() {
			for s := range work {
				l := s.Marks.Engine
				l.CPU, l.Period = s.Marks.Quota, s.Window.Period
				_, err := e.engine.UpdateCPU(ctx, s.Container.ID, l)
				mu.Lock()
				if err == nil {
					told++
					s.Marks.Engine.CPU, s.dirtySince = l.CPU, time.Time{}
				} else {
					left++
				}
				mu.Unlock()
			}
		})
	}
	for _, s := range subjects {
		if s.Dirty() && !s.Gone && !sameCPU(s.Marks.Engine.CPU, s.Marks.Quota) {
			select {
			case work <- s:
			case <-ctx.Done():
				mu.Lock()
				left++
				mu.Unlock()
			}
		}
	}
	close(work)
	group.Wait()
	return told, left
}

// adoptNow settles a container whose limits an earlier life left, when this one
// ends before it came to that: the next life would not know that it has to.
func (e *Executor) adoptNow(ctx context.Context, s *Subject) {
	if c, err := e.engine.Inspect(ctx, s.Container.ID); err == nil {
		e.met(s, c, s.heard)
	}
}

const (
	// sharesEvery is how seldom a share is changed: it goes through the Engine.
	sharesEvery = 30 * time.Second
	// sharesStep is the least change of a share that is worth a call, as a factor.
	sharesStep = 1.2
)

// Weigh sets a container's CPU share (Docker's scale, 1024 is the default), and
// reports whether it is on its way. It has no hard effect on anybody, so it is not
// journaled; the way back is kept.
func (e *Executor) Weigh(now time.Time, s *Subject, shares int64) bool {
	have := s.Marks.Engine.Shares
	if have == 0 {
		have = 1024
	}
	near := float64(shares) < float64(have)*sharesStep && float64(shares)*sharesStep > float64(have)
	if near || s.InFlight || now.Sub(s.sharesAt) < sharesEvery || !s.OriginalKept || !s.Policy.Acts() || s.Gone ||
		now.Before(s.Marks.ExternalUntil) || s.Marks.Pinned || s.Pause.Active(now) ||
		!e.Host.EngineDown.IsZero() || e.Host.Crashes > 0 || e.Host.Late > 0 {
		return false
	}
	return e.share(now, s, shares)
}

// RestoreShares gives a container back the share that it had.
func (e *Executor) RestoreShares(now time.Time, s *Subject) {
	orDefault := func(shares int64) int64 {
		if shares == 0 {
			return 1024
		}
		return shares
	}
	was := orDefault(s.Original.Shares)
	if !s.OriginalKept || s.Gone || s.InFlight || was == orDefault(s.Marks.Engine.Shares) {
		return
	}
	e.share(now, s, was)
}

// share tells the Engine a share.
func (e *Executor) share(now time.Time, s *Subject, shares int64) bool {
	s.sharesAt = now
	id := s.Container.ID
	s.InFlight = e.hands.Do(func(ctx context.Context) func() {
		_, err := e.engine.UpdateShares(ctx, id, shares)
		return func() {
			s.InFlight = false
			s.heard++
			e.readBack(s)
			e.keepQuota(s)
			result := knowledge.ResultApplied
			if err != nil {
				s.Gone = s.Gone || e.engine.Gone(err)
				result = knowledge.ResultFailed
				s.LastError, s.LastErrorAt = err.Error(), e.now()
			} else {
				s.Marks.Engine.Shares = shares
			}
			e.meter.Action("shares", result.String(), 0)
			e.log.Info().Str("container", s.Container.Name).Int64("shares", shares).Stringer("result", result).
				Str("why", knowledge.Because(knowledge.RuleWeight, s.Window.Usage.Cores(), float64(shares)).String()).Msg("weigh")
		}
	})
	return s.InFlight
}
