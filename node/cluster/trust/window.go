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
// came and not the 64 below the highest: a sender's count is shared by all its
// messages to all nodes, so what one recipient gets has gaps of any size.
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

// sender is what was opened of one node in its present start.
type sender struct {
	id    knowledge.NodeID
	epoch uint64
	kinds map[string]*window // the kinds are ours, not the sender's: few
}

// memory is what was opened of each sender. The one that was silent longest goes first.
type memory struct {
	mu      sync.Mutex
	senders map[knowledge.NodeID]*list.Element // of *sender
	recent  *list.List                         // newest first
}

func newMemory() *memory {
	return &memory{senders: map[knowledge.NodeID]*list.Element{}, recent: list.New()}
}

// accept reports whether this version of this kind is new, and remembers it.
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
