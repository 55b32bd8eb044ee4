package relay

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

const (
	maxQueue = 1024 // keys
	// maxQueueBytes: a thousand peers that are all away at once hold what they
	// hold; one of them no more than this.
	maxQueueBytes = 8 << 20
	// soonest is how fast a peer is tried again that called us: it is alive, but
	// the way to it may not be.
	soonest = 250 * time.Millisecond
)

// key is what a newer post replaces.
type key struct{ method, key string }

// item is one post that is not acknowledged yet.
type item struct {
	key
	body  []byte
	tries int
	due   time.Time // zero: at once
}

// queue is what a peer has not acknowledged. Guarded by peer.mu.
type queue struct {
	items   map[key]*item
	order   []*item // the next to send first
	bytes   int
	working bool
	// Tries that did not reach the peer at all hold up the whole queue.
	failed   time.Time
	failures int
	due      time.Time
	unknown  time.Time // since when; zero: known
}

func newQueue() queue { return queue{items: map[key]*item{}} }

// Post sends body until the peer acknowledges it, a newer one takes its place
// under the same method and key, the peer refuses it for good, or it has left for
// a minute. So it may arrive twice, and older ones may be left out. Post never
// waits; body must not be changed any more.
func (r *Relay) Post(to knowledge.NodeID, method, name string, body []byte) {
	p, err := r.peer(to)
	if err != nil {
		return
	}
	if !validMethod(method) || method == alive || len(body) > maxAnswer {
		p.dropped.Add(1)
		return
	}
	p.mu.Lock()
	begin := false
	if !p.closed {
		p.dropped.Add(p.queue.put(key{method, name}, body))
		begin, p.queue.working = !p.queue.working, true
	}
	p.mu.Unlock()
	if begin && !r.spawn(func() { r.work(p) }) {
		return
	}
	p.wake()
}

// put keeps its place for a post that is replaced. It returns how many others had
// to go.
func (q *queue) put(k key, body []byte) (dropped uint64) {
	if old, ok := q.items[k]; ok {
		q.bytes -= len(old.body)
		i := slices.Index(q.order, old)
		// A new item: the worker may be sending the old one. What kept the old one
		// from being taken may not hold for this one.
		q.items[k] = &item{key: k, body: body}
		q.order[i] = q.items[k]
	} else {
		it := &item{key: k, body: body}
		q.items[k] = it
		q.order = append(q.order, it)
	}
	q.bytes += len(body)
	for len(q.order) > maxQueue || q.bytes > maxQueueBytes {
		q.remove(q.order[0])
		dropped++
	}
	return dropped
}

// remove does nothing for an item that was replaced.
func (q *queue) remove(it *item) bool {
	if q.items[it.key] != it {
		return false
	}
	delete(q.items, it.key)
	q.order = slices.DeleteFunc(q.order, func(other *item) bool { return other == it })
	q.bytes -= len(it.body)
	return true
}

// next is the first item that is due, or how long to wait for one. Neither: the
// queue is empty.
func (q *queue) next(now time.Time) (it *item, wait time.Duration) {
	if len(q.order) == 0 {
		q.working = false
		return nil, 0
	}
	if wait := q.due.Sub(now); wait > 0 {
		return nil, wait
	}
	for _, it := range q.order {
		left := it.due.Sub(now)
		if left <= 0 {
			return it, 0
		}
		if wait == 0 || left < wait {
			wait = left
		}
	}
	return nil, wait
}

func (p *peer) wake() {
	select {
	case p.kick <- struct{}{}:
	default:
	}
}

// heard: the peer called us, so it is worth a try.
func (p *peer) heard(now time.Time) {
	p.mu.Lock()
	q := &p.queue
	at := q.failed.Add(soonest)
	sooner := q.failures > 0 && at.Before(q.due) && q.due.After(now)
	if sooner {
		q.due = at
	}
	p.mu.Unlock()
	if sooner {
		p.wake()
	}
}

// work sends what is due, one after the other, and ends when nothing is left.
func (r *Relay) work(p *peer) {
	for r.ctx.Err() == nil {
		p.mu.Lock()
		it, wait := p.queue.next(r.o.Now())
		p.mu.Unlock()
		switch {
		case it == nil && wait <= 0:
			return
		case it == nil:
			timer := time.NewTimer(wait)
			select {
			case <-r.ctx.Done():
			case <-p.kick:
			case <-timer.C:
			}
			timer.Stop()
			continue
		}
		err := r.deliver(p, it)
		p.mu.Lock()
		r.settle(p, it, err)
		p.mu.Unlock()
	}
}

func (r *Relay) deliver(p *peer, it *item) error {
	if _, ok := r.o.Lookup(p.id); !ok || !r.o.Known(p.id) {
		return ErrUnknown
	}
	ctx, cancel := context.WithTimeout(r.ctx, callTime)
	defer cancel()
	_, err := r.ask(ctx, p, question{http.MethodPost, it.method, it.body, r.readAnswer})
	return err
}

// settle files what became of a try. Needs p.mu.
func (r *Relay) settle(p *peer, it *item, err error) {
	q, now := &p.queue, r.o.Now()
	var said *Error
	switch {
	case err == nil:
		p.sent.Add(1)
		q.reached()
		q.remove(it)
	case errors.As(err, &said) && said.final():
		p.refused.Add(1)
		q.reached()
		q.remove(it)
	case said != nil: // the peer is there and wants this one later: others go before
		p.resent.Add(1)
		q.reached()
		it.due = now.Add(r.backoff(it.tries))
		it.tries++
	default:
		p.resent.Add(1)
		q.due, q.failed = now.Add(r.backoff(q.failures)), now
		q.failures++
		r.left(p, errors.Is(err, ErrUnknown), now)
	}
}

// reached: the peer answered, whatever it said.
func (q *queue) reached() { q.failures, q.due, q.unknown = 0, time.Time{}, time.Time{} }

// left gives up what is for a node that has been unknown for a minute.
func (r *Relay) left(p *peer, unknown bool, now time.Time) {
	q := &p.queue
	switch {
	case !unknown:
		q.unknown = time.Time{}
	case q.unknown.IsZero():
		q.unknown = now
	case now.Sub(q.unknown) >= r.limits.unknown:
		p.dropped.Add(uint64(len(q.order)))
		working := q.working
		*q = newQueue()
		q.working = working
	}
}

// backoff doubles, with up to a quarter less so that many senders spread.
func (r *Relay) backoff(tries int) time.Duration {
	d := r.limits.firstRetry << min(tries, 16)
	d = min(d, r.limits.lastRetry)
	return d - time.Duration(rand.Int64N(int64(d)/4+1))
}
