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

// memberlist knows whether a node left or failed, and tells nobody. So a node that
// leaves says goodbye in a message of its own, which others pass on when it is news
// to them, and repeat for late comers in push/pull. It names the life that ends, so
// that an old goodbye says nothing of a later crash.

// goodbye is the end of one life of a node.
type goodbye struct {
	id      knowledge.NodeID
	started int64
}

// leaves sends and passes on leave notices.
type leaves struct {
	m     *Members
	queue *memberlist.TransmitLimitedQueue
}

const (
	byeMark = 'B'    // the first byte, for what may come besides
	byeSize = 16 + 8 // id and start
	maxByes = 40     // below the 1 KB that push/pull may carry for us
)

func packByes(byes []goodbye) []byte {
	b := []byte{byeMark}
	for _, g := range byes {
		id, err := hex.DecodeString(string(g.id))
		if err != nil || len(id) != 16 {
			continue
		}
		b = append(b, id...)
		b = binary.BigEndian.AppendUint64(b, uint64(g.started))
	}
	return b
}

// unpackByes reads what it can.
func unpackByes(b []byte) []goodbye {
	if len(b) < 1 || b[0] != byeMark {
		return nil
	}
	var byes []goodbye
	for b = b[1:]; len(b) >= byeSize && len(byes) < maxByes; b = b[byeSize:] {
		byes = append(byes, goodbye{knowledge.NodeID(hex.EncodeToString(b[:16])), int64(binary.BigEndian.Uint64(b[16:byeSize]))})
	}
	return byes
}

// sayBye tells some others directly and leaves the rest to gossip. The addresses are those of
// the book: memberlist gives out its own record of a node, and writes to it meanwhile.
func (l *leaves) sayBye() {
	b := packByes([]goodbye{{l.m.self, l.m.snapshot().Started}})
	l.queue.QueueBroadcast(word(b))
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

// hearBye notes goodbyes and passes on what is news. Of who is not there, one of a later
// life than the known one counts, too: that life came and went unseen.
func (l *leaves) hearBye(b []byte) {
	var news []goodbye
	l.m.mu.Lock()
	for _, g := range unpackByes(b) {
		e := l.m.roster.entries[g.id]
		if e == nil || g.started <= 0 || e.bye == g.started || e.meta.Started != g.started && (e.alive || g.started < e.meta.Started) {
			continue
		}
		e.bye, e.meta.Started = g.started, g.started
		l.m.version.Add(1)
		news = append(news, g)
		if e.failed { // it was taken for a failure
			e.failed = false
			l.m.roster.counts.Failures--
			l.m.roster.counts.Leaves++
		}
	}
	l.m.mu.Unlock()
	if len(news) > 0 {
		l.queue.QueueBroadcast(word(packByes(news)))
		wake(l.m.changed)
	}
}

// ErrUnknown is that of a name that no member has.
var ErrUnknown = errors.New("no member has this name: `effiscale members` lists them")

// Forget says goodbye for nodes of a name that are down, so that nobody waits for them.
// One that lives after all is alive again when it is heard.
func (m *Members) Forget(name string) (ids []knowledge.NodeID, err error) {
	err = fmt.Errorf("%.64q: %w", name, ErrUnknown)
	var byes []goodbye
	m.mu.Lock()
	for _, e := range m.roster.entries {
		switch {
		case e.meta.Name != name:
		case e.alive && len(byes) == 0:
			err = fmt.Errorf("%.64q is alive: run `effiscale leave` on that host", name)
		case !e.alive:
			byes, err = append(byes, goodbye{e.id, max(e.meta.Started, 1)}), nil
			ids = append(ids, e.id)
		}
	}
	m.mu.Unlock()
	if len(byes) > 0 {
		m.leaves.hearBye(packByes(byes))
	}
	return ids, err
}

// allByes are those of the last to leave.
func (l *leaves) allByes() []byte {
	l.m.mu.Lock()
	var left []*entry
	for _, e := range l.m.roster.entries {
		if e.left() {
			left = append(left, e)
		}
	}
	slices.SortFunc(left, func(a, b *entry) int { return cmp.Or(b.gone.Compare(a.gone), cmp.Compare(a.id, b.id)) })
	var byes []goodbye
	for _, e := range left[:min(len(left), maxByes)] {
		byes = append(byes, goodbye{e.id, e.bye})
	}
	l.m.mu.Unlock()
	if len(byes) == 0 {
		return nil
	}
	return packByes(byes)
}

// word is a message for the queue; none replaces another.
type word []byte

func (word) Invalidates(memberlist.Broadcast) bool { return false }
func (w word) Message() []byte                     { return w }
func (word) Finished()                             {}
func (word) UniqueBroadcast()                      {}
