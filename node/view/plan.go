package view

import (
	"slices"
	"strings"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape"
	"github.com/effiscale/effiscale/node/api"
)

// Plan is what the daemon would do now on this host with all containers, or with those
// that name means: a container, a service or the beginning of an id. It sorts units by name; known is false
// where name means none.
func Plan(units []mape.ContainerStatus, name string, now time.Time) (p api.Plan, known bool) {
	p = api.Plan{Schema: api.Schema, At: now.UTC(), Items: []api.PlanItem{}}
	slices.SortFunc(units, byName)
	known = name == ""
	for i := range units {
		if name == "" || named(&units[i].Container.Container, name) {
			p.Items = append(p.Items, planItems(&units[i])...)
			known = true
		}
	}
	for _, item := range p.Items {
		if item.Mark == "~" {
			p.Changes++
		}
	}
	return p, known
}

func named(c *knowledge.Container, name string) bool {
	return c.Name == name || string(c.Service) == name || len(name) >= 12 && strings.HasPrefix(string(c.ID), name)
}

// Decision is the plan for one container in the form of the wire contract.
func Decision(u *mape.ContainerStatus, controllers []string, now time.Time) api.ContainerPlan {
	p := api.ContainerPlan{
		Action: "no_action", Plan: planItems(u), Controllers: controllers, Confidence: confidence(u, now),
		Forecast: nextForecast(u), Pattern: patternOf(u),
	}
	_, p.Reason = State(u, now)
	for _, item := range p.Plan {
		if item.Mark != "~" && item.Mark != "." {
			continue
		}
		if item.To == 0 || (item.From != 0 && item.To > item.From) {
			p.Action, p.Reason = "scale_up", item.Why
			break
		}
		p.Action, p.Reason = "scale_down", item.Why
	}
	return p
}

func planItems(u *mape.ContainerStatus) (out []api.PlanItem) {
	if u.Container.State != knowledge.StateRunning || !u.Measured {
		return nil
	}
	for r := range u.Planned {
		resource := knowledge.Resource(r)
		item := api.PlanItem{Container: u.Container.Name, Service: string(u.Container.Service), Resource: resource.String(), From: u.Limit(resource)}
		w := &u.Planned[r]
		d, would := w.Decision, u.IfManaged[r]
		item.To, item.Why = item.From, d.Reason.String()
		switch {
		case !u.Policy.Acts():
			item.Mark, item.To, item.Why = ".", would.To, would.Reason.String()
			if would.Verb == knowledge.Hold {
				item.Mark, item.To = "=", item.From
			}
		case d.Verb == knowledge.Hold:
			item.Mark = "="
		case w.Admission.Acted || w.Admission.Allowed != d.From:
			item.Mark, item.To = "~", w.Admission.Allowed
		default:
			item.Mark, item.To, item.Guard = "!", d.To, w.Admission.Guard
			item.Why += "; " + w.Admission.Reason.String()
		}
		out = append(out, item)
	}
	return out
}

// confidence is how far the evidence carries: none without a good window, full
// once the service has been watched for an hour.
func confidence(u *mape.ContainerStatus, now time.Time) float64 {
	if u.Finding.Quality != knowledge.QualityGood {
		return 0
	}
	if u.Envelope.Learned && u.Envelope.Reason.Rule != knowledge.RuleImage {
		return 1
	}
	return min(0.5+now.Sub(u.Window.Since).Hours()/2, 1)
}
