package ops

import (
	"context"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/knowledge/store"
	"github.com/effiscale/effiscale/mape"
	"github.com/effiscale/effiscale/node/api"
	"github.com/effiscale/effiscale/node/config"
	"github.com/effiscale/effiscale/node/view"
)

// maxHourRecords bounds what status counts: it must answer at once.
const maxHourRecords = 2000

// status shows the state of the daemon, its host and its cluster.
type status struct {
	host    *host
	peers   *peers
	members members
	about   *About
}

func (o status) method() method[api.None, api.Status] {
	return method[api.None, api.Status]{name: "status",
		here: func(ctx context.Context, _ knowledge.NodeID, _ api.None) (api.Status, error) { return o.here(ctx) }}
}

// here is the status of this host.
func (o status) here(ctx context.Context) (api.Status, error) {
	units, sum, err := o.host.containers(ctx)
	if err != nil {
		return api.Status{}, err
	}
	records, err := o.host.records(ctx, store.Filter{Since: time.Now().Add(-time.Hour), Limit: maxHourRecords})
	if err != nil {
		o.host.log.Debug().Err(err).Msg("cannot read the history")
	}
	return view.Status(o.describe(units), units, &sum, records, time.Now()), nil
}

// describe is this daemon in a status.
func (o status) describe(units []mape.ContainerStatus) *view.Daemon {
	a, cfg := o.about, o.about.Config()
	containers := make([]knowledge.Container, 0, len(units))
	for i := range units {
		containers = append(containers, units[i].Container.Container)
	}
	d := &view.Daemon{
		Version: a.Version, ID: string(a.Identity.Node), Name: o.host.name, Mode: cfg.Node.Mode.String(),
		ConfigFile: cfg.File, StartedAt: a.Started, Crashes: a.Crashes, Machine: o.host.machine(), Cgroup: a.Cgroup,
		Actuator: cfg.Docker.Actuator.String(), Source: a.Source, Store: o.host.store.Health(), StoreOpened: a.StoreOpened,
		Stopping: a.Stopping(), Certificate: a.Certificate, Disagreements: config.Disagreements(containers),
	}
	d.Engine.Up, d.Engine.Since, d.Engine.Error = a.Engine()
	d.Engine.Refusals, d.Engine.Address = a.Refusals(), a.Address.String()
	return d
}

// Status is the whole cluster as this node sees it: its own host from memory, the others by
// one question.
func (o status) Status(ctx context.Context, _ api.None) (api.Status, error) {
	s, err := o.here(ctx)
	if err != nil || o.peers.cluster == nil {
		return s, err
	}
	v := o.peers.cluster.View()
	for i := range s.Services {
		sv := &s.Services[i]
		sv.Owner, sv.Warm = o.peers.ownerOf(knowledge.ServiceKey(sv.Name))
		if t, ok := v.Terms[knowledge.ServiceKey(sv.Name)]; ok {
			sv.Term = t.String()
		}
	}
	m := o.members.membership()
	c := &api.ClusterView{
		Name: m.Cluster, Expected: m.Expected, Majority: m.Majority, Encrypted: m.Encrypted, Ring: m.Ring,
		RingsDiffer: m.RingsDiffer, Owned: v.Claims, Hosts: []api.HostView{view.Host(m.Self, &s)},
	}
	for _, p := range m.Members {
		switch p.Status {
		case "alive", "suspect":
			c.Alive++
			c.Members++
		case "failed":
			c.Members++
		}
	}
	c.Hosts[0].Ring, c.Hosts[0].Status = m.Ring, "alive"
	view.AddSummary(c, s.Summary)
	o.addHosts(ctx, &s, c)
	for _, p := range m.Members { // their containers are not known, and not gone either
		if p.Status == "failed" {
			c.Hosts = append(c.Hosts, api.HostView{ID: p.ID, Name: p.Name, Status: p.Status})
		}
	}
	s.Cluster, s.Node.Members = c, c.Alive
	for _, text := range m.Problems {
		view.AddProblem(&s, api.ProblemCluster, text)
	}
	s.Degraded = s.Degraded || !c.Majority || len(m.Problems) > 0
	return s, nil
}

// addHosts adds the other hosts and their containers.
func (o status) addHosts(ctx context.Context, s *api.Status, c *api.ClusterView) {
	services := view.NewMerger(o.host.name, s.Services, o.peers.ownerOf)
	m, all := o.method(), o.peers.live(peersAsked)
	m.ask(ctx, o.peers, all, api.None{})
	for i := range all {
		p := &all[i].peer
		of, err := m.of(&all[i])
		h := api.HostView{}
		if err == nil {
			h = view.Host("", &of)
		} else {
			h.Error = err.Error()
		}
		h.ID, h.Name, h.Status, h.Ring = string(p.ID), p.Name, p.Status, checksumText(p.Ring)
		c.Hosts = append(c.Hosts, h)
		if err != nil {
			continue
		}
		for _, v := range of.Containers {
			v.Host = p.Name
			s.Containers = append(s.Containers, v)
		}
		services.Add(p.Name, of.Services)
		view.AddSummary(c, of.Summary)
		for _, problem := range of.Problems {
			s.Problems = append(s.Problems, p.Name+": "+problem)
		}
	}
	s.Services = services.Services()
}

// Identity is the node's name and zone.
func (o status) Identity() (name, zone string) { return o.host.name, o.about.Config().Node.Zone }

// Health is "" when all is well.
func (o status) Health() string {
	if up, _, last := o.about.Engine(); !up {
		return "the Docker Engine does not answer: " + last
	}
	if h := o.host.store.Health(); h != "" {
		return "the knowledge file: " + h
	}
	if o.about.Crashes > 0 {
		return "safe mode: only measuring"
	}
	return ""
}

// healthy is the health of this daemon for the socket.
func (o status) healthy(context.Context, api.None) (api.Done, error) {
	if h := o.Health(); h != "" {
		return api.Done{Status: h}, nil
	}
	return api.Done{Status: "healthy"}, nil
}

// ClusterStats are for the metrics page.
func (o status) ClusterStats() api.ClusterStats {
	cluster := o.peers.cluster
	if cluster == nil {
		return api.ClusterStats{Majority: true}
	}
	v, m := cluster.View(), cluster.Members()
	s := api.ClusterStats{
		Members: map[string]int{}, GossipHealth: m.Health(), Claims: v.Claims, Majority: v.Majority,
		Takeovers: v.Counts.Takeovers, TermsRefused: v.Counts.IntentsRefused,
		RelayDropped: v.Counts.Dropped, RelayErrors: v.Counts.SendErrors,
		TrustRefused:   map[string]uint64{},
		ReportsRefused: map[string]uint64{"absurd": v.Counts.ReportsRefused},
		Intents:        map[string]uint64{"obeyed": v.Counts.IntentsObeyed, "refused": v.Counts.IntentsRefused},
		Events: map[string]uint64{"ring": v.Counts.Rings, "superseded": v.Counts.Superseded,
			"false-alarm": v.Counts.FalseAlarms, "freeze": v.Counts.Stalls, "cut-refused": cluster.Uncertified()},
	}
	for _, p := range m.Peers() {
		s.Members[p.Status]++
	}
	calls := cluster.Relay().Stats()
	s.RelaySent, s.RelayReceived = calls.Out, calls.In
	for cause, count := range m.Counts().Refused {
		s.TrustRefused[string(cause)] = count
	}
	r := cluster.Refusals()
	s.TrustRefused["replay"], s.TrustRefused["signer"] = r.Replay, r.Signer
	s.TrustRefused["malformed"] = r.Malformed + r.TooLarge
	s.TrustRefused["recipient"] = r.Recipient // a few at each start: other nodes learn of a restart a little later
	return s
}
