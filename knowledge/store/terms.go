package store

import (
	"encoding/json"
	"fmt"
	"maps"

	"github.com/effiscale/effiscale/knowledge"
	bolt "go.etcd.io/bbolt"
)

// termCell is where a service's term is. The empty service key is possible, and
// bbolt refuses empty keys.
func termCell(key knowledge.ServiceKey) cell { return cell{bucketTerms, "." + string(key)} }

// maxTerms bounds the services whose terms are remembered: 100 bytes each, in
// memory and in the file.
const maxTerms = 50_000

// Terms are the highest terms seen, by service.
type Terms struct {
	s   *Store
	all map[knowledge.ServiceKey]knowledge.Term
}

// Put records the terms of services in one transaction; the zero Term deletes.
// After an error none of them is kept, not in memory either: a term that is not on
// disk must not be used.
func (t *Terms) Put(some map[knowledge.ServiceKey]knowledge.Term) error {
	values := make(map[cell][]byte, len(some))
	for key, term := range some {
		if len(key) > maxWord || len(term.Owner) > maxWord {
			return fmt.Errorf("cannot keep a term: %w: a service of %d bytes, an owner of %d",
				ErrInvalid, len(key), len(term.Owner))
		}
		c := termCell(key)
		if values[c] = nil; !term.IsZero() {
			b, err := json.Marshal(term)
			if err != nil {
				return fmt.Errorf("cannot keep a term: %w: %w", ErrInvalid, err)
			}
			values[c] = b
		}
	}
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	if len(t.all)+len(some) > maxTerms && !within(t.all, some) {
		return fmt.Errorf("cannot keep the terms of more than %d services: %w", maxTerms, ErrInvalid)
	}
	err := t.s.write(func(tx *bolt.Tx) error {
		for c, b := range values {
			if err := apply(tx, c, b); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for key, term := range some {
		if t.all[key] = term; term.IsZero() {
			delete(t.all, key)
		}
	}
	return nil
}

// within reports whether kept stays in its bound with some.
func within(kept, some map[knowledge.ServiceKey]knowledge.Term) bool {
	n := len(kept)
	for key, t := range some {
		switch _, have := kept[key]; {
		case have && t.IsZero():
			n--
		case !have && !t.IsZero():
			n++
		}
	}
	return n <= maxTerms
}

// All are the terms that Put recorded.
func (t *Terms) All() map[knowledge.ServiceKey]knowledge.Term {
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	return maps.Clone(t.all)
}

func (t *Terms) load(tx *bolt.Tx) error {
	return t.s.file.each(tx, bucketTerms, func(k string, b []byte) bool {
		var term knowledge.Term
		if k == "" || k[0] != '.' || json.Unmarshal(b, &term) != nil {
			return false
		}
		// A file that was away may be older than what is in memory.
		if key := knowledge.ServiceKey(k[1:]); term.After(t.all[key]) {
			t.all[key] = term
		}
		return true
	})
}

func (t *Terms) restage() {
	for key, term := range t.all {
		t.s.stageJSON(termCell(key), term)
	}
}
