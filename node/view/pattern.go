package view

import (
	"fmt"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape"
	"github.com/effiscale/effiscale/mape/analyse"
	"github.com/effiscale/effiscale/node/api"
)

func pattern(p *analyse.Pattern) api.Pattern {
	return api.Pattern{Kind: p.Kind.String(), Confidence: p.Confidence, Period: p.Period.Seconds(), Why: p.Evidence.String()}
}

// patternOf is a leak where there is one, else the course of demand; nil: not known.
func patternOf(u *mape.ContainerStatus) *api.Pattern {
	p := u.Pattern
	if u.MemoryPattern.Kind == analyse.PatternLeak {
		p = u.MemoryPattern
	}
	if p.Kind == analyse.PatternUnknown {
		return nil
	}
	v := pattern(&p)
	return &v
}

// patterns are those of demand and of memory; that memory is steady is no news.
func patterns(u *mape.ContainerStatus) (out []api.Pattern) {
	if u.Pattern.Kind != analyse.PatternUnknown {
		out = append(out, pattern(&u.Pattern))
	}
	if m := &u.MemoryPattern; m.Kind == analyse.PatternLeak || m.Kind == analyse.PatternRamp {
		out = append(out, pattern(m))
	}
	return out
}

// adaptive are the thresholds that were learned, with what moved them, and what they
// do to the limit or why they do nothing yet.
func adaptive(u *mape.ContainerStatus) []api.Threshold {
	if !u.HasAdaptive {
		return nil
	}
	t, e := &u.Adaptive, &u.Envelope
	steers := e.Threshold.Rule == knowledge.RuleTriggerUp
	out := []api.Threshold{
		{Name: "cpu use over limit, where it starts to hurt", Value: t.Knee, Unit: "ratio", Source: "learned", Why: t.Reason.String(), Steers: &steers},
		{Name: "expected use over limit, where growth begins", Value: t.Up, Unit: "ratio", Source: "forecast", Why: u.Threshold.String(), Steers: &steers},
		{Name: "use over limit that a cut may lead to", Value: t.Low, Unit: "ratio", Source: "learned", Steers: &steers},
	}
	for i, c := range t.Changes {
		if c.At.IsZero() {
			continue
		}
		out[0].Changes = append(out[0].Changes, api.ThresholdChange{
			At: c.At.UTC(), Was: c.Was, Now: c.Now, Use: c.Moved.Utilisation, Seconds: c.Moved.Seconds, Harm: c.Moved.Harm,
		})
		if i > 0 { // the newest is the reason
			out[0].Why += fmt.Sprintf("; before that, %s: from %.0f%% to %.0f%%, as %.0f%% of the time at %.0f%% was held back",
				c.At.UTC().Format("2006-01-02 15:04 UTC"), 100*c.Was, 100*c.Now, 100*c.Moved.Harm, 100*c.Moved.Utilisation)
		}
	}
	if steers {
		out = append(out,
			api.Threshold{Name: "cpu floor of the learned threshold", Value: e.ThresholdCPU.Cores(), Unit: "cores", Source: "learned", Steers: &steers},
			api.Threshold{Name: "cpu limit that a cut must leave for it", Value: e.CutCPU.Cores(), Unit: "cores", Source: "learned", Steers: &steers})
	}
	return out
}

// leak is the line about memory that only grows; "": none.
func leak(u *mape.ContainerStatus) string {
	if u.MemoryPattern.Kind != analyse.PatternLeak {
		return ""
	}
	return fmt.Sprintf("%s: %s (effiscale.memory is its ceiling)", u.Container.Name, u.MemoryPattern.Evidence)
}
