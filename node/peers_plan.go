package node

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/node/api"
)

// Plan is what the daemon of this host would do now, or those of all hosts, or of those
// that run what is named.
func (n *Node) Plan(ctx context.Context, r api.PlanRequest) (api.Plan, error) {
	at := spot{here: true}
	if r.AllHosts {
		at.there = n.livePeers()
	} else if r.Name != "" {
		var err error
		if at, err = n.locate(r.Name); err != nil {
			return api.Plan{}, err
		}
	}
	out := api.Plan{Schema: api.Schema, Items: []api.PlanItem{}}
	if at.here {
		p, err := n.localPlan(ctx, at.name)
		if err != nil && at.last(err) {
			return out, err
		}
		if err == nil {
			addPlan(&out, n.identity.Name, p)
		}
	}
	if n.cluster == nil || at.name == "" && !r.AllHosts {
		return one(at, out)
	}
	n.ask(ctx, peersWithin, at.there, "plan", []byte(at.name))
	for _, a := range at.there {
		var p api.Plan
		if a.err == nil && understand(nameOr(a.peer), a.body, &p) == nil {
			addPlan(&out, nameOr(a.peer), p)
		}
	}
	if len(out.Hosts) == 0 {
		_, err := n.only(at)
		return out, err
	}
	out.NotReached = n.silent(at)
	return one(at, out)
}

// one leaves the host of each item out where all are of this one.
func one(at spot, p api.Plan) (api.Plan, error) {
	if at.here && len(p.Hosts) == 1 && len(at.there) == 0 {
		for i := range p.Items {
			p.Items[i].Host = ""
		}
	}
	slices.SortStableFunc(p.Items, func(a, b api.PlanItem) int { return strings.Compare(a.Container, b.Container) })
	return p, nil
}

// addPlan adds what one host would do.
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

// Trace is the demand on record of a service, or of a container's service. Each host has
// a record of its own: the first asked is this host's, then that of the one that has it.
func (n *Node) Trace(ctx context.Context, r api.TraceRequest) (t api.Trace, err error) {
	at, err := n.locate(r.Name)
	if err != nil {
		return t, err
	}
	r.Name = at.name
	if at.here {
		t, err = n.localTrace(ctx, r)
		if err == nil && at.host == "" {
			t.Elsewhere = n.alsoRuns(ctx, t.Service)
		}
		if n.cluster == nil || at.last(err) {
			return t, err
		}
	}
	body, err := json.Marshal(r)
	if err != nil {
		return t, err
	}
	_, err = n.elsewhere(ctx, at, "trace", body, &t)
	return t, err
}

// alsoRuns are the other hosts on which a service runs.
func (n *Node) alsoRuns(ctx context.Context, service string) (hosts []string) {
	for _, a := range n.askAll(ctx, "runs", []byte(service)) {
		var r runs
		if a.err == nil && understand(nameOr(a.peer), a.body, &r) == nil && r.ByName {
			hosts = append(hosts, nameOr(a.peer))
		}
	}
	return hosts
}

func (n *Node) traceForPeer(ctx context.Context, _ knowledge.NodeID, body []byte) ([]byte, error) {
	var r api.TraceRequest
	if err := fromPeer(body, &r, func() error { return api.CheckTrace(r) }); err != nil {
		return nil, err
	}
	t, err := n.localTrace(ctx, r)
	if err != nil {
		return nil, forPeer(err)
	}
	return json.Marshal(t)
}
