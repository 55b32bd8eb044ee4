package node

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/node/api"
	"github.com/effiscale/effiscale/node/cluster/member"
	"github.com/effiscale/effiscale/node/cluster/relay"
	"github.com/effiscale/effiscale/node/view"
)

// A person asks any node about a container or a service of any host. What is on this
// host comes first; else all others are asked at once, and one of them answers.

// kinds pairs the kinds of errors that travel between nodes with their statuses.
func kinds() map[api.Kind]int {
	return map[api.Kind]int{
		api.KindBadRequest: http.StatusBadRequest, api.KindNotFound: http.StatusNotFound, api.KindRefused: http.StatusConflict,
		api.KindTimeout: http.StatusGatewayTimeout, api.KindUnavailable: http.StatusBadGateway, api.KindForbidden: http.StatusForbidden,
	}
}

// forPeer is an error of this node as another one is told.
func forPeer(err error) error {
	status, ok := kinds()[api.KindOf(err)]
	if err == nil || !ok {
		return err
	}
	return &relay.Error{Status: status, Text: err.Error()}
}

// ofPeer is an error of a call as a person is told. The host is named.
func ofPeer(host string, err error) error {
	if err == nil {
		return nil
	}
	if older(err) {
		return api.Errorf(api.KindUnavailable, "host %s is of an older version, which does not know this: ask there", host)
	}
	if said := new(relay.Error); errors.As(err, &said) {
		for kind, status := range kinds() {
			if status == said.Status {
				return api.Errorf(kind, "on host %s: %s", host, said.Text)
			}
		}
		kind := api.KindInternal
		if said.Status == http.StatusTooManyRequests || said.Status == http.StatusServiceUnavailable {
			kind = api.KindUnavailable // it has too much to do
		}
		return api.Errorf(kind, "on host %s: %s", host, said.Error())
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return api.Errorf(api.KindTimeout, "host %s did not answer in time: `effiscale members` shows its state", host)
	}
	return api.Errorf(api.KindUnavailable, "host %s cannot be reached: %v; `effiscale members` shows its state", host, err)
}

// container is the name of the one container of this host that is meant: its own name
// or id, or that of a service with one container.
func (n *Node) container(ctx context.Context, ref string) (string, error) {
	_, _, err := n.loop.Find(ctx, ref)
	if err = asError(err); api.KindOf(err) != api.KindNotFound {
		return ref, err
	}
	units, _, unitsErr := n.loop.Containers(ctx)
	if unitsErr != nil {
		return ref, loopError(unitsErr)
	}
	var names []string
	for i := range units {
		if units[i].Container.Service == knowledge.ServiceKey(ref) {
			names = append(names, units[i].Container.Name)
		}
	}
	switch {
	case len(names) == 1:
		return names[0], nil
	case len(names) > 1:
		if len(n.livePeers()) > 0 { // these forms are right at any of them
			for i := range names {
				names[i] = n.identity.Name + "/" + names[i]
			}
		}
		return ref, api.Errorf(api.KindBadRequest, "service %q has %d containers on this host, name one: %s", ref, len(names), view.Names(names))
	}
	return ref, err
}

// silent says which hosts could not be asked: what they run is not known here.
func (n *Node) silent(at spot) (names []string) {
	if at.host == "" {
		for _, p := range n.cluster.Members().Peers() {
			if p.Status == "failed" {
				names = append(names, nameOr(p)+" (down)")
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

//go:noinline // copies make the binary larger
func nameOr(p member.Peer) string {
	if p.Name == "" {
		return p.ID.Short()
	}
	return p.Name
}

// nowhere is the error for a name that no host knows that could be asked.
func nowhere(ref string, silent []string) error {
	if len(silent) > 0 {
		return api.Errorf(api.KindUnavailable, "no container or service %q on the hosts that answer; these do not, and it may be there: %s", ref, view.Names(silent))
	}
	return api.Errorf(api.KindNotFound, "no container or service %q on any host of the cluster: `effiscale status` lists them", ref)
}

// only is the one answer of the hosts that have what was asked for.
func (n *Node) only(at spot) (answer, error) {
	var found []answer
	var forms []string
	var failed error
	for _, a := range at.there {
		said := new(relay.Error)
		switch {
		case a.err == nil:
			found, forms = append(found, a), append(forms, nameOr(a.peer)+"/"+at.name)
		case at.host != "" || errors.As(a.err, &said) && said.Status != http.StatusNotFound:
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
	return answer{}, nowhere(at.name, n.silent(at))
}

func severalHosts(ref string, forms []string) error {
	return api.Errorf(api.KindBadRequest, "%q is on several hosts, name one: %s; or give the container's id", ref, view.Names(forms))
}

//go:noinline // copies make the binary larger
func understand(host string, answer []byte, into any) error {
	if err := json.Unmarshal(answer, into); err != nil {
		return api.Errorf(api.KindInternal, "host %s answers what is not understood: %v", host, err)
	}
	return nil
}

// Explain is everything about one container, on whichever host it runs.
func (n *Node) Explain(ctx context.Context, ref string) (e api.Explain, err error) {
	host, err := n.anywhere(ctx, "explain", ref, func(name string) (err error) {
		e, err = n.localExplain(ctx, name)
		return err
	}, &e)
	if host != "" {
		e.Container.Host = host
	}
	return e, err
}

// Decide is the owner's real plan for one container, on whichever host it runs.
func (n *Node) Decide(ctx context.Context, ref string) (p api.ContainerPlan, err error) {
	_, err = n.anywhere(ctx, "decide", ref, func(name string) (err error) {
		p, err = n.localDecide(ctx, name)
		return err
	}, &p)
	return p, err
}

// serviceOf is what a container does the work of, on whichever host it runs.
func (n *Node) serviceOf(ctx context.Context, ref string) (key knowledge.ServiceKey, err error) {
	_, err = n.anywhere(ctx, "service", ref, func(name string) (err error) {
		key, err = n.localService(ctx, name)
		return err
	}, &key)
	return key, err
}

func (n *Node) localService(ctx context.Context, ref string) (knowledge.ServiceKey, error) {
	u, _, err := n.loop.Find(ctx, ref)
	if err != nil {
		return "", asError(err)
	}
	return u.Container.Service, nil
}

// told answers a call about a container of this host.
func told[T any](local func(context.Context, string) (T, error)) relay.Handler {
	return relay.Handler{MaxBody: maxRef, Serve: func(ctx context.Context, _ knowledge.NodeID, body []byte) ([]byte, error) {
		v, err := local(ctx, string(body))
		if err != nil {
			return nil, forPeer(err)
		}
		return json.Marshal(v)
	}}
}

// order is a request to set limits on another host.
type order struct {
	api.ScaleRequest
	By string `json:"by"`
}

// Scale sets limits of one container on request, inside every guard of its host.
func (n *Node) Scale(ctx context.Context, r api.ScaleRequest) (api.ScaleResult, error) {
	at, err := n.locate(r.Container)
	if err != nil {
		return api.ScaleResult{}, err
	}
	r.Container = at.name
	if n.cluster == nil {
		return n.localScale(ctx, r)
	}
	ref, err := n.hereOf(ctx, at)
	if err != nil {
		return api.ScaleResult{}, err
	}
	if ref != "" {
		r.Container = ref
		return n.localScale(ctx, r)
	}
	if r.Key != "" { // it may have been here when the request was made first
		if res, again, err := n.repeated(r); again || err != nil {
			return res, err
		}
	}
	there, err := n.find(ctx, at)
	if err != nil {
		return api.ScaleResult{}, err
	}
	var res api.ScaleResult
	err = n.order(ctx, there, "scale", order{r, r.By + " at " + n.identity.Name}, &res)
	res.Host = nameOr(there)
	return res, err
}

// maxRef bounds what a peer may name.
const maxRef = 256

// findHandlers are the calls of nodes that were asked about what runs here.
func (n *Node) findHandlers() map[string]relay.Handler {
	return map[string]relay.Handler{
		"where": {MaxBody: maxRef, Serve: func(ctx context.Context, _ knowledge.NodeID, body []byte) ([]byte, error) {
			ref, err := n.container(ctx, string(body))
			return []byte(ref), forPeer(err)
		}},
		"runs":    told(n.localRuns),
		"plan":    told(n.localPlan),
		"explain": told(n.localExplain),
		"decide":  told(n.localDecide),
		"service": told(n.localService),
		"scale": {MaxBody: 16 << 10, Serve: func(ctx context.Context, _ knowledge.NodeID, body []byte) ([]byte, error) {
			var o order
			if err := fromPeer(body, &o, nil); err != nil {
				return nil, err
			}
			ref, err := n.container(ctx, o.Container)
			if err != nil {
				return nil, forPeer(err)
			}
			if err := checkOrder(&o); err != nil {
				return nil, forPeer(err)
			}
			o.ScaleRequest.By, o.Container = o.By, ref
			res, err := n.localScale(ctx, o.ScaleRequest)
			if err != nil {
				return nil, forPeer(err)
			}
			return json.Marshal(res)
		}},
		"history": {MaxBody: 1 << 10, Stream: n.streamHistory},
		"trace":   {MaxBody: 1 << 10, Serve: n.traceForPeer},
		"pause":   {MaxBody: 1 << 10, Serve: n.pauseForPeer},
		"restore": {MaxBody: maxRef, Serve: n.restoreForPeer},
	}
}

// checkOrder holds a peer's request against what the API lets through.
func checkOrder(o *order) error {
	const maxBy = 128
	if len(o.By) > maxBy {
		return api.Errorf(api.KindBadRequest, "who asks has more than %d bytes", maxBy)
	}
	return api.CheckScale(o.ScaleRequest)
}
