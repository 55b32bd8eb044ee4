package member

import (
	"cmp"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// duplicate is a node that has this one's name, or its id. It may be down, or this
// node's own former start at another address, so it is pinged before it is reported.
type duplicate struct {
	id      knowledge.NodeID
	addr    string
	started int64  // of a node with our own id
	name    string // of it
}

// meeting is the state of both nodes when they met. A moment later the newcomer may have
// settled, too.
type meeting struct {
	mine, other bool // had settled
	tries       int  // pings so far
}

// conflicts finds nodes that have this one's name or id. Its fields are guarded by Members.mu.
type conflicts struct {
	m        *Members
	wake     chan struct{} // there may be one
	open     map[duplicate]meeting
	reported map[duplicate]bool
}

const (
	duplicateEvery = time.Second
	// duplicateTries is how often a node with our id is pinged: it is not in the list
	// of members, so gossip does not report when it is gone.
	duplicateTries = 5
	// tieTries is how often a duplicate has to answer where it is not clear which of both is
	// new: it may have yielded by then.
	tieTries      = 3
	maxDuplicates = 64
)

// note notes a duplicate that is not known yet. mu is held.
func (c *conflicts) note(r duplicate, other Meta) {
	if _, ok := c.open[r]; ok || c.reported[r] || len(c.open)+len(c.reported) >= maxDuplicates {
		return
	}
	c.open[r] = meeting{mine: c.m.meta.settled(), other: other.settled()}
	wake(c.wake)
}

// watch pings duplicates until they answer or are gone.
func (c *conflicts) watch() {
	for {
		select {
		case <-c.m.ctx.Done():
			return
		case <-c.wake:
		}
		for c.askAll() {
			if sleep(c.m.ctx, duplicateEvery) != nil {
				return
			}
		}
	}
}

// askAll pings each once and reports whether some are to be pinged again.
func (c *conflicts) askAll() bool {
	c.m.mu.Lock()
	asked := make(map[duplicate]meeting, len(c.open))
	for r, met := range c.open {
		e := c.m.roster.entries[r.id]
		gone := r.id != c.m.o.ID && (e == nil || !e.alive || e.addr != r.addr)
		if gone || r.id == c.m.o.ID && met.tries >= duplicateTries {
			delete(c.open, r)
			continue
		}
		met.tries++
		c.open[r], asked[r] = met, met
	}
	c.m.mu.Unlock()
	var mu sync.Mutex
	var all sync.WaitGroup
	answered := map[duplicate]bool{}
	for r := range asked { // at once: each may take seconds not to answer
		all.Go(func() {
			yes := c.answers(r)
			mu.Lock()
			defer mu.Unlock()
			answered[r] = yes
		})
	}
	all.Wait()
	again := false
	for r, met := range asked {
		if !answered[r] || met.mine == met.other && met.tries < tieTries {
			again = true
			continue
		}
		c.conflict(r, met)
	}
	return again
}

// answers: a node with the duplicate's id is alive at its address, and is not this one.
func (c *conflicts) answers(r duplicate) bool {
	a, err := netip.ParseAddrPort(r.addr)
	if err != nil || c.m.ctx.Err() != nil || r.id == c.m.o.ID && c.ours(a) {
		return false
	}
	return c.m.pings.ask(r.id, a) == nil
}

// Reach pings a node at the address that it advertises, by a packet and its answer.
func (m *Members) Reach(id knowledge.NodeID) error {
	m.mu.Lock()
	e := m.roster.entries[id]
	addr := ""
	if e != nil {
		addr = cmp.Or(e.moved, e.addr)
	}
	m.mu.Unlock()
	a, err := netip.ParseAddrPort(addr)
	if err != nil {
		return errors.New("no address in gossip")
	}
	return m.pings.ask(id, a)
}

// ours: packets to this address come to this node.
func (c *conflicts) ours(a netip.AddrPort) bool {
	if c.m.o.Transport != nil || a.Port() != c.m.addr.Port() || !c.m.o.bind.Addr().IsUnspecified() {
		return false
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return true // unknown: no alarm
	}
	for _, i := range addrs {
		if p, err := netip.ParsePrefix(i.String()); err == nil && p.Addr().Unmap() == a.Addr().Unmap() {
			return true
		}
	}
	return false
}

// conflict reports a duplicate, once.
func (c *conflicts) conflict(r duplicate, met meeting) {
	c.m.mu.Lock()
	delete(c.open, r)
	if c.reported[r] {
		c.m.mu.Unlock()
		return
	}
	c.reported[r] = true
	c.m.roster.counts.Conflicts++
	other := Peer{ID: r.id, Addr: r.addr, Alive: true, Status: "alive"}
	other.Meta = Meta{Name: r.name, Started: r.started}
	if e := c.m.roster.entries[r.id]; e != nil && r.id != c.m.o.ID {
		other = e.peer(c.m.o.Now(), c.m.roster.takers())
	}
	mine := c.m.meta.Started
	c.m.mu.Unlock()
	// Both nodes compare the same values, so exactly one of them yields. Started is of two
	// hosts' clocks: it breaks ties only.
	yield := met.other
	if met.mine == met.other {
		yield = cmp.Or(cmp.Compare(mine, other.Started), cmp.Compare(c.m.o.ID, other.ID),
			cmp.Compare(c.m.addr.String(), other.Addr)) > 0
	}
	c.m.o.Log.Error().Str("node", string(other.ID)).Str("addr", other.Addr).Str("name", other.Name).Bool("yield", yield).
		Msg("another node has the same name or id")
	if r.id == c.m.o.ID {
		// Others pass on one of two nodes with the same id only: let it know directly.
		c.m.spawn(func() { _, _ = c.m.ml.Join([]string{r.addr}) })
	}
	if c.m.o.Conflict != nil {
		c.m.o.Conflict(other, yield)
	}
}
