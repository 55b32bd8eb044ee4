package store

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/effiscale/effiscale/knowledge"
	bolt "go.etcd.io/bbolt"
)

const (
	maxDocs    = 32
	maxDoc     = 1 << 20 // the membership of a thousand hosts has some 200 KiB
	maxDocName = 64
)

// Identity is who the node is; false: nobody has said (the first boot).
func (s *Store) Identity() (Identity, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.identity, s.identity.Node != ""
}

// SetIdentity keeps who the node is.
func (s *Store) SetIdentity(id Identity) error {
	if id.Node == "" {
		return fmt.Errorf("cannot keep an identity: %w: it has no node id", ErrInvalid)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	s.identity = id
	s.stageJSON(cell{bucketMeta, keyIdentity}, id)
	return s.write(nil)
}

// PutOriginal remembers what a container was allowed before its first change.
// The first one stays: a later call for the same container changes nothing.
func (s *Store) PutOriginal(o knowledge.Original) error { return s.original(o, false) }

// AmendOriginal replaces what is remembered: somebody else chose other limits.
func (s *Store) AmendOriginal(o knowledge.Original) error { return s.original(o, true) }

func (s *Store) original(o knowledge.Original, replace bool) error {
	if o.ID == "" || len(o.ID) > maxWord {
		return fmt.Errorf("cannot keep original limits: %w: container id of %d bytes", ErrInvalid, len(o.ID))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	_, have := s.originals[o.ID]
	if have && !replace {
		return s.settled(cell{bucketOriginals, string(o.ID)})
	}
	if !have && len(s.originals) >= maxOriginals {
		return fmt.Errorf("cannot keep original limits: %w: %d containers have theirs kept already", ErrInvalid, maxOriginals)
	}
	o.Name, o.Service = bounded(o.Name, maxWord), knowledge.ServiceKey(bounded(string(o.Service), maxWord))
	s.originals[o.ID] = o
	s.stageJSON(cell{bucketOriginals, string(o.ID)}, o)
	return s.write(nil)
}

// settled is nil when c is on disk, else the result of trying once more.
func (s *Store) settled(c cell) error {
	if _, waits := s.staged[c]; !waits {
		return nil
	}
	return s.write(nil)
}

// Originals are what containers were allowed at first, by container id.
func (s *Store) Originals() []knowledge.Original {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]knowledge.Original, 0, len(s.originals))
	for _, o := range s.originals {
		out = append(out, o)
	}
	knowledge.SortFunc(out, func(a, b knowledge.Original) int { return strings.Compare(string(a.ID), string(b.ID)) })
	return out
}

// DropOriginal forgets the first limits of a container that was restored or is
// gone. What is not known is no error.
func (s *Store) DropOriginal(id knowledge.ContainerID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	c := cell{bucketOriginals, string(id)}
	if _, have := s.originals[id]; !have {
		return s.settled(c)
	}
	delete(s.originals, id)
	s.staged[c] = nil
	return s.write(nil)
}

// PutDoc keeps a small named document as JSON: at most 32 names of at most 64
// bytes, 1 MiB each. A nil document is deleted.
func (s *Store) PutDoc(name string, v any) error {
	if name == "" || len(name) > maxDocName {
		return fmt.Errorf("cannot keep document %q: %w: its name has %d bytes, allowed are 1 to %d", bounded(name, maxDocName), ErrInvalid, len(name), maxDocName)
	}
	var b []byte
	if v != nil {
		var err error
		if b, err = json.Marshal(v); err != nil {
			return fmt.Errorf("cannot keep document %q: %w: %w", name, ErrInvalid, err)
		}
		if len(b) > maxDoc {
			return fmt.Errorf("cannot keep document %q: %w: %d bytes, allowed are %d", name, ErrInvalid, len(b), maxDoc)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch _, have := s.docs[name]; {
	case s.closed:
		return ErrClosed
	case b == nil && !have:
		return s.settled(cell{bucketDocs, name})
	case b == nil:
		delete(s.docs, name)
	case !have && len(s.docs) >= maxDocs:
		return fmt.Errorf("cannot keep document %q: %w: there are %d already", name, ErrInvalid, maxDocs)
	default:
		s.docs[name] = b
	}
	s.staged[cell{bucketDocs, name}] = b
	return s.write(nil)
}

// GetDoc reads a document into v (a pointer); false: there is none.
func (s *Store) GetDoc(name string, v any) (bool, error) {
	s.mu.Lock()
	b, ok := s.docs[name]
	s.mu.Unlock()
	if !ok {
		return false, nil
	}
	if err := json.Unmarshal(b, v); err != nil {
		return false, fmt.Errorf("cannot read document %q: %w", name, err)
	}
	return true, nil
}

// stageJSON makes a value of one of this package's types wait for the disk; they
// have no field that JSON refuses.
func (s *Store) stageJSON(c cell, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		s.log.Error().Err(err).Str("kind", c.bucket).Msg("cannot encode a record")
		return
	}
	s.staged[c] = b
}

// loadSmall reads identity, originals and documents, except what waits.
func (s *Store) loadSmall(tx *bolt.Tx) error {
	c := cell{bucketMeta, keyIdentity}
	if b, ok := s.get(tx.Bucket([]byte(bucketMeta)), c); ok && s.identity.Node == "" {
		if err := json.Unmarshal(b, &s.identity); err != nil {
			s.noteBad(c)
		}
	}
	err := s.each(tx, bucketOriginals, func(k string, b []byte) bool {
		var o knowledge.Original
		if json.Unmarshal(b, &o) != nil || string(o.ID) != k {
			return false
		}
		if _, waits := s.staged[cell{bucketOriginals, k}]; !waits {
			s.originals[o.ID] = o
		}
		return true
	})
	if err != nil {
		return err
	}
	if err := s.loadTerms(tx); err != nil {
		return err
	}
	return s.each(tx, bucketDocs, func(k string, b []byte) bool {
		if _, waits := s.staged[cell{bucketDocs, k}]; !waits {
			s.docs[k] = append([]byte(nil), b...)
		}
		return json.Valid(b)
	})
}

// each calls fn for every good value of a bucket; a value that fn refuses is bad.
func (s *Store) each(tx *bolt.Tx, bucket string, fn func(key string, payload []byte) bool) error {
	b := tx.Bucket([]byte(bucket))
	if b == nil {
		return fmt.Errorf("%w: bucket %s is missing", errDamaged, bucket)
	}
	return b.ForEach(func(k, v []byte) error {
		c := cell{bucket, string(k)}
		if payload, ok := s.check(c, v); ok && !fn(c.key, payload) {
			s.noteBad(c)
		}
		return nil
	})
}
