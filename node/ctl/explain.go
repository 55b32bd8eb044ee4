package ctl

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/effiscale/effiscale/node/api"
)

func explainCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "explain NAME",
		Short: "Explain a container's limits: signals, thresholds, the rule, each guard",
		Long: "Explain why a container has its limits: signals, thresholds and where they come from, the rule, each\n" +
			"guard, rejected alternatives, and since when. NAME is a container's name, at least 12 digits of its id, or\n" +
			"a service with one container.\n" + anyHost + "\nA container of this host takes precedence.",
		Args:              oneArg("NAME"),
		ValidArgsFunction: completeNames(a, false),
		RunE: a.runNamed(func(ctx context.Context, name string) error {
			_, err := ask(ctx, a, api.OpExplain, api.ExplainRequest{Name: name}, explainText)
			return err
		}),
	}
}

func explainText(p *page, ex api.Explain) {
	c := ex.Container
	managed := "not managed"
	if c.Managed {
		managed = "managed since " + p.since(ex.ManagedSince)
	}
	p.paragraph("", fmt.Sprintf("%s  (%s)  service %s on %s, owner %s, class %s, %s, mode %s",
		p.style(styleBold, c.Name), shortID(c.ID), orDash(c.Service), ex.Node, ex.Owner, orDash(c.Class), managed, c.Mode))
	p.line("")
	oneSpace := func(s string) string { return strings.Join(strings.Fields(s), " ") }
	p.paragraph("Now      ", fmt.Sprintf("cpu %s   memory %s   throttled %s   %s, %s",
		oneSpace(cpuCell(c.CPUUsed, c.CPULimit)), oneSpace(memCell(c.MemoryUsed, c.MemoryLimit)),
		ratioText(c.Throttled), orDash(c.Run), stateCell(p, c)))
	if c.Why != "" {
		p.paragraph("Because  ", c.Why)
	}
	if owner := ownerText(p, ex); owner != "" {
		p.paragraph("Owner    ", owner)
	}
	for _, problem := range c.Problems {
		p.paragraph(p.style(styleRed, "!")+" ", problem)
	}
	if r := ex.Runtime; r != nil {
		p.paragraph("Runtime  ", fmt.Sprintf("%s (process %s); fixed at its start: %s; set by: %s", r.Name, r.Process,
			r.Fixed, r.Set))
		if r.Advice != "" {
			p.paragraph("         ", r.Advice)
		}
	}
	wishTable(p, ex.Wishes)
	evidenceTables(p, ex)
	forecastTable(p, ex.Forecasts)
	for i, c := range ex.Patterns {
		if i == 0 {
			p.line("")
		}
		p.paragraph("Pattern  ", fmt.Sprintf("%s (confidence %s): %s", c.Kind, quantity(c.Confidence, "ratio"), c.Why))
	}
	conditionTable(p, ex.Conditions)
	serviceLabels(p, ex.ServiceLabels)
	if len(ex.History) > 0 {
		p.line("")
		changeTable(p, ex.History, false).print(p)
	}
	p.line("")
	limitsText(p, ex)
}

func serviceLabels(p *page, labels []api.Label) {
	if len(labels) == 0 {
		return
	}
	set := make([]string, len(labels))
	for i, l := range labels {
		set[i] = l.Name + "=" + l.Value
	}
	p.line("")
	p.paragraph("Labels   ", strings.Join(set, "  ")+"  (without effect in this version)")
}

func wishTable(p *page, wishes []api.Wish) {
	t := &table{head: []string{"RESOURCE", "NOW", "WANTED", "ALLOWED", "DECISION", "SINCE", "RULE"},
		right: map[int]bool{1: true, 2: true, 3: true, 5: true}}
	for _, w := range wishes {
		size := func(v int64) string { return amount(w.Resource, v) }
		t.add(w.Resource, size(w.Current), size(w.Wanted), size(w.Allowed), w.Verb, p.since(w.Since), w.Rule)
	}
	if len(wishes) > 0 {
		p.line("")
	}
	t.print(p)
	for _, w := range wishes {
		if w.Why != "" {
			p.paragraph("  "+w.Resource+": ", w.Why)
		}
	}
}

// evidenceTables are the numbers behind the decision, and the guards.
func evidenceTables(p *page, ex api.Explain) {
	signals := &table{head: []string{"SIGNAL", "VALUE"}, right: map[int]bool{1: true}}
	for _, s := range ex.Signals {
		signals.add(s.Name, quantity(s.Value, s.Unit))
	}
	thresholds := &table{head: []string{"THRESHOLD", "VALUE", "FROM"}, right: map[int]bool{1: true}}
	for _, t := range ex.Thresholds {
		thresholds.add(t.Name, quantity(t.Value, t.Unit), t.Source)
		if t.Why != "" {
			thresholds.note(t.Why)
		}
	}
	guards, passed := guardTable(p, ex.Verdicts)
	for _, t := range []*table{signals, thresholds, guards} {
		if len(t.rows) > 0 {
			p.line("")
			t.print(p)
		}
	}
	if passed != "" {
		p.line("")
		p.paragraph("Guards passed  ", passed)
	}
	if len(ex.Rejected) > 0 {
		p.line("")
		for _, r := range ex.Rejected {
			p.paragraph("Rejected ", r)
		}
	}
}

// guardTable holds the guards with a message, one a row; passed names the others.
func guardTable(p *page, verdicts []api.Verdict) (t *table, passed string) {
	t = &table{head: []string{"GUARD", "RESOURCE", "ALLOWS", "MESSAGE"}, wrap: true}
	var names []string
	for _, v := range verdicts {
		switch {
		case !v.Allowed:
			t.add(v.Guard, v.Resource, p.style(styleRed, "no"), v.Message)
		case v.Message != "":
			t.add(v.Guard, v.Resource, p.style(styleGreen, "yes"), v.Message)
		case !slices.Contains(names, v.Guard):
			names = append(names, v.Guard)
		}
	}
	// A guard that refuses the other resource is in the table already.
	names = slices.DeleteFunc(names, func(n string) bool {
		return slices.ContainsFunc(verdicts, func(v api.Verdict) bool { return v.Guard == n && !v.Allowed })
	})
	return t, strings.Join(names, ", ")
}

// quantity prints a number in its unit.
func quantity(v float64, unit string) string {
	switch unit {
	case "cores":
		return coreText(v) + " cores"
	case "bytes":
		return sizeText(int64(v))
	case "bytes/s":
		return sizeText(int64(v)) + "/s"
	case "ratio":
		return strconv.FormatFloat(v*100, 'g', 3, 64) + "%"
	case "percent":
		return strconv.FormatFloat(v, 'g', 3, 64) + "%"
	case "seconds":
		if v >= 100 {
			return ageText(time.Duration(min(v, 1e9) * float64(time.Second)))
		}
		return strconv.FormatFloat(v, 'g', 3, 64) + " s"
	}
	text := strconv.FormatFloat(v, 'f', 0, 64)
	if math.Abs(v) < 100 && v != math.Trunc(v) {
		text = strconv.FormatFloat(v, 'g', 2, 64)
	}
	return strings.TrimSpace(text + " " + strings.TrimPrefix(unit, "count"))
}

// forecastTable shows forecasts, and how good they were so far.
func forecastTable(p *page, forecasts []api.Forecast) {
	t := &table{head: []string{"CPU FORECAST", "EXPECTED", "AT MOST", "LEVEL", "HELD", "AGAINST NOW", "SEEN FOR", "BY"},
		right: map[int]bool{1: true, 2: true, 3: true, 4: true, 5: true, 6: true}}
	for _, f := range forecasts {
		by := f.Member
		if f.Period > 0 {
			by += ", each " + span(f.Period)
		}
		held, against := "-", "-"
		if f.ScoredFor > 0 {
			held, against = quantity(f.Coverage, "ratio"), fmt.Sprintf("%+.0f%%", -100*f.Gain)
		}
		upper := coreText(f.Upper)
		if f.Capped {
			upper += " (all of the host)"
		}
		t.add("next "+span(f.Horizon), coreText(f.Expected), upper, quantity(f.Level, "ratio"), held, against,
			span(f.ScoredFor), by)
	}
	if len(t.rows) > 0 {
		p.line("")
	}
	t.print(p)
}

// span prints seconds as a length of time, none as a dash.
func span(seconds float64) string {
	if seconds <= 0 {
		return "-"
	}
	return ageText(time.Duration(min(seconds, 1e9) * float64(time.Second)))
}

func conditionTable(p *page, conditions []api.Condition) {
	t := &table{head: []string{"CONDITION", "STATUS", "SINCE", "REASON", "MESSAGE"}, wrap: true,
		right: map[int]bool{2: true}}
	for _, c := range conditions {
		status := "True"
		if !c.Status {
			status = "False"
		}
		t.add(c.Type, status, p.since(c.Since), c.Reason, c.Message)
	}
	if len(t.rows) > 0 {
		p.line("")
	}
	t.print(p)
}

// limitsText is the envelope, the limits in force, and the original ones.
func limitsText(p *page, ex api.Explain) {
	e := ex.Envelope
	if !e.At.IsZero() {
		learned := "from the policy"
		if e.Learned {
			learned = "learned"
		}
		wanted := ""
		if e.MemoryWanted > 0 {
			wanted = ", wanted " + sizeText(e.MemoryWanted)
		}
		p.paragraph("Envelope  ", fmt.Sprintf("cpu %s..%s cores, throttle target %s; memory %s..%s%s; %s%s",
			coreText(e.CPUFloor), orNone(coreText(e.CPUCeiling), e.CPUCeiling == 0), quantity(e.ThrottleTarget, "ratio"),
			sizeText(e.MemoryFloor), amount("memory", e.MemoryCeiling), wanted, learned, because(e.Why)))
	}
	if e.Forecast != "" {
		p.paragraph("Forecast  ", e.Forecast)
	}
	p.line("Has now   cpu %s, memory %s   in force in the kernel", corePtr(ex.KernelCPU), sizePtr(ex.KernelMemory))
	p.line("Starts    cpu %s, memory %s   what it starts with, as in `docker inspect`", corePtr(ex.EngineCPU),
		sizePtr(ex.EngineMemory))
	if !ex.OriginalKept {
		p.line("Original  no limit was changed")
		return
	}
	lostCPU, lostMem := ex.OriginalCPULost, ex.OriginalMemoryLost
	if !lostCPU.IsZero() && !lostMem.IsZero() {
		p.line("Original  unknown: %s at %s", lostText, lostCPU.UTC().Format(time.RFC3339))
		return
	}
	p.paragraph("Original  ", fmt.Sprintf("cpu %s, memory %s   `effiscale restore %s` restores these",
		orLost(corePtr(ex.OriginalCPU), lostCPU), orLost(sizePtr(ex.OriginalMemory), lostMem), ex.Container.Name))
}

// lostText is how original limits were lost.
const lostText = "the knowledge file was lost, or another daemon managed it,"

// orLost is an original limit, unless its record was lost.
func orLost(limit string, lost time.Time) string {
	if lost.IsZero() {
		return limit
	}
	return fmt.Sprintf("unknown (%s at %s)", lostText, lost.UTC().Format(time.RFC3339))
}

func orNone(s string, none bool) string {
	if none {
		return "none"
	}
	return s
}

func because(why string) string {
	if why == "" {
		return ""
	}
	return ": " + why
}

func corePtr(v *float64) string {
	if v == nil {
		return "none"
	}
	return coreText(*v)
}

func sizePtr(v *int64) string {
	if v == nil {
		return "none"
	}
	return sizeText(*v)
}

func shortID(id string) string {
	if len(id) > 12 {
		return id[:12]
	}
	return id
}
