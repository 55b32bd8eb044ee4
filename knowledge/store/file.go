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
	"sync"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// errDamaged means that the file cannot be trusted.
var errDamaged = errors.New("damaged")

const (
	schema = 1
	// keepCorrupt is how many damaged files are kept.
	keepCorrupt = 3
	allocSize   = 256 << 10
	lockPoll    = 20 * time.Millisecond
	// maxBad bounds how many bad values are remembered for deletion.
	maxBad = 1000
)

// The buckets. Every value in them is sealed.
const (
	bucketMeta      = "meta"      // schema, identity, time of the last loss
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
	bucketAnswers   = "answers"   // request key → time written, JSON of Answer

	keySchema   = "schema"
	keyIdentity = "identity"
	keyLost     = "lost"
)

var buckets = [...]string{
	bucketMeta, bucketJournal, bucketOpen, bucketKeys, bucketOriginals, bucketDocs, bucketProfiles, bucketStates,
	bucketSeries, bucketImages, bucketModels, bucketSeals, bucketTerms, bucketAnswers,
}

// added are the buckets that files of the first versions do not have; they are
// created when such a file is opened for writing. The schema version stays: those
// versions ignore buckets that they do not know.
var added = [...]string{bucketImages, bucketModels, bucketSeals, bucketTerms, bucketAnswers}

// cell is one key of one bucket.
type cell struct{ bucket, key string }

// file is the bbolt file with its lock. Store.mu guards it, except bad.
type file struct {
	opt  Options
	path string
	log  zerolog.Logger
	load func(tx *bolt.Tx) error // called once the buckets are there

	db       *bolt.DB // nil while there is no file to write to or read from
	handle   *os.File // db's, to close a file that bbolt can no longer close
	readOnly bool
	created  bool // it was empty, or not there, when it was opened

	badMu    sync.Mutex    // guards what follows; taken after Store.mu
	bad      map[cell]bool // values with a wrong checksum, to be deleted
	badCount int
}

// open locks, checks and opens the file. It waits up to wait for another process.
func (f *file) open(out *Opened, flag int, wait time.Duration) error {
	h, err := f.lock(flag, wait)
	if err != nil {
		return err
	}
	found, err := inspect(h)
	if err != nil {
		_ = h.Close() // it was only read
		return err
	}
	if found.oneMeta {
		out.Why = "one of its two meta pages was damaged; the other one was used"
		f.log.Warn().Str("file", f.path).Msg("knowledge file: " + out.Why)
	}
	f.readOnly, f.created = flag == os.O_RDONLY, found.empty
	f.handle = h
	err = guarded(func() (err error) {
		db, err := bolt.Open(f.path, 0o600, &bolt.Options{
			Timeout: f.opt.LockTimeout, NoFreelistSync: true, FreelistType: bolt.FreelistMapType,
			MaxSize: int(f.opt.MaxSize), InitialMmapSize: int(f.opt.MaxSize), ReadOnly: f.readOnly,
			OpenFile: func(string, int, os.FileMode) (*os.File, error) { return h, nil },
		})
		if err != nil {
			return err
		}
		f.db = db
		f.db.AllocSize = int(min(allocSize, f.opt.MaxSize/64))
		if err := f.prepare(found); err != nil || !found.empty {
			return err
		}
		return syncDir(f.opt.Dir)
	})
	if err == nil {
		return nil
	}
	f.giveUp(found, err)
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return ErrLocked
	case errors.Is(err, berrors.ErrInvalid), errors.Is(err, berrors.ErrChecksum),
		errors.Is(err, berrors.ErrVersionMismatch):
		return fmt.Errorf("%w: %w", errDamaged, err)
	}
	return err
}

// giveUp closes a file that cannot be used. One that was empty is truncated again:
// a half-written meta page would look like damage at the next start.
func (f *file) giveUp(found found, err error) {
	if f.db != nil && !errors.Is(err, errDamaged) {
		f.detach()
	}
	f.abandon()
	if found.empty && !f.readOnly {
		if err := os.Truncate(f.path, 0); err != nil {
			f.log.Warn().Err(err).Msg("cannot truncate a knowledge file that could not be created")
		}
	}
}

// prepare creates the missing buckets, refuses a foreign file, and loads.
func (f *file) prepare(found found) error {
	var have, missing bool
	err := f.db.View(func(tx *bolt.Tx) (err error) {
		have, err = checkSchema(tx)
		for _, name := range added {
			missing = missing || tx.Bucket([]byte(name)) == nil
		}
		return err
	})
	if err != nil {
		return err
	}
	begin := !have || found.oneMeta // a write repairs the other meta page
	switch {
	case begin && f.readOnly:
		return syscall.EROFS
	case begin:
		err = f.db.Update(func(tx *bolt.Tx) error { return createBuckets(tx, buckets[:]) })
	case missing && !f.readOnly:
		err = f.db.Update(func(tx *bolt.Tx) error { return createBuckets(tx, added[:]) })
	}
	if err != nil {
		return err
	}
	return f.db.View(f.load)
}

// syncDir makes the name of a new file survive a power cut.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP) {
		err = nil // this file system cannot sync directories
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

// createBuckets creates those that are missing and writes the schema version.
func createBuckets(tx *bolt.Tx, names []string) error {
	for _, name := range names {
		if _, err := tx.CreateBucketIfNotExists([]byte(name)); err != nil {
			return err
		}
	}
	return put(tx, cell{bucketMeta, keySchema}, []byte(strconv.Itoa(schema)))
}

// lock opens the file and locks it for this process, waiting up to wait for
// another one.
func (f *file) lock(flag int, wait time.Duration) (*os.File, error) {
	how := syscall.LOCK_EX
	if flag == os.O_RDONLY {
		how = syscall.LOCK_SH
	}
	for deadline := time.Now().Add(wait); ; {
		h, err := os.OpenFile(f.path, flag|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
		if err != nil {
			return nil, err
		}
		err = syscall.Flock(int(h.Fd()), how|syscall.LOCK_NB)
		if err == nil && f.isCurrent(h) {
			return h, nil
		}
		_ = h.Close() // nothing was written
		if err != nil && !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			return nil, err
		}
		if time.Now().After(deadline) {
			return nil, ErrLocked
		}
		time.Sleep(lockPoll)
	}
}

// isCurrent reports whether the path still names h: another process may have
// renamed it between our opening and locking it.
func (f *file) isCurrent(h *os.File) bool {
	a, err1 := h.Stat()
	b, err2 := os.Stat(f.path)
	return err1 == nil && err2 == nil && os.SameFile(a, b)
}

// setAside renames the damaged file and removes the oldest of those renamed before.
func (f *file) setAside(why error) (string, error) {
	to := f.path + ".corrupt-" + f.opt.Now().UTC().Format("20060102T150405.000000000Z")
	if err := os.Rename(f.path, to); err != nil {
		return "", fmt.Errorf("cannot rename damaged %s: %w", f.path, err)
	}
	f.log.Error().Str("file", f.path).Str("set_aside", to).Err(why).
		Msg("knowledge file damaged: renamed it, starting with an empty one; limits stay as they are")
	if old, err := filepath.Glob(f.path + ".corrupt-*"); err == nil && len(old) > keepCorrupt {
		slices.Sort(old)
		for _, name := range old[:len(old)-keepCorrupt] {
			if err := os.Remove(name); err != nil {
				f.log.Warn().Err(err).Msg("cannot remove an old damaged knowledge file")
			}
		}
	}
	return to, nil
}

// detach closes the file in good order.
func (f *file) detach() {
	if f.db == nil {
		return
	}
	if err := guarded(f.db.Close); err != nil {
		f.log.Warn().Err(err).Msg("cannot close the knowledge file")
	}
	f.db, f.handle = nil, nil
}

// abandon closes the descriptor of a file that bbolt may hold locks on, or refuses
// to close, and with it the lock of the process; the mapping (address space only)
// stays.
func (f *file) abandon() {
	if f.handle != nil {
		_ = f.handle.Close() // closed already where bbolt could
	}
	f.db, f.handle = nil, nil
}

// transact runs fn in a read-write transaction and commits it. In a damaged file
// the transaction is not rolled back: bbolt would walk the damaged pages, in a
// goroutine whose faults cannot be recovered. bbolt's locks then stay taken, so the
// file is abandoned.
func (f *file) transact(fn func(*bolt.Tx) error) error {
	err := guarded(func() error {
		tx, err := f.db.Begin(true)
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
		f.abandon()
	}
	return err
}

func (f *file) size() int64 {
	if fi, err := os.Stat(f.path); err == nil {
		return fi.Size()
	}
	return 0
}

// used is how many bytes of the file are in use.
func (f *file) used() int64 {
	stats := f.db.Stats()
	return f.size() - int64(stats.FreePageN+stats.PendingPageN)*int64(f.db.Info().PageSize)
}

// put stores a payload, in parts, under c.
func put(tx *bolt.Tx, c cell, parts ...[]byte) error {
	return tx.Bucket([]byte(c.bucket)).Put([]byte(c.key), seal(c, parts...))
}

func remove(tx *bolt.Tx, c cell) error {
	return tx.Bucket([]byte(c.bucket)).Delete([]byte(c.key))
}

// apply puts payload under c, or removes c where payload is nil.
func apply(tx *bolt.Tx, c cell, payload []byte) error {
	if payload == nil {
		return remove(tx, c)
	}
	return put(tx, c, payload)
}

// get is the payload under c, in the mapped file. A value with a wrong checksum
// is counted, logged once, deleted with the next write, and not returned.
func (f *file) get(b *bolt.Bucket, c cell) ([]byte, bool) {
	if b == nil {
		return nil, false
	}
	v := b.Get([]byte(c.key))
	if v == nil {
		return nil, false
	}
	return f.check(c, v)
}

// check unseals a value found under c and notes a bad one.
func (f *file) check(c cell, value []byte) ([]byte, bool) {
	payload, ok := unseal(c, value)
	if !ok {
		f.noteBad(c)
	}
	return payload, ok
}

// each calls fn for every good value of a bucket; a value that fn refuses is bad.
func (f *file) each(tx *bolt.Tx, bucket string, fn func(key string, payload []byte) bool) error {
	b := tx.Bucket([]byte(bucket))
	if b == nil {
		if slices.Contains(added[:], bucket) {
			return nil // a file of an earlier version that can only be read
		}
		return fmt.Errorf("%w: bucket %s is missing", errDamaged, bucket)
	}
	return b.ForEach(func(k, v []byte) error {
		c := cell{bucket, string(k)}
		if payload, ok := f.check(c, v); ok && !fn(c.key, payload) {
			f.noteBad(c)
		}
		return nil
	})
}

func (f *file) noteBad(c cell) {
	f.badMu.Lock()
	defer f.badMu.Unlock()
	if f.bad[c] || len(f.bad) >= maxBad {
		return
	}
	f.bad[c] = true
	f.badCount++
	f.log.Warn().Str("kind", c.bucket).Hex("key", []byte(c.key)).Int("so_far", f.badCount).
		Msg("dropped a damaged record of the knowledge file")
}

// dropBad deletes the values that were found bad and still are.
func (f *file) dropBad(tx *bolt.Tx) error {
	f.badMu.Lock()
	defer f.badMu.Unlock()
	for c := range f.bad {
		b := tx.Bucket([]byte(c.bucket))
		if v := b.Get([]byte(c.key)); v != nil {
			if _, good := unseal(c, v); !good {
				if err := b.Delete([]byte(c.key)); err != nil {
					return err
				}
			}
		}
		delete(f.bad, c)
	}
	return nil
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

// isMisplaced: the directory or the file is of another kind; only an operator can
// repair that.
func isMisplaced(err error) bool {
	return errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.EISDIR) || errors.Is(err, syscall.ELOOP) ||
		errors.Is(err, syscall.ENXIO) || errors.Is(err, errNotFile)
}
