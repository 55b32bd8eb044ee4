package ctl

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/effiscale/effiscale/mape/simulate"
	"github.com/effiscale/effiscale/node/api"
)

const simulateHelp = `Replay traces of demand through the code that decides in the daemon and through the rules of other
autoscalers, and show what each would have allocated, wasted and left unserved. It needs no daemon and
changes nothing.

A trace is a CSV file with the header "seconds,value" and rows in even steps. A step is decided from the
steps before it only; the first step is not scored. Unordered rows, gaps, and values that are not numbers
from 0 up are errors with file and line; --fill sorts rows and fills gaps by straight lines.

  unit   cores; rps, of which 100 keep a core busy; or bytes of memory
  axis   vertical: the size of one replica; horizontal: the number of replicas; both
  hpa and kpa always count replicas; the others compute a total, rounded up to whole replicas

The columns
  SHORT %         share of time with demand above the allocation
  UNSERVED %      share of demand that was not served
  SLACK %         allocated and not needed, over demand
  CORE-H, GiB-H   reserved in total, starting replicas included; REPLICA-H: replica-hours
  CHANGES, A DAY  number of changes; BACK: changes in the opposite direction of the one before
  OOM KILLS       replicas killed for memory
  P50 P95 P99 ms  latency of requests of 10 ms of work each: waiting, sharing the cores, service
  SHORT s         seconds with demand above the capacity of the serving replicas
  SPIKE s         from the first spike (twice the highest of 5 min) until capacity covered it;
                  never: it ended before; -: no spike

With --frontier each policy's allocation is multiplied by the factor that leaves exactly 0.1 % or 1 % of
demand unserved, and the slack is compared there, so that no policy gains by a parameter. -: no factor
from 0.5 to 8 reaches it.

Keys of --set and of a policy file; flags override the file, --set overrides both:
  %s

Not simulated: demand that moves elsewhere or returns later; changes of the work per request; other
containers on the host. CPU demand above a limit is taken as known, from throttled time.`

// simulateFlags are the flags of `effiscale simulate`.
type simulateFlags struct {
	unit, axis, target, policy, output string
	steps, plot, generate              string
	set, against                       []string
	fill, frontier                     bool
	hours                              float64
	seed                               uint64
	o                                  simulate.Options
}

func simulateCmd(a *app) *cobra.Command {
	f := &simulateFlags{o: simulate.Defaults()}
	cmd := &cobra.Command{
		Use:   "simulate TRACE.csv…",
		Short: "Replay a trace with EffiScale and with other autoscalers",
		Long:  fmt.Sprintf(strings.ReplaceAll(simulateHelp, "% ", "%% "), strings.Join(simulateKeys(), ", ")),
		Example: "  effiscale simulate day.csv --frontier --plot day.svg\n" +
			"  effiscale simulate web.csv --unit rps --axis horizontal --against hpa,kpa\n" +
			"  effiscale export web | effiscale simulate -\n" +
			"  effiscale simulate --generate spike --hours 24 --seed 7 > spike.csv",
		ValidArgsFunction: cobra.FixedCompletions([]string{"csv"}, cobra.ShellCompDirectiveFilterFileExt),
	}
	fs := cmd.Flags()
	fs.StringVar(&f.unit, "unit", "cores", "unit of the values: cores, rps or bytes")
	fs.StringVar(&f.axis, "axis", "vertical", "what changes: vertical, horizontal or both")
	fs.StringVar(&f.policy, "policy", "", "`file` of \"key = value\" lines, with the keys of --set")
	fs.StringArrayVar(&f.set, "set", nil, "key=value, one of the keys above; may be repeated")
	fs.StringVar(&f.target, "target", "70%", "use over capacity of replicas")
	fs.Float64Var(&f.o.ReplicaCores, "replica-cores", f.o.ReplicaCores, "cores of a replica; vertically its first limit")
	fs.DurationVar(&f.o.StartDelay, "start-delay", f.o.StartDelay, "time from the decision until a new replica serves")
	fs.IntVar(&f.o.Min, "min", f.o.Min, "fewest replicas")
	fs.IntVar(&f.o.Max, "max", f.o.Max, "most replicas")
	fs.StringSliceVar(&f.against, "against", nil, strings.Join(simulate.Baselines(), ",")+" (all), or none")
	fs.BoolVar(&f.frontier, "frontier", false, "compare slack at equal shortage")
	fs.StringVarP(&f.output, "output", "o", "table", "table, json or csv")
	fs.StringVar(&f.steps, "steps", "", "write a row per step and policy to this CSV `file`")
	fs.StringVar(&f.plot, "plot", "", "draw a picture to this `file`, .svg")
	fs.BoolVar(&f.fill, "fill", false, "repair a trace with gaps, unordered rows or values that are not numbers")
	fs.StringVar(&f.generate, "generate", "", "write a trace instead: "+strings.Join(simulate.Shapes(), ", "))
	fs.Float64Var(&f.hours, "hours", 48, "length of the trace that is written")
	fs.Uint64Var(&f.seed, "seed", 1, "seed of --generate; a replay is deterministic")
	for name, values := range map[string][]string{
		"unit": simulate.Units(), "axis": simulate.Axes(), "output": {"table", "json", "csv"},
		"generate": simulate.Shapes(), "against": simulate.Baselines(),
	} {
		_ = cmd.RegisterFlagCompletionFunc(name, oneOf(values...))
	}
	cmd.RunE = a.run(func(ctx context.Context, args []string) error {
		if f.generate != "" {
			return generateTrace(a, f, args, fs.Changed)
		}
		return runSimulation(ctx, a, f, args)
	})
	return cmd
}

// replayFlags are the flags of a replay, which --generate does not take.
func replayFlags() []string {
	return []string{
		"unit", "axis", "policy", "set", "target", "replica-cores", "start-delay", "min", "max", "against", "frontier",
		"output", "steps", "plot", "fill",
	}
}

// generateTrace writes a trace to Out.
func generateTrace(a *app, f *simulateFlags, args []string, changed func(flag string) bool) error {
	if len(args) > 0 {
		return usagef("--generate reads no trace, got %q", shorten(args[0]))
	}
	for _, name := range replayFlags() {
		if changed(name) {
			return usagef("--%s has no effect with --generate, which takes --hours and --seed", name)
		}
	}
	t, err := simulate.Generate(f.generate, f.hours, f.seed)
	if err != nil {
		return usagef("--generate: %w", err)
	}
	return a.write(string(simulate.AppendTrace(nil, &t)))
}

// replay is one trace with its results.
type replay struct {
	trace   simulate.Trace
	results []simulate.Result
}

func runSimulation(ctx context.Context, a *app, f *simulateFlags, args []string) error {
	unit, err := f.resolve(args)
	if err != nil {
		return err
	}
	names, err := f.policies(unit)
	if err != nil {
		return err
	}
	var all []replay
	for _, file := range args {
		if err := ctx.Err(); err != nil {
			return err
		}
		t, err := readTrace(a.In, file, unit, f.fill)
		if err != nil {
			return err
		}
		results, err := simulate.Replay(&t, names, f.o)
		if err != nil {
			return usagef("%w", err)
		}
		all = append(all, replay{t, results})
		if f.steps == "" && f.plot == "" { // only the scores are needed
			for i := range results {
				results[i].Series = nil
			}
		}
	}
	if f.steps != "" {
		if err := writeSteps(f.steps, &all[0]); err != nil {
			return err
		}
	}
	if f.plot != "" {
		if err := plotReplay(f.plot, &all[0], f.frontier); err != nil {
			return err
		}
	}
	v := simulateViewOf(f, unit, all)
	switch f.output {
	case "json":
		return a.json(v)
	case "csv":
		return a.write(simulateCSV(v))
	}
	return emitText(a, v, simulateText)
}

// resolve checks the flags and applies policy file and settings to the options.
func (f *simulateFlags) resolve(args []string) (simulate.Unit, error) {
	unit, err := simulate.ParseUnit(f.unit)
	if err != nil {
		return unit, usagef("--unit: %w", err)
	}
	axis := slices.Index(simulate.Axes(), f.axis)
	switch {
	case axis < 0:
		return unit, usagef("--axis %q: allowed are vertical, horizontal and both", shorten(f.axis))
	case !slices.Contains([]string{"table", "json", "csv"}, f.output):
		return unit, usagef("--output %q: allowed are table, json and csv", shorten(f.output))
	case len(args) == 0:
		return unit, usagef("simulate takes a trace; `effiscale simulate --generate step > step.csv` writes one")
	case slices.Contains(args, "-") && slices.Contains(args[slices.Index(args, "-")+1:], "-"):
		return unit, usagef("- is standard input, which can be read only once")
	case len(args) > 1 && (f.steps != "" || f.plot != ""):
		return unit, usagef("--steps and --plot take one trace, got %d", len(args))
	case f.steps != "" && (sameFile(f.steps, args[0]) || sameFile(f.steps, f.plot) || sameFile(f.steps, f.policy)):
		return unit, usagef("--steps %q would overwrite another file of this command: name a new file", shorten(f.steps))
	case f.plot != "" && !isSVG(f.plot):
		return unit, usagef("--plot %q: the name must end in .svg; rsvg-convert makes a PNG of it", shorten(f.plot))
	}
	f.o.Axis = simulate.Axis(axis)
	if f.o.Target, err = parseShare(f.target); err != nil {
		return unit, usagef("--target %q: %w", shorten(f.target), err)
	}
	if f.policy != "" {
		if err := readPolicy(f.policy, &f.o); err != nil {
			return unit, err
		}
	}
	for _, s := range f.set {
		if err := setOption(&f.o, s); err != nil {
			return unit, usagef("--set %w", err)
		}
	}
	return unit, checkOptions(&f.o)
}

// policies are the names to replay: EffiScale first, where it supports the unit and
// axis, then the named baselines, or all that support them.
func (f *simulateFlags) policies(unit simulate.Unit) ([]string, error) {
	var names []string
	if simulate.Knows(simulate.EffiScale, unit, f.o.Axis) {
		names = append(names, simulate.EffiScale)
	}
	against := f.against
	if len(against) == 0 {
		against = simulate.Baselines()
	}
	for _, n := range against {
		n = strings.TrimSpace(n)
		switch {
		case n == "none" && len(against) == 1:
		case !slices.Contains(simulate.Baselines(), n):
			allowed := strings.Join(simulate.Baselines(), ", ")
			return nil, usagef("--against %q: allowed are %s, or none", shorten(n), allowed)
		case !simulate.Knows(n, unit, f.o.Axis):
			if len(f.against) > 0 {
				return nil, usagef("--against %s: it does not support %s on the %s axis", n, unit, f.axis)
			}
		case !slices.Contains(names, n):
			names = append(names, n)
		}
	}
	if len(names) == 0 {
		return nil, usagef("no policy supports %s on the %s axis", unit, f.axis)
	}
	return names, nil
}

// readTrace reads a file, or standard input for -, of at most simulate.MaxBytes.
func readTrace(stdin io.Reader, file string, unit simulate.Unit, fill bool) (simulate.Trace, error) {
	read := func() ([]byte, error) { return readBounded(file, simulate.MaxBytes) }
	if file == "-" {
		file = "standard input"
		read = func() ([]byte, error) { return bounded(stdin, file, simulate.MaxBytes) }
	}
	b, err := read()
	if err != nil {
		return simulate.Trace{}, fmt.Errorf("cannot read the trace: %w", err)
	}
	t, err := simulate.Parse(file, unit, b, fill)
	if err != nil {
		return t, usagef("%w", err)
	}
	t.Name = strings.TrimSuffix(filepath.Base(file), filepath.Ext(file))
	return t, nil
}

func readBounded(file string, most int64) ([]byte, error) {
	in, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer func() { _ = in.Close() }()
	return bounded(in, file, most)
}

func bounded(in io.Reader, name string, most int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(in, most+1))
	if err == nil && int64(len(b)) > most {
		err = fmt.Errorf("%s is larger than %s", name, sizeText(most))
	}
	return b, err
}

// sameFile reports whether two names are of the same file, or would be.
func sameFile(a, b string) bool {
	if a == "" || b == "" {
		return false
	}
	x, errX := os.Stat(a)
	y, errY := os.Stat(b)
	return filepath.Clean(a) == filepath.Clean(b) || errX == nil && errY == nil && os.SameFile(x, y)
}

// writeSteps writes the replay step by step, all policies of one step together.
func writeSteps(file string, r *replay) error {
	var b bytes.Buffer
	b.WriteString(simulate.StepsHeader + "\n")
	line := make([]byte, 0, 128)
	for i := range r.trace.Values {
		for j := range r.results {
			line = simulate.AppendStep(line[:0], &r.trace, &r.results[j], i)
			b.Write(line)
		}
	}
	return writeFile(file, b.Bytes())
}

func writeFile(file string, b []byte) error {
	out, err := os.Create(file)
	if err != nil {
		return fmt.Errorf("cannot write: %w", err)
	}
	_, err = out.Write(b)
	if err = errors.Join(err, out.Close()); err != nil {
		return fmt.Errorf("cannot write %s: %w", file, err)
	}
	return nil
}

// simulateView is the document that --output json prints.
type simulateView struct {
	Schema int         `json:"schema"`
	Seed   uint64      `json:"seed"`
	Unit   string      `json:"unit"`
	Axis   string      `json:"axis"`
	Traces []traceView `json:"traces"`
	// Frontier: the policies' frontiers are included.
	Frontier bool `json:"frontier"`
}

type traceView struct {
	Trace       string       `json:"trace"`
	Steps       int          `json:"steps"`
	StepSeconds float64      `json:"step_seconds"`
	Filled      int          `json:"filled"`
	NoDemand    bool         `json:"no_demand,omitempty"` // shares of demand mean nothing
	Policies    []policyView `json:"policies"`
}

type policyView struct {
	Policy string `json:"policy"`
	simulate.Score
	// Frontier holds the points at each shortage that is compared.
	Frontier []frontierView `json:"frontier,omitempty"`
}

type frontierView struct {
	At float64 `json:"at_shortage"`
	simulate.Point
}

func simulateViewOf(f *simulateFlags, unit simulate.Unit, all []replay) simulateView {
	v := simulateView{Schema: api.Schema, Seed: f.seed, Unit: unit.String(), Axis: f.axis, Frontier: f.frontier}
	for _, r := range all {
		t := traceView{
			Trace: r.trace.Name, Steps: len(r.trace.Values), StepSeconds: r.trace.Step.Seconds(),
			Filled: r.trace.Filled, NoDemand: slices.Max(r.trace.Values) <= 0,
		}
		for _, res := range r.results {
			p := policyView{Policy: res.Policy, Score: res.Score}
			if f.frontier {
				for _, s := range simulate.Shortages() {
					p.Frontier = append(p.Frontier, frontierView{s, res.Frontier.Solve(s)})
				}
			}
			t.Policies = append(t.Policies, p)
		}
		v.Traces = append(v.Traces, t)
	}
	return v
}
