package store

import (
	"cmp"
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/knowledge/history"
	bolt "go.etcd.io/bbolt"
)

const (
	profileLife = 30 * 24 * time.Hour
	stateLife   = 24 * time.Hour
	// clockJump is the difference between wall and monotonic clock from which on
	// stamps are not believed, for distrustFor.
	clockJump   = time.Hour
	distrustFor = 24 * time.Hour
)

// Prune deletes what is too old or too much: profiles and models of services and
// copies of the profiles of images, with their seals, not renewed for 30 days,
// states of containers gone for 24 h, keys of requests after 24 h, chunks of series
// after their time; and the oldest of each beyond its share of MaxSize. Call it
// every few minutes. For a day after the wall clock jumped by more than an hour
// nothing is deleted for its age.
func (s *Store) Prune(now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	if gap := now.Round(0).Sub(s.pruned.Round(0)) - now.Sub(s.pruned); gap.Abs() > clockJump {
		s.distrust = now.Add(distrustFor)
		s.log.Warn().Dur("jump", gap).Msg("wall clock jumped: removal of old records suspended for a day")
	}
	s.pruned = now
	believe := !now.Before(s.distrust)
	return s.write(func(tx *bolt.Tx) error {
		size := int(s.opt.MaxSize)
		for _, b := range [...]struct {
			bucket string
			most   int
			life   time.Duration
		}{
			{bucketProfiles, size / 16384, profileLife}, {bucketImages, size / 16384, profileLife},
			{bucketSeals, size / 16384, profileLife}, {bucketModels, size >> 20, profileLife},
			{bucketStates, size / 8192, stateLife}, {bucketKeys, maxJournal, keyLife},
			{bucketAnswers, s.opt.mostAnswers(), keyLife},
		} {
			if err := prune(tx, b.bucket, b.most, func(k string, at time.Time) bool {
				alive := b.bucket == bucketStates && (s.alive == nil || s.alive[knowledge.ContainerID(k)])
				return believe && !alive && now.Sub(at) > b.life
			}); err != nil {
				return err
			}
		}
		return pruneSeries(tx, now, believe, size/8)
	})
}

// aged is a key and when its value was written.
type aged struct {
	key string
	at  time.Time
}

// prune deletes the values of a bucket that are old, the bad ones, and the oldest
// of the others beyond limit.
func prune(tx *bolt.Tx, bucket string, limit int, old func(key string, at time.Time) bool) error {
	b := tx.Bucket([]byte(bucket))
	var keep []aged
	var drop []string
	err := b.ForEach(func(k, v []byte) error {
		c := cell{bucket, string(k)}
		payload, ok := unseal(c, v)
		at, _, stamp := unstamp(payload)
		if !ok || !stamp || old(c.key, at) {
			drop = append(drop, c.key)
		} else {
			keep = append(keep, aged{c.key, at})
		}
		return nil
	})
	if err != nil {
		return err
	}
	if len(keep) > limit {
		slices.SortFunc(keep, older)
		for _, k := range keep[:len(keep)-limit] {
			drop = append(drop, k.key)
		}
	}
	return deleteAll(b, drop)
}

func older(a, b aged) int { return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.key, b.key)) }

func deleteAll(b *bolt.Bucket, keys []string) error {
	for _, k := range keys {
		if err := b.Delete([]byte(k)); err != nil {
			return err
		}
	}
	return nil
}

// pruneSeries deletes chunks after their time, and the oldest beyond size bytes,
// minutes before ten minutes.
func pruneSeries(tx *bolt.Tx, now time.Time, believe bool, size int) error {
	b := tx.Bucket([]byte(bucketSeries))
	total := 0
	var drop, keep []string
	var sizes []int
	err := b.ForEach(func(k, v []byte) error {
		if len(k) < 9 || int(k[0]) >= history.TierCount {
			drop = append(drop, string(k))
			return nil
		}
		tier := history.Tier(k[0])
		end := time.Unix(int64(binary.BigEndian.Uint64(k[1:])), 0).Add(tier.Span())
		if believe && now.Sub(end) > tier.Keep() {
			drop = append(drop, string(k))
			return nil
		}
		keep, sizes = append(keep, string(k)), append(sizes, len(k)+len(v))
		total += len(k) + len(v)
		return nil
	})
	if err != nil {
		return err
	}
	for i := 0; total > size && i < len(keep); i++ { // in order: tier, then time
		drop = append(drop, keep[i])
		total -= sizes[i]
	}
	return deleteAll(b, drop)
}

// shedRounds bounds the transactions that free space before one write.
const shedRounds = 64

// keepRoom keeps a quarter of the file's bound free by removing the oldest values,
// a few at a time: bbolt needs free pages to delete, so the file must not reach
// the bound. The bounds of each bucket leave more than that free by themselves
// unless profiles and states are many and at their largest. The only error is
// errDamaged. s.mu is held.
func (s *Store) keepRoom() error {
	removed := 0
	for range shedRounds {
		if s.file.db == nil || s.file.readOnly || s.file.used() <= s.opt.MaxSize*3/4 {
			break
		}
		count, freed := s.Journal.count, 0
		err := s.file.transact(func(tx *bolt.Tx) (err error) {
			freed, err = s.removeOldest(tx, int(s.opt.MaxSize/64))
			return err
		})
		if errors.Is(err, errDamaged) {
			return err
		}
		if err != nil || freed == 0 { // the write that follows reports the error
			s.Journal.count = count
			break
		}
		removed += freed
	}
	if removed > 0 && !s.opt.Now().Before(s.nextShed) {
		s.nextShed = s.opt.Now().Add(warnEvery)
		s.log.Warn().Int("bytes", removed).Msg("knowledge file near store.max_size: removed its oldest values")
	}
	return nil
}

// removeOldest deletes values of at least size bytes from the first bucket that
// has any to spare.
func (s *Store) removeOldest(tx *bolt.Tx, size int) (freed int, err error) {
	series := tx.Bucket([]byte(bucketSeries))
	var drop []string
	c := series.Cursor()
	for k, v := c.First(); k != nil && freed < size; k, v = c.Next() {
		drop, freed = append(drop, string(k)), freed+len(k)+len(v)
	}
	if freed > 0 {
		return freed, deleteAll(series, drop)
	}
	for _, bucket := range [...]string{bucketModels, bucketImages, bucketSeals, bucketProfiles, bucketStates} {
		b := tx.Bucket([]byte(bucket))
		var all []aged
		sizes := map[string]int{}
		if err := b.ForEach(func(k, v []byte) error {
			payload, _ := unseal(cell{bucket, string(k)}, v)
			at, _, _ := unstamp(payload) // a bad one counts as the oldest
			all = append(all, aged{string(k), at})
			sizes[string(k)] = len(k) + len(v)
			return nil
		}); err != nil {
			return 0, err
		}
		slices.SortFunc(all, older)
		for i := 0; i < len(all) && freed < size; i++ {
			drop, freed = append(drop, all[i].key), freed+sizes[all[i].key]
		}
		if freed > 0 {
			return freed, deleteAll(b, drop)
		}
	}
	before := s.Journal.count
	err = s.Journal.trim(tx, s.Journal.count-max(size/512, 1))
	return (before - s.Journal.count) * 512, err
}
