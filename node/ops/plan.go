package ops

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/node/api"
	"github.com/effiscale/effiscale/node/view"
)

// plan shows what the daemons would do now.
type plan struct {
	host  *host
	peers *peers
}

func (o plan) method() method[string, api.Plan] {
	return method[string, api.Plan]{name: "plan", plain: true, maxBody: maxRef, here: o.here}
}

// here is the plan for all containers of this host, or for those that are named: a
// container, or a service.
func (o plan) here(ctx context.Context, _ knowledge.NodeID, name string) (api.Plan, error) {
	units, _, err := o.host.containers(ctx)
	if err != nil {
		return api.Plan{}, err
	}
	if name, err = canonical(units, name); err != nil {
		return api.Plan{}, err
	}
	p, known := view.Plan(units, name, time.Now())
	if !known {
		return p, api.Errorf(api.KindNotFound, "no container or service %q on this host: `effiscale status` lists them", name)
	}
	return p, nil
}

// Plan is the plan of this host, of all hosts, or of those that run what is named.
func (o plan) Plan(ctx context.Context, q api.PlanRequest) (api.Plan, error) {
	at := place{here: true}
	if q.AllHosts {
		at.there = o.peers.live(peersAsked)
	} else if q.Name != "" {
		var err error
		if at, err = o.peers.locate(q.Name); err != nil {
			return api.Plan{}, err
		}
	}
	out := api.Plan{Schema: api.Schema, Items: []api.PlanItem{}}
	if at.here {
		p, err := o.here(ctx, "", at.name)
		if err != nil && at.last(err) {
			return out, err
		}
		if err == nil {
			addPlan(&out, o.host.name, p)
		}
	}
	if at.name == "" && !q.AllHosts {
		return sortPlan(&at, out), nil
	}
	m := o.method()
	m.ask(ctx, o.peers, at.there, at.name)
	for i := range at.there {
		if p, err := m.of(&at.there[i]); err == nil {
			addPlan(&out, nameOr(at.there[i].peer), p)
		}
	}
	if len(out.Hosts) == 0 {
		_, err := o.peers.only(&at)
		return out, err
	}
	out.NotReached = o.peers.silent(&at)
	return sortPlan(&at, out), nil
}

// sortPlan sorts by container. It leaves the host of each item out where all are of this one.
func sortPlan(at *place, p api.Plan) api.Plan {
	if at.here && len(p.Hosts) == 1 && len(at.there) == 0 {
		for i := range p.Items {
			p.Items[i].Host = ""
		}
	}
	slices.SortStableFunc(p.Items, func(a, b api.PlanItem) int { return strings.Compare(a.Container, b.Container) })
	return p
}

// addPlan adds the plan of one host.
func addPlan(to *api.Plan, host string, p api.Plan) {
	for _, it := range p.Items {
		it.Host = host
		to.Items = append(to.Items, it)
	}
	to.Hosts, to.Changes = append(to.Hosts, host), to.Changes+p.Changes
	if p.At.After(to.At) {
		to.At = p.At
	}
}
