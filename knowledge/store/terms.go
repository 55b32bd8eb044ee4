package store

import (
	"encoding/json"
	"fmt"
	"maps"

	"github.com/effiscale/effiscale/knowledge"
	bolt "go.etcd.io/bbolt"
)

// termCell is where a service's term is. The empty key has one, too, and bbolt takes
// no empty keys.
func termCell(key knowledge.ServiceKey) cell { return cell{bucketTerms, "." + string(key)} }

// PutTerms keeps the terms of services in one transaction; the zero Term deletes.
// After an error none of them is kept, in memory neither: a term that is not on the
// disk must not be used.
func (s *Store) PutTerms(some map[knowledge.ServiceKey]knowledge.Term) error {
	values := make(map[cell][]byte, len(some))
	for key, t := range some {
		if len(key) > maxWord || len(t.Owner) > maxWord {
			return fmt.Errorf("cannot keep a term: %w: a service of %d bytes, an owner of %d", ErrInvalid, len(key), len(t.Owner))
		}
		c := termCell(key)
		if values[c] = nil; !t.IsZero() {
			b, err := json.Marshal(t)
			if err != nil {
				return fmt.Errorf("cannot keep a term: %w: %w", ErrInvalid, err)
			}
			values[c] = b
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.terms)+len(some) > maxTerms && !within(s.terms, some) {
		return fmt.Errorf("cannot keep the terms of more than %d services: %w", maxTerms, ErrInvalid)
	}
	err := s.write(func(tx *bolt.Tx) error {
		for c, b := range values {
			err := error(nil)
			if b == nil {
				err = remove(tx, c)
			} else {
				err = put(tx, c, b)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for key, t := range some {
		if s.terms[key] = t; t.IsZero() {
			delete(s.terms, key)
		}
	}
	return nil
}

// within reports whether there is room for some besides what is kept.
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

// Terms are those that PutTerms kept.
func (s *Store) Terms() map[knowledge.ServiceKey]knowledge.Term {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.terms)
}

func (s *Store) loadTerms(tx *bolt.Tx) error {
	if tx.Bucket([]byte(bucketTerms)) == nil {
		return nil // a file of an earlier version that can only be read
	}
	return s.each(tx, bucketTerms, func(k string, b []byte) bool {
		var t knowledge.Term
		if k == "" || k[0] != '.' || json.Unmarshal(b, &t) != nil {
			return false
		}
		// A file that was away may be older than what is known since.
		if key := knowledge.ServiceKey(k[1:]); t.After(s.terms[key]) {
			s.terms[key] = t
		}
		return true
	})
}
