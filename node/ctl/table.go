package ctl

import (
	"strings"

	"github.com/charmbracelet/x/ansi"
)

const (
	// usualCell is the width to which names are cut before the last column is, leastLast the least
	// width of that, and leastCell that of names.
	usualCell, leastLast, leastCell = 18, 16, 10
)

// table aligns cells by their width on a screen, colours not counted. On a terminal it is as wide
// as that at most; elsewhere nothing is cut.
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

// print writes the table; nothing for one without rows.
func (t *table) print(p *page) {
	if len(t.rows) == 0 {
		return
	}
	widths := t.widths()
	t.fit(widths, p.limit)
	head := make([]string, len(t.head))
	for i, h := range t.head {
		head[i] = p.style(styleDim, h)
	}
	p.line("%s", t.format(head, widths, p.limit))
	for _, r := range t.rows {
		p.line("%s", t.format(r.cells, widths, p.limit))
		switch {
		case r.note == "":
		case p.limit == 0:
			p.line("%s", p.style(styleDim, "  "+r.note))
		case t.wrap:
			for l := range strings.SplitSeq(wrapped(r.note, p.limit-2), "\n") {
				p.line("%s", p.style(styleDim, "  "+l))
			}
		default:
			p.line("%s", p.style(styleDim, ansi.Truncate("  "+r.note, p.limit, "…")))
		}
	}
}

// widths are those of the widest cells.
func (t *table) widths() []int {
	widths := make([]int, len(t.head))
	for i, h := range t.head {
		widths[i] = ansi.StringWidth(h)
	}
	for _, r := range t.rows {
		for i, c := range r.cells {
			widths[i] = max(widths[i], ansi.StringWidth(c))
		}
	}
	return widths
}

// fit reduces the widths to a limit. A last column that is cut gives way after long names, one
// that goes on below itself before them.
func (t *table) fit(widths []int, limit int) {
	if limit == 0 {
		return
	}
	last := len(widths) - 1
	over := add(widths) + 2*last - limit
	if !t.wrap {
		over = t.shorten(widths, over, usualCell)
	}
	if over > 0 {
		cut := min(over, max(widths[last]-leastLast, 0))
		widths[last] -= cut
		over = t.shorten(widths, over-cut, leastCell)
	}
	if over > 0 {
		widths[last] = max(widths[last]-over, 1)
	}
}

// shorten takes the excess from the widest names, a character at a time, and returns the rest.
func (t *table) shorten(widths []int, over, least int) int {
	for ; over > 0; over-- {
		widest := -1
		for i := range len(widths) - 1 {
			if !t.right[i] && widths[i] > least && (widest < 0 || widths[i] > widths[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			break
		}
		widths[widest]--
	}
	return over
}

func add(numbers []int) (sum int) {
	for _, n := range numbers {
		sum += n
	}
	return sum
}

func (t *table) format(cells []string, widths []int, limit int) string {
	var b strings.Builder
	at := 0
	for i, c := range cells {
		last := i == len(cells)-1
		switch {
		case limit == 0:
		case last && t.wrap:
			c = strings.ReplaceAll(wrapped(c, max(limit-at, 1)), "\n", "\n"+strings.Repeat(" ", at))
		case last:
			c = ansi.Truncate(c, max(limit-at, 1), "…")
		default:
			c = ansi.Truncate(c, widths[i], "…")
		}
		pad := strings.Repeat(" ", max(widths[i]-ansi.StringWidth(c), 0))
		switch {
		case t.right[i]:
			b.WriteString(pad + c)
		case last:
			b.WriteString(c)
		default:
			b.WriteString(c + pad)
		}
		if !last {
			b.WriteString("  ")
		}
		at += widths[i] + 2
	}
	return strings.TrimRight(b.String(), " ")
}
