package ctl

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/effiscale/effiscale/node/api"
)

// maxJoin is the most addresses of one `join`: the daemon's own bound.
const maxJoin = 64

func membersCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "members",
		Short: "Show the nodes of the cluster as this node sees them",
		Long: "Show the nodes of the cluster as this node sees them, itself first. OWNS is the number of services that a\n" +
			"node plans for; ~ marks the last gossiped value of a node that did not answer. LOAD is the share of its\n" +
			"cores in use, in steps of ten percent. RTT is the round-trip time. Failed nodes and nodes that left are\n" +
			"listed for 72 h; nodes that were refused or replaced because of a duplicate name for ten minutes.",
		Args: noArgs,
		RunE: a.run(func(ctx context.Context, _ []string) error {
			_, err := ask(ctx, a, api.OpMembers, api.None{}, membersText)
			return err
		}),
	}
}

func membersText(p *page, m api.Members) {
	alive, members := 0, 0
	for _, v := range m.Members {
		switch {
		case isAlive(v.Status):
			alive++
			members++
		case v.Status == "failed":
			members++
		}
	}
	h := health{alive: alive, members: members, expected: m.Expected, majority: m.Majority, ringsDiffer: m.RingsDiffer}
	encrypted := "encrypted"
	if !m.Encrypted {
		encrypted = p.style(styleYellow, "not encrypted")
	}
	state := h.text(p)
	if len(m.Members) == 1 && m.Members[0].Status == "left" {
		state = p.style(styleYellow, "left")
	}
	p.line("cluster %s: %s, %s, ring %s", m.Cluster, state, encrypted, orDash(m.Ring))
	p.line("")
	memberTable(p, m).print(p)
	h.warnings(p)
	for _, problem := range m.Problems {
		p.problem(problem)
	}
}

// memberTable has this node first, then the nodes that are alive, then the others; by name.
func memberTable(p *page, m api.Members) *table {
	members := slices.Clone(m.Members)
	rank := func(v api.MemberView) int {
		switch {
		case v.Self:
			return 0
		case isAlive(v.Status):
			return 1
		}
		return 2
	}
	slices.SortStableFunc(members, func(x, y api.MemberView) int {
		if d := rank(x) - rank(y); d != 0 {
			return d
		}
		return strings.Compare(x.Name, y.Name)
	})
	t := &table{head: []string{"NAME", "ADDRESS", "STATE", "VERSION", "LOAD", "OWNS", "RTT"}, wrap: true,
		right: map[int]bool{4: true, 5: true, 6: true}}
	for _, v := range members {
		name := v.Name
		load, owns, rtt := ratioText(v.Load), strconv.Itoa(v.Owns), rttText(v.RTTMillis)
		if !v.OwnsNow {
			owns = "~" + owns
		}
		if v.Self {
			name, rtt = name+"*", "-"
		}
		if !isAlive(v.Status) {
			load, owns, rtt = "-", "-", "-"
		}
		t.add(name, orDash(v.Address), memberState(p, v),
			orDash(release(v.Version)), load, owns, rtt)
		if note := memberNote(m, v); note != "" {
			t.note(note)
		}
	}
	return t
}

// isAlive includes suspected nodes, which have not failed yet.
func isAlive(status string) bool { return status == "alive" || status == "suspect" }

// memberState is the status in gossip when that is not alive, else the state of the node itself.
func memberState(p *page, v api.MemberView) string {
	switch {
	case v.Status == "suspect":
		return p.style(styleYellow, "suspect")
	case v.Status == "failed":
		return p.style(styleRed, strings.TrimSuffix("failed "+p.since(v.Since), " -")+" !")
	case v.Status == "refused":
		return p.style(styleRed, strings.TrimSuffix("refused "+p.since(v.Since), " -"))
	case v.Status != "alive":
		return strings.TrimSuffix(orDash(v.Status)+" "+p.since(v.Since), " -")
	case v.State == "waiting", v.State == "leaving":
		return p.style(styleYellow, v.State)
	}
	return p.style(styleGreen, "alive")
}

func memberNote(m api.Members, v api.MemberView) string {
	if m.RingsDiffer && v.Status == "alive" && v.Ring != m.Ring {
		return strings.TrimSuffix("! its ring is "+orDash(v.Ring)+"; "+v.Note, "; ")
	}
	return v.Note
}

// rttText prints milliseconds; a probe within a rack takes 0.2.
func rttText(ms float64) string {
	switch {
	case ms <= 0:
		return "-"
	case ms < 10:
		return strconv.FormatFloat(ms, 'f', 1, 64) + " ms"
	}
	return strconv.FormatFloat(ms, 'f', 0, 64) + " ms"
}

// checkPeer refuses what cannot be a node's address.
func checkPeer(s string) error {
	host, good := s, true
	if net.ParseIP(s) == nil && strings.Contains(s, ":") {
		var port string
		var err error
		host, port, err = net.SplitHostPort(s)
		n, perr := strconv.ParseUint(port, 10, 16)
		good = err == nil && perr == nil && n > 0
	}
	if !good || host == "" || clean(s) != s || strings.ContainsAny(s, " /") || len(s) > 261 {
		return usagef("%q is not a node's address: allowed are host:port, or a host with port 7946", shorten(s))
	}
	return nil
}

func joinCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "join ADDR...",
		Short: "Let this node join a cluster",
		Long: "Let this node join the cluster of the nodes at the addresses; one that answers is enough. An ADDR is\n" +
			"host:port, or a host with port 7946. To join again after a restart, set cluster.join.",
		Example: "  effiscale join 10.0.0.12\n  effiscale join beta.example:7946 gamma.example:7946",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 || len(args) > maxJoin {
				return fmt.Errorf("join takes 1 to %d addresses, got %d", maxJoin, len(args))
			}
			return nil
		},
		RunE: a.run(func(ctx context.Context, addrs []string) error {
			for _, s := range addrs {
				if err := checkPeer(s); err != nil {
					return err
				}
			}
			text := func(p *page, res api.JoinResult) { joinText(p, len(addrs), res) }
			res, err := ask(ctx, a, api.OpJoin, api.JoinRequest{Addresses: addrs}, text)
			if err == nil && res.Answered == 0 {
				err = Coded(ExitUnreachable, errors.New("no address answered: check the addresses, the ports "+
					"(7946, TCP and UDP) and that all nodes have the same key"))
			}
			return err
		}),
	}
}

func joinText(p *page, asked int, res api.JoinResult) {
	if res.Answered > 0 {
		p.line("Joined: %d of %s answered. `effiscale members` shows the nodes.",
			res.Answered, plural(asked, "address", "addresses"))
	}
	for _, f := range res.Failed {
		p.problem(f)
	}
}

func leaveCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "leave [NAME]",
		Short: "Take this node out of the cluster, or remove a failed node",
		Long: "Take this node out of the cluster. Other nodes take over its services at once. Its daemon continues with\n" +
			"the containers of this host alone, and rejoins the cluster when it is restarted.\n" +
			"With NAME, remove a failed node that will not return: the other nodes stop waiting for it, and it does not\n" +
			"count for a majority. If it returns, it is a member again.",
		Args: atMostOneName,
		RunE: a.run(func(ctx context.Context, args []string) error {
			name, text := strings.Join(args, ""), "Left the cluster. The daemon runs alone until it is restarted."
			if name != "" {
				text = fmt.Sprintf("Removed %s from the cluster.", clean(name))
			}
			return do(ctx, a, api.OpLeave, api.LeaveRequest{Name: name}, text)
		}),
	}
}
