// Package cluster connects membership, ring, terms, trust and calls to other nodes: it
// plans for the services that this node owns, and applies the intents of those that plan
// for this host. A single host is a cluster of one and runs the same code.
//
// One goroutine owns the state of a Cluster and of its parts, as in mape.Loop: what takes
// time runs beside it and comes back as a closure (loop.go). The parts:
//
//	liveness       which members are alive: gossip, and direct probes
//	majority       whether this side of a partition has more than half of the voters
//	participation  whether this node may own services, and the hold-down after flaps
//	placement      the ring in force, and the wait before a changed one is
//	owner          reports of hosts, takeovers, plans, intents
//	applier        intents for this host
//	attestation    votes of owners for cuts on other hosts
//	images         exchange of what hosts know of images
//	storage        the membership record on the disk
package cluster

import (
	"cmp"
	"context"
	"errors"
	"net"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape"
	"github.com/effiscale/effiscale/mape/image"
	"github.com/effiscale/effiscale/mape/plan"
	"github.com/effiscale/effiscale/node/cluster/claim"
	"github.com/effiscale/effiscale/node/cluster/member"
	"github.com/effiscale/effiscale/node/cluster/quorum"
	"github.com/effiscale/effiscale/node/cluster/relay"
	"github.com/effiscale/effiscale/node/cluster/trust"
)

const (
	// tickEvery is the clock of this package.
	tickEvery = 250 * time.Millisecond
	// stalledAfter is a gap between two ticks after which nothing that was decided
	// before is acted upon: the others have replaced this node by then.
	stalledAfter = 2 * time.Second
	// replicas is R, how many nodes know each service; with attestation one more, so
	// that one of four may lie.
	replicas, replicasAttested = 3, 4
	// leaveWithin bounds the leave notice, saveWithin the last write: systemd and people wait.
	leaveWithin, saveWithin = 500 * time.Millisecond, 3 * time.Second
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

// Membership is the record of the other nodes on the disk.
type Membership struct {
	// Self is the node that wrote it. A clone of its host has another id, and was in none
	// of its lists.
	Self knowledge.NodeID `json:"self,omitempty"`
	Seen []member.Seen    `json:"seen"`
	quorum.Record
}

// Options are what a Cluster needs.
type Options struct {
	Identity *trust.Identity
	// Epoch numbers this start of the node, higher than all before: gossip carries it
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
	// Load is the CPU in use on this host, for the others to see; nil: not sent.
	Load func() knowledge.NanoCPU
	// Handlers are further calls that peers may make.
	Handlers map[string]relay.Handler
	// Conflict is called once for a living node with the name or the id of this one.
	// This one is to end when yield is true.
	Conflict func(other member.Peer, yield bool)
	Log      zerolog.Logger
	Now      func() time.Time
}

// Cluster is this node among the others.
type Cluster struct {
	*loop
	o       Options
	self    knowledge.NodeID
	log     zerolog.Logger
	host    Host
	members *member.Members
	relay   *relay.Relay
	sealer  *trust.Sealer
	opener  *trust.Opener
	terms   *claim.Terms
	claims  *claim.Claims

	left    atomic.Bool // the cluster; this node goes on alone
	changed chan struct{}
	view    atomic.Pointer[View]

	// Owned by the goroutine.
	lastTick      time.Time
	count         Counts
	liveness      *liveness
	majority      *majority
	participation *participation
	placement     *placement
	owner         *owner
	applier       *applier
	attestation   *attestation
	images        *images
	storage       *storage
}

// New binds the sockets. Run starts it; Close releases them.
func New(o Options, host Host) (*Cluster, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.DeliberateEvery <= 0 {
		o.DeliberateEvery = 10 * time.Second
	}
	if o.Known.Self != "" && o.Known.Self != o.Identity.ID() { // the disk of another node, which this one is a clone of
		o.Known.Record = quorum.Record{}
	}
	c := &Cluster{loop: newLoop(), o: o, self: o.Identity.ID(), log: o.Log, host: host, changed: make(chan struct{}, 1)}
	c.storage = newStorage(c)
	c.terms = claim.NewTerms(o.Terms, c.storage)
	c.claims = claim.NewClaims(c.ctx, c.self, c.terms)
	c.sealer, c.opener = &trust.Sealer{Identity: o.Identity, Epoch: o.Epoch}, trust.NewOpener(c.self, o.Epoch, c.known)
	c.liveness, c.majority, c.placement = newLiveness(c), newMajority(c), &placement{c: c}
	c.owner, c.applier = newOwner(c), newApplier(c)
	c.attestation, c.images = &attestation{c: c}, &images{c: c}
	c.participation = newParticipation(c)
	if err := c.bind(); err != nil {
		c.cancel()
		return nil, err
	}
	c.placement.begin()
	c.publish()
	return c, nil
}

// bind opens the sockets of gossip and relay.
func (c *Cluster) bind() (err error) {
	m := c.o.Member
	m.ID, m.Meta, m.Kept, m.Log, m.Now = c.self, c.o.Meta, c.o.Known.Seen, c.log, c.o.Now
	m.Meta.Started = int64(c.o.Epoch)
	m.Meta.Protocol, m.Meta.State, m.Meta.Relay = member.Protocol, member.Waiting, relayAddr(c.o.Listener, m)
	m.Meta.Voters = c.majority.gossip()
	m.Meta.Features |= member.FeatureVoters
	m.Changed, m.Conflict = c.noteChange, c.o.Conflict
	if c.members, err = member.Open(m); err != nil {
		return err
	}
	c.relay, err = relay.New(relay.Options{
		Self: c.o.Identity, Listener: c.o.Listener, Dial: c.o.Dial, Lookup: c.liveness.lookup, Known: c.known,
		Log: c.log, Now: c.o.Now, Handlers: c.handlers(),
	})
	if err != nil {
		return errors.Join(err, c.members.Close())
	}
	return nil
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
	at := cmp.Or(m.Advertise, m.Bind)
	host, _, err := net.SplitHostPort(at)
	if err != nil {
		host = at
	}
	return net.JoinHostPort(host, port)
}

// Run plans and applies until ctx ends, then leaves the cluster.
func (c *Cluster) Run(ctx context.Context) {
	defer c.calls.Ended()
	work, stop := context.WithCancel(c.ctx)
	defer stop()
	c.jobs.Go(func() {
		if err := c.relay.Serve(work); err != nil && work.Err() == nil {
			c.log.Error().Err(err).Msg("relay stopped serving")
		}
	})
	c.jobs.Go(func() { c.members.Run(work) })
	c.lastTick = c.o.Now()
	ticker := time.NewTicker(tickEvery)
	defer ticker.Stop()
	c.placement.follow(c.o.Now())
	for {
		select {
		case <-ctx.Done():
			c.end()
			return
		case <-ticker.C:
			c.tick(c.o.Now())
		case <-c.changed:
			c.placement.follow(c.o.Now())
		case f := <-c.calls.Calls():
			f()
		}
	}
}

// end releases what this node owns and sends the leave notice.
func (c *Cluster) end() {
	c.claims.EndAll(claim.ErrStopped)
	saved := c.storage.saveLast()
	if !c.left.Load() {
		c.members.Update(func(m *member.Meta) { m.State = member.Leaving })
		defer func() {
			if err := c.members.Leave(leaveWithin); err != nil {
				c.log.Debug().Err(err).Msg("leave notice not acknowledged")
			}
		}()
	}
	timer := time.NewTimer(saveWithin)
	defer timer.Stop()
	select {
	case <-saved:
	case <-timer.C:
		c.log.Warn().Stringer("after", saveWithin).Msg("membership not saved in time; the next start uses an older record")
	}
}

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

// Members is the membership.
func (c *Cluster) Members() *member.Members { return c.members }

func (c *Cluster) known(id knowledge.NodeID) bool {
	_, ok := c.liveness.lookup(id)
	return ok
}

func (c *Cluster) noteChange() {
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

// tick runs four times a second.
func (c *Cluster) tick(now time.Time) {
	gap := now.Sub(c.lastTick)
	c.lastTick = now
	if gap > stalledAfter {
		c.stalled(now, gap)
	}
	c.participation.update(now)
	if c.liveness.probing() {
		c.placement.follow(now)
	}
	c.placement.adoptIfDue(now)
	c.owner.tick(now)
	c.images.exchangeIfDue(now)
	c.placement.sendLoad()
	c.storage.saveIfDue(now)
	c.publish()
}

// stalled releases all claims after a gap: other nodes have taken them over by now.
func (c *Cluster) stalled(now time.Time, gap time.Duration) {
	c.log.Warn().Dur("gap_ms", gap).Int("claims", c.claims.Len()).Msg("event loop stalled; releasing owned services")
	c.count.Stalls++
	c.claims.EndAll(claim.ErrStalled)
	c.participation.flap(now)
}

// Report takes this host's reports; it is mape.Owners' only method.
func (c *Cluster) Report(reports []plan.Report) {
	c.calls.TryPost(func() { c.owner.ownReports(reports) }) // behind: the next ones come in ten seconds
}

var _ mape.Owners = (*Cluster)(nil)

// Leave takes this node out of the cluster; the daemon goes on alone. With a majority in
// sight it is, after a restart, the voter that it was. Without one it is the operator's
// statement that the others do not come back: after a restart it counts from itself.
func (c *Cluster) Leave() error {
	written := make(chan struct{})
	c.post(func() {
		c.left.Store(true)
		had := c.majority.has
		c.spawn(func(ctx context.Context) {
			defer close(written)
			if had {
				return
			}
			if err := c.majority.voters.Reset(ctx); err != nil {
				c.log.Warn().Err(err).Msg("cannot save membership; the next start uses the previous voter list")
			}
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

// Forget removes failed nodes with a name that are gone for good: they get a leave notice, and
// they are not counted as voters.
func (c *Cluster) Forget(ctx context.Context, name string) error {
	ids, err := c.members.Forget(name)
	if err != nil {
		return err
	}
	return c.majority.voters.Remove(ctx, ids...)
}

// Reached reports whether other members can call this node. One that they cannot call gets
// no reports, so it releases what it owns, for as long.
func (c *Cluster) Reached(yes bool) {
	c.post(func() { c.participation.reached(yes) })
}

// Uncertified counts cuts for this host that no quorum had agreed to.
func (c *Cluster) Uncertified() uint64 { return c.applier.uncertified.Load() }

// Refusals counts signed messages that were not opened, by cause.
func (c *Cluster) Refusals() trust.Refusals { return c.opener.Counts() }

// Settings are those that all members should have alike: attestation by quorum, and the
// timing of gossip.
func (c *Cluster) Settings() (attest bool, timing member.Timing) {
	return c.o.Attest, cmp.Or(c.o.Member.Timing, member.Fast)
}
