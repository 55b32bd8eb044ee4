package store

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	bolt "go.etcd.io/bbolt"
)

const (
	// maxJournal bounds the journal: at about 350 bytes a record, 7 MiB.
	maxJournal = 20_000
	// maxPending bounds the records that wait in memory for the disk: 2 MiB.
	maxPending = 2_000
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

// Journal is the write-ahead log of actions and their outcomes: a ring of bounded
// size, ordered by sequence number.
type Journal struct {
	s       *Store
	seq     uint64                      // the last one assigned
	count   int                         // records in the file
	open    map[uint64]knowledge.Record // begun, not ended
	pending map[uint64]knowledge.Record // waiting for the disk
	lost    int                         // pending records that were dropped before the disk came back
}

// afterUnknown makes sequence numbers begin above those of a journal that could
// not be read: milliseconds since 1970 are ahead of any count.
func (j *Journal) afterUnknown() {
	j.seq = max(j.seq, uint64(max(j.s.opt.Now().UnixMilli(), 0)))
}

func (j *Journal) load(tx *bolt.Tx) error {
	journal, open := tx.Bucket([]byte(bucketJournal)), tx.Bucket([]byte(bucketOpen))
	if journal == nil || open == nil {
		return fmt.Errorf("%w: a bucket is missing", errDamaged)
	}
	j.count = 0
	c := journal.Cursor()
	for k, _ := c.First(); k != nil; k, _ = c.Next() {
		j.count++
		j.seq = max(j.seq, seqOf(k))
	}
	return open.ForEach(func(k, _ []byte) error {
		seq := seqOf(k)
		if _, newer := j.pending[seq]; newer {
			return nil
		}
		if r, ok := j.record(journal, seq); ok && r.Outcome.Result == knowledge.ResultOpen && !r.Action.Newer {
			j.open[seq] = r
		}
		return nil
	})
}

func (j *Journal) restage() { maps.Copy(j.pending, j.open) }

// Begin records an action before it is executed and assigns its number. With nil
// it is on disk. With ErrDegraded it has its number and is in memory: the action
// may go on. Any other error means that nothing was recorded.
func (j *Journal) Begin(a knowledge.Action) (seq uint64, err error) {
	if len(a.Key) > maxKey {
		return 0, fmt.Errorf("cannot record an action: %w: a key of %d bytes, allowed are %d",
			ErrInvalid, len(a.Key), maxKey)
	}
	if !a.Kind.Known() {
		return 0, fmt.Errorf("cannot record an action: %w: its kind %q is unknown", ErrInvalid, a.Kind)
	}
	j.s.mu.Lock()
	defer j.s.mu.Unlock()
	if j.s.closed {
		return 0, ErrClosed
	}
	if len(j.open) >= maxOpen {
		delete(j.open, slices.Min(slices.Collect(maps.Keys(j.open))))
	}
	j.seq++
	a.Seq = j.seq
	r := knowledge.Record{Action: a}
	j.open[a.Seq] = r
	j.pending[a.Seq] = r
	return a.Seq, j.s.write(nil)
}

// End closes an action. A second End of the same action replaces the first: one
// that was applied may be reverted. The errors are as Begin's; an action that the
// journal does not hold (any more) is ErrInvalid.
func (j *Journal) End(o knowledge.Outcome) error {
	j.s.mu.Lock()
	defer j.s.mu.Unlock()
	if j.s.closed {
		return ErrClosed
	}
	r, ok := j.known(o.Seq)
	if !ok {
		return fmt.Errorf("cannot end action %d: %w: it is not in the journal", o.Seq, ErrInvalid)
	}
	if r.Action.Newer {
		return fmt.Errorf("cannot end action %d: %w: it is of a newer version", o.Seq, ErrInvalid)
	}
	r.Outcome = o
	delete(j.open, o.Seq)
	j.pending[o.Seq] = r
	return j.s.write(nil)
}

// known finds a record by its number. j.s.mu is held.
func (j *Journal) known(seq uint64) (r knowledge.Record, ok bool) {
	if r, ok = j.pending[seq]; ok {
		return r, true
	}
	if r, ok = j.open[seq]; ok || j.s.file.db == nil {
		return r, ok
	}
	err := guarded(func() error {
		return j.s.file.db.View(func(tx *bolt.Tx) error {
			r, ok = j.record(tx.Bucket([]byte(bucketJournal)), seq)
			return nil
		})
	})
	return r, ok && err == nil
}

// record reads one record of the file.
func (j *Journal) record(journal *bolt.Bucket, seq uint64) (knowledge.Record, bool) {
	k := seqKey(seq)
	v := journal.Get([]byte(k))
	if v == nil {
		return knowledge.Record{}, false
	}
	return j.decode(cell{bucketJournal, k}, v)
}

// decode reads a stored value; a bad one is noted and counts as absent.
func (j *Journal) decode(c cell, v []byte) (knowledge.Record, bool) {
	b, ok := j.s.file.check(c, v)
	if !ok {
		return knowledge.Record{}, false
	}
	r, err := decodeRecord(seqOf([]byte(c.key)), b)
	if err != nil {
		j.s.file.noteBad(c)
	}
	return r, err == nil
}

// OpenActions are the actions that were begun and not ended, oldest first: after
// a start, those that a crash cut short. A record folded by Commit is never open, and
// those of a newer version are left to it.
func (j *Journal) OpenActions() []knowledge.Record {
	j.s.mu.Lock()
	defer j.s.mu.Unlock()
	return bySeq(j.open)
}

// Filter selects records. Zero fields do not filter.
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

// Records are the journal's records that match, newest first.
func (j *Journal) Records(f Filter) ([]knowledge.Record, error) {
	if f.Limit <= 0 {
		f.Limit = defaultRecords
	}
	waiting := j.waiting(f)
	var out []knowledge.Record
	// emit adds r and, before it, the waiting records that are newer; a waiting
	// record replaces the file's of the same action.
	emit := func(r knowledge.Record) {
		for len(waiting) > 0 && waiting[0].Action.Seq > r.Action.Seq {
			out, waiting = append(out, waiting[0]), waiting[1:]
		}
		if len(waiting) > 0 && waiting[0].Action.Seq == r.Action.Seq {
			r, waiting = waiting[0], waiting[1:]
		}
		out = append(out, r)
	}
	// A line without the names as JSON writes them cannot match.
	container, service := quoted(string(f.Container)), quoted(string(f.Service))
	err := j.s.view(func(tx *bolt.Tx) error {
		journal := tx.Bucket([]byte(bucketJournal))
		if journal == nil {
			return nil
		}
		c := journal.Cursor()
		for k, v := c.Last(); k != nil && len(out) < f.Limit; k, v = c.Prev() {
			if !bytes.Contains(v, container) || !bytes.Contains(v, service) {
				continue
			}
			r, ok := j.decode(cell{bucketJournal, string(k)}, v)
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

// waiting are the matching records that are not on disk yet, newest first.
func (j *Journal) waiting(f Filter) []knowledge.Record {
	j.s.mu.Lock()
	defer j.s.mu.Unlock()
	out := slices.DeleteFunc(bySeq(j.pending), func(r knowledge.Record) bool { return !f.match(r) })
	slices.Reverse(out)
	return out
}

// ByKey are the records of the last 24 h whose action carries the key, oldest
// first: the same request sent again gets the same result.
func (j *Journal) ByKey(key string) ([]knowledge.Record, error) {
	if key == "" || len(key) > maxKey {
		return nil, nil
	}
	oldest := j.s.opt.Now().Add(-keyLife)
	found := map[uint64]knowledge.Record{}
	err := j.s.view(func(tx *bolt.Tx) error {
		keys, journal := tx.Bucket([]byte(bucketKeys)), tx.Bucket([]byte(bucketJournal))
		if keys == nil || journal == nil {
			return nil
		}
		prefix := keyPrefix(key)
		c := keys.Cursor()
		for k, _ := c.Seek(prefix); len(k) == len(prefix)+8 && string(k[:len(prefix)]) == string(prefix); k, _ = c.Next() {
			seq := seqOf(k[len(prefix):])
			if r, ok := j.record(journal, seq); ok && r.Action.Key == key && !r.Action.At.Before(oldest) {
				found[seq] = r
			}
		}
		return nil
	})
	for _, r := range j.waiting(Filter{Since: oldest}) {
		if r.Action.Key == key {
			found[r.Action.Seq] = r
		}
	}
	return bySeq(found), err
}

// bySeq are the records in the order of their sequence numbers.
func bySeq(records map[uint64]knowledge.Record) []knowledge.Record {
	out := make([]knowledge.Record, 0, len(records))
	for _, seq := range slices.Sorted(maps.Keys(records)) {
		out = append(out, records[seq])
	}
	return out
}

// keyPrefix begins the keys of one request; the length keeps one key from being
// the beginning of another.
func keyPrefix(key string) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(key))), key...)
}

// put writes a record, the mark that it is open, and its request's key.
func (j *Journal) put(tx *bolt.Tx, r knowledge.Record) error {
	b, err := encodeRecord(r)
	if err != nil {
		return err
	}
	k := seqKey(r.Action.Seq)
	journal := tx.Bucket([]byte(bucketJournal))
	journal.FillPercent = 0.95 // it only grows at its end
	if journal.Get([]byte(k)) == nil {
		j.count++
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

// flush writes the pending records and deletes the oldest over the bound.
func (j *Journal) flush(tx *bolt.Tx) error {
	for _, r := range bySeq(j.pending) {
		if err := j.put(tx, r); err != nil {
			return err
		}
	}
	return j.trim(tx, j.limit())
}

func (j *Journal) limit() int { return int(min(maxJournal, j.s.opt.MaxSize/2048)) }

// trim deletes the oldest records until limit are left.
func (j *Journal) trim(tx *bolt.Tx, limit int) error {
	if j.count <= limit {
		return nil
	}
	open := tx.Bucket([]byte(bucketOpen))
	c := tx.Bucket([]byte(bucketJournal)).Cursor()
	for k, _ := c.First(); k != nil && j.count > limit; k, _ = c.First() {
		if err := open.Delete(k); err != nil {
			return err
		}
		if err := c.Delete(); err != nil {
			return err
		}
		j.count--
	}
	return nil
}

// boundPending drops the oldest records that wait, when they are too many.
func (j *Journal) boundPending() {
	if len(j.pending) <= maxPending {
		return
	}
	seqs := slices.Sorted(maps.Keys(j.pending))
	for _, seq := range seqs[:len(seqs)-maxPending*9/10] {
		delete(j.pending, seq)
		j.lost++
	}
}

// fold numbers actions that are over and queues them.
func (j *Journal) fold(folds []knowledge.Record) {
	for _, r := range folds {
		if !r.Action.Kind.Known() {
			continue // Commit returns the error
		}
		j.seq++
		r.Action.Seq, r.Outcome.Seq, r.Action.Key = j.seq, j.seq, ""
		if r.Outcome.Result == knowledge.ResultOpen {
			r.Outcome.Result = knowledge.ResultApplied
		}
		j.pending[j.seq] = r
	}
}

// quoted is s as JSON writes it; nothing for "", which every line contains.
func quoted(s string) []byte {
	if s == "" {
		return nil
	}
	b, err := json.Marshal(s)
	if err != nil {
		return nil // strings have no error
	}
	return b
}
