package demo

import (
	"fmt"
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
	row := func(name string, of func(*result) string) {
		fmt.Fprintf(&b, "%-24s  %16s  %16s\n", name, of(&fixed), of(&scaled))
	}
	fmt.Fprintf(&b, "%-24s  %16s  %16s\n", "the same "+d.plan.shape+" load", "fixed limits", "with EffiScale")
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
		b.WriteString("\n" + ansi.Wordwrap(fmt.Sprintf("A fixed limit as high as EffiScale's highest would have reserved %.1f core-seconds.", whole), cols, "") + "\n")
	} else {
		b.WriteString("\n" + ansi.Wordwrap("A leak is not cured by a higher limit: EffiScale stops at the bound of the label, and says that it is one.", cols, "") + "\n")
	}
	if busy := max(fixed.others, scaled.others); busy > float64(d.plan.cores)-d.plan.peak {
		b.WriteString(ansi.Wordwrap(fmt.Sprintf("This host is busy: others used up to %.1f of its %d cores meanwhile, and both runs waited for them.", busy, d.plan.cores), cols, "") + "\n")
	}
	b.WriteString("\nFor a container of your own, in a Compose file:\n\n    labels:\n")
	for _, l := range d.plan.labels() {
		fmt.Fprintf(&b, "      %s: %q\n", l[0], l[1])
	}
	b.WriteString("\nor on the command line:\n\n    docker run")
	for _, l := range d.plan.labels() {
		fmt.Fprintf(&b, " \\\n      --label %s=%s", l[0], l[1])
	}
	b.WriteString(" …\n\nand the daemon beside them:\n\n    sudo effiscale run\n\nNothing of the demo is left behind.\n")
	if _, err := d.Out.Write([]byte(b.String())); err != nil {
		return fmt.Errorf("cannot write the summary: %w", err)
	}
	return nil
}

func share(part, whole int64) float64 {
	if whole == 0 {
		return 0
	}
	return float64(part) / float64(whole)
}
