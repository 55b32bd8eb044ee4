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

// skewMost is the difference between clocks, in seconds, above which a check fails: histories
// of several hosts are ordered by their clocks.
const skewMost = 2

// attestLeast is the number of owners that a quorum needs to outvote a malicious one.
const attestLeast = 4

// checkCluster asks the daemon of this host, if it runs, for the members and the keys.
func checkCluster(ctx context.Context, cfg config.Config) []api.Check {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	c := api.NewClient(cfg.API.Socket)
	m, err := api.OpMembers.Call(ctx, c, api.None{})
	if errors.Is(err, api.ErrNotRunning) {
		return nil // the check of the daemon reports it
	}
	k, keysErr := api.OpKeys.Call(ctx, c, api.None{})
	if err = errors.Join(err, keysErr); err != nil {
		return []api.Check{verdict("cluster", "warning", err, "", "see `effiscale members` and the daemon's log")}
	}
	return Cluster(m, k, len(cfg.Cluster.Join) > 0)
}

// members are the members of a cluster, as one node reports them, by their state.
type members struct {
	api.Members
	alive, down []api.MemberView
}

// Cluster checks a cluster by the reports of one node; joins: the node is configured to join
// others.
func Cluster(m api.Members, k api.Keys, joins bool) []api.Check {
	c := members{Members: m}
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
			"it plans for its own host only: restart the daemon to join again"))
	case len(m.Members) == 1 && m.Expected <= 1:
		var err error
		if joins {
			err = errors.New("none of the nodes of cluster.join is a member")
		}
		out = append(out, verdict("cluster", "warning", err, "a single node, cluster.join is empty",
			"`effiscale join ADDR` shows the cause for each: its daemon, the ports (7946 TCP and UDP, 7947 TCP), the key"))
	default:
		out = append(out, c.presence(), c.majority(), c.rings(), c.keys(k), c.calls(), c.clocks(), c.versions(),
			c.names(), c.settings())
	}
	out = append(out, c.attestation()...)
	for _, p := range m.Problems { // each contains its remedy
		out = append(out, verdict("cluster problem", "warning", errors.New(p), "", ""))
	}
	return out
}

// those lists the members for which describe returns a text; nil: none.
func those(members []api.MemberView, describe func(api.MemberView) string) error {
	var out []string
	for _, v := range members {
		if s := describe(v); s != "" {
			out = append(out, v.Name+" "+s)
		}
	}
	if out == nil {
		return nil
	}
	return errors.New(view.Names(out))
}

func (c members) presence() api.Check {
	err := those(c.Members.Members, func(v api.MemberView) string {
		switch {
		case v.Status == "failed":
			return "is down since " + v.Since.UTC().Format(time.DateTime+" UTC")
		case v.Status == "suspect":
			return "does not answer gossip"
		case v.Status == "alive" && v.State == "waiting" && v.Owns > 0: // where most wait, waiting nodes plan
			return strings.TrimSuffix(fmt.Sprintf("waits, and plans for services meanwhile (%d): %s", v.Owns, v.Note), ": ")
		case v.Status == "alive" && v.State == "waiting":
			return strings.TrimSuffix("waits, and plans for no service: "+v.Note, ": ")
		}
		return ""
	})
	return verdict("cluster members", "warning", err, fmt.Sprintf("%d, all alive", len(c.alive)),
		"on those hosts: `systemctl status effiscale`, and the network; other nodes plan for their services meanwhile. "+
			"A removed host is forgotten after 72 h, or at once with `effiscale leave NAME`")
}

func (c members) majority() api.Check {
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
		"repair the network between the hosts, or start the daemons that are missing: each side adjusts limits, "+
			"and none changes the number of replicas")
}

func (c members) rings() api.Check {
	err := those(c.alive, func(v api.MemberView) string {
		if !v.Self && v.Ring != c.Ring {
			return "has ring " + v.Ring
		}
		return ""
	})
	return verdict("cluster rings", "warning", err, "all have "+c.Ring,
		fmt.Sprintf("here it is %s: nodes see different members, and so different owners. It passes seconds after a change; "+
			"if it stays, compare `effiscale members` of those nodes", c.Ring))
}

func (c members) keys(k api.Keys) api.Check {
	var faults []string
	senders := 0
	for _, v := range k.Keys {
		if v.Senders > 0 {
			senders++
		}
		if v.Nodes < v.Of-len(c.down) {
			faults = append(faults, fmt.Sprintf("%d of %d nodes hold the key %s", v.Nodes, v.Of-len(c.down), v.Fingerprint))
		}
	}
	if senders > 1 {
		faults = append(faults, "not all send with the same key")
	}
	var err error
	if faults != nil {
		err = errors.New(strings.Join(faults, "; "))
	}
	fine := fmt.Sprintf("%d, the same on all that answer", len(k.Keys))
	if len(k.Keys) == 0 {
		fine = "none: gossip is not encrypted, and only on loopback"
	}
	return verdict("cluster keys", "warning", err, fine,
		"`effiscale keys list` shows which; `effiscale keys add` the one "+
			"that is missing, then `use` one on all, then `remove` the others")
}

func (c members) calls() api.Check {
	err := those(c.alive, func(v api.MemberView) string {
		if v.Error != "" {
			return "does not answer calls at " + v.Relay + ": " + view.CallCause(v.Error)
		}
		return ""
	})
	return verdict("cluster calls", "warning", err, "answered by all",
		"allow the port of cluster.relay (TCP, 7947 by default) in both directions: reports and plans use it, "+
			"and without it a host cuts no limit")
}

func (c members) clocks() api.Check {
	skew := func(seconds float64) string {
		return knowledge.Span(time.Duration(seconds * float64(time.Second)).Round(time.Second))
	}
	err := those(c.alive, func(v api.MemberView) string {
		switch {
		case v.ClockSkew == nil:
		case *v.ClockSkew > skewMost:
			return "is " + skew(*v.ClockSkew) + " ahead"
		case *v.ClockSkew < -skewMost:
			return "is " + skew(-*v.ClockSkew) + " behind"
		}
		return ""
	})
	return verdict("cluster clocks", "warning", err, fmt.Sprintf("within %d s of this one's", skewMost),
		"set the clocks (timedatectl set-ntp true): no decision uses them, but histories of several hosts are in a wrong "+
			"order, and a pause until a time ends at another one")
}

// differ lists the members whose value differs from this node's; those that report none are
// left out.
func (c members) differ(name string, of func(api.MemberView) string) error {
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
	return fmt.Errorf("%s here is %s, but %w", name, own, err)
}

func (c members) versions() api.Check {
	err := c.differ("the version", func(v api.MemberView) string { return v.Version })
	return verdict("cluster versions", "warning", err, "the same on all",
		"replace the older ones, one host after the other: "+
			"`systemctl restart effiscale`, and wait until `effiscale members` shows it alive")
}

func (c members) names() api.Check {
	times := map[string]int{}
	for _, v := range c.alive {
		times[v.Name]++
	}
	err := those(c.Members.Members, func(v api.MemberView) string {
		switch {
		case v.Status == "refused":
			return "at " + v.Address + " was refused: another node has this name"
		case slices.Contains([]string{"alive", "suspect"}, v.Status) && times[v.Name] > 1:
			return "at " + v.Address + " shares its name with another node"
		}
		return ""
	})
	return verdict("cluster names", "warning", err, "each node has its own",
		"give each host another node.name; HOST/NAME, status and members identify nodes by it")
}

func (c members) settings() api.Check {
	err := errors.Join(c.differ("cluster.timing", func(v api.MemberView) string { return v.Timing }),
		c.differ("cluster.attestation", func(v api.MemberView) string { return v.Attestation }))
	return verdict("cluster settings", "warning", err, "timing and attestation are the same on all",
		"set both alike on all nodes, and restart their daemons")
}

// attestation needs enough owners; without it there is nothing to check.
func (c members) attestation() []api.Check {
	i := slices.IndexFunc(c.alive, func(v api.MemberView) bool { return v.Self })
	if i < 0 || c.alive[i].Attestation != "quorum" {
		return nil
	}
	var err error
	if n := len(c.alive); n < attestLeast {
		err = fmt.Errorf("a quorum needs %d owners, and %d of the cluster's nodes are alive: a single owner decides, "+
			"within the guards of each host, as without attestation", attestLeast, n)
	}
	return []api.Check{verdict("attestation", "warning", err,
		"three of four owners have to agree to a cut on another host",
		fmt.Sprintf("run at least %d nodes, or set cluster.attestation = \"off\"", attestLeast))}
}
