package cluster

import (
	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/node/cluster/member"
	"github.com/effiscale/effiscale/node/cluster/ring"
)

// Counts are for the metrics.
type Counts struct {
	Takeovers, Superseded, Rings  uint64
	Dropped, SendErrors           uint64
	ReportsRefused, ReportsTaken  uint64
	IntentsObeyed, IntentsRefused uint64
	IntentsSent, Stalls, Flaps    uint64
	FalseAlarms, Votes            uint64
	ImagesTaken, ImagesRefused    uint64
}

// View is the state of the cluster as of this node's last tick: for status, without
// calls to other nodes.
type View struct {
	Ring     *ring.Ring
	State    member.State
	Why      string // it is waiting
	Majority bool
	// Voters is the number of the list that a majority is counted in; 0: this node was
	// never in one with others and counts from itself.
	Voters   uint64
	Expected int // members that are to be there: see majority.expected
	Claims   int
	Copies   int
	Waiting  int // reports and intents that are not acknowledged yet
	Counts   Counts
	Terms    map[knowledge.ServiceKey]knowledge.Term // of the intents in force on this host
}

// publish makes the view of this tick.
func (c *Cluster) publish() {
	c.view.Store(&View{
		Ring: c.placement.ring, State: c.participation.state, Why: c.participation.why(c.o.Now()),
		Majority: c.majority.has, Voters: c.majority.status.List.Number, Expected: c.majority.expected(),
		Claims: c.claims.Len(), Copies: c.owner.copies(), Waiting: c.owner.reports.waiting() + c.owner.intents.waiting(),
		Counts: c.count, Terms: c.applier.terms(),
	})
}

// View is the newest one.
func (c *Cluster) View() View { return *c.view.Load() }
