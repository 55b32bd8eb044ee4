package store

import (
	"cmp"
	"encoding/binary"
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

// Prune deletes what is too old or too much: profiles of services not seen for
// 30 days, states of containers gone for 24 h, keys of requests after 24 h,
// chunks of series after their time; and the oldest of each beyond its share of
// MaxSize. Call it every few minutes. For a day after the wall clock jumped by
// more than an hour nothing is deleted for its age.
func (s *Store) Prune(now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	if gap := now.Round(0).Sub(s.pruned.Round(0)) - now.Sub(s.pruned); gap.Abs() > clockJump {
		s.distrust = now.Add(distrustFor)
		s.log.Warn().Dur("jump", gap).Msg("the wall clock jumped: nothing is forgotten for its age for a day")
	}
	s.pruned = now
	believe := !now.Before(s.distrust)
	return s.write(func(tx *bolt.Tx) error {
		size := int(s.opt.MaxSize)
		if err := prune(tx, bucketProfiles, size/16384, func(k string, at time.Time) bool {
			return believe && now.Sub(at) > profileLife
		}); err != nil {
			return err
		}
		if err := prune(tx, bucketStates, size/8192, func(k string, at time.Time) bool {
			return believe && s.alive != nil && !s.alive[knowledge.ContainerID(k)] && now.Sub(at) > stateLife
		}); err != nil {
			return err
		}
		if err := prune(tx, bucketKeys, maxJournal, func(k string, at time.Time) bool {
			return believe && now.Sub(at) > keyLife
		}); err != nil {
			return err
		}
		return pruneSeries(tx, now, believe, size/8)
	})
}

// aged is a key and when its value was written.
type aged struct {
	key string
	at  time.Time
}

// prune deletes the values of a bucket that old says, the bad ones, and the
// oldest of the others beyond limit.
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
		slices.SortFunc(keep, func(a, b aged) int {
			return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.key, b.key))
		})
		for _, k := range keep[:len(keep)-limit] {
			drop = append(drop, k.key)
		}
	}
	return deleteAll(b, drop)
}

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
		if len(k) < 9 || int(k[0]) >= len(history.Tiers) {
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

// shed makes room in a file that has reached its bound: it gives up a quarter of
// the journal and all series by the minute. s.mu is held.
func (s *Store) shed() error {
	count := s.count
	err := s.transact(func(tx *bolt.Tx) error {
		if err := s.trimJournalTo(tx, s.count*3/4); err != nil {
			return err
		}
		var drop []string
		b := tx.Bucket([]byte(bucketSeries))
		c := b.Cursor()
		for k, _ := c.First(); len(k) > 0 && k[0] == byte(history.Fine); k, _ = c.Next() {
			drop = append(drop, string(k))
		}
		return deleteAll(b, drop)
	})
	if err != nil {
		s.count = count
		return err
	}
	s.log.Warn().Msg("the knowledge file has reached its bound: the oldest quarter of the journal and the series by the minute were given up")
	return nil
}
