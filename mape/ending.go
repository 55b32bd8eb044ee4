package mape

import (
	"slices"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

const (
	// endsKept is how long an end counts for a crash loop, and endsMost how many are kept.
	endsKept, endsMost = 5 * time.Minute, 64
	// loopEnds in endsKept are a crash loop, until it ran for loopOver.
	loopEnds, loopOver = 3, time.Minute
	// askedFor is how long after a signal an end counts as the answer to it; the Engine sends
	// another signal when its patience is over.
	askedFor = 30 * time.Second
)

// endings are the ends of one container.
type endings struct {
	asked time.Time   // somebody sent a signal
	own   []time.Time // the newest ends by itself
	byOwn bool        // the newest end was one
	seen  bool        // an end was seen
}

// died notes an end.
func (e *endings) died(now time.Time) {
	e.seen, e.byOwn = true, e.asked.IsZero() || now.Sub(e.asked) > askedFor
	e.own = slices.DeleteFunc(e.own, func(t time.Time) bool { return now.Sub(t) > endsKept })
	if e.byOwn {
		e.own = append(e.own, now)
		e.own = e.own[max(len(e.own)-endsMost, 0):]
	}
}

// stopped notes that somebody stopped the container. The Engine reports that after the end.
func (e *endings) stopped(now time.Time) {
	e.asked = now
	if e.byOwn && len(e.own) > 0 {
		e.byOwn, e.own = false, e.own[:len(e.own)-1]
	}
}

// Ending is how a container ended of late.
type Ending struct {
	Loop     int  // ends by itself within Within, while it is in a crash loop; 0: it is not
	ByItself bool // it does not run, ended with an error, and nobody stopped it
	Within   time.Duration
}

// ending judges the ends of a container.
func (c *container) ending(now time.Time) (e Ending) {
	s := &c.endings
	kept := 0
	for _, t := range s.own {
		if now.Sub(t) <= endsKept {
			kept++
		}
	}
	e.Within = endsKept
	if c.State == knowledge.StateRestarting || kept >= loopEnds && now.Sub(s.own[len(s.own)-1]) < loopOver {
		e.Loop = max(kept, 1)
	}
	if c.State == knowledge.StateExited || c.State == knowledge.StateDead {
		e.ByItself = c.ExitCode != 0 && (s.byOwn || !s.seen && !bySignal(c.ExitCode))
	}
	return e
}

// bySignal reports whether an exit code is that of a process that somebody ended: INT, QUIT,
// KILL, TERM.
func bySignal(code int) bool {
	switch code {
	case 128 + 2, 128 + 3, 128 + 9, 128 + 15:
		return true
	}
	return false
}
