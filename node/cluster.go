package node

import (
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/knowledge/store"
	"github.com/effiscale/effiscale/mape/plan"
	"github.com/effiscale/effiscale/node/cluster"
	"github.com/effiscale/effiscale/node/cluster/member"
	"github.com/effiscale/effiscale/node/cluster/trust"
	"github.com/effiscale/effiscale/node/config"
	"github.com/effiscale/effiscale/node/ops"
)

const (
	docMembers = "members"
	docLife    = "life" // the incarnation
)

// ErrConflict: another live node has this one's name or identity (exit code 78).
var ErrConflict = errors.New("node identity conflict")

// loadKey reads the node's key. Of two nodes with the same key the later ends with
// ErrConflict.
func (n *Node) loadKey(cfg config.Config) error {
	id, made, err := trust.LoadKey(cfg.Node.DataDir)
	if err != nil {
		return configFault(err)
	}
	if made {
		n.log.Info().Str("id", string(id.ID())).Msg("new node identity: node.key in node.data_dir")
	}
	n.key = id
	return nil
}

// keeper is the store as the cluster uses it.
type keeper struct{ s *store.Store }

var _ cluster.Keeper = keeper{}

// SaveTerms adds terms; they are on the disk when it returns nil.
func (k keeper) SaveTerms(terms map[knowledge.ServiceKey]knowledge.Term) error {
	return k.s.Terms.Put(terms)
}

func (k keeper) SaveMembers(m cluster.Membership) error { return k.s.Documents.Put(docMembers, m) }

// nextIncarnation numbers the runs of this node: messages that it signs now come after all
// earlier ones, whatever the clock shows.
func (n *Node) nextIncarnation() uint64 {
	var number uint64
	if _, err := n.store.Documents.Get(docLife, &number); err != nil {
		n.unreadable("incarnation", err)
	}
	number = max(number+1, uint64(max(time.Now().Unix(), 0))) // a lost disk must not start over
	if err := n.store.Documents.Put(docLife, number); err != nil {
		n.log.Warn().Err(err).Msg("cannot persist the node's incarnation; keeping it in memory")
	}
	return number
}

// openCluster binds the sockets of gossip and calls.
func (n *Node) openCluster(cfg config.Config, keys [][]byte) error {
	c := cfg.Cluster
	o := cluster.Options{
		Identity: n.key, Epoch: n.nextIncarnation(), Attest: c.Attestation == "quorum",
		DeliberateEvery: cfg.Monitor.DeliberateEvery, Starts: n.before.starts, Terms: n.store.Terms.All(),
		Keeper: keeper{n.store}, Log: n.log, Conflict: n.conflict, Handlers: n.ops.Handlers(), Load: n.machine.load,
		Meta: member.Meta{Name: n.identity.Name, Zone: cfg.Node.Zone, Version: n.o.Version[:min(len(n.o.Version), 32)],
			Cores: knowledge.NanoCPU(n.machine.host().CPUs) * knowledge.OneCPU, Memory: n.machine.host().Memory},
	}
	_, err := n.store.Documents.Get(docMembers, &o.Known)
	n.unreadable("membership", err)
	known := map[string]string{}
	_, err = n.store.Documents.Get(ops.DocNeighbors, &known)
	n.unreadable("neighbors", err)
	o.Member = member.Options{
		Cluster: c.Name, Bind: c.BindAddress().String(), Advertise: c.Advertise, Keys: keys,
		Timing: member.Timing(c.Timing),
		Join:   c.Peers(), Introduced: ops.Endpoints(known), AllowCIDRs: c.Allow, UDPBufferSize: c.PacketSize,
	}
	err = n.bindCluster(o, c.RelayAddress().String())
	if errors.Is(err, syscall.EADDRINUSE) && cfg.OriginOf("cluster.bind").Source == config.FromDefault {
		// Docker Swarm gossips on the same port; a node without configured peers can use any
		// other.
		n.log.Warn().Err(err).Msg("cluster.bind is in use; gossiping on a free loopback port")
		o.Member.Bind = "127.0.0.1:0"
		err = n.bindCluster(o, "127.0.0.1:0")
	}
	if err != nil {
		return err
	}
	n.ops.Connect(n.cluster)
	n.push("cluster", n.cluster.Close)
	return nil
}

func (n *Node) bindCluster(o cluster.Options, calls string) (err error) {
	if o.Listener, err = net.Listen("tcp", calls); err != nil {
		return fmt.Errorf("cannot answer calls of other nodes: %w; set cluster.relay", err)
	}
	if n.cluster, err = cluster.New(o, n.loop); err != nil {
		return errors.Join(fmt.Errorf("cannot gossip on %s: %w; set cluster.bind", o.Member.Bind, err), o.Listener.Close())
	}
	return nil
}

// conflict ends this node where it has to yield to another one.
func (n *Node) conflict(other member.Peer, yield bool) {
	if !yield {
		n.log.Error().Str("other", other.Addr).Str("name", other.Name).
			Msg("another node has this node's name or identity; it joined later and has to stop")
		return
	}
	select {
	case n.conflicts <- fmt.Errorf("%w: %s at %s has the name %q or the identity of this one and joined before: "+
		"give this host another node.name, or remove node.key from its node.data_dir if the directory was copied",
		ErrConflict, other.ID.Short(), other.Addr, other.Name):
	default:
	}
}

// owners hands this host's reports to the cluster.
type owners struct{ n *Node }

// Report sends reports to the owners of their services.
func (o owners) Report(reports []plan.Report) {
	if o.n.cluster != nil {
		o.n.cluster.Report(reports)
	}
}
