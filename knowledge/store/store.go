// Package store keeps knowledge on disk, in one bbolt file. It is the only
// package that imports bbolt.
//
// Durability: what Journal.Begin, Journal.End, Originals.Put, Documents.Put,
// Terms.Put and SetIdentity acknowledge with nil survives kill -9 and a power cut.
// Commit writes everything else, in one transaction for many keys. When the disk
// is full or read-only, or the file is at its bound, they return an error that is
// ErrDegraded: the value is then kept in memory within bounds, is visible to
// readers, and is written as soon as the disk allows. So a full disk stops
// learning, never scaling. Terms.Put is the exception: it keeps nothing in memory
// that is not on disk.
//
// bbolt does not detect flipped bits in values, nor damaged pages before it
// follows them. So every value carries a checksum, the structure of the file is
// checked before bbolt maps it, and a fault on the mapped file is recovered here.
// A damaged file is renamed and a new one is created. The original limits are in a second
// file as well.
package store

import (
	"encoding/json"
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
	// ErrDegraded means that the value is in memory and not on disk.
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
)

// Options are what Open needs.
type Options struct {
	Dir string // created with mode 0700 when it is missing
	// MaxSize bounds the file in bytes; 0: 64 MiB; at least 256 KiB. The bounds
	// of journal, series, profiles and states shrink with it.
	MaxSize int64
	Log     zerolog.Logger
	Now     func() time.Time // nil: time.Now
	// LockTimeout bounds the wait for another process; 0: 2 s.
	LockTimeout time.Duration
}

// Opened is the state in which Open found the file.
type Opened struct {
	// Fresh: there was no knowledge. It is the first start, or all was lost.
	Fresh bool
	// SetAside is the new name of a damaged file; "": none.
	SetAside string
	// Why is the fault, also when the file could be used; "": none.
	Why string
}

// Identity is the node's identity, unchanged for the lifetime of its key.
type Identity struct {
	Node      knowledge.NodeID `json:"node"`
	Name      string           `json:"name"`
	MachineID string           `json:"machine_id"`
	Created   time.Time        `json:"created"`
}

// Store is an open knowledge file. All methods, also those of its parts, are safe
// for concurrent use.
type Store struct {
	Journal   Journal
	Originals Originals
	Documents Documents
	Terms     Terms
	Answers   Answers
	Learned   Learned

	opt Options
	log zerolog.Logger

	mu       sync.Mutex // guards everything below, and the fields of the parts
	closed   bool
	file     *file
	identity Identity
	lost     time.Time       // when knowledge was lost last; zero: never
	copy     originalsCopy   // of the original limits
	staged   map[cell][]byte // waiting for the disk; nil value: delete
	trouble  trouble
	nextShed time.Time                      // earliest time of the next log line about removed values
	alive    map[knowledge.ContainerID]bool // nil: unknown
	pruned   time.Time                      // the last Prune
	distrust time.Time                      // no value is removed for its age before: the wall clock jumped
}

// part is a subject that keeps its records in memory as well.
type part interface {
	// load reads the file. What is in memory already is newer.
	load(tx *bolt.Tx) error
	// restage queues everything in memory for a new file.
	restage()
}

func (s *Store) parts() [4]part { return [...]part{&s.Originals, &s.Terms, &s.Documents, &s.Journal} }

// Open opens or creates the knowledge file. Only ErrLocked and a directory that
// is a file or the like are errors: with a disk that is full or read-only the
// store works from memory and Opened has the reason.
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
	s := &Store{opt: o, log: o.Log, staged: map[cell][]byte{}, pruned: o.Now()}
	s.file = &file{opt: o, path: filepath.Join(o.Dir, FileName), log: o.Log, load: s.load, bad: map[cell]bool{}}
	s.copy = originalsCopy{path: filepath.Join(o.Dir, CopyName)}
	s.Journal = Journal{s: s, open: map[uint64]knowledge.Record{}, pending: map[uint64]knowledge.Record{}}
	s.Originals = Originals{s: s, all: map[knowledge.ContainerID]knowledge.Original{}}
	s.Documents = Documents{s: s, all: map[string][]byte{}}
	s.Terms = Terms{s: s, all: map[knowledge.ServiceKey]knowledge.Term{}}
	s.Answers = Answers{s: s}
	s.Learned = Learned{s: s}
	s.mu.Lock()
	defer s.mu.Unlock()
	before, statErr := os.Lstat(s.file.path)
	opened, err := s.attach(o.LockTimeout)
	if statErr == nil && before.Size() == 0 && before.Mode().IsRegular() {
		opened.Why = "it was empty"
		s.log.Warn().Str("file", s.file.path).Msg("knowledge file: " + opened.Why)
	}
	if err == nil {
		s.reconcile(&opened)
		return s, opened, nil
	}
	if errors.Is(err, ErrLocked) || isMisplaced(err) {
		return nil, opened, fmt.Errorf("cannot open %s: %w", s.file.path, err)
	}
	if s.file.db == nil {
		s.Journal.afterUnknown()
	}
	_ = s.degrade(err) // Why has it
	s.reconcile(&opened)
	opened.Why = s.trouble.why
	return s, opened, nil
}

// Close writes what waits for the disk, if it can, and closes the file.
// Closing twice does nothing.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	var err error
	if s.waits() {
		s.trouble.retry = time.Time{}
		err = s.write(nil)
	}
	s.closed = true
	s.file.detach()
	return err
}

// Health is "" when all is written to disk, else the fault.
func (s *Store) Health() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.trouble.why != "":
		return "degraded: " + s.trouble.why
	case s.copy.why != "":
		return "degraded: " + CopyName + ": " + s.copy.why
	}
	return ""
}

// Size is the file's size in bytes, 0 when there is none.
func (s *Store) Size() int64 { return s.file.size() }

// Identity is the node's identity; false: none yet (the first start).
func (s *Store) Identity() (Identity, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.identity, s.identity.Node != ""
}

// SetIdentity records the node's identity.
func (s *Store) SetIdentity(id Identity) error {
	if id.Node == "" {
		return fmt.Errorf("cannot keep an identity: %w: it has no node id", ErrInvalid)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	s.copy.stale = s.copy.stale || s.identity.Node != id.Node
	s.identity = id
	s.stageJSON(cell{bucketMeta, keyIdentity}, id)
	return s.write(nil)
}

// load reads what is kept in memory. What is in memory already is newer.
func (s *Store) load(tx *bolt.Tx) error {
	c := cell{bucketMeta, keyIdentity}
	if b, ok := s.file.get(tx.Bucket([]byte(bucketMeta)), c); ok && s.identity.Node == "" {
		if err := json.Unmarshal(b, &s.identity); err != nil {
			s.file.noteBad(c)
		}
	}
	c = cell{bucketMeta, keyLost}
	if b, ok := s.file.get(tx.Bucket([]byte(bucketMeta)), c); ok && s.lost.IsZero() && json.Unmarshal(b, &s.lost) != nil {
		s.file.noteBad(c)
	}
	for _, p := range s.parts() {
		if err := p.load(tx); err != nil {
			return err
		}
	}
	return nil
}

// restage queues everything in memory for the (new) file.
func (s *Store) restage() {
	if s.identity.Node != "" {
		s.stageJSON(cell{bucketMeta, keyIdentity}, s.identity)
	}
	if !s.lost.IsZero() {
		s.stageJSON(cell{bucketMeta, keyLost}, s.lost)
	}
	for _, p := range s.parts() {
		p.restage()
	}
}

// stageJSON queues a value of one of this package's types; they have no field
// that JSON refuses.
func (s *Store) stageJSON(c cell, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		s.log.Error().Err(err).Str("kind", c.bucket).Msg("cannot encode a record")
		return
	}
	s.staged[c] = b
}

// settled is nil when c is on disk, else the result of one more write.
func (s *Store) settled(c cell) error {
	if _, waits := s.staged[c]; !waits {
		return nil
	}
	return s.write(nil)
}
