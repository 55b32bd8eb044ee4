package claim

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"

	"github.com/effiscale/effiscale/knowledge"
)

// Why a claim ended: the cause of its context.
var (
	ErrMoved      = errors.New("the ring gives the service to another node")
	ErrSuperseded = errors.New("a host has seen a higher term")
	ErrStalled    = errors.New("the event loop stalled")
	ErrStopped    = errors.New("the node is shutting down")
)

// Claim is the right of this node to plan for a service in one term.
type Claim struct {
	Service knowledge.ServiceKey
	Term    knowledge.Term

	ctx context.Context
	end context.CancelCauseFunc
}

// Context ends with the claim; context.Cause says why.
func (c *Claim) Context() context.Context { return c.ctx }

// Claims are the services that a node owns.
type Claims struct {
	self  knowledge.NodeID
	terms *Terms
	ctx   context.Context // of nothing: its values only

	mu     sync.Mutex // guards what follows; cancelling is done under it, waiting is not
	held   map[knowledge.ServiceKey]*Claim
	taking map[*Claim]struct{} // their terms are being saved; they can be ended already
	closed bool
}

// NewClaims are no claims of self. When ctx ends, so does every claim, with
// ErrStopped, and no further one can be taken.
func NewClaims(ctx context.Context, self knowledge.NodeID, terms *Terms) *Claims {
	b := &Claims{
		self: self, terms: terms, ctx: context.WithoutCancel(ctx),
		held: map[knowledge.ServiceKey]*Claim{}, taking: map[*Claim]struct{}{},
	}
	context.AfterFunc(ctx, func() {
		b.mu.Lock()
		b.closed = true
		b.mu.Unlock()
		b.EndAll(ErrStopped)
	})
	return b
}

// Take claims one service: see TakeAll. A claim that ended while its term was being
// saved is an error, namely its cause.
func (b *Claims) Take(key knowledge.ServiceKey, above knowledge.Term) (*Claim, error) {
	mine, err := b.take(map[knowledge.ServiceKey]knowledge.Term{key: above})
	if err != nil {
		return nil, err
	}
	if err := context.Cause(mine[key].ctx); err != nil {
		return nil, err
	}
	return mine[key], nil
}

// TakeAll claims services, each in a term above the given one and all that this
// node has seen, with one save. Older claims of the same services end with
// ErrSuperseded. What ended while its term was being saved is left out; so is, with
// ErrExhausted, what has no higher term. After any other error nothing is claimed.
func (b *Claims) TakeAll(above map[knowledge.ServiceKey]knowledge.Term) (map[knowledge.ServiceKey]*Claim, error) {
	mine, err := b.take(above)
	maps.DeleteFunc(mine, func(_ knowledge.ServiceKey, c *Claim) bool { return c.ctx.Err() != nil })
	return mine, err
}

// take returns the claims that got a term. Those that ended meanwhile are not held.
func (b *Claims) take(above map[knowledge.ServiceKey]knowledge.Term) (map[knowledge.ServiceKey]*Claim, error) {
	mine, err := b.begin(above)
	if err != nil {
		return nil, err
	}
	terms, err := b.terms.take(b.self, above)
	b.install(mine, terms)
	return mine, err
}

// begin makes claims that can be ended, but have no terms yet.
func (b *Claims) begin(above map[knowledge.ServiceKey]knowledge.Term) (map[knowledge.ServiceKey]*Claim, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, ErrStopped
	}
	mine := make(map[knowledge.ServiceKey]*Claim, len(above))
	for key := range above {
		c := &Claim{Service: key}
		c.ctx, c.end = context.WithCancelCause(b.ctx)
		mine[key] = c
		b.taking[c] = struct{}{}
	}
	return mine, nil
}

// install makes the claims that got terms held, and takes the others out of mine.
func (b *Claims) install(mine map[knowledge.ServiceKey]*Claim, terms map[knowledge.ServiceKey]knowledge.Term) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for key, c := range mine {
		delete(b.taking, c)
		term, ok := terms[key]
		if !ok {
			delete(mine, key)
			c.end(context.Canceled) // it is not used
			continue
		}
		c.Term = term
		old := b.held[key]
		switch {
		case c.ctx.Err() != nil:
		case old != nil && old.Term.After(term): // another Take was faster with a later term
			c.end(ErrSuperseded)
		default:
			b.held[key] = c
			if old != nil {
				old.end(ErrSuperseded)
			}
		}
	}
}

// Get is the claim of a service, if this node has one.
func (b *Claims) Get(key knowledge.ServiceKey) (*Claim, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c, ok := b.held[key]
	return c, ok
}

// Keys are the services that this node claims, in order.
func (b *Claims) Keys() []knowledge.ServiceKey {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Sorted(maps.Keys(b.held))
}

// Len is how many services this node claims.
func (b *Claims) Len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.held)
}

// End ends the claim of a service, also one that is being taken.
func (b *Claims) End(key knowledge.ServiceKey, cause error) {
	b.endThose(func(k knowledge.ServiceKey) bool { return k == key }, cause)
}

// EndAll ends all claims, also those that are being taken.
func (b *Claims) EndAll(cause error) {
	b.endThose(func(knowledge.ServiceKey) bool { return true }, cause)
}

// Keep ends the claims of services for which keep is false, also those that are being
// taken.
func (b *Claims) Keep(keep func(knowledge.ServiceKey) bool, cause error) {
	b.mu.Lock()
	keys := slices.Collect(maps.Keys(b.held))
	for c := range b.taking {
		keys = append(keys, c.Service)
	}
	b.mu.Unlock()
	ended := map[knowledge.ServiceKey]bool{}
	for _, key := range keys {
		ended[key] = !keep(key)
	}
	b.endThose(func(key knowledge.ServiceKey) bool { return ended[key] }, cause)
}

// endThose cancels with the lock held, so that no held claim has an ended context;
// what hangs on the contexts runs elsewhere. The same goes for end.
func (b *Claims) endThose(end func(knowledge.ServiceKey) bool, cause error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for key, c := range b.held {
		if end(key) {
			delete(b.held, key)
			c.end(cause)
		}
	}
	for c := range b.taking {
		if end(c.Service) {
			c.end(cause)
		}
	}
}
