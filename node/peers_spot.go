package node

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/effiscale/effiscale/node/api"
	"github.com/effiscale/effiscale/node/cluster/member"
	"github.com/effiscale/effiscale/node/cluster/relay"
)

// spot is where a name is looked for: NAME is here or else on one of the others,
// HOST/NAME on that host alone.
type spot struct {
	name  string   // without the host
	host  string   // that was named; "": none
	here  bool     // this host may have it
	there []answer // and these, and what they said last
}

// locate reads NAME or HOST/NAME.
func (n *Node) locate(ref string) (spot, error) {
	host, name := api.SplitHost(ref)
	switch {
	case name == ref:
		return spot{name: name, here: true, there: n.livePeers()}, nil
	case host == n.identity.Name:
		return spot{name: name, host: host, here: true}, nil
	}
	err := api.Errorf(api.KindNotFound, "no host of the cluster is called %q: `effiscale members` lists them", host)
	if n.cluster == nil {
		return spot{}, err
	}
	for _, p := range n.cluster.Members().Peers() {
		switch {
		case p.Self || p.Name != host:
		case p.Alive:
			return spot{name: name, host: host, there: []answer{{peer: p}}}, nil
		case p.Status == "left":
			err = api.Errorf(api.KindUnavailable, "host %s has left the cluster, what it runs cannot be asked from here: ask there, or restart its daemon", host)
		default:
			err = api.Errorf(api.KindUnavailable, "host %s is down, what it runs cannot be asked: `effiscale members` shows its state", host)
		}
	}
	return spot{}, err
}

// last reports whether nobody else is to be asked after this answer of this host.
func (at spot) last(err error) bool {
	return err == nil || at.host != "" || api.KindOf(err) != api.KindNotFound
}

// anywhere answers from this host where the name is here, else from the one other that
// has it, and reads that one's answer into there. host is that one; "": this one.
func (n *Node) anywhere(ctx context.Context, method, ref string, local func(name string) error, there any) (host string, err error) {
	at, err := n.locate(ref)
	if err != nil {
		return "", err
	}
	if at.here {
		if err = local(at.name); n.cluster == nil || at.last(err) {
			return "", err
		}
	}
	return n.elsewhere(ctx, at, method, []byte(at.name), there)
}

// elsewhere asks the other hosts about what is not here, and reads the one answer into
// there.
func (n *Node) elsewhere(ctx context.Context, at spot, method string, body []byte, there any) (host string, err error) {
	n.ask(ctx, peersWithin, at.there, method, body)
	a, err := n.only(at)
	if err != nil {
		return "", err
	}
	return nameOr(a.peer), understand(nameOr(a.peer), a.body, there)
}

// hereOf is the container of this host that is to be changed; "": another host may have
// it. A service that others run as well is no answer: which one of its containers is
// changed must not depend on the host that was asked.
func (n *Node) hereOf(ctx context.Context, at spot) (string, error) {
	if !at.here {
		return "", nil
	}
	name, err := n.container(ctx, at.name)
	if err != nil && !at.last(err) {
		return "", nil
	}
	if err == nil && name != at.name && at.host == "" && len(at.there) > 0 {
		n.ask(ctx, peersWithin, at.there, "where", []byte(at.name))
		forms := []string{n.identity.Name + "/" + at.name}
		for _, a := range at.there {
			said := new(relay.Error)
			if a.err == nil || errors.As(a.err, &said) && said.Status == http.StatusBadRequest { // it has several
				forms = append(forms, nameOr(a.peer)+"/"+at.name)
			}
		}
		if len(forms) > 1 {
			return "", severalHosts(at.name, forms)
		}
	}
	return name, err
}

// find is the one other host that has a container.
func (n *Node) find(ctx context.Context, at spot) (member.Peer, error) {
	if n.cluster == nil {
		return member.Peer{}, nowhere(at.name, nil)
	}
	n.ask(ctx, peersWithin, at.there, "where", []byte(at.name))
	a, err := n.only(at)
	return a.peer, err
}

// fromPeer reads what another host asks for, and checks it where check is not nil.
func fromPeer(body []byte, into any, check func() error) error {
	err := json.Unmarshal(body, into)
	if err == nil && check != nil {
		err = check()
	}
	if err != nil {
		return &relay.Error{Status: http.StatusBadRequest, Text: err.Error()}
	}
	return nil
}

// order has something done on another host, and reads what came of it into res.
func (n *Node) order(ctx context.Context, there member.Peer, method string, what, res any) error {
	body, err := json.Marshal(what)
	if err != nil {
		return err
	}
	answer, err := n.cluster.Relay().Call(ctx, there.ID, method, body)
	if err != nil {
		return ofPeer(nameOr(there), err)
	}
	return understand(nameOr(there), answer, res)
}
