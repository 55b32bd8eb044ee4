package ctl

import (
	"strings"

	"github.com/charmbracelet/x/ansi"
)

// maxCell bounds every column but the last of a table that is wider than the page.
const maxCell = 40

// table aligns cells by their width on a screen, colours not counted.
type table struct {
	head  []string
	right map[int]bool // columns that align to the right
	wrap  bool         // the last column goes on below itself instead of being cut
	rows  []tableRow
}

type tableRow struct {
	cells []string
	note  string // a line of its own under the row
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, tableRow{cells: cells}) }

// note puts a line under the newest row.
func (t *table) note(s string) { t.rows[len(t.rows)-1].note = s }

// print writes the table; nothing for one without rows. The last column is cut
// or wrapped to the page.
func (t *table) print(p *page) {
	if len(t.rows) == 0 {
		return
	}
	widths := t.widths(pageWidth)
	if add(widths)+2*(len(widths)-1) > pageWidth {
		widths = t.widths(maxCell)
	}
	head := make([]string, len(t.head))
	for i, h := range t.head {
		head[i] = p.style(styleDim, h)
	}
	p.line("%s", t.format(head, widths))
	for _, r := range t.rows {
		p.line("%s", t.format(r.cells, widths))
		switch {
		case r.note != "" && t.wrap:
			for l := range strings.SplitSeq(wrapped(r.note, pageWidth-2), "\n") {
				p.line("%s", p.style(styleDim, "  "+l))
			}
		case r.note != "":
			p.line("%s", p.style(styleDim, ansi.Truncate("  "+r.note, pageWidth, "…")))
		}
	}
}

// widths are those of the widest cells, at most the given width.
func (t *table) widths(most int) []int {
	widths := make([]int, len(t.head))
	for i, h := range t.head {
		widths[i] = ansi.StringWidth(h)
	}
	for _, r := range t.rows {
		for i, c := range r.cells {
			widths[i] = max(widths[i], min(ansi.StringWidth(c), most))
		}
	}
	return widths
}

func add(numbers []int) (sum int) {
	for _, n := range numbers {
		sum += n
	}
	return sum
}

func (t *table) format(cells []string, widths []int) string {
	var b strings.Builder
	at := 0
	for i, c := range cells {
		last := i == len(cells)-1
		limit := widths[i]
		if last {
			limit = max(pageWidth-at, 10)
		}
		if last && t.wrap {
			c = strings.ReplaceAll(wrapped(c, limit), "\n", "\n"+strings.Repeat(" ", at))
		} else {
			c = ansi.Truncate(c, limit, "…")
		}
		pad := max(widths[i]-ansi.StringWidth(c), 0)
		switch {
		case t.right[i]:
			b.WriteString(strings.Repeat(" ", pad) + c)
		case last:
			b.WriteString(c)
		default:
			b.WriteString(c + strings.Repeat(" ", pad))
		}
		if !last {
			b.WriteString("  ")
		}
		at += widths[i] + 2
	}
	return strings.TrimRight(b.String(), " ")
}
