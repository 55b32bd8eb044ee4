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
	"github.com/effiscale/effiscale/mape"
	"github.com/effiscale/effiscale/node/api"
	"github.com/effiscale/effiscale/node/cluster/member"
)

// Metric is the newest reading of one container.
func (n *Node) Metric(ctx context.Context, ref string) (api.Metric, error) {
	u, _, err := n.loop.Find(ctx, ref)
	if err != nil {
		return api.Metric{}, asError(err)
	}
	if u.Window.Samples == 0 {
		return api.Metric{}, api.Errorf(api.KindUnavailable, "%s has not been measured yet: %s", u.Container.Name, orRunning(&u))
	}
	return n.metric(ref, &u), nil
}

func orRunning(u *mape.Unit) string {
	if u.AttachError != "" {
		return u.AttachError
	}
	return "it is " + u.Container.State.String()
}

func (n *Node) metric(ref string, u *mape.Unit) api.Metric {
	w := u.Window
	m := api.Metric{
		ContainerID: ref, CPUUsage: w.Usage.Cores(), MemoryUsage: n.memoryShare(w.WorkingSet, w.MemoryLimit),
		NetworkRx: w.RxBytes, NetworkTx: w.TxBytes, DiskRead: w.ReadBytes, DiskWrite: w.WriteBytes, Timestamp: w.At.UTC(),
		CPULimit: coresOf(w.Quota), ThrottledRatio: w.ThrottleRatio, WorkingSet: int64(w.WorkingSet),
		MemoryLimit: bytesOf(w.MemoryLimit), Pids: w.Pids, OOMKills: u.Kills,
	}
	if w.Quota > 0 {
		share := w.Usage.Cores() / w.Quota.Cores()
		m.CPUUtilization = &share
	}
	m.CPUPressure = pressure(w, knowledge.HasCPUPressure, w.CPUPressure)
	m.MemoryPressure = pressure(w, knowledge.HasMemoryPressure, w.MemoryPressure)
	m.IOPressure = pressure(w, knowledge.HasIOPressure, w.IOPressure)
	return m
}

// memoryShare is use over the limit, over the host's memory without one, 0 to 1.
func (n *Node) memoryShare(use, limit knowledge.Bytes) float64 {
	if limit <= 0 {
		limit = n.host().Memory
	}
	if limit <= 0 {
		return 0
	}
	return min(float64(use)/float64(limit), 1)
}

func pressure(w *knowledge.Window, has knowledge.Signals, p knowledge.Pressure) *float64 {
	if w.Have&has == 0 {
		return nil
	}
	share := p.Some10 / 100
	return &share
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
	now := n.metric(ref, &u)
	out := make([]api.Metric, 0, len(older)+len(points))
	for _, p := range append(older, points...) {
		out = append(out, n.past(now, p))
	}
	return out, nil
}

// older are the kept buckets of a service between two instants. They tell nothing
// of one container where several do the same work.
func (n *Node) older(ctx context.Context, service knowledge.ServiceKey, from, to time.Time) ([]knowledge.Point, error) {
	if to.Sub(from) < history.Fine.Step() {
		return nil, nil
	}
	units, _, err := n.loop.Units(ctx)
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
	coarse, err := n.store.Series(service, history.Coarse, from, day)
	if err != nil {
		return nil, fmt.Errorf("cannot read the kept series: %w", err)
	}
	fine, err := n.store.Series(service, history.Fine, day, to.Add(-history.Fine.Step()))
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

// past is a metric as a point keeps it; what that does not keep is as it is now.
func (n *Node) past(m api.Metric, p knowledge.Point) api.Metric {
	m.Timestamp = time.Unix(0, p.At).UTC()
	m.CPUUsage, m.ThrottledRatio = float64(p.CPU), float64(p.Throttled)
	m.WorkingSet, m.MemoryLimit = int64(p.WorkingSet), bytesOf(p.MemoryLimit)
	m.MemoryUsage = n.memoryShare(p.WorkingSet, p.MemoryLimit)
	m.CPULimit, m.CPUUtilization = nil, nil
	if p.CPULimit > 0 {
		limit, share := float64(p.CPULimit), float64(p.CPU/p.CPULimit)
		m.CPULimit, m.CPUUtilization = &limit, &share
	}
	return m
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
	after := wireConfig(u.Window.Quota, u.Window.Period, u.Window.MemoryLimit)
	for _, r := range records {
		w := wireRecord(ref, r, after)
		if r.Outcome.Result == knowledge.ResultApplied || r.Outcome.Result == knowledge.ResultAdjusted || r.Outcome.Result == knowledge.ResultReverted {
			after = w.OldConfig // newest first: what was before this is after the next
		}
		out = append(out, w)
	}
	return out, nil
}

// wireRecord tells one record with the whole configuration before and after it.
func wireRecord(ref string, r knowledge.Record, after api.OldConfig) api.WireRecord {
	a := r.Action
	w := api.WireRecord{
		ContainerID: ref, Timestamp: a.At.UTC(), ScalingType: "vertical", Direction: "up",
		Outcome: r.Outcome.Result.String(), Reason: a.Reason.String(), OldConfig: after,
	}
	if r.Outcome.Message != "" {
		w.Reason += "; " + r.Outcome.Message
	}
	if a.Verb == knowledge.Shrink {
		w.Direction = "down"
	}
	w.NewConfig = w.OldConfig
	if a.Resource == knowledge.ResourceMemory {
		w.OldConfig.Memory, w.NewConfig.Memory = a.From, a.To
	} else {
		period := time.Duration(after.CPUPeriod) * time.Microsecond
		w.OldConfig.CPUQuota = wireConfig(knowledge.NanoCPU(a.From), period, 0).CPUQuota
		w.NewConfig.CPUQuota = wireConfig(knowledge.NanoCPU(a.To), period, 0).CPUQuota
	}
	return w
}

// localDecide is the plan for one container of this host.
func (n *Node) localDecide(ctx context.Context, ref string) (api.ContainerPlan, error) {
	u, _, err := n.loop.Find(ctx, ref)
	if err != nil {
		return api.ContainerPlan{}, asError(err)
	}
	p := api.ContainerPlan{Action: "no_action", Plan: planItems(&u), Controllers: n.controllers(u.Container.Service), Confidence: confidence(&u), Forecast: nextForecast(&u), Pattern: patternOf(&u)}
	_, p.Reason = state(&u)
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
	return p, nil
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

// confidence is how far the evidence carries: none without a good window, full
// once the service has been watched for an hour.
func confidence(u *mape.Unit) float64 {
	if u.Finding.Quality != knowledge.QualityGood {
		return 0
	}
	if u.Envelope.Learned && u.Envelope.Reason.Rule != knowledge.RuleImage {
		return 1
	}
	return min(0.5+time.Since(u.Window.Since).Hours()/2, 1)
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
	if _, err := n.store.GetDoc(docNeighbors, &known); err != nil {
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
	return ignoreDegraded(n.store.PutDoc(docNeighbors, known))
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
