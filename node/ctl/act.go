package ctl

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/effiscale/effiscale/node/api"
)

const (
	// completeTimeout: a Tab that takes longer than a second is worse than none.
	completeTimeout = time.Second
	// maxCores and maxSize refuse slips of the keyboard before the daemon is
	// asked; its own bounds are the host's.
	maxCores = 4096
	maxSize  = int64(1) << 50 // 1 PiB
	maxPause = 366 * 24 * time.Hour
)

// checkName refuses what cannot be NAME or HOST/NAME: a container or a service, and the
// host that is meant.
func checkName(name string) (string, error) {
	host, rest := api.SplitHost(name)
	switch {
	case strings.TrimSpace(name) == "":
		return "", usagef("the name is empty: `effiscale status` lists the containers")
	case strings.HasPrefix(name, "/") && strings.Count(name, "/") == 1 && len(name) > 1:
		return "", usagef("%q has a slash: a container's name is written without it, %q", shorten(name), shorten(name[1:]))
	case strings.Count(name, "/") > 1, host == "." || host == "..", len(rest) < len(name) && (rest == "" || host == ""):
		return "", usagef("%q is not a container's name: allowed are NAME, and HOST/NAME for the one of that host", shorten(name))
	case len(rest) > 128 || len(host) > 64:
		return "", usagef("a name of %d characters is too long: at most 128, and 64 of a host", len(name))
	case clean(name) != name:
		return "", usagef("%q is not a container's name: it has control characters", shorten(name))
	}
	return name, nil
}

// anyHost ends the help of the commands that find their name on any host.
const anyHost = "NAME may be on any host of the cluster; HOST/NAME means the one of that host."

func shorten(s string) string {
	if len(s) > 64 {
		return s[:64] + "…"
	}
	return s
}

// parseCores reads cores: "0.5", "2".
func parseCores(s string) (float64, error) {
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsNaN(v) || v < 0.01 || v > maxCores {
		return 0, usagef("--cpu %q: allowed are cores from 0.01 to %d, such as 0.5 or 2", shorten(s), maxCores)
	}
	return v, nil
}

var sizeSuffixes = map[string]float64{
	"": 1, "b": 1, "k": 1 << 10, "kib": 1 << 10, "m": 1 << 20, "mib": 1 << 20, "g": 1 << 30, "gib": 1 << 30, "t": 1 << 40, "tib": 1 << 40,
}

// parseSize reads a size as Docker and IEC write it: "512m", "512MiB", "1.5g".
func parseSize(s string) (int64, error) {
	digits := strings.TrimRight(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
	unit, known := sizeSuffixes[strings.ToLower(s[len(digits):])]
	v, err := strconv.ParseFloat(strings.TrimSpace(digits), 64)
	if bytes := v * unit; known && err == nil && bytes >= 1 && bytes <= float64(maxSize) {
		return int64(bytes), nil
	}
	return 0, usagef("--memory %q: allowed are sizes up to 1024 TiB, such as 512MiB, 512m or 1.5GiB", shorten(s))
}

func (a *app) scaleCmd() *cobra.Command {
	var cpu, memory string
	var dry bool
	cmd := &cobra.Command{
		Use:               "scale NAME [--cpu CORES] [--memory SIZE]",
		Short:             "Set a container's limits by hand, inside the guards",
		Long:              "Set a container's limits by hand, inside every guard that holds for the daemon's own decisions: the\npolicy's bounds, the working set, the host. What a guard cuts short is said.\n" + anyHost + "\nOne of this host comes first.",
		Example:           "  effiscale scale web --cpu 1.5 --memory 512MiB\n  effiscale scale web --memory 1g --dry-run",
		Args:              oneArg("NAME"),
		ValidArgsFunction: a.completeNames(false),
		RunE: a.run(func(ctx context.Context, args []string) error {
			r := api.ScaleRequest{DryRun: dry, By: a.who()}
			var err error
			if r.Container, err = checkName(args[0]); err != nil {
				return err
			}
			if cpu == "" && memory == "" {
				return usagef("nothing to do: give --cpu, --memory or both")
			}
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
			return a.scale(ctx, r)
		}),
	}
	cmd.Flags().StringVar(&cpu, "cpu", "", "CPU limit in cores, such as 0.5")
	cmd.Flags().StringVar(&memory, "memory", "", "memory limit, such as 512MiB")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only say what would be done")
	return cmd
}

// who names the asking person for the history; the daemon knows the real user
// from the socket.
func (a *app) who() string {
	for _, key := range []string{"SUDO_USER", "USER", "LOGNAME"} {
		if u := a.env(key); u != "" && len(u) <= 64 && shellSafe(u) {
			return u
		}
	}
	return "command line"
}

type scaleView struct {
	Schema int  `json:"schema"`
	DryRun bool `json:"dry_run"`
	api.ScaleResult
}

func (a *app) scale(ctx context.Context, r api.ScaleRequest) error {
	res, err := call(ctx, func(ctx context.Context) (api.ScaleResult, error) { return a.client().Scale(ctx, r) })
	if err != nil {
		return err
	}
	return emit(a, scaleView{api.Schema, r.DryRun, res}, func(p *page, v scaleView) {
		name, verb := clean(r.Container), ""
		if v.Host != "" {
			_, name = api.SplitHost(name)
			name += " on " + clean(v.Host)
		}
		if v.DryRun {
			verb = "would set "
		}
		for _, c := range v.Changes {
			p.line("%s: %s%s %s%s", name, verb, c.Resource, move(c.Resource, c.From, c.To), doneText(p, c, v.DryRun))
		}
		if len(v.Changes) == 0 && len(v.Notes) == 0 {
			p.line("%s: nothing to change", name)
		}
		for _, n := range v.Notes {
			p.paragraph(name+": ", n)
		}
	})
}

func doneText(p *page, c api.Change, dry bool) string {
	if dry || c.Result == "" {
		return ""
	}
	return "  " + resultCell(p, c)
}

// pauseView is what pause and resume answer.
type pauseView struct {
	Schema     int        `json:"schema"`
	Service    string     `json:"service"` // "": all
	Paused     bool       `json:"paused"`
	OnlyDown   bool       `json:"only_down"`
	Until      *time.Time `json:"until"` // null: until resumed
	Hosts      []string   `json:"hosts"`
	NotReached []string   `json:"not_reached"`
}

// pauseHelp is what a pause reaches.
const pauseHelp = "A service is NAME, or that of the container NAME, on every host of the cluster that runs it now; HOST/NAME\n" +
	"means that host alone. --all are all services of the host that is asked, --all-hosts those of every host;\n" +
	"what is new after it is not among them. The answer names the hosts. One that may run it and could not be\n" +
	"told is named, too, and the exit code is 69 then."

func (a *app) pauseCmd() *cobra.Command {
	var r api.PauseRequest
	var only string
	cmd := &cobra.Command{
		Use:               "pause NAME | --all | --all-hosts [--for DURATION] [--only down]",
		Short:             "Leave a service's limits alone, for a while or until resumed",
		Long:              "Leave a service's limits alone, for a while or until resumed.\n" + pauseHelp,
		Example:           "  effiscale pause web --for 2h\n  effiscale pause web --only down\n  effiscale pause --all-hosts",
		Args:              atMostOneName,
		ValidArgsFunction: a.completeNames(true),
	}
	cmd.Flags().DurationVar(&r.For, "for", 0, "how long, such as 30m or 2h; without: until resumed")
	cmd.Flags().StringVar(&only, "only", "", "down: growth stays allowed")
	allFlags(cmd, &r)
	_ = cmd.RegisterFlagCompletionFunc("only", cobra.FixedCompletions([]string{"down"}, cobra.ShellCompDirectiveNoFileComp))
	cmd.RunE = a.run(func(ctx context.Context, args []string) error {
		switch {
		case only != "" && only != "down":
			return usagef("--only %q: allowed is down", shorten(only))
		case cmd.Flags().Changed("for") && (r.For <= 0 || r.For > maxPause):
			return usagef("--for %s: allowed are durations up to 366 days (8784h), such as 30m or 2h", r.For)
		}
		r.OnlyDown = only == "down"
		return a.pause(ctx, args, r)
	})
	return cmd
}

func allFlags(cmd *cobra.Command, r *api.PauseRequest) {
	cmd.Flags().BoolVar(&r.All, "all", false, "every service of the host that is asked")
	cmd.Flags().BoolVar(&r.AllHosts, "all-hosts", false, "every service of every host of the cluster")
}

func (a *app) resumeCmd() *cobra.Command {
	r := api.PauseRequest{Resume: true}
	cmd := &cobra.Command{
		Use:               "resume NAME | --all | --all-hosts",
		Short:             "End a pause",
		Long:              "End a pause.\n" + pauseHelp,
		Args:              atMostOneName,
		ValidArgsFunction: a.completeNames(true),
	}
	allFlags(cmd, &r)
	cmd.RunE = a.run(func(ctx context.Context, args []string) error { return a.pause(ctx, args, r) })
	return cmd
}

func (a *app) pause(ctx context.Context, args []string, r api.PauseRequest) error {
	given := len(args)
	for _, all := range []bool{r.All, r.AllHosts} {
		if all {
			given++
		}
	}
	if given != 1 {
		return usagef("give the name of a service, or --all for every one of this host, or --all-hosts for those of every host")
	}
	if len(args) == 1 {
		var err error
		if r.Service, err = checkName(args[0]); err != nil {
			return err
		}
	}
	res, err := call(ctx, func(ctx context.Context) (api.PauseResult, error) { return a.client().Pause(ctx, r) })
	if err != nil {
		return err
	}
	v := pauseView{Schema: api.Schema, Service: res.Service, Paused: !r.Resume, OnlyDown: r.OnlyDown, Hosts: res.Hosts, NotReached: res.NotReached}
	if r.For > 0 {
		until := a.deps.Now().Add(r.For).UTC()
		v.Until = &until
	}
	if err := emit(a, v, func(p *page, v pauseView) { pauseText(p, v, r.For) }); err != nil {
		return err
	}
	return notReached(v.NotReached)
}

func pauseText(p *page, v pauseView, length time.Duration) {
	if len(v.Hosts) == 0 {
		return
	}
	what, until := "paused", " until resumed"
	if v.OnlyDown {
		what = "cuts paused, growth stays allowed,"
	}
	if v.Until != nil {
		until = fmt.Sprintf(" for %s, until %s", ageText(length), v.Until.Format("2006-01-02 15:04:05 UTC"))
	}
	if !v.Paused {
		what, until = "automation resumed", ""
	}
	p.paragraph("", fmt.Sprintf("%s: %s%s, on %s", cmp.Or(v.Service, "all services"), what, until, hostsText(v.Hosts)))
}

// hostsText names hosts.
func hostsText(hosts []string) string {
	if len(hosts) == 1 {
		return "host " + hosts[0]
	}
	return "hosts " + strings.Join(hosts, ", ")
}

// notReached is the error of a command that did not get to all hosts.
func notReached(hosts []string) error {
	if len(hosts) == 0 {
		return nil
	}
	return Coded(ExitUnreachable, fmt.Errorf("not reached: %s\nwho did not answer in time may have done it all the same: `effiscale members` shows them; run it again when they answer", strings.Join(scrub(hosts), ", ")))
}

func (a *app) restoreCmd() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "restore NAME | --all",
		Short: "Put the original limits back",
		Long: "Put back the limits that a container, or with --all every container of the host that is asked, had before\n" +
			"EffiScale. Their services are paused on that host, so that they stay there: `resume` goes on from there.\n" +
			anyHost + " For all hosts run --all on each.",
		Args:              atMostOneName,
		ValidArgsFunction: a.completeNames(false),
		RunE: a.run(func(ctx context.Context, args []string) error {
			if all == (len(args) == 1) {
				return usagef("give the name of a container, or --all for every one of this host")
			}
			name := ""
			if !all {
				var err error
				if name, err = checkName(args[0]); err != nil {
					return err
				}
			}
			return a.restore(ctx, name)
		}),
	}
	cmd.Flags().BoolVar(&all, "all", false, "every container of this host that was changed")
	return cmd
}

func (a *app) restore(ctx context.Context, name string) error {
	res, err := call(ctx, func(ctx context.Context) (api.RestoreResult, error) { return a.client().Restore(ctx, name) })
	if err != nil {
		return err
	}
	err = emit(a, res, func(p *page, res api.RestoreResult) {
		if res.Nothing {
			p.line("Nothing to restore on host %s: no limit had been changed.", res.Host)
		}
		for _, c := range res.Restored {
			p.line("%s on %s: %s %s  %s", c.Container, res.Host, c.Resource, move(c.Resource, c.From, c.To), resultCell(p, c))
		}
		if res.Paused {
			p.line("Automation is paused on host %s, so that it stays so; `effiscale resume %s` goes on.", res.Host, cmp.Or(clean(name), "NAME"))
		}
	})
	if err != nil {
		return err
	}
	if len(res.Failed) > 0 {
		return fmt.Errorf("could not restore everything on host %s; run it again:\n  %s", clean(res.Host), strings.Join(scrub(res.Failed), "\n  "))
	}
	return nil
}

func (a *app) reloadCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "reload",
		Short: "Let the daemon of this host read its configuration anew, all or nothing",
		Args:  noArgs,
		RunE: a.run(func(ctx context.Context, _ []string) error {
			if _, err := call(ctx, func(ctx context.Context) (any, error) { return nil, a.client().Reload(ctx) }); err != nil {
				if api.KindOf(err) == api.KindBadRequest {
					return Coded(ExitConfig, err)
				}
				return err
			}
			return emit(a, doneView{api.Schema, true}, func(p *page, _ doneView) { p.line("Configuration reloaded.") })
		}),
	}
}

type doneView struct {
	Schema int  `json:"schema"`
	Done   bool `json:"done"`
}
