package ops

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/node/cluster"
	"github.com/effiscale/effiscale/node/cluster/member"
	"github.com/effiscale/effiscale/node/cluster/relay"
)

const (
	// peersWithin bounds a question to all other hosts.
	peersWithin = time.Second
	// orderWithin bounds a change on another host: a record of it goes to the disk first.
	orderWithin = 5 * time.Second
	// peersAsked bounds how many hosts are asked at a time.
	peersAsked = 256
)

// peers asks other hosts.
type peers struct {
	self    string           // name of this node
	cluster *cluster.Cluster // nil: there is none
}

// answer is one host's.
type answer struct {
	peer            member.Peer
	body            []byte
	err             error
	asked, received time.Time
}

// members are all known members; none without a cluster.
func (p *peers) members() []member.Peer {
	if p.cluster == nil {
		return nil
	}
	return p.cluster.Members().Peers()
}

// live are the other hosts to ask, at most so many.
func (p *peers) live(most int) (out []answer) {
	for _, m := range p.members() {
		if !m.Self && m.Alive && len(out) < most {
			out = append(out, answer{peer: m})
		}
	}
	return out
}

// ask calls a method on these hosts at once, and writes down what each answers.
func (p *peers) ask(ctx context.Context, within time.Duration, these []answer, method string, body []byte) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	var all sync.WaitGroup
	for i := range these {
		a := &these[i]
		all.Go(func() {
			a.asked = time.Now()
			a.body, a.err = p.cluster.Relay().Call(ctx, a.peer.ID, method, body)
			a.received = time.Now()
		})
	}
	all.Wait()
}

// inGossip is nil for a member that gossip reaches now: one that failed is remembered for
// 72 hours, and may be one whose key was revoked.
func (p *peers) inGossip(id knowledge.NodeID) error {
	if m, ok := p.cluster.Members().Peer(id); ok && m.Alive {
		return nil
	}
	return &relay.Error{Status: http.StatusForbidden, Text: "the calling node is not reached by gossip: changes are " +
		"accepted from live members only; nothing was done"}
}

// nameOf is the name of a node, or its short id.
func (p *peers) nameOf(id knowledge.NodeID) string {
	if m, ok := p.cluster.Members().Peer(id); ok {
		return nameOr(m)
	}
	return id.Short()
}

func nameOr(m member.Peer) string {
	if m.Name == "" {
		return m.ID.Short()
	}
	return m.Name
}

// ownerOf names the node that plans for a service, and the warm ones.
func (p *peers) ownerOf(key knowledge.ServiceKey) (owner string, warm []string) {
	v := p.cluster.View()
	for _, id := range v.Ring.Owners(nil, key, v.Copies) {
		if owner == "" {
			owner = p.nameOf(id)
			continue
		}
		warm = append(warm, p.nameOf(id))
	}
	return owner, warm
}
