package cluster

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/node/cluster/trust"
)

const (
	// presenceWithin bounds one question, presenceEvery is the least time between two.
	presenceWithin, presenceEvery = time.Second, time.Second
	// presenceMost is how many members are asked: a sample of a large cluster, so that the
	// return of one of n members costs n times 9 calls and not n squared.
	presenceMost = 9
	// presenceTries bounds the questions that too few answer.
	presenceTries = 10
)

// presence finds out whether the other members lost this node and have it back: it was
// disconnected, and may not have noticed, since a node alone takes up to ten seconds to
// see that it is. Some are asked when a member returns, when another owner's later term
// shows up for what this node owns, and before the end of a hold-down. More than half of
// them must say so: a single lying member makes no node wait.
type presence struct {
	c       *Cluster
	asking  bool
	askedAt time.Time
	tries   int       // that are left
	from    time.Time // a return before it was counted, or was the start of this node
	proven  bool      // the others had this node all the time since
}

// doubt begins the questions.
func (p *presence) doubt() { p.tries, p.proven = presenceTries, false }

// counted: until now all is known.
func (p *presence) counted(now time.Time) {
	p.from, p.tries, p.proven = now.Add(sameFlap), 0, false
}

// absence is what a member answers: how long ago it had the caller back, in milliseconds.
type absence struct {
	Lost bool  `cbor:"1,keyasint"`
	Ago  int64 `cbor:"2,keyasint"`
}

// answer serves a member that asks.
func (p *presence) answer(ctx context.Context, from knowledge.NodeID, _ []byte) ([]byte, error) {
	var a absence
	if err := p.c.do(ctx, func() { a.Ago, a.Lost = p.c.liveness.absence(p.c.o.Now(), from) }); err != nil {
		return nil, err
	}
	return trust.Marshal(a)
}

// ask asks some members, where there is doubt.
func (p *presence) ask(now time.Time) {
	if p.asking || p.tries == 0 || now.Sub(p.askedAt) < presenceEvery {
		return
	}
	var others []knowledge.NodeID
	peers := p.c.liveness.peers()
	for i := range peers {
		if o := &peers[i]; !o.Self && o.Status != "left" && o.Relay != "" && !lost(now, o) {
			others = append(others, o.ID)
		}
	}
	rand.Shuffle(len(others), func(i, j int) { others[i], others[j] = others[j], others[i] })
	others = others[:min(len(others), presenceMost)]
	p.asking, p.askedAt, p.tries = true, now, p.tries-1
	p.c.spawn(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, presenceWithin)
		defer cancel()
		answers := make(chan *absence, len(others))
		for _, id := range others {
			p.c.spawn(func(context.Context) { answers <- p.askOne(ctx, id) })
		}
		var all []absence
		for range others {
			if a := <-answers; a != nil {
				all = append(all, *a)
			}
		}
		p.c.post(func() { p.judge(now, all, len(others)) })
	})
}

func (p *presence) askOne(ctx context.Context, id knowledge.NodeID) *absence {
	b, err := p.c.relay.Call(ctx, id, "presence", nil)
	if err != nil {
		return nil
	}
	var a absence
	if trust.Unmarshal(b, &a) != nil {
		return nil
	}
	return &a
}

// judge counts a flap where more than half of those asked lost this node since the last one.
func (p *presence) judge(asked time.Time, answers []absence, others int) {
	p.asking = false
	if p.c.left.Load() {
		p.tries = 0
		return
	}
	absent := 0
	for _, a := range answers {
		if back := asked.Add(-time.Duration(a.Ago) * time.Millisecond); a.Lost && back.After(p.from) {
			absent++
		}
	}
	switch {
	case 2*absent > others:
		p.c.log.Warn().Int("by", absent).Int("of", others).Msg("excluded by peers, rejoining")
		p.c.participation.flap(p.c.o.Now())
	case 2*len(answers) > others || p.tries == 0 || others == 0:
		p.tries, p.proven = 0, true
	}
}
