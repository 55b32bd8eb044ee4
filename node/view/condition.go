package view

import (
	"strings"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape"
	"github.com/effiscale/effiscale/node/api"
)

// conditions are statements about a container, in the form of Kubernetes conditions.
func conditions(c *mape.ContainerStatus, source string, now time.Time) []api.Condition {
	fresh := c.Finding.Quality == knowledge.QualityGood
	if c.Statistics && !strings.HasPrefix(source, "engine stats") { // else it has the cause
		source = "engine stats: " + hiddenGroup
	}
	freshWhy := "last sample " + now.Sub(c.Window.At).Round(100*time.Millisecond).String() + " ago, " + source
	if !fresh {
		freshWhy = c.Finding.Reason.String()
	}
	if !c.Measured {
		freshWhy = c.AttachError
	}
	managed, managedWhy := "LabelEnabled", "effiscale.enable=true, mode "+c.Policy.Mode.String()
	if !c.Policy.Managed {
		managed, managedWhy = "NotManaged", "did not opt in (effiscale.enable=true)"
	}
	if len(c.Policy.Problems) > 0 {
		managed, managedWhy = "BadLabel", "a label is invalid: nothing is changed until it is corrected"
	}
	if c.Policy.Claimed != "" {
		managed, managedWhy = "OtherDaemon", claimedText(c)
	}
	valid, validWhy := "Ok", "all labels are valid"
	if len(c.Policy.Problems) > 0 {
		valid, validWhy = "BadLabel", c.Policy.Problems[0]
	}
	limit, why, limited := limitation(c)
	hold, held := c.Marks.Held(now)
	external := held && hold.Rule != knowledge.RuleHeld
	out := []api.Condition{
		{Type: "Managed", Status: c.Policy.Acts(), Since: c.Marks.Since.UTC(), Reason: managed, Message: managedWhy},
		{Type: "ConfigValid", Status: len(c.Policy.Problems) == 0, Reason: valid, Message: validWhy},
		{
			Type: "MetricsFresh", Status: fresh && c.Measured, Since: c.Window.Since.UTC(),
			Reason: camel(c.Finding.Quality.String()), Message: freshWhy,
		},
		{Type: "ScalingLimited", Status: limited, Since: limit.UTC(), Reason: camel(string(why.Rule)), Message: why.String()},
		{Type: "ExternalOverride", Status: external, Reason: "SomebodyElse", Message: hold.String()},
	}
	if !limited {
		out[3].Reason, out[3].Message = "Ok", "no guard and no bound changes the planned limits"
	}
	switch {
	case !held:
		out[4].Reason, out[4].Message = "Ok", "no recent external change of the limits"
	case !external:
		out[4].Reason = "Requested"
	}
	return out
}

func claimedText(c *mape.ContainerStatus) string {
	return "another EffiScale daemon on this host changes its limits: " + c.Policy.Claimed
}

// limitation is the reason for which a managed container does not get the planned limits.
func limitation(c *mape.ContainerStatus) (since time.Time, why knowledge.Reason, limited bool) {
	if !c.Policy.Acts() {
		return since, why, false
	}
	for r := range c.Planned {
		w := &c.Planned[r]
		if w.Admission.Guard != "" && w.Decision.Verb != knowledge.Hold {
			return w.Since, w.Admission.Reason, true
		}
		if by, setting := limitedBy(w, knowledge.Resource(r)); setting != "" {
			return w.Since, by, true
		}
	}
	return since, why, false
}

// camel writes "at-max" as "AtMax".
func camel(s string) string {
	var b strings.Builder
	for word := range strings.SplitSeq(s, "-") {
		if word != "" {
			b.WriteString(strings.ToUpper(word[:1]) + word[1:])
		}
	}
	return b.String()
}
