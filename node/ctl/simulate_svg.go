package ctl

import (
	"fmt"
	"html"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/effiscale/effiscale/mape/simulate"
)

// pt is a point: to the right of and below the upper left corner.
type pt struct{ x, y float64 }

// svg collects the elements of a picture. Elements carry classes instead of
// colours: the style sheet has one palette for light and one for dark.
type svg struct{ strings.Builder }

// palette is the style sheet of one colour scheme. The hues can be told apart by
// people with red-green colour blindness (ColorBrewer; Okabe and Ito).
type palette struct {
	back, ink, faint, grid, demand, short string
	hues                                  []string
}

func lightPalette() palette {
	return palette{
		back: "#ffffff", ink: "#1b1f24", faint: "#57606a", grid: "#e4e7eb", demand: "#c9d1d9", short: "#d1242f",
		hues: []string{
			"#0550ae", "#6e7781", "#b87d00", "#00805d", "#b5568a", "#7a4bc2", "#a04f00", "#1f83c4", "#3d4450",
		},
	}
}

func darkPalette() palette {
	return palette{
		back: "#0d1117", ink: "#e6edf3", faint: "#9aa4af", grid: "#262c36", demand: "#3d444d", short: "#ff6b61",
		hues: []string{
			"#6cb0ff", "#9aa4af", "#e3b341", "#3fb68b", "#e39bc6", "#b39bf0", "#e0914a", "#79c7f2", "#c9d1d9",
		},
	}
}

func (c palette) css() string {
	var b strings.Builder
	fmt.Fprintf(&b, ".back{fill:%s}.ink{fill:%s}.faint{fill:%s}.grid{stroke:%s}.tick{stroke:%s}.demand{fill:%s}",
		c.back, c.ink, c.faint, c.grid, c.faint, c.demand)
	fmt.Fprintf(&b, ".short{stroke:%s}.shortfill{fill:%s}", c.short, c.short)
	for i, hue := range c.hues {
		fmt.Fprintf(&b, ".line%d{stroke:%s}.name%d{fill:%s}", i, hue, i, hue)
	}
	return b.String()
}

const svgStyle = `text{font-family:system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;` +
	`font-size:12px;font-variant-numeric:tabular-nums}` +
	`.title{font-size:20px;font-weight:600}.head{font-size:15px;font-weight:600}.small{font-size:11px}` +
	`.mid{text-anchor:middle}.end{text-anchor:end}` +
	`path,line{fill:none;stroke-width:1.5;stroke-linejoin:round}.grid,.tick{stroke-width:1}.short{stroke-width:1}` +
	`.short,.grid,.tick{shape-rendering:crispEdges}.area{stroke:none}.own{stroke-width:3}.dash{stroke-dasharray:7 3}`

// newSVG begins a picture. Screen readers use title and description.
func newSVG(width, height float64, title, description string) *svg {
	s := &svg{}
	w, h := coord(width), coord(height)
	s.add(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %s %s" width="%s" height="%s" role="img"`+
		` aria-labelledby="title desc">`, w, h, w, h)
	s.add(`<title id="title">%s</title>`, escape(title))
	s.add(`<desc id="desc">%s</desc>`, escape(description))
	s.add(`<style>%s%s@media (prefers-color-scheme:dark){%s}</style>`,
		svgStyle, lightPalette().css(), darkPalette().css())
	s.add(`<rect class="back" width="%s" height="%s"/>`, w, h)
	return s
}

func (s *svg) end() string {
	s.add("</svg>")
	return s.String()
}

func (s *svg) add(format string, args ...any) { fmt.Fprintf(s, format+"\n", args...) }

// open begins a group; its title is shown where the pointer rests on it.
func (s *svg) open(title string) { s.add(`<g><title>%s</title>`, escape(title)) }

func (s *svg) close() { s.add("</g>") }

func (s *svg) text(at pt, class, text string) {
	s.add(`<text class="%s" x="%s" y="%s">%s</text>`, class, coord(at.x), coord(at.y), escape(text))
}

func (s *svg) line(from, to pt, class string) {
	s.add(`<line class="%s" x1="%s" y1="%s" x2="%s" y2="%s"/>`,
		class, coord(from.x), coord(from.y), coord(to.x), coord(to.y))
}

func (s *svg) box(at, size pt, class string) {
	s.add(`<rect class="%s" x="%s" y="%s" width="%s" height="%s"/>`,
		class, coord(at.x), coord(at.y), coord(size.x), coord(size.y))
}

// path draws the strokes, each a line through all of its points.
func (s *svg) path(class string, strokes ...[]pt) {
	var d strings.Builder
	for _, points := range strokes {
		for i, p := range points {
			command := "L"
			if i == 0 {
				command = "M"
			}
			d.WriteString(command + coord(p.x) + " " + coord(p.y))
		}
	}
	if d.Len() > 0 {
		s.add(`<path class="%s" d="%s"/>`, class, d.String())
	}
}

// coord prints a coordinate with one decimal at most.
func coord(v float64) string { return strconv.FormatFloat(math.Round(v*10)/10, 'f', -1, 64) }

// escape escapes a text for XML, and its control characters.
func escape(s string) string { return html.EscapeString(clean(s)) }

// hueOf is the index of a policy's colour, the same in every picture.
func hueOf(policy string) int {
	return (slices.Index(simulate.Baselines(), policy) + 1) % len(lightPalette().hues)
}

// lineClass is how a policy is drawn where lines cross: by colour, dash and width.
func lineClass(policy string) string {
	hue := hueOf(policy)
	class := "line" + strconv.Itoa(hue)
	switch {
	case policy == simulate.EffiScale:
		class += " own"
	case hue%2 == 0:
		class += " dash"
	}
	return class
}
