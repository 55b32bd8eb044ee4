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
	day = 24 * time.Hour
	// maxSince is how far back series are kept, minSince the least that makes a trace.
	maxSince, minSince = 31 * day, 15 * time.Second
)

// parseSince reads a duration that may be in days: "7d", "36h", "90m".
func parseSince(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if days, ok := strings.CutSuffix(s, "d"); ok {
		var n float64
		if n, err = strconv.ParseFloat(days, 64); err == nil && n >= 0 && n <= maxSince.Hours() {
			d = time.Duration(n * float64(day))
		}
	}
	if err != nil || d < minSince || d > maxSince {
		return 0, usagef("--since %q: allowed are 15s to 31d, such as 7d, 36h or 5m", shorten(s))
	}
	return d, nil
}

// recordHelp says whose record export and tune read.
const recordHelp = "Each host of the cluster has the record of what runs there: that of this host comes first, then that of the\n" +
	"one other that knows NAME; HOST/NAME means that host's. The answer names the host, and others where it runs."

func (a *app) exportCmd() *cobra.Command {
	var since, resource string
	var peak bool
	cmd := &cobra.Command{
		Use:   "export NAME [--since 7d] [--resource cpu|memory] [--peak]",
		Short: "Write the demand on record of a service as a trace for simulate",
		Long: "Write what a service, all its containers together, wanted of a resource, as `seconds,value` in even\n" +
			"steps: cores, or bytes of working set. Demand is what was used and what a limit held back. Steps are\n" +
			"seconds for up to five minutes, minutes while all that is on record is younger than a day, else ten\n" +
			"minutes. A step without a record has the value of the one before it; where less than half is on\n" +
			"record there is no trace. NAME is a service or one of its containers.\n" + recordHelp,
		Example:           "  effiscale export web --since 7d > trace.csv\n  effiscale export web --since 24h --resource memory > memory.csv",
		Args:              oneArg("NAME"),
		ValidArgsFunction: a.completeNames(true),
		RunE: a.run(func(ctx context.Context, args []string) error {
			name, err := checkName(args[0])
			if err != nil {
				return err
			}
			if resource != "cpu" && resource != "memory" {
				return usagef("--resource %q: allowed are cpu and memory", shorten(resource))
			}
			span, err := parseSince(since)
			if err != nil {
				return err
			}
			t, err := call(ctx, func(ctx context.Context) (api.Trace, error) {
				return a.client().Trace(ctx, api.TraceRequest{Name: name, Resource: resource, Since: span})
			})
			if err != nil {
				return err
			}
			return a.export(t, peak)
		}),
	}
	cmd.Flags().StringVar(&since, "since", "7d", "how far back: 15s to 31d")
	cmd.Flags().StringVar(&resource, "resource", "cpu", "cpu or memory")
	cmd.Flags().BoolVar(&peak, "peak", false, "the highest second of each step instead of its mean")
	_ = cmd.RegisterFlagCompletionFunc("resource", cobra.FixedCompletions([]string{"cpu", "memory"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func onHost(host string) string {
	if host == "" {
		return ""
	}
	return ", on host " + host
}

// elsewhereText says where the rest of a service's demand is on record.
func elsewhereText(t api.Trace) string {
	forms := make([]string, len(t.Elsewhere))
	for i, host := range t.Elsewhere {
		forms[i] = host + "/" + t.Service
	}
	return "what the service used on other hosts is on record there: " + strings.Join(forms, ", ")
}

// export writes the trace to Out, and what a reader should know of it to Err.
func (a *app) export(t api.Trace, peak bool) error {
	if a.output == "json" {
		return a.json(t)
	}
	values := t.Values
	if peak {
		values = t.Peaks
	}
	var b strings.Builder
	b.WriteString("seconds,value\n")
	for i, v := range values {
		b.WriteString(strconv.FormatFloat(float64(i)*t.Step, 'f', -1, 64))
		b.WriteByte(',')
		if t.Unit == "cores" {
			v = math.Round(v*1e4) / 1e4
		}
		b.WriteString(strconv.FormatFloat(v, 'f', -1, 64))
		b.WriteByte('\n')
	}
	if err := a.write(b.String()); err != nil {
		return err
	}
	step := time.Duration(t.Step * float64(time.Second))
	fmt.Fprintf(a.Err, "effiscale: %s of %s in %s, %d steps of %s from %s%s\n", t.Resource, clean(t.Service), t.Unit, len(values), ageText(step), t.Start.Format("2006-01-02 15:04:05 UTC"), clean(onHost(t.Host)))
	if len(t.Elsewhere) > 0 {
		fmt.Fprintf(a.Err, "effiscale: %s\n", clean(elsewhereText(t)))
	}
	if t.Filled > 0 {
		fmt.Fprintf(a.Err, "effiscale: %s in %s without a record: filled with the value before\n", plural(t.Filled, "step", "steps"), plural(t.Gaps, "gap", "gaps"))
	}
	if t.Throttled > 0 {
		fmt.Fprintf(a.Err, "effiscale: %s throttled: their values are what would have been used, estimated from below\n", plural(t.Throttled, "step was", "steps were"))
	}
	return nil
}
