package ops

import (
	"context"
	"errors"
	"net/http"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/node/api"
	"github.com/effiscale/effiscale/node/cluster/relay"
)

// place is where a name is looked for: NAME is here or else on one of the other hosts,
// HOST/NAME on that host alone.
type place struct {
	name  string   // without the host
	host  string   // that was named; "": none
	here  bool     // this host may have it
	alone bool     // there is no cluster
	there []answer // and these hosts, and what they answered last
}

// locate reads NAME or HOST/NAME, where NAME may be PROJECT/SERVICE. What is before the
// first slash is a host where one has that name.
func (p *peers) locate(ref string) (place, error) {
	host, name := api.SplitHost(ref)
	switch {
	case name == ref:
		return p.anywhere(name), nil
	case host == p.self:
		return place{name: name, host: host, here: true}, nil
	}
	var err error
	for _, m := range p.members() {
		switch {
		case m.Self || m.Name != host:
		case m.Alive:
			return place{name: name, host: host, there: []answer{{peer: m}}}, nil
		case m.Status == "left":
			err = api.Errorf(api.KindUnavailable, "host %s has left the cluster and cannot be asked from here: "+
				"ask there, or restart its daemon", host)
		default:
			err = api.Errorf(api.KindUnavailable,
				"host %s is down and cannot be asked: `effiscale members` shows its state", host)
		}
	}
	if err != nil {
		return place{}, err
	}
	return p.anywhere(ref), nil // PROJECT/SERVICE
}

// anywhere is this host and all others.
func (p *peers) anywhere(name string) place {
	return place{name: name, here: true, alone: p.cluster == nil, there: p.live(peersAsked)}
}

// last reports whether no other host is to be asked after this answer of this host.
func (at *place) last(err error) bool {
	return err == nil || at.host != "" || at.alone || api.KindOf(err) != api.KindNotFound
}

// only is the one answer of the hosts that have the name.
func (p *peers) only(at *place) (answer, error) {
	var found []answer
	var forms []string
	var failed error
	for _, a := range at.there {
		answered := new(relay.Error)
		switch {
		case a.err == nil:
			found, forms = append(found, a), append(forms, nameOr(a.peer)+"/"+at.name)
		case at.host != "" || errors.As(a.err, &answered) && answered.Status != http.StatusNotFound:
			failed = ofPeer(nameOr(a.peer), a.err)
		}
	}
	switch {
	case len(found) > 1:
		return answer{}, severalHosts(at.name, forms)
	case len(found) == 1:
		return found[0], nil
	case failed != nil:
		return answer{}, failed
	}
	return answer{}, nowhere(at.name, p.silent(at))
}

// silent names the hosts that could not be asked.
func (p *peers) silent(at *place) (names []string) {
	if at.host == "" {
		for _, m := range p.members() {
			if m.Status == "failed" {
				names = append(names, nameOr(m)+" (down)")
			}
		}
	}
	for _, a := range at.there {
		switch {
		case a.err == nil:
		case older(a.err):
			names = append(names, nameOr(a.peer)+" (of an older version)")
		case !errors.As(a.err, new(*relay.Error)):
			names = append(names, nameOr(a.peer))
		}
	}
	return names
}

// finder looks for the one container that is to be changed.
type finder struct {
	host  *host
	peers *peers
}

// where answers another host whether this one has a container.
func (f finder) where() method[string, string] {
	return method[string, string]{name: "where", plain: true, maxBody: maxRef,
		here: func(ctx context.Context, _ knowledge.NodeID, ref string) (string, error) {
			return f.container(ctx, ref)
		}}
}

// container is the one container of this host that ref names. The forms in an error are
// right on any host.
func (f finder) container(ctx context.Context, ref string) (string, error) {
	prefix := ""
	if len(f.peers.live(1)) > 0 {
		prefix = f.peers.self + "/"
	}
	return f.host.container(ctx, ref, prefix)
}

// onThisHost is the container of this host that is to be changed; "": another host may have
// it. A service that other hosts run as well is
// an error: which of its containers is changed must not depend on the host that was asked.
func (f finder) onThisHost(ctx context.Context, at *place) (string, error) {
	if !at.here {
		return "", nil
	}
	name, err := f.container(ctx, at.name)
	if err != nil {
		if at.last(err) {
			return "", err
		}
		return "", nil
	}
	if name != at.name && at.host == "" && len(at.there) > 0 {
		f.where().ask(ctx, f.peers, at.there, at.name)
		forms := []string{f.peers.self + "/" + at.name}
		for _, a := range at.there {
			answered := new(relay.Error)
			if a.err == nil || errors.As(a.err, &answered) && answered.Status == http.StatusBadRequest { // it has several
				forms = append(forms, nameOr(a.peer)+"/"+at.name)
			}
		}
		if len(forms) > 1 {
			return "", severalHosts(at.name, forms)
		}
	}
	return name, nil
}

// elsewhere is the one other host that has the container.
func (f finder) elsewhere(ctx context.Context, at *place) (answer, error) {
	f.where().ask(ctx, f.peers, at.there, at.name)
	return f.peers.only(at)
}
