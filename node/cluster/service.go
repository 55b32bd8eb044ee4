package cluster

import (
	"slices"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape/plan"
)

const (
	// backoffFirst and backoffMost space the takeovers of one service by a node that was
	// superseded in it: two that see different members do not compete all the time.
	backoffFirst, backoffMost = 2 * time.Second, time.Minute
)

// service is what this node knows of one service, wherever it runs.
type service struct {
	key     knowledge.ServiceKey
	reports map[knowledge.NodeID]*hostReport
	local   bool // it runs on this host
	dirty   bool // there is news to plan for
	seq     uint64
	taking  bool
	tookAt  time.Time // of this node's last takeover, or try
	takeAt  time.Time // not before
	backoff time.Duration
	highest knowledge.Term // of any host
}

// yield leaves the service alone for a while after a takeover that did not last, for
// longer each time. Where it had lasted, the other owner comes from a side that was
// cut off, and is followed at once.
func (s *service) yield(now time.Time) {
	if now.Sub(s.tookAt) > max(4*s.backoff, 2*backoffFirst) {
		s.backoff = 0
		return
	}
	s.backoff = min(max(2*s.backoff, backoffFirst), backoffMost)
	s.takeAt = s.tookAt.Add(s.backoff)
}

// agree ends a back-off: the ring gives the service to the node that superseded this one,
// so it was a hand-over.
func (s *service) agree(owner knowledge.NodeID) {
	if s.backoff > 0 && owner == s.highest.Owner {
		s.backoff, s.takeAt = 0, time.Time{}
	}
}

// hostReport is the newest report of one host.
type hostReport struct {
	plan.Report
	at      time.Time
	planned knowledge.Term // the last one in which it was planned for
}

// due reports whether there is something to declare for this host: a newer report, another
// term, or what other hosts know counts for it. All else that a plan depends on is in its
// own report, so three hosts of a service do not make nine intents of three reports.
func (r *hostReport) due(t knowledge.Term) bool {
	return r.planned != t || slices.ContainsFunc(r.Replicas, func(r plan.Reported) bool { return r.Facts.NeedsImage() })
}

// tally is how much one host reports.
type tally struct{ services, replicas int }
