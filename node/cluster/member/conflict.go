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

// rival is a node that has this one's name, or its id. It may be dead, or this
// node's own former life at another address, so it is asked before anybody is told.
type rival struct {
	id      knowledge.NodeID
	addr    string
	started int64  // of a node with our own id
	name    string // of it
}

// meeting is how two rivals met. What was said then counts: a moment later the newcomer
// may have settled, too.
type meeting struct {
	mine, other bool // had settled
	tries       int  // how often the other was asked
}

// conflicts finds nodes that have this one's name or id. Its fields are guarded by Members.mu.
type conflicts struct {
	m        *Members
	wake     chan struct{} // one may be there
	open     map[rival]meeting
	reported map[rival]bool
}

const (
	rivalEvery = time.Second
	// rivalTries is how often a node with our id is asked: it is not in the list
	// of members, so nobody says when it is gone.
	rivalTries = 5
	// tieTries is how often a rival has to answer where it is not seen which of both is
	// new: it may have seen it, and be gone by then.
	tieTries  = 3
	maxRivals = 64
)

// rivalSeen notes one that is not known yet. mu is held.
func (c *conflicts) rivalSeen(r rival, other Meta) {
	if _, ok := c.open[r]; ok || c.reported[r] || len(c.open)+len(c.reported) >= maxRivals {
		return
	}
	c.open[r] = meeting{mine: c.m.meta.settled(), other: other.settled()}
	wake(c.wake)
}

// watchRivals asks rivals until they answer or are gone.
func (c *conflicts) watchRivals() {
	for {
		select {
		case <-c.m.ctx.Done():
			return
		case <-c.wake:
		}
		for c.askRivals() {
			if sleep(c.m.ctx, rivalEvery) != nil {
				return
			}
		}
	}
}

// askRivals asks each once and reports whether some are to be asked again.
func (c *conflicts) askRivals() bool {
	c.m.mu.Lock()
	asked := make(map[rival]meeting, len(c.open))
	for r, met := range c.open {
		e := c.m.roster.entries[r.id]
		gone := r.id != c.m.self && (e == nil || !e.alive || e.addr != r.addr)
		if gone || r.id == c.m.self && met.tries >= rivalTries {
			delete(c.open, r)
			continue
		}
		met.tries++
		c.open[r], asked[r] = met, met
	}
	c.m.mu.Unlock()
	var mu sync.Mutex
	var all sync.WaitGroup
	answered := map[rival]bool{}
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

// answers: a node with the rival's id lives at its address, and is not this one.
func (c *conflicts) answers(r rival) bool {
	a, err := netip.ParseAddrPort(r.addr)
	if err != nil || c.m.ctx.Err() != nil || r.id == c.m.self && c.ours(a) {
		return false
	}
	return c.m.pings.ask(r.id, a) == nil
}

// Reach asks a node at the address that it advertises, by a packet and its answer.
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
		return errors.New("gossip knows no address of it")
	}
	return m.pings.ask(id, a)
}

// ours: packets to a come to this node.
func (c *conflicts) ours(a netip.AddrPort) bool {
	if c.m.o.Transport != nil || a.Port() != c.m.addr.Port() || !c.m.o.bind.Addr().IsUnspecified() {
		return false
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return true // unknown: better no alarm than a false one
	}
	for _, i := range addrs {
		if p, err := netip.ParsePrefix(i.String()); err == nil && p.Addr().Unmap() == a.Addr().Unmap() {
			return true
		}
	}
	return false
}

// conflict tells of a rival, once.
func (c *conflicts) conflict(r rival, met meeting) {
	c.m.mu.Lock()
	delete(c.open, r)
	if c.reported[r] {
		c.m.mu.Unlock()
		return
	}
	c.reported[r] = true
	c.m.roster.counts.Conflicts++
	other := Peer{ID: r.id, Addr: r.addr, Alive: true, Status: "alive", Meta: Meta{Name: r.name, Started: r.started}}
	if e := c.m.roster.entries[r.id]; e != nil && r.id != c.m.self {
		other = e.peer(c.m.o.Now(), c.m.roster.takers())
	}
	mine := c.m.meta.Started
	c.m.mu.Unlock()
	// Both nodes compare the same values, so exactly one of them yields. Started is of two
	// hosts' clocks: it breaks ties only.
	yield := met.other
	if met.mine == met.other {
		yield = cmp.Or(cmp.Compare(mine, other.Started), cmp.Compare(c.m.self, other.ID), cmp.Compare(c.m.addr.String(), other.Addr)) > 0
	}
	c.m.o.Log.Error().Str("node", string(other.ID)).Str("addr", other.Addr).Str("name", other.Name).Bool("yield", yield).
		Msg("another node has this one's name or id")
	if r.id == c.m.self {
		// Others pass on one of two nodes with the same id only: tell it directly.
		c.m.spawn(func() { _, _ = c.m.ml.Join([]string{r.addr}) })
	}
	if c.m.o.Conflict != nil {
		c.m.o.Conflict(other, yield)
	}
}
