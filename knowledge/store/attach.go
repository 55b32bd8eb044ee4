package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// errDamaged means that the file cannot be trusted.
var errDamaged = errors.New("damaged")

const (
	schema = 1
	// keepCorrupt is how many files that were set aside are kept.
	keepCorrupt = 3
	allocSize   = 256 << 10
	lockPoll    = 20 * time.Millisecond
)

// attach opens the file, sets it aside and opens a new one where it cannot be
// trusted, and reads what is kept in memory. It waits so long for another process
// that has the file locked. Whatever it cannot open for writing
// it opens for reading, and returns the error all the same.
func (s *Store) attach(wait time.Duration) (Opened, error) {
	var out Opened
	if err := os.MkdirAll(s.opt.Dir, 0o700); err != nil {
		return out, err
	}
	err := s.attachFile(&out, os.O_RDWR|os.O_CREATE, wait)
	if errors.Is(err, errDamaged) {
		out.Why = err.Error()
		if out.SetAside, err = s.setAside(err); err == nil {
			s.afterUnknown()
			err = s.attachFile(&out, os.O_RDWR|os.O_CREATE, wait)
		}
	}
	if isUnwritable(err) && s.db == nil {
		if again := s.attachFile(&out, os.O_RDONLY, wait); again != nil && !errors.Is(again, fs.ErrNotExist) {
			err = fmt.Errorf("%w; reading it: %w", err, again)
		}
	}
	return out, err
}

func (s *Store) attachFile(out *Opened, flag int, wait time.Duration) error {
	f, err := s.lockFile(flag, wait)
	if err != nil {
		return err
	}
	found, err := inspect(f)
	if err != nil {
		_ = f.Close() // it was only read
		return err
	}
	if found.oneMeta {
		out.Why = "one of its two head pages was damaged; the other one was used"
		s.log.Warn().Str("file", s.path).Msg("knowledge file: " + out.Why)
	}
	s.readOnly = flag == os.O_RDONLY
	s.file = f
	err = guarded(func() (err error) {
		db, err := bolt.Open(s.path, 0o600, &bolt.Options{
			Timeout: s.opt.LockTimeout, NoFreelistSync: true, FreelistType: bolt.FreelistMapType,
			MaxSize: int(s.opt.MaxSize), InitialMmapSize: int(s.opt.MaxSize), ReadOnly: s.readOnly,
			OpenFile: func(string, int, os.FileMode) (*os.File, error) { return f, nil },
		})
		if err != nil {
			return err
		}
		s.db = db
		s.db.AllocSize = int(min(allocSize, s.opt.MaxSize/64))
		if err := s.settle(found, out); err != nil || !found.empty {
			return err
		}
		return syncDir(s.opt.Dir)
	})
	if err == nil {
		return nil
	}
	s.giveUp(found, err)
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return ErrLocked
	case errors.Is(err, berrors.ErrInvalid), errors.Is(err, berrors.ErrChecksum), errors.Is(err, berrors.ErrVersionMismatch):
		return fmt.Errorf("%w: %w", errDamaged, err)
	}
	return err
}

// giveUp closes a file that was opened and is of no use. One that was empty is
// left empty: half a head would look like damage the next time.
func (s *Store) giveUp(found found, err error) {
	if s.db != nil && !errors.Is(err, errDamaged) {
		s.detach()
	}
	s.abandon()
	if found.empty && !s.readOnly {
		if err := os.Truncate(s.path, 0); err != nil {
			s.log.Warn().Err(err).Msg("cannot empty a knowledge file that could not be begun")
		}
	}
}

// settle makes the buckets of a new file, refuses a foreign one, and loads.
func (s *Store) settle(found found, out *Opened) error {
	var have bool
	err := s.db.View(func(tx *bolt.Tx) (err error) {
		have, err = checkSchema(tx)
		return err
	})
	if err != nil {
		return err
	}
	switch {
	case (!have || found.oneMeta) && s.readOnly:
		return syscall.EROFS
	case !have || found.oneMeta:
		err = s.db.Update(makeBuckets)
	case !s.readOnly:
		err = s.addBuckets()
	}
	if err != nil {
		return err
	}
	if err := s.load(); err != nil {
		return err
	}
	out.Fresh = s.identity.Node == ""
	return nil
}

// syncDir makes the name of a new file survive a power cut.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP) {
		err = nil // this file system has no such thing
	}
	return errors.Join(err, d.Close())
}

func checkSchema(tx *bolt.Tx) (have bool, err error) {
	b := tx.Bucket([]byte(bucketMeta))
	if b == nil {
		if k, _ := tx.Cursor().First(); k != nil {
			return false, fmt.Errorf("%w: a bbolt file of another program", errDamaged)
		}
		return false, nil
	}
	c := cell{bucketMeta, keySchema}
	v, ok := unseal(c, b.Get([]byte(c.key)))
	n, err := strconv.Atoi(string(v))
	switch {
	case !ok || err != nil:
		return false, fmt.Errorf("%w: its schema version cannot be read", errDamaged)
	case n > schema:
		return false, fmt.Errorf("%w: written by a newer version (schema %d, this is %d)", errDamaged, n, schema)
	}
	return true, nil
}

func makeBuckets(tx *bolt.Tx) error {
	for _, name := range buckets {
		if _, err := tx.CreateBucketIfNotExists([]byte(name)); err != nil {
			return err
		}
	}
	c := cell{bucketMeta, keySchema}
	return tx.Bucket([]byte(bucketMeta)).Put([]byte(c.key), seal(c, []byte(strconv.Itoa(schema))))
}

// addBuckets brings a file of an earlier version up to date.
func (s *Store) addBuckets() error {
	missing := false
	err := s.db.View(func(tx *bolt.Tx) error {
		for _, name := range added {
			missing = missing || tx.Bucket([]byte(name)) == nil
		}
		return nil
	})
	if err != nil || !missing {
		return err
	}
	return s.db.Update(func(tx *bolt.Tx) error {
		for _, name := range added {
			if _, err := tx.CreateBucketIfNotExists([]byte(name)); err != nil {
				return err
			}
		}
		return nil
	})
}

// lockFile opens the file and locks it for this process, waiting so long for
// another one.
func (s *Store) lockFile(flag int, wait time.Duration) (*os.File, error) {
	how := syscall.LOCK_EX
	if flag == os.O_RDONLY {
		how = syscall.LOCK_SH
	}
	for deadline := time.Now().Add(wait); ; {
		f, err := os.OpenFile(s.path, flag|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
		if err != nil {
			return nil, err
		}
		err = syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB)
		if err == nil && s.isCurrent(f) {
			return f, nil
		}
		_ = f.Close() // nothing was written
		if err != nil && !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			return nil, err
		}
		if time.Now().After(deadline) {
			return nil, ErrLocked
		}
		time.Sleep(lockPoll)
	}
}

// isCurrent reports whether f is still what the path names: another process may
// have set it aside between our opening and locking it.
func (s *Store) isCurrent(f *os.File) bool {
	a, err1 := f.Stat()
	b, err2 := os.Stat(s.path)
	return err1 == nil && err2 == nil && os.SameFile(a, b)
}

// setAside renames the file and forgets the oldest of those set aside before.
func (s *Store) setAside(why error) (string, error) {
	to := s.path + ".corrupt-" + s.opt.Now().UTC().Format("20060102T150405.000000000Z")
	if err := os.Rename(s.path, to); err != nil {
		return "", fmt.Errorf("cannot set %s aside: %w", s.path, err)
	}
	s.log.Error().Str("file", s.path).Str("set_aside", to).Err(why).
		Msg("the knowledge file cannot be trusted: it was set aside and a new one is begun; what was learned is lost, limits stay as they are")
	if old, err := filepath.Glob(s.path + ".corrupt-*"); err == nil && len(old) > keepCorrupt {
		slices.Sort(old)
		for _, name := range old[:len(old)-keepCorrupt] {
			if err := os.Remove(name); err != nil {
				s.log.Warn().Err(err).Msg("cannot remove an old knowledge file that was set aside")
			}
		}
	}
	return to, nil
}

// detach closes the file in good order.
func (s *Store) detach() {
	if s.db == nil {
		return
	}
	if err := guarded(s.db.Close); err != nil {
		s.log.Warn().Err(err).Msg("cannot close the knowledge file")
	}
	s.db, s.file = nil, nil
}

// abandon lets go of a file that bbolt may hold locks on, or refuses to close:
// its descriptor and with it the lock of the process are given back, the mapping
// (address space only) is not.
func (s *Store) abandon() {
	if s.file != nil {
		_ = s.file.Close() // closed already where bbolt could
	}
	s.db, s.file = nil, nil
}

// guarded runs fn and turns a panic, or a fault on the mapped file, into
// errDamaged.
func guarded(fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v", errDamaged, r)
		}
	}()
	return fn()
}

// isUnwritable: the path may be read but not written.
func isUnwritable(err error) bool {
	return errors.Is(err, syscall.EROFS) || errors.Is(err, fs.ErrPermission)
}

// isMisplaced: the directory or the file is something else; a person must look.
func isMisplaced(err error) bool {
	return errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.EISDIR) || errors.Is(err, syscall.ELOOP) || errors.Is(err, syscall.ENXIO) || errors.Is(err, errNotFile)
}

// load reads what is kept in memory. What memory holds already is newer.
func (s *Store) load() error {
	return s.db.View(func(tx *bolt.Tx) error {
		if err := s.loadSmall(tx); err != nil {
			return err
		}
		journal, open := tx.Bucket([]byte(bucketJournal)), tx.Bucket([]byte(bucketOpen))
		if journal == nil || open == nil {
			return fmt.Errorf("%w: a bucket is missing", errDamaged)
		}
		s.count = 0
		c := journal.Cursor()
		for k, _ := c.First(); k != nil; k, _ = c.Next() {
			s.count++
			s.seq = max(s.seq, seqOf(k))
		}
		return open.ForEach(func(k, _ []byte) error {
			seq := seqOf(k)
			if _, newer := s.records[seq]; newer {
				return nil
			}
			if r, ok := s.record(journal, seq); ok && r.Outcome.Result == knowledge.ResultOpen {
				s.open[seq] = r
			}
			return nil
		})
	})
}
