package store

import (
	"encoding/json"
	"fmt"

	bolt "go.etcd.io/bbolt"
)

const (
	maxDocs    = 32
	maxDoc     = 1 << 20 // the membership of a thousand hosts has some 200 KiB
	maxDocName = 64
)

// Documents are small named JSON documents: at most 32 names of at most 64 bytes,
// 1 MiB each.
type Documents struct {
	s   *Store
	all map[string][]byte
}

// Put records a document as JSON. A nil document is deleted.
func (d *Documents) Put(name string, v any) error {
	if name == "" || len(name) > maxDocName {
		return fmt.Errorf("cannot keep document %q: %w: its name has %d bytes, allowed are 1 to %d",
			bounded(name, maxDocName), ErrInvalid, len(name), maxDocName)
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
	d.s.mu.Lock()
	defer d.s.mu.Unlock()
	c := cell{bucketDocs, name}
	switch _, have := d.all[name]; {
	case d.s.closed:
		return ErrClosed
	case b == nil && !have:
		return d.s.settled(c)
	case b == nil:
		delete(d.all, name)
	case !have && len(d.all) >= maxDocs:
		return fmt.Errorf("cannot keep document %q: %w: there are %d already", name, ErrInvalid, maxDocs)
	default:
		d.all[name] = b
	}
	d.s.staged[c] = b
	return d.s.write(nil)
}

// Get reads a document into v (a pointer); false: there is none.
func (d *Documents) Get(name string, v any) (bool, error) {
	d.s.mu.Lock()
	b, ok := d.all[name]
	d.s.mu.Unlock()
	if !ok {
		return false, nil
	}
	if err := json.Unmarshal(b, v); err != nil {
		return false, fmt.Errorf("cannot read document %q: %w", name, err)
	}
	return true, nil
}

func (d *Documents) load(tx *bolt.Tx) error {
	return d.s.file.each(tx, bucketDocs, func(k string, b []byte) bool {
		if _, waits := d.s.staged[cell{bucketDocs, k}]; !waits {
			d.all[k] = append([]byte(nil), b...)
		}
		return json.Valid(b)
	})
}

func (d *Documents) restage() {
	for name, doc := range d.all {
		d.s.staged[cell{bucketDocs, name}] = doc
	}
}
