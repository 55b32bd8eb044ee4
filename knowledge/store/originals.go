package store

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/effiscale/effiscale/knowledge"
	bolt "go.etcd.io/bbolt"
)

// maxOriginals bounds the containers whose original limits are remembered.
const maxOriginals = 10_000

// Originals are the limits that containers had before their first change.
type Originals struct {
	s   *Store
	all map[knowledge.ContainerID]knowledge.Original
}

// Put records the limits that a container had before its first change. The first
// record stays: a later call for the same container changes nothing.
func (l *Originals) Put(o knowledge.Original) error { return l.put(o, false) }

// Amend replaces the record: the limits were changed externally.
func (l *Originals) Amend(o knowledge.Original) error { return l.put(o, true) }

func (l *Originals) put(o knowledge.Original, replace bool) error {
	if o.ID == "" || len(o.ID) > maxWord {
		return fmt.Errorf("cannot keep original limits: %w: container id of %d bytes", ErrInvalid, len(o.ID))
	}
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	if l.s.closed {
		return ErrClosed
	}
	c := cell{bucketOriginals, string(o.ID)}
	_, have := l.all[o.ID]
	if have && !replace {
		return l.s.settled(c)
	}
	if !have && len(l.all) >= maxOriginals {
		return fmt.Errorf("cannot keep original limits: %w: %d containers have theirs kept already",
			ErrInvalid, maxOriginals)
	}
	o.Name, o.Service = bounded(o.Name, maxWord), bounded(o.Service, maxWord)
	l.all[o.ID] = o
	l.s.stageJSON(c, o)
	err := l.s.write(nil)
	l.s.copyOriginal(&copyLine{Original: &o})
	return err
}

// All are the original limits, by container id.
func (l *Originals) All() []knowledge.Original {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	out := make([]knowledge.Original, 0, len(l.all))
	for _, id := range slices.Sorted(maps.Keys(l.all)) {
		out = append(out, l.all[id])
	}
	return out
}

// Drop removes the record of a container that was restored or is gone. An unknown
// one is no error.
func (l *Originals) Drop(id knowledge.ContainerID) error {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	if l.s.closed {
		return ErrClosed
	}
	c := cell{bucketOriginals, string(id)}
	if _, have := l.all[id]; !have {
		return l.s.settled(c)
	}
	delete(l.all, id)
	l.s.staged[c] = nil
	err := l.s.write(nil)
	l.s.copyOriginal(&copyLine{Drop: id})
	return err
}

func (l *Originals) load(tx *bolt.Tx) error {
	return l.s.file.each(tx, bucketOriginals, func(k string, b []byte) bool {
		var o knowledge.Original
		if json.Unmarshal(b, &o) != nil || string(o.ID) != k {
			return false
		}
		if _, waits := l.s.staged[cell{bucketOriginals, k}]; !waits {
			l.all[o.ID] = o
		}
		return true
	})
}

func (l *Originals) restage() {
	for id, o := range l.all {
		l.s.stageJSON(cell{bucketOriginals, string(id)}, o)
	}
}
