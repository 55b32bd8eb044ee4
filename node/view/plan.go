package view

import (
	"slices"
	"strings"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape"
	"github.com/effiscale/effiscale/node/api"
)

// Plan is what the daemon would do now on this host, with all containers or with those of
// a name: of a container, of a service, or the beginning of an id. It sorts containers by
// name; known is false where none has the name.
func Plan(containers []mape.ContainerStatus, name string, now time.Time) (p api.Plan, known bool) {
	p = api.Plan{Schema: api.Schema, At: now.UTC(), Items: []api.PlanItem{}}
	slices.SortFunc(containers, byName)
	known = name == ""
	for i := range containers {
		if name == "" || named(&containers[i].Container.Container, name) {
			p.Items = append(p.Items, planItems(&containers[i])...)
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
func Decision(c *mape.ContainerStatus, cpus int, controllers []string, now time.Time) api.ContainerPlan {
	p := api.ContainerPlan{
		Action: "no_action", Plan: planItems(c), Controllers: controllers, Confidence: confidence(c, now),
		Forecast: nextForecast(c, float64(cpus)), Pattern: patternOf(c),
	}
	_, p.Reason = State(c, now)
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

func planItems(c *mape.ContainerStatus) (out []api.PlanItem) {
	if c.Container.State != knowledge.StateRunning || !c.Measured {
		return nil
	}
	for r := range c.Planned {
		resource := knowledge.Resource(r)
		item := api.PlanItem{
			Container: c.Container.Name, Service: string(c.Container.Service),
			Resource: resource.String(), From: c.Limit(resource),
		}
		w := &c.Planned[r]
		d, would := w.Decision, c.IfManaged[r]
		item.To, item.Why = item.From, d.Reason.String()
		switch {
		case !c.Policy.Acts():
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
		if resource.Same(item.From, item.To) && item.Mark != "!" {
			item.Mark, item.To = "=", item.From
		}
		out = append(out, item)
	}
	return out
}

// confidence is 0 without a good window, and 1 for a service observed for an hour.
func confidence(c *mape.ContainerStatus, now time.Time) float64 {
	if c.Finding.Quality != knowledge.QualityGood {
		return 0
	}
	if c.Envelope.Learned && c.Envelope.Reason.Rule != knowledge.RuleImage {
		return 1
	}
	return min(0.5+now.Sub(c.Window.Since).Hours()/2, 1)
}
