package cluster

import (
	"slices"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape/plan"
)

const (
	// duelFirst and duelMost space the takeovers of one service by a node that was
	// superseded in it: two that see different members do not fight all the time.
	duelFirst, duelMost = 2 * time.Second, time.Minute
)

// service is what this node knows of one service, wherever it runs.
type service struct {
	key     knowledge.ServiceKey
	reports map[knowledge.NodeID]*held
	mine    bool // it runs on this host
	dirty   bool // there is news to plan for
	seq     uint64
	taking  bool
	tookAt  time.Time // this node, the last time that it tried
	takeAt  time.Time // not before
	duel    time.Duration
	heard   knowledge.Term // the highest of any host
}

// tally is how much one host tells of.
type tally struct{ services, replicas int }

// forget drops a host's report of a service.
func (c *Cluster) forget(s *service, host knowledge.NodeID) {
	all := c.heardOf[host]
	all.services--
	all.replicas -= len(s.reports[host].Replicas)
	if c.heardOf[host] = all; all.services == 0 {
		delete(c.heardOf, host)
	}
	delete(s.reports, host)
}

// within reports whether a report came in the last n intervals: its host's or this
// node's, whichever are longer.
func (c *Cluster) within(now time.Time, h *held, n time.Duration) bool {
	return now.Sub(h.at) <= n*max(c.o.DeliberateEvery, h.Every)
}

// softKeeper lets a node that is alone go on without a disk: nobody else ever saw
// its terms, so nobody can be told one twice.
type softKeeper struct {
	Keeper
	c *Cluster
}

func (k *softKeeper) SaveTerms(t map[knowledge.ServiceKey]knowledge.Term) error {
	err := k.Keeper.SaveTerms(t)
	if err != nil && k.c.apart.Load() {
		k.c.log.Debug().Err(err).Msg("terms are kept in memory: this node is alone")
		return nil
	}
	return err
}

// yield leaves the service alone for a while after a takeover that did not last, for
// longer each time. Where it had lasted, the other one comes from a side that was
// cut off, and is followed at once.
func (s *service) yield(now time.Time) {
	if now.Sub(s.tookAt) > max(4*s.duel, 2*duelFirst) {
		s.duel = 0
		return
	}
	s.duel = min(max(2*s.duel, duelFirst), duelMost)
	s.takeAt = s.tookAt.Add(s.duel)
}

// agree ends a duel that was none: the ring gives the service to whom this node was
// superseded by, who knew of that a little earlier.
func (s *service) agree(owner knowledge.NodeID) {
	if s.duel > 0 && owner == s.heard.Owner {
		s.duel, s.takeAt = 0, time.Time{}
	}
}

// held is the newest report of one host.
type held struct {
	plan.Report
	at      time.Time
	planned knowledge.Term // the last one in which it was planned for
}

// due reports whether there is something to declare for this host: it said something
// since, the term is another one, or what other hosts know counts for it. All else
// that a plan depends on is in its own report, so three hosts of a service do not
// make nine intents of three reports.
func (h *held) due(t knowledge.Term) bool {
	return h.planned != t || slices.ContainsFunc(h.Replicas, func(r plan.Reported) bool { return r.Facts.NeedsImage() })
}

// probe is the answer of a node that gossip calls dead.
type probe struct {
	asking bool
	alive  bool
	at     time.Time
}

// Counts are for the metrics.
type Counts struct {
	Takeovers, Superseded, Rings    uint64
	Dropped, SendErrors             uint64
	ReportsRefused, ReportsTaken    uint64
	IntentsObeyed, IntentsRefused   uint64
	IntentsSent, Thaws, FalseAlarms uint64
	Votes                           uint64
	ImagesTaken, ImagesRefused      uint64
}
