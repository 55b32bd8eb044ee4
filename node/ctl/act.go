package ctl

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/effiscale/effiscale/node/api"
)

// maxPause is the longest time of --for.
const maxPause = 366 * 24 * time.Hour

// anyHost ends the help of the commands that look for NAME on every host.
const anyHost = "NAME may be on any host of the cluster; HOST/NAME is the one on that host."

func scaleCmd(a *app) *cobra.Command {
	var cpu, memory string
	var dry bool
	cmd := &cobra.Command{
		Use:   "scale NAME [--cpu CORES] [--memory SIZE]",
		Short: "Set a container's limits by hand, within the guards",
		Long: "Set a container's limits by hand. The guards of automatic decisions apply: the policy's bounds, the\n" +
			"memory in use, the host's capacity. The answer names each guard that reduced the request.\n" +
			anyHost + "\nA container of this host takes precedence.",
		Example:           "  effiscale scale web --cpu 1.5 --memory 512MiB\n  effiscale scale web --memory 1g --dry-run",
		Args:              oneArg("NAME"),
		ValidArgsFunction: completeNames(a, false),
	}
	cmd.RunE = a.runNamed(func(ctx context.Context, name string) error {
		r := api.ScaleRequest{Container: name, DryRun: dry}
		if cpu == "" && memory == "" {
			return usagef("nothing to do: give --cpu, --memory or both")
		}
		var err error
		if cpu != "" {
			if r.CPU, err = parseCores(cpu); err != nil {
				return err
			}
		}
		if memory != "" {
			if r.Memory, err = parseSize(memory); err != nil {
				return err
			}
		}
		res, err := call(ctx, a, api.OpScale, r)
		if err == nil {
			err = emit(a, scaleView{api.Schema, r.DryRun, res}, func(p *page, v scaleView) { scaleText(p, clean(name), v) })
		}
		return err
	})
	cmd.Flags().StringVar(&cpu, "cpu", "", "CPU limit in cores, such as 0.5")
	cmd.Flags().StringVar(&memory, "memory", "", "memory limit, such as 512MiB")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "show what would be done, change nothing")
	return cmd
}

type scaleView struct {
	Schema int  `json:"schema"`
	DryRun bool `json:"dry_run"`
	api.ScaleResult
}

func scaleText(p *page, name string, v scaleView) {
	if v.Host != "" {
		name = strings.TrimPrefix(name, v.Host+"/")
		name += " on " + v.Host
	}
	for _, c := range v.Changes {
		verb, result := "", ""
		if v.DryRun {
			verb = "would set "
		} else if c.Result != "" {
			result = "  " + resultCell(p, c)
		}
		p.line("%s: %s%s %s%s", name, verb, c.Resource, move(c.Resource, c.From, c.To), result)
	}
	if len(v.Changes) == 0 && len(v.Notes) == 0 {
		p.line("%s: nothing to change", name)
	}
	for _, n := range v.Notes {
		p.paragraph(name+": ", n)
	}
}

// pauseView is the answer of pause and resume.
type pauseView struct {
	Schema     int        `json:"schema"`
	Service    string     `json:"service"` // "": all
	Paused     bool       `json:"paused"`
	OnlyDown   bool       `json:"only_down"`
	Until      *time.Time `json:"until"` // null: until resumed
	Hosts      []string   `json:"hosts"`
	NotReached []string   `json:"not_reached"`
	NotPaused  bool       `json:"not_paused,omitempty"`
	HoldsEnded []string   `json:"holds_ended,omitempty"`
}

// pauseHelp says which services a pause covers.
const pauseHelp = "NAME is a service, or one of its containers, on every host of the cluster that runs it now;\n" +
	"HOST/NAME is the service on that host only. --all is every service of this host, --all-hosts every\n" +
	"service of every host. Services that appear later are not included. The answer lists the hosts. The\n" +
	"exit code is 69 when a host could not be reached; the error names it."

func pauseCmd(a *app) *cobra.Command {
	var r api.PauseRequest
	var only string
	cmd := &cobra.Command{
		Use:               "pause NAME | --all | --all-hosts [--for DURATION] [--only down]",
		Short:             "Stop automatic changes of a service, for a time or until resumed",
		Long:              "Stop automatic changes of a service's limits, for a time or until resumed.\n" + pauseHelp,
		Example:           "  effiscale pause web --for 2h\n  effiscale pause web --only down\n  effiscale pause --all-hosts",
		Args:              atMostOneName,
		ValidArgsFunction: completeNames(a, true),
	}
	cmd.Flags().DurationVar(&r.For, "for", 0, "how long, such as 30m or 2h; without it until resumed")
	cmd.Flags().StringVar(&only, "only", "", "down: pause reductions only")
	allFlags(cmd, &r)
	_ = cmd.RegisterFlagCompletionFunc("only", oneOf("down"))
	cmd.RunE = a.run(func(ctx context.Context, args []string) error {
		switch {
		case only != "" && only != "down":
			return usagef("--only %q: allowed is down", shorten(only))
		case cmd.Flags().Changed("for") && (r.For <= 0 || r.For > maxPause):
			return usagef("--for %s: allowed are durations up to 366 days (8784h), such as 30m or 2h", r.For)
		}
		r.OnlyDown = only == "down"
		return pause(ctx, a, args, r)
	})
	return cmd
}

func allFlags(cmd *cobra.Command, r *api.PauseRequest) {
	cmd.Flags().BoolVar(&r.All, "all", false, "every service of this host")
	cmd.Flags().BoolVar(&r.AllHosts, "all-hosts", false, "every service of every host of the cluster")
}

func resumeCmd(a *app) *cobra.Command {
	r := api.PauseRequest{Resume: true}
	cmd := &cobra.Command{
		Use:               "resume NAME | --all | --all-hosts",
		Short:             "End a pause",
		Long:              "End a pause, and the time for which limits are kept after a change by hand.\n" + pauseHelp,
		Args:              atMostOneName,
		ValidArgsFunction: completeNames(a, true),
	}
	allFlags(cmd, &r)
	cmd.RunE = a.run(func(ctx context.Context, args []string) error { return pause(ctx, a, args, r) })
	return cmd
}

func pause(ctx context.Context, a *app, args []string, r api.PauseRequest) error {
	given := len(args)
	for _, all := range []bool{r.All, r.AllHosts} {
		if all {
			given++
		}
	}
	if given != 1 {
		return usagef("give one of NAME, --all (every service of this host) or --all-hosts (every service of every host)")
	}
	var err error
	if r.Service, err = nameOf(args); err != nil {
		return err
	}
	res, err := call(ctx, a, api.OpPause, r)
	if err != nil {
		return err
	}
	v := pauseView{Schema: api.Schema, Service: res.Service, Paused: !r.Resume, OnlyDown: r.OnlyDown,
		Hosts: res.Hosts, NotReached: res.NotReached, NotPaused: res.NotPaused, HoldsEnded: res.HoldsEnded}
	if r.For > 0 {
		until := a.deps.Now().Add(r.For).UTC()
		v.Until = &until
	}
	err = emit(a, v, func(p *page, v pauseView) { pauseText(p, v, r.For) })
	if err != nil || len(v.NotReached) == 0 {
		return err
	}
	return Coded(ExitUnreachable, fmt.Errorf("not reached: %s\nA host that answered too late may have made the change; "+
		"see `effiscale members`, and run this again when all hosts answer", strings.Join(scrub(v.NotReached), ", ")))
}

func pauseText(p *page, v pauseView, length time.Duration) {
	if len(v.Hosts) == 0 {
		return
	}
	state, until := "paused", " until resumed"
	if v.OnlyDown {
		state = "reductions paused"
	}
	if v.Until != nil {
		until = fmt.Sprintf(" for %s, until %s", ageText(length), v.Until.Format("2006-01-02 15:04:05 UTC"))
	}
	if !v.Paused {
		state, until = "resumed", ""
	}
	if v.NotPaused {
		state = "not paused"
	}
	p.paragraph("", fmt.Sprintf("%s: %s%s, on %s", cmp.Or(v.Service, "all services"), state, until, hostsText(v.Hosts)))
	if len(v.HoldsEnded) > 0 {
		p.paragraph("", "automation changes these again, whose limits were kept after a change of them: "+
			strings.Join(scrub(v.HoldsEnded), ", "))
	}
}

// hostsText names hosts.
func hostsText(hosts []string) string {
	if len(hosts) == 1 {
		return "host " + hosts[0]
	}
	return "hosts " + strings.Join(hosts, ", ")
}

func restoreCmd(a *app) *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "restore NAME | --all",
		Short: "Restore the original limits",
		Long: "Restore the limits that a container, or with --all every container of this host, had before EffiScale\n" +
			"changed them. Their services are paused on that host, so that the limits stay; `resume` ends the pause.\n" +
			anyHost + " For all hosts run --all on each.",
		Args:              atMostOneName,
		ValidArgsFunction: completeNames(a, false),
	}
	cmd.Flags().BoolVar(&all, "all", false, "every changed container of this host")
	cmd.RunE = a.run(func(ctx context.Context, args []string) error {
		if all == (len(args) == 1) {
			return usagef("give NAME, or --all for every container of this host")
		}
		name, err := nameOf(args)
		if err != nil {
			return err
		}
		res, err := ask(ctx, a, api.OpRestore, api.RestoreRequest{Container: name},
			func(p *page, res api.RestoreResult) { restoreText(p, clean(name), res) })
		if err == nil && len(res.Failed) > 0 {
			err = Coded(ExitRefused, fmt.Errorf("not everything could be restored on host %s:\n  %s",
				clean(res.Host), strings.Join(scrub(res.Failed), "\n  ")))
		}
		return err
	})
	return cmd
}

func restoreText(p *page, name string, res api.RestoreResult) {
	if res.Nothing {
		p.line("Nothing to restore on host %s: no limit was changed.", res.Host)
	}
	for _, c := range res.Restored {
		p.line("%s on %s: %s %s  %s", c.Container, res.Host, c.Resource, move(c.Resource, c.From, c.To), resultCell(p, c))
	}
	if res.Paused {
		p.line("Paused on host %s; `effiscale resume %s` ends the pause.", res.Host, cmp.Or(name, "NAME"))
	}
}

func reloadCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "reload",
		Short: "Reload the configuration of this host's daemon (all or nothing)",
		Args:  noArgs,
		RunE: a.run(func(ctx context.Context, _ []string) error {
			err := do(ctx, a, api.OpReload, api.None{}, "Configuration reloaded.")
			if api.KindOf(err) == api.KindBadRequest {
				return Coded(ExitConfig, err)
			}
			return err
		}),
	}
}
