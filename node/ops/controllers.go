package ops

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/knowledge/store"
	"github.com/effiscale/effiscale/node/api"
	"github.com/effiscale/effiscale/node/cluster/member"
	"github.com/effiscale/effiscale/node/view"
)

// DocNeighbors names the document of the store that holds the registered controllers.
const DocNeighbors = "neighbors"

// maxNeighbors bounds the controllers that are remembered: each is looked for, for ever.
const maxNeighbors = member.MaxIntroduced

// controllers answers the controller service: which nodes decide, and what.
type controllers struct {
	host       *host
	peers      *peers
	mu         sync.Mutex     // held from reading the controllers to writing them
	registered []registration // guarded by mu, oldest first
}

// registration is one since the start.
type registration struct {
	id       string
	answered bool
}

func (o *controllers) resolver() resolver { return resolver{o.host, o.peers} }

func (o *controllers) method() method[string, api.ContainerPlan] {
	return method[string, api.ContainerPlan]{name: "decide", plain: true, maxBody: maxRef, here: o.here}
}

// here is the plan for one container of this host.
func (o *controllers) here(ctx context.Context, _ knowledge.NodeID, ref string) (api.ContainerPlan, error) {
	u, err := o.host.find(ctx, ref)
	if err != nil {
		return api.ContainerPlan{}, err
	}
	return view.Decision(&u, o.host.machine().CPUs, o.of(u.Container.Service), time.Now()), nil
}

// of are those that take part in decisions about a service: its owner, and the warm nodes.
func (o *controllers) of(key knowledge.ServiceKey) []string {
	if o.peers.cluster == nil {
		return []string{o.peers.self}
	}
	owner, warm := o.peers.ownerOf(key)
	if owner == "" { // none yet
		return []string{}
	}
	return append([]string{owner}, warm...)
}

// Decide is the owner's real plan for one container, on whichever host it runs.
func (o *controllers) Decide(ctx context.Context, ref string) (api.ContainerPlan, error) {
	p, _, err := anywhere(ctx, o.peers, o.method(), ref)
	return p, err
}

// Leader reports whether this node owns a container's service, and which node does; without
// a container, whether it takes part at all.
func (o *controllers) Leader(ctx context.Context, ref string) (bool, string, error) {
	c := o.peers.cluster
	if ref == "" {
		return c == nil || c.View().Ring.Owner("leader") == c.Self(), o.peers.self, nil
	}
	key, err := o.resolver().serviceOf(ctx, ref)
	if err != nil {
		return false, "", err
	}
	if c == nil {
		return true, o.peers.self, nil
	}
	owner, _ := o.peers.ownerOf(key)
	return c.View().Ring.Owner(key) == c.Self(), owner, nil
}

// Register looks for the cluster at an endpoint, now and, without an answer, again for ever,
// also after a restart.
func (o *controllers) Register(ctx context.Context, id, endpoint string) error {
	if o.peers.cluster == nil {
		return o.remember(id, endpoint, false)
	}
	ctx, cancel := context.WithTimeout(ctx, peersWithin)
	defer cancel()
	_, err := o.peers.cluster.Members().Join(ctx, endpoint)
	if errors.Is(err, member.ErrBusy) {
		return api.Errorf(api.KindUnavailable, "%s is not registered: %v", id, member.ErrBusy)
	}
	if err != nil {
		o.host.log.Info().Err(err).Str("controller", id).
			Msg("registered controller does not answer gossip yet; retrying in the background")
	}
	return o.remember(id, endpoint, err == nil)
}

// remember keeps another controller's endpoint, and looks for the cluster there until it
// is a member. It replaces an earlier endpoint of the same controller, and where there are
// too many, the oldest that never answered.
func (o *controllers) remember(id, endpoint string, answered bool) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	known, err := o.known()
	if err != nil {
		o.host.log.Warn().Err(err).Msg("cannot read the registered controllers")
	}
	full := func() bool { return known[id] == "" && len(known) >= maxNeighbors }
	if full() {
		o.dropMembers(known) // membership remembers them
	}
	if full() {
		if old := o.unanswered(known); old != "" {
			o.host.log.Warn().Str("controller", old).Str("at", known[old]).Str("for", id).
				Msg("too many registered controllers: dropping one that never answered")
			delete(known, old)
		}
	}
	if full() {
		return api.Errorf(api.KindRefused, "cannot register more than %d controllers: all of them have answered",
			maxNeighbors)
	}
	known[id] = endpoint
	o.registered = slices.DeleteFunc(o.registered, func(r registration) bool { return r.id == id || known[r.id] == "" })
	o.registered = append(o.registered, registration{id, answered})
	if o.peers.cluster != nil {
		o.peers.cluster.Members().Introduce(Endpoints(known))
	}
	if err := o.host.store.Documents.Put(DocNeighbors, known); !errors.Is(err, store.ErrDegraded) {
		return err
	}
	return nil // the store has logged why it cannot write
}

func (o *controllers) known() (map[string]string, error) {
	known := map[string]string{}
	_, err := o.host.store.Documents.Get(DocNeighbors, &known)
	return known, err
}

// unanswered is the oldest of the controllers that never answered, those of earlier runs
// before those of this one; "": all did. mu is held.
func (o *controllers) unanswered(known map[string]string) string {
	at := map[string]bool{}
	for _, p := range o.peers.members() {
		at[p.Addr] = true
	}
	old := slices.Sorted(maps.Keys(known))
	for _, r := range o.registered {
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

// Neighbors are the other members, and the controllers that were registered.
func (o *controllers) Neighbors(context.Context) (map[string]string, error) {
	known, err := o.known()
	o.dropMembers(known)
	for _, p := range o.peers.members() {
		if !p.Self && p.Alive {
			known[p.Name] = p.Addr
		}
	}
	return known, err
}

// dropMembers leaves out controllers that were registered by their address and are
// members since.
func (o *controllers) dropMembers(known map[string]string) {
	for _, p := range o.peers.members() {
		for id, at := range known {
			if p.Alive && !p.Self && at == p.Addr {
				delete(known, id)
			}
		}
	}
}

// Endpoints of controllers, in the order of their ids.
func Endpoints(known map[string]string) (out []string) {
	for _, id := range slices.Sorted(maps.Keys(known)) {
		out = append(out, known[id])
	}
	return out
}
