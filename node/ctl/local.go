package ctl

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/effiscale/effiscale/node/api"
)

// daemonCmds are the commands that run without a daemon, or are about the daemon itself.
func daemonCmds(a *app) []*cobra.Command {
	cmds := []*cobra.Command{reloadCmd(a), versionCmd(a)}
	for _, local := range []struct {
		exists bool
		cmd    func(*app) *cobra.Command
	}{
		{a.deps.Run != nil, runCmd}, {a.deps.Doctor != nil, doctorCmd},
		{a.deps.Validate != nil, validateCmd}, {a.deps.Demo != nil, demoCmd},
	} {
		if local.exists {
			cmds = append(cmds, local.cmd(a))
		}
	}
	return cmds
}

// configFlag adds --config.
func configFlag(cmd *cobra.Command, file *string) {
	cmd.Flags().StringVarP(file, "config", "c", "", "configuration file (TOML); without it the defaults")
	_ = cmd.MarkFlagFilename("config", "toml")
}

func runCmd(a *app) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Start the daemon in the foreground",
		Long: "Start the daemon in the foreground, with or without a configuration file. SIGTERM stops it and changes\n" +
			"no container; SIGHUP reloads the configuration.",
		Args: noArgs,
		RunE: a.run(func(ctx context.Context, _ []string) error {
			return a.deps.Run(ctx, RunOptions{ConfigFile: file, Socket: a.namedSocket(), Env: a.Env})
		}),
	}
	configFlag(cmd, &file)
	return cmd
}

func validateCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:               "validate FILE",
		Short:             "Check a configuration file and show the effective configuration",
		Args:              oneArg("FILE"),
		ValidArgsFunction: cobra.FixedCompletions([]string{"toml"}, cobra.ShellCompDirectiveFilterFileExt),
		RunE: a.run(func(_ context.Context, args []string) error {
			text, warnings, err := a.deps.Validate(args[0], a.Env)
			if err != nil {
				return Coded(ExitConfig, err)
			}
			if a.output == "json" {
				return a.json(validateView{api.Schema, args[0], true, text, warnings})
			}
			for _, w := range warnings {
				if _, err := fmt.Fprintln(a.Err, "warning: "+cleanLines(w)); err != nil {
					return err
				}
			}
			return a.write(cleanLines(text) + "\n")
		}),
	}
}

type validateView struct {
	Schema    int    `json:"schema"`
	File      string `json:"file"`
	Valid     bool   `json:"valid"`
	Effective string `json:"effective"`

	Warnings []string `json:"warnings,omitempty"`
}

type doctorView struct {
	Schema int         `json:"schema"`
	OK     bool        `json:"ok"`
	Checks []api.Check `json:"checks"`
}

func doctorCmd(a *app) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check this host and its cluster; each problem with a remedy",
		Long: "Check this host: Engine, cgroups, permissions, clock, disk; and its cluster, as its daemon and the other\n" +
			"nodes report it: members, majority, rings, keys, calls, clocks, versions, names, settings. Each problem\n" +
			"comes with its meaning and a remedy. Exit code 1: a check failed.",
		Args: noArgs,
		RunE: a.run(func(ctx context.Context, _ []string) error {
			v := doctorView{Schema: api.Schema, OK: true}
			v.Checks = a.deps.Doctor(ctx, DoctorOptions{ConfigFile: file, Socket: a.namedSocket(), Env: a.Env})
			for i, c := range v.Checks {
				v.Checks[i].Remedy = a.hint(c.Remedy)
				v.OK = v.OK && (c.OK || c.Severity != "error")
			}
			if err := emit(a, v, doctorText); err != nil || v.OK {
				return err
			}
			return Coded(ExitError, nil)
		}),
	}
	configFlag(cmd, &file)
	return cmd
}

func doctorText(p *page, v doctorView) {
	failed := 0
	for _, c := range v.Checks {
		mark := p.style(styleGreen, "ok     ")
		switch {
		case !c.OK && c.Severity == "error":
			mark = p.style(styleRed, "FAIL   ")
			failed++
		case !c.OK:
			mark = p.style(styleYellow, "warning")
		}
		p.paragraph(mark+"  ", c.Name+": "+c.Detail)
		if !c.OK && c.Remedy != "" {
			p.paragraph("           fix: ", c.Remedy)
		}
	}
	if failed == 0 {
		p.line("EffiScale can run on this host.")
		return
	}
	p.line("%s.", plural(failed, "check failed", "checks failed"))
}

// Bounds of the demo's duration.
const (
	minDemo     = 10 * time.Second
	maxDemo     = 10 * time.Minute
	defaultDemo = time.Minute
)

// demoShapes are the loads of the demo.
func demoShapes() []string { return []string{"step", "diurnal", "flash", "leak"} }

func demoCmd(a *app) *cobra.Command {
	o := DemoOptions{Shape: "step", Duration: defaultDemo}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show in a minute how limits follow a load; leaves nothing behind",
		Long: "Show how limits follow a load, against the same load under fixed limits. With a Docker Engine it uses\n" +
			"real containers: no registry, no network, no running daemon. Without an Engine, and as root, it uses\n" +
			"processes in the kernel's control groups; else it is simulated. Everything is removed at the end.",
		Args: noArgs,
	}
	f := cmd.Flags()
	f.StringVar(&o.Shape, "shape", o.Shape, "shape of the load: "+strings.Join(demoShapes(), ", "))
	f.DurationVar(&o.Duration, "duration", o.Duration, "duration of both runs together")
	f.BoolVar(&o.Plain, "plain", false, "lines instead of a live view")
	_ = cmd.RegisterFlagCompletionFunc("shape", oneOf(demoShapes()...))
	cmd.RunE = a.run(func(ctx context.Context, _ []string) error {
		switch {
		case !slices.Contains(demoShapes(), o.Shape):
			return usagef("--shape %q: allowed are %s", shorten(o.Shape), strings.Join(demoShapes(), ", "))
		case o.Duration < minDemo || o.Duration > maxDemo:
			return usagef("--duration %s: allowed are %s to %s", o.Duration, minDemo, maxDemo)
		case a.output == "json":
			return usagef("demo prints text only; drop --output json")
		}
		o.Out, o.Colour = a.Out, a.colour()
		o.Plain = o.Plain || !a.Terminal || a.env("TERM") == "dumb"
		return a.deps.Demo(ctx, o)
	})
	return cmd
}

// demoServeCmd runs inside the demo's containers.
func demoServeCmd(a *app) *cobra.Command {
	return &cobra.Command{Use: "demo-serve", Hidden: true, RunE: a.run(a.deps.DemoServe)}
}

type versionView struct {
	Schema  int    `json:"schema"`
	Version string `json:"version"`
}

func versionCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Show the version",
		Args:  noArgs,
		RunE: a.run(func(context.Context, []string) error {
			return emit(a, versionView{api.Schema, a.deps.Version}, func(p *page, v versionView) {
				p.line("effiscale %s", v.Version)
			})
		}),
	}
}
