package member

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// Bounds on what is remembered.
const (
	maxGone  = 1024           // members that are not alive
	keepGone = 72 * time.Hour // a long weekend
	// keepTaken is how long one that is gone is listed when another node has its name: it
	// will not come back under it.
	keepTaken = 10 * time.Minute
	maxAlive  = 8192 // beyond what memberlist was ever seen to work with
	// suspectFor is how long a missed answer is shown when no other news comes.
	suspectFor = 30 * time.Second
)

// Peer is a node as this one sees it.
type Peer struct {
	ID   knowledge.NodeID
	Addr string // of gossip, host:port
	Meta
	Alive bool
	// Status is "alive", "suspect", "failed", "left"; or, of one that is gone while another
	// living node has its name, "refused" (the other one was first) or "replaced".
	Status string
	Since  time.Time     // of Status
	RTT    time.Duration // smoothed; 0: unknown
	Self   bool
}

// Seen is what is kept of a node over a restart.
type Seen struct {
	ID       knowledge.NodeID `json:"id"`
	Name     string           `json:"name"`
	Addr     string           `json:"addr"`
	LastSeen time.Time        `json:"last_seen"`
	// Started is the start that was seen: a leave notice of an earlier one is void.
	Started int64 `json:"started,omitempty"`
	// Bye is the start that sent a leave notice, 0: none. Without it a node that was stopped
	// on purpose would count as failed after a restart of this node, where no other is left.
	Bye int64 `json:"bye,omitempty"`
}

// roster is what is known of the other nodes. Its fields are guarded by Members.mu.
type roster struct {
	m       *Members
	entries map[knowledge.NodeID]*entry
	alive   int
	counts  Counts
}

// entry is what is known of another node.
type entry struct {
	id      knowledge.NodeID
	addr    string
	moved   string // its new address, while memberlist has it at addr
	meta    Meta
	alive   bool
	leftAt  int64     // the start, as Meta.Started, that sent a leave notice; 0: none
	failed  bool      // it is gone and counted as a failure
	suspect time.Time // when it did not answer; zero: it did answer
	came    time.Time // when it was first seen alive, where it is
	gone    time.Time // when it was last alive, where it is not
	rtt     time.Duration
}

// left: it sent a leave notice.
func (e *entry) left() bool { return !e.alive && e.leftAt != 0 && e.leftAt == e.meta.Started }

// peer is the entry for others. taken is since when a living node has its name, zero
// where none has; it is called for those that are gone only.
func (e *entry) peer(now time.Time, taken func(name string) time.Time) Peer {
	p := Peer{ID: e.id, Addr: e.addr, Meta: e.meta, Alive: e.alive, RTT: e.rtt, Status: "failed", Since: e.gone}
	switch {
	case e.alive && !e.suspect.IsZero() && now.Sub(e.suspect) < suspectFor:
		p.Status, p.Since = "suspect", e.suspect
	case e.alive:
		p.Status, p.Since = "alive", e.came
	case e.left():
		p.Status = "left"
	default:
		if since := taken(e.meta.Name); !since.IsZero() && e.came.After(since) {
			p.Status = "refused"
		} else if !since.IsZero() {
			p.Status = "replaced"
		}
	}
	return p
}

// over: one that is gone need not be listed any more.
func (e *entry) over(now time.Time, taken func(name string) time.Time) bool {
	if now.Sub(e.gone) <= keepTaken {
		return false
	}
	since := taken(e.meta.Name)
	return now.Sub(e.gone) > keepGone || !since.IsZero() && now.Sub(since) > keepTaken
}

// takers finds since when a living node has a name. mu is held, also while it is used.
func (r *roster) takers() func(name string) time.Time {
	var since map[string]time.Time
	return func(name string) time.Time {
		if since == nil { // in most clusters no member is gone at most times
			since = make(map[string]time.Time, len(r.entries)+1)
			if !r.m.left.Load() {
				since[r.m.meta.Name] = r.m.began
			}
			for _, e := range r.entries {
				if at := since[e.meta.Name]; e.alive && (at.IsZero() || e.came.Before(at)) {
					since[e.meta.Name] = e.came
				}
			}
		}
		return since[name]
	}
}

// remember takes over the nodes seen before this start.
func (r *roster) remember(kept []Seen) {
	now := r.m.o.Now()
	for _, s := range kept {
		_, err := netip.ParseAddrPort(s.Addr)
		if err != nil || !validID(string(s.ID)) || s.ID == r.m.o.ID {
			continue
		}
		if now.Sub(s.LastSeen) > keepGone || len(r.entries) >= maxGone {
			continue
		}
		// A clock that was ahead must not keep a node for longer.
		at := s.LastSeen
		if at.After(now) {
			at = now
		}
		meta := Meta{Name: s.Name, Started: max(s.Started, 0)}
		r.entries[s.ID] = &entry{id: s.ID, addr: s.Addr, meta: meta, gone: at, leftAt: max(s.Bye, 0)}
	}
}

// Peers are all known nodes: this one first, then by name and id. Failed nodes and those
// that left stay for 72 h, 10 minutes where another has the name, 1024 at most. A node that
// left knows itself only.
func (m *Members) Peers() []Peer {
	now := m.o.Now()
	m.mu.Lock()
	m.roster.prune(now)
	self := m.selfPeer()
	if m.left.Load() {
		m.mu.Unlock()
		return []Peer{self}
	}
	peers, taken := make([]Peer, 0, len(m.roster.entries)+1), m.roster.takers()
	for _, e := range m.roster.entries {
		peers = append(peers, e.peer(now, taken))
	}
	m.mu.Unlock()
	slices.SortFunc(peers, func(a, b Peer) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
	return slices.Insert(peers, 0, self)
}

// Version changes with each change of members, addresses, states and metadata. A caller that
// reads it before Peers misses none.
func (m *Members) Version() uint64 { return m.version.Load() }

// Peer is one known node; false: it is not known.
func (m *Members) Peer(id knowledge.NodeID) (Peer, bool) {
	now := m.o.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	if id == m.o.ID {
		return m.selfPeer(), true
	}
	e := m.roster.entries[id]
	switch {
	case e == nil:
		return Peer{}, false
	case e.alive: // the caller may ask for each of many
		return e.peer(now, nil), true
	}
	taken := m.roster.takers()
	if e.over(now, taken) {
		return Peer{}, false
	}
	return e.peer(now, taken), true
}

// selfPeer needs mu.
func (m *Members) selfPeer() Peer {
	p := Peer{ID: m.o.ID, Addr: m.addr.String(), Meta: m.meta, Alive: true, Status: "alive", Since: m.began, Self: true}
	if m.left.Load() {
		p.Alive, p.Status, p.Since = false, "left", m.ended
	}
	return p
}

// Seen is the record of the others for the disk, by id.
func (m *Members) Seen() []Seen {
	now := m.o.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.roster.prune(now)
	all := make([]Seen, 0, len(m.roster.entries))
	for _, id := range slices.Sorted(maps.Keys(m.roster.entries)) {
		e := m.roster.entries[id]
		at := e.gone
		if e.alive {
			at = now
		}
		all = append(all, Seen{ID: id, Name: e.meta.Name, Addr: e.addr, LastSeen: at, Started: e.meta.Started, Bye: e.leftAt})
	}
	return all
}

// prune drops nodes that are gone for too long, and the longest gone of too many. mu is held.
func (r *roster) prune(now time.Time) {
	gone, taken := 0, r.takers()
	for id, e := range r.entries {
		switch {
		case e.alive:
		case e.over(now, taken):
			delete(r.entries, id)
			r.m.version.Add(1)
		default:
			gone++
		}
	}
	if gone <= maxGone {
		return
	}
	all := slices.Collect(maps.Values(r.entries))
	all = slices.DeleteFunc(all, func(e *entry) bool { return e.alive })
	slices.SortFunc(all, func(a, b *entry) int { return cmp.Or(a.gone.Compare(b.gone), cmp.Compare(a.id, b.id)) })
	for _, e := range all[:gone-maxGone] {
		delete(r.entries, e.id)
	}
	r.m.version.Add(1)
}

// came notes a node that is alive, new or back.
func (r *roster) came(id knowledge.NodeID, addr string, meta Meta) {
	now := r.m.o.Now()
	r.m.mu.Lock()
	defer r.m.mu.Unlock()
	r.m.version.Add(1)
	e := r.entries[id]
	if e == nil {
		e = &entry{id: id}
		r.entries[id] = e
	}
	if !e.alive {
		e.alive, e.came, e.failed = true, now, false
		r.alive++
		r.counts.Joins++
	}
	if e.addr != addr {
		e.rtt = 0
	}
	e.addr, e.moved, e.meta, e.suspect = addr, "", meta, time.Time{}
	if meta.Name == r.m.meta.Name && addr != r.m.addr.String() {
		r.m.conflicts.note(duplicate{id: id, addr: addr}, meta)
	}
}

// went notes a node that failed or left, and returns what it is now.
func (r *roster) went(id knowledge.NodeID) Peer {
	now := r.m.o.Now()
	r.m.mu.Lock()
	defer r.m.mu.Unlock()
	e := r.entries[id]
	switch {
	case e == nil:
		return Peer{}
	case !e.alive:
		return e.peer(now, r.takers())
	}
	r.m.version.Add(1)
	e.alive, e.gone, e.rtt = false, now, 0
	if e.moved != "" {
		e.addr = e.moved
		wake(r.m.joiner.again)
	}
	r.alive--
	if e.meta.State == Leaving {
		e.leftAt = e.meta.Started
	}
	if e.left() {
		r.counts.Leaves++
	} else {
		e.failed = true
		r.counts.Failures++
	}
	r.prune(now)
	return e.peer(now, r.takers())
}

// noteSuspect is called from memberlist's log, the only place that has it.
func (r *roster) noteSuspect(id string) {
	now := r.m.o.Now()
	r.m.mu.Lock()
	defer r.m.mu.Unlock()
	if e := r.entries[knowledge.NodeID(id)]; e != nil && e.alive {
		e.suspect = now
	}
}

// called is a member's name and short id.
func (r *roster) called(id string) string {
	r.m.mu.Lock()
	defer r.m.mu.Unlock()
	if e := r.entries[knowledge.NodeID(id)]; e != nil && e.meta.Name != "" {
		return e.meta.Name + " (" + e.id.Short() + ")"
	}
	return id
}

// answered notes a round trip.
func (r *roster) answered(id knowledge.NodeID, rtt time.Duration) {
	r.m.mu.Lock()
	defer r.m.mu.Unlock()
	e := r.entries[id]
	if e == nil {
		return
	}
	e.suspect = time.Time{}
	if rtt = max(rtt, 1); e.rtt == 0 {
		e.rtt = rtt
	} else {
		e.rtt += (rtt - e.rtt) / 8 // as TCP does
	}
}
