package member

import (
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/hashicorp/memberlist"

	"github.com/effiscale/effiscale/knowledge"
)

// memberlist knows whether a node left or failed, and does not report it. So a node that
// leaves sends a leave notice of its own, which others pass on when it is new to them,
// and repeat for late comers in push/pull. It names the start of the node that ends, so
// that an old notice does not hide a later crash.

// notice is the end of one start of a node.
type notice struct {
	id      knowledge.NodeID
	started int64
}

// leaves sends leave notices and passes them on.
type leaves struct {
	m     *Members
	queue *memberlist.TransmitLimitedQueue
}

const (
	leaveMark  = 'B'    // the first byte, for what may come besides
	noticeSize = 16 + 8 // id and start
	maxNotices = 40     // below the 1 KB that push/pull may carry for us
)

func packNotices(notices []notice) []byte {
	b := []byte{leaveMark}
	for _, g := range notices {
		id, err := hex.DecodeString(string(g.id))
		if err != nil || len(id) != 16 {
			continue
		}
		b = append(b, id...)
		b = binary.BigEndian.AppendUint64(b, uint64(g.started))
	}
	return b
}

// unpackNotices reads as many as are whole.
func unpackNotices(b []byte) []notice {
	if len(b) < 1 || b[0] != leaveMark {
		return nil
	}
	var notices []notice
	for b = b[1:]; len(b) >= noticeSize && len(notices) < maxNotices; b = b[noticeSize:] {
		id, started := hex.EncodeToString(b[:16]), binary.BigEndian.Uint64(b[16:noticeSize])
		notices = append(notices, notice{knowledge.NodeID(id), int64(started)})
	}
	return notices
}

// send sends this node's notice to some others directly and leaves the rest to gossip. The
// addresses are the roster's: memberlist gives out its own record of a node, and writes to
// it meanwhile.
func (l *leaves) send() {
	b := packNotices([]notice{{l.m.o.ID, l.m.snapshot().Started}})
	l.queue.QueueBroadcast(broadcast(b))
	var to []memberlist.Address
	l.m.mu.Lock()
	for id, e := range l.m.roster.entries {
		if e.alive && len(to) < 32 {
			to = append(to, memberlist.Address{Addr: e.addr, Name: string(id)})
		}
	}
	l.m.mu.Unlock()
	for _, a := range to {
		_ = l.m.ml.SendToAddress(a, b)
	}
}

// receive notes leave notices and passes on new ones. Of a node that is not alive, a notice
// of a later start than the known one counts, too: that start was not seen.
func (l *leaves) receive(b []byte) {
	var fresh []notice
	l.m.mu.Lock()
	for _, g := range unpackNotices(b) {
		e := l.m.roster.entries[g.id]
		if e == nil || g.started <= 0 || e.leftAt == g.started {
			continue
		}
		if e.meta.Started != g.started && (e.alive || g.started < e.meta.Started) {
			continue
		}
		e.leftAt, e.meta.Started = g.started, g.started
		l.m.version.Add(1)
		fresh = append(fresh, g)
		if e.failed { // it was taken for a failure
			e.failed = false
			l.m.roster.counts.Failures--
			l.m.roster.counts.Leaves++
		}
	}
	l.m.mu.Unlock()
	if len(fresh) > 0 {
		l.queue.QueueBroadcast(broadcast(packNotices(fresh)))
		wake(l.m.changed)
	}
}

// ErrUnknown: no member has the name.
var ErrUnknown = errors.New("no member has this name: `effiscale members` lists them")

// Forget sends the leave notice for failed nodes with a name. One that is running after all
// is alive again when gossip sees it.
func (m *Members) Forget(name string) (ids []knowledge.NodeID, err error) {
	err = fmt.Errorf("%.64q: %w", name, ErrUnknown)
	var notices []notice
	m.mu.Lock()
	for _, e := range m.roster.entries {
		switch {
		case e.meta.Name != name:
		case e.alive && len(notices) == 0:
			err = fmt.Errorf("%.64q is alive: run `effiscale leave` on that host", name)
		case !e.alive:
			notices, err = append(notices, notice{e.id, max(e.meta.Started, 1)}), nil
			ids = append(ids, e.id)
		}
	}
	m.mu.Unlock()
	if len(notices) > 0 {
		m.leaves.receive(packNotices(notices))
	}
	return ids, err
}

// all are the notices of the nodes that left last.
func (l *leaves) all() []byte {
	l.m.mu.Lock()
	var left []*entry
	for _, e := range l.m.roster.entries {
		if e.left() {
			left = append(left, e)
		}
	}
	slices.SortFunc(left, func(a, b *entry) int { return cmp.Or(b.gone.Compare(a.gone), cmp.Compare(a.id, b.id)) })
	var notices []notice
	for _, e := range left[:min(len(left), maxNotices)] {
		notices = append(notices, notice{e.id, e.leftAt})
	}
	l.m.mu.Unlock()
	if len(notices) == 0 {
		return nil
	}
	return packNotices(notices)
}

// broadcast is a message for the queue; none replaces another.
type broadcast []byte

func (broadcast) Invalidates(memberlist.Broadcast) bool { return false }
func (b broadcast) Message() []byte                     { return b }
func (broadcast) Finished()                             {}
func (broadcast) UniqueBroadcast()                      {}
