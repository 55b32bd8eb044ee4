package store

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/knowledge/history"
	bolt "go.etcd.io/bbolt"
)

// Bounds of what Commit takes.
const (
	maxProfile = 8 << 10
	maxState   = 4 << 10
	maxChunk   = 8 << 10
	maxModel   = 128 << 10
	maxSeal    = 256
)

// ImageCopy names one host's copy of an image's profile.
type ImageCopy struct {
	Image knowledge.ImageKey
	Host  knowledge.NodeID
}

// copyMark parts image and host in a key; an image's key has none.
const copyMark = "/"

func (c ImageCopy) key() string {
	if c.Image == "" || c.Host == "" {
		return ""
	}
	return string(c.Image) + copyMark + string(c.Host)
}

// Batch is what changed since the last Commit: one packed value for each key,
// which replaces the one before.
type Batch struct {
	Profiles map[knowledge.ServiceKey][]byte  // at most 8 KiB each
	States   map[knowledge.ContainerID][]byte // at most 4 KiB each
	Series   map[knowledge.ServiceKey][]history.Chunk
	Images   map[ImageCopy][]byte // at most 8 KiB each
	// Seals are the signatures of hosts over their copies in Images, at most 256
	// bytes each; one without a copy in the same batch is not kept, and a copy
	// without one loses the one it had.
	Seals  map[ImageCopy][]byte
	Models map[knowledge.ServiceKey][]byte // at most 128 KiB each
	// Folds are actions that are over: Commit numbers and keeps them. They are
	// kept once: do not give them again after ErrDegraded.
	Folds []knowledge.Record

	DropProfiles []knowledge.ServiceKey
	DropStates   []knowledge.ContainerID
	// Alive, when not nil, are all containers that exist: their states are kept
	// however old. The others' are pruned a day after they were last written.
	Alive []knowledge.ContainerID
}

// Commit writes a batch in one transaction. After ErrDegraded profiles, states
// and series are not kept: give the then current ones with the next Commit.
// ErrInvalid says that a value was out of bounds; that one alone is left out.
func (s *Store) Commit(b Batch) error {
	invalid := b.check()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	if b.Alive != nil {
		s.alive = make(map[knowledge.ContainerID]bool, len(b.Alive))
		for _, id := range b.Alive {
			s.alive[id] = true
		}
	}
	for _, r := range b.Folds {
		s.seq++
		r.Action.Seq, r.Outcome.Seq, r.Action.Key = s.seq, s.seq, ""
		if r.Outcome.Result == knowledge.ResultOpen {
			r.Outcome.Result = knowledge.ResultApplied
		}
		s.records[s.seq] = r
	}
	now := s.opt.Now()
	if err := s.write(func(tx *bolt.Tx) error { return b.put(tx, now) }); err != nil {
		return err
	}
	return invalid
}

// check is an error for the first value out of bounds.
func (b *Batch) check() error {
	for k, v := range b.Profiles {
		if err := fits("profile", string(k), v, maxProfile); err != nil {
			return err
		}
	}
	for k, v := range b.States {
		if err := fits("state", string(k), v, maxState); err != nil {
			return err
		}
	}
	for k, v := range b.Images {
		if err := fits("image", k.key(), v, maxProfile); err != nil {
			return err
		}
	}
	for k, v := range b.Seals {
		if err := fits("seal", k.key(), v, maxSeal); err != nil {
			return err
		}
	}
	for k, v := range b.Models {
		if err := fits("model", string(k), v, maxModel); err != nil {
			return err
		}
	}
	for k, chunks := range b.Series {
		for _, c := range chunks {
			if err := fits("series", string(k), c.Data, maxChunk); err != nil {
				return err
			}
		}
	}
	return nil
}

func fits(what, key string, v []byte, limit int) error {
	if key == "" || len(key) > maxWord || len(v) > limit {
		return fmt.Errorf("cannot keep %s of %q: %w: %d bytes under a key of %d, allowed are %d and 1 to %d",
			what, bounded(key, maxWord), ErrInvalid, len(v), len(key), limit, maxWord)
	}
	return nil
}

func (b *Batch) put(tx *bolt.Tx, now time.Time) error {
	at := stamp(now)
	err := putAll(tx, kind[knowledge.ServiceKey]{bucketProfiles, maxProfile, plain[knowledge.ServiceKey]}, b.Profiles, at)
	if err == nil {
		err = putAll(tx, kind[knowledge.ContainerID]{bucketStates, maxState, plain[knowledge.ContainerID]}, b.States, at)
	}
	if err == nil {
		err = putAll(tx, kind[ImageCopy]{bucketImages, maxProfile, ImageCopy.key}, b.Images, at)
	}
	if err == nil {
		err = b.putSeals(tx, at)
	}
	if err == nil {
		err = putAll(tx, kind[knowledge.ServiceKey]{bucketModels, maxModel, plain[knowledge.ServiceKey]}, b.Models, at)
	}
	if err != nil {
		return err
	}
	for k, chunks := range b.Series {
		for _, c := range chunks {
			if fits("series", string(k), c.Data, maxChunk) != nil {
				continue
			}
			if err := put(tx, cell{bucketSeries, chunkKey(c.Tier, c.Start, k)}, c.Data); err != nil {
				return err
			}
		}
	}
	for _, k := range b.DropProfiles {
		if err := remove(tx, cell{bucketProfiles, string(k)}); err != nil {
			return err
		}
	}
	for _, k := range b.DropStates {
		if err := remove(tx, cell{bucketStates, string(k)}); err != nil {
			return err
		}
	}
	return nil
}

// kind is one kind of stamped values: where, how large at most, under which key.
type kind[K comparable] struct {
	bucket string
	most   int
	key    func(K) string
}

func plain[K ~string](k K) string { return string(k) }

// putAll keeps the values that fit; check has said which do not.
func putAll[K comparable](tx *bolt.Tx, kind kind[K], all map[K][]byte, at []byte) error {
	for k, v := range all {
		key := kind.key(k)
		if fits(kind.bucket, key, v, kind.most) != nil {
			continue
		}
		if err := put(tx, cell{kind.bucket, key}, at, v); err != nil {
			return err
		}
	}
	return nil
}

// putSeals keeps the seals of the copies that were kept, and of no older ones.
func (b *Batch) putSeals(tx *bolt.Tx, at []byte) error {
	for k, v := range b.Images {
		if fits(bucketImages, k.key(), v, maxProfile) != nil {
			continue
		}
		c, seal := cell{bucketSeals, k.key()}, b.Seals[k]
		var err error
		if len(seal) == 0 || len(seal) > maxSeal {
			err = remove(tx, c)
		} else {
			err = put(tx, c, at, seal)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// chunkKey orders chunks by tier and time, so that the oldest come first.
func chunkKey(tier history.Tier, start int64, service knowledge.ServiceKey) string {
	b := binary.BigEndian.AppendUint64([]byte{byte(tier)}, uint64(start))
	return string(b) + string(service)
}

// Profiles are all profiles, as they were committed.
func (s *Store) Profiles() (map[knowledge.ServiceKey][]byte, error) {
	out := map[knowledge.ServiceKey][]byte{}
	err := s.stampedValues(bucketProfiles, func(k string, v []byte) { out[knowledge.ServiceKey(k)] = v })
	return out, err
}

// Models are what was fitted to each service, as it was committed.
func (s *Store) Models() (map[knowledge.ServiceKey][]byte, error) {
	out := map[knowledge.ServiceKey][]byte{}
	err := s.stampedValues(bucketModels, func(k string, v []byte) { out[knowledge.ServiceKey(k)] = v })
	return out, err
}

// Images are all copies of the profiles of images, as they were committed.
func (s *Store) Images() (map[ImageCopy][]byte, error) {
	return s.copies(bucketImages)
}

// Seals are the signatures of hosts over their copies in Images, as they were
// committed. A copy may have none.
func (s *Store) Seals() (map[ImageCopy][]byte, error) { return s.copies(bucketSeals) }

func (s *Store) copies(bucket string) (map[ImageCopy][]byte, error) {
	out := map[ImageCopy][]byte{}
	err := s.stampedValues(bucket, func(k string, v []byte) {
		image, host, _ := strings.Cut(k, copyMark)
		out[ImageCopy{knowledge.ImageKey(image), knowledge.NodeID(host)}] = v
	})
	return out, err
}

// States are the states of all containers, as they were committed.
func (s *Store) States() (map[knowledge.ContainerID][]byte, error) {
	out := map[knowledge.ContainerID][]byte{}
	err := s.stampedValues(bucketStates, func(k string, v []byte) { out[knowledge.ContainerID(k)] = v })
	return out, err
}

// stampedValues calls fn with a copy of every value of a bucket.
func (s *Store) stampedValues(bucket string, fn func(string, []byte)) error {
	return s.view(func(tx *bolt.Tx) error {
		if tx.Bucket([]byte(bucket)) == nil && slices.Contains(added[:], bucket) {
			return nil // a file of an earlier version that can only be read
		}
		return s.each(tx, bucket, func(k string, payload []byte) bool {
			_, data, ok := unstamp(payload)
			if ok {
				fn(k, append([]byte(nil), data...))
			}
			return ok
		})
	})
}

// Series are the buckets of a service in a tier that begin at from or later and
// before to, oldest first. What cannot be decoded is dropped and counted.
func (s *Store) Series(service knowledge.ServiceKey, tier history.Tier, from, to time.Time) ([]history.Bucket, error) {
	var out []history.Bucket
	err := s.chunks(service, tier, from, to, func(c history.Chunk) bool {
		buckets, err := c.Decode()
		for _, b := range buckets {
			if !b.At.Before(from) && b.At.Before(to) {
				out = append(out, b)
			}
		}
		return err == nil
	})
	return out, err
}

// Running are the chunks of a service that contain now, for history.Series.Restore.
func (s *Store) Running(service knowledge.ServiceKey, now time.Time) ([]history.Chunk, error) {
	var out []history.Chunk
	for _, tier := range history.Tiers() {
		err := s.chunks(service, tier, now, now.Add(time.Nanosecond), func(c history.Chunk) bool {
			c.Data = append([]byte(nil), c.Data...)
			out = append(out, c)
			return true
		})
		if err != nil {
			return out, err
		}
	}
	return out, nil
}

// chunks calls fn for the chunks that overlap [from, to), at most a tier's worth.
func (s *Store) chunks(service knowledge.ServiceKey, tier history.Tier, from, to time.Time, fn func(history.Chunk) bool) error {
	span := int64(tier.Span() / time.Second)
	first := max(from.Unix(), to.Add(-tier.Keep()).Unix(), 0) / span * span
	return s.view(func(tx *bolt.Tx) error {
		b := tx.Bucket([]byte(bucketSeries))
		for start := first; start < to.Unix() || (start == to.Unix() && to.Nanosecond() > 0); start += span {
			c := cell{bucketSeries, chunkKey(tier, start, service)}
			if data, ok := s.get(b, c); ok && !fn(history.Chunk{Tier: tier, Start: start, Data: data}) {
				s.noteBad(c)
			}
		}
		return nil
	})
}
