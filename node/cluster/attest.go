package cluster

import (
	"context"
	"errors"
	"fmt"
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

// attestation asks the other owners to agree to cuts on other hosts, votes on theirs, and
// checks the votes on cuts for this host.
type attestation struct{ c *Cluster }

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
func (a *attestation) certify(s *service, d Declared) {
	c := a.c
	owners := c.owner.owners(s.key)
	sum, err := digest(&d.Intent)
	if err != nil {
		return
	}
	d.Votes = []trust.Vote{c.o.Identity.Vote(sum)}
	c.spawn(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, voteWithin)
		defer cancel()
		votes := make(chan trust.Vote, len(owners))
		asked := 0
		for _, id := range owners {
			if id == c.self {
				continue
			}
			asked++
			c.spawn(func(context.Context) { votes <- a.askVote(ctx, id, &d.Intent) })
		}
		for range asked {
			if v := <-votes; v.Voter != "" {
				d.Votes = append(d.Votes, v)
			}
			if trust.Certified(sum, d.Votes, owners) {
				break
			}
		}
		c.post(func() {
			c.owner.send(d)
			c.owner.intents.flush(c.o.Now())
		})
	})
}

func (a *attestation) askVote(ctx context.Context, id knowledge.NodeID, in *knowledge.Intent) (v trust.Vote) {
	b, err := a.c.seal("vote", id, in)
	if err != nil {
		return v
	}
	answer, err := a.c.relay.Call(ctx, id, "votes", b)
	if err != nil || trust.Unmarshal(answer, &v) != nil || v.Voter != id { // only the first of an owner counts
		return trust.Vote{}
	}
	return v
}

// question is an intent to vote about.
type question knowledge.Intent

// UnmarshalCBOR implements cbor.Unmarshaler.
func (q *question) UnmarshalCBOR(b []byte) error {
	var shape struct {
		Envelopes []counted `cbor:"5,keyasint"`
	}
	if err := trust.Unmarshal(b, &shape); err != nil {
		return err
	}
	if n := len(shape.Envelopes); n > replicasVoted {
		return fmt.Errorf("a vote about %d envelopes: at most %d", n, replicasVoted)
	}
	return trust.Unmarshal(b, (*knowledge.Intent)(q))
}

// vote checks another owner's cut against this node's own copy of the evidence.
func (a *attestation) vote(ctx context.Context, from knowledge.NodeID, body []byte) ([]byte, error) {
	var asked question
	if _, err := a.c.open(from, "vote", body, &asked); err != nil {
		return nil, err
	}
	in := knowledge.Intent(asked)
	if in.Term.Owner != from {
		return nil, errors.New("a vote on an intent in another node's term")
	}
	var no error
	err := a.c.do(ctx, func() {
		if no = a.disagree(&in); no == nil {
			a.c.count.Votes++
		}
	})
	if err = errors.Join(err, no); err != nil {
		return nil, err
	}
	sum, err := digest(&in)
	if err != nil {
		return nil, err
	}
	return trust.Marshal(a.c.o.Identity.Vote(sum))
}

// disagree is why this node would not declare a cut; nil: it would.
func (a *attestation) disagree(in *knowledge.Intent) error {
	now := a.c.o.Now()
	s := a.c.owner.services[in.Service]
	if s == nil || a.c.terms.Highest(in.Service).After(in.Term) {
		return errors.New("unknown service, or an old term")
	}
	var fresh []plan.Report
	for _, r := range a.c.owner.fresh(now, s) {
		fresh = append(fresh, r.Report)
	}
	own := map[knowledge.ContainerID]knowledge.Envelope{}
	for _, e := range plan.Declare(now, fresh, in.Host) {
		own[e.ID] = e.Envelope
	}
	for _, e := range in.Envelopes {
		mine, ok := own[e.ID]
		if !ok {
			return errors.New("no fresh report of a replica")
		}
		if under(e.Envelope.Memory, mine.Memory) || under(e.Envelope.MemoryFloor, mine.MemoryFloor) ||
			under(e.Envelope.CPU.Min, mine.CPU.Min) || under(e.Envelope.CPU.Max, mine.CPU.Max) {
			return errors.New("local data requires a higher limit")
		}
	}
	return nil
}

// under reports whether v is clearly less than what this node would declare.
func under[T ~int64](v, mine T) bool { return float64(v) < (1-agreeWithin)*float64(mine) }

// checkCuts takes out of intents for this host what takes something away and was
// not agreed to by a quorum of owners.
func (a *attestation) checkCuts(ctx context.Context, declared []Declared, todo []knowledge.Intent) error {
	c := a.c
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
		if err := c.do(ctx, func() { owners = c.owner.owners(in.Service) }); err != nil {
			return err
		}
		if len(owners) < replicasAttested { // fewer cannot outvote a lying one
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
			e := &in.Envelopes[j]
			now, ok := held[e.ID]
			if ok && plan.Cuts(&e.Envelope, &now) {
				e.Envelope = plan.WithoutCuts(e.Envelope, now)
				c.applier.uncertified.Add(1)
			}
		}
	}
	return nil
}
