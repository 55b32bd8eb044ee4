package node

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/node/api"
	"github.com/effiscale/effiscale/node/cluster/relay"
)

// runs is what a name means on one host.
type runs struct {
	Service knowledge.ServiceKey `json:"service"`
	ByName  bool                 `json:"by_name"` // it is the service's own, not a container's
}

// localRuns is the service of this host that has this name, or a container of it.
func (n *Node) localRuns(ctx context.Context, name string) (runs, error) {
	if n.knowsService(ctx, name) {
		return runs{knowledge.ServiceKey(name), true}, nil
	}
	key, err := n.localService(ctx, name)
	return runs{Service: key}, err
}

// meant is the one service that a name means on the hosts where it is looked for: a
// service's own name comes before a container's.
func (n *Node) meant(ctx context.Context, at spot) (key knowledge.ServiceKey, err error) {
	var forms []string
	one := true
	hear := func(host string, r runs) bool {
		if r.ByName {
			key = r.Service
			return true
		}
		one = one && (key == "" || key == r.Service)
		key, forms = r.Service, append(forms, host+"/"+at.name)
		return false
	}
	if at.here {
		r, err := n.localRuns(ctx, at.name)
		switch {
		case err == nil:
			if hear(n.identity.Name, r) {
				return key, nil
			}
		case at.last(err):
			return "", err
		}
	}
	n.ask(ctx, peersWithin, at.there, "runs", []byte(at.name))
	for _, a := range at.there {
		var r runs
		if a.err == nil && understand(nameOr(a.peer), a.body, &r) == nil && knowledge.ValidName(string(r.Service)) && hear(nameOr(a.peer), r) {
			return key, nil
		}
	}
	switch {
	case !one:
		return "", severalHosts(at.name, forms)
	case len(forms) == 0:
		_, err = n.only(at)
		return "", err
	}
	return key, nil
}

// Pause stops or resumes automation of a service on every host that runs it, or of all
// services of this host or of all. A host that cannot be told is named.
func (n *Node) Pause(ctx context.Context, r api.PauseRequest) (api.PauseResult, error) {
	out := api.PauseResult{Status: "done", Hosts: []string{}, NotReached: []string{}}
	at := spot{here: true}
	if r.AllHosts {
		at.there = n.livePeers()
	} else if !r.All {
		var err error
		if at, err = n.locate(r.Service); err != nil {
			return out, err
		}
		key, err := n.meant(ctx, at)
		if err != nil {
			return out, err
		}
		r.Service, out.Service = string(key), string(key)
	}
	wide := r.AllHosts || !r.All && at.host == ""
	r.All, r.AllHosts = r.All || r.AllHosts, false
	if at.here {
		switch err := n.localPause(ctx, r, ""); {
		case err == nil:
			out.Hosts = append(out.Hosts, n.identity.Name)
		case r.All || at.last(err):
			return out, err
		}
	}
	body, err := json.Marshal(r)
	if err != nil || n.cluster == nil {
		return out, err
	}
	n.ask(ctx, orderWithin, at.there, "pause", body)
	for _, a := range at.there {
		said := new(relay.Error)
		switch {
		case a.err == nil:
			out.Hosts = append(out.Hosts, nameOr(a.peer))
		case at.host != "":
			return out, ofPeer(at.host, a.err)
		case errors.As(a.err, &said) && said.Status != http.StatusNotFound:
			out.NotReached = append(out.NotReached, nameOr(a.peer)+" ("+said.Text+")")
		}
	}
	if wide {
		out.NotReached = append(out.NotReached, n.silent(at)...)
	}
	slices.Sort(out.Hosts)
	slices.Sort(out.NotReached)
	return out, nil
}

// pauseForPeer does what the command was told at another node.
func (n *Node) pauseForPeer(ctx context.Context, from knowledge.NodeID, body []byte) ([]byte, error) {
	var r api.PauseRequest
	err := fromPeer(body, &r, func() error {
		if err := api.CheckPause(r); err != nil || !r.AllHosts {
			return err
		}
		return errors.New("all_hosts: each host is told by the one that was asked")
	})
	if err != nil {
		return nil, err
	}
	return nil, forPeer(n.localPause(ctx, r, n.nameOf(from)))
}

// Restore puts one container, on whichever host, or all of this host back to the limits
// that they had.
func (n *Node) Restore(ctx context.Context, ref string) (api.RestoreResult, error) {
	none := api.RestoreResult{Schema: api.Schema, Restored: []api.Change{}, Failed: []string{}}
	if ref == "" {
		return n.localRestore(ctx, "")
	}
	at, err := n.locate(ref)
	if err != nil {
		return none, err
	}
	name, err := n.hereOf(ctx, at)
	if err != nil {
		return none, err
	}
	if name != "" {
		return n.localRestore(ctx, name)
	}
	there, err := n.find(ctx, at)
	if err != nil {
		return none, err
	}
	res := none
	err = n.order(ctx, there, "restore", at.name, &res)
	res.Host = nameOr(there)
	return res, err
}

// restoreForPeer restores one container for the command at another node; never all.
func (n *Node) restoreForPeer(ctx context.Context, from knowledge.NodeID, body []byte) ([]byte, error) {
	var ref string
	if err := fromPeer(body, &ref, func() error { return api.CheckRef(ref) }); err != nil {
		return nil, err
	}
	name, err := n.container(ctx, ref)
	if err != nil {
		return nil, forPeer(err)
	}
	n.log.Info().Str("container", name).Str("at", n.nameOf(from)).Msg("a container is restored, asked for at another node")
	res, err := n.localRestore(ctx, name)
	if err != nil {
		return nil, forPeer(err)
	}
	return json.Marshal(res)
}
