package store

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"syscall"

	"github.com/effiscale/effiscale/knowledge"
	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// The buckets. Every value in them is sealed.
const (
	bucketMeta      = "meta"      // schema, identity
	bucketJournal   = "journal"   // sequence number → line
	bucketOpen      = "open"      // sequence numbers of actions that were not ended
	bucketKeys      = "keys"      // length, key, sequence number → time
	bucketOriginals = "originals" // container → Original
	bucketDocs      = "docs"      // name → JSON
	bucketProfiles  = "profiles"  // service → time written, bytes
	bucketStates    = "states"    // container → time written, bytes
	bucketSeries    = "series"    // tier, start, service → chunk
	bucketImages    = "images"    // image, host → time written, bytes
	bucketModels    = "models"    // service → time written, bytes
	bucketSeals     = "seals"     // image, host → time written, that host's signature over its copy
	bucketTerms     = "terms"     // "." and the service → JSON of the highest Term seen

	keySchema   = "schema"
	keyIdentity = "identity"
)

var buckets = [...]string{
	bucketMeta, bucketJournal, bucketOpen, bucketKeys, bucketOriginals, bucketDocs, bucketProfiles, bucketStates, bucketSeries,
	bucketImages, bucketModels, bucketSeals, bucketTerms,
}

// added are the buckets that files of the first versions do not have. They are
// made when such a file is opened. The schema stays: those versions leave alone
// what they do not know.
var added = [...]string{bucketImages, bucketModels, bucketSeals, bucketTerms}

// write puts everything that waits, and what fn adds, into one transaction that
// is on disk when it returns nil. Otherwise the error is ErrDegraded, and what
// waits goes on waiting. s.mu is held.
func (s *Store) write(fn func(*bolt.Tx) error) error {
	if s.closed {
		return ErrClosed
	}
	if s.trouble.why != "" && s.opt.Now().Before(s.trouble.retry) {
		s.boundRecords()
		return s.excuse()
	}
	err := s.keepRoom()
	if err == nil {
		err = s.attempt(fn)
	}
	if errors.Is(err, errDamaged) {
		if err = s.replace(err); err == nil {
			err = s.attempt(fn)
		}
	}
	if err == nil {
		s.recovered()
		return nil
	}
	if fn != nil && s.db != nil && !s.readOnly && len(s.records)+len(s.staged) > 0 {
		// What was learned does not fit; what was done may.
		_ = s.attempt(nil) // err is said already
	}
	return s.degrade(err)
}

// attempt is one try at write.
func (s *Store) attempt(fn func(*bolt.Tx) error) error {
	if s.db == nil || s.readOnly {
		if err := s.reattach(); err != nil {
			return err
		}
	}
	count := s.count
	err := s.transact(func(tx *bolt.Tx) error {
		for _, name := range buckets {
			if tx.Bucket([]byte(name)) == nil {
				return fmt.Errorf("%w: bucket %s is missing", errDamaged, name)
			}
		}
		if err := s.flush(tx); err != nil {
			return err
		}
		if fn != nil {
			return fn(tx)
		}
		return nil
	})
	if err != nil {
		s.count = count
		return err
	}
	clear(s.records)
	clear(s.staged)
	return nil
}

// reattach tries to open the file for writing.
func (s *Store) reattach() error {
	if s.readOnly {
		s.detach()
	}
	_, err := s.attach(0)
	return err
}

// transact runs fn in a read-write transaction and commits it. In a damaged file
// the transaction is left as it is: to undo it bbolt would walk the damaged pages,
// in a goroutine whose faults nobody catches.
//
// bbolt's locks then stay taken, so the file is let go of.
func (s *Store) transact(fn func(*bolt.Tx) error) error {
	err := guarded(func() error {
		tx, err := s.db.Begin(true)
		if err != nil {
			return err
		}
		switch err := fn(tx); {
		case errors.Is(err, errDamaged):
			return err
		case err != nil:
			return errors.Join(err, tx.Rollback())
		}
		return tx.Commit()
	})
	if errors.Is(err, errDamaged) {
		s.abandon()
	}
	return err
}

// flush writes what waits in memory, the bad values' deletion included.
func (s *Store) flush(tx *bolt.Tx) error {
	if err := s.dropBad(tx); err != nil {
		return err
	}
	for c, payload := range s.staged {
		err := error(nil)
		if payload == nil {
			err = remove(tx, c)
		} else {
			err = put(tx, c, payload)
		}
		if err != nil {
			return err
		}
	}
	for _, seq := range slices.Sorted(maps.Keys(s.records)) {
		if err := s.putRecord(tx, s.records[seq]); err != nil {
			return err
		}
	}
	return s.trimJournal(tx)
}

// put stores a payload, in parts, under c.
func put(tx *bolt.Tx, c cell, parts ...[]byte) error {
	return tx.Bucket([]byte(c.bucket)).Put([]byte(c.key), seal(c, parts...))
}

func remove(tx *bolt.Tx, c cell) error {
	return tx.Bucket([]byte(c.bucket)).Delete([]byte(c.key))
}

// replace sets a damaged file aside and begins a new one with what is in memory.
func (s *Store) replace(why error) error {
	s.abandon()
	if _, err := s.setAside(why); err != nil {
		return err
	}
	s.afterUnknown()
	s.restage()
	return s.reattach()
}

// restage makes everything that memory holds wait for the (new) file.
func (s *Store) restage() {
	if s.identity.Node != "" {
		s.stageJSON(cell{bucketMeta, keyIdentity}, s.identity)
	}
	for id, o := range s.originals {
		s.stageJSON(cell{bucketOriginals, string(id)}, o)
	}
	for name, doc := range s.docs {
		s.staged[cell{bucketDocs, name}] = doc
	}
	for key, t := range s.terms {
		s.stageJSON(termCell(key), t)
	}
	for seq, r := range s.open {
		s.records[seq] = r
	}
}

// degrade notes why the disk does not take anything, and says so in the log once
// a minute.
func (s *Store) degrade(err error) error {
	now := s.opt.Now()
	t := &s.trouble
	if t.why == "" {
		t.since = now
	}
	t.why, t.retry = s.words(err), now.Add(retryEvery)
	s.boundRecords()
	if !now.Before(t.nextLog) {
		t.nextLog, t.said = now.Add(warnEvery), true
		s.log.Warn().Err(err).Str("file", s.path).Str("why", t.why).Time("since", t.since).Int("waiting", len(s.records)).
			Msg("knowledge cannot be written: actions go on and are remembered in memory; free or repair the disk, no restart is needed")
	}
	return s.excuse()
}

func (s *Store) excuse() error { return fmt.Errorf("%w: %s", ErrDegraded, s.trouble.why) }

func (s *Store) words(err error) string {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return "disk full"
	case errors.Is(err, syscall.EROFS):
		return "read-only file system"
	case errors.Is(err, berrors.ErrMaxSizeReached):
		return fmt.Sprintf("the file has reached its bound of %s", knowledge.Bytes(s.opt.MaxSize))
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return "permission denied on " + s.path
	}
	return bounded(err.Error(), maxNote)
}

// recovered forgets the trouble, but not when it was last spoken of: a disk that
// is full for large writes only does not fill the log.
func (s *Store) recovered() {
	t := s.trouble
	if t.why == "" {
		return
	}
	if t.said {
		s.log.Info().Str("was", t.why).Dur("for", s.opt.Now().Sub(t.since)).Int("lost", s.lost).
			Msg("knowledge is written to disk again")
	}
	s.trouble, s.lost = trouble{nextLog: t.nextLog}, 0
}

// boundRecords forgets the oldest records that wait, when they are too many.
func (s *Store) boundRecords() {
	if len(s.records) <= maxPending {
		return
	}
	seqs := slices.Sorted(maps.Keys(s.records))
	for _, seq := range seqs[:len(seqs)-maxPending*9/10] {
		delete(s.records, seq)
		s.lost++
	}
}

// view runs fn in a read-only transaction; without a file it does nothing. A
// damaged file is replaced, and fn's error is nil: what is lost is not there.
func (s *Store) view(fn func(*bolt.Tx) error) error {
	s.mu.Lock()
	db, closed := s.db, s.closed
	s.mu.Unlock()
	if closed {
		return ErrClosed
	}
	if db == nil {
		return nil
	}
	err := guarded(func() error {
		tx, err := db.Begin(false)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }() // a reader has nothing to lose
		return fn(tx)
	})
	switch {
	case errors.Is(err, errDamaged):
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.db == db && !s.closed {
			if err := s.replace(err); err != nil {
				_ = s.degrade(err) // said in the log and by Health
			}
		}
		return nil
	case errors.Is(err, berrors.ErrDatabaseNotOpen):
		return nil
	}
	return err
}

// get is the payload under c, in the mapped file. A value with a wrong checksum
// is counted, said once, deleted with the next write, and not returned.
func (s *Store) get(b *bolt.Bucket, c cell) ([]byte, bool) {
	if b == nil {
		return nil, false
	}
	v := b.Get([]byte(c.key))
	if v == nil {
		return nil, false
	}
	return s.check(c, v)
}

// maxBad bounds how many bad values are remembered for deletion.
const maxBad = 1000

// check unseals a value found under c and notes a bad one.
func (s *Store) check(c cell, value []byte) ([]byte, bool) {
	payload, ok := unseal(c, value)
	if !ok {
		s.noteBad(c)
	}
	return payload, ok
}

func (s *Store) noteBad(c cell) {
	s.badMu.Lock()
	defer s.badMu.Unlock()
	if s.bad[c] || len(s.bad) >= maxBad {
		return
	}
	s.bad[c] = true
	s.badCount++
	s.log.Warn().Str("kind", c.bucket).Hex("key", []byte(c.key)).Int("so_far", s.badCount).
		Msg("a record of the knowledge file was damaged and is dropped")
}

// dropBad deletes the values that were found bad and still are.
func (s *Store) dropBad(tx *bolt.Tx) error {
	s.badMu.Lock()
	defer s.badMu.Unlock()
	for c := range s.bad {
		b := tx.Bucket([]byte(c.bucket))
		if v := b.Get([]byte(c.key)); v != nil {
			if _, good := unseal(c, v); !good {
				if err := b.Delete([]byte(c.key)); err != nil {
					return err
				}
			}
		}
		delete(s.bad, c)
	}
	return nil
}
