// Package cluster makes one cluster of many daemons: it introduces membership,
// ring, terms, trust and calls to each other, plans for the services that this node
// owns, and obeys those that plan for this host. A single host is a cluster of one
// and runs the same code.
//
// One goroutine owns everything in a Cluster, as in mape.Loop: what takes time runs
// beside it and comes back as a closure.
package cluster

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape"
	"github.com/effiscale/effiscale/mape/image"
	"github.com/effiscale/effiscale/mape/plan"
	"github.com/effiscale/effiscale/node/cluster/claim"
	"github.com/effiscale/effiscale/node/cluster/member"
	"github.com/effiscale/effiscale/node/cluster/relay"
	"github.com/effiscale/effiscale/node/cluster/ring"
	"github.com/effiscale/effiscale/node/cluster/trust"
)

const (
	// beat is the clock of this package: ownership is looked at four times a second.
	beat = 250 * time.Millisecond
	// frozenAfter is a gap between two beats after which nothing that was decided
	// before is acted upon: the others have given this node up by then.
	frozenAfter = 2 * time.Second
	// asksMost bounds the closures that wait for the goroutine.
	asksMost = 1024
	// copies is R, how many nodes know each service; with attestation one more, so
	// that one of four may lie.
	copies, copiesAttested = 3, 4
)

// Host is the loop of this host as the cluster needs it.
type Host interface {
	ApplyIntents(ctx context.Context, intents []knowledge.Intent) (mape.IntentResult, error)
	Envelopes(ctx context.Context, key knowledge.ServiceKey) (map[knowledge.ContainerID]knowledge.Envelope, error)
	ReportSoon(ctx context.Context) error
	ImageDigests(ctx context.Context) ([]image.Digest, error)
	ImageCopies(ctx context.Context, have []image.Digest, most int) ([]image.Copy, error)
	MergeImages(ctx context.Context, copies []image.Copy) (int, error)
}

// Keeper is the disk: what is saved is durable when nil comes back.
type Keeper interface {
	claim.Saver
	SaveMembers(Membership) error
}

// Membership is what a node remembers of the others.
type Membership struct {
	// Self is the node that remembers. Another one, a clone of its host, was in none of
	// its views.
	Self knowledge.NodeID `json:"self,omitempty"`
	Seen []member.Seen    `json:"seen"`
	// Stable are the members of the last view that a majority of the one before held.
	Stable []knowledge.NodeID `json:"stable"`
	Ballot
}

// Options are what a Cluster needs.
type Options struct {
	Identity *trust.Identity
	// Epoch numbers this life of the node, higher than all before: gossip carries it
	// as Meta.Started, messages name that of their recipient.
	Epoch  uint64
	Meta   member.Meta
	Member member.Options // ID, Meta, Kept, Changed, Conflict, Log and Now are filled in
	// Listener is the relay's; Dial is nil for TCP.
	Listener net.Listener
	Dial     func(ctx context.Context, addr string) (net.Conn, error)
	// Attest: cuts on other hosts need the agreement of a quorum of owners.
	Attest bool
	// DeliberateEvery is the interval of reports.
	DeliberateEvery time.Duration
	// Starts is how often the daemon was started of late; from the second on it
	// waits longer before it owns anything.
	Starts int
	Terms  map[knowledge.ServiceKey]knowledge.Term
	Known  Membership
	Keeper Keeper
	// Load is the CPU in use on this host, for the others to see; nil: not told.
	Load func() knowledge.NanoCPU
	// Handlers are further calls that peers may make.
	Handlers map[string]relay.Handler
	// Conflict is told once of a living node with the name or the id of this one.
	// This one is to end when yield is true.
	Conflict func(other member.Peer, yield bool)
	Log      zerolog.Logger
	Now      func() time.Time
}

// Cluster is this node among the others.
type Cluster struct {
	o       Options
	self    knowledge.NodeID
	log     zerolog.Logger
	members *member.Members
	relay   *relay.Relay
	sealer  *trust.Sealer
	opener  *trust.Opener
	terms   *claim.Terms
	book    *claim.Book
	host    Host

	asks chan func()
	// turns is a token for whoever obeys: words reach the loop in the order in which
	// their terms were admitted.
	turns chan struct{}
	// writing is a token for whoever writes the membership down, and guards onDisk.
	writing chan struct{}
	onDisk  Membership
	changed chan struct{}
	stopped chan struct{}
	jobs    sync.WaitGroup
	ctx     context.Context // of the jobs
	cancel  context.CancelFunc
	left    atomic.Bool
	view    atomic.Pointer[View]
	// uncertified counts cuts that no quorum had agreed to.
	uncertified atomic.Uint64
	// apart: there is no other node, so terms that are kept in memory fence as well.
	apart atomic.Bool

	// Owned by the goroutine.
	lastBeat time.Time
	ring     *ring.Ring
	next     candidate
	state    standing
	services map[knowledge.ServiceKey]*service
	heardOf  map[knowledge.NodeID]tally // what each host tells of
	warned   map[knowledge.NodeID]time.Time
	expired  time.Time
	reports  outbox[plan.Report]
	intents  outbox[Declared]
	obeyed   map[knowledge.ServiceKey]heard
	shown    map[knowledge.ServiceKey]knowledge.Term // of obeyed, in the views; nil: it has changed
	asOf     struct {                                // see peers
		version uint64
		peers   []member.Peer
	}
	imagesAt time.Time
	turn     int // questions about images so far, and caughtUp those that brought nothing new
	caughtUp int
	savedAt  time.Time
	saved    Membership // what is known to be on the disk
	saving   bool
	toldDisk time.Time // when it was last said that the disk does not take it
	count    Counts
	unowned  bool // a service came that nobody may own yet
	alive    map[knowledge.NodeID]probe
	said     struct { // to the others
		owned    uint32
		load     uint8
		views    member.Views
		features uint32
	}
}

// New binds the sockets. Run starts it; Close lets go.
func New(o Options, host Host) (*Cluster, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.DeliberateEvery <= 0 {
		o.DeliberateEvery = 10 * time.Second
	}
	c := &Cluster{
		o: o, self: o.Identity.ID(), log: o.Log, host: host,
		asks: make(chan func(), asksMost), turns: make(chan struct{}, 1), writing: make(chan struct{}, 1), changed: make(chan struct{}, 1), stopped: make(chan struct{}),
		services: map[knowledge.ServiceKey]*service{}, obeyed: map[knowledge.ServiceKey]heard{}, heardOf: map[knowledge.NodeID]tally{}, warned: map[knowledge.NodeID]time.Time{}, alive: map[knowledge.NodeID]probe{},
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.terms = claim.NewTerms(o.Terms, &softKeeper{Keeper: o.Keeper, c: c})
	c.book = claim.NewBook(c.ctx, c.self, c.terms)
	c.sealer, c.opener = &trust.Sealer{Identity: o.Identity, Epoch: o.Epoch}, trust.NewOpener(c.self, o.Epoch, c.known)
	c.reports = newOutbox(c, "reports", c.sendReports)
	c.intents = newOutbox(c, "intents", c.sendIntents)
	c.state.begin(c)
	var err error
	m := o.Member
	m.ID, m.Meta, m.Kept, m.Log, m.Now = c.self, o.Meta, o.Known.Seen, o.Log, o.Now
	m.Meta.Started = int64(o.Epoch)
	m.Meta.Protocol, m.Meta.State, m.Meta.Relay = member.Protocol, member.Waiting, relayAddr(o.Listener, m)
	views, features := c.state.ballot.says()
	m.Meta.Views, m.Meta.Features = views, m.Meta.Features|features
	m.Changed, m.Conflict = c.noteChange, o.Conflict
	if c.members, err = member.Open(m); err != nil {
		c.cancel()
		return nil, err
	}
	c.relay, err = relay.New(relay.Options{
		Self: o.Identity, Listener: o.Listener, Dial: o.Dial, Lookup: c.lookup, Known: c.known,
		Log: o.Log, Now: o.Now, Handlers: c.handlers(),
	})
	if err != nil {
		c.cancel()
		return nil, errors.Join(err, c.members.Close())
	}
	c.ring = ring.New(nil)
	c.apart.Store(c.alone())
	if c.alone() {
		c.ring, c.state.settled = ring.New([]ring.Node{{ID: c.self, Eligible: true}}), true
	}
	c.publish()
	return c, nil
}

// relayAddr is where peers reach the relay: at its own address where that is one, or
// else, or behind another one, at the host that gossip advertises.
func relayAddr(l net.Listener, m member.Options) string {
	own, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		return l.Addr().String()
	}
	if ip := net.ParseIP(own); m.Advertise == "" && ip != nil && !ip.IsUnspecified() {
		return l.Addr().String()
	}
	at := m.Advertise
	if at == "" {
		at = m.Bind
	}
	host, _, err := net.SplitHostPort(at)
	if err != nil {
		host = at
	}
	return net.JoinHostPort(host, port)
}

// Run plans and obeys until ctx ends, then leaves the cluster.
func (c *Cluster) Run(ctx context.Context) {
	defer close(c.stopped)
	work, stop := context.WithCancel(c.ctx)
	defer stop()
	c.jobs.Go(func() {
		if err := c.relay.Serve(work); err != nil && work.Err() == nil {
			c.log.Error().Err(err).Msg("the calls of other nodes are not answered any more")
		}
	})
	c.jobs.Go(func() { c.members.Run(work) })
	c.lastBeat = c.o.Now()
	ticker := time.NewTicker(beat)
	defer ticker.Stop()
	c.adopt(c.o.Now())
	for {
		select {
		case <-ctx.Done():
			c.end()
			return
		case <-ticker.C:
			c.tick(c.o.Now())
		case <-c.changed:
			c.adopt(c.o.Now())
		case ask := <-c.asks:
			ask()
		}
	}
}

// end gives up what this node owns and says goodbye.
func (c *Cluster) end() {
	c.book.EndAll(claim.ErrStopped)
	if !c.left.Load() {
		c.state.ballot.goodbye() // on the disk before others count on it
	}
	saved := c.saveLast()
	if !c.left.Load() {
		c.members.Update(func(m *member.Meta) { m.State = member.Leaving })
		defer func() {
			if err := c.members.Leave(leaveWithin); err != nil {
				c.log.Debug().Err(err).Msg("nobody heard that this node leaves")
			}
		}()
	}
	timer := time.NewTimer(saveWithin)
	defer timer.Stop()
	select {
	case <-saved:
	case <-timer.C:
		c.log.Warn().Stringer("after", saveWithin).Msg("the membership is not written down in time: the next start begins with an older one")
	}
}

// leaveWithin bounds the goodbye, saveWithin the last write: systemd and people wait.
const leaveWithin, saveWithin = 500 * time.Millisecond, 3 * time.Second

// Close ends all that New and Run began. Run has ended, or was never called.
func (c *Cluster) Close() error {
	c.cancel()
	c.relay.Close()
	err := c.members.Close()
	c.jobs.Wait()
	return err
}

// Addr is the gossip address, and the relay's.
func (c *Cluster) Addr() (gossip, calls string) {
	return c.members.Addr(), c.o.Listener.Addr().String()
}

// Self is this node's id.
func (c *Cluster) Self() knowledge.NodeID { return c.self }

// Relay makes calls to peers.
func (c *Cluster) Relay() *relay.Relay { return c.relay }

// Name is that of the cluster, in force since New.
func (c *Cluster) Name() string { return c.o.Member.Cluster }

// Members is who is there.
func (c *Cluster) Members() *member.Members { return c.members }

var (
	errBusy    = errors.New("this node has too much to do")
	errStopped = errors.New("this node stops")
)

// do runs f on the goroutine and waits for it; a goroutine that is behind refuses.
// With an error f has not run, and never will.
func (c *Cluster) do(ctx context.Context, f func()) error {
	ran := make(chan struct{})
	var begun atomic.Bool // by the goroutine, or never by the caller
	select {
	case c.asks <- func() {
		if begun.CompareAndSwap(false, true) {
			f()
			close(ran)
		}
	}:
	case <-c.stopped:
		return errStopped
	case <-ctx.Done():
		return errBusy
	}
	var err error
	select {
	case <-ran:
		return nil
	case <-c.stopped:
		err = errStopped
	case <-ctx.Done():
		err = ctx.Err()
	}
	if begun.CompareAndSwap(false, true) {
		return err
	}
	<-ran
	return nil
}

// job runs f beside the goroutine; its result comes back by back.
func (c *Cluster) job(f func(ctx context.Context)) {
	c.jobs.Go(func() { f(c.ctx) })
}

// back queues what a job brings; it is dropped when the cluster ends.
func (c *Cluster) back(f func()) {
	select {
	case c.asks <- f:
	case <-c.stopped:
	case <-c.ctx.Done():
	}
}

func (c *Cluster) noteChange() {
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

// tick is one beat.
func (c *Cluster) tick(now time.Time) {
	gap := now.Sub(c.lastBeat)
	c.lastBeat = now
	if gap > frozenAfter {
		c.thaw(now, gap)
	}
	c.standing(now)
	if len(c.alive) > 0 {
		c.adopt(now)
	}
	c.adoptIfDue(now)
	c.takeDue(now)
	c.planDue(now)
	c.expire(now)
	c.reports.retry(now)
	c.intents.retry(now)
	c.exchangeIfDue(now)
	c.tellLoad()
	c.saveIfDue(now)
	c.publish()
}

// thaw is what happens after a gap: the claims of before are others' by now.
func (c *Cluster) thaw(now time.Time, gap time.Duration) {
	c.log.Warn().Dur("gap_ms", gap).Int("claims", c.book.Len()).Msg("this node was frozen; what it owned is given up until it has looked around")
	c.count.Thaws++
	c.book.EndAll(claim.ErrFrozen)
	c.state.flap(c, now)
}

// Report takes this host's reports; it is mape.Owners' only method.
func (c *Cluster) Report(reports []plan.Report) {
	select {
	case c.asks <- func() { c.ownReports(reports) }:
	default: // behind: the next ones come in ten seconds
	}
}

var _ mape.Owners = (*Cluster)(nil)

// Leave takes this node out of the cluster; the daemon goes on alone. On the side of a
// majority that is a stop in order: after a restart it is one of the members that it was
// one of. Where none is in sight it is the operator's word that the others do not come
// back: the next life counts from itself.
func (c *Cluster) Leave() error {
	written := make(chan struct{})
	c.back(func() {
		c.left.Store(true)
		if c.state.majority {
			c.state.ballot.goodbye()
		} else {
			c.state.ballot = newBallot(c.self, Membership{}, c.o.Now())
		}
		saved := c.saveLast()
		c.job(func(context.Context) {
			<-saved
			close(written)
		})
	})
	timer := time.NewTimer(saveWithin)
	defer timer.Stop()
	select {
	case <-written: // before others count on it
	case <-timer.C:
	case <-c.ctx.Done():
	}
	c.left.Store(true)
	c.members.Update(func(m *member.Meta) { m.State = member.Leaving })
	defer c.noteChange()
	return c.members.Leave(leaveWithin)
}

// Uncertified counts cuts for this host that no quorum had agreed to.
func (c *Cluster) Uncertified() uint64 { return c.uncertified.Load() }

// Refusals counts signed messages that were not opened, by cause.
func (c *Cluster) Refusals() trust.Refusals { return c.opener.Counts() }
