package ops

import (
	"context"

	"github.com/effiscale/effiscale/knowledge"
)

// resolver finds the service that a name means on the hosts of a cluster.
type resolver struct {
	host  *host
	peers *peers
}

// resolved is the service that a name means on one host.
type resolved struct {
	Service knowledge.ServiceKey `json:"service"`
	ByName  bool                 `json:"by_name"` // it is the service's own, not a container's
}

func (o resolver) method() method[string, resolved] {
	return method[string, resolved]{name: "runs", plain: true, maxBody: maxRef, here: o.here}
}

// here is the service of this host that has this name, or a container of it.
func (o resolver) here(ctx context.Context, _ knowledge.NodeID, name string) (resolved, error) {
	name, err := o.host.canonical(ctx, name)
	if err != nil {
		return resolved{}, err
	}
	if o.host.runs(ctx, name) {
		return resolved{knowledge.ServiceKey(name), true}, nil
	}
	key, err := o.host.service(ctx, name)
	return resolved{Service: key}, err
}

// resolve is the one service that a name means at a place: a service's own name comes before
// a container's.
func (o resolver) resolve(ctx context.Context, at *place) (key knowledge.ServiceKey, err error) {
	var forms []string
	one := true
	take := func(host string, r resolved) (final bool) {
		if r.ByName {
			key = r.Service
			return true
		}
		one = one && (key == "" || key == r.Service)
		key, forms = r.Service, append(forms, host+"/"+at.name)
		return false
	}
	if at.here {
		r, err := o.here(ctx, "", at.name)
		switch {
		case err == nil:
			if take(o.peers.self, r) {
				return key, nil
			}
		case at.last(err):
			return "", err
		}
	}
	m := o.method()
	m.ask(ctx, o.peers, at.there, at.name)
	for i := range at.there {
		r, err := m.of(&at.there[i])
		if err == nil && knowledge.ValidService(r.Service) && take(nameOr(at.there[i].peer), r) {
			return key, nil
		}
	}
	switch {
	case !one:
		return "", severalHosts(at.name, forms)
	case len(forms) == 0:
		_, err = o.peers.only(at)
		return "", err
	}
	return key, nil
}

// serviceMethod asks for the service of a container.
func (o resolver) serviceMethod() method[string, knowledge.ServiceKey] {
	return method[string, knowledge.ServiceKey]{name: "service", plain: true, maxBody: maxRef,
		here: func(ctx context.Context, _ knowledge.NodeID, ref string) (knowledge.ServiceKey, error) {
			return o.host.service(ctx, ref)
		}}
}

// serviceOf is the service of a container, on whichever host it runs.
func (o resolver) serviceOf(ctx context.Context, ref string) (knowledge.ServiceKey, error) {
	key, _, err := anywhere(ctx, o.peers, o.serviceMethod(), ref)
	return key, err
}
