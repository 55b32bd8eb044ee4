package node

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/knowledge/history"
	"github.com/effiscale/effiscale/node/api"
)

const (
	// bySecondUpTo is how far back seconds are on record: the rings' length.
	bySecondUpTo = 5 * time.Minute
	// traceLeast is how many steps a trace must have to show anything.
	traceLeast = 12
)

// localTrace is the demand on record on this host: seconds for up to five minutes, minutes while all
// that is on record is younger than a day, else ten minutes. Where less than half
// of it is on record it is refused.
func (n *Node) localTrace(ctx context.Context, r api.TraceRequest) (api.Trace, error) {
	to := time.Now()
	from := to.Add(-r.Since)
	t, service, err := n.recorded(ctx, r.Name, from, to)
	if err != nil {
		return api.Trace{}, err
	}
	steps := len(t.Demand)
	runs := n.knowsService(ctx, string(service))
	switch {
	case steps < traceLeast && !runs && n.onRecord(ctx, service):
		return api.Trace{}, api.Errorf(api.KindRefused, "%d steps of %s of %s are on record in the last %s, a trace needs %d: its containers are gone, and seconds are kept as long as they run; ask for minutes with --since of more than 5m",
			steps, knowledge.Span(t.Step), service, knowledge.Span(r.Since), traceLeast)
	case steps == 0 && !runs:
		return api.Trace{}, api.Errorf(api.KindNotFound, "no container or service %q on this host, now or on record: `effiscale status` lists them", r.Name)
	case steps < traceLeast:
		return api.Trace{}, api.Errorf(api.KindRefused, "%d steps of %s of %s are on record in the last %s, a trace needs %d: ask again later, or for the seconds of the last minutes with --since 5m",
			steps, knowledge.Span(t.Step), service, knowledge.Span(r.Since), traceLeast)
	case t.Filled > steps/2:
		return api.Trace{}, api.Errorf(api.KindRefused, "only %d of %d steps of %s of %s are on record: ask for a shorter time with --since",
			steps-t.Filled, steps, knowledge.Span(t.Step), service)
	}
	out := api.Trace{
		Schema: api.Schema, Service: string(service), Resource: r.Resource, Unit: "cores", Start: t.Start.UTC(), Step: t.Step.Seconds(),
		Values: t.Demand, Peaks: t.Peak, Gaps: t.Gaps, Filled: t.Filled, Throttled: t.Throttled, Host: n.identity.Name,
		Policy: n.policyOf(ctx, service),
	}
	if r.Resource == knowledge.ResourceMemory.String() {
		out.Unit, out.Values, out.Peaks, out.Throttled = "bytes", t.Memory, t.Memory, 0
	}
	return out, nil
}

// policyOf is the label of the CPU policy by which a service's containers are sized here.
func (n *Node) policyOf(ctx context.Context, service knowledge.ServiceKey) string {
	units, _, err := n.loop.Containers(ctx)
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

// recorded chooses the finest steps that reach as far back as the record does.
func (n *Node) recorded(ctx context.Context, name string, from, to time.Time) (t history.Trace, service knowledge.ServiceKey, err error) {
	r, err := n.loop.Recorded(ctx, name, from.Add(-time.Minute))
	if err != nil {
		return t, "", asError(err)
	}
	if to.Sub(from) <= bySecondUpTo {
		return history.Seconds(r.Points, from.Truncate(time.Second), to.Truncate(time.Second)), r.Service, nil
	}
	var all [history.TierCount][]history.Bucket
	for _, tier := range history.Tiers() {
		kept, err := n.store.Learned.Series(r.Service, tier, from, to)
		if err != nil {
			return t, "", fmt.Errorf("cannot read the kept series: %w", err)
		}
		all[tier] = newer(kept, r.Running[tier], from)
	}
	tier := history.Fine
	if c, f := all[history.Coarse], all[history.Fine]; len(c) > 0 && (len(f) == 0 || f[0].At.Sub(c[0].At) > history.Coarse.Step()) {
		tier = history.Coarse
	}
	return history.Even(all[tier], tier), r.Service, nil
}

// onRecord reports whether a minute of a service's demand is on record, though none of its
// containers may run any more.
func (n *Node) onRecord(ctx context.Context, service knowledge.ServiceKey) bool {
	r, err := n.loop.Recorded(ctx, string(service), time.Now())
	if err != nil {
		return false
	}
	for _, tier := range history.Tiers() {
		if len(r.Running[tier]) > 0 {
			return true
		}
		if kept, err := n.store.Learned.Series(service, tier, time.Time{}, time.Now()); err == nil && len(kept) > 0 {
			return true
		}
	}
	return false
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
