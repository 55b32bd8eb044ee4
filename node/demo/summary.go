package demo

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/charmbracelet/x/ansi"
)

// summary prints both runs side by side, and what to paste.
func (d *demo) summary(fixed, scaled result) error {
	var b strings.Builder
	cols := pageCols(d.Out)
	for _, r := range []struct {
		name string
		res  *result
	}{{"fixed limits", &fixed}, {"with EffiScale", &scaled}} {
		fmt.Fprintf(&b, "\n%s\n%s\n", r.name, r.res.chart(&d.plan, d.Colour, cols, 8))
	}
	b.WriteString("\n")
	heading := "the same " + d.plan.shape + " load"
	if d.kind == simulated {
		heading += ", simulated"
	}
	row := func(name string, of func(*result) string) {
		fmt.Fprintf(&b, "%-26s  %16s  %16s\n", name, of(&fixed), of(&scaled))
	}
	fmt.Fprintf(&b, "%-26s  %16s  %16s\n", heading, "fixed limits", "with EffiScale")
	row("requests", func(r *result) string { return fmt.Sprint(r.sent) })
	row("errors", func(r *result) string { return fmt.Sprintf("%d (%.1f%%)", r.failed, 100*share(r.failed, r.sent)) })
	row("latency p50", func(r *result) string { return short(r.p50) })
	row("latency p99", func(r *result) string { return short(r.p99) })
	row("throttled time", func(r *result) string { return r.throttled.Round(10 * time.Millisecond).String() })
	row("killed (out of memory)", func(r *result) string { return fmt.Sprint(r.kills) })
	row("reserved core-seconds", func(r *result) string { return fmt.Sprintf("%.1f", r.reservedCPU) })
	row("highest cpu limit", func(r *result) string { return fmt.Sprintf("%.2f cores", r.peakCPU) })
	row("reserved GiB-seconds", func(r *result) string { return fmt.Sprintf("%.2f", r.reservedMem) })
	row("highest memory limit", func(r *result) string { return r.peakMem.String() })
	if d.plan.shape != "leak" {
		whole := scaled.peakCPU * d.plan.each.Seconds()
		b.WriteString("\n" + ansi.Wordwrap(fmt.Sprintf(
			"A fixed limit as high as EffiScale's highest would have reserved %.1f core-seconds.", whole), cols, "") + "\n")
	} else {
		b.WriteString("\n" + ansi.Wordwrap("A higher limit does not cure a leak: "+
			"EffiScale stops at the maximum of the label, and reports the leak.", cols, "") + "\n")
	}
	if busy := max(fixed.others, scaled.others); busy > float64(d.plan.cores)-d.plan.peak {
		b.WriteString(ansi.Wordwrap(fmt.Sprintf("This host is busy: other processes used up to %.1f of its %d cores "+
			"during the runs, and both runs had to wait for them.", busy, d.plan.cores), cols, "") + "\n")
	}
	b.WriteString("\nFor a container of your own, in a Compose file:\n\n    labels:\n")
	for _, l := range d.plan.labels() {
		fmt.Fprintf(&b, "      %s: %q\n", l[0], l[1])
	}
	b.WriteString("\nor on the command line:\n\n    docker run")
	for _, l := range d.plan.labels() {
		fmt.Fprintf(&b, " \\\n      --label %s=%s", l[0], l[1])
	}
	fmt.Fprintf(&b, " …\n\nand the daemon beside them:\n\n    %s%s run\n\n%s\n", sudo(), d.Command, d.kind.end())
	if _, err := d.Out.Write([]byte(b.String())); err != nil {
		return fmt.Errorf("cannot write the summary: %w", err)
	}
	return nil
}

// end is the last line of a demonstration.
func (k kind) end() string {
	if k == simulated {
		return "All of this was simulated: nothing was changed on this host."
	}
	return "Nothing of the demo is left behind."
}

// sudo is what a user who is not root puts before a command.
func sudo() string {
	if os.Geteuid() == 0 {
		return ""
	}
	return "sudo "
}

func share(part, whole int64) float64 {
	if whole == 0 {
		return 0
	}
	return float64(part) / float64(whole)
}
