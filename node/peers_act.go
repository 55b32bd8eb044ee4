package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/node/api"
	"github.com/effiscale/effiscale/node/member"
	"github.com/effiscale/effiscale/node/relay"
)

const (
	// peersWithin bounds what is asked of all others for one answer.
	peersWithin = time.Second
	// peersAsked bounds how many are asked.
	peersAsked = 256
)

// Join looks for the cluster at addresses.
func (n *Node) Join(ctx context.Context, addrs []string) (api.JoinResult, error) {
	out := api.JoinResult{Schema: api.Schema, Failed: []string{}}
	for _, a := range addrs {
		if _, err := n.cluster.Members().Join(ctx, a); err != nil {
			out.Failed = append(out.Failed, a+": "+err.Error())
			continue
		}
		out.Answered++
	}
	if out.Answered == 0 {
		return out, api.Errorf(api.KindUnavailable, "nobody answers: %s", out.Failed[0])
	}
	return out, nil
}

// Leave takes the node out of the cluster.
func (n *Node) Leave(context.Context) error { return n.cluster.Leave() }

// peerHandlers are the calls that other nodes' commands make.
func (n *Node) peerHandlers() map[string]relay.Handler {
	return map[string]relay.Handler{
		"status": {Serve: func(ctx context.Context, _ knowledge.NodeID, _ []byte) ([]byte, error) {
			s, err := n.localStatus(ctx)
			if err != nil {
				return nil, err
			}
			return json.Marshal(s)
		}},
		"explain": {Serve: func(ctx context.Context, _ knowledge.NodeID, body []byte) ([]byte, error) {
			e, err := n.localExplain(ctx, string(body))
			if api.KindOf(err) == api.KindNotFound {
				return nil, &relay.Error{Status: 404, Text: "not here"}
			}
			if err != nil {
				return nil, err
			}
			return json.Marshal(e)
		}, MaxBody: 256},
		"keys": {Serve: func(_ context.Context, _ knowledge.NodeID, body []byte) ([]byte, error) {
			var r api.KeyRequest
			if err := json.Unmarshal(body, &r); err != nil {
				return nil, err
			}
			if r.Do != "" {
				if err := n.changeKey(r); err != nil {
					return nil, err
				}
			}
			return json.Marshal(n.cluster.Members().Keys())
		}, MaxBody: 1024},
	}
}

func (n *Node) changeKey(r api.KeyRequest) error {
	key, err := member.ParseKey(r.Key)
	if err != nil {
		return err
	}
	m := n.cluster.Members()
	switch r.Do {
	case "add":
		return m.AddKey(key)
	case "use":
		return m.UseKey(key)
	case "remove":
		return m.RemoveKey(key)
	}
	return fmt.Errorf("%q is not to be done with a key: allowed are add, use, remove", r.Do)
}

// answer is one peer's.
type answer struct {
	peer member.Peer
	body []byte
	err  error
}

// askAll calls a method on every living peer at once.
func (n *Node) askAll(ctx context.Context, method string, body []byte) []answer {
	ctx, cancel := context.WithTimeout(ctx, peersWithin)
	defer cancel()
	var out []answer
	for _, p := range n.cluster.Members().Peers() {
		if !p.Self && p.Alive && len(out) < peersAsked {
			out = append(out, answer{peer: p})
		}
	}
	var all sync.WaitGroup
	for i := range out {
		all.Go(func() { out[i].body, out[i].err = n.cluster.Relay().Call(ctx, out[i].peer.ID, method, body) })
	}
	all.Wait()
	return out
}

// Keys are those that the members hold.
func (n *Node) Keys(ctx context.Context) (api.Keys, error) {
	return n.keys(n.askAll(ctx, "keys", []byte("{}"))), nil
}

func (n *Node) keys(answers []answer) api.Keys {
	out := api.Keys{Schema: api.Schema, Keys: []api.KeyView{}}
	count := func(names []string) {
		for _, name := range names {
			i := slices.IndexFunc(out.Keys, func(k api.KeyView) bool { return k.Fingerprint == name })
			if i < 0 {
				i = len(out.Keys)
				out.Keys = append(out.Keys, api.KeyView{Fingerprint: name, Of: 1 + len(answers)})
			}
			out.Keys[i].Nodes++
		}
	}
	own := n.cluster.Members().Keys()
	count(own)
	for _, a := range answers {
		var names []string
		if a.err == nil && json.Unmarshal(a.body, &names) == nil {
			count(names)
		}
	}
	if len(own) > 0 {
		out.Keys[0].Primary = true
	}
	return out
}

// KeyChange changes the keys of all members; the first that refuses is told of.
func (n *Node) KeyChange(ctx context.Context, r api.KeyRequest) (api.Keys, error) {
	if err := n.changeKey(r); err != nil {
		return api.Keys{}, api.Errorf(api.KindRefused, "%s", err)
	}
	body, err := json.Marshal(r)
	if err != nil {
		return api.Keys{}, err
	}
	answers := n.askAll(ctx, "keys", body)
	var failed error
	for _, a := range answers {
		if a.err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", a.peer.Name, a.err))
		}
	}
	if failed != nil {
		return api.Keys{}, api.Errorf(api.KindUnavailable, "not all nodes did it, ask again: %s", failed)
	}
	return n.keys(answers), nil
}

// ClusterStats are for the metrics page.
func (n *Node) ClusterStats() api.ClusterStats {
	if n.cluster == nil {
		return api.ClusterStats{}
	}
	v, m := n.cluster.View(), n.cluster.Members()
	s := api.ClusterStats{
		Members: map[string]int{}, GossipHealth: m.Health(), Claims: v.Claims, Takeovers: v.Counts.Takeovers,
		TermsRefused: v.Counts.IntentsRefused, RelayDropped: v.Counts.Dropped, RelayErrors: v.Counts.SendErrors,
		TrustRefused:   map[string]uint64{},
		ReportsRefused: map[string]uint64{"absurd": v.Counts.ReportsRefused},
		Intents:        map[string]uint64{"obeyed": v.Counts.IntentsObeyed, "refused": v.Counts.IntentsRefused},
	}
	for _, p := range m.Peers() {
		s.Members[p.Status]++
	}
	for _, p := range n.cluster.Relay().Stats().Peers {
		s.RelaySent += uint64(p.Out)
		s.RelayReceived += uint64(p.In)
	}
	for cause, count := range m.Counts().Refused {
		s.TrustRefused[string(cause)] = count
	}
	r := n.cluster.Refusals()
	s.TrustRefused["replay"], s.TrustRefused["signer"], s.TrustRefused["malformed"] = r.Replay, r.Signer, r.Malformed+r.TooLarge
	s.TrustRefused["recipient"] = r.Recipient // a few at each start: not all have heard of the new life yet
	return s
}

// owners hands reports to the cluster.
type owners struct{ n *Node }

// nameOf is what people call a node.
func (n *Node) nameOf(id knowledge.NodeID) string {
	for _, p := range n.cluster.Members().Peers() {
		if p.ID == id && p.Name != "" {
			return p.Name
		}
	}
	return id.Short()
}
