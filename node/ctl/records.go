package ctl

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/charmbracelet/x/ansi"
	"github.com/spf13/cobra"

	"github.com/effiscale/effiscale/node/api"
)

// maxRecords is the most that one `history` may ask for: the daemon's own bound.
const maxRecords = 10_000

func (a *app) historyCmd() *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use:               "history NAME",
		Short:             "Show what was done to a container or a service, newest first",
		Long:              "Show what was done to a container or a service, newest first, on whichever hosts of the cluster. Each\nhost keeps its own; one that cannot be asked is named. HOST/NAME means what was done on that host alone.",
		Args:              oneArg("NAME"),
		ValidArgsFunction: a.completeNames(true),
		RunE: a.run(func(ctx context.Context, args []string) error {
			name, err := checkName(args[0])
			if err != nil {
				return err
			}
			if limit < 1 || limit > maxRecords {
				return usagef("--limit %d: allowed are 1 to %d", limit, maxRecords)
			}
			h, err := call(ctx, func(ctx context.Context) (api.History, error) { return a.client().Records(ctx, name, limit) })
			if err != nil {
				return err
			}
			return emit(a, h, func(p *page, h api.History) {
				if len(h.Changes) == 0 {
					p.line("Nothing has been done to %s.", h.Name)
				}
				changeTable(p, h.Changes, true).print(p)
				for _, note := range h.Notes {
					p.paragraph(p.style(styleYellow, "!")+" ", note)
				}
			})
		}),
	}
	cmd.Flags().IntVarP(&limit, "limit", "n", 20, "how many records")
	return cmd
}

// changeTable lists changes; why adds the reason under each.
func changeTable(p *page, changes []api.Change, why bool) *table {
	t := &table{head: []string{"WHEN", "CONTAINER", "CHANGE", "BY", "RESULT"}, right: map[int]bool{0: true}, wrap: true}
	hosts := slices.ContainsFunc(changes, func(c api.Change) bool { return c.Host != "" })
	if hosts {
		t.head = []string{"WHEN", "HOST", "CONTAINER", "CHANGE", "BY", "RESULT"}
	}
	for _, c := range changes {
		row := []string{p.ago(c.At), nameCell(c.Container), changeText(c), c.Actor, resultCell(p, c)}
		if hosts {
			row = slices.Insert(row, 1, ansi.Truncate(orDash(c.Host), maxHostCell, "…"))
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

func (a *app) planCmd() *cobra.Command {
	var r api.PlanRequest
	cmd := &cobra.Command{
		Use:   "plan [NAME | --all-hosts]",
		Short: "Show what the daemon would do now; nothing is changed",
		Long: "Show what the daemon of the host that is asked would do now, with all its containers; with NAME what is done\n" +
			"with that container, or with all containers of that service, on any host of the cluster; with --all-hosts\n" +
			"everything. HOST/NAME means that host alone. Nothing is changed.\n\n" +
			"Exit code 4: there is something to do; 69: not every host that was to be asked answers, it is named.\n\n" +
			"  ~ would change    . would change, but the mode forbids it    = stays    ! refused",
		Args:              atMostOneName,
		ValidArgsFunction: a.completeNames(true),
		RunE: a.run(func(ctx context.Context, args []string) error {
			if len(args) == 1 {
				var err error
				if r.Name, err = checkName(args[0]); err != nil {
					return err
				}
				if r.AllHosts {
					return usagef("give a name, or --all-hosts for everything on every host")
				}
			}
			plan, err := call(ctx, func(ctx context.Context) (api.Plan, error) { return a.client().Plan(ctx, r) })
			if err != nil {
				return err
			}
			if err := emit(a, plan, planText); err != nil {
				return err
			}
			if len(plan.NotReached) > 0 {
				return Coded(ExitUnreachable, fmt.Errorf("not asked, for they do not answer: %s", strings.Join(scrub(plan.NotReached), ", ")))
			}
			if plan.Changes > 0 {
				return Coded(ExitWouldChange, nil)
			}
			return nil
		}),
	}
	cmd.Flags().BoolVar(&r.AllHosts, "all-hosts", false, "the plans of all hosts of the cluster")
	return cmd
}

func planText(p *page, plan api.Plan) {
	of := ""
	if len(plan.Hosts) > 0 {
		of = " of " + hostsText(plan.Hosts)
	}
	p.paragraph("", fmt.Sprintf("Plan%s, %s. Nothing has been changed.", of, plan.At.UTC().Format("2006-01-02 15:04:05 UTC")))
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
			change = it.Resource + " stays " + amount(it.Resource, it.From)
		}
		why := it.Why
		if it.Guard != "" {
			why += " (guard " + it.Guard + ")"
		}
		row := []string{p.style(styles[it.Mark], it.Mark), nameCell(it.Container), change, why}
		if hosts {
			row = slices.Insert(row, 1, ansi.Truncate(orDash(it.Host), maxHostCell, "…"))
		}
		t.add(row...)
	}
	t.print(p)
	var words []string
	for _, w := range [...]struct{ mark, one, many string }{
		{"~", "change", "changes"}, {".", "only shown", "only shown"}, {"=", "stays", "stay"}, {"!", "refused", "refused"},
	} {
		if n := counts[w.mark]; n > 0 || w.mark == "~" {
			words = append(words, plural(n, w.one, w.many))
		}
	}
	p.line("%s.", strings.Join(words, ", "))
}

func plural(n int, one, many string) string {
	if n == 1 {
		return fmt.Sprintf("%d %s", n, one)
	}
	return fmt.Sprintf("%d %s", n, many)
}

// completeNames completes the names of live containers, and of services where
// they are meant too. A daemon that does not answer completes nothing.
//
//go:noinline // its copies in each command made the binary 20 KB larger
func (a *app) completeNames(services bool) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, toComplete string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), completeTimeout)
		defer cancel()
		st, err := a.client().Status(ctx)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var names []cobra.Completion
		times := map[string]int{}
		for _, c := range st.Containers {
			times[c.Name]++
		}
		for _, c := range st.Containers {
			if times[c.Name] > 1 { // the plain name would be ambiguous
				c.Name = cmp.Or(c.Host, st.Node.Name) + "/" + c.Name
			}
			names = append(names, c.Name)
		}
		if services {
			for _, s := range st.Services {
				names = append(names, s.Name)
			}
		}
		if strings.Contains(toComplete, "/") { // the one of a host is meant
			for _, c := range st.Containers {
				host := cmp.Or(c.Host, st.Node.Name) + "/"
				names = append(names, host+c.Name)
				if services {
					names = append(names, host+c.Service)
				}
			}
		}
		// A name that needs escaping is not offered to a shell.
		names = slices.DeleteFunc(names, func(n string) bool { return !shellSafe(n) || !strings.HasPrefix(n, toComplete) })
		slices.Sort(names)
		return slices.Compact(names), cobra.ShellCompDirectiveNoFileComp
	}
}

func shellSafe(name string) bool {
	return name != "" && strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-/") == ""
}
