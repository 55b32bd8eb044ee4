package ctl

import (
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"github.com/effiscale/effiscale/mape/simulate"
)

// isSVG reports whether a file's name is that of a picture.
func isSVG(file string) bool { return strings.EqualFold(filepath.Ext(file), ".svg") }

// The picture: one strip per policy, all on the same scales, so that they can be
// compared by eye; the frontiers below.
const (
	plotWidth            = 1200
	plotLeft, plotRight  = 64, 24
	plotTop, plotBottom  = 78, 44
	stripHeight          = 96
	stripHead, stripFoot = 24, 10
	curveHeight          = 310
	curveHead            = 64
	curvePoints          = 400
)

// plotReplay draws a replay of one trace.
func plotReplay(file string, r *replay, frontier bool) error {
	height := float64(plotTop + len(r.results)*(stripHead+stripHeight+stripFoot) + plotBottom)
	if frontier {
		height += curveHead + curveHeight + plotBottom
	}
	p := newPicture(height, r)
	p.head()
	y := float64(plotTop)
	for i := range r.results {
		p.strip(y+stripHead, i)
		y += stripHead + stripHeight + stripFoot
	}
	p.times(y)
	if frontier {
		p.curves(y + plotBottom + curveHead)
	}
	return writeFile(file, []byte(p.end()))
}

// picture is one drawing of one replay.
type picture struct {
	*svg
	r       *replay
	scale   float64 // of the unit: what one mark of the axis is worth
	unit    string
	top     float64 // of the axis, in the unit
	columns int
}

func newPicture(height float64, r *replay) *picture {
	p := &picture{r: r, scale: 1, unit: "cores", columns: plotWidth - plotLeft - plotRight}
	if r.trace.Unit == simulate.UnitBytes {
		p.unit, p.scale = unitOf(int64(slices.Max(r.trace.Values)))
	}
	peak := 0.0
	var scores []string
	for _, res := range r.results {
		peak = max(peak, slices.Max(res.Series.Demand))
		scores = append(scores, res.Policy+": "+scoreText(&res))
	}
	p.top = niceUp(1.25 * peak / p.scale)
	title := fmt.Sprintf("Replay of %s by %s", r.trace.Name, plural(len(r.results), "policy", "policies"))
	description := fmt.Sprintf("%s, in %s. %s.", p.traceText(), p.unit, strings.Join(scores, "; "))
	p.svg = newSVG(plotWidth, height, title, description)
	return p
}

func (p *picture) traceText() string {
	t := &p.r.trace
	return fmt.Sprintf("%s in %d steps of %s", spanText(t.Length()), len(t.Values), secondsText(t.Step.Seconds()))
}

func (p *picture) head() {
	p.text(pt{plotLeft, 32}, "title ink", p.r.trace.Name)
	p.text(pt{plotLeft, 54}, "faint",
		fmt.Sprintf("%s · all strips on one scale, %s · values above the top are cut off", p.traceText(), p.unit))
	x := float64(plotWidth - plotRight - 290)
	p.box(pt{x, 24}, pt{14, 10}, "demand")
	p.text(pt{x + 20, 33}, "ink", "demand")
	p.line(pt{x + 88, 29}, pt{x + 106, 29}, "line0 own")
	p.text(pt{x + 112, 33}, "ink", "allocated")
	p.box(pt{x + 194, 24}, pt{14, 10}, "shortfill")
	p.text(pt{x + 214, 33}, "ink", "not served")
}

// strip draws demand, allocation and shortage of one policy.
func (p *picture) strip(y float64, i int) {
	res := &p.r.results[i]
	s := res.Series
	hue := hueOf(res.Policy)
	p.open(res.Policy + ": " + scoreText(res))
	defer p.close()
	p.text(pt{plotLeft, y - 7}, fmt.Sprintf("head name%d", hue), res.Policy)
	p.text(pt{plotLeft + 150, y - 7}, "faint", scoreText(res))
	p.grid(y)
	bottom := y + stripHeight
	place := func(v float64) float64 { return bottom - min(v/p.scale/p.top, 1)*stripHeight }
	demand, alloc := p.squeeze(s.Demand), p.squeeze(s.Allocated)
	outline := []pt{{plotLeft, bottom}}
	for x, d := range demand {
		outline = append(outline, pt{plotLeft + float64(x), place(d.high)})
	}
	p.path("area demand", append(outline, pt{plotLeft + float64(p.columns-1), bottom}))
	var short [][]pt
	for x, d := range demand {
		// A column is red from the allocation up to the demand above it.
		if there, ok := p.shortest(s, x); ok {
			at, from := plotLeft+float64(x), place(there)
			short = append(short, []pt{{at, from}, {at, min(place(d.high), from-1)}})
		}
	}
	p.path("short", short...)
	p.path(fmt.Sprintf("line%d", hue), p.allocated(alloc, place))
}

// allocated is the line of the allocation, each column from its first
// value over its lowest and highest to its last.
func (p *picture) allocated(alloc []bunch, place func(float64) float64) []pt {
	var line []pt
	for i, a := range alloc {
		x := plotLeft + float64(i)
		first, last, low, high := place(a.first), place(a.last), place(a.low), place(a.high)
		flat := low == high && len(line) > 0 && line[len(line)-1].y == first
		if flat && i > 0 && i < len(alloc)-1 { // only the ends of a level are needed
			if n := len(line); n > 1 && line[n-2].y == first {
				line[n-1].x = x
				continue
			}
		}
		line = append(line, pt{x, first})
		if low != high {
			line = append(line, pt{x, low}, pt{x, high}, pt{x, last})
		}
	}
	return line
}

// scoreText sums a policy up in a line.
func scoreText(r *simulate.Result) string {
	s := &r.Score
	text := fmt.Sprintf("slack %s %% · unserved %s %% · %s",
		share(s.Slack), share(s.Unserved), plural(s.Changes, "change", "changes"))
	if s.Replicas != nil {
		text += fmt.Sprintf(" · %s replica-hours · %s s overloaded",
			figure(s.Replicas.Hours), figure(s.Replicas.Overloaded))
	}
	if r.Series.OOM > 0 {
		text += fmt.Sprintf(" · %d OOM kills", s.OOMKills)
	}
	return text
}

// bunch summarises the values of the steps of one column.
type bunch struct{ first, last, low, high float64 }

// column is the range of steps of column x: at least one.
func (p *picture) column(x int) (from, to int) {
	n, w := len(p.r.trace.Values), p.columns
	from = min(x*n/w, n-1)
	return from, max((x+1)*n/w, from+1)
}

func (p *picture) squeeze(values []float64) []bunch {
	out := make([]bunch, p.columns)
	for x := range out {
		from, to := p.column(x)
		out[x] = bunch{values[from], values[to-1], slices.Min(values[from:to]), slices.Max(values[from:to])}
	}
	return out
}

// shortest is the allocation in the step of a column with the largest shortage; false:
// there was none.
func (p *picture) shortest(s *simulate.Series, x int) (there float64, short bool) {
	from, to := p.column(x)
	worst := 0.0
	for i := max(from, 1); i < to; i++ {
		if gap := s.Demand[i] - s.Allocated[i]; gap > worst+1e-9*s.Demand[i] {
			worst, there = gap, s.Allocated[i]
		}
	}
	return there, worst > 0
}

// grid draws the axis of a strip: nothing, half and all of its height.
func (p *picture) grid(y float64) {
	for _, f := range [...]float64{0, 0.5, 1} {
		at := y + stripHeight*(1-f)
		p.line(pt{plotLeft, at}, pt{plotWidth - plotRight, at}, "grid")
		p.text(pt{plotLeft - 8, at + 4}, "small faint end", trimZeros(fmt.Sprintf("%.3f", f*p.top)))
	}
}

// times writes the hours or days under the last strip.
func (p *picture) times(y float64) {
	length := p.r.trace.Length().Seconds()
	unit, name := timeUnit(length)
	step := niceUp(length / unit / 12)
	for v := 0.0; v*unit <= length*1.0001; v += step {
		x := plotLeft + v*unit/length*float64(p.columns)
		p.line(pt{x, y - stripFoot}, pt{x, y - stripFoot + 5}, "tick")
		p.text(pt{x, y + 10}, "small faint mid", trimZeros(fmt.Sprintf("%.2f", v))+" "+name)
	}
}

func timeUnit(seconds float64) (unit float64, name string) {
	switch {
	case seconds > 4*86400:
		return 86400, "d"
	case seconds > 2*3600:
		return 3600, "h"
	case seconds > 240:
		return 60, "min"
	}
	return 1, "s"
}

// niceUp is the next of 1, 2, 2.5, 5 times a power of ten.
func niceUp(v float64) float64 {
	if !(v > 0) {
		return 1
	}
	power := math.Pow(10, math.Floor(math.Log10(v)))
	for _, m := range [...]float64{1, 1.5, 2, 2.5, 3, 4, 5, 6, 8} {
		if m*power >= v*(1-1e-9) {
			return m * power
		}
	}
	return 10 * power
}
