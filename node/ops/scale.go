package ops

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape"
	"github.com/effiscale/effiscale/node/api"
	"github.com/effiscale/effiscale/node/view"
)

// The factors of POST /scale/vertical without resources.
const (
	scaleUp   = 1.5
	scaleDown = 0.7
)

// scale sets limits of one container on request, inside every guard of its host.
type scale struct {
	finder
	once *once
}

// what tells requests with one Idempotency-Key apart.
func what(q api.ScaleRequest) string {
	return fmt.Sprintf("scale %q %q %v %d %v", q.Container, q.Direction, q.CPU, q.Memory, q.DryRun)
}

// maxBy bounds the name of a client that another host sends, with that host's name.
const maxBy = 128

func (o scale) method() method[api.ScaleRequest, api.ScaleResult] {
	check := func(q api.ScaleRequest) error {
		if len(q.By) > maxBy {
			return api.Errorf(api.KindBadRequest, "by: at most %d bytes", maxBy)
		}
		return api.OpScale.Check(q)
	}
	here := func(ctx context.Context, _ knowledge.NodeID, q api.ScaleRequest) (res api.ScaleResult, err error) {
		return answerOnce(ctx, o.once, q.Key, what(q), func(ctx context.Context) (api.ScaleResult, error) {
			if q.Container, err = o.container(ctx, q.Container); err != nil {
				return res, err
			}
			return o.here(ctx, q)
		})
	}
	return method[api.ScaleRequest, api.ScaleResult]{
		name: "scale", maxBody: 16 << 10, member: true, check: check, here: here}
}

// byAt is the name of a client that asked at a host, cut to what other hosts accept.
func byAt(by, host string) string {
	at := " at " + host
	return strings.ToValidUTF8(by[:min(len(by), max(maxBy-len(at), 0))], "") + at
}

// Scale sets limits of a container on whichever host it runs.
func (o scale) Scale(ctx context.Context, q api.ScaleRequest) (api.ScaleResult, error) {
	return answerOnce(ctx, o.once, q.Key, what(q), func(ctx context.Context) (api.ScaleResult, error) {
		return o.anywhere(ctx, q)
	})
}

// anywhere is Scale for a request that was not answered before.
func (o scale) anywhere(ctx context.Context, q api.ScaleRequest) (res api.ScaleResult, err error) {
	at, err := o.peers.locate(q.Container)
	if err != nil {
		return res, err
	}
	q.Container = at.name
	name, err := o.onThisHost(ctx, &at)
	if err != nil {
		return res, err
	}
	if name != "" {
		q.Container = name
		return o.here(ctx, q)
	}
	if q.Key != "" { // the container may have been here at the first request
		if res, again, err := o.repeated(q); again || err != nil {
			return res, err
		}
	}
	there, err := o.elsewhere(ctx, &at)
	if err != nil {
		return res, err
	}
	q.By = byAt(q.By, o.host.name)
	res, err = o.method().order(ctx, o.peers, &there, q)
	res.Host = nameOr(there.peer)
	return res, err
}

// here is Scale for a container of this host.
func (o scale) here(ctx context.Context, q api.ScaleRequest) (res api.ScaleResult, err error) {
	if q.Key != "" {
		if res, _, err = o.repeated(q); err != nil {
			return res, err
		}
	}
	todo := slices.DeleteFunc(wants(q), func(w mape.ScaleRequest) bool {
		return slices.ContainsFunc(res.Changes, func(c api.Change) bool { return c.Resource == w.Resource.String() })
	})
	u, err := o.host.find(ctx, q.Container)
	if err != nil {
		return res, err
	}
	if u.Window.Samples > 0 { // otherwise the guards refuse
		if err := checkDirection(q.Direction, todo, u.Limit); err != nil {
			return res, err
		}
	}
	if why := o.host.refused(); why != "" {
		return res, api.Errorf(api.KindRefused, "nothing was changed: %s", why)
	}
	var refused []string
	applied := len(res.Changes) > 0
	for _, w := range todo {
		out, err := o.host.loop.Scale(ctx, q.Container, w)
		if err != nil {
			return res, loopError(err)
		}
		if out.Admission.Allowed == out.From {
			note := unchanged(w, out)
			res.Notes = append(res.Notes, note)
			if !out.Admission.Reason.IsZero() {
				refused = append(refused, note)
			}
			continue
		}
		applied = true
		if err := addChange(&res, w, out); err != nil {
			return res, err
		}
	}
	if !applied && len(refused) > 0 {
		return res, api.Errorf(api.KindRefused, "%s", strings.Join(refused, "; "))
	}
	if u, err = o.host.find(ctx, q.Container); err != nil {
		return res, err
	}
	c := view.WireLimits(u.Window.Quota, u.Window.Period, u.Window.MemoryLimit)
	res.CPUQuota, res.CPUPeriod, res.Memory = c.CPUQuota, c.CPUPeriod, c.Memory
	return res, nil
}

// checkDirection refuses exact limits that lie the other way than the direction beside them.
// Without a limit in force, each limit is lower.
func checkDirection(direction string, all []mape.ScaleRequest, limit func(knowledge.Resource) int64) error {
	for _, w := range all {
		if direction == "" || w.Factor > 0 {
			continue
		}
		from := limit(w.Resource)
		wrong, way := from == 0 || w.To < from, "lower"
		if direction == "down" {
			wrong, way = from != 0 && w.To > from, "higher"
		}
		if wrong {
			return api.Errorf(api.KindInvalid,
				"%s: direction is %q, and %s is %s than the limit in force, %s: nothing was changed", w.Resource,
				direction, view.Limit(w.Resource, w.To), way, view.Limit(w.Resource, from))
		}
	}
	return nil
}

// wants are the limits of a request, one a resource: exact ones, or both by a factor.
func wants(q api.ScaleRequest) (all []mape.ScaleRequest) {
	w := mape.ScaleRequest{By: q.By, DryRun: q.DryRun, Key: q.Key}
	exact := q.CPU > 0 || q.Memory > 0
	if !exact {
		w.Factor = map[string]float64{"up": scaleUp, "down": scaleDown}[q.Direction]
		if w.Factor == 0 {
			return nil // the check of the request does not let it through
		}
	}
	if q.CPU > 0 || !exact {
		w.Resource, w.To = knowledge.ResourceCPU, int64(knowledge.FromCores(q.CPU))
		all = append(all, w)
	}
	if q.Memory > 0 || !exact {
		w.Resource, w.To = knowledge.ResourceMemory, q.Memory
		all = append(all, w)
	}
	return all
}

// unchanged is the note of a limit that stays, with the guard that keeps it.
func unchanged(w mape.ScaleRequest, out mape.ScaleResult) string {
	text := view.Unchanged(w.Resource, out.From)
	switch out.Admission.Reason.Rule {
	case knowledge.RuleMissing, knowledge.RuleNoLimits, knowledge.RuleInFlight:
		if out.From == 0 { // unknown is not "none"
			text = w.Resource.String() + " was not changed"
		}
	}
	if reason := out.Admission.Reason; !reason.IsZero() {
		text += ": " + reason.String()
	}
	return text
}

// addChange adds the change of one limit, with a note where a guard changed the request.
func addChange(res *api.ScaleResult, w mape.ScaleRequest, out mape.ScaleResult) error {
	from, to := view.Limit(w.Resource, out.From), view.Limit(w.Resource, out.Admission.Allowed)
	if reason := out.Admission.Reason; !reason.IsZero() {
		asked := view.Limit(w.Resource, w.To)
		if w.Factor > 0 {
			asked = fmt.Sprintf("%g times as much", w.Factor)
		}
		res.Notes = append(res.Notes, fmt.Sprintf("%s becomes %s instead of %s: %s", w.Resource, to, asked, reason))
	}
	if w.DryRun {
		res.Notes = append(res.Notes, fmt.Sprintf("dry run: %s would go from %s to %s", w.Resource, from, to))
		return nil
	}
	res.Changes = append(res.Changes, view.Change(out.Record))
	switch o := out.Record.Outcome; {
	case o.Result == knowledge.ResultOpen:
		return api.Errorf(api.KindUnavailable, "%s: %s; `effiscale history` shows how it ended", w.Resource, o.Message)
	case o.Message != "" && o.Result <= knowledge.ResultAdjusted:
		res.Notes = append(res.Notes, fmt.Sprintf("%s: %s", w.Resource, o.Message))
	case o.Result > knowledge.ResultAdjusted:
		return failure(out.Record)
	}
	return nil
}

// failure is the error of a change that the Engine or the kernel refused.
func failure(r knowledge.Record) error {
	kind := api.KindUnavailable
	if r.Outcome.Result == knowledge.ResultRefused || r.Outcome.Result == knowledge.ResultSuperseded {
		kind = api.KindRefused
	}
	return api.Errorf(kind, "%s was not changed: %s", r.Action.Resize.Resource, r.Outcome.Message)
}

// repeated answers a request that was begun before with the same key, and whose answer was not
// kept, from the history: the daemon ended in between, or another host was asked.
func (o scale) repeated(q api.ScaleRequest) (res api.ScaleResult, again bool, err error) {
	records, err := o.host.store.Journal.ByKey(q.Key)
	if err != nil {
		return res, false, fmt.Errorf("cannot look for the Idempotency-Key in the history: %w", err)
	}
	if len(records) == 0 {
		return res, false, nil
	}
	res = api.ScaleResult{CPUPeriod: knowledge.DefaultPeriod.Microseconds(), CPUQuota: -1,
		Notes: []string{"this request was begun before (Idempotency-Key); what was done is not done again"}}
	for _, r := range records {
		a := r.Action
		switch {
		case a.Name != q.Container && !strings.HasPrefix(string(a.ID), q.Container):
			return res, true, api.Errorf(api.KindRefused,
				"this Idempotency-Key belongs to a request about container %s: each request needs its own", a.Name)
		case r.Outcome.Result == knowledge.ResultOpen:
			return res, true, notFinal{api.Errorf(api.KindUnavailable,
				"the first request with this Idempotency-Key is still running: retry later")}
		case r.Outcome.Result > knowledge.ResultAdjusted && r.Outcome.Result != knowledge.ResultReverted:
			return res, true, failure(r)
		}
		res.Changes = append(res.Changes, view.Change(r))
		switch {
		case a.Kind != knowledge.ActionResize:
		case a.Resize.Resource == knowledge.ResourceMemory:
			res.Memory = a.Resize.To
		default:
			res.CPUQuota = view.WireLimits(knowledge.NanoCPU(a.Resize.To), 0, 0).CPUQuota
		}
	}
	return res, true, nil
}

// Replicate changes the number of replicas, which is one so far.
func (o scale) Replicate(ctx context.Context, q api.ReplicaRequest) ([]string, error) {
	what := fmt.Sprintf("replicas %q %q %d", q.Container, q.Direction, q.Replicas)
	return answerOnce(ctx, o.once, q.Key, what, func(ctx context.Context) ([]string, error) {
		if _, err := o.host.find(ctx, q.Container); err != nil {
			return nil, err
		}
		return nil, api.Errorf(api.KindRefused,
			"the number of replicas is bounded to 1..1 (effiscale.replicas); scale vertically instead: POST /scale/vertical")
	})
}
