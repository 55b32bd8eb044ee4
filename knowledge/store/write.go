package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

const (
	// retryEvery spaces attempts to write while degraded, warnEvery the log lines.
	retryEvery = 5 * time.Second
	warnEvery  = time.Minute
)

// trouble is why the disk does not take writes.
type trouble struct {
	why            string // "": none
	since          time.Time
	retry, nextLog time.Time
	logged         bool
}

// attach opens the file, renames a damaged one and creates a new one, and reads what
// is kept in memory. It waits up to wait for another process that has the file
// locked. A file that cannot be written is opened for reading, and the error is
// returned as well.
func (s *Store) attach(wait time.Duration) (out Opened, err error) {
	defer func() { out.Fresh = s.identity.Node == "" }()
	if err := os.MkdirAll(s.opt.Dir, 0o700); err != nil {
		return out, err
	}
	err = s.file.open(&out, os.O_RDWR|os.O_CREATE, wait)
	if errors.Is(err, errDamaged) {
		out.Why = err.Error()
		if out.SetAside, err = s.file.setAside(err); err == nil {
			s.Journal.afterUnknown()
			err = s.file.open(&out, os.O_RDWR|os.O_CREATE, wait)
		}
	}
	if isUnwritable(err) && s.file.db == nil {
		if again := s.file.open(&out, os.O_RDONLY, wait); again != nil && !errors.Is(again, fs.ErrNotExist) {
			err = fmt.Errorf("%w; reading it: %w", err, again)
		}
	}
	return out, err
}

// waits reports whether something is not on disk yet.
func (s *Store) waits() bool { return len(s.Journal.pending)+len(s.staged) > 0 }

// write puts everything that waits, and what fn adds, into one transaction that
// is on disk when it returns nil. Otherwise the error is ErrDegraded, and what
// waits goes on waiting. s.mu is held.
func (s *Store) write(fn func(*bolt.Tx) error) error {
	if s.closed {
		return ErrClosed
	}
	defer s.settleCopy()
	if s.trouble.why != "" && s.opt.Now().Before(s.trouble.retry) {
		s.Journal.boundPending()
		return s.degraded()
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
	if fn != nil && s.file.db != nil && !s.file.readOnly && s.waits() {
		// What was learned does not fit; the actions may.
		_ = s.attempt(nil) // err is reported already
	}
	return s.degrade(err)
}

// attempt is one try at write.
func (s *Store) attempt(fn func(*bolt.Tx) error) error {
	if s.file.db != nil && !s.file.readOnly && !s.file.isCurrent(s.file.handle) {
		s.log.Error().Str("file", s.file.path).Msg("knowledge file was removed while it was open: writing a new one")
		s.file.detach()
		s.Journal.afterUnknown()
		s.restage()
	}
	if s.file.db == nil || s.file.readOnly {
		if err := s.reattach(); err != nil {
			return err
		}
	}
	count := s.Journal.count
	err := s.file.transact(func(tx *bolt.Tx) error {
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
		s.Journal.count = count
		return err
	}
	clear(s.Journal.pending)
	clear(s.staged)
	return nil
}

// reattach tries to open the file for writing.
func (s *Store) reattach() error {
	if s.file.readOnly {
		s.file.detach()
	}
	_, err := s.attach(0)
	return err
}

// flush writes what waits in memory, the bad values' deletion included.
func (s *Store) flush(tx *bolt.Tx) error {
	if err := s.file.dropBad(tx); err != nil {
		return err
	}
	for c, payload := range s.staged {
		if err := apply(tx, c, payload); err != nil {
			return err
		}
	}
	return s.Journal.flush(tx)
}

// replace renames a damaged file and creates a new one with what is in memory.
func (s *Store) replace(why error) error {
	s.file.abandon()
	if _, err := s.file.setAside(why); err != nil {
		return err
	}
	s.Journal.afterUnknown()
	s.restage()
	return s.reattach()
}

// degrade notes why the disk does not take writes, and logs it once a minute.
func (s *Store) degrade(err error) error {
	now := s.opt.Now()
	t := &s.trouble
	if t.why == "" {
		t.since = now
	}
	t.why, t.retry = s.describe(err), now.Add(retryEvery)
	s.Journal.boundPending()
	if !now.Before(t.nextLog) {
		t.nextLog, t.logged = now.Add(warnEvery), true
		s.log.Warn().Err(err).Str("file", s.file.path).Str("why", t.why).Time("since", t.since).
			Int("waiting", len(s.Journal.pending)).
			Msg("cannot write the knowledge file: scaling continues from memory, retrying; no restart is needed")
	}
	return s.degraded()
}

func (s *Store) degraded() error { return fmt.Errorf("%w: %s", ErrDegraded, s.trouble.why) }

func (s *Store) describe(err error) string {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return "disk full"
	case errors.Is(err, syscall.EROFS):
		return "read-only file system"
	case errors.Is(err, berrors.ErrMaxSizeReached):
		return fmt.Sprintf("the file has reached its bound of %s", knowledge.Bytes(s.opt.MaxSize))
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return "permission denied on " + s.file.path
	}
	return bounded(err.Error(), maxNote)
}

// recovered ends the trouble. It keeps the time of the next log line, so that a
// disk that is full for large writes only does not fill the log.
func (s *Store) recovered() {
	t := s.trouble
	if t.why == "" {
		return
	}
	if t.logged {
		s.log.Info().Str("was", t.why).Dur("for", s.opt.Now().Sub(t.since)).Int("lost", s.Journal.lost).
			Msg("knowledge file is written again")
	}
	s.trouble, s.Journal.lost = trouble{nextLog: t.nextLog}, 0
}

// view runs fn in a read-only transaction; without a file it does nothing. A
// damaged file is replaced, and the error is nil: lost values are absent.
func (s *Store) view(fn func(*bolt.Tx) error) error {
	s.mu.Lock()
	db, closed := s.file.db, s.closed
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
		if s.file.db == db && !s.closed {
			if err := s.replace(err); err != nil {
				_ = s.degrade(err) // logged, and in Health
			}
		}
		return nil
	case errors.Is(err, berrors.ErrDatabaseNotOpen):
		return nil
	}
	return err
}
