package store

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	bolt "go.etcd.io/bbolt"
)

const (
	// keyLife is how long a request's key finds the actions that it led to.
	keyLife = 24 * time.Hour
	// maxOpen bounds the actions that were begun and not ended.
	maxOpen = 4096
	// defaultRecords is how many records a query without a limit returns.
	defaultRecords = 100
	// outOfOrder is how much older than Filter.Since a record must be for those
	// before it in the journal to be too old as well: a folded one is written an
	// interval after it began, and the wall clock may have been set back.
	outOfOrder = 2 * time.Hour
)

// Begin records an action before it is sent and gives it its number. With nil it
// is on disk. With ErrDegraded it has its number and is remembered in memory: the
// action goes on. Any other error means that nothing was recorded.
func (s *Store) Begin(a knowledge.Action) (seq uint64, err error) {
	if len(a.Key) > maxKey {
		return 0, fmt.Errorf("cannot record an action: %w: a key of %d bytes, allowed are %d", ErrInvalid, len(a.Key), maxKey)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, ErrClosed
	}
	if len(s.open) >= maxOpen {
		s.forgetOldestOpen()
	}
	s.seq++
	a.Seq = s.seq
	r := knowledge.Record{Action: a}
	s.open[a.Seq] = r
	s.records[a.Seq] = r
	return a.Seq, s.write(nil)
}

func (s *Store) forgetOldestOpen() {
	oldest := uint64(0)
	for seq := range s.open {
		if oldest == 0 || seq < oldest {
			oldest = seq
		}
	}
	delete(s.open, oldest)
}

// End closes an action. A second End of the same action replaces the first: one
// that was applied may be reverted. The errors are as Begin's; an action that the
// journal does not hold (any more) is ErrInvalid.
func (s *Store) End(o knowledge.Outcome) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	r, ok := s.known(o.Seq)
	if !ok {
		return fmt.Errorf("cannot end action %d: %w: it is not in the journal", o.Seq, ErrInvalid)
	}
	r.Outcome = o
	delete(s.open, o.Seq)
	s.records[o.Seq] = r
	return s.write(nil)
}

// known finds a record by its number. s.mu is held.
func (s *Store) known(seq uint64) (r knowledge.Record, ok bool) {
	if r, ok = s.records[seq]; ok {
		return r, true
	}
	if r, ok = s.open[seq]; ok || s.db == nil {
		return r, ok
	}
	err := guarded(func() error {
		return s.db.View(func(tx *bolt.Tx) error {
			r, ok = s.record(tx.Bucket([]byte(bucketJournal)), seq)
			return nil
		})
	})
	return r, ok && err == nil
}

// record reads one record of the file; a bad one is noted and is not there.
func (s *Store) record(journal *bolt.Bucket, seq uint64) (knowledge.Record, bool) {
	c := cell{bucketJournal, seqKey(seq)}
	b, ok := s.get(journal, c)
	if !ok {
		return knowledge.Record{}, false
	}
	r, err := decodeRecord(seq, b)
	if err != nil {
		s.noteBad(c)
		return knowledge.Record{}, false
	}
	return r, true
}

// OpenActions are the actions that were begun and not ended, oldest first: after
// a start, those that a crash cut short. A record folded by Commit is never open.
func (s *Store) OpenActions() []knowledge.Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]knowledge.Record, 0, len(s.open))
	for _, r := range s.open {
		out = append(out, r)
	}
	knowledge.SortFunc(out, func(a, b knowledge.Record) int { return cmp.Compare(a.Action.Seq, b.Action.Seq) })
	return out
}

// Filter says which records to return. Zero fields do not filter.
type Filter struct {
	Container knowledge.ContainerID
	Service   knowledge.ServiceKey
	Since     time.Time
	Limit     int // 0: 100
}

func (f Filter) match(r knowledge.Record) bool {
	return (f.Container == "" || r.Action.ID == f.Container) &&
		(f.Service == "" || r.Action.Service == f.Service) &&
		(f.Since.IsZero() || !r.Action.At.Before(f.Since))
}

// Records are the records of the journal, newest first.
func (s *Store) Records(f Filter) ([]knowledge.Record, error) {
	if f.Limit <= 0 {
		f.Limit = defaultRecords
	}
	waiting := s.waiting(f)
	var out []knowledge.Record
	// emit adds r and, before it, what waits and is newer; what waits replaces
	// what the file says of the same action.
	emit := func(r knowledge.Record) {
		for len(waiting) > 0 && waiting[0].Action.Seq > r.Action.Seq {
			out, waiting = append(out, waiting[0]), waiting[1:]
		}
		if len(waiting) > 0 && waiting[0].Action.Seq == r.Action.Seq {
			r, waiting = waiting[0], waiting[1:]
		}
		out = append(out, r)
	}
	// A line that does not hold the words as JSON writes them cannot match.
	container, service := quoted(string(f.Container)), quoted(string(f.Service))
	err := s.view(func(tx *bolt.Tx) error {
		journal := tx.Bucket([]byte(bucketJournal))
		if journal == nil {
			return nil
		}
		c := journal.Cursor()
		for k, v := c.Last(); k != nil && len(out) < f.Limit; k, v = c.Prev() {
			if !bytes.Contains(v, container) || !bytes.Contains(v, service) {
				continue
			}
			r, ok := s.readLine(k, v)
			if ok && !f.Since.IsZero() && r.Action.At.Before(f.Since.Add(-outOfOrder)) {
				break
			}
			if ok && f.match(r) {
				emit(r)
			}
		}
		return nil
	})
	out = append(out, waiting...)
	return out[:min(len(out), f.Limit)], err
}

func (s *Store) readLine(k, v []byte) (knowledge.Record, bool) {
	c := cell{bucketJournal, string(k)}
	b, ok := s.check(c, v)
	if !ok {
		return knowledge.Record{}, false
	}
	r, err := decodeRecord(seqOf(k), b)
	if err != nil {
		s.noteBad(c)
		return knowledge.Record{}, false
	}
	return r, true
}

// waiting are the matching records that are not on disk yet, newest first.
func (s *Store) waiting(f Filter) []knowledge.Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []knowledge.Record
	for _, r := range s.records {
		if f.match(r) {
			out = append(out, r)
		}
	}
	knowledge.SortFunc(out, func(a, b knowledge.Record) int { return cmp.Compare(b.Action.Seq, a.Action.Seq) })
	return out
}

// ByKey are the records of the last 24 h whose action carries the key, oldest
// first: the same request sent again gets the same result.
func (s *Store) ByKey(key string) ([]knowledge.Record, error) {
	if key == "" || len(key) > maxKey {
		return nil, nil
	}
	oldest := s.opt.Now().Add(-keyLife)
	found := map[uint64]knowledge.Record{}
	err := s.view(func(tx *bolt.Tx) error {
		keys, journal := tx.Bucket([]byte(bucketKeys)), tx.Bucket([]byte(bucketJournal))
		if keys == nil || journal == nil {
			return nil
		}
		prefix := keyPrefix(key)
		c := keys.Cursor()
		for k, _ := c.Seek(prefix); len(k) == len(prefix)+8 && string(k[:len(prefix)]) == string(prefix); k, _ = c.Next() {
			seq := seqOf(k[len(prefix):])
			if r, ok := s.record(journal, seq); ok && r.Action.Key == key && !r.Action.At.Before(oldest) {
				found[seq] = r
			}
		}
		return nil
	})
	for _, r := range s.waiting(Filter{Since: oldest}) {
		if r.Action.Key == key {
			found[r.Action.Seq] = r
		}
	}
	out := make([]knowledge.Record, 0, len(found))
	for _, r := range found {
		out = append(out, r)
	}
	knowledge.SortFunc(out, func(a, b knowledge.Record) int { return cmp.Compare(a.Action.Seq, b.Action.Seq) })
	return out, err
}

// keyPrefix begins the keys of one request; the length keeps one key from being
// the beginning of another.
func keyPrefix(key string) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(key))), key...)
}

// putRecord writes a record, the mark that it is open, and its request's key.
func (s *Store) putRecord(tx *bolt.Tx, r knowledge.Record) error {
	b, err := encodeRecord(r)
	if err != nil {
		return err
	}
	k := seqKey(r.Action.Seq)
	journal := tx.Bucket([]byte(bucketJournal))
	journal.FillPercent = 0.95 // it only grows at its end
	if journal.Get([]byte(k)) == nil {
		s.count++
	}
	if err := put(tx, cell{bucketJournal, k}, b); err != nil {
		return err
	}
	open := cell{bucketOpen, k}
	if r.Outcome.Result == knowledge.ResultOpen {
		err = put(tx, open, []byte{1})
	} else {
		err = remove(tx, open)
	}
	if err != nil || r.Action.Key == "" {
		return err
	}
	return put(tx, cell{bucketKeys, string(keyPrefix(r.Action.Key)) + k}, stamp(r.Action.At))
}

// trimJournal deletes the oldest records over the bound.
func (s *Store) trimJournal(tx *bolt.Tx) error {
	return s.trimJournalTo(tx, s.journalLimit())
}

func (s *Store) trimJournalTo(tx *bolt.Tx, limit int) error {
	if s.count <= limit {
		return nil
	}
	open := tx.Bucket([]byte(bucketOpen))
	c := tx.Bucket([]byte(bucketJournal)).Cursor()
	for k, _ := c.First(); k != nil && s.count > limit; k, _ = c.First() {
		if err := open.Delete(k); err != nil {
			return err
		}
		if err := c.Delete(); err != nil {
			return err
		}
		s.count--
	}
	return nil
}

// quoted is word as JSON writes it; nothing for no word, which every line holds.
func quoted(word string) []byte {
	if word == "" {
		return nil
	}
	b, err := json.Marshal(word)
	if err != nil {
		return nil // strings have no error
	}
	return b
}
