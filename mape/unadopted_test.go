package mape

import (
	"testing"

	"github.com/effiscale/effiscale/knowledge"
)

// TestAShortRunDoesNotHideACrash: what a crashed daemon left is looked at by the first
// one that lasts, also where one that was too short for it ended in order between.
func TestAShortRunDoesNotHideACrash(t *testing.T) {
	h := newHost(t, options{restored: Restored{Unclean: true}})
	h.run("web", knowledge.Limits{CPU: core / 2, Memory: 64 * mib}, nil)
	h.end()
	if !h.loop.Unadopted() {
		t.Error("a run without a single tick has compared everything")
	}
	h.boot(options{restored: Restored{Unclean: true}})
	for range 50 {
		h.tick()
	}
	h.end()
	if h.loop.Unadopted() {
		t.Errorf("after %v there is still something to look at", 50*tickEvery)
	}
	h.boot(options{})
	h.end()
	if h.loop.Unadopted() {
		t.Error("after an orderly end there is something to look at")
	}
}
