package cluster

import (
	"context"
	"errors"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape/plan"
	"github.com/effiscale/effiscale/node/cluster/trust"
)

const (
	// voteWithin bounds the wait for agreement; without it the intent goes out as it
	// is, and its host leaves the cuts out.
	voteWithin = 1 * time.Second
	// agreeWithin is how far under what a voter would declare itself a cut may be.
	agreeWithin = 0.1
	// replicasVoted bounds the statements of one question.
	replicasVoted = plan.ReplicasMost
)

// cuts reports whether an intent takes anything from what is in force on a host.
func cuts(r *plan.Report, in *knowledge.Intent) bool {
	for i := range in.Envelopes {
		for j := range r.Replicas {
			if r.Replicas[j].ID == in.Envelopes[i].ID && plan.Cuts(&in.Envelopes[i].Envelope, &r.Replicas[j].Envelope) {
				return true
			}
		}
	}
	return false
}

// digest is what voters sign: the whole intent.
func digest(in *knowledge.Intent) ([32]byte, error) { return trust.Digest("effiscale intent 1", in) }

// certify asks the other owners to check a cut, and sends it with their votes.
func (c *Cluster) certify(s *service, d Declared) {
	owners := c.owners(s.key)
	sum, err := digest(&d.Intent)
	if err != nil {
		return
	}
	d.Votes = []trust.Vote{c.o.Identity.Vote(sum)}
	c.job(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, voteWithin)
		defer cancel()
		votes := make(chan trust.Vote, len(owners))
		asked := 0
		for _, id := range owners {
			if id == c.self {
				continue
			}
			asked++
			c.job(func(context.Context) { votes <- c.askVote(ctx, id, &d.Intent) })
		}
		for range asked {
			if v := <-votes; v.Voter != "" {
				d.Votes = append(d.Votes, v)
			}
			if trust.Certified(sum, d.Votes, owners) {
				break
			}
		}
		c.back(func() {
			c.intents.put(d.Intent.Host, d.Intent.Service, d)
			c.count.IntentsSent++
			c.intents.flush(c.o.Now())
		})
	})
}

func (c *Cluster) askVote(ctx context.Context, id knowledge.NodeID, in *knowledge.Intent) (v trust.Vote) {
	b, err := c.seal("vote", id, in)
	if err != nil {
		return v
	}
	answer, err := c.relay.Call(ctx, id, "votes", b)
	if err != nil || trust.Unmarshal(answer, &v) != nil || v.Voter != id { // only the first of an owner counts
		return trust.Vote{}
	}
	return v
}

// vote checks another owner's cut against this node's own copy of the evidence.
func (c *Cluster) vote(ctx context.Context, from knowledge.NodeID, body []byte) ([]byte, error) {
	var asked question
	if _, err := c.open(from, "vote", body, &asked); err != nil {
		return nil, err
	}
	in := knowledge.Intent(asked)
	if in.Term.Owner != from {
		return nil, errors.New("a vote is asked for another node's word")
	}
	var no error
	err := c.do(ctx, func() {
		if no = c.disagree(&in); no == nil {
			c.count.Votes++
		}
	})
	if err = errors.Join(err, no); err != nil {
		return nil, err
	}
	sum, err := digest(&in)
	if err != nil {
		return nil, err
	}
	return trust.Marshal(c.o.Identity.Vote(sum))
}

// disagree says why this node would not declare a cut; nil: it would.
func (c *Cluster) disagree(in *knowledge.Intent) error {
	now := c.o.Now()
	s := c.services[in.Service]
	if s == nil || c.terms.Highest(in.Service).After(in.Term) {
		return errors.New("not known here, or of an old term")
	}
	var fresh []plan.Report
	for _, h := range s.reports {
		if c.within(now, h, freshFor) {
			fresh = append(fresh, h.Report)
		}
	}
	own := map[knowledge.ContainerID]knowledge.Envelope{}
	for _, a := range plan.Declare(now, fresh, in.Host) {
		own[a.ID] = a.Envelope
	}
	for _, a := range in.Envelopes {
		mine, ok := own[a.ID]
		if !ok {
			return errors.New("no fresh evidence of a replica")
		}
		if under(a.Envelope.Memory, mine.Memory) || under(a.Envelope.MemoryFloor, mine.MemoryFloor) ||
			under(a.Envelope.CPU.Min, mine.CPU.Min) || under(a.Envelope.CPU.Max, mine.CPU.Max) {
			return errors.New("the evidence here asks for more")
		}
	}
	return nil
}

// under reports whether v is clearly less than what this node would declare.
func under[T ~int64](v, mine T) bool { return float64(v) < (1-agreeWithin)*float64(mine) }

// checkCuts takes out of intents for this host what takes something away and was
// not agreed to by a quorum of owners.
func (c *Cluster) checkCuts(ctx context.Context, declared []Declared, todo []knowledge.Intent) error {
	if !c.o.Attest {
		return nil
	}
	votes := map[knowledge.ServiceKey][]trust.Vote{}
	for i := range declared {
		votes[declared[i].Intent.Service] = declared[i].Votes
	}
	for i := range todo {
		in := &todo[i]
		if in.Term.Owner == c.self {
			continue
		}
		var owners []knowledge.NodeID
		if err := c.do(ctx, func() { owners = c.owners(in.Service) }); err != nil {
			return err
		}
		if len(owners) < copiesAttested { // fewer cannot outvote one that lies
			continue
		}
		if sum, err := digest(in); err == nil && trust.Certified(sum, votes[in.Service], owners) {
			continue
		}
		held, err := c.host.Envelopes(ctx, in.Service)
		if err != nil {
			return err
		}
		for j := range in.Envelopes {
			a := &in.Envelopes[j]
			now, ok := held[a.ID]
			if ok && plan.Cuts(&a.Envelope, &now) {
				a.Envelope = plan.WithoutCuts(a.Envelope, now)
				c.uncertified.Add(1)
			}
		}
	}
	return nil
}
