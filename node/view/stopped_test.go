package view

import (
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape"
)

// TestStoppedState: what cannot run is shown as such, whatever is planned (row 125).
func TestStoppedState(t *testing.T) {
	for _, cause := range []knowledge.StopCause{knowledge.StopPaused, knowledge.StopFrozen, knowledge.StopOOM} {
		c := &mape.ContainerStatus{}
		c.Container.State = knowledge.StateRunning
		c.Measured, c.Policy.Managed, c.Policy.Mode = true, true, knowledge.ModeAuto
		c.Window = &knowledge.Window{}
		c.Window.Stopped = cause
		if word, why := State(c, time.Now()); word != cause.String() || why == "" {
			t.Errorf("%s is shown as %s: %s", cause, word, why)
		}
	}
}
