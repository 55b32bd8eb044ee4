package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/knowledge/store"
	"github.com/effiscale/effiscale/mape"
	"github.com/effiscale/effiscale/node/api"
	"github.com/effiscale/effiscale/node/view"
)

// recordsMost bounds what one call reads from the history: the wire contract's
// own bound. Without a limit the store has one.
const recordsMost = 10_000

// The steps of POST /scale/vertical without resources: the guards' own.
const (
	scaleUp   = 1.5
	scaleDown = 0.7
)

// localScale is Scale for a container of this host.
func (n *Node) localScale(ctx context.Context, r api.ScaleRequest) (api.ScaleResult, error) {
	if r.Key != "" {
		select { // of two requests with one key the second finds what the first did
		case n.keyed <- struct{}{}:
			defer func() { <-n.keyed }()
		case <-ctx.Done():
			return api.ScaleResult{}, ctx.Err()
		}
		if res, again, err := n.repeated(r); again || err != nil {
			return res, err
		}
	}
	var wants []mape.ScaleRequest
	factor := map[string]float64{"up": scaleUp, "down": scaleDown}[r.Direction]
	base := mape.ScaleRequest{By: r.By, DryRun: r.DryRun, Key: r.Key}
	cpu, mem := base, base
	cpu.Resource, cpu.To = knowledge.ResourceCPU, int64(knowledge.FromCores(r.CPU))
	mem.Resource, mem.To = knowledge.ResourceMemory, r.Memory
	switch {
	case r.CPU > 0 || r.Memory > 0:
		if r.CPU > 0 {
			wants = append(wants, cpu)
		}
		if r.Memory > 0 {
			wants = append(wants, mem)
		}
	case factor > 0:
		cpu.Factor, mem.Factor = factor, factor
		wants = append(wants, cpu, mem)
	default:
		return api.ScaleResult{}, api.Errorf(api.KindBadRequest, "nothing is asked for: give cpu, memory, or a direction")
	}
	return n.scale(ctx, r, wants)
}

func (n *Node) scale(ctx context.Context, r api.ScaleRequest, wants []mape.ScaleRequest) (api.ScaleResult, error) {
	var res api.ScaleResult
	var refused []string
	moved := 0
	for _, w := range wants {
		out, err := n.loop.Scale(ctx, r.Container, w)
		if err != nil {
			return res, asError(err)
		}
		wish := view.Limit(w.Resource, w.To)
		if w.Factor > 0 {
			wish = fmt.Sprintf("%g times as much", w.Factor)
		}
		switch rule := out.Admission.Reason; {
		case out.Admission.Allowed == out.From && rule.IsZero():
			res.Notes = append(res.Notes, view.Unchanged(w.Resource, out.From))
		case out.Admission.Allowed == out.From:
			no := view.Unchanged(w.Resource, out.From) + ": " + rule.String()
			refused, res.Notes = append(refused, no), append(res.Notes, no)
		default:
			moved++
			if !rule.IsZero() {
				res.Notes = append(res.Notes, fmt.Sprintf("%s becomes %s instead of %s: %s", w.Resource, view.Limit(w.Resource, out.Admission.Allowed), wish, rule))
			}
			if r.DryRun {
				res.Notes = append(res.Notes, fmt.Sprintf("dry run: %s would go from %s to %s", w.Resource, view.Limit(w.Resource, out.From), view.Limit(w.Resource, out.Admission.Allowed)))
				continue
			}
			res.Changes = append(res.Changes, view.Change(out.Record))
			if out.Record.Outcome.Result > knowledge.ResultAdjusted {
				return res, failure(out.Record)
			}
		}
	}
	if moved == 0 && len(refused) > 0 {
		return res, api.Errorf(api.KindRefused, "%s", strings.Join(refused, "; "))
	}
	u, _, err := n.loop.Find(ctx, r.Container)
	if err != nil {
		return res, asError(err)
	}
	c := view.WireLimits(u.Window.Quota, u.Window.Period, u.Window.MemoryLimit)
	res.CPUQuota, res.CPUPeriod, res.Memory = c.CPUQuota, c.CPUPeriod, c.Memory
	return res, nil
}

// failure is what the Engine's or the kernel's no means to a client.
func failure(r knowledge.Record) error {
	kind := api.KindUnavailable
	if r.Outcome.Result == knowledge.ResultRefused || r.Outcome.Result == knowledge.ResultSuperseded {
		kind = api.KindRefused
	}
	return api.Errorf(kind, "%s was not changed: %s", r.Action.Resize.Resource, r.Outcome.Message)
}

// repeated answers a request that was made before with the same key, as it was
// answered then.
func (n *Node) repeated(q api.ScaleRequest) (res api.ScaleResult, again bool, err error) {
	records, err := n.store.Journal.ByKey(q.Key)
	if err != nil {
		return res, false, fmt.Errorf("cannot look for the Idempotency-Key in the history: %w", err)
	}
	if len(records) == 0 {
		return res, false, nil
	}
	res = api.ScaleResult{CPUPeriod: knowledge.DefaultPeriod.Microseconds(), CPUQuota: -1,
		Notes: []string{"this request was made before (Idempotency-Key); nothing was done again"}}
	for _, r := range records {
		a := r.Action
		switch {
		case a.Name != q.Container && !strings.HasPrefix(string(a.ID), q.Container):
			return res, true, api.Errorf(api.KindRefused, "this Idempotency-Key belongs to a request about container %s: each request needs its own", a.Name)
		case r.Outcome.Result == knowledge.ResultOpen:
			return res, true, api.Errorf(api.KindUnavailable, "the first request with this Idempotency-Key is still under way: ask again")
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

// Replicate needs hosts and a balancer; a single host without them keeps one.
func (n *Node) Replicate(ctx context.Context, r api.ReplicaRequest) ([]string, error) {
	if _, _, err := n.loop.Find(ctx, r.Container); err != nil {
		return nil, asError(err)
	}
	return nil, api.Errorf(api.KindRefused, "the number of replicas is bounded to 1..1 (effiscale.replicas); scale vertically instead: POST /scale/vertical")
}

// localPause stops or resumes automation of a service of this host, or of all ("" with
// All); asked is the node where somebody asked for it, "" for this one.
func (n *Node) localPause(ctx context.Context, r api.PauseRequest, asked string) error {
	p := knowledge.Pause{On: !r.Resume, OnlyDown: r.OnlyDown}
	if r.For > 0 && !r.Resume {
		p.Until = time.Now().Add(r.For)
	}
	n.docs.Lock()
	defer n.docs.Unlock()
	pauses, err := n.loop.Pause(ctx, knowledge.ServiceKey(r.Service), p)
	if err != nil {
		return asError(err)
	}
	n.keepPauses(pauses)
	said := n.log.Info().Str("service", cmp.Or(r.Service, "all"))
	if asked != "" {
		said = said.Str("at", asked)
	}
	switch {
	case !p.On:
		said.Msg("automation resumed")
		return nil
	case p.OnlyDown:
		said = said.Bool("only_down", true)
	}
	if !p.Until.IsZero() {
		said = said.Str("until", p.Until.UTC().Format(time.RFC3339))
	}
	said.Msg("automation paused")
	return nil
}

func (n *Node) keepPauses(pauses map[knowledge.ServiceKey]knowledge.Pause) {
	if err := n.store.Documents.Put(docPauses, pauses); err != nil {
		n.log.Warn().Err(err).Msg("pauses are kept in memory only")
	}
}

// localRestore puts containers of this host back to the limits that they had; "": all.
func (n *Node) localRestore(ctx context.Context, ref string) (api.RestoreResult, error) {
	res := api.RestoreResult{Schema: api.Schema, Restored: []api.Change{}, Failed: []string{}, Host: n.identity.Name}
	n.docs.Lock()
	unlock := sync.OnceFunc(n.docs.Unlock)
	defer unlock()
	done, err := n.loop.Restore(ctx, ref, func(pauses map[knowledge.ServiceKey]knowledge.Pause) {
		n.keepPauses(pauses) // now: a daemon that dies on the way must not take back what was restored
		unlock()
	})
	if err != nil {
		return res, asError(err)
	}
	for _, one := range done {
		for _, r := range one.Records {
			if r.Outcome.Result <= knowledge.ResultAdjusted {
				res.Restored = append(res.Restored, view.Change(r))
			}
		}
		if one.Err != "" {
			res.Failed = append(res.Failed, one.Name+": "+one.Err)
		}
	}
	res.Nothing = len(res.Restored) == 0 && len(res.Failed) == 0
	res.Paused = len(res.Restored) > 0
	if ref != "" {
		if u, _, err := n.loop.Find(ctx, ref); err == nil {
			res.Paused = u.Paused.On
		}
	}
	return res, nil
}

// localRecords is the history of a container or a service on this host, newest first.
func (n *Node) localRecords(ctx context.Context, name string, limit int) (api.History, error) {
	h := api.History{Schema: api.Schema, Name: name, Changes: []api.Change{}}
	limit = min(limit, recordsMost)
	f := store.Filter{Service: knowledge.ServiceKey(name), Limit: limit}
	u, _, err := n.loop.Find(ctx, name)
	if err == nil {
		f = store.Filter{Container: u.Container.ID, Limit: limit}
	} else if !errors.Is(err, mape.ErrUnknown) {
		return h, asError(err)
	}
	moves := n.unwritten(ctx, f) // before the records, which they become in a moment
	records, readErr := n.records(ctx, f)
	if readErr != nil {
		return h, fmt.Errorf("cannot read the history: %w", readErr)
	}
	records = withMoves(moves, records, limit)
	if err != nil && len(records) == 0 && !n.knowsService(ctx, name) && !n.onRecord(ctx, knowledge.ServiceKey(name)) {
		return h, api.Errorf(api.KindNotFound, "no container or service %q on this host, now or in the history: `effiscale status` lists them", name)
	}
	for _, r := range records {
		h.Changes = append(h.Changes, view.Change(r))
	}
	return h, nil
}

// unwritten are the reflex's quota moves that are still being folded into the next record
// of their container.
func (n *Node) unwritten(ctx context.Context, f store.Filter) (moves []knowledge.Record) {
	units, _, err := n.loop.Containers(ctx)
	if err != nil {
		return nil
	}
	for i := range units {
		u := &units[i] // a copy: nothing is taken from the loop
		if u.Container.ID != f.Container && (f.Container != "" || u.Container.Service != f.Service) {
			continue
		}
		if r, ok := u.TakeFold(time.Now()); ok {
			r.Outcome.Message = "so far, not written yet"
			moves = append(moves, r)
		}
	}
	return moves
}

// withMoves puts moves that no record holds yet among the records, newest first.
func withMoves(moves, records []knowledge.Record, limit int) []knowledge.Record {
	moves = slices.DeleteFunc(moves, func(m knowledge.Record) bool {
		return slices.ContainsFunc(records, func(r knowledge.Record) bool {
			return r.Action.Kind == m.Action.Kind && r.Action.ID == m.Action.ID &&
				r.Action.Resize.Resource == m.Action.Resize.Resource && !r.Action.At.Before(m.Action.At)
		})
	})
	if len(moves) == 0 {
		return records
	}
	records = append(moves, records...)
	slices.SortStableFunc(records, func(a, b knowledge.Record) int { return b.Action.At.Compare(a.Action.At) })
	return records[:min(len(records), limit)]
}

// records reads the history, one reader at a time: ten thousand records are some
// tens of milliseconds of CPU time, and whoever reaches loopback may ask.
func (n *Node) records(ctx context.Context, f store.Filter) ([]knowledge.Record, error) {
	select {
	case n.reading <- struct{}{}:
		defer func() { <-n.reading }()
		return n.store.Journal.Records(f)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (n *Node) knowsService(ctx context.Context, name string) bool {
	units, _, err := n.loop.Containers(ctx)
	if err != nil {
		return false
	}
	for i := range units {
		if string(units[i].Container.Service) == name {
			return true
		}
	}
	return false
}
