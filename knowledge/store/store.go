// Package store keeps knowledge on disk, in one bbolt file, and is the only
// package that knows bbolt.
//
// Its contract: what Begin, End, PutOriginal, PutDoc, PutTerms and SetIdentity acknowledge
// with nil survives kill -9 and a power cut. Commit writes everything else, in
// one transaction for many keys. When the disk cannot take it (full, read-only,
// the file at its bound) they return an error that is ErrDegraded: what was given
// is then kept in memory within bounds, is visible to readers, and is written by
// itself once the disk allows. So a full disk stops learning, never scaling.
//
// bbolt notices neither flipped bits in values nor, in time, damaged pages. So
// every value carries a checksum, the file's structure is checked before bbolt
// maps it, and a fault on the mapped file is caught here; a file that cannot be
// trusted is set aside and a new one begun.
package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/rs/zerolog"
	bolt "go.etcd.io/bbolt"
)

var (
	// ErrLocked means that another process has the file open. It is returned by
	// Open within Options.LockTimeout; `run` exits with code 75 on it.
	ErrLocked = errors.New("the knowledge file is locked by another process")
	// ErrDegraded means that the disk did not take it and memory did.
	ErrDegraded = errors.New("knowledge is kept in memory only")
	// ErrClosed means that the store was used after Close.
	ErrClosed = errors.New("the store is closed")
	// ErrInvalid means that the caller's value is out of bounds; it was not kept.
	ErrInvalid = errors.New("value out of bounds")
)

// FileName is the name of the file in Options.Dir.
const FileName = "effiscale.db"

const (
	defaultMaxSize     = 64 << 20
	minMaxSize         = 256 << 10
	defaultLockTimeout = 2 * time.Second
	// retryEvery spaces attempts to write while degraded, warnEvery the log lines.
	retryEvery = 5 * time.Second
	warnEvery  = time.Minute
	// maxJournal bounds the journal: at about 350 bytes a record, 7 MiB.
	maxJournal = 20_000
	// maxPending bounds the records that wait in memory for the disk: 2 MiB.
	maxPending = 2_000
	// maxTerms bounds the services whose terms are remembered: 100 bytes each, here
	// and in the file.
	maxTerms = 50_000
	// maxOriginals bounds the containers whose first limits are remembered.
	maxOriginals = 10_000
)

// Options are what Open needs.
type Options struct {
	Dir string // made with mode 0700 when it is missing
	// MaxSize bounds the file in bytes; 0: 64 MiB; at least 256 KiB. The bounds
	// of journal, series, profiles and states shrink with it.
	MaxSize int64
	Log     zerolog.Logger
	Now     func() time.Time // nil: time.Now
	// LockTimeout bounds the wait for another process; 0: 2 s.
	LockTimeout time.Duration
}

// Opened tells how Open found the file.
type Opened struct {
	// Fresh: there was no knowledge. It is the first boot, or all was lost.
	Fresh bool
	// SetAside is the new name of a file that could not be trusted; "": none.
	SetAside string
	// Why says what was wrong, also when the file could be used; "": nothing.
	Why string
}

// Identity is who the node is. A node keeps it for life.
type Identity struct {
	Node      knowledge.NodeID `json:"node"`
	Name      string           `json:"name"`
	MachineID string           `json:"machine_id"`
	Created   time.Time        `json:"created"`
}

// Store is an open knowledge file. All methods are safe for concurrent use.
type Store struct {
	opt  Options
	path string
	log  zerolog.Logger

	mu     sync.Mutex // guards everything below
	closed bool
	// db is nil while there is no file to write to or read from.
	db       *bolt.DB
	file     *os.File // db's, to let go of a file that bbolt can no longer close
	readOnly bool

	seq   uint64 // the last one given out
	count int    // records in the file's journal

	// Read once at Open and kept: few and small.
	identity  Identity
	originals map[knowledge.ContainerID]knowledge.Original
	docs      map[string][]byte
	terms     map[knowledge.ServiceKey]knowledge.Term
	open      map[uint64]knowledge.Record // begun, not ended

	// Waiting for the disk.
	records map[uint64]knowledge.Record
	staged  map[cell][]byte // nil value: delete
	lost    int             // records that fell out of memory before the disk came back

	trouble  trouble
	nextShed time.Time                      // when to say again that something was given up
	alive    map[knowledge.ContainerID]bool // nil: never told
	pruned   time.Time                      // the last Prune
	distrust time.Time                      // until then ages are not believed: the wall clock jumped

	badMu    sync.Mutex    // guards what follows; taken after mu
	bad      map[cell]bool // values with a wrong checksum, to be deleted
	badCount int
}

// cell is one key of one bucket.
type cell struct{ bucket, key string }

// trouble is why the disk does not take anything now.
type trouble struct {
	why            string // "": none
	since          time.Time
	retry, nextLog time.Time
	said           bool // in the log
}

// Open opens or creates the knowledge file. Only ErrLocked and a directory that
// is a file or the like are errors: with a disk that is full or read-only the
// store works from memory and Opened says why.
func Open(o Options) (*Store, Opened, error) {
	if o.MaxSize == 0 {
		o.MaxSize = defaultMaxSize
	}
	o.MaxSize = max(o.MaxSize, minMaxSize)
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.LockTimeout <= 0 {
		o.LockTimeout = defaultLockTimeout
	}
	s := &Store{
		opt: o, path: filepath.Join(o.Dir, FileName), log: o.Log,
		originals: map[knowledge.ContainerID]knowledge.Original{},
		docs:      map[string][]byte{},
		terms:     map[knowledge.ServiceKey]knowledge.Term{},
		open:      map[uint64]knowledge.Record{},
		records:   map[uint64]knowledge.Record{},
		staged:    map[cell][]byte{},
		bad:       map[cell]bool{},
		pruned:    o.Now(),
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	opened, err := s.attach(o.LockTimeout)
	if err == nil {
		return s, opened, nil
	}
	if errors.Is(err, ErrLocked) || isMisplaced(err) {
		return nil, opened, fmt.Errorf("cannot open %s: %w", s.path, err)
	}
	if s.db == nil {
		s.afterUnknown()
	}
	opened.Fresh = s.identity.Node == ""
	_ = s.degrade(err) // Why says it
	opened.Why = s.trouble.why
	return s, opened, nil
}

// afterUnknown makes sequence numbers begin above those of a journal that could
// not be read: milliseconds since 1970 are ahead of any count.
func (s *Store) afterUnknown() {
	s.seq = max(s.seq, uint64(max(s.opt.Now().UnixMilli(), 0)))
}

// Close writes what waits for the disk, if it can, and lets go of the file.
// Closing twice does nothing.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	var err error
	if len(s.records)+len(s.staged) > 0 {
		s.trouble.retry = time.Time{}
		err = s.write(nil)
	}
	s.closed = true
	s.detach()
	return err
}

// Health is "" when all is written to disk, else what is wrong in a few words.
func (s *Store) Health() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.trouble.why == "" {
		return ""
	}
	return "degraded: " + s.trouble.why
}

// BadRecords is how many values were dropped because their checksum was wrong.
func (s *Store) BadRecords() int {
	s.badMu.Lock()
	defer s.badMu.Unlock()
	return s.badCount
}

// Size is the file's size in bytes, 0 when there is none.
func (s *Store) Size() int64 {
	if fi, err := os.Stat(s.path); err == nil {
		return fi.Size()
	}
	return 0
}

func (s *Store) journalLimit() int { return int(min(maxJournal, s.opt.MaxSize/2048)) }
