package node

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/effiscale/effiscale/docker"
	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape"
	"github.com/effiscale/effiscale/mape/execute"
	"github.com/effiscale/effiscale/mape/monitor"
	"github.com/effiscale/effiscale/node/api"
	"github.com/effiscale/effiscale/node/cluster"
	"github.com/effiscale/effiscale/node/config"
)

// containerEngine is what the daemon needs of a container engine. Another engine than
// Docker is a package with this adapter, and a case in Node.openEngine.
type containerEngine interface {
	mape.Engine
	Host(ctx context.Context) (knowledge.Host, error)
	// Watch calls emit with events until ctx ends.
	Watch(ctx context.Context, emit func(knowledge.Event))
	// Stats samples a container whose kernel files cannot be read.
	Stats(ctx context.Context, id knowledge.ContainerID, s *knowledge.Sample) error
	// Refusals are the requests that it does not allow, with the effect; UpdateRefused is why it
	// changes no limit, "": it does.
	Refusals() []string
	UpdateRefused() string
	Close() error
}

var _ containerEngine = (*docker.Client)(nil)

// ownContainers is the engine with the containers of this daemon alone. An event about
// another one causes a listing at most.
type ownContainers struct {
	containerEngine
	sees func(labels map[string]string) bool
}

// List lists the containers of this daemon.
func (e ownContainers) List(ctx context.Context) ([]knowledge.Container, error) {
	list, err := e.containerEngine.List(ctx)
	return slices.DeleteFunc(list, func(c knowledge.Container) bool { return !e.sees(c.Labels) }), err
}

// openLoop makes the loop with what earlier runs left.
func (n *Node) openLoop(cfg config.Config) {
	o := mape.Options{
		Engine: ownContainers{n.probes.engine, cfg.Docker.Sees},
		Store:  memory{s: n.store, commits: n.metrics.StoreCommit}, Node: n.identity.Node,
		Attach: n.probes.attach, HostUse: n.machine.use(), Host: n.machine.host(), Meter: n.metrics, Log: n.log,
		Settings: n.settings(&cfg), Crashes: n.before.crashes, Restored: n.restored(),
		OnReady: func() {
			n.before.open = n.closeOpen(n.store.Journal.OpenActions(), n.loop.LimitInForce)
			n.ready("the first full pass is done")
		},
		OnTick: func() {
			n.ticks.Add(1)
			if len(n.before.open) > 0 {
				n.before.open = n.closeOpen(n.before.open, n.loop.LimitInForce)
			}
		},
	}
	if n.key != nil { // a node without an identity is alone: in tests
		o.Owners, o.Seal = owners{n}, cluster.SealPart(n.key)
	}
	n.loop = mape.New(o)
}

// warnUnused names, once for each reading of the configuration, the keys that have no effect
// any more.
func (n *Node) warnUnused(cfg *config.Config) {
	if keys := cfg.Unused(); len(keys) > 0 {
		n.log.Warn().Strs("keys", keys).Msg("keys without effect: a container starts with its highest limit")
	}
}

// settings turns the configuration into what the loop needs.
func (n *Node) settings(cfg *config.Config) mape.Settings {
	m, l := cfg.Monitor, cfg.Limits
	warned := new(sync.Once) // of labels without effect
	return mape.Settings{
		Cadence: monitor.Cadence{Hot: m.HotEvery, Busy: m.Every, Idle: m.IdleEvery, Slow: m.SlowEvery,
			Budget: m.Budget},
		StaleAfter:      m.StaleAfter,
		ListEvery:       m.ListEvery,
		DeliberateEvery: m.DeliberateEvery,
		FlushEvery:      cfg.Store.FlushEvery,
		Rules: execute.Rules{
			OwnerGrace: 3 * m.DeliberateEvery,
			StepUp:     l.StepUp, StepDown: l.StepDown, ActionsPerMinute: l.ActionsPerMinute,
			EvidenceAge: 3 * max(m.IdleEvery, m.Every), Actuator: cfg.Docker.Actuator,
		},
		CPUReserve: l.HostCPUReserve, MemoryReserve: l.HostMemoryReserve, MemoryLeast: l.HostMemoryLeast,
		Overcommit: l.CPUOvercommit,
		Policy: func(c knowledge.Container) knowledge.Policy {
			p := cfg.PolicyFor(c)
			if label := config.UnusedLabel(c.Labels); label != "" {
				warned.Do(func() {
					n.log.Warn().Str("label", label).Str("container", c.Name).
						Msg("label without effect: a container starts with its highest limit")
				})
			}
			n.boundByHost(cfg, &p)
			if p.Mode == knowledge.ModeAuto && n.engine != nil && n.engine.UpdateRefused() != "" {
				p.Mode = knowledge.ModeObserve
			}
			return p
		},
	}
}

// boundByHost gives a policy without an upper bound the host's. One that it has is also what
// its containers start with.
func (n *Node) boundByHost(cfg *config.Config, p *knowledge.Policy) {
	l := cfg.Limits
	cpu := knowledge.FromCores(float64(n.machine.host().CPUs) * (1 - l.HostCPUReserve))
	reserve := max(knowledge.Bytes(float64(n.machine.host().Memory)*l.HostMemoryReserve), l.HostMemoryLeast)
	mem := max(n.machine.host().Memory-reserve, n.machine.host().Memory/2)
	if l.ContainerCPUMax > 0 {
		cpu = min(cpu, l.ContainerCPUMax)
	}
	if l.ContainerMemoryMax > 0 {
		mem = min(mem, l.ContainerMemoryMax)
	}
	named := knowledge.Limits{CPU: p.CPU.Max, Memory: p.Memory.Max}
	bound(&p.CPU, cpu)
	bound(&p.Memory, mem)
	p.Ceiling = knowledge.Limits{CPU: min(named.CPU, p.CPU.Max), Memory: min(named.Memory, p.Memory.Max)}
}

func bound[T ~int64](r *knowledge.Range[T], most T) {
	if most <= 0 {
		return
	}
	if r.Max == 0 || r.Max > most {
		r.Max = most
	}
	r.Min = min(r.Min, r.Max)
}

// Reload reads the configuration again, all or nothing.
func (n *Node) Reload(ctx context.Context) (err error) {
	n.reloading.Lock()
	defer n.reloading.Unlock()
	defer func() { n.metrics.Reloaded(err, time.Now()) }()
	old := n.cfg.Load()
	next, err := load(n.o)
	if err == nil {
		err = n.checkFiles(&next)
	}
	if err != nil {
		return api.Errorf(api.KindBadRequest, "cannot reload, the previous configuration stays in force: %v", err)
	}
	later := old.NeedsRestart(&next)
	if err := n.loop.Reload(ctx, n.settings(&next)); err != nil {
		return err
	}
	n.cfg.Store(&next)
	n.warnUnused(&next)
	line := n.log.Info()
	if len(later) > 0 {
		line = line.Strs("after_a_restart", later)
	}
	line.Msg("configuration reloaded")
	return nil
}
