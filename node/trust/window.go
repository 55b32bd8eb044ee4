package trust

import (
	"container/list"
	"slices"
	"sync"

	"github.com/effiscale/effiscale/knowledge"
)

const (
	// maxSenders bounds the memory: 4096 senders with 4 kinds each are about 9 MiB.
	maxSenders = 4096
	// maxWindow is how many accepted counts are kept one by one. So many later
	// messages may overtake one before it is refused.
	maxWindow = 64
)

// window accepts each count once. Unlike DTLS it holds the last 64 counts that
// came and not the 64 below the highest: a sender's count is shared by all that
// it says to all, so what one recipient gets has gaps of any size.
type window struct {
	floor uint64   // no count up to here is accepted any more
	seen  []uint64 // accepted above it, ascending
}

func (w *window) accept(seq uint64) bool {
	if seq <= w.floor {
		return false
	}
	i, found := slices.BinarySearch(w.seen, seq)
	if found {
		return false
	}
	w.seen = slices.Insert(w.seen, i, seq)
	if len(w.seen) > maxWindow {
		w.floor = w.seen[0]
		w.seen = slices.Delete(w.seen, 0, 1)
	}
	return true
}

// sender is what was heard of one node in its present life.
type sender struct {
	id    knowledge.NodeID
	epoch uint64
	kinds map[string]*window // the kinds are ours, not the sender's: few
}

// memory is what was heard of whom. The sender that was silent longest goes first.
type memory struct {
	mu      sync.Mutex
	senders map[knowledge.NodeID]*list.Element // of *sender
	recent  *list.List                         // newest first
}

func newMemory() *memory {
	return &memory{senders: map[knowledge.NodeID]*list.Element{}, recent: list.New()}
}

// accept reports whether this version of this kind is heard for the first time,
// and remembers it.
func (m *memory) accept(from knowledge.NodeID, kind string, v knowledge.Version) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	w := m.window(from, kind, v.Epoch)
	return w != nil && w.accept(v.Seq)
}

// window is nil for an epoch that has ended. A new epoch ends the one before, for
// all kinds. Needs m.mu.
func (m *memory) window(from knowledge.NodeID, kind string, epoch uint64) *window {
	s := m.sender(from, epoch)
	if epoch < s.epoch {
		return nil
	}
	if epoch > s.epoch {
		s.epoch, s.kinds = epoch, map[string]*window{}
	}
	w := s.kinds[kind]
	if w == nil {
		w = &window{}
		s.kinds[kind] = w
	}
	return w
}

func (m *memory) sender(from knowledge.NodeID, epoch uint64) *sender {
	if e, ok := m.senders[from]; ok {
		m.recent.MoveToFront(e)
		return e.Value.(*sender)
	}
	if m.recent.Len() >= maxSenders {
		old := m.recent.Remove(m.recent.Back()).(*sender)
		delete(m.senders, old.id)
	}
	s := &sender{id: from, epoch: epoch, kinds: map[string]*window{}}
	m.senders[from] = m.recent.PushFront(s)
	return s
}

// Heard is the newest version of one kind that one node said.
type Heard struct {
	From    knowledge.NodeID  `cbor:"1,keyasint"`
	Kind    string            `cbor:"2,keyasint"`
	Version knowledge.Version `cbor:"3,keyasint"`
}

// Heard is what to persist, so that a message recorded before a restart of this
// node is a replay after it, too. At most 4096 senders.
func (o *Opener) Heard() []Heard {
	m := o.seen
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []Heard
	for e := m.recent.Back(); e != nil; e = e.Prev() {
		s := e.Value.(*sender)
		for kind, w := range s.kinds {
			out = append(out, Heard{From: s.id, Kind: kind, Version: knowledge.Version{Epoch: s.epoch, Seq: w.highest()}})
		}
	}
	return out
}

func (w *window) highest() uint64 {
	if n := len(w.seen); n > 0 {
		return w.seen[n-1]
	}
	return w.floor
}

// Restore refuses from now on what is not after the versions of heard.
func (o *Opener) Restore(heard []Heard) {
	m := o.seen
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, h := range heard {
		w := m.window(h.From, h.Kind, h.Version.Epoch)
		if w != nil && h.Version.Seq > w.floor {
			w.floor = h.Version.Seq
			w.seen = slices.DeleteFunc(w.seen, func(seq uint64) bool { return seq <= w.floor })
		}
	}
}
