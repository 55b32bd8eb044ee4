package node

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/node/api"
	"github.com/effiscale/effiscale/node/cluster/member"
)

// about is what a node says of itself when it is asked; gossip says some of it, later.
type about struct {
	Owns        int       `json:"owns"`
	Majority    bool      `json:"majority"`
	Attestation string    `json:"attestation"`
	Timing      string    `json:"timing"`
	Now         time.Time `json:"now"`
}

func (n *Node) about() about {
	v := n.cluster.View()
	attest, timing := n.cluster.Settings()
	a := about{Owns: v.Claims, Majority: v.Majority, Attestation: "off", Timing: string(timing), Now: time.Now()}
	if attest {
		a.Attestation = "quorum"
	}
	return a
}

// tell puts what a member said just now into its view.
func (a about) tell(m *api.MemberView) {
	m.Owns, m.OwnsNow, m.Majority = a.Owns, true, &a.Majority
	m.Attestation, m.Timing = word(a.Attestation), word(a.Timing)
}

// Members is the cluster as this node sees it, with what each says of itself now.
func (n *Node) Members(ctx context.Context) (api.Members, error) {
	out := n.membership()
	said := map[string]answer{}
	for _, a := range n.askAll(ctx, "about", nil) {
		said[string(a.peer.ID)] = a
	}
	for i := range out.Members {
		m := &out.Members[i]
		a, asked := said[m.ID]
		if !asked {
			continue
		}
		var of about
		switch {
		case a.err == nil && json.Unmarshal(a.body, &of) == nil:
			of.tell(m)
			skew := skewOf(of.Now, a.asked, a.heard)
			m.ClockSkew = &skew
		case a.err != nil && !older(a.err):
			m.Error = a.err.Error()
		}
	}
	return out, nil
}

// skewOf is by how many seconds another clock is ahead that showed now at some moment
// between two of this one; 0 where that is no further away than the moments are from
// each other.
func skewOf(now, asked, heard time.Time) float64 {
	half := heard.Sub(asked) / 2
	skew := now.Sub(asked.Add(half))
	if skew.Abs() <= half {
		return 0
	}
	return skew.Seconds()
}

// word is what a member calls a setting, which is short.
func word(s string) string { return s[:min(len(s), 32)] }

// clashed: it said goodbye while another living node had its name. One that has to give way
// ends in order, and others hear no more of why.
func clashed(peers []member.Peer, p *member.Peer) bool {
	return p.Status == "left" && slices.ContainsFunc(peers, func(other member.Peer) bool {
		return other.Alive && other.Name == p.Name && other.Since.Before(p.Since)
	})
}

// membership is the cluster as this node sees it, without asking anybody.
func (n *Node) membership() api.Members {
	v := n.cluster.View()
	out := api.Members{
		Schema: api.Schema, Cluster: n.cluster.Name(), Self: string(n.cluster.Self()), Encrypted: len(n.cluster.Members().Keys()) > 0,
		Ring: sumText(v.Ring.Checksum()), Majority: v.Majority, Expected: v.Expected, Members: []api.MemberView{}, Problems: append([]string{}, n.clusterProblems()...),
	}
	peers := n.cluster.Members().Peers()
	for i := range peers {
		p := &peers[i]
		if clashed(peers, p) {
			p.Status = "refused"
		}
		m := api.MemberView{
			ID: string(p.ID), Name: p.Name, Address: p.Addr, Relay: p.Relay, State: p.State.String(), Status: p.Status, Version: p.Version,
			Protocol: int(p.Protocol), Zone: p.Zone, Load: float64(p.Load) / 100, CPUs: int(p.Cores / knowledge.OneCPU), MemoryBytes: int64(p.Memory),
			Owns: int(p.Services), RTTMillis: float64(p.RTT.Microseconds()) / 1000, Ring: sumText(p.Ring), Self: p.Self, Since: p.Since.UTC(),
		}
		switch {
		case p.Self:
			n.about().tell(&m)
			m.Ring = out.Ring
			if p.State == member.Waiting {
				m.Note = v.Why
			}
		case p.Alive && p.Ring != v.Ring.Checksum():
			out.RingsDiffer = true
		case p.Status == "refused":
			m.Note = "another node has this name and was there first: give that host another node.name; this line goes after ten minutes"
		case p.Status == "replaced":
			m.Note = "another node has this name now; this line goes after ten minutes"
		}
		out.Members = append(out.Members, m)
	}
	return out
}
