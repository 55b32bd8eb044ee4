package node

import (
	"context"
	"sync"

	"github.com/effiscale/effiscale/knowledge"
)

// record is an engine that keeps what the Engine has on record as limits of the followed
// containers: those whose kernel files cannot be read. It replaces reading the limits back.
type record struct {
	containerEngine
	mu sync.Mutex // guards of
	of map[knowledge.ContainerID]*recorded
}

// recorded are the limits of one container in the Engine's record.
type recorded struct {
	limits  knowledge.Limits
	known   bool
	updates int // that began or ended: an inspect before that is outdated
	pending int // updates in progress
}

func newRecord(e containerEngine) *record {
	return &record{containerEngine: e, of: map[knowledge.ContainerID]*recorded{}}
}

func (r *record) follow(id knowledge.ContainerID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.of[id] = &recorded{}
}

func (r *record) forget(id knowledge.ContainerID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.of, id)
}

// limits are the recorded ones; ok is false while they are not known.
func (r *record) limits(id knowledge.ContainerID) (l knowledge.Limits, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.of[id]; c != nil && c.known {
		return c.limits, true
	}
	return l, false
}

// Inspect notes the limits, unless an update may have changed them meanwhile.
func (r *record) Inspect(ctx context.Context, id knowledge.ContainerID) (knowledge.Container, error) {
	r.mu.Lock()
	c, before := r.of[id], 0
	if c != nil {
		before = c.updates
	}
	r.mu.Unlock()
	info, err := r.containerEngine.Inspect(ctx, id)
	if c == nil || err != nil {
		return info, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if c.pending == 0 && c.updates == before {
		c.limits, c.known = info.Limits, true
	}
	return info, nil
}

// UpdateCPU notes the limit that the Engine took.
func (r *record) UpdateCPU(ctx context.Context, id knowledge.ContainerID, l knowledge.Limits) error {
	return r.update(id, func(c *recorded) {
		c.limits.CPU, c.limits.Period = l.CPU, l.Period
		c.known = c.known && l.CPU != 0 // "no limit" becomes another value
	},
		func() error { return r.containerEngine.UpdateCPU(ctx, id, l) })
}

// UpdateMemory notes the limit that the Engine took.
func (r *record) UpdateMemory(ctx context.Context, id knowledge.ContainerID, mem, swap knowledge.Bytes) error {
	return r.update(id, func(c *recorded) {
		c.limits.Memory, c.limits.MemorySwap = mem, swap
		c.known = c.known && mem != 0
	},
		func() error { return r.containerEngine.UpdateMemory(ctx, id, mem, swap) })
}

// update makes one update. After an error the limits are not known until the next inspect.
func (r *record) update(id knowledge.ContainerID, note func(*recorded), call func() error) error {
	r.mu.Lock()
	c := r.of[id]
	if c == nil {
		r.mu.Unlock()
		return call()
	}
	c.updates++
	c.pending++
	r.mu.Unlock()
	err := call()
	r.mu.Lock()
	defer r.mu.Unlock()
	c.updates++
	c.pending--
	if err != nil {
		c.known = false
	} else {
		note(c)
	}
	return err
}
