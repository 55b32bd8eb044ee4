package ctl

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/effiscale/effiscale/node/api"
)

// maxRecords is the most that one `history` may ask for: the daemon's own bound.
const maxRecords = 10_000

func historyCmd(a *app) *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use:   "history NAME",
		Short: "Show the changes of a container or a service, newest first",
		Long: "Show the changes of a container or a service on all hosts of the cluster, newest first. Each host stores\n" +
			"its own history; hosts that do not answer are named. HOST/NAME is the history on that host only.",
		Args:              oneArg("NAME"),
		ValidArgsFunction: completeNames(a, true),
	}
	cmd.RunE = a.runNamed(func(ctx context.Context, name string) error {
		if limit < 1 || limit > maxRecords {
			return usagef("--limit %d: allowed are 1 to %d", limit, maxRecords)
		}
		_, err := ask(ctx, a, api.OpRecords, api.RecordsRequest{Name: name, Limit: limit}, historyText)
		return err
	})
	cmd.Flags().IntVarP(&limit, "limit", "n", 20, "how many records")
	return cmd
}

func historyText(p *page, h api.History) {
	if len(h.Changes) == 0 {
		p.line("No changes of %s.", h.Name)
	}
	changeTable(p, h.Changes, true).print(p)
	for _, note := range h.Notes {
		p.warning(note)
	}
}

// changeTable lists changes; why adds the reason under each.
func changeTable(p *page, changes []api.Change, why bool) *table {
	t := &table{head: []string{"WHEN", "CONTAINER", "CHANGE", "BY", "RESULT"}, right: map[int]bool{0: true}, wrap: true}
	hosts := slices.ContainsFunc(changes, func(c api.Change) bool { return c.Host != "" })
	if hosts {
		t.head = []string{"WHEN", "HOST", "CONTAINER", "CHANGE", "BY", "RESULT"}
	}
	for _, c := range changes {
		row := []string{p.ago(c.At), c.Container, changeText(c), c.Actor, resultCell(p, c)}
		if hosts {
			row = slices.Insert(row, 1, orDash(c.Host))
		}
		t.add(row...)
		if why && c.Why != "" {
			t.note(c.Why)
		}
	}
	return t
}

// changeText is what was done: "memory 1GiB → 2GiB", "create from web-1 (slot 2)", "stop".
func changeText(c api.Change) string {
	if c.Resource == "" {
		text := orDash(c.Kind)
		if c.Template != "" {
			text += " from " + c.Template[:min(len(c.Template), 12)]
		}
		if c.Slot > 0 {
			text += fmt.Sprintf(" (slot %d)", c.Slot)
		}
		return text
	}
	text := c.Resource + " " + move(c.Resource, c.From, c.To)
	if c.Count > 1 {
		text += fmt.Sprintf(" (%d moves)", c.Count)
	}
	return text
}

func resultCell(p *page, c api.Change) string {
	s := c.Result
	switch c.Result {
	case "failed", "refused":
		s = p.style(styleRed, s)
	case "reverted":
		s = p.style(styleYellow, s)
	}
	if c.TookMS > 0 {
		s += fmt.Sprintf(" in %.3g ms", c.TookMS)
	}
	if c.Message != "" {
		s += ": " + c.Message
	}
	return s
}

func planCmd(a *app) *cobra.Command {
	var r api.PlanRequest
	cmd := &cobra.Command{
		Use:   "plan [NAME | --all-hosts]",
		Short: "Show the changes that the daemon would make now; changes nothing",
		Long: "Show the changes that the daemon of this host would make now to all its containers; with NAME to that\n" +
			"container, or to all containers of that service, on any host of the cluster; with --all-hosts to all\n" +
			"containers of all hosts. HOST/NAME is the one on that host. Nothing is changed.\n\n" +
			"Exit code 4: changes are due; 69: a host did not answer; the error names it.\n\n" +
			"  ~ would change    . would change, but the mode forbids it    = unchanged    ! refused",
		Args:              atMostOneName,
		ValidArgsFunction: completeNames(a, true),
	}
	cmd.Flags().BoolVar(&r.AllHosts, "all-hosts", false, "the plans of all hosts of the cluster")
	cmd.RunE = a.run(func(ctx context.Context, args []string) error {
		if r.Name = strings.Join(args, ""); len(args) == 1 {
			if err := checkName(r.Name); err != nil {
				return err
			}
			if r.AllHosts {
				return usagef("give NAME or --all-hosts, not both")
			}
		}
		plan, err := ask(ctx, a, api.OpPlan, r, planText)
		switch {
		case err != nil:
			return err
		case len(plan.NotReached) > 0:
			return Coded(ExitUnreachable, fmt.Errorf("no answer from: %s", strings.Join(scrub(plan.NotReached), ", ")))
		case plan.Changes > 0:
			return Coded(ExitWouldChange, nil)
		}
		return nil
	})
	return cmd
}

func planText(p *page, plan api.Plan) {
	of := ""
	if len(plan.Hosts) > 0 {
		of = " of " + hostsText(plan.Hosts)
	}
	p.paragraph("", fmt.Sprintf("Plan%s, %s. Nothing was changed.", of, plan.At.UTC().Format("2006-01-02 15:04:05 UTC")))
	t := &table{head: []string{"", "CONTAINER", "CHANGE", "WHY"}, wrap: true}
	hosts := slices.ContainsFunc(plan.Items, func(it api.PlanItem) bool { return it.Host != "" })
	if hosts {
		t.head = []string{"", "HOST", "CONTAINER", "CHANGE", "WHY"}
	}
	styles := map[string]string{"~": styleYellow, "!": styleRed, ".": styleDim, "=": styleDim}
	counts := map[string]int{}
	for _, it := range plan.Items {
		counts[it.Mark]++
		change := it.Resource + " " + move(it.Resource, it.From, it.To)
		if it.Mark == "=" || it.From == it.To {
			change = it.Resource + " unchanged " + amount(it.Resource, it.From)
		}
		why := it.Why
		if it.Guard != "" {
			why += " (guard " + it.Guard + ")"
		}
		row := []string{p.style(styles[it.Mark], it.Mark), it.Container, change, why}
		if hosts {
			row = slices.Insert(row, 1, orDash(it.Host))
		}
		t.add(row...)
	}
	t.print(p)
	var words []string
	for _, w := range [...]struct{ mark, one, many string }{
		{"~", "change", "changes"}, {".", "not applied", "not applied"},
		{"=", "unchanged", "unchanged"}, {"!", "refused", "refused"},
	} {
		if n := counts[w.mark]; n > 0 || w.mark == "~" {
			words = append(words, plural(n, w.one, w.many))
		}
	}
	p.line("%s.", strings.Join(words, ", "))
}
