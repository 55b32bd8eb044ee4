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
func (m *Members) rivalSeen(r rival, other Meta) {
	if _, ok := m.rivals[r]; ok || m.told[r] || len(m.rivals)+len(m.told) >= maxRivals {
		return
	}
	m.rivals[r] = meeting{mine: m.meta.settled(), other: other.settled()}
	wake(m.rival)
}

// watchRivals asks rivals until they answer or are gone.
func (m *Members) watchRivals() {
	for {
		select {
		case <-m.ctx.Done():
			return
		case <-m.rival:
		}
		for m.askRivals() {
			if sleep(m.ctx, rivalEvery) != nil {
				return
			}
		}
	}
}

// askRivals asks each once and reports whether some are to be asked again.
func (m *Members) askRivals() bool {
	m.mu.Lock()
	asked := make(map[rival]meeting, len(m.rivals))
	for r, met := range m.rivals {
		e := m.book[r.id]
		gone := r.id != m.self && (e == nil || !e.alive || e.addr != r.addr)
		if gone || r.id == m.self && met.tries >= rivalTries {
			delete(m.rivals, r)
			continue
		}
		met.tries++
		m.rivals[r], asked[r] = met, met
	}
	m.mu.Unlock()
	var mu sync.Mutex
	var all sync.WaitGroup
	answered := map[rival]bool{}
	for r := range asked { // at once: each may take seconds not to answer
		all.Go(func() {
			yes := m.answers(r)
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
		m.conflict(r, met)
	}
	return again
}

// answers: a node with the rival's id lives at its address, and is not this one.
func (m *Members) answers(r rival) bool {
	a, err := netip.ParseAddrPort(r.addr)
	if err != nil || m.ctx.Err() != nil || r.id == m.self && m.ours(a) {
		return false
	}
	return m.ask(r.id, a) == nil
}

// Reach asks a node at the address that it advertises, by a packet and its answer.
func (m *Members) Reach(id knowledge.NodeID) error {
	m.mu.Lock()
	e := m.book[id]
	addr := ""
	if e != nil {
		addr = cmp.Or(e.moved, e.addr)
	}
	m.mu.Unlock()
	a, err := netip.ParseAddrPort(addr)
	if err != nil {
		return errors.New("gossip knows no address of it")
	}
	return m.ask(id, a)
}

// ours: packets to a come to this node.
func (m *Members) ours(a netip.AddrPort) bool {
	if m.o.Transport != nil || a.Port() != m.addr.Port() || !m.o.bind.Addr().IsUnspecified() {
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
func (m *Members) conflict(r rival, met meeting) {
	m.mu.Lock()
	delete(m.rivals, r)
	if m.told[r] {
		m.mu.Unlock()
		return
	}
	m.told[r] = true
	m.counts.Conflicts++
	other := Peer{ID: r.id, Addr: r.addr, Alive: true, Status: "alive", Meta: Meta{Name: r.name, Started: r.started}}
	if e := m.book[r.id]; e != nil && r.id != m.self {
		other = e.peer(m.o.Now(), m.takers())
	}
	mine := m.meta.Started
	m.mu.Unlock()
	// Both nodes compare the same values, so exactly one of them yields. Started is of two
	// hosts' clocks: it breaks ties only.
	yield := met.other
	if met.mine == met.other {
		yield = cmp.Or(cmp.Compare(mine, other.Started), cmp.Compare(m.self, other.ID), cmp.Compare(m.addr.String(), other.Addr)) > 0
	}
	m.o.Log.Error().Str("node", string(other.ID)).Str("addr", other.Addr).Str("name", other.Name).Bool("yield", yield).
		Msg("another node has this one's name or id")
	if r.id == m.self {
		// Others pass on one of two nodes with the same id only: tell it directly.
		m.spawn(func() { _, _ = m.ml.Join([]string{r.addr}) })
	}
	if m.o.Conflict != nil {
		m.o.Conflict(other, yield)
	}
}
