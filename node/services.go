package node

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/knowledge/history"
	"github.com/effiscale/effiscale/knowledge/store"
	"github.com/effiscale/effiscale/node/api"
	"github.com/effiscale/effiscale/node/cluster/member"
	"github.com/effiscale/effiscale/node/view"
)

// Metric is the newest reading of one container.
func (n *Node) Metric(ctx context.Context, ref string) (api.Metric, error) {
	u, _, err := n.loop.Find(ctx, ref)
	if err != nil {
		return api.Metric{}, asError(err)
	}
	if u.Window.Samples == 0 {
		return api.Metric{}, api.Errorf(api.KindUnavailable, "%s has not been measured yet: %s", u.Container.Name, view.Unmeasured(&u))
	}
	return view.Metric(ref, &u, n.host().Memory), nil
}

// Metrics are the readings of the last window, oldest first: the newest minutes
// in full, before them minutes, and ten minutes before the last day.
func (n *Node) Metrics(ctx context.Context, ref string, window time.Duration) ([]api.Metric, error) {
	to := time.Now()
	from := to.Add(-window)
	u, points, err := n.loop.Points(ctx, ref, from)
	if err != nil {
		return nil, asError(err)
	}
	if len(points) > 0 {
		to = time.Unix(0, points[0].At)
	}
	older, err := n.older(ctx, u.Container.Service, from, to)
	if err != nil {
		return nil, err
	}
	return view.Metrics(ref, &u, append(older, points...), n.host().Memory), nil
}

// older are the kept buckets of a service between two instants. They tell nothing
// of one container where several do the same work.
func (n *Node) older(ctx context.Context, service knowledge.ServiceKey, from, to time.Time) ([]knowledge.Point, error) {
	if to.Sub(from) < history.Fine.Step() {
		return nil, nil
	}
	units, _, err := n.loop.Containers(ctx)
	if err != nil {
		return nil, asError(err)
	}
	same := 0
	for i := range units {
		if units[i].Container.Service == service && units[i].Measured {
			same++
		}
	}
	if same > 1 {
		return nil, nil
	}
	day := to.Add(-24 * time.Hour)
	if day.Before(from) {
		day = from
	}
	coarse, err := n.store.Learned.Series(service, history.Coarse, from, day)
	if err != nil {
		return nil, fmt.Errorf("cannot read the kept series: %w", err)
	}
	fine, err := n.store.Learned.Series(service, history.Fine, day, to.Add(-history.Fine.Step()))
	if err != nil {
		return nil, fmt.Errorf("cannot read the kept series: %w", err)
	}
	points := make([]knowledge.Point, 0, len(coarse)+len(fine))
	for _, b := range append(coarse, fine...) {
		points = append(points, knowledge.Point{
			At: b.At.UnixNano(), CPU: float32(b.MeanCPU), CPULimit: float32(b.CPULimit), Throttled: float32(b.Throttled),
			WorkingSet: b.WorkingSet, MemoryLimit: b.MemoryLimit,
		})
	}
	return points, nil
}

// Watch starts or stops measuring a container.
func (n *Node) Watch(ctx context.Context, ref string, on bool) (bool, error) {
	already, err := n.loop.Watch(ctx, ref, on)
	return already, asError(err)
}

// WireHistory is the history in the form of the wire contract, newest first.
func (n *Node) WireHistory(ctx context.Context, ref string, limit int) ([]api.WireRecord, error) {
	out := []api.WireRecord{}
	u, _, err := n.loop.Find(ctx, ref)
	if err != nil {
		return out, asError(err)
	}
	records, err := n.records(ctx, store.Filter{Container: u.Container.ID, Limit: min(limit, recordsMost)})
	if err != nil {
		return out, err
	}
	return view.WireRecords(ref, u.Window, records), nil
}

// localDecide is the plan for one container of this host.
func (n *Node) localDecide(ctx context.Context, ref string) (api.ContainerPlan, error) {
	u, _, err := n.loop.Find(ctx, ref)
	if err != nil {
		return api.ContainerPlan{}, asError(err)
	}
	return view.Decision(&u, n.controllers(u.Container.Service), time.Now()), nil
}

// controllers are those that take part in decisions about a service: its owner, and
// who is warm.
func (n *Node) controllers(key knowledge.ServiceKey) []string {
	if n.cluster == nil {
		return []string{n.identity.Name}
	}
	owner, warm := n.ownerOf(key)
	if owner == "" { // nobody yet
		return []string{}
	}
	return append([]string{owner}, warm...)
}

// Identity is the node's name and zone.
func (n *Node) Identity() (name, zone string) { return n.identity.Name, n.cfg.Load().Node.Zone }

// Health is "" when all is well.
func (n *Node) Health() string {
	if up, _, last := n.engine.State(); !up {
		return "the Docker Engine does not answer: " + last
	}
	if h := n.store.Health(); h != "" {
		return "the knowledge file: " + h
	}
	if n.crashes > 0 {
		return "safe mode: only measuring"
	}
	return ""
}

// neighborsMost bounds the controllers that are remembered: each is looked for, for ever.
const neighborsMost = member.MaxIntroduced

// remember keeps another controller's endpoint, and looks for the cluster there until it
// is a member. The same controller's endpoint of before is forgotten, and where there are
// too many the oldest at which nobody ever answered.
func (n *Node) remember(id, endpoint string, answered bool) error {
	n.docs.Lock()
	defer n.docs.Unlock()
	known := map[string]string{}
	if _, err := n.store.Documents.Get(docNeighbors, &known); err != nil {
		n.unreadable("neighbors", err)
	}
	if _, again := known[id]; !again && len(known) >= neighborsMost {
		n.dropMembers(known) // membership remembers them
	}
	if _, again := known[id]; !again && len(known) >= neighborsMost {
		if old := n.unanswered(known); old != "" {
			n.log.Warn().Str("controller", old).Str("at", known[old]).Str("for", id).Msg("nobody ever answered there: it gives way to a controller that is registered now")
			delete(known, old)
		}
	}
	if _, again := known[id]; !again && len(known) >= neighborsMost {
		return api.Errorf(api.KindRefused, "%d controllers are registered already that all answered, the most that are remembered", neighborsMost)
	}
	known[id] = endpoint
	n.registered = append(slices.DeleteFunc(n.registered, func(r registration) bool { return r.id == id || known[r.id] == "" }), registration{id, answered})
	if n.cluster != nil {
		n.cluster.Members().Introduce(endpoints(known))
	}
	return ignoreDegraded(n.store.Documents.Put(docNeighbors, known))
}

// registration is one of this life.
type registration struct {
	id       string
	answered bool
}

// unanswered is the oldest of the controllers at which nobody answered, those of earlier
// lives before those of this one; "": all did. docs is held.
func (n *Node) unanswered(known map[string]string) string {
	at := map[string]bool{}
	if n.cluster != nil {
		for _, p := range n.cluster.Members().Peers() {
			at[p.Addr] = true
		}
	}
	old := slices.Sorted(maps.Keys(known))
	for _, r := range n.registered {
		old = slices.DeleteFunc(old, func(id string) bool { return id == r.id })
		if !r.answered {
			old = append(old, r.id)
		}
	}
	for _, id := range old {
		if known[id] != "" && !at[known[id]] {
			return id
		}
	}
	return ""
}
