package doctor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/node/api"
	"github.com/effiscale/effiscale/node/config"
	"github.com/effiscale/effiscale/node/view"
)

// skewMost is by how many seconds clocks may differ before anybody is told: histories of
// several hosts are in the order of their clocks.
const skewMost = 2

// attestLeast is how many owners a quorum needs to outvote one that lies.
const attestLeast = 4

// checkCluster asks the daemon of this host, if it runs, for what is known of the others.
func checkCluster(ctx context.Context, cfg config.Config) []api.Check {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	c := api.NewClient(cfg.API.Socket)
	m, err := api.OpMembers.Call(ctx, c, api.None{})
	if errors.Is(err, api.ErrNotRunning) {
		return nil // it was said
	}
	k, keysErr := api.OpKeys.Call(ctx, c, api.None{})
	if err = errors.Join(err, keysErr); err != nil {
		return []api.Check{verdict("cluster", "warning", err, "", "see `effiscale members` and the daemon's log")}
	}
	return Cluster(m, k, len(cfg.Cluster.Join) > 0)
}

// crew is what is checked of the members: who is there, who is not, and who is both.
type crew struct {
	api.Members
	alive, down []api.MemberView
}

// Cluster judges a cluster from what one node sees and all say; looks: this node
// looks for others.
func Cluster(m api.Members, k api.Keys, looks bool) []api.Check {
	c := crew{Members: m}
	for _, v := range m.Members {
		switch v.Status {
		case "alive", "suspect":
			c.alive = append(c.alive, v)
		case "failed":
			c.down = append(c.down, v)
		}
	}
	var out []api.Check
	switch {
	case len(m.Members) == 1 && m.Members[0].Status == "left":
		out = append(out, verdict("cluster", "warning", errors.New("this node has left the cluster"), "",
			"it plans for its own host alone: restart the daemon to join again"))
	case len(m.Members) == 1 && m.Expected <= 1:
		var err error
		if looks {
			err = errors.New("none of the nodes of cluster.join is a member")
		}
		out = append(out, verdict("cluster", "warning", err, "this node is alone, and looks for nobody",
			"`effiscale join ADDR` says of each why not: its daemon, the ports (7946 TCP and UDP, 7947 TCP), the key"))
	default:
		out = append(out, c.presence(), c.majority(), c.rings(), c.keys(k), c.calls(), c.clocks(), c.versions(), c.names(), c.alike())
	}
	out = append(out, c.attestation()...)
	for _, p := range m.Problems { // each says what to do
		out = append(out, verdict("cluster problem", "warning", errors.New(p), "", ""))
	}
	return out
}

// those lists what is said of members, in their order; nil: nothing.
func those(members []api.MemberView, said func(api.MemberView) string) error {
	var out []string
	for _, v := range members {
		if s := said(v); s != "" {
			out = append(out, v.Name+" "+s)
		}
	}
	if out == nil {
		return nil
	}
	return errors.New(view.Names(out))
}

func (c crew) presence() api.Check {
	err := those(c.Members.Members, func(v api.MemberView) string {
		switch {
		case v.Status == "failed":
			return "is down since " + v.Since.UTC().Format(time.DateTime+" UTC")
		case v.Status == "suspect":
			return "does not answer gossip"
		case v.Status == "alive" && v.State == "waiting" && v.Owns > 0: // where most wait, who waits plans
			return strings.TrimSuffix(fmt.Sprintf("waits, and plans for services meanwhile (%d): %s", v.Owns, v.Note), ": ")
		case v.Status == "alive" && v.State == "waiting":
			return strings.TrimSuffix("waits, and plans for nothing: "+v.Note, ": ")
		}
		return ""
	})
	return verdict("cluster members", "warning", err, fmt.Sprintf("%d, all alive", len(c.alive)),
		"on those hosts: `systemctl status effiscale`, and the network; other nodes plan for their services meanwhile. One that is gone for good is forgotten after 72 h, or at once with `effiscale leave NAME`")
}

func (c crew) majority() api.Check {
	err := those(c.alive, func(v api.MemberView) string {
		if v.Self && !c.Majority || v.Majority != nil && !*v.Majority {
			return "sees no majority"
		}
		return ""
	})
	if err != nil {
		err = fmt.Errorf("of %d nodes: %w", c.Expected, err)
	}
	return verdict("cluster majority", "warning", err, fmt.Sprintf("seen by all, of %d", c.Expected),
		"mend the network between the hosts, or start the daemons that are missing: sizes are kept on either side, counts of replicas are not changed")
}

func (c crew) rings() api.Check {
	err := those(c.alive, func(v api.MemberView) string {
		if !v.Self && v.Ring != c.Ring {
			return "has ring " + v.Ring
		}
		return ""
	})
	return verdict("cluster rings", "warning", err, "all have "+c.Ring,
		fmt.Sprintf("here it is %s: nodes disagree about who is there, and so about who plans for what. It passes seconds after a change; if it stays, compare `effiscale members` of those nodes", c.Ring))
}

func (c crew) keys(k api.Keys) api.Check {
	var said []string
	senders := 0
	for _, v := range k.Keys {
		if v.Senders > 0 {
			senders++
		}
		if v.Nodes < v.Of-len(c.down) {
			said = append(said, fmt.Sprintf("%d of %d nodes hold the key %s", v.Nodes, v.Of-len(c.down), v.Fingerprint))
		}
	}
	if senders > 1 {
		said = append(said, "not all send with the same key")
	}
	var err error
	if said != nil {
		err = errors.New(strings.Join(said, "; "))
	}
	fine := fmt.Sprintf("%d, the same on all that answer", len(k.Keys))
	if len(k.Keys) == 0 {
		fine = "none: gossip is not encrypted, and stays on loopback"
	}
	return verdict("cluster keys", "warning", err, fine, "`effiscale keys list` shows which; `effiscale keys add` the one that is missing, then `use` one on all, then `remove` the others")
}

func (c crew) calls() api.Check {
	err := those(c.alive, func(v api.MemberView) string {
		if v.Error != "" {
			return "does not answer calls at " + v.Relay + ": " + view.CallCause(v.Error)
		}
		return ""
	})
	return verdict("cluster calls", "warning", err, "answered by all", "let cluster.relay's port (TCP, 7947 unless set) through, both ways: reports and plans go over it, and without it a host cuts nothing")
}

func (c crew) clocks() api.Check {
	err := those(c.alive, func(v api.MemberView) string {
		switch {
		case v.ClockSkew == nil:
		case *v.ClockSkew > skewMost:
			return fmt.Sprintf("is %s ahead", knowledge.Span(time.Duration(*v.ClockSkew*float64(time.Second)).Round(time.Second)))
		case *v.ClockSkew < -skewMost:
			return fmt.Sprintf("is %s behind", knowledge.Span(time.Duration(-*v.ClockSkew*float64(time.Second)).Round(time.Second)))
		}
		return ""
	})
	return verdict("cluster clocks", "warning", err, fmt.Sprintf("within %d s of this one's", skewMost),
		"set the clocks (timedatectl set-ntp true): nothing is decided by them, but histories of several hosts come in a wrong order, and a pause until an hour ends at another one")
}

// differ says who has something else than this node; those that did not say are left out.
func (c crew) differ(what string, of func(api.MemberView) string) error {
	var own string
	for _, v := range c.alive {
		if v.Self {
			own = of(v)
		}
	}
	err := those(c.alive, func(v api.MemberView) string {
		if s := of(v); s != "" && s != own {
			return "has " + s
		}
		return ""
	})
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s here is %s, but %w", what, own, err)
}

func (c crew) versions() api.Check {
	err := c.differ("the version", func(v api.MemberView) string { return v.Version })
	return verdict("cluster versions", "warning", err, "the same on all", "replace the older ones, one host after the other: `systemctl restart effiscale`, and wait until `effiscale members` shows it alive")
}

func (c crew) names() api.Check {
	times := map[string]int{}
	for _, v := range c.alive {
		times[v.Name]++
	}
	err := those(c.Members.Members, func(v api.MemberView) string {
		switch {
		case v.Status == "refused":
			return "at " + v.Address + " was refused: another node has this name"
		case slices.Contains([]string{"alive", "suspect"}, v.Status) && times[v.Name] > 1:
			return "at " + v.Address + " is not alone with this name"
		}
		return ""
	})
	return verdict("cluster names", "warning", err, "each node has its own", "give each host another node.name; HOST/NAME, status and members tell nodes apart by it")
}

func (c crew) alike() api.Check {
	err := errors.Join(c.differ("cluster.timing", func(v api.MemberView) string { return v.Timing }),
		c.differ("cluster.attestation", func(v api.MemberView) string { return v.Attestation }))
	return verdict("cluster settings", "warning", err, "timing and attestation are the same on all", "set both alike on all nodes, and restart their daemons")
}

// attestation needs enough owners; nothing is to be said without it.
func (c crew) attestation() []api.Check {
	i := slices.IndexFunc(c.alive, func(v api.MemberView) bool { return v.Self })
	if i < 0 || c.alive[i].Attestation != "quorum" {
		return nil
	}
	var err error
	if n := len(c.alive); n < attestLeast {
		err = fmt.Errorf("a quorum needs %d owners, and %d of the cluster's nodes are alive: an owner is believed inside the guards of each host, as without it", attestLeast, n)
	}
	return []api.Check{verdict("attestation", "warning", err, "three of four owners have to agree to a cut on another host",
		fmt.Sprintf("run at least %d nodes, or set cluster.attestation = \"off\"", attestLeast))}
}
