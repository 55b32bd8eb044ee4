package ctl

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/effiscale/effiscale/node/api"
)

// maxRecords is the most that one `history` may ask for: the daemon's own bound.
const maxRecords = 10_000

func historyCmd(a *app) *cobra.Command {
	o := historyOptions{}
	cmd := &cobra.Command{
		Use:   "history [NAME]",
		Short: "Show the changes of a container, a service or all, newest first",
		Long: "Show the changes of a container or a service, without NAME of all, on all hosts of the cluster, newest\n" +
			"first. Each host stores its own history; hosts that do not answer are named. HOST/NAME is the history on\n" +
			"that host only. With --follow new changes are added below as they come, until Ctrl-C.",
		Args:              atMostOneName,
		ValidArgsFunction: completeNames(a, true),
	}
	cmd.RunE = a.run(func(ctx context.Context, args []string) (err error) {
		if o.name, err = nameOf(args); err != nil {
			return err
		}
		if o.limit < 1 || o.limit > maxRecords {
			return usagef("--limit %d: allowed are 1 to %d", o.limit, maxRecords)
		}
		if o.follow {
			return followHistory(ctx, a, o)
		}
		h, err := o.ask(ctx, a)
		if err != nil {
			return err
		}
		return emit(a, h, historyText)
	})
	cmd.Flags().IntVarP(&o.limit, "limit", "n", 20, "how many records")
	cmd.Flags().BoolVarP(&o.follow, "follow", "f", false, "add new changes as they come, the newest last")
	return cmd
}

// historyOptions are the flags of history.
type historyOptions struct {
	name   string // "": of all
	limit  int
	follow bool
}

func (o historyOptions) ask(ctx context.Context, a *app) (api.History, error) {
	if o.name == "" {
		return call(ctx, a, api.OpAllRecords, api.AllRecordsRequest{Limit: o.limit})
	}
	return call(ctx, a, api.OpRecords, api.RecordsRequest{Name: o.name, Limit: o.limit})
}

// followEvery is the interval of --follow.
const followEvery = time.Second

// followHistory prints the newest changes, oldest first, and then those that come. JSON is one
// change a line.
func followHistory(ctx context.Context, a *app, o historyOptions) error {
	seen := map[string]bool{}
	return every(ctx, followEvery, func() error {
		h, err := o.ask(ctx, a)
		if err != nil {
			return err
		}
		o.limit = maxFollowed
		return a.addChanges(h.Changes, seen)
	})
}

// maxFollowed bounds the changes between two looks, and those that are remembered.
const maxFollowed = 1000

// addChanges prints the changes that were not seen, oldest first. Quota moves that are not
// written yet come when they are.
func (a *app) addChanges(changes []api.Change, seen map[string]bool) error {
	key := func(c *api.Change) string { return fmt.Sprint(c.Host, c.Seq, c.Result) }
	if len(seen) > 4*maxFollowed {
		known := maps.Clone(seen)
		clear(seen) // what is older is not asked for any more
		for i := range changes {
			if k := key(&changes[i]); known[k] {
				seen[k] = true
			}
		}
	}
	for _, c := range slices.Backward(changes) {
		if c.Seq == 0 || seen[key(&c)] {
			continue
		}
		seen[key(&c)] = true
		if a.output == "json" {
			if err := a.jsonLine(c); err != nil {
				return err
			}
			continue
		}
		p := a.page()
		c = scrub(c)
		text := fmt.Sprintf("%s  %s  %s  %s  %s", c.At.UTC().Format(time.RFC3339), c.Container, changeText(c), c.Actor,
			resultCell(p, c))
		if c.Host != "" {
			text = c.Host + "  " + text
		}
		if c.Why != "" {
			text += ": " + c.Why
		}
		if err := a.write(text + "\n"); err != nil {
			return err
		}
	}
	return nil
}

func historyText(p *page, h api.History) {
	if len(h.Changes) == 0 && h.Name == "" {
		p.line("No changes.")
	} else if len(h.Changes) == 0 {
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
	switch {
	case c.TookMS >= 1000:
		s += fmt.Sprintf(" in %.1f s", c.TookMS/1000)
	case c.TookMS > 0:
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
	cmd.RunE = a.run(func(ctx context.Context, args []string) (err error) {
		if r.Name, err = nameOf(args); err != nil {
			return err
		}
		if r.Name != "" && r.AllHosts {
			return usagef("give NAME or --all-hosts, not both")
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
