package view

import (
	"testing"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape"
	"github.com/effiscale/effiscale/mape/execute"
)

// Row 122: a plan has no change from a value to one that is printed alike.
func TestPlanOfWhatRoundsToTheSame(t *testing.T) {
	for _, c := range []struct {
		to   knowledge.NanoCPU
		mark string
	}{{core/3 + core/1000, "="}, {core / 3, "="}, {core / 2, "~"}} {
		u := steady("web")
		u.Window.Quota = core / 3
		u.Planned[0] = mape.Planned{
			Decision: knowledge.Decision{Verb: knowledge.Grow, From: int64(core / 4), To: int64(c.to),
				Reason: knowledge.Because(knowledge.RuleThrottled, 0.5, 0.1, 0.25)},
			Admission: execute.Admission{Allowed: int64(c.to), Acted: true},
		}
		p, _ := Plan([]mape.ContainerStatus{*u}, "", now)
		if got := p.Items[0]; got.Mark != c.mark || (p.Changes > 0) != (c.mark == "~") {
			t.Errorf("to %s: %+v, %d changes", c.to, got, p.Changes)
		}
	}
}
