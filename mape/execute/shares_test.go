package execute

import (
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// cpu = weight: a share moves by a fifth at least, each half minute at most, and
// not at all where nothing may be changed.
func TestWeigh(t *testing.T) {
	w := newWorld(t)
	if w.exec.SetShares(w.now, w.s, 1100) {
		t.Error("a tenth is not worth a call")
	}
	if !w.exec.SetShares(w.now, w.s, 2048) {
		t.Fatal("refused")
	}
	w.settle()
	if w.kernel.Shares != 2048 || w.s.Marks.Engine.Shares != 2048 {
		t.Fatalf("kernel %d, marks %d", w.kernel.Shares, w.s.Marks.Engine.Shares)
	}
	w.pass(29 * time.Second)
	if w.exec.SetShares(w.now, w.s, 512) {
		t.Error("too soon")
	}
	w.pass(time.Second)
	for name, set := range map[string]func(*Executor, *Container){
		"original": func(_ *Executor, c *Container) { c.OriginalKept = false },
		"paused":   func(_ *Executor, c *Container) { c.Pause = &knowledge.Pause{On: true} },
		"external": func(_ *Executor, c *Container) { c.Marks.ExternalUntil = w.now.Add(time.Second) },
		"pinned":   func(_ *Executor, c *Container) { c.Marks.Pinned = true },
		"observe":  func(_ *Executor, c *Container) { c.Policy.Mode = knowledge.ModeObserve },
		"safe":     func(e *Executor, _ *Container) { e.Host.Crashes = 3 },
		"late":     func(e *Executor, _ *Container) { e.Host.Late = time.Second },
		"down":     func(e *Executor, _ *Container) { e.Host.EngineDown = w.now },
	} {
		c, host := *w.s, w.exec.Host
		set(w.exec, &c)
		if w.exec.SetShares(w.now, &c, 512) {
			t.Errorf("%s: weighed", name)
		}
		w.exec.Host = host
	}
	w.fail = errSick
	w.exec.SetShares(w.now, w.s, 512)
	w.settle()
	if w.s.LastError == "" || w.s.Marks.Engine.Shares != 2048 || w.s.InFlight || w.s.engine.busy {
		t.Errorf("after a failure: %q, %d", w.s.LastError, w.s.Marks.Engine.Shares)
	}
}

// A restore keeps the shares that a person set, and takes back the daemon's own, also one whose
// answer was lost.
func TestRestoreOfShares(t *testing.T) {
	for name, c := range map[string]struct {
		person, own int64
		lost        bool
		want        int64
	}{
		"a person's":        {person: 512, want: 512},
		"the daemon's":      {own: 2048, want: 1024},
		"without an answer": {own: 2048, lost: true, want: 1024},
		"both":              {own: 2048, person: 300, want: 300},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			if c.own != 0 {
				if w.lost = c.lost; c.lost {
					w.fail = errSick
				}
				w.exec.SetShares(w.now, w.s, c.own)
				w.settle()
				w.fail = nil
			}
			if c.person != 0 {
				w.engine.Shares, w.kernel.Shares = c.person, c.person
			}
			w.pass(time.Minute)
			w.exec.Inspect(w.now, w.s)
			w.settle()
			w.exec.RestoreShares(w.now, w.s)
			w.settle()
			if w.engine.Shares != c.want {
				t.Errorf("%d shares, want %d", w.engine.Shares, c.want)
			}
		})
	}
}
