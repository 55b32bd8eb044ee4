package simulate

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"
)

// Header is the first line of every trace.
const Header = "seconds,value"

// point is one row of a file.
type point struct {
	seconds, value float64
	line           int
}

// Parse reads a trace: the header, then one row per step. The step is the
// median distance between rows. Rows that are out of order, twice there, not a
// number, negative or beyond the bounds are errors with the file's name and the
// line. With fill, what can be repaired is: rows are sorted, of two at one
// instant the later one counts, rows without a usable value are left out, and
// holes are filled on the straight line between their neighbours.
func Parse(name string, unit Unit, data []byte, fill bool) (Trace, error) {
	if len(data) > MaxBytes {
		return Trace{}, fmt.Errorf("%w: %s: %d bytes, allowed are %d", ErrTrace, name, len(data), MaxBytes)
	}
	p := parser{name: name, unit: unit, fill: fill}
	points, err := p.rows(data)
	if err != nil {
		return Trace{}, err
	}
	if fill {
		points = p.order(points)
	}
	var step time.Duration
	if len(points) > 1 {
		if step, err = p.step(points); err != nil {
			return Trace{}, err
		}
	}
	points = slices.DeleteFunc(points, func(pt point) bool { return math.IsNaN(pt.value) })
	if len(points) < 2 {
		return Trace{}, p.at(max(p.line, 1), "%d usable rows, at least 2 are needed", len(points))
	}
	return p.even(points, step)
}

type parser struct {
	name string
	unit Unit
	fill bool
	line int // the line that is being read
}

func (p *parser) at(line int, format string, args ...any) error {
	return fmt.Errorf("%w: %s:%d: %s", ErrTrace, p.name, line, fmt.Sprintf(format, args...))
}

func (p *parser) broken(line int, format string, args ...any) error {
	return fmt.Errorf("%w: %s:%d: %s; --fill repairs it", ErrRepairable, p.name, line, fmt.Sprintf(format, args...))
}

// rows reads every line. Unusable values are errors, or NaN when the trace is to be
// filled: their instants still count for the step.
func (p *parser) rows(data []byte) ([]point, error) {
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, p.at(1, "the file is empty; the first line must be %q", Header)
	}
	points := make([]point, 0, bytes.Count(data, []byte("\n")))
	for row := range bytes.Lines(data) {
		p.line++
		row = bytes.TrimSpace(row)
		if p.line == 1 {
			if string(bytes.ReplaceAll(row, []byte(" "), nil)) != Header {
				return nil, p.at(1, "the first line is %q, it must be %q", short(row), Header)
			}
			continue
		}
		if len(row) == 0 {
			continue
		}
		if len(points) >= MaxRows {
			return nil, p.at(p.line, "more than %d rows", MaxRows)
		}
		pt, err := p.row(row, points)
		if err != nil {
			return nil, err
		}
		points = append(points, pt)
	}
	return points, nil
}

// row reads one line.
func (p *parser) row(row []byte, before []point) (point, error) {
	left, right, ok := bytes.Cut(row, []byte(","))
	if !ok || bytes.IndexByte(right, ',') >= 0 {
		return point{}, p.at(p.line, "%q is not two numbers with a comma between them", short(row))
	}
	seconds, err := strconv.ParseFloat(string(bytes.TrimSpace(left)), 64)
	if err != nil || !(seconds >= 0 && seconds <= MaxSeconds) {
		return point{}, p.at(p.line, "seconds %q: allowed are numbers from 0 to %.0f", short(left), MaxSeconds)
	}
	if n := len(before); n > 0 && !p.fill {
		if last := before[n-1].seconds; seconds <= last {
			return point{}, p.broken(p.line, "%s s comes after %s s: rows must be in order, each instant once", number(seconds),
				number(last))
		}
	}
	value, err := strconv.ParseFloat(string(bytes.TrimSpace(right)), 64)
	switch {
	case err == nil && value >= 0 && value <= p.unit.most():
		return point{seconds, value, p.line}, nil
	case p.fill && !(err == nil && value > p.unit.most() && !math.IsInf(value, 0)):
		return point{seconds, math.NaN(), p.line}, nil
	}
	why := fmt.Sprintf("allowed are numbers from 0 to %s %s", number(p.unit.most()), p.unit)
	if err == nil && value > p.unit.most() && !math.IsInf(value, 0) {
		return point{}, p.at(p.line, "value %q: %s; is it another --unit?", short(right), why)
	}
	return point{}, p.broken(p.line, "value %q: %s", short(right), why)
}

// order sorts the rows; of several at one instant the last usable one counts.
func (p *parser) order(points []point) []point {
	slices.SortStableFunc(points, func(a, b point) int {
		switch {
		case a.seconds < b.seconds:
			return -1
		case a.seconds > b.seconds:
			return 1
		}
		return 0
	})
	out := points[:0]
	for _, pt := range points {
		if n := len(out); n > 0 && out[n-1].seconds == pt.seconds {
			if !math.IsNaN(pt.value) {
				out[n-1] = pt
			}
			continue
		}
		out = append(out, pt)
	}
	return out
}

// step is the median distance between rows, to the millisecond.
func (p *parser) step(points []point) (time.Duration, error) {
	apart := make([]float64, len(points)-1)
	for i := range apart {
		apart[i] = points[i+1].seconds - points[i].seconds
	}
	slices.Sort(apart)
	step := time.Duration(math.Round(apart[(len(apart)-1)/2]*1e3)) * time.Millisecond
	if step < MinStep || step > MaxStep {
		return 0, p.at(points[1].line, "a step of %s, allowed are %s to %s", step, MinStep, MaxStep)
	}
	return step, nil
}

// even puts the rows on the grid of the step. A row may lie a tenth of a step
// beside its place.
func (p *parser) even(points []point, step time.Duration) (Trace, error) {
	t := Trace{Name: p.name, Unit: p.unit, Step: step, Values: make([]float64, 1, len(points))}
	s := step.Seconds()
	first := points[0].seconds
	t.Values[0] = points[0].value
	for _, pt := range points[1:] {
		place := (pt.seconds - first) / s
		i := int(math.Round(place))
		n := len(t.Values)
		switch {
		case i >= MaxRows:
			return Trace{}, p.at(pt.line, "the trace has more than %d steps of %s", MaxRows, step)
		case !p.fill && math.Abs(place-float64(i)) > 0.1:
			return Trace{}, p.broken(pt.line, "%s s is not a whole number of %s steps after the first row", number(pt.seconds),
				step)
		case i < n && !p.fill:
			return Trace{}, p.broken(pt.line, "two rows in one step of %s", step)
		case i < n: // of two in one step the later counts
			t.Values[n-1] = pt.value
			continue
		case i > n && !p.fill:
			return Trace{}, p.broken(pt.line, "%d rows are missing before %s s (the step is %s)", i-n, number(pt.seconds), step)
		}
		last := t.Values[n-1]
		for k := n; k < i; k++ {
			t.Values = append(t.Values, last+(pt.value-last)*float64(k-n+1)/float64(i-n+1))
			t.Filled++
		}
		t.Values = append(t.Values, pt.value)
	}
	return t, nil
}

// maxShown bounds what of a stranger's file is repeated in a message.
const maxShown = 40

func short(b []byte) string {
	b = bytes.TrimSpace(b)
	if len(b) > maxShown {
		return string(b[:maxShown]) + "…"
	}
	return string(b)
}

func number(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }
