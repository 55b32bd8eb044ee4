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
const recordHelp = "Each host records the demand of its own containers. This host's record is used, else that\n" +
	"of the one other host that has NAME; HOST/NAME selects a host. The answer names the host, and\n" +
	"other hosts that have records."

func exportCmd(a *app) *cobra.Command {
	var since, resource string
	var peak bool
	cmd := &cobra.Command{
		Use:   "export NAME [--since 7d] [--resource cpu|memory] [--peak]",
		Short: "Write the recorded demand of a service as a trace for simulate",
		Long: "Write the recorded demand of a service, all its containers together, as `seconds,value` in even steps:\n" +
			"cores, or bytes of working set. Demand is use, plus what a limit withheld. Steps are seconds for up to\n" +
			"five minutes, minutes while the whole record is younger than a day, else ten minutes. A step without a\n" +
			"record gets the value before it. When less than half is recorded there is no trace. NAME is a service\n" +
			"or one of its containers.\n" + recordHelp,
		Example: "  effiscale export web --since 7d > trace.csv\n" +
			"  effiscale export web --since 24h --resource memory > memory.csv",
		Args:              oneArg("NAME"),
		ValidArgsFunction: completeNames(a, true),
	}
	cmd.RunE = a.runNamed(func(ctx context.Context, name string) error {
		if resource != "cpu" && resource != "memory" {
			return usagef("--resource %q: allowed are cpu and memory", shorten(resource))
		}
		t, err := recorded(ctx, a, name, resource, since)
		if err != nil {
			return err
		}
		if a.output == "json" {
			return a.json(t)
		}
		if err := a.write(traceCSV(t, peak)); err != nil {
			return err
		}
		exportNotes(a, t)
		return nil
	})
	cmd.Flags().StringVar(&since, "since", "7d", "how far back: 15s to 31d")
	cmd.Flags().StringVar(&resource, "resource", "cpu", "cpu or memory")
	cmd.Flags().BoolVar(&peak, "peak", false, "the highest second of each step instead of its mean")
	_ = cmd.RegisterFlagCompletionFunc("resource", oneOf("cpu", "memory"))
	return cmd
}

// recorded asks the daemon for the demand of a service.
func recorded(ctx context.Context, a *app, name, resource, since string) (api.Trace, error) {
	span, err := parseSince(since)
	if err != nil {
		return api.Trace{}, err
	}
	return call(ctx, a, api.OpTrace, api.TraceRequest{Name: name, Resource: resource, Since: span})
}

func onHost(host string) string {
	if host == "" {
		return ""
	}
	return ", on host " + host
}

// elsewhereText names the hosts with the rest of a service's record.
func elsewhereText(t api.Trace) string {
	forms := make([]string, len(t.Elsewhere))
	for i, host := range t.Elsewhere {
		forms[i] = host + "/" + t.Service
	}
	return "other hosts have records of this service: " + strings.Join(forms, ", ")
}

func traceCSV(t api.Trace, peak bool) string {
	values := t.Values
	if peak {
		values = t.Peaks
	}
	var b strings.Builder
	b.WriteString("seconds,value\n")
	for i, v := range values {
		if t.Unit == "cores" {
			v = math.Round(v*1e4) / 1e4
		}
		at := strconv.FormatFloat(float64(i)*t.Step, 'f', -1, 64)
		b.WriteString(at + "," + strconv.FormatFloat(v, 'f', -1, 64) + "\n")
	}
	return b.String()
}

// exportNotes writes facts about the trace to Err.
func exportNotes(a *app, t api.Trace) {
	step := time.Duration(t.Step * float64(time.Second))
	note := func(format string, args ...any) { fmt.Fprintf(a.Err, "effiscale: "+format+"\n", args...) }
	note("%s of %s in %s, %d steps of %s from %s%s", t.Resource, clean(t.Service), t.Unit, len(t.Values), ageText(step),
		t.Start.Format("2006-01-02 15:04:05 UTC"), clean(onHost(t.Host)))
	if len(t.Elsewhere) > 0 {
		note("%s", clean(elsewhereText(t)))
	}
	if t.Filled > 0 {
		note("%s in %s without a record: filled with the value before",
			plural(t.Filled, "step", "steps"), plural(t.Gaps, "gap", "gaps"))
	}
	if t.Throttled > 0 {
		note("%s throttled: the values estimate the demand without the limit, and may be too low",
			plural(t.Throttled, "step was", "steps were"))
	}
}
