package cluster

import (
	"context"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

const (
	// perPeer bounds what waits for one peer; the rest comes with the next round.
	perPeer = 4096
	// batchMost is how many services one message is about.
	batchMost = 256
	// resendFirst and resendMost are the waits between two tries.
	resendFirst, resendMost = 250 * time.Millisecond, 5 * time.Second
	// sendWithin bounds one call.
	sendWithin = 5 * time.Second
)

// outbox holds the newest message for each peer and service until it is acknowledged.
// One call is under way per peer, so that a slow one delays no other.
type outbox[T any] struct {
	c     *Cluster
	name  string
	send  sender[T]
	peers map[knowledge.NodeID]*pending[T]
}

// sender sends one batch to a peer, and returns nil when it is acknowledged.
type sender[T any] func(ctx context.Context, to knowledge.NodeID, batch map[knowledge.ServiceKey]T) error

type pending[T any] struct {
	messages map[knowledge.ServiceKey]T
	sending  bool
	retryAt  time.Time
	wait     time.Duration
	failed   string // the error of the newest try; "": it was acknowledged
}

func newOutbox[T any](c *Cluster, name string, send sender[T]) outbox[T] {
	return outbox[T]{c: c, name: name, send: send, peers: map[knowledge.NodeID]*pending[T]{}}
}

// put replaces the message that waits for a peer about a service.
func (b *outbox[T]) put(to knowledge.NodeID, key knowledge.ServiceKey, message T) {
	p := b.peers[to]
	if p == nil {
		p = &pending[T]{messages: map[knowledge.ServiceKey]T{}}
		b.peers[to] = p
	}
	if _, again := p.messages[key]; !again && len(p.messages) >= perPeer {
		b.c.count.Dropped++
		return
	}
	p.messages[key] = message
}

// flush begins to send what waits, to each peer for which nothing is under way.
func (b *outbox[T]) flush(now time.Time) {
	for to, p := range b.peers {
		if len(p.messages) > 0 && !p.sending && !now.Before(p.retryAt) {
			b.begin(to, p)
		}
	}
}

func (b *outbox[T]) begin(to knowledge.NodeID, p *pending[T]) {
	batch := make(map[knowledge.ServiceKey]T, min(len(p.messages), batchMost))
	for key, message := range p.messages {
		if len(batch) == batchMost {
			break
		}
		batch[key] = message
		delete(p.messages, key)
	}
	p.sending = true
	b.c.spawn(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, sendWithin)
		defer cancel()
		err := b.send(ctx, to, batch)
		b.c.post(func() { b.finish(to, p, batch, err) })
	})
}

func (b *outbox[T]) finish(to knowledge.NodeID, p *pending[T], batch map[knowledge.ServiceKey]T, err error) {
	p.sending = false
	now := b.c.o.Now()
	if err == nil {
		p.wait, p.failed, p.retryAt = 0, "", time.Time{}
		if len(p.messages) > 0 {
			b.begin(to, p)
		}
		return
	}
	for key, message := range batch { // what is newer stays
		if _, newer := p.messages[key]; !newer && len(p.messages) < perPeer {
			p.messages[key] = message
		}
	}
	p.wait = min(max(2*p.wait, resendFirst), resendMost)
	p.retryAt, p.failed = now.Add(p.wait), err.Error()
	b.c.count.SendErrors++
	b.c.log.Debug().Err(err).Str("peer", to.Short()).Str("kind", b.name).Msg("message not acknowledged, retrying")
}

// retry sends again, and forgets peers that are members no more, or were given up long
// ago. One of these that comes back gets what is new then.
func (b *outbox[T]) retry(now time.Time) {
	for to, p := range b.peers {
		if !p.sending && b.c.liveness.gone(now, to) {
			delete(b.peers, to)
		}
	}
	b.flush(now)
}

// drop forgets what waits about a service.
func (b *outbox[T]) drop(key knowledge.ServiceKey) {
	for _, p := range b.peers {
		delete(p.messages, key)
	}
}

// clear forgets all that waits.
func (b *outbox[T]) clear() {
	for _, p := range b.peers {
		clear(p.messages)
	}
}

// waiting is how much has not been acknowledged yet.
func (b *outbox[T]) waiting() (n int) {
	for _, p := range b.peers {
		n += len(p.messages)
	}
	return n
}
