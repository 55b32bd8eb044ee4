package demo

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/charmbracelet/x/ansi"
	"github.com/charmbracelet/x/term"
	"github.com/guptarohit/asciigraph"

	"github.com/effiscale/effiscale/knowledge"
)

// width of everything that the demo prints.
const width = 100

// pageCols is width, or the terminal's where that is narrower.
func pageCols(out io.Writer) int {
	f, ok := out.(interface{ Fd() uintptr })
	if !ok {
		return width
	}
	cols, _, err := term.GetSize(f.Fd())
	if err != nil || cols <= 0 {
		return width
	}
	return min(cols, width)
}

// tick is one second of a run.
type tick struct {
	scaled             bool
	at                 time.Duration
	x                  float64 // 0..1 of the run
	demand, use, limit float64 // cores
	throttled          float64 // share of periods
	memory, memLimit   knowledge.Bytes
	p99                time.Duration
	failed             int64
}

// screen shows a demonstration while it goes on.
type screen interface {
	step(text string)
	begin(scaled bool)
	tick(t tick)
	decision(text string)
	close()
}

func newScreen(d *demo, interrupt func()) screen {
	if !d.Plain {
		return newLive(d, interrupt)
	}
	l := &lines{out: d.Out, kind: d.kind}
	l.line("EffiScale demo: load %q on %d cores, twice: with fixed limits, then with EffiScale; %s",
		d.plan.shape, d.plan.cores, d.length())
	return l
}

// length is how long both runs take.
func (d *demo) length() string {
	if d.kind == simulated {
		return "simulated"
	}
	return "about " + (2*d.plan.each + 5*time.Second).Round(5*time.Second).String()
}

// lines is the screen of pipes and logs: a line each second.
type lines struct {
	out  io.Writer
	kind kind
}

// A demo continues when its output is closed: its containers must be removed in order.
func (l *lines) line(format string, args ...any) { _, _ = fmt.Fprintf(l.out, format+"\n", args...) }

func (l *lines) step(text string) { l.line("- %s", text) }

func (l *lines) begin(scaled bool) { l.line("- %s", runName(l.kind, scaled)) }

func (l *lines) tick(t tick) {
	l.line("%4.0fs  demand %.2f  use %.2f  limit %.2f cores  throttled %3.0f%%  mem %s/%s  p99 %6s  errors %d",
		t.at.Seconds(), t.demand, t.use, t.limit, t.throttled*100, t.memory, t.memLimit, short(t.p99), t.failed)
}

func (l *lines) decision(text string) {
	l.line("        %s", strings.ReplaceAll(ansi.Wordwrap(shown(text, 5*width), width-8, ""), "\n", "\n          "))
}

func (l *lines) close() {}

func runName(k kind, scaled bool) string {
	name := "first run: fixed limits"
	if scaled {
		name = "second run: the same load, with EffiScale"
	}
	if k == simulated {
		name += " (simulated)"
	}
	return name
}

// shown removes control characters from a text and bounds its length.
func shown(text string, limit int) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '?'
		}
		return r
	}, text)
	return ansi.Truncate(text, limit, "…")
}

// short prints a latency in three digits.
func short(d time.Duration) string {
	switch {
	case d == 0:
		return "-"
	case d >= time.Second:
		return fmt.Sprintf("%.2fs", d.Seconds())
	}
	return fmt.Sprintf("%.3gms", float64(d)/float64(time.Millisecond))
}

// chart draws demand, limit and use over a run; cols is the width of the page.
func (r *result) chart(p *scenario, colour bool, cols, height int) string {
	series, unit := [][]float64{r.demand, r.use, r.limit}, "cores"
	if p.shape == "leak" {
		series, unit = [][]float64{r.memory, r.memory, r.memLimit}, "MiB" // the demand is what is held
	}
	if len(r.limit) < 2 {
		return ""
	}
	top := 0.0
	for _, s := range series {
		for _, v := range s {
			top = max(top, v)
		}
	}
	options := []asciigraph.Option{asciigraph.Height(height), asciigraph.Width(max(cols-20, 10)), asciigraph.LowerBound(0),
		asciigraph.UpperBound(top * 1.05),
		asciigraph.SeriesChars(asciigraph.CreateCharSet("·"), asciigraph.CreateCharSet("*"), asciigraph.DefaultCharSet),
		asciigraph.YAxisValueFormatter(func(v float64) string { return fmt.Sprintf("%6.4g", v) })}
	caption := unit + ":   ── limit   * use   · demand"
	if colour {
		options = append(options, asciigraph.SeriesColors(asciigraph.Yellow, asciigraph.Blue, asciigraph.Green))
	}
	return asciigraph.PlotMany(series, options...) + "\n" + strings.Repeat(" ", 9) + caption
}
