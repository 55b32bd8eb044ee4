package node

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape/plan"
	"github.com/effiscale/effiscale/node/api"
	"github.com/effiscale/effiscale/node/cluster/member"
	"github.com/effiscale/effiscale/node/view"
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
		Owned: v.Claims, Hosts: []api.HostView{view.Host(m.Self, &s)},
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

// addHosts puts the other hosts and their containers in.
func (n *Node) addHosts(ctx context.Context, s *api.Status, c *api.ClusterView) {
	services := view.NewMerger(n.identity.Name, s.Services, n.ownerOf)
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
		h = view.Host(h.ID, &of)
		h.Name, h.Ring, h.Status = a.peer.Name, ring, status
		for _, v := range of.Containers {
			v.Host = a.peer.Name
			s.Containers = append(s.Containers, v)
		}
		services.Add(a.peer.Name, of.Services)
		view.AddSummary(c, of.Summary)
		for _, p := range of.Problems {
			s.Problems = append(s.Problems, a.peer.Name+": "+p)
		}
		c.Hosts = append(c.Hosts, h)
	}
	s.Services = services.Services()
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
	_, err := n.store.Documents.Get(docNeighbors, &known)
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
