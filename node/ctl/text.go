package ctl

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/charmbracelet/x/ansi"
)

// maxString bounds every string that is shown; the longest usual one is an
// Engine's error message.
const maxString = 2000

// clean makes untrusted text harmless to a terminal: control characters, escape
// sequences, invisible and direction-changing characters are escaped (CWE-150).
func clean(s string) string {
	var b strings.Builder
	n := 0
	for i, r := range s {
		if n++; n > maxString {
			b.WriteString("…")
			break
		}
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(s[i:], "\uFFFD"):
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case hostile(r) && r < 0x100:
			fmt.Fprintf(&b, `\x%02x`, r)
		case hostile(r):
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

func hostile(r rune) bool {
	return unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Co)
}

// cleanLines is clean for texts of several lines.
func cleanLines(s string) string {
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		lines[i] = clean(strings.ReplaceAll(l, "\t", "    "))
	}
	return strings.TrimRight(strings.Join(lines, "\n"), "\n")
}

// scrub returns a deep copy of a view with clean applied to every string.
func scrub[T any](view T) T {
	v := reflect.New(reflect.TypeOf(view)).Elem()
	v.Set(scrubbed(reflect.ValueOf(view)))
	return v.Interface().(T)
}

func scrubbed(v reflect.Value) reflect.Value {
	out := reflect.New(v.Type()).Elem()
	switch v.Kind() {
	case reflect.String:
		out.SetString(clean(v.String()))
	case reflect.Slice:
		if v.IsNil() {
			return v
		}
		out.Set(reflect.MakeSlice(v.Type(), v.Len(), v.Len()))
		for i := range v.Len() {
			out.Index(i).Set(scrubbed(v.Index(i)))
		}
	case reflect.Pointer:
		if v.IsNil() {
			return v
		}
		out.Set(reflect.New(v.Type().Elem()))
		out.Elem().Set(scrubbed(v.Elem()))
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			return v
		}
		for i := range v.NumField() {
			out.Field(i).Set(scrubbed(v.Field(i)))
		}
	default:
		return v
	}
	return out
}

// json writes a view. Characters that JSON leaves unescaped and a terminal
// interprets (C1 controls, DEL, directions) are written as \u escapes.
func (a *app) json(view any) error { return a.encode(view, "  ") }

// jsonLine writes a view on one line.
func (a *app) jsonLine(view any) error { return a.encode(view, "") }

func (a *app) encode(view any, indent string) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetIndent("", indent)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(view); err != nil {
		return fmt.Errorf("cannot write JSON: %w", err)
	}
	var out strings.Builder
	for _, r := range b.String() {
		switch {
		case r == '\n' || !hostile(r):
			out.WriteRune(r)
		case r > 0xffff:
			hi, lo := (r-0x10000)>>10+0xd800, (r-0x10000)&0x3ff+0xdc00
			fmt.Fprintf(&out, `\u%04x\u%04x`, hi, lo)
		default:
			fmt.Fprintf(&out, `\u%04x`, r)
		}
	}
	return a.write(out.String())
}

// coreText prints cores as "0.50".
func coreText(c float64) string {
	if c > 0 && c < 0.01 {
		return strconv.FormatFloat(c, 'f', 3, 64)
	}
	return strconv.FormatFloat(c, 'f', 2, 64)
}

var sizeUnits = [...]struct {
	name string
	size float64
}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

// unitOf is the IEC unit in which b reads best.
func unitOf(b int64) (name string, size float64) {
	for _, u := range sizeUnits {
		if math.Abs(float64(b)) >= u.size {
			return u.name, u.size
		}
	}
	return "B", 1
}

func inUnit(b int64, size float64) string {
	v := float64(b) / size
	if math.Abs(v) >= 10 || v == math.Trunc(v) {
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	return strconv.FormatFloat(v, 'f', 1, 64)
}

// sizeText prints "128 MiB", "1.5 GiB".
func sizeText(b int64) string {
	name, size := unitOf(b)
	return inUnit(b, size) + " " + name
}

// amount prints a limit of a resource: nano-cores or bytes, 0 is none.
func amount(resource string, v int64) string {
	switch {
	case v == 0:
		return "none"
	case resource == "memory":
		return sizeText(v)
	}
	return coreText(float64(v) / 1e9)
}

// move prints "0.50 -> 0.80", "128 -> 256 MiB".
func move(resource string, from, to int64) string {
	if resource == "memory" && from > 0 && to > 0 {
		fromUnit, size := unitOf(from)
		if toUnit, _ := unitOf(to); fromUnit == toUnit {
			return inUnit(from, size) + " -> " + sizeText(to)
		}
	}
	return amount(resource, from) + " -> " + amount(resource, to)
}

func percent(part, whole float64) string {
	if whole <= 0 {
		return "-"
	}
	return ratioText(part / whole)
}

func ratioText(r float64) string {
	if p := r * 100; p > 0 && p < 1 {
		return "<1%"
	}
	return strconv.FormatFloat(r*100, 'f', 0, 64) + "%"
}

// ageText prints a duration in at most two units: "12s", "41m", "3h10m", "3d4h".
func ageText(d time.Duration) string {
	switch {
	case d < time.Second:
		return "now"
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd%dh", int(d.Hours())/24, int(d.Hours())%24)
}

// SGR codes of the few styles in use.
const (
	styleBold   = "1"
	styleDim    = "2"
	styleRed    = "31"
	styleGreen  = "32"
	styleYellow = "33"
)

const (
	// pageWidth is the width of prose, and of tables on a terminal of unknown width.
	pageWidth = 100
	// leastWidth is the least width of paragraphs and help on a narrow terminal.
	leastWidth = 60
)

// page collects the text of one command.
type page struct {
	strings.Builder
	colour bool
	now    time.Time
	limit  int // width of tables; 0: nothing is cut, for a pipe or a file
	narrow int // width of paragraphs and help on a narrow terminal; 0: pageWidth
}

func (p *page) width() int {
	if p.narrow > 0 {
		return p.narrow
	}
	return pageWidth
}

func (p *page) line(format string, args ...any) { fmt.Fprintf(p, format+"\n", args...) }

func (p *page) style(code, s string) string {
	if !p.colour || s == "" {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

// since prints the age of an instant, "-" for none.
func (p *page) since(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return ageText(p.now.Sub(t))
}

// ago prints the age of an instant as "12s ago", "now".
func (p *page) ago(t time.Time) string {
	s := p.since(t)
	if s == "-" || s == "now" {
		return s
	}
	return s + " ago"
}

// unbroken replaces hyphens while lines are wrapped, so that names are not broken.
const unbroken = "\u2011"

// wrapped breaks text at spaces; a word longer than a line is broken anywhere.
func wrapped(text string, width int) string {
	return strings.ReplaceAll(ansi.Wrap(strings.ReplaceAll(text, "-", unbroken), width, ""), unbroken, "-")
}

// warning prints text behind a yellow mark, problem behind a red one.
func (p *page) warning(text string) { p.paragraph(p.style(styleYellow, "!")+" ", text) }

func (p *page) problem(text string) { p.paragraph(p.style(styleRed, "!")+" ", text) }

// paragraph prints text wrapped to the page, every line behind an indent.
func (p *page) paragraph(indent, text string) {
	first := indent
	for _, l := range strings.Split(wrapped(text, p.width()-ansi.StringWidth(indent)), "\n") {
		p.line("%s%s", first, l)
		first = strings.Repeat(" ", ansi.StringWidth(indent))
	}
}

func plural(n int, one, many string) string {
	if n == 1 {
		return fmt.Sprintf("%d %s", n, one)
	}
	return fmt.Sprintf("%d %s", n, many)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
