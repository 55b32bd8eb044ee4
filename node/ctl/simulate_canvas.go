package ctl

import (
	"fmt"
	"html"
	"io"

	chart "github.com/wcharczuk/go-chart/v2"
	"github.com/wcharczuk/go-chart/v2/drawing"

	"github.com/effiscale/effiscale/mape/simulate"
)

// canvas draws lines, areas and words into an SVG or a PNG.
type canvas struct {
	draw   chart.Renderer
	zoom   int // dots per unit of length
	escape func(string) string
}

// pngZoom: a picture for screens of twice the usual density.
const pngZoom = 2

func svgCanvas(w, h int) (*canvas, error) { return newCanvas(chart.SVG, w, h, 1, html.EscapeString) }

func pngCanvas(w, h int) (*canvas, error) {
	return newCanvas(chart.PNG, w, h, pngZoom, func(s string) string { return s })
}

func newCanvas(make chart.RendererProvider, w, h, zoom int, escape func(string) string) (*canvas, error) {
	draw, err := make(w*zoom, h*zoom)
	if err != nil {
		return nil, err
	}
	font, err := chart.GetDefaultFont()
	if err != nil {
		return nil, err
	}
	draw.SetDPI(72)
	draw.SetFont(font)
	c := &canvas{draw, zoom, escape}
	c.box(pt{}, pt{w, h}, drawing.ColorWhite)
	return c, nil
}

func (c *canvas) save(w io.Writer) error {
	if err := c.draw.Save(w); err != nil {
		return fmt.Errorf("cannot encode the picture: %w", err)
	}
	return nil
}

// The colours, from ColorBrewer's and Okabe and Ito's palettes that people who see
// red and green alike can tell apart.
var (
	ink        = drawing.ColorFromHex("1b1f24")
	faint      = drawing.ColorFromHex("6a737d")
	rule       = drawing.ColorFromHex("e4e7eb")
	demandFill = drawing.ColorFromHex("c9d1d9")
	alarm      = drawing.ColorFromHex("d1242f")
	hues       = []drawing.Color{
		drawing.ColorFromHex("0550ae"), drawing.ColorFromHex("8c959f"), drawing.ColorFromHex("e69f00"), drawing.ColorFromHex("009e73"), drawing.ColorFromHex("cc79a7"),
		drawing.ColorFromHex("7a4bc2"), drawing.ColorFromHex("b45f06"), drawing.ColorFromHex("56b4e9"), drawing.ColorFromHex("3d4450"),
	}
)

func hue(i int) drawing.Color { return hues[i%len(hues)] }

// policyHue is the same for a policy in every picture.
func policyHue(name string) drawing.Color {
	for i, n := range simulate.Baselines() {
		if n == name {
			return hue(i + 1)
		}
	}
	return hue(0)
}

// pt is a place: to the right and down from the upper left corner.
type pt struct{ x, y int }

// pen draws lines, face writes words.
type pen struct {
	width  float64
	colour drawing.Color
}

type face struct {
	size   float64
	colour drawing.Color
}

// path draws a line through all points.
func (c *canvas) path(points []pt, with pen) {
	if len(points) < 2 {
		return
	}
	c.draw.SetStrokeColor(with.colour)
	c.draw.SetStrokeWidth(with.width * float64(c.zoom))
	c.draw.SetFillColor(drawing.ColorTransparent)
	c.trace(points)
	c.draw.Stroke()
}

// fill paints the inside of a closed outline.
func (c *canvas) fill(outline []pt, colour drawing.Color) {
	c.draw.SetStrokeColor(drawing.ColorTransparent)
	c.draw.SetStrokeWidth(0)
	c.draw.SetFillColor(colour)
	c.trace(outline)
	c.draw.Close()
	c.draw.Fill()
}

func (c *canvas) trace(points []pt) {
	c.draw.MoveTo(points[0].x*c.zoom, points[0].y*c.zoom)
	for _, p := range points[1:] {
		c.draw.LineTo(p.x*c.zoom, p.y*c.zoom)
	}
}

func (c *canvas) line(from, to pt, with pen) { c.path([]pt{from, to}, with) }

func (c *canvas) box(at, size pt, colour drawing.Color) {
	c.fill([]pt{at, {at.x + size.x, at.y}, {at.x + size.x, at.y + size.y}, {at.x, at.y + size.y}}, colour)
}

// text writes from a place on to the right; textCentre around it, textRight up to it.
func (c *canvas) text(at pt, in face, words string) { c.write(at, in, words, 0) }

func (c *canvas) textCentre(at pt, in face, words string) { c.write(at, in, words, 0.5) }

func (c *canvas) textRight(at pt, in face, words string) { c.write(at, in, words, 1) }

func (c *canvas) write(at pt, in face, words string, shift float64) {
	c.draw.SetFontColor(in.colour)
	c.draw.SetFontSize(in.size * float64(c.zoom))
	width := c.draw.MeasureText(words).Width()
	c.draw.Text(c.escape(words), at.x*c.zoom-int(shift*float64(width)), at.y*c.zoom)
}
