package ctl

import (
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

// checkName refuses what cannot be the name of a container or a service.
func checkName(name string) (string, error) {
	switch {
	case strings.TrimSpace(name) == "":
		return "", usagef("the name is empty: `effiscale status` lists the containers")
	case strings.HasPrefix(name, "/") && strings.Count(name, "/") == 1 && len(name) > 1:
		return "", usagef("%q has a slash: a container's name is written without it, %q", shorten(name), shorten(name[1:]))
	case strings.Contains(name, "/"):
		return "", usagef("%q is not a container's name: it has a slash", shorten(name))
	case len(name) > 128:
		return "", usagef("a name of %d characters is too long: at most 128", len(name))
	case clean(name) != name:
		return "", usagef("%q is not a container's name: it has control characters", shorten(name))
	}
	return name, nil
}

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
		Long:              "Set a container's limits by hand, inside every guard that holds for the daemon's own decisions: the\npolicy's bounds, the working set, the host. What a guard cuts short is said. The container may be on any\nhost of the cluster; one of this host comes first.",
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
	Schema   int        `json:"schema"`
	Service  string     `json:"service"`
	Paused   bool       `json:"paused"`
	OnlyDown bool       `json:"only_down"`
	Until    *time.Time `json:"until"` // null: until resumed
}

func (a *app) pauseCmd() *cobra.Command {
	var length time.Duration
	var only string
	cmd := &cobra.Command{
		Use:               "pause NAME [--for DURATION] [--only down]",
		Short:             "Leave a service's limits alone, for a while or until resumed",
		Example:           "  effiscale pause web --for 2h\n  effiscale pause web --only down",
		Args:              oneArg("NAME"),
		ValidArgsFunction: a.completeNames(true),
	}
	cmd.Flags().DurationVar(&length, "for", 0, "how long, such as 30m or 2h; without: until resumed")
	cmd.Flags().StringVar(&only, "only", "", "down: growth stays allowed")
	_ = cmd.RegisterFlagCompletionFunc("only", cobra.FixedCompletions([]string{"down"}, cobra.ShellCompDirectiveNoFileComp))
	cmd.RunE = a.run(func(ctx context.Context, args []string) error {
		switch {
		case only != "" && only != "down":
			return usagef("--only %q: allowed is down", shorten(only))
		case cmd.Flags().Changed("for") && (length <= 0 || length > maxPause):
			return usagef("--for %s: allowed are durations up to 366 days (8784h), such as 30m or 2h", length)
		}
		return a.pause(ctx, args[0], api.PauseRequest{For: length, OnlyDown: only == "down"})
	})
	return cmd
}

func (a *app) resumeCmd() *cobra.Command {
	return &cobra.Command{
		Use:               "resume NAME",
		Short:             "End a pause",
		Args:              oneArg("NAME"),
		ValidArgsFunction: a.completeNames(true),
		RunE: a.run(func(ctx context.Context, args []string) error {
			return a.pause(ctx, args[0], api.PauseRequest{Resume: true})
		}),
	}
}

func (a *app) pause(ctx context.Context, name string, r api.PauseRequest) error {
	var err error
	if r.Service, err = checkName(name); err != nil {
		return err
	}
	if _, err = call(ctx, func(ctx context.Context) (any, error) { return nil, a.client().Pause(ctx, r) }); err != nil {
		return err
	}
	v := pauseView{Schema: api.Schema, Service: r.Service, Paused: !r.Resume, OnlyDown: r.OnlyDown}
	if r.For > 0 {
		until := a.deps.Now().Add(r.For).UTC()
		v.Until = &until
	}
	return emit(a, v, func(p *page, v pauseView) {
		what, until := "paused", "until resumed"
		switch {
		case !v.Paused:
			p.line("%s: automation resumed", v.Service)
			return
		case v.OnlyDown:
			what = "cuts paused, growth stays allowed,"
		}
		if v.Until != nil {
			until = fmt.Sprintf("for %s, until %s", ageText(r.For), v.Until.Format("2006-01-02 15:04:05 UTC"))
		}
		p.line("%s: %s %s", v.Service, what, until)
	})
}

func (a *app) restoreCmd() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:               "restore NAME | --all",
		Short:             "Put the original limits back",
		Long:              "Put back the limits that a container, or with --all every container, had before EffiScale.\nTheir services are paused, so that they stay there: `resume` goes on from there.",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeNames(false),
		RunE: a.run(func(ctx context.Context, args []string) error {
			if all == (len(args) == 1) {
				return usagef("give the name of a container, or --all for every one")
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
	cmd.Flags().BoolVar(&all, "all", false, "every container that was changed")
	return cmd
}

func (a *app) restore(ctx context.Context, name string) error {
	res, err := call(ctx, func(ctx context.Context) (api.RestoreResult, error) { return a.client().Restore(ctx, name) })
	if err != nil {
		return err
	}
	err = emit(a, res, func(p *page, res api.RestoreResult) {
		if res.Nothing {
			p.line("Nothing to restore: no limit had been changed.")
		}
		for _, c := range res.Restored {
			p.line("%s: %s %s  %s", c.Container, c.Resource, move(c.Resource, c.From, c.To), resultCell(p, c))
		}
		if res.Paused {
			p.line("Automation is paused, so that it stays so; `effiscale resume NAME` goes on.")
		}
	})
	if err != nil {
		return err
	}
	if len(res.Failed) > 0 {
		return fmt.Errorf("could not restore everything; run it again:\n  %s", strings.Join(scrub(res.Failed), "\n  "))
	}
	return nil
}

func (a *app) reloadCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "reload",
		Short: "Let the daemon read its configuration anew, all or nothing",
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
