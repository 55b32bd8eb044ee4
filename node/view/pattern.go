package view

import (
	"fmt"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape"
	"github.com/effiscale/effiscale/mape/analyse"
	"github.com/effiscale/effiscale/node/api"
)

func pattern(p *analyse.Pattern) api.Pattern {
	return api.Pattern{
		Kind: p.Kind.String(), Confidence: p.Confidence, Period: p.Period.Seconds(), Why: p.Evidence.String(),
	}
}

// patternOf is a leak of memory, else the pattern of demand; nil: unknown.
func patternOf(c *mape.ContainerStatus) *api.Pattern {
	p := c.Pattern
	if c.MemoryPattern.Kind == analyse.PatternLeak {
		p = c.MemoryPattern
	}
	if p.Kind == analyse.PatternUnknown {
		return nil
	}
	v := pattern(&p)
	return &v
}

// patterns are those of demand and of memory; steady memory is left out.
func patterns(c *mape.ContainerStatus) (out []api.Pattern) {
	if c.Pattern.Kind != analyse.PatternUnknown {
		out = append(out, pattern(&c.Pattern))
	}
	if m := &c.MemoryPattern; m.Kind == analyse.PatternLeak || m.Kind == analyse.PatternRamp {
		out = append(out, pattern(m))
	}
	return out
}

// adaptive are the learned thresholds, with the observations that changed them, and their
// effect on the limit, or the reason why they have none yet.
func adaptive(c *mape.ContainerStatus) []api.Threshold {
	if !c.HasAdaptive {
		return nil
	}
	t, e := &c.Adaptive, &c.Envelope
	steers := e.Threshold.Rule == knowledge.RuleTriggerUp
	out := []api.Threshold{
		{
			Name: "cpu use over limit, where it starts to hurt", Value: t.Knee, Unit: "ratio",
			Source: "learned", Why: t.Reason.String(), Steers: &steers,
		},
		{
			Name: "expected use over limit, where growth begins", Value: t.Up, Unit: "ratio",
			Source: "forecast", Why: c.Threshold.String(), Steers: &steers,
		},
		{
			Name: "use over limit that a cut may lead to", Value: t.Low, Unit: "ratio", Source: "learned",
			Steers: &steers,
		},
	}
	for i, change := range t.Changes {
		if change.At.IsZero() {
			continue
		}
		out[0].Changes = append(out[0].Changes, api.ThresholdChange{
			At: change.At.UTC(), Was: change.Was, Now: change.Now,
			Use: change.Moved.Utilisation, Seconds: change.Moved.Seconds, Harm: change.Moved.Harm,
		})
		if i > 0 { // the newest is the reason
			out[0].Why += fmt.Sprintf("; before that, %s: from %.0f%% to %.0f%%: throttled in %.0f%% of the time at %.0f%%",
				change.At.UTC().Format("2006-01-02 15:04 UTC"), 100*change.Was, 100*change.Now,
				100*change.Moved.Harm, 100*change.Moved.Utilisation)
		}
	}
	if steers {
		out = append(out,
			api.Threshold{
				Name: "cpu floor of the learned threshold", Value: e.ThresholdCPU.Cores(), Unit: "cores",
				Source: "learned", Steers: &steers,
			},
			api.Threshold{
				Name: "cpu limit that a cut must leave for it", Value: e.CutCPU.Cores(), Unit: "cores",
				Source: "learned", Steers: &steers,
			})
	}
	return out
}

// leak is the problem of memory that only grows; "": there is none.
func leak(c *mape.ContainerStatus) string {
	if c.MemoryPattern.Kind != analyse.PatternLeak {
		return ""
	}
	return fmt.Sprintf("%s: %s (effiscale.memory bounds it)", c.Container.Name, c.MemoryPattern.Evidence)
}
