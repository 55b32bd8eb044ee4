package mape

import (
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// Row 139: an end within 30 s of a signal that somebody sent is no end by itself, also without a
// later event that it was stopped (docker kill); a crash loop ends after a minute without an end.
func TestEndings(t *testing.T) {
	for name, c := range map[string]struct {
		after time.Duration // from the signal to the end; 0: there was no signal
		own   bool
	}{"no signal": {0, true}, "docker kill": {time.Second, false}, "long after a signal": {time.Minute, true}} {
		ended := &container{}
		ended.State, ended.ExitCode = knowledge.StateExited, 1
		if c.after > 0 {
			ended.endings.asked = begin.Add(-c.after)
		}
		ended.endings.died(begin)
		if got := ended.ending(begin).ByItself; got != c.own {
			t.Errorf("%s: ended by itself: %t", name, got)
		}
	}
	loops := &container{}
	loops.State = knowledge.StateRunning
	for i := range 3 {
		loops.endings.died(begin.Add(time.Duration(i) * time.Second))
	}
	if e := loops.ending(begin.Add(3 * time.Second)); e.Loop != 3 {
		t.Errorf("%+v", e)
	}
	if e := loops.ending(begin.Add(loopOver + 3*time.Second)); e.Loop != 0 {
		t.Errorf("a minute later: %+v", e)
	}
}
