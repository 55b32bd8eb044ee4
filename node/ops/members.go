package ops

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/node/api"
	"github.com/effiscale/effiscale/node/cluster/member"
)

// members shows the state of the cluster.
type members struct {
	peers *peers
	keys  *keys
	reach *Reach
}

// about is what a node answers of itself; gossip carries some of it, later.
type about struct {
	Owns        int       `json:"owns"`
	Majority    bool      `json:"majority"`
	Attestation string    `json:"attestation"`
	Timing      string    `json:"timing"`
	Now         time.Time `json:"now"`
}

func (o members) method() method[api.None, about] {
	return method[api.None, about]{name: "about", maxBody: 64,
		here: func(context.Context, knowledge.NodeID, api.None) (about, error) { return o.about(), nil }}
}

func (o members) about() about {
	v := o.peers.cluster.View()
	attest, timing := o.peers.cluster.Settings()
	a := about{Owns: v.Claims, Majority: v.Majority, Attestation: "off", Timing: string(timing), Now: time.Now()}
	if attest {
		a.Attestation = "quorum"
	}
	return a
}

// fill puts a member's own answer into its view. Settings are short words.
func (a about) fill(m *api.MemberView) {
	short := func(s string) string { return s[:min(len(s), 32)] }
	m.Owns, m.OwnsNow, m.Majority = a.Owns, true, &a.Majority
	m.Attestation, m.Timing = short(a.Attestation), short(a.Timing)
}

// Members is the cluster as this node sees it, with what each member answers of itself.
func (o members) Members(ctx context.Context, _ api.None) (api.Members, error) {
	out := o.membership()
	m, all := o.method(), o.peers.live(peersAsked)
	m.ask(ctx, o.peers, all, api.None{})
	for i := range out.Members {
		v := &out.Members[i]
		j := slices.IndexFunc(all, func(a answer) bool { return string(a.peer.ID) == v.ID })
		if j < 0 {
			continue
		}
		a := &all[j]
		own, err := m.of(a)
		switch {
		case err == nil:
			own.fill(v)
			skew := skewOf(own.Now, a.asked, a.received)
			v.ClockSkew = &skew
		case a.err != nil && !older(a.err):
			v.Error = a.err.Error()
		}
	}
	return out, nil
}

// skewOf is by how many seconds another clock is ahead that showed now at some moment
// between two of this one; 0 where that is no further away than the moments are from
// each other.
func skewOf(now, asked, received time.Time) float64 {
	half := received.Sub(asked) / 2
	skew := now.Sub(asked.Add(half))
	if skew.Abs() <= half {
		return 0
	}
	return skew.Seconds()
}

// refused reports a member that left while another live node had its name: the node that has
// to yield leaves in order, and others do not learn why.
func refused(peers []member.Peer, p *member.Peer) bool {
	return p.Status == "left" && slices.ContainsFunc(peers, func(other member.Peer) bool {
		return other.Alive && other.Name == p.Name && other.Since.Before(p.Since)
	})
}

func checksumText(sum uint64) string { return fmt.Sprintf("%016x", sum) }

// membership is the cluster as this node sees it, without asking any other.
func (o members) membership() api.Members {
	c := o.peers.cluster
	v := c.View()
	out := api.Members{
		Schema: api.Schema, Cluster: c.Name(), Self: string(c.Self()), Encrypted: len(c.Members().Keys()) > 0,
		Ring: checksumText(v.Ring.Checksum()), Majority: v.Majority, Expected: v.Expected,
		Members: []api.MemberView{}, Problems: o.problems(),
	}
	peers := c.Members().Peers()
	for i := range peers {
		p := &peers[i]
		if refused(peers, p) {
			p.Status = "refused"
		}
		m := memberView(p)
		switch {
		case p.Self:
			o.about().fill(&m)
			m.Ring = out.Ring
			if p.State == member.Waiting {
				m.Note = v.Why
			}
		case p.Alive && p.Ring != v.Ring.Checksum():
			out.RingsDiffer = true
		case p.Status == "refused":
			m.Note = "another node of this name participated before: give that host another node.name; " +
				"listed for ten minutes"
		case p.Status == "replaced":
			m.Note = "replaced by another node of this name; listed for ten minutes"
		}
		out.Members = append(out.Members, m)
	}
	return out
}

func memberView(p *member.Peer) api.MemberView {
	return api.MemberView{
		ID: string(p.ID), Name: p.Name, Address: p.Addr, Relay: p.Relay, State: p.State.String(), Status: p.Status,
		Version: p.Version, Protocol: int(p.Protocol), Zone: p.Zone, Load: float64(p.Load) / 100,
		CPUs: int(p.Cores / knowledge.OneCPU), MemoryBytes: int64(p.Memory), Owns: int(p.Services),
		RTTMillis: float64(p.RTT.Microseconds()) / 1000, Ring: checksumText(p.Ring), Self: p.Self, Since: p.Since.UTC(),
	}
}

// refusedLately is how long a refused node stays among the problems.
const refusedLately = 10 * time.Minute

// problems are what a person should look at.
func (o members) problems() []string {
	out := []string{}
	unreached, _ := o.reach.Trouble()
	for _, trouble := range []string{o.keys.ring.Trouble, unreached} {
		if trouble != "" {
			out = append(out, trouble)
		}
	}
	c := o.peers.cluster.Members().Counts()
	lately := func(cause member.Cause) bool {
		at := c.RefusedAt[cause]
		return !at.IsZero() && time.Since(at) < refusedLately
	}
	if lately(member.CauseKey) {
		out = append(out, "nodes with another cluster key are refused, the last one at "+
			c.RefusedOf[member.CauseKey]+" (cluster.key_file): compare the files of all hosts")
	}
	if lately(member.CausePlaintext) {
		out = append(out, "nodes that do not encrypt gossip are refused, the last one at "+
			c.RefusedOf[member.CausePlaintext]+": give them the cluster's key (cluster.key_file)")
	}
	return out
}

// Join looks for the cluster at addresses. It fails when none of them answers.
func (o members) Join(ctx context.Context, q api.JoinRequest) (api.JoinResult, error) {
	out := api.JoinResult{Schema: api.Schema, Failed: []string{}}
	for _, a := range q.Addresses {
		if _, err := o.peers.cluster.Members().Join(ctx, a); err != nil {
			out.Failed = append(out.Failed, a+": "+err.Error())
			continue
		}
		out.Answered++
	}
	if out.Answered == 0 {
		return out, api.Errorf(api.KindUnavailable, "no answer: %s", out.Failed[0])
	}
	return out, nil
}
