package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/effiscale/effiscale/docker/cgroup"
	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/knowledge/store"
	"github.com/effiscale/effiscale/mape"
	"github.com/effiscale/effiscale/node/api"
	"github.com/effiscale/effiscale/node/config"
)

var _ api.Daemon = (*Node)(nil)

// recordsAnHour bounds what status counts: it must answer at once.
const recordsAnHour = 2000

// localStatus is the whole node at a glance.
func (n *Node) localStatus(ctx context.Context) (api.Status, error) {
	units, sum, err := n.loop.Units(ctx)
	if err != nil {
		return api.Status{}, loopError(err)
	}
	s := api.Status{Schema: api.Schema, Version: n.o.Version, Node: n.nodeView(units, sum), Problems: []string{}}
	knowledge.SortFunc(units, byName)
	s.Containers = make([]api.ContainerView, 0, len(units))
	for i := range units {
		u := &units[i]
		s.Containers = append(s.Containers, containerView(u))
		s.Problems = append(s.Problems, problemsOf(u)...)
	}
	s.Services = services(units, n.identity.Name)
	s.Summary = n.summary(ctx, units, sum)
	n.addProblems(&s, units, sum)
	return s, nil
}

func byName(a, b mape.Unit) int { return strings.Compare(a.Container.Name, b.Container.Name) }

func loopError(err error) error {
	if errors.Is(err, mape.ErrStopped) {
		return api.Errorf(api.KindUnavailable, "the daemon is stopping: try again in a few seconds")
	}
	return err
}

func (n *Node) nodeView(units []mape.Unit, sum mape.Summary) api.NodeView {
	cfg := n.cfg.Load()
	v := api.NodeView{
		ID: string(n.identity.Node), Name: n.identity.Name, Mode: cfg.Node.Mode.String(), StartedAt: n.started.UTC(),
		Ready: sum.Ready, SafeMode: n.crashes > 0, CPUs: sum.Host.CPUs, CPUUsed: sum.HostCPU.Cores(),
		MemoryBytes: int64(sum.Host.Memory), MemoryUsed: int64(sum.HostUsed),
		PoolCPU: sum.Pool.Cores(), PoolCPUGranted: sum.Granted.Cores(),
		EngineVersion: n.host().EngineVersion, APIVersion: n.host().APIVersion, Members: 1,
		Actuator: cfg.Docker.Actuator.String(), Source: n.source, Store: "ok", ConfigFile: cfg.File,
	}
	v.Engine, _ = n.engineState(sum)
	if n.kernel != nil {
		v.Cgroup = strings.TrimSpace(n.kernel.Version() + " " + n.host().CgroupDriver)
	}
	if h := n.store.Health(); h != "" {
		v.Store = "degraded: " + h
	}
	return v
}

func (n *Node) engineState(sum mape.Summary) (text string, ok bool) {
	if sum.Host.EngineDown.IsZero() {
		if up, _, _ := n.engine.State(); up {
			return "connected", true
		}
	}
	_, since, last := n.engine.State()
	if since.IsZero() {
		since = n.started
	}
	return fmt.Sprintf("unreachable for %s: %s", time.Since(since).Round(time.Second), last), false
}

// addProblems adds what concerns the whole node, and says whether it is degraded.
func (n *Node) addProblems(s *api.Status, units []mape.Unit, sum mape.Summary) {
	add := func(format string, args ...any) {
		s.Problems = append(s.Problems, fmt.Sprintf(format, args...))
		s.Degraded = true
	}
	if text, ok := n.engineState(sum); !ok {
		add("the Docker Engine is %s (docker.host); measuring goes on, memory and new containers wait", text)
	}
	if _, ok := n.engineState(sum); ok && sum.ListError != "" {
		add("the Docker Engine does not list its containers (docker.host): %s; known ones are measured, new ones wait", sum.ListError)
	}
	if s.Node.Store != "ok" {
		add("the knowledge file is %s (node.data_dir, store.max_size); scaling goes on from memory", s.Node.Store)
	}
	if n.why != "" {
		s.Problems = append(s.Problems, "the knowledge file at the start: "+n.why)
	}
	if n.crashes > 0 {
		add("safe mode: %d crashes within five minutes; only measuring. Look at the log, then restart the service", n.crashes)
	}
	if n.kernel == nil {
		add("samples come from the %s", n.source)
	}
	containers := make([]knowledge.Container, 0, len(units))
	for i := range units {
		containers = append(containers, units[i].Container.Container)
	}
	s.Problems = append(s.Problems, config.Disagreements(containers)...)
}

// problemsOf are the lines about one container that a person should read.
func problemsOf(u *mape.Unit) (out []string) {
	name := u.Container.Name
	for _, p := range u.Policy.Problems {
		out = append(out, fmt.Sprintf("%s is not managed: %s", name, p))
	}
	if u.Policy.Managed && !u.Measured && u.Container.State == knowledge.StateRunning && u.AttachError != "" {
		out = append(out, fmt.Sprintf("%s cannot be measured: %s", name, u.AttachError))
	}
	if u.Policy.Managed && u.KernelRefused != "" {
		out = append(out, fmt.Sprintf("%s: its quota goes through the Engine, more slowly: %s", name, u.KernelRefused))
	}
	for r := range u.Wishes {
		if why, setting := limitedBy(&u.Wishes[r], knowledge.Resource(r)); setting != "" && u.Policy.Acts() {
			out = append(out, fmt.Sprintf("%s: %s (%s)", name, why, setting))
		}
	}
	if line := leak(u); line != "" {
		out = append(out, line)
	}
	if u.Marks.Pinned {
		out = append(out, fmt.Sprintf("%s: somebody else set a limit outside the policy's bounds; `effiscale resume %s` takes over again", name, u.Container.Service))
	}
	return out
}

// limitedBy is what keeps a limit from growing as it should, and the setting that
// would change that; "": nothing does.
func limitedBy(w *mape.Wish, r knowledge.Resource) (why knowledge.Reason, setting string) {
	switch {
	case w.Decision.Verb == knowledge.Hold:
		why = w.Decision.Reason
	case w.Decision.Verb == knowledge.Grow && w.Ruling.Guard != "":
		why = w.Ruling.Reason
	}
	switch why.Rule {
	case knowledge.RuleAtMax:
		return why, "effiscale." + r.String()
	case knowledge.RuleHostCPU, knowledge.RulePoolShort:
		return why, "limits.host_cpu_reserve, limits.cpu_overcommit"
	case knowledge.RuleHostMemory:
		return why, "limits.host_memory_reserve"
	}
	return knowledge.Reason{}, ""
}

func containerView(u *mape.Unit) api.ContainerView {
	w := u.Window
	v := api.ContainerView{
		ID: string(u.Container.ID), Name: u.Container.Name, Service: string(u.Container.Service),
		Mode: u.Policy.Mode.String(), Managed: u.Policy.Managed, Class: u.Policy.Class.String(),
		Run: u.Container.State.String(), Health: u.Container.Health.String(),
		CPUUsed: w.Usage.Cores(), CPULimit: coresOf(w.Quota), Throttled: w.ThrottleRatio,
		MemoryUsed: int64(w.WorkingSet), MemoryLimit: bytesOf(w.MemoryLimit),
		Problems: u.Policy.Problems, SampledAt: w.At.UTC(),
	}
	if v.Problems == nil {
		v.Problems = []string{}
	}
	if cpu := wanted(u, knowledge.ResourceCPU); cpu != 0 {
		v.CPUWanted = coresOf(knowledge.NanoCPU(cpu))
	}
	if mem := wanted(u, knowledge.ResourceMemory); mem != 0 {
		v.MemoryWanted = bytesOf(knowledge.Bytes(mem))
	}
	v.State, v.Why = state(u)
	if u.LastChange.Action.ID != "" {
		c := change(u.LastChange)
		v.LastChange = &c
	}
	return v
}

// wanted is the limit that the planner has in mind: the reflex's for a container
// that is acted upon, else the one that it would have.
func wanted(u *mape.Unit, r knowledge.Resource) int64 {
	if u.Policy.Acts() {
		if d := u.Wishes[r].Decision; d.Verb != knowledge.Hold {
			return d.To
		}
		return u.Limit(r)
	}
	return u.Would[r].To
}

// state is what goes on with a container, in a word and a reason.
func state(u *mape.Unit) (word, why string) {
	cpu, mem := &u.Wishes[knowledge.ResourceCPU], &u.Wishes[knowledge.ResourceMemory]
	switch {
	case !u.Container.State.Runs():
		return "stopped", "it is " + u.Container.State.String()
	case u.Policy.Mode == knowledge.ModeOff:
		return "off", "mode off: not even measured"
	case !u.Measured:
		return "unmeasured", u.AttachError
	case len(u.Policy.Problems) > 0:
		return "blocked", u.Policy.Problems[0]
	case !u.Policy.Acts():
		d := u.Would[knowledge.ResourceCPU]
		if m := u.Would[knowledge.ResourceMemory]; d.Verb == knowledge.Hold && m.Verb != knowledge.Hold {
			d = m
		}
		return "observing", d.Reason.String()
	case u.Paused.On && !u.Paused.OnlyDown:
		return "paused", pausedWhy(u)
	}
	for _, w := range []*mape.Wish{mem, cpu} {
		if w.Decision.Verb != knowledge.Hold && !w.Ruling.Acted && w.Ruling.Guard != "" {
			return blocked(w), w.Decision.Reason.String() + "; " + w.Ruling.Reason.String()
		}
	}
	for r := range u.Wishes {
		if why, setting := limitedBy(&u.Wishes[r], knowledge.Resource(r)); setting != "" {
			return "limited", why.String()
		}
	}
	switch {
	case u.Finding.Starting:
		return "starting", cpu.Decision.Reason.String()
	case mem.Decision.Verb == knowledge.Grow:
		return "growing", mem.Decision.Reason.String()
	case cpu.Decision.Verb == knowledge.Grow:
		return "growing", cpu.Decision.Reason.String()
	case cpu.Decision.Verb == knowledge.Shrink:
		return "shrinking", cpu.Decision.Reason.String()
	case mem.Decision.Verb == knowledge.Shrink:
		return "shrinking", mem.Decision.Reason.String()
	}
	return "steady", cpu.Decision.Reason.String()
}

func blocked(w *mape.Wish) string {
	switch w.Ruling.Reason.Rule {
	case knowledge.RuleExternal, knowledge.RulePinned:
		return "yielding"
	case knowledge.RuleAtMax, knowledge.RuleAtMin, knowledge.RuleHostCPU, knowledge.RuleHostMemory, knowledge.RulePoolShort:
		return "limited"
	case knowledge.RuleInFlight, knowledge.RuleRate, knowledge.RuleStepUp, knowledge.RuleStepDown, knowledge.RuleOriginal,
		knowledge.RuleRaisedFloor, knowledge.RuleShrinkBudget:
		return "waiting"
	case knowledge.RulePaused:
		return "paused"
	}
	return "blocked"
}

func services(units []mape.Unit, owner string) []api.ServiceView {
	views := map[string]*api.ServiceView{}
	var names []string
	for i := range units {
		u := &units[i]
		if !u.Container.State.Runs() {
			continue
		}
		key := string(u.Container.Service)
		v := views[key]
		if v == nil {
			v = &api.ServiceView{Name: key, Owner: owner, CPULimit: new(float64), MemoryLimit: new(int64), Paused: pauseText(u), Forecast: nextForecast(u), Pattern: patternOf(u)}
			views[key] = v
			names = append(names, key)
		}
		v.Containers = append(v.Containers, u.Container.Name)
		v.CPUUsed += u.Window.Usage.Cores()
		v.MemoryUsed += int64(u.Window.WorkingSet)
		if q := u.Window.Quota; q == 0 {
			v.CPULimit = nil
		} else if v.CPULimit != nil {
			*v.CPULimit += q.Cores()
		}
		if m := u.Window.MemoryLimit; m == 0 {
			v.MemoryLimit = nil
		} else if v.MemoryLimit != nil {
			*v.MemoryLimit += int64(m)
		}
	}
	slices.Sort(names)
	out := make([]api.ServiceView, 0, len(names))
	for _, name := range names {
		out = append(out, *views[name])
	}
	return out
}

// pausedWhy tells how long a pause lasts, and how to end it.
func pausedWhy(u *mape.Unit) string {
	left := 0.0 // until resumed
	if !u.Paused.Until.IsZero() {
		left = max(time.Until(u.Paused.Until).Seconds(), 1)
	}
	return knowledge.Because(knowledge.RulePaused, left).String() + "; `effiscale resume " + string(u.Container.Service) + "` goes on"
}

func pauseText(u *mape.Unit) string {
	p := u.Paused
	if !p.On {
		return ""
	}
	text := ""
	if p.OnlyDown {
		text = "down "
	}
	if p.Until.IsZero() {
		return text + "until resumed"
	}
	return text + "until " + p.Until.UTC().Format(time.RFC3339)
}

func (n *Node) summary(ctx context.Context, units []mape.Unit, sum mape.Summary) api.Summary {
	s := api.Summary{DriftRepaired: sum.Repaired}
	records, err := n.records(ctx, store.Filter{Since: time.Now().Add(-time.Hour), Limit: recordsAnHour})
	if err != nil {
		n.log.Debug().Err(err).Msg("history cannot be read")
	}
	for _, r := range records {
		s.Actions += max(r.Action.Count, 1)
		switch r.Outcome.Result {
		case knowledge.ResultFailed, knowledge.ResultRefused:
			s.Failed++
		case knowledge.ResultReverted:
			s.Reverted++
		}
	}
	s.SavedCPU, s.SavedMemory = saved(units)
	return s
}

// saved is what managed containers reserve less than by their original limits;
// negative: more. One that had no limit had reserved nothing.
func saved(units []mape.Unit) (cores float64, bytes int64) {
	for i := range units {
		u := &units[i]
		if !u.OriginalKept || !u.Measured {
			continue
		}
		cpu, mem := u.Original.CPU, u.Original.Memory
		if cpu > 0 && u.Window.Quota > 0 {
			cores += (cpu - u.Window.Quota).Cores()
		}
		if mem > 0 && u.Window.MemoryLimit > 0 {
			bytes += int64(mem - u.Window.MemoryLimit)
		}
	}
	return cores, bytes
}

func change(r knowledge.Record) api.Change {
	a, o := r.Action, r.Outcome
	return api.Change{
		At: a.At.UTC(), Resource: a.Resource.String(), Verb: a.Verb.String(), Actor: a.Actor.String(),
		From: a.From, To: a.To, Count: max(a.Count, 1), Result: o.Result.String(), Why: a.Reason.String(),
		Message: o.Message, Seq: a.Seq, Container: a.Name, ContainerID: string(a.ID), TookMS: float64(o.Took) / 1e6,
	}
}

func coresOf(c knowledge.NanoCPU) *float64 {
	if c == 0 {
		return nil
	}
	v := c.Cores()
	return &v
}

func bytesOf(b knowledge.Bytes) *int64 {
	if b == 0 {
		return nil
	}
	v := int64(b)
	return &v
}

// psi tells whether this kernel measures pressure.
func psi(k *cgroup.Host) bool { return k != nil && k.PSI() }
