package ctl

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/effiscale/effiscale/node/api"
)

func (a *app) runCmd() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Start the daemon in the foreground",
		Long:  "Start the daemon in the foreground, with a configuration file or without. SIGTERM ends it and\nchanges no container; SIGHUP reads the configuration anew.",
		Args:  noArgs,
		RunE: a.run(func(ctx context.Context, _ []string) error {
			return a.deps.Run(ctx, RunOptions{ConfigFile: file, Socket: a.namedSocket(), Env: a.Env})
		}),
	}
	cmd.Flags().StringVarP(&file, "config", "c", "", "configuration file (TOML); without: the defaults")
	_ = cmd.MarkFlagFilename("config", "toml")
	return cmd
}

func (a *app) validateCmd() *cobra.Command {
	return &cobra.Command{
		Use:               "validate FILE",
		Short:             "Check a configuration file and show what would hold",
		Args:              oneArg("FILE"),
		ValidArgsFunction: cobra.FixedCompletions([]string{"toml"}, cobra.ShellCompDirectiveFilterFileExt),
		RunE: a.run(func(_ context.Context, args []string) error {
			text, err := a.deps.Validate(args[0], a.Env)
			if err != nil {
				return Coded(ExitConfig, err)
			}
			v := validateView{api.Schema, args[0], true, text}
			if a.output == "json" {
				return a.json(v)
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
}

type doctorView struct {
	Schema int         `json:"schema"`
	OK     bool        `json:"ok"`
	Checks []api.Check `json:"checks"`
}

func (a *app) doctorCmd() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check this host and what its daemon knows of the cluster; each with a remedy",
		Long: "Check this host: Engine, cgroups, permissions, clock, disk; and, from what its daemon sees and the others\n" +
			"say, the cluster: members, majority, rings, keys, calls, clocks, versions, names, settings. Each failure\n" +
			"comes with what it means and what to do. Exit code 1: something cannot work.",
		Args: noArgs,
		RunE: a.run(func(ctx context.Context, _ []string) error {
			v := doctorView{Schema: api.Schema, OK: true}
			v.Checks = a.deps.Doctor(ctx, DoctorOptions{ConfigFile: file, Socket: a.namedSocket(), Env: a.Env})
			for _, c := range v.Checks {
				v.OK = v.OK && (c.OK || c.Severity != "error")
			}
			if err := emit(a, v, doctorText); err != nil {
				return err
			}
			if !v.OK {
				return Coded(ExitError, nil)
			}
			return nil
		}),
	}
	cmd.Flags().StringVarP(&file, "config", "c", "", "configuration file (TOML); without: the defaults")
	_ = cmd.MarkFlagFilename("config", "toml")
	return cmd
}

func doctorText(p *page, v doctorView) {
	bad := 0
	for _, c := range v.Checks {
		mark := p.style(styleGreen, "ok     ")
		switch {
		case !c.OK && c.Severity == "error":
			mark = p.style(styleRed, "FAIL   ")
			bad++
		case !c.OK:
			mark = p.style(styleYellow, "warning")
		}
		p.paragraph(mark+"  ", c.Name+": "+c.Detail)
		if !c.OK && c.Remedy != "" {
			p.paragraph("           fix: ", c.Remedy)
		}
	}
	if bad == 0 {
		p.line("EffiScale can work here.")
		return
	}
	p.line("%s to be put right first.", plural(bad, "thing has", "things have"))
}

// Bounds of the demo's length: two phases need time to show anything, and
// nobody watches for longer.
const (
	minDemo     = 10 * time.Second
	maxDemo     = 10 * time.Minute
	defaultDemo = time.Minute
)

// Shapes are the loads that the demo knows.
func shapes() []string { return []string{"step", "diurnal", "flash", "leak"} }

func (a *app) demoCmd() *cobra.Command {
	o := DemoOptions{Shape: "step", Duration: defaultDemo}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show on real containers how limits follow a load, in a minute; leaves nothing behind",
		Long: "Show on real containers how limits follow a load, against the same load with fixed limits. Needs a\n" +
			"Docker Engine and nothing else: no registry, no network, no running daemon. Leaves nothing behind.",
		Args: noArgs,
	}
	f := cmd.Flags()
	f.StringVar(&o.Shape, "shape", o.Shape, "shape of the load: step, diurnal, flash or leak")
	f.DurationVar(&o.Duration, "duration", o.Duration, "length of both runs together")
	f.BoolVar(&o.Plain, "plain", false, "lines instead of a live picture")
	_ = cmd.RegisterFlagCompletionFunc("shape", cobra.FixedCompletions(shapes(), cobra.ShellCompDirectiveNoFileComp))
	cmd.RunE = a.run(func(ctx context.Context, _ []string) error {
		known := false
		for _, s := range shapes() {
			known = known || s == o.Shape
		}
		switch {
		case !known:
			return usagef("--shape %q: allowed are step, diurnal, flash and leak", shorten(o.Shape))
		case o.Duration < minDemo || o.Duration > maxDemo:
			return usagef("--duration %s: allowed are %s to %s", o.Duration, minDemo, maxDemo)
		case a.output == "json":
			return usagef("demo shows text only; drop --output json")
		}
		o.Out, o.Colour = a.Out, a.colour()
		o.Plain = o.Plain || !a.Terminal || a.env("TERM") == "dumb"
		return a.deps.Demo(ctx, o)
	})
	return cmd
}

// demoServeCmd is what runs inside the demo's containers; it is of no use to people.
func (a *app) demoServeCmd() *cobra.Command {
	return &cobra.Command{
		Use:    "demo-serve",
		Hidden: true,
		RunE:   a.run(a.deps.DemoServe),
	}
}

type versionView struct {
	Schema  int    `json:"schema"`
	Version string `json:"version"`
}

func (a *app) versionCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Show the version",
		Args:  noArgs,
		RunE: a.run(func(context.Context, []string) error {
			return emit(a, versionView{api.Schema, a.deps.Version}, func(p *page, v versionView) { p.line("effiscale %s", v.Version) })
		}),
	}
}
