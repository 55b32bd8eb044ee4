package store

import (
	"encoding/binary"
	"fmt"
	"iter"
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

func limitOf(bucket string) int {
	switch bucket {
	case bucketProfiles, bucketImages:
		return maxProfile
	case bucketSeries:
		return maxChunk
	case bucketModels:
		return maxModel
	case bucketSeals:
		return maxSeal
	}
	return maxState
}

// ImageCopy names one host's copy of an image's profile.
type ImageCopy struct {
	Image knowledge.ImageKey
	Host  knowledge.NodeID
}

// copyMark separates image and host in a key; an image's key has none.
const copyMark = "/"

func (c ImageCopy) key() string {
	if c.Image == "" || c.Host == "" {
		return ""
	}
	return string(c.Image) + copyMark + string(c.Host)
}

func copyOf(key string) ImageCopy {
	image, host, _ := strings.Cut(key, copyMark)
	return ImageCopy{knowledge.ImageKey(image), knowledge.NodeID(host)}
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
	// Alive, when not nil, are all containers that exist: their states are kept
	// however old. The others' are removed a day after they were last written.
	Alive []knowledge.ContainerID
}

// values are all values but the series, copies before their seals.
func (b *Batch) values() iter.Seq2[cell, []byte] {
	return func(yield func(cell, []byte) bool) {
		_ = pairs(bucketProfiles, b.Profiles, text, yield) && pairs(bucketStates, b.States, text, yield) &&
			pairs(bucketModels, b.Models, text, yield) && pairs(bucketImages, b.Images, ImageCopy.key, yield) &&
			pairs(bucketSeals, b.Seals, ImageCopy.key, yield)
	}
}

func text[K ~string](k K) string { return string(k) }

func pairs[K comparable](bucket string, all map[K][]byte, key func(K) string, yield func(cell, []byte) bool) bool {
	for k, v := range all {
		if !yield(cell{bucket, key(k)}, v) {
			return false
		}
	}
	return true
}

// check is an error for the first value out of bounds.
func (b *Batch) check() error {
	for _, r := range b.Folds {
		if !r.Action.Kind.Known() {
			return fmt.Errorf("cannot record an action: %w: its kind %q is unknown", ErrInvalid, r.Action.Kind)
		}
	}
	for c, v := range b.values() {
		if err := fits(c, v); err != nil {
			return err
		}
	}
	for k, chunks := range b.Series {
		for _, chunk := range chunks {
			if err := fits(cell{bucketSeries, string(k)}, chunk.Data); err != nil {
				return err
			}
		}
	}
	return nil
}

func fits(c cell, v []byte) error {
	if limit := limitOf(c.bucket); c.key == "" || len(c.key) > maxWord || len(v) > limit {
		return fmt.Errorf("cannot keep %s of %q: %w: %d bytes under a key of %d, allowed are %d and 1 to %d",
			c.bucket, bounded(c.key, maxWord), ErrInvalid, len(v), len(c.key), limit, maxWord)
	}
	return nil
}

// put stores the values that fit; check reports the others.
func (b *Batch) put(tx *bolt.Tx, now time.Time) error {
	at := stamp(now)
	copies := map[string]bool{}
	for c, v := range b.values() {
		if fits(c, v) != nil || c.bucket == bucketSeals && (len(v) == 0 || !copies[c.key]) {
			continue
		}
		if c.bucket == bucketImages {
			copies[c.key] = true
			if err := remove(tx, cell{bucketSeals, c.key}); err != nil { // an older copy's
				return err
			}
		}
		if err := put(tx, c, at, v); err != nil {
			return err
		}
	}
	for k, chunks := range b.Series {
		for _, chunk := range chunks {
			if fits(cell{bucketSeries, string(k)}, chunk.Data) != nil {
				continue
			}
			if err := put(tx, cell{bucketSeries, chunkKey(chunk.Tier, chunk.Start, k)}, chunk.Data); err != nil {
				return err
			}
		}
	}
	return nil
}

// chunkKey orders chunks by tier and time, so that the oldest come first.
func chunkKey(tier history.Tier, start int64, service knowledge.ServiceKey) string {
	b := binary.BigEndian.AppendUint64([]byte{byte(tier)}, uint64(start))
	return string(b) + string(service)
}

// Learned are the records of what was learned, which Commit writes: profiles,
// models, states and series.
type Learned struct{ s *Store }

// Commit writes a batch in one transaction. After ErrDegraded profiles, states
// and series are not kept: give the then current ones with the next Commit.
// ErrInvalid means that a value was out of bounds; only that one is left out.
func (l *Learned) Commit(b Batch) error {
	s := l.s
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
	s.Journal.fold(b.Folds)
	now := s.opt.Now()
	if err := s.write(func(tx *bolt.Tx) error { return b.put(tx, now) }); err != nil {
		return err
	}
	return invalid
}

// Profiles are all profiles, as they were committed.
func (l *Learned) Profiles() (map[knowledge.ServiceKey][]byte, error) {
	return values(l.s, bucketProfiles, func(k string) knowledge.ServiceKey { return knowledge.ServiceKey(k) })
}

// Models are what was fitted to each service, as it was committed.
func (l *Learned) Models() (map[knowledge.ServiceKey][]byte, error) {
	return values(l.s, bucketModels, func(k string) knowledge.ServiceKey { return knowledge.ServiceKey(k) })
}

// Images are all copies of the profiles of images, as they were committed.
func (l *Learned) Images() (map[ImageCopy][]byte, error) { return values(l.s, bucketImages, copyOf) }

// Seals are the signatures of hosts over their copies in Images, as they were
// committed. A copy may have none.
func (l *Learned) Seals() (map[ImageCopy][]byte, error) { return values(l.s, bucketSeals, copyOf) }

// States are the states of all containers, as they were committed.
func (l *Learned) States() (map[knowledge.ContainerID][]byte, error) {
	return values(l.s, bucketStates, func(k string) knowledge.ContainerID { return knowledge.ContainerID(k) })
}

// values are copies of all values of a bucket.
func values[K comparable](s *Store, bucket string, key func(string) K) (map[K][]byte, error) {
	out := map[K][]byte{}
	err := s.view(func(tx *bolt.Tx) error {
		return s.file.each(tx, bucket, func(k string, payload []byte) bool {
			_, data, ok := unstamp(payload)
			if ok {
				out[key(k)] = append([]byte(nil), data...)
			}
			return ok
		})
	})
	return out, err
}

// Series are the buckets of a service in a tier that begin at from or later and
// before to, oldest first. What cannot be decoded is dropped and counted.
func (l *Learned) Series(
	service knowledge.ServiceKey, tier history.Tier, from, to time.Time,
) ([]history.Bucket, error) {
	var out []history.Bucket
	err := l.chunks(service, tier, from, to, func(c history.Chunk) bool {
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
func (l *Learned) Running(service knowledge.ServiceKey, now time.Time) ([]history.Chunk, error) {
	var out []history.Chunk
	for _, tier := range history.Tiers() {
		err := l.chunks(service, tier, now, now.Add(time.Nanosecond), func(c history.Chunk) bool {
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
func (l *Learned) chunks(
	service knowledge.ServiceKey, tier history.Tier, from, to time.Time, fn func(history.Chunk) bool,
) error {
	span := int64(tier.Span() / time.Second)
	first := max(from.Unix(), to.Add(-tier.Keep()).Unix(), 0) / span * span
	return l.s.view(func(tx *bolt.Tx) error {
		b := tx.Bucket([]byte(bucketSeries))
		for start := first; start < to.Unix() || (start == to.Unix() && to.Nanosecond() > 0); start += span {
			c := cell{bucketSeries, chunkKey(tier, start, service)}
			if data, ok := l.s.file.get(b, c); ok && !fn(history.Chunk{Tier: tier, Start: start, Data: data}) {
				l.s.file.noteBad(c)
			}
		}
		return nil
	})
}
