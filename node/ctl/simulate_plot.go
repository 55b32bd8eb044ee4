package ctl

import (
	"bytes"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"github.com/effiscale/effiscale/mape/simulate"
)

// plotKind is the way to draw into a file of this name; nil: none is known.
func plotKind(file string) func(w, h int) (*canvas, error) {
	switch strings.ToLower(filepath.Ext(file)) {
	case ".svg":
		return svgCanvas
	case ".png":
		return pngCanvas
	}
	return nil
}

// The picture: one strip per policy, all on the same scales, so that they can be
// compared by eye; the frontiers below.
const (
	plotWidth            = 1200
	plotLeft, plotRight  = 64, 24
	plotTop, plotBottom  = 78, 44
	stripHeight          = 96
	stripHead, stripFoot = 24, 10
	curveHeight          = 300
	curveHead            = 64
	curvePoints          = 400
)

// plotReplay draws a replay of one trace.
func plotReplay(file string, r *replay, frontier bool) error {
	height := plotTop + len(r.results)*(stripHead+stripHeight+stripFoot) + plotBottom
	if frontier {
		height += curveHead + curveHeight + plotBottom
	}
	c, err := plotKind(file)(plotWidth, height)
	if err != nil {
		return fmt.Errorf("cannot draw: %w", err)
	}
	p := newPicture(c, r)
	p.head()
	y := plotTop
	for i := range r.results {
		p.strip(y+stripHead, i)
		y += stripHead + stripHeight + stripFoot
	}
	p.times(y)
	if frontier {
		p.curves(y + plotBottom + curveHead)
	}
	var b bytes.Buffer
	if err := c.save(&b); err != nil {
		return fmt.Errorf("cannot draw: %w", err)
	}
	return writeFile(file, b.Bytes())
}

// picture is one drawing of one replay.
type picture struct {
	*canvas
	r       *replay
	scale   float64 // of the unit: what one mark of the axis is worth
	unit    string
	top     float64 // of the axis, in the unit
	columns int
}

func newPicture(c *canvas, r *replay) *picture {
	p := &picture{canvas: c, r: r, scale: 1, unit: "cores", columns: plotWidth - plotLeft - plotRight}
	if r.trace.Unit == simulate.UnitBytes {
		p.unit, p.scale = unitOf(int64(slices.Max(r.trace.Values)))
	}
	peak := 0.0
	for _, res := range r.results {
		peak = max(peak, slices.Max(res.Series.Demand))
	}
	p.top = niceUp(1.25 * peak / p.scale)
	return p
}

func (p *picture) head() {
	p.text(pt{plotLeft, 32}, face{20, ink}, p.r.trace.Name)
	t := &p.r.trace
	p.text(pt{plotLeft, 54}, face{12, faint}, fmt.Sprintf("%s in %d steps of %s · all strips on one scale, %s · what is above the top is cut off",
		spanText(t.Length()), len(t.Values), secondsText(t.Step.Seconds()), p.unit))
	x := plotWidth - plotRight - 270
	words := face{12, ink}
	p.box(pt{x, 24}, pt{14, 10}, demandFill)
	p.text(pt{x + 20, 33}, words, "demand")
	p.line(pt{x + 84, 29}, pt{x + 100, 29}, pen{2, hue(0)})
	p.text(pt{x + 106, 33}, words, "allocated")
	p.box(pt{x + 180, 24}, pt{14, 10}, alarm)
	p.text(pt{x + 200, 33}, words, "not served")
}

// strip draws demand, what was allocated and what was short of one policy.
func (p *picture) strip(y, i int) {
	res := &p.r.results[i]
	s := res.Series
	colour := policyHue(res.Policy)
	p.text(pt{plotLeft, y - 7}, face{14, colour}, res.Policy)
	p.text(pt{plotLeft + 150, y - 7}, face{12, faint}, stripWords(res))
	p.grid(y)
	bottom := y + stripHeight
	place := func(v float64) int {
		return bottom - int(math.Round(min(v/p.scale/p.top, 1)*stripHeight))
	}
	demand, alloc := p.squeeze(s.Demand), p.squeeze(s.Allocated)
	outline := []pt{{plotLeft, bottom}}
	for x, d := range demand {
		outline = append(outline, pt{plotLeft + x, place(d.high)})
	}
	p.fill(append(outline, pt{plotLeft + p.columns - 1, bottom}), demandFill)
	for x, d := range demand {
		// A column is red from what was there up to the demand that it did not meet.
		if there, short := p.shortest(s, x); short {
			from := place(there)
			p.line(pt{plotLeft + x, from}, pt{plotLeft + x, min(place(d.high), from-1)}, pen{1, alarm})
		}
	}
	var path []pt
	for x, a := range alloc {
		first, last := place(a.first), place(a.last)
		low, high := place(a.low), place(a.high)
		path = append(path, pt{plotLeft + x, first})
		if low != high {
			path = append(path, pt{plotLeft + x, low}, pt{plotLeft + x, high}, pt{plotLeft + x, last})
		}
	}
	p.path(path, pen{1.5, colour})
}

// stripWords sums a policy up in a line.
func stripWords(r *simulate.Result) string {
	s := &r.Score
	words := fmt.Sprintf("slack %s %% · unserved %s %% · %s changes", share(s.Slack), share(s.Unserved), figure(float64(s.Changes)))
	if s.Replicas != nil {
		words += fmt.Sprintf(" · %s replica-hours · %s s overloaded", figure(s.Replicas.Hours), figure(s.Replicas.Overloaded))
	}
	if r.Series.OOM > 0 {
		words += fmt.Sprintf(" · %d OOM kills", s.OOMKills)
	}
	return words
}

// bunch is what the steps of one column have for values.
type bunch struct{ first, last, low, high float64 }

// column is which steps column x of n stands for: at least one.
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

// shortest is what was there in the step of a column that was most short; false:
// none was.
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
func (p *picture) grid(y int) {
	for _, f := range [...]float64{0, 0.5, 1} {
		at := y + int(stripHeight*(1-f))
		p.line(pt{plotLeft, at}, pt{plotWidth - plotRight, at}, pen{1, rule})
		p.textRight(pt{plotLeft - 8, at + 4}, face{11, faint}, trimZeros(fmt.Sprintf("%.3f", f*p.top)))
	}
}

// times writes the hours or days under the last strip.
func (p *picture) times(y int) {
	length := p.r.trace.Length().Seconds()
	unit, name := timeUnit(length)
	step := niceUp(length / unit / 12)
	for v := 0.0; v*unit <= length*1.0001; v += step {
		x := plotLeft + int(v*unit/length*float64(p.columns))
		p.line(pt{x, y - stripFoot}, pt{x, y - stripFoot + 5}, pen{1, faint})
		p.textCentre(pt{x, y + 10}, face{11, faint}, trimZeros(fmt.Sprintf("%.2f", v))+" "+name)
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
