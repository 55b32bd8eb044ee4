package cluster

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/node/cluster/member"
	"github.com/effiscale/effiscale/node/cluster/quorum"
)

const (
	// saveEvery bounds how often membership is saved, and how often a node whose disk
	// failed tries it.
	saveEvery = 10 * time.Second
	// seenMost is how many nodes are saved: a start uses no more. With 8192 voters it is
	// 0.9 MiB at most, below what the store takes.
	seenMost = 1024
	// logAgain is how often a disk that does not take the membership is logged.
	logAgain = 10 * time.Minute
)

var errGone = errors.New("not alive")

// storage saves the membership record: the nodes seen, and the voters.
type storage struct {
	c *Cluster
	// alone: there is no other node, so terms that are kept in memory fence as well.
	alone atomic.Bool
	// writing is held while the record is written, and guards onDisk.
	writing chan struct{}
	onDisk  Membership

	// Owned by the goroutine.
	saving   bool
	savedAt  time.Time
	saved    []member.Seen // what is known to be on the disk
	failed   bool
	loggedAt time.Time
}

func newStorage(c *Cluster) *storage {
	s := &storage{c: c, writing: make(chan struct{}, 1)}
	s.onDisk = Membership{Self: c.self, Record: c.o.Known.Record}
	return s
}

// SaveTerms implements claim.Saver. A node that is alone goes on without a disk: no other
// node ever saw its terms, so none can get one twice.
func (s *storage) SaveTerms(t map[knowledge.ServiceKey]knowledge.Term) error {
	err := s.c.o.Keeper.SaveTerms(t)
	if err != nil && s.alone.Load() {
		s.c.log.Debug().Err(err).Msg("terms kept in memory; this node is alone")
		return nil
	}
	return err
}

func (s *storage) seen() []member.Seen { return worth(s.c.members.Seen()) }

// worth are the nodes that are worth saving, by id: those alive last, which the living
// ones are.
func worth(all []member.Seen) []member.Seen {
	if len(all) <= seenMost {
		return all
	}
	slices.SortFunc(all, func(a, b member.Seen) int {
		return cmp.Or(b.LastSeen.Compare(a.LastSeen), cmp.Compare(a.ID, b.ID))
	})
	all = all[:seenMost]
	slices.SortFunc(all, func(a, b member.Seen) int { return cmp.Compare(a.ID, b.ID) })
	return all
}

// sameSeen compares ids and addresses, not times.
func sameSeen(a, b []member.Seen) bool {
	return slices.EqualFunc(a, b, func(x, y member.Seen) bool {
		return x.ID == y.ID && x.Addr == y.Addr && x.Started == y.Started
	})
}

// saveIfDue saves the nodes seen where they changed, beside the goroutine: a disk that
// takes seconds must not look like a stalled node. A node whose disk failed tries whether
// terms can be saved again.
func (s *storage) saveIfDue(now time.Time) {
	if s.saving || now.Sub(s.savedAt) < saveEvery {
		return
	}
	s.savedAt = now
	seen, tryTerms := s.seen(), s.c.participation.diskFailed
	changed := s.failed || !sameSeen(seen, s.saved)
	if !changed && !tryTerms {
		return
	}
	s.saving = true
	s.c.spawn(func(ctx context.Context) {
		var err, termErr error
		if changed {
			err = s.write(ctx, func(m *Membership) { m.Seen = seen })
		}
		if tryTerms {
			termErr = s.c.terms.Try()
		}
		s.c.post(func() {
			s.saving = false
			if changed {
				s.wrote(seen, err)
			}
			if tryTerms && termErr == nil {
				s.c.participation.canSave()
			}
		})
	})
}

// saveLast saves the nodes seen last; the channel is closed when that is done.
func (s *storage) saveLast() <-chan struct{} {
	done := make(chan struct{})
	seen := s.seen()
	if !s.saving && !s.failed && sameSeen(seen, s.saved) {
		close(done)
		return done
	}
	s.c.spawn(func(ctx context.Context) {
		defer close(done)
		if err := s.write(ctx, func(m *Membership) { m.Seen = seen }); err != nil {
			s.c.log.Warn().Err(err).Msg("cannot save membership; the next start uses an older record")
		}
	})
	return done
}

// saveRecord saves what this node promised to the other voters.
func (s *storage) saveRecord(ctx context.Context, r quorum.Record) error {
	return s.write(ctx, func(m *Membership) { m.Record = r })
}

// write changes the record on the disk, one change at a time.
func (s *storage) write(ctx context.Context, change func(*Membership)) error {
	select {
	case s.writing <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-s.writing }()
	m := s.onDisk
	change(&m)
	if m.Seen == nil {
		m.Seen = s.c.o.Known.Seen
	}
	if s.onDisk.Seen != nil && sameSeen(m.Seen, s.onDisk.Seen) && m.Record.Equal(s.onDisk.Record) {
		return nil // the write before was of the same
	}
	err := s.c.o.Keeper.SaveMembers(m)
	if err == nil {
		s.onDisk = m
	}
	return err
}

func (s *storage) wrote(seen []member.Seen, err error) {
	s.failed = err != nil
	if err == nil {
		s.saved, s.loggedAt = seen, time.Time{}
		return
	}
	if now := s.c.o.Now(); s.loggedAt.IsZero() || now.Sub(s.loggedAt) >= logAgain {
		s.loggedAt = now
		s.c.log.Warn().Err(err).Int("members", len(seen)).Msg("cannot save membership; kept in memory only")
	}
}
