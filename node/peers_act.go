package node

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"sync"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/node/api"
	"github.com/effiscale/effiscale/node/cluster/member"
	"github.com/effiscale/effiscale/node/cluster/relay"
)

const (
	// peersWithin bounds what is asked of all others for one answer.
	peersWithin = time.Second
	// orderWithin bounds what is to be done there: a record of it goes to the disk first.
	orderWithin = 5 * time.Second
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
// Another one that is down is said to be gone for good.
func (n *Node) Leave(_ context.Context, name string) error {
	if name == "" || name == n.identity.Name {
		return n.cluster.Leave()
	}
	err := n.cluster.Members().Forget(name)
	switch {
	case errors.Is(err, member.ErrUnknown):
		return api.Errorf(api.KindNotFound, "%s", err)
	case err != nil:
		return api.Errorf(api.KindRefused, "%s", err)
	}
	n.log.Warn().Str("name", name).Msg("a node that is down was said to be gone for good: nobody waits for it any more")
	return nil
}

// peerHandlers are the calls that other nodes' commands make.
func (n *Node) peerHandlers() map[string]relay.Handler {
	own := map[string]relay.Handler{
		"status": {Serve: func(ctx context.Context, _ knowledge.NodeID, _ []byte) ([]byte, error) {
			s, err := n.localStatus(ctx)
			if err != nil {
				return nil, err
			}
			return json.Marshal(s)
		}},
		"keys": {Serve: func(_ context.Context, from knowledge.NodeID, body []byte) ([]byte, error) {
			return n.keysForPeer(from, body)
		}, MaxBody: 1024},
		"reach": {Serve: n.reach},
		"about": {Serve: func(context.Context, knowledge.NodeID, []byte) ([]byte, error) { return json.Marshal(n.about()) }, MaxBody: 64},
	}
	maps.Copy(own, n.findHandlers())
	for _, name := range []string{"scale", "pause", "restore"} {
		own[name] = n.ordered(own[name])
	}
	return own
}

// ordered takes orders from members that gossip hears only: one that failed is known for
// 72 hours, and may be one whose key was taken away.
func (n *Node) ordered(h relay.Handler) relay.Handler {
	serve := h.Serve
	h.Serve = func(ctx context.Context, from knowledge.NodeID, body []byte) ([]byte, error) {
		if err := n.heard(from); err != nil {
			return nil, err
		}
		return serve(ctx, from, body)
	}
	return h
}

// heard is nil for who gossips with this node now.
func (n *Node) heard(from knowledge.NodeID) error {
	if p, ok := n.cluster.Members().Peer(from); ok && p.Alive {
		return nil
	}
	return &relay.Error{Status: http.StatusForbidden, Text: "gossip does not hear the node that asks: orders, and changes of keys, are taken from members that it hears only; nothing was done"}
}

// answer is one peer's.
type answer struct {
	peer         member.Peer
	body         []byte
	err          error
	asked, heard time.Time
}

// older reports whether a peer answered that it has no such method.
func older(err error) bool {
	said := new(relay.Error)
	return errors.As(err, &said) && said.Text == relay.NoMethod
}

// livePeers are those to ask.
func (n *Node) livePeers() []answer { return n.livePeersUpTo(peersAsked) }

func (n *Node) livePeersUpTo(most int) (out []answer) {
	if n.cluster == nil {
		return nil
	}
	for _, p := range n.cluster.Members().Peers() {
		if !p.Self && p.Alive && len(out) < most {
			out = append(out, answer{peer: p})
		}
	}
	return out
}

// askAll calls a method on every living peer at once.
func (n *Node) askAll(ctx context.Context, method string, body []byte) []answer {
	out := n.livePeers()
	n.ask(ctx, peersWithin, out, method, body)
	return out
}

// ask calls a method on these peers at once, and writes down what each answers.
func (n *Node) ask(ctx context.Context, within time.Duration, these []answer, method string, body []byte) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	var all sync.WaitGroup
	for i := range these {
		a := &these[i]
		all.Go(func() {
			a.asked = time.Now()
			a.body, a.err = n.cluster.Relay().Call(ctx, a.peer.ID, method, body)
			a.heard = time.Now()
		})
	}
	all.Wait()
}

// ClusterStats are for the metrics page.
func (n *Node) ClusterStats() api.ClusterStats {
	if n.cluster == nil {
		return api.ClusterStats{Majority: true}
	}
	v, m := n.cluster.View(), n.cluster.Members()
	s := api.ClusterStats{
		Members: map[string]int{}, GossipHealth: m.Health(), Claims: v.Claims, Majority: v.Majority, Takeovers: v.Counts.Takeovers,
		TermsRefused: v.Counts.IntentsRefused, RelayDropped: v.Counts.Dropped, RelayErrors: v.Counts.SendErrors,
		TrustRefused:   map[string]uint64{},
		ReportsRefused: map[string]uint64{"absurd": v.Counts.ReportsRefused},
		Intents:        map[string]uint64{"obeyed": v.Counts.IntentsObeyed, "refused": v.Counts.IntentsRefused},
	}
	s.Events = map[string]uint64{"ring": v.Counts.Rings, "superseded": v.Counts.Superseded, "false-alarm": v.Counts.FalseAlarms,
		"freeze": v.Counts.Thaws, "cut-refused": n.cluster.Uncertified()}
	for _, p := range m.Peers() {
		s.Members[p.Status]++
	}
	calls := n.cluster.Relay().Stats()
	s.RelaySent, s.RelayReceived = calls.Out, calls.In
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
	if p, ok := n.cluster.Members().Peer(id); ok {
		return nameOr(p)
	}
	return id.Short()
}
