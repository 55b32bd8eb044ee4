package ctl

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/charmbracelet/x/ansi"
	"github.com/spf13/cobra"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/node/api"
)

// maxJoin is the most addresses of one `join`: the daemon's own bound.
const maxJoin = 64

// The widths of members' columns: with the longest of all, a row fills the page.
const (
	maxMemberCell  = 16
	maxAddressCell = 37
	maxVersionCell = 12
)

func (a *app) membersCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "members",
		Short: "Show the nodes of the cluster, as this node sees them",
		Long: "Show the nodes of the cluster, as this node sees them; itself first. OWNS counts the services that a\n" +
			"node plans for: what it says now, or with a ~ what it said in gossip some seconds ago, for it does not\n" +
			"answer now. LOAD is the share of its cores in use, in steps of ten percent, RTT the way there and back.\n" +
			"Who failed or left is listed for 72 h; who was refused or replaced, because another node has its name,\n" +
			"for ten minutes.",
		Args: noArgs,
		RunE: a.run(func(ctx context.Context, _ []string) error {
			m, err := call(ctx, a.client().Members)
			if err != nil {
				return err
			}
			return emit(a, m, membersText)
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
		p.paragraph(p.style(styleRed, "!")+" ", problem)
	}
}

// memberTable has this node first, then who is there, then who is not; by name.
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
	knowledge.SortStableFunc(members, func(x, y api.MemberView) int {
		if d := rank(x) - rank(y); d != 0 {
			return d
		}
		return strings.Compare(x.Name, y.Name)
	})
	t := &table{head: []string{"NAME", "ADDRESS", "STATE", "VERSION", "LOAD", "OWNS", "RTT"}, wrap: true,
		right: map[int]bool{4: true, 5: true, 6: true}}
	for _, v := range members {
		name := ansi.Truncate(v.Name, maxMemberCell, "…")
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
		t.add(name, ansi.Truncate(orDash(v.Address), maxAddressCell, "…"), memberState(p, v),
			ansi.Truncate(orDash(release(v.Version)), maxVersionCell, "…"), load, owns, rtt)
		if note := memberNote(m, v); note != "" {
			t.note(note)
		}
	}
	return t
}

// isAlive: who is suspected has not been given up.
func isAlive(status string) bool { return status == "alive" || status == "suspect" }

// memberState is one word: what the others say when that is bad, else its own.
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

// rttText prints milliseconds; a probe in a rack takes 0.2.
func rttText(ms float64) string {
	switch {
	case ms <= 0:
		return "-"
	case ms < 10:
		return strconv.FormatFloat(ms, 'f', 1, 64) + " ms"
	}
	return strconv.FormatFloat(ms, 'f', 0, 64) + " ms"
}

// checkPeer refuses what is no address of a node before the daemon is asked.
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

func (a *app) joinCmd() *cobra.Command {
	return &cobra.Command{
		Use:     "join ADDR...",
		Short:   "Let this node join the cluster of others",
		Long:    "Let this node join the cluster of others; one that answers is enough. An ADDR is host:port, or a host\nwith port 7946. What is to be joined after a restart, too, belongs into cluster.join.",
		Example: "  effiscale join 10.0.0.12\n  effiscale join beta.example:7946 gamma.example:7946",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 || len(args) > maxJoin {
				return fmt.Errorf("join takes 1 to %d addresses, %d were given", maxJoin, len(args))
			}
			return nil
		},
		RunE: a.run(func(ctx context.Context, args []string) error {
			for _, s := range args {
				if err := checkPeer(s); err != nil {
					return err
				}
			}
			return a.join(ctx, args)
		}),
	}
}

func (a *app) join(ctx context.Context, addrs []string) error {
	res, err := call(ctx, func(ctx context.Context) (api.JoinResult, error) { return a.client().Join(ctx, addrs) })
	if err != nil {
		return err
	}
	err = emit(a, res, func(p *page, res api.JoinResult) {
		if res.Answered > 0 {
			p.line("Joined: %d of %s answered. `effiscale members` shows who is there.", res.Answered, plural(len(addrs), "address", "addresses"))
		}
		for _, f := range res.Failed {
			p.paragraph(p.style(styleRed, "!")+" ", f)
		}
	})
	if err == nil && res.Answered == 0 {
		err = Coded(ExitUnreachable, errors.New("nobody answered: check the addresses, the ports (7946, TCP and UDP) and that all nodes have the same key"))
	}
	return err
}

func (a *app) leaveCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "leave [NAME]",
		Short: "Take this node out of the cluster, or say that one that is down is gone for good",
		Long: "Take this node out of the cluster. Others plan for its services at once; its daemon goes on alone with\nthe containers of this host, and comes back when it is restarted.\n" +
			"With the NAME of a node that is down: it is gone for good. Nobody waits for it any more; if it comes back\nafter all, it is a member again.",
		Args: atMostOneName,
		RunE: a.run(func(ctx context.Context, args []string) error {
			name := strings.Join(args, "")
			if _, err := call(ctx, func(ctx context.Context) (any, error) { return nil, a.client().Leave(ctx, name) }); err != nil {
				return err
			}
			return emit(a, doneView{api.Schema, true}, func(p *page, _ doneView) {
				if name != "" {
					p.line("The nodes are told that %s is gone: nobody waits for it any more.", clean(name))
					return
				}
				p.line("Left the cluster. The daemon goes on alone until it is restarted.")
			})
		}),
	}
}
