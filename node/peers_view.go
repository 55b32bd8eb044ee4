package node

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape/plan"
	"github.com/effiscale/effiscale/node/api"
	"github.com/effiscale/effiscale/node/cluster/member"
)

// Report hands this host's reports to the cluster.
func (o owners) Report(reports []plan.Report) {
	if o.n.cluster != nil {
		o.n.cluster.Report(reports)
	}
}

// ownerOf names who plans for a service, and who is warm.
func (n *Node) ownerOf(key knowledge.ServiceKey) (owner string, warm []string) {
	v := n.cluster.View()
	for _, id := range v.Ring.Owners(nil, key, v.Copies) {
		if owner == "" {
			owner = n.nameOf(id)
			continue
		}
		warm = append(warm, n.nameOf(id))
	}
	return owner, warm
}

// Status is the whole cluster as this node can tell it: its own host from memory,
// the others by one question.
func (n *Node) Status(ctx context.Context) (api.Status, error) {
	s, err := n.localStatus(ctx)
	if err != nil || n.cluster == nil {
		return s, err
	}
	v := n.cluster.View()
	for i := range s.Services {
		sv := &s.Services[i]
		sv.Owner, sv.Warm = n.ownerOf(knowledge.ServiceKey(sv.Name))
		if t, ok := v.Terms[knowledge.ServiceKey(sv.Name)]; ok {
			sv.Term = t.String()
		}
	}
	m := n.membership()
	c := &api.ClusterView{
		Name: m.Cluster, Expected: m.Expected, Majority: m.Majority, Encrypted: m.Encrypted, Ring: m.Ring, RingsDiffer: m.RingsDiffer,
		Owned: v.Claims, Hosts: []api.HostView{hostView(m.Self, &s)},
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
	addSummary(c, s.Summary)
	n.addHosts(ctx, &s, c)
	for _, p := range m.Members { // what ran there is not known, and not gone either
		if p.Status == "failed" {
			c.Hosts = append(c.Hosts, api.HostView{ID: p.ID, Name: p.Name, Status: p.Status})
		}
	}
	s.Cluster, s.Node.Members = c, c.Alive
	s.Problems = append(s.Problems, m.Problems...)
	s.Degraded = s.Degraded || !c.Majority || len(m.Problems) > 0
	return s, nil
}

func hostView(id string, s *api.Status) api.HostView {
	h := api.HostView{ID: id, Name: s.Node.Name, CPUs: s.Node.CPUs, CPUUsed: s.Node.CPUUsed, MemoryBytes: s.Node.MemoryBytes,
		MemoryUsed: s.Node.MemoryUsed, Containers: len(s.Containers), Degraded: s.Degraded, PoolCPU: s.Node.PoolCPU, PoolCPUGranted: s.Node.PoolCPUGranted}
	for i := range s.Containers {
		if s.Containers[i].Managed {
			h.Managed++
		}
	}
	return h
}

// addHosts puts the other hosts and their containers in.
func (n *Node) addHosts(ctx context.Context, s *api.Status, c *api.ClusterView) {
	services := n.newMerger(s.Services)
	for _, a := range n.askAll(ctx, "status", nil) {
		h := api.HostView{ID: string(a.peer.ID), Name: a.peer.Name, Status: a.peer.Status, Ring: sumText(a.peer.Ring)}
		var of api.Status
		if a.err == nil {
			a.err = json.Unmarshal(a.body, &of)
		}
		if a.err != nil {
			h.Error = a.err.Error()
			c.Hosts = append(c.Hosts, h)
			continue
		}
		ring, status := h.Ring, h.Status
		h = hostView(h.ID, &of)
		h.Name, h.Ring, h.Status = a.peer.Name, ring, status
		for _, v := range of.Containers {
			v.Host = a.peer.Name
			s.Containers = append(s.Containers, v)
		}
		services.add(a.peer.Name, of.Services)
		addSummary(c, of.Summary)
		for _, p := range of.Problems {
			s.Problems = append(s.Problems, a.peer.Name+": "+p)
		}
		c.Hosts = append(c.Hosts, h)
	}
	s.Services = services.sorted()
}

// addSummary adds one host's last hour.
func addSummary(c *api.ClusterView, s api.Summary) {
	t := &c.Summary
	c.SummaryOf++
	t.Actions += s.Actions
	t.Failed += s.Failed
	t.Reverted += s.Reverted
	t.DriftRepaired += s.DriftRepaired
	t.SavedCPU += s.SavedCPU
	t.SavedMemory += s.SavedMemory
}

// merger adds up what hosts run of the services.
type merger struct {
	all    []api.ServiceView
	at     map[string]int               // in all, by name
	hosts  map[string]int               // how many run it, by its name
	paused map[string]map[string]string // how it is paused, by its name and the host
	owner  func(knowledge.ServiceKey) (owner string, warm []string)
}

// newMerger begins with what this host runs, owners included.
func (n *Node) newMerger(own []api.ServiceView) *merger {
	m := &merger{all: own, at: make(map[string]int, len(own)), hosts: map[string]int{}, paused: map[string]map[string]string{}, owner: n.ownerOf}
	for i := range own {
		m.at[own[i].Name] = i
		m.pause(n.identity.Name, &own[i])
	}
	return m
}

// pause notes on how many hosts a service is, and how it is paused there.
func (m *merger) pause(host string, v *api.ServiceView) {
	m.hosts[v.Name]++
	if v.Paused == "" {
		return
	}
	if m.paused[v.Name] == nil {
		m.paused[v.Name] = map[string]string{}
	}
	m.paused[v.Name][host] = v.Paused
}

// pauses says of each service what holds on all of its hosts, or on which of them what does.
func (m *merger) pauses() {
	for name, on := range m.paused {
		v, kinds := &m.all[m.at[name]], map[string]bool{}
		for _, text := range on {
			kind, until, _ := strings.Cut(text, "until ")
			kinds[kind+strconv.FormatBool(until == "resumed")] = true
			v.Paused = max(v.Paused, text) // of seconds that differ, the last
		}
		if len(on) == m.hosts[name] && len(kinds) == 1 {
			continue
		}
		v.Paused, v.Pauses = "", on
	}
}

// add takes what another host runs.
func (m *merger) add(host string, more []api.ServiceView) {
	for _, v := range more {
		m.pause(host, &v)
		i, ok := m.at[v.Name]
		if !ok {
			v.Owner, v.Warm = m.owner(knowledge.ServiceKey(v.Name))
			m.at[v.Name] = len(m.all)
			m.all = append(m.all, v)
			continue
		}
		a := &m.all[i]
		a.Containers = append(a.Containers, v.Containers...)
		a.CPUUsed += v.CPUUsed
		a.MemoryUsed += v.MemoryUsed
		a.CPULimit, a.MemoryLimit = sum(a.CPULimit, v.CPULimit), sum(a.MemoryLimit, v.MemoryLimit)
	}
}

// sorted are the services by name; nothing can be added after it.
func (m *merger) sorted() []api.ServiceView {
	m.pauses()
	knowledge.SortFunc(m.all, func(a, b api.ServiceView) int { return strings.Compare(a.Name, b.Name) })
	return m.all
}

// sum of two limits; nil is none, and none and some is none.
func sum[T int64 | float64](a, b *T) *T {
	if a == nil || b == nil {
		return nil
	}
	v := *a + *b
	return &v
}

// refusedLately is how long a stranger that was refused stays a problem to look at.
const refusedLately = 10 * time.Minute

// clusterProblems are what a person should look at.
func (n *Node) clusterProblems() (out []string) {
	if n.keyTrouble != "" {
		out = append(out, n.keyTrouble)
	}
	if said := n.reachTrouble.Load(); said != nil && *said != "" {
		out = append(out, *said)
	}
	c := n.cluster.Members().Counts()
	lately := func(cause member.Cause) bool {
		at := c.RefusedAt[cause]
		return !at.IsZero() && time.Since(at) < refusedLately
	}
	if lately(member.CauseKey) {
		out = append(out, "a node with another cluster key, or none of ours, is refused, the last one at "+c.RefusedOf[member.CauseKey]+" (cluster.key_file): compare the files of all hosts")
	}
	if lately(member.CausePlaintext) {
		out = append(out, "a node that does not encrypt is refused, the last one at "+c.RefusedOf[member.CausePlaintext]+": give it the cluster's key (cluster.key_file)")
	}
	return out
}

// explainOwner tells who plans for a container's service.
func (n *Node) explainOwner(e *api.Explain, key knowledge.ServiceKey, envelope *knowledge.Envelope, ruled time.Time) {
	if n.cluster == nil {
		return
	}
	e.Owner, e.Warm = n.ownerOf(key)
	if !envelope.Term.IsZero() {
		e.Term = envelope.Term.String()
		if envelope.Term.Owner != n.cluster.Self() && !ruled.IsZero() {
			e.IntentAge = time.Since(ruled).Seconds()
		}
	}
	if p, ok := n.cluster.Members().Peer(n.cluster.View().Ring.Owner(key)); ok {
		e.OwnerState = p.Status
	}
}

// Leader tells whether this node owns a container's service, and who does; without
// a container, whether it takes part at all.
func (n *Node) Leader(ctx context.Context, ref string) (bool, string, error) {
	if ref == "" && n.cluster == nil {
		return true, n.identity.Name, nil
	}
	if ref == "" {
		v := n.cluster.View()
		return v.Ring.Owner("leader") == n.cluster.Self(), n.identity.Name, nil
	}
	key, err := n.serviceOf(ctx, ref)
	if err != nil {
		return false, "", err
	}
	if n.cluster == nil {
		return true, n.identity.Name, nil
	}
	owner, _ := n.ownerOf(key)
	return n.cluster.View().Ring.Owner(key) == n.cluster.Self(), owner, nil
}

// Register looks for the cluster at an endpoint, now and, where nobody answers, again for
// ever, also after a restart.
func (n *Node) Register(ctx context.Context, id, endpoint string) error {
	if n.cluster == nil {
		return n.remember(id, endpoint, false)
	}
	ctx, cancel := context.WithTimeout(ctx, peersWithin)
	defer cancel()
	_, err := n.cluster.Members().Join(ctx, endpoint)
	if errors.Is(err, member.ErrBusy) {
		return api.Errorf(api.KindUnavailable, "%s is not registered: %v", id, member.ErrBusy)
	}
	if err != nil {
		n.log.Info().Err(err).Str("controller", id).Msg("a controller was registered that does not gossip there yet: it is looked for again")
	}
	return n.remember(id, endpoint, err == nil)
}

// Neighbors are the other members, and the controllers that were registered.
func (n *Node) Neighbors(context.Context) (map[string]string, error) {
	known := map[string]string{}
	_, err := n.store.GetDoc(docNeighbors, &known)
	if n.cluster == nil {
		return known, err
	}
	n.dropMembers(known)
	for _, p := range n.cluster.Members().Peers() {
		if p.Self || !p.Alive {
			continue
		}
		known[p.Name] = p.Addr
	}
	return known, err
}

// dropMembers leaves out controllers that were registered by their address and are
// members since.
func (n *Node) dropMembers(known map[string]string) {
	if n.cluster == nil {
		return
	}
	for _, p := range n.cluster.Members().Peers() {
		for id, at := range known {
			if p.Alive && !p.Self && at == p.Addr {
				delete(known, id)
			}
		}
	}
}

// endpoints of controllers, by their ids.
func endpoints(known map[string]string) (out []string) {
	for _, id := range slices.Sorted(maps.Keys(known)) {
		out = append(out, known[id])
	}
	return out
}
