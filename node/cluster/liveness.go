package cluster

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/node/cluster/member"
	"github.com/effiscale/effiscale/node/cluster/relay"
)

const (
	// probeWithin is the patience with one direct call to a member that gossip lost; one
	// probe is two calls, in one and a half of it.
	probeWithin = 800 * time.Millisecond
	// probeEvery is how long a member that answered a direct call counts as alive,
	// whatever gossip reports.
	probeEvery = 3 * time.Second
	// probeAgain is the wait before one is probed again that gossip has back.
	probeAgain = 500 * time.Millisecond
	// lostAfter is how long gossip must have lost a member until direct calls to it and
	// from it end.
	lostAfter = time.Minute
	// absenceKept is how long it is remembered that a member was lost.
	absenceKept = 10 * time.Minute
)

// liveness knows which members are alive: by gossip, and by direct calls where gossip
// lost one or has it back.
type liveness struct {
	c      *Cluster
	probes map[knowledge.NodeID]probe
	cache  struct { // see peers
		version uint64
		peers   []member.Peer
	}
	visible   []knowledge.NodeID // the living members at the last tick, in order
	changedAt time.Time          // of visible
	// lost is when a member was lost from sight, returned when one that was lost came back.
	lost, returned map[knowledge.NodeID]time.Time
}

// probe is a direct call to a member that gossip calls dead.
type probe struct {
	pending bool
	alive   bool
	at      time.Time
}

func newLiveness(c *Cluster) *liveness {
	return &liveness{
		c: c, probes: map[knowledge.NodeID]probe{}, changedAt: c.o.Now(),
		lost: map[knowledge.NodeID]time.Time{}, returned: map[knowledge.NodeID]time.Time{},
	}
}

// update notes who is alive now.
func (l *liveness) update(now time.Time) []knowledge.NodeID {
	alive := l.alive(now)
	if !slices.Equal(alive, l.visible) {
		l.note(now, alive)
		l.visible, l.changedAt = alive, now
	}
	return alive
}

// note notes members that were lost, and those that returned.
func (l *liveness) note(now time.Time, alive []knowledge.NodeID) {
	l.c.owner.returned(alive)
	for _, id := range l.visible {
		if _, is := slices.BinarySearch(alive, id); !is && id != l.c.self {
			l.lost[id] = now
		}
	}
	for _, id := range alive {
		if _, was := l.lost[id]; was {
			delete(l.lost, id)
			l.returned[id] = now
			l.c.participation.presence.doubt()
		}
	}
}

// absence is how long ago a member that was lost returned; 0 while it is lost.
func (l *liveness) absence(now time.Time, id knowledge.NodeID) (agoMillis int64, lost bool) {
	if _, lost = l.lost[id]; lost {
		return 0, true
	}
	at, lost := l.returned[id]
	return now.Sub(at).Milliseconds(), lost
}

// peers are all members as of now, for reading only: they are asked for several
// times a tick, and change seldom.
func (l *liveness) peers() []member.Peer {
	if v := l.c.members.Version(); l.cache.peers == nil || v != l.cache.version {
		l.cache.version, l.cache.peers = v, l.c.members.Peers()
	}
	return l.cache.peers
}

// alive are the living members, in order.
func (l *liveness) alive(now time.Time) []knowledge.NodeID {
	var out []knowledge.NodeID
	peers := l.peers()
	for i := range peers {
		if l.isAlive(now, &peers[i]) {
			out = append(out, peers[i].ID)
		}
	}
	slices.Sort(out)
	return out
}

// sees reports whether a host was alive at the last tick, this one always.
func (l *liveness) sees(id knowledge.NodeID) bool {
	return id == l.c.self || slices.Contains(l.visible, id)
}

// probing reports whether a member is kept or left out because of a direct call.
func (l *liveness) probing() bool { return len(l.probes) > 0 }

// isAlive reports whether a member is alive. One that gossip has lost is probed by direct
// calls, and counts until they are answered, and for a while where they are: gossip loses
// packets, and a node that is slow, while a call comes through. One that did not answer is
// probed again when gossip has it back, and counts when it answers: a node that receives
// nothing may still be sending.
func (l *liveness) isAlive(now time.Time, p *member.Peer) bool {
	seen := l.probes[p.ID]
	doubt := !seen.at.IsZero() && !seen.alive
	switch {
	case p.Alive && !doubt:
		if !seen.pending {
			delete(l.probes, p.ID)
		}
		return true
	case p.Status == "left" || p.Relay == "" || lost(now, p):
		return false // its messages are refused: its services are to be others'
	case p.Alive && (seen.pending || now.Sub(seen.at) < probeAgain):
		return false
	case p.Alive:
	case seen.pending || !seen.at.IsZero() && (!seen.alive || now.Sub(seen.at) < probeEvery):
		return seen.pending && !doubt || seen.alive
	}
	l.probe(p.ID, seen, doubt)
	return !doubt
}

func (l *liveness) probe(id knowledge.NodeID, seen probe, doubt bool) {
	c := l.c
	l.probes[id] = probe{pending: true, alive: seen.alive, at: seen.at}
	c.spawn(func(ctx context.Context) {
		err := l.call(ctx, id)
		c.post(func() {
			now := c.o.Now()
			l.probes[id] = probe{alive: err == nil, at: now}
			if err == nil && !doubt {
				c.count.FalseAlarms++
			}
			c.log.Debug().Err(err).Str("peer", id.Short()).Bool("returned", doubt).Msg("direct probe after membership change")
			c.placement.follow(now)
		})
	})
}

// call probes twice, the second time beside the first one: a refusal is an answer,
// silence may be a lost packet.
func (l *liveness) call(ctx context.Context, id knowledge.NodeID) error {
	ctx, cancel := context.WithTimeout(ctx, probeWithin+probeWithin/2)
	defer cancel()
	answers := make(chan error, 2)
	ask := func(context.Context) { answers <- l.c.relay.Alive(ctx, id) }
	l.c.spawn(ask)
	select {
	case err := <-answers:
		return err
	case <-time.After(probeWithin / 2):
	}
	l.c.spawn(ask)
	err := <-answers
	if err != nil && ctx.Err() == nil {
		err = <-answers
	}
	return err
}

// expire drops probes that decide nothing any more.
func (l *liveness) expire() {
	for id, p := range l.probes {
		peer, known := l.c.members.Peer(id)
		failed := known && !peer.Alive && peer.Status != "left"
		if !p.pending && (p.alive && !failed || !l.c.known(id)) {
			delete(l.probes, id)
		}
	}
	now := l.c.o.Now()
	for _, times := range []map[knowledge.NodeID]time.Time{l.lost, l.returned} {
		maps.DeleteFunc(times, func(_ knowledge.NodeID, at time.Time) bool { return now.Sub(at) > absenceKept })
	}
}

// lost: gossip lost it so long ago that to answer calls does not make it a member.
func lost(now time.Time, p *member.Peer) bool {
	return !p.Alive && now.Sub(p.Since) > lostAfter
}

// gone reports whether nothing is to be sent to a node: it or this one left, it is unknown,
// or was lost for so long that the ring is another one. Its host may have a new id by
// now, and would refuse each call.
func (l *liveness) gone(now time.Time, id knowledge.NodeID) bool {
	p, _ := l.c.members.Peer(id)
	return l.c.left.Load() || !l.c.known(id) || lost(now, &p) && !l.sees(id)
}

// lookup is where a living member answers calls.
func (l *liveness) lookup(id knowledge.NodeID) (string, bool) {
	p, ok := l.c.members.Peer(id)
	return p.Relay, ok && p.Status != "left" && p.Relay != ""
}

// admit refuses calls of nodes that are no members any more, though gossip remembers them
// for days: the key may have been taken away, or the name be another's. One that gossip has
// lost of late may be alive all the same (see isAlive).
func (l *liveness) admit(from knowledge.NodeID) error {
	p, _ := l.c.members.Peer(from)
	switch {
	case p.Alive:
		return nil
	case p.Status == "refused" || p.Status == "replaced":
		return &relay.Error{Status: http.StatusForbidden, Text: "another node has the caller's name"}
	case !lost(l.c.o.Now(), &p):
		return nil
	}
	l.c.members.Seek(from)
	text := fmt.Sprintf("the caller failed in gossip more than %v ago; retry after it has rejoined", lostAfter)
	return &relay.Error{Status: http.StatusForbidden, Text: text}
}
