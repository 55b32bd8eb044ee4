package ctl

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/node/api"
)

// watchEvery is the interval of --watch.
const watchEvery = 2 * time.Second

func statusCmd(a *app) *cobra.Command {
	var watch bool
	var o statusOptions
	cmd := &cobra.Command{
		Use:   "status [NAME]",
		Short: "Show the hosts, services and containers: use, limit, state and why",
		Long: "Show the hosts, services and containers: use, limit, state and why. Problems are listed last, each with\n" +
			"the setting to change. With NAME only that container, or the containers of that service, and its problems.\n" +
			"Exit code 3: degraded, with NAME: a problem of it.",
		Args:              atMostOneName,
		ValidArgsFunction: completeNames(a, true),
	}
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "refresh every 2 seconds until Ctrl-C")
	cmd.Flags().BoolVar(&o.problems, "problems", false, "only the problems")
	cmd.RunE = a.run(func(ctx context.Context, args []string) (err error) {
		if o.name, err = nameOf(args); err != nil {
			return err
		}
		if watch {
			return watchStatus(ctx, a, o)
		}
		return showStatus(ctx, a, o)
	})
	return cmd
}

// statusOptions are what of a status is shown.
type statusOptions struct {
	name     string // of a container or service; "": all
	problems bool   // nothing else
}

func showStatus(ctx context.Context, a *app, o statusOptions) error {
	st, err := call(ctx, a, api.OpStatus, api.None{})
	if err != nil {
		return err
	}
	if st, err = o.of(st); err != nil {
		return err
	}
	if o.problems {
		err = emit(a, problemsView{api.Schema, st.Degraded, st.Problems}, problemsText)
	} else {
		err = emit(a, st, statusText)
	}
	if err == nil && st.Degraded {
		return Coded(ExitDegraded, nil)
	}
	return err
}

// of is a status with the named container or service alone.
func (o statusOptions) of(st api.Status) (api.Status, error) {
	if o.name == "" {
		return st, nil
	}
	host, name := api.SplitHost(o.name)
	names := map[string]bool{}
	st.Containers = slices.DeleteFunc(st.Containers, func(c api.ContainerView) bool {
		elsewhere := host != "" && host != cmp.Or(c.Host, st.Node.Name)
		if elsewhere || c.Name != name && c.Service != name && !(len(name) >= 12 && strings.HasPrefix(c.ID, name)) {
			return true
		}
		names[c.Name], names[c.Service] = true, true
		return false
	})
	if len(st.Containers) == 0 {
		return st, Coded(ExitNotFound, fmt.Errorf("no container or service %q: `effiscale status` lists them", clean(o.name)))
	}
	st.Services = slices.DeleteFunc(st.Services, func(s api.ServiceView) bool { return !names[s.Name] })
	st.Problems = slices.DeleteFunc(st.Problems, func(p string) bool { return !about(p, names) })
	st.Degraded = len(st.Problems) > 0
	return st, nil
}

// about reports whether a problem begins with one of the names, or with a host and one.
func about(problem string, names map[string]bool) bool {
	for range 2 {
		word, rest, _ := strings.Cut(problem, " ")
		if names[strings.TrimSuffix(word, ":")] {
			return true
		}
		problem = rest
	}
	return false
}

type problemsView struct {
	Schema   int      `json:"schema"`
	Degraded bool     `json:"degraded"`
	Problems []string `json:"problems"`
}

func problemsText(p *page, v problemsView) {
	for _, problem := range v.Problems {
		p.problem(problem)
	}
	if len(v.Problems) == 0 {
		p.line("No problems.")
	}
}

func watchStatus(ctx context.Context, a *app, o statusOptions) error {
	if !a.Terminal || a.output == "json" {
		return usagef("--watch needs a terminal; programs use `effiscale status -o json` or the metrics endpoint")
	}
	return every(ctx, watchEvery, func() error {
		a.measure()
		return a.frame(ctx, o)
	})
}

// frame draws a status over the one before, as high as the terminal at most.
func (a *app) frame(ctx context.Context, o statusOptions) error {
	screen, height := *a, a.Height
	var text bytes.Buffer
	screen.Out = &text
	if err := showStatus(ctx, &screen, o); err != nil && codeOf(err) != ExitDegraded {
		return err
	}
	var b strings.Builder
	b.WriteString("\x1b[H")
	for _, l := range fitLines(strings.Split(strings.TrimRight(text.String(), "\n"), "\n"), height-1) {
		b.WriteString(l + "\x1b[K\n")
	}
	return a.write(b.String() + "\x1b[J")
}

// fitLines leaves lines in the middle out where there are too many: hosts are at the top, and
// problems at the end.
func fitLines(lines []string, height int) []string {
	if height < 3 || len(lines) <= height {
		return lines
	}
	end := min(height/2, len(lines)-lastBlank(lines))
	top := height - end - 1
	note := fmt.Sprintf("… %d lines left out: `effiscale status NAME`, or a higher terminal", len(lines)-top-end)
	return slices.Concat(lines[:top], []string{note}, lines[len(lines)-end:])
}

// lastBlank is where the last blank line is: after it come the summary and the problems.
func lastBlank(lines []string) int {
	for i, l := range slices.Backward(lines) {
		if l == "" {
			return i + 1
		}
	}
	return 0
}

func statusText(p *page, st api.Status) {
	statusHead(p, st)
	p.line("")
	hostTable(p, st).print(p)
	if t := serviceTable(p, st); len(t.rows) > 0 {
		p.line("")
		t.print(p)
	}
	p.line("")
	if len(st.Containers) == 0 {
		p.line("No containers. A container with the label effiscale.enable=true is managed from its start.")
	}
	containerTable(p, st).print(p)
	p.line("")
	s, of := summaryOf(st)
	p.line("Last hour%s: %s, %d failed, %d reverted, %d drift repaired.",
		of, plural(s.Actions, "action", "actions"), s.Failed, s.Reverted, s.DriftRepaired)
	p.line("Compared with the original limits: %s.", savedText(s))
	switch h := clusterHealth(st.Cluster); {
	case st.Node.Stopping:
		p.warning("The daemon is stopping; containers keep their limits.")
	case hasLeft(st.Cluster):
		p.warning("This node has left the cluster and plans for its own host only; restart its daemon to rejoin.")
	case h != nil:
		h.warnings(p)
	}
	for _, problem := range st.Problems {
		p.problem(problem)
	}
}

func statusHead(p *page, st api.Status) {
	n := st.Node
	head := fmt.Sprintf("%s  node %s  mode %s  up %s",
		p.style(styleBold, "effiscale "+release(st.Version)), n.Name, n.Mode, p.since(n.StartedAt))
	switch {
	case n.SafeMode:
		head += "  " + p.style(styleRed, "safe mode: measures only")
	case !n.Ready:
		head += "  " + p.style(styleYellow, "starting")
	case st.Degraded:
		head += "  " + p.style(styleRed, "degraded")
	}
	switch h := clusterHealth(st.Cluster); {
	case st.Node.Stopping:
		head += "  " + p.style(styleYellow, "stopping")
	case hasLeft(st.Cluster):
		head += "  cluster: " + p.style(styleYellow, "left")
	case h != nil:
		head += "  cluster: " + h.text(p)
	}
	p.paragraph("", head)
	state, _, _ := strings.Cut(n.Engine, ": ") // the rest is among the problems
	engine := "Engine " + state
	if n.EngineVersion != "" {
		engine += fmt.Sprintf(", %s (API %s)", n.EngineVersion, n.APIVersion)
	}
	p.paragraph("", fmt.Sprintf("%s; cgroup %s; samples from %s; actuator %s; knowledge %s",
		engine, orDash(n.Cgroup), orDash(n.Source), orDash(n.Actuator), orDash(n.Store)))
}

// release is a version without the details in parentheses.
func release(version string) string {
	short, _, _ := strings.Cut(version, " (")
	return short
}

// serviceTable is empty when every service is just one container of its name that
// this node plans for.
func serviceTable(p *page, st api.Status) *table {
	t := &table{
		head: []string{"SERVICE", "OWNER", "CONTAINERS", "CPU USE/LIMIT", "MEM USE/LIMIT", "AUTOMATION"}, wrap: true,
		right: map[int]bool{2: true, 3: true, 4: true},
	}
	plain := true
	acted := map[string]bool{}
	for _, c := range st.Containers {
		acted[c.Name] = c.Managed && c.Mode == "auto"
	}
	for _, s := range st.Services {
		plain = plain && len(s.Containers) == 1 && s.Containers[0] == s.Name && s.Paused == "" &&
			(s.Owner == "" || s.Owner == st.Node.Name)
		automation := automationText(s, acted)
		if paused := p.pauseOf(s); paused != "" {
			automation = p.style(styleYellow, paused)
		}
		t.add(s.Name, s.Owner, fmt.Sprint(len(s.Containers)), cpuCell(s.CPUUsed, s.CPULimit),
			memCell(s.MemoryUsed, s.MemoryLimit), automation)
	}
	if plain {
		t.rows = nil
	}
	return t
}

// automationText says for how many of a service's containers automation is on.
func automationText(s api.ServiceView, acted map[string]bool) string {
	on := 0
	for _, name := range s.Containers {
		if acted[name] {
			on++
		}
	}
	switch on {
	case 0:
		return "off"
	case len(s.Containers):
		return "on"
	}
	return fmt.Sprintf("on for %d of %d", on, len(s.Containers))
}

// pauseOf says how a service is paused, for how long, or on which hosts; "": it is not.
func (p *page) pauseOf(s api.ServiceView) string {
	hosts := map[string][]string{}
	for _, host := range slices.Sorted(maps.Keys(s.Pauses)) {
		state, _ := pauseState(s.Pauses[host])
		hosts[state] = append(hosts[state], host)
	}
	var parts []string
	for _, state := range slices.Sorted(maps.Keys(hosts)) {
		parts = append(parts, state+" on "+strings.Join(hosts[state], ", "))
	}
	if s.Paused != "" {
		state, until := pauseState(s.Paused)
		parts = append(parts, state+" "+p.pauseLeft(until))
	}
	return strings.Join(parts, "; ")
}

// pauseState reads "until …" and "down until …".
func pauseState(paused string) (state, until string) {
	if until, down := strings.CutPrefix(paused, "down "); down {
		return "reductions paused", until
	}
	return "paused", paused
}

// pauseLeft prints "until 2026-11-23T17:37:02Z" as the remaining time, as the lines of
// the containers do.
func (p *page) pauseLeft(paused string) string {
	until, err := time.Parse(time.RFC3339, strings.TrimPrefix(paused, "until "))
	if err != nil {
		return paused
	}
	left := knowledge.Because(knowledge.RulePaused, max(until.Sub(p.now).Seconds(), 1))
	return strings.TrimPrefix(left.String(), "paused ")
}

func cpuCell(used float64, limit *float64) string {
	if limit == nil {
		return coreText(used) + "/none    -"
	}
	return fmt.Sprintf("%s/%s %4s", coreText(used), coreText(*limit), percent(used, *limit))
}

func memCell(used int64, limit *int64) string {
	if limit == nil {
		return sizeText(used) + "/none    -"
	}
	unit, size := unitOf(*limit)
	share := percent(float64(used), float64(*limit))
	return fmt.Sprintf("%s/%s %s %4s", inUnit(used, size), inUnit(*limit, size), unit, share)
}

// containerTable has a HOST column instead of the throttling when other hosts have
// containers.
func containerTable(p *page, st api.Status) *table {
	hosts := slices.ContainsFunc(st.Containers, func(c api.ContainerView) bool { return !isHere(st, c) })
	t := &table{head: []string{"CONTAINER", "CPU USE/LIMIT", "THR", "MEM USE/LIMIT", "STATE", "LAST CHANGE"}}
	t.right = map[int]bool{1: true, 2: true, 3: true}
	if hosts {
		t.head = []string{"CONTAINER", "HOST", "CPU USE/LIMIT", "MEM USE/LIMIT", "STATE", "LAST CHANGE"}
		t.right = map[int]bool{2: true, 3: true}
	}
	for _, c := range st.Containers {
		cpu, thr, mem := cpuCell(c.CPUUsed, c.CPULimit), ratioText(c.Throttled), memCell(c.MemoryUsed, c.MemoryLimit)
		if c.Run != "running" || c.SampledAt.IsZero() {
			cpu, thr, mem = "-", "-", "-"
		}
		if hosts {
			t.add(c.Name, cmp.Or(c.Host, st.Node.Name), cpu, mem, stateCell(p, c), changeCell(p, c))
		} else {
			t.add(c.Name, cpu, thr, mem, stateCell(p, c), changeCell(p, c))
		}
		if why := whyLine(c); why != "" {
			t.note(why)
		}
	}
	return t
}

func stateCell(p *page, c api.ContainerView) string {
	switch c.State {
	case "growing", "starting", "shrinking":
		return p.style(styleGreen, c.State)
	case "limited", "blocked", "unmeasured":
		return p.style(styleRed, c.State)
	case "paused", "yielding", "paused (docker)", "frozen", "waiting for memory":
		return p.style(styleYellow, c.State)
	}
	return orDash(c.State)
}

// changeCell is the last change; without automation, the limits that it would set.
func changeCell(p *page, c api.ContainerView) string {
	if c.LastChange != nil {
		ch := c.LastChange
		s := p.since(ch.At) + " "
		if ch.Resource == "" {
			s += changeText(*ch)
		} else {
			s += fmt.Sprintf("%.3s %s", ch.Resource, move(ch.Resource, ch.From, ch.To))
		}
		if ch.Result != "applied" && ch.Result != "adjusted" {
			s += " " + ch.Result
		}
		return s
	}
	if c.Managed && c.Mode == "auto" {
		return "-"
	}
	var would []string
	if c.CPUWanted != nil && *c.CPUWanted > 0 {
		would = append(would, coreText(*c.CPUWanted))
	}
	if c.MemoryWanted != nil && *c.MemoryWanted > 0 {
		would = append(would, sizeText(*c.MemoryWanted))
	}
	if len(would) == 0 {
		return "-"
	}
	return "would be " + strings.Join(would, ", ")
}

// whyLine is the reason of a managed container, and the problems of any container.
func whyLine(c api.ContainerView) string {
	if len(c.Problems) > 0 {
		return "! " + strings.Join(c.Problems, "; ")
	}
	if c.Managed {
		return c.Why
	}
	return ""
}

func savedText(s api.Summary) string {
	if s.SavedCPU == 0 && s.SavedMemory == 0 {
		return "no difference"
	}
	cpu, mem := "cpu unchanged", "memory unchanged"
	switch {
	case s.SavedCPU > 0:
		cpu = coreText(s.SavedCPU) + " cores saved"
	case s.SavedCPU < 0:
		cpu = coreText(-s.SavedCPU) + " cores more"
	}
	switch {
	case s.SavedMemory > 0:
		mem = sizeText(s.SavedMemory) + " saved"
	case s.SavedMemory < 0:
		mem = sizeText(-s.SavedMemory) + " more"
	}
	return cpu + ", " + mem
}
