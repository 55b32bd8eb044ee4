package ops

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/knowledge/history"
	"github.com/effiscale/effiscale/node/api"
	"github.com/effiscale/effiscale/node/view"
)

const (
	// bySecondUpTo is how far back seconds are on record: the rings' length.
	bySecondUpTo = 5 * time.Minute
	// traceLeast is how many steps a trace must have to show anything.
	traceLeast = 12
)

// trace exports the recorded demand of a service.
type trace struct {
	host  *host
	peers *peers
}

func (o trace) method() method[api.TraceRequest, api.Trace] {
	return method[api.TraceRequest, api.Trace]{name: "trace", maxBody: 1 << 10, check: api.OpTrace.Check, here: o.here}
}

// Trace is the recorded demand of a service, or of a container's service. Each host has a
// record of its own: this host's comes first, then that of the one host that has it.
func (o trace) Trace(ctx context.Context, q api.TraceRequest) (t api.Trace, err error) {
	at, err := o.peers.locate(q.Name)
	if err != nil {
		return t, err
	}
	q.Name = at.name
	if at.here {
		t, err = o.here(ctx, "", q)
		if err == nil && at.host == "" {
			t.Elsewhere = o.alsoRuns(ctx, t.Service)
		}
		if at.last(err) {
			return t, err
		}
	}
	t, _, err = o.method().elsewhere(ctx, o.peers, &at, q)
	return t, err
}

// alsoRuns are the other hosts on which a service runs.
func (o trace) alsoRuns(ctx context.Context, service string) (hosts []string) {
	m := resolver(o).method()
	all := o.peers.live(peersAsked)
	m.ask(ctx, o.peers, all, service)
	for i := range all {
		if r, err := m.of(&all[i]); err == nil && r.ByName {
			hosts = append(hosts, nameOr(all[i].peer))
		}
	}
	return hosts
}

// here is the demand on record on this host: seconds for up to five minutes, minutes while
// all that is on record is younger than a day, else ten minutes. Where less than half of it
// is on record it is an error.
func (o trace) here(ctx context.Context, _ knowledge.NodeID, q api.TraceRequest) (api.Trace, error) {
	name, err := o.host.canonical(ctx, q.Name)
	if err != nil {
		return api.Trace{}, err
	}
	q.Name = name
	to := time.Now()
	from := to.Add(-q.Since)
	t, service, err := o.host.demand(ctx, q.Name, from, to)
	if err != nil {
		return api.Trace{}, err
	}
	if err := o.refuse(ctx, q, &t, service); err != nil {
		return api.Trace{}, err
	}
	out := api.Trace{
		Schema: api.Schema, Service: string(service), Resource: q.Resource, Unit: "cores",
		Start: t.Start.UTC(), Step: t.Step.Seconds(), Values: t.Demand, Peaks: t.Peak, Gaps: t.Gaps,
		Filled: t.Filled, Throttled: t.Throttled, Host: o.host.name,
		Policy: o.host.policyOf(ctx, service),
	}
	for _, values := range [][]float64{out.Values, out.Peaks} {
		for i, v := range values {
			values[i] = view.Round(v)
		}
	}
	if q.Resource == knowledge.ResourceMemory.String() {
		out.Unit, out.Values, out.Peaks, out.Throttled = "bytes", t.Memory, t.Memory, 0
	}
	return out, nil
}

// refuse is the error of a record that is too thin for a trace; nil: it is not.
func (o trace) refuse(ctx context.Context, q api.TraceRequest, t *history.Trace, service knowledge.ServiceKey) error {
	steps, step := len(t.Demand), knowledge.Span(t.Step)
	runs := o.host.runs(ctx, string(service))
	few := fmt.Sprintf("%d steps of %s of %s are on record in the last %s, a trace needs %d",
		steps, step, service, knowledge.Span(q.Since), traceLeast)
	switch {
	case steps < traceLeast && !runs && o.host.recorded(ctx, service):
		return api.Errorf(api.KindRefused, "%s: its containers are gone, and readings of each second are "+
			"kept only while they run; use --since of more than 5m for minutes", few)
	case steps == 0 && !runs:
		return api.Errorf(api.KindNotFound,
			"no container or service %q on this host, now or on record: `effiscale status` lists them", q.Name)
	case steps < traceLeast:
		return api.Errorf(api.KindRefused,
			"%s: retry later, or use --since 5m for the seconds of the last minutes", few)
	case t.Filled > steps/2:
		return api.Errorf(api.KindRefused,
			"only %d of %d steps of %s of %s are on record: use a shorter --since",
			steps-t.Filled, steps, step, service)
	}
	return nil
}

// policyOf is the label of the CPU policy by which a service's containers are sized here.
func (h *host) policyOf(ctx context.Context, service knowledge.ServiceKey) string {
	units, _, err := h.containers(ctx)
	if err != nil {
		return ""
	}
	for i := range units {
		if units[i].Container.Service != service {
			continue
		}
		p := &units[i].Policy
		if p.CPUPercentile > 0 {
			return fmt.Sprintf("effiscale.cpu.percentile=%g%%", math.Round(p.CPUPercentile*1e4)/100)
		}
		return "effiscale.class=" + p.Class.String()
	}
	return ""
}

// demand chooses the finest steps that reach as far back as the record does.
func (h *host) demand(ctx context.Context, name string, from, to time.Time) (
	t history.Trace, key knowledge.ServiceKey, err error,
) {
	r, err := h.loop.Recorded(ctx, name, from.Add(-time.Minute))
	if err != nil {
		return t, "", loopError(err)
	}
	if to.Sub(from) <= bySecondUpTo {
		return history.Seconds(r.Points, from.Truncate(time.Second), to.Truncate(time.Second)), r.Service, nil
	}
	var all [history.TierCount][]history.Bucket
	for _, tier := range history.Tiers() {
		kept, err := h.series(ctx, r.Service, tier, from, to)
		if err != nil {
			return t, "", fmt.Errorf("cannot read the stored series: %w", err)
		}
		all[tier] = newer(kept, r.Running[tier], from)
	}
	tier := history.Fine
	c, f := all[history.Coarse], all[history.Fine]
	if len(c) > 0 && (len(f) == 0 || f[0].At.Sub(c[0].At) > history.Coarse.Step()) {
		tier = history.Coarse
	}
	return history.Even(all[tier], tier), r.Service, nil
}

// newer are the buckets of the disk, and those of memory that it does not have yet.
func newer(kept, running []history.Bucket, from time.Time) []history.Bucket {
	for _, b := range running {
		if !b.At.Before(from) && (len(kept) == 0 || b.At.After(kept[len(kept)-1].At)) {
			kept = append(kept, b)
		}
	}
	return kept
}
