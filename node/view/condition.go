package view

import (
	"strings"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape"
	"github.com/effiscale/effiscale/node/api"
)

// conditions are the statements that kubectl would print.
func conditions(u *mape.ContainerStatus, source string, now time.Time) []api.Condition {
	fresh := u.Finding.Quality == knowledge.QualityGood
	freshWhy := "last sample " + now.Sub(u.Window.At).Round(100*time.Millisecond).String() + " ago, " + source
	if !fresh {
		freshWhy = u.Finding.Reason.String()
	}
	if !u.Measured {
		freshWhy = u.AttachError
	}
	managed, managedWhy := "LabelEnabled", "effiscale.enable=true, mode "+u.Policy.Mode.String()
	if !u.Policy.Managed {
		managed, managedWhy = "NotManaged", "did not opt in (effiscale.enable=true)"
	}
	if len(u.Policy.Problems) > 0 {
		managed, managedWhy = "BadLabel", "a label cannot be read: nothing is changed until it can"
	}
	valid, validWhy := "Ok", "all labels are understood"
	if len(u.Policy.Problems) > 0 {
		valid, validWhy = "BadLabel", u.Policy.Problems[0]
	}
	limit, why, limited := limitation(u)
	external := u.Marks.Pinned || now.Before(u.Marks.ExternalUntil)
	out := []api.Condition{
		{Type: "Managed", Status: u.Policy.Acts(), Since: u.Marks.Since.UTC(), Reason: managed, Message: managedWhy},
		{Type: "ConfigValid", Status: len(u.Policy.Problems) == 0, Reason: valid, Message: validWhy},
		{Type: "MetricsFresh", Status: fresh && u.Measured, Since: u.Window.Since.UTC(), Reason: camel(u.Finding.Quality.String()), Message: freshWhy},
		{Type: "ScalingLimited", Status: limited, Since: limit.UTC(), Reason: camel(string(why.Rule)), Message: why.String()},
		{Type: "ExternalOverride", Status: external, Reason: "SomebodyElse", Message: externalText(u, now)},
	}
	if !limited {
		out[3].Reason, out[3].Message = "Ok", "nothing stands in the way of what is wanted"
	}
	if !external {
		out[4].Reason = "Ok"
	}
	return out
}

// limitation is what keeps a container that is acted upon from what it wants.
func limitation(u *mape.ContainerStatus) (since time.Time, why knowledge.Reason, limited bool) {
	if !u.Policy.Acts() {
		return since, why, false
	}
	for r := range u.Planned {
		w := &u.Planned[r]
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

func externalText(u *mape.ContainerStatus, now time.Time) string {
	switch {
	case u.Marks.Pinned:
		return knowledge.Because(knowledge.RulePinned).String()
	case now.Before(u.Marks.ExternalUntil):
		return knowledge.Because(knowledge.RuleExternal, u.Marks.ExternalUntil.Sub(now).Seconds()).String()
	}
	return "nobody else has changed its limits of late"
}
