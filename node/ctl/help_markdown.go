package ctl

import (
	"regexp"
	"slices"
	"strings"

	"github.com/charmbracelet/x/ansi"
)

// markdown prints the subset of Markdown of the help topics: headings, paragraphs,
// lists, tables and fenced code.
func markdown(p *page, text string) {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	for len(lines) > 0 {
		n := block(lines)
		printBlock(p, lines[:n])
		lines = lines[n:]
	}
}

// block is the number of lines of the first block: a fence to its end, a table, or
// a paragraph or list item with its continuation lines.
func block(lines []string) int {
	first := lines[0]
	if strings.HasPrefix(first, "```") {
		for i := 1; i < len(lines); i++ {
			if strings.HasPrefix(lines[i], "```") {
				return i + 1
			}
		}
		return len(lines)
	}
	if isTable(first) {
		n := 1
		for n < len(lines) && isTable(lines[n]) {
			n++
		}
		return n
	}
	if first == "" || strings.HasPrefix(first, "#") || strings.HasPrefix(first, "<!--") {
		return 1
	}
	n := 1
	for n < len(lines) && lines[n] != "" && !isTable(lines[n]) && listMark(lines[n]) == "" &&
		!strings.HasPrefix(lines[n], "#") && !strings.HasPrefix(lines[n], "```") {
		n++
	}
	return n
}

func isTable(line string) bool { return strings.HasPrefix(line, "|") }

var markPattern = regexp.MustCompile(`^(- |\d+\. )`)

// listMark is the mark of a list item, "" for none.
func listMark(line string) string { return markPattern.FindString(line) }

func printBlock(p *page, lines []string) {
	first := lines[0]
	mark := listMark(first)
	switch {
	case strings.HasPrefix(first, "<!--"):
	case first == "":
		if !strings.HasSuffix(p.String(), "\n\n") {
			p.line("")
		}
	case strings.HasPrefix(first, "#"):
		p.line("%s", p.style(styleBold, inline(p, strings.TrimLeft(first, "# "))))
	case strings.HasPrefix(first, "```"):
		for _, l := range lines[1 : len(lines)-1] {
			p.line("%s", strings.TrimRight("    "+l, " "))
		}
	case isTable(first):
		markdownTable(p, lines)
	default:
		for i := range lines {
			lines[i] = strings.TrimSpace(lines[i])
		}
		p.paragraph(mark, inline(p, strings.TrimPrefix(strings.Join(lines, " "), mark)))
	}
}

var (
	linkPattern = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)
	boldPattern = regexp.MustCompile(`\*\*([^*]*)\*\*`)
	codePattern = regexp.MustCompile("`([^`]*)`")
)

// inline renders links, bold text and code: with colours by style, else as they are.
func inline(p *page, s string) string {
	s = boldPattern.ReplaceAllString(linkPattern.ReplaceAllString(s, "$1"), "$1")
	if !p.colour {
		return s
	}
	return codePattern.ReplaceAllStringFunc(s, func(code string) string {
		return p.style(styleGreen, strings.Trim(code, "`"))
	})
}

func markdownTable(p *page, lines []string) {
	var rows [][]string
	for i, l := range lines {
		if i == 1 { // |---|---|
			continue
		}
		cells := strings.Split(strings.Trim(l, "|"), "|")
		for j := range cells {
			cells[j] = strings.ReplaceAll(inline(p, strings.TrimSpace(cells[j])), "`", "")
		}
		rows = append(rows, cells)
	}
	head, rows := rows[0], rows[1:]
	if len(head) > 2 && head[len(head)-1] == "meaning" {
		records(p, head, rows)
		return
	}
	columns(p, head, rows)
}

// columns prints a table as wide as the page at most; wider cells are wrapped, and the
// rows separated by empty lines then.
func columns(p *page, head []string, rows [][]string) {
	for i := range head {
		head[i] = p.style(styleDim, strings.ToUpper(head[i]))
	}
	widths := make([]int, len(head))
	for _, r := range append([][]string{head}, rows...) {
		for i, c := range r {
			widths[i] = max(widths[i], ansi.StringWidth(c))
		}
	}
	wraps := fit(widths, p.width()-2*(len(widths)-1))
	p.line("%s", columnsRow(head, widths))
	for i, r := range rows {
		if wraps && i > 0 {
			p.line("")
		}
		p.line("%s", columnsRow(r, widths))
	}
}

// fit reduces the widest columns until their sum is at most room, and reports whether
// it had to.
func fit(widths []int, room int) bool {
	sum, widest := add(widths), slices.Max(widths)
	wraps := sum > room
	for ; sum > room; widest-- {
		for i := range widths {
			if widths[i] > widest {
				sum -= widths[i] - widest
				widths[i] = widest
			}
		}
	}
	return wraps
}

// columnsRow is one row, with as many lines as its longest cell.
func columnsRow(cells []string, widths []int) string {
	var out []string
	for i, c := range cells {
		indent := 0
		for _, w := range widths[:i] {
			indent += w + 2
		}
		for n, l := range strings.Split(wrapped(c, widths[i]), "\n") {
			if n == len(out) {
				out = append(out, "")
			}
			out[n] += strings.Repeat(" ", max(indent-ansi.StringWidth(out[n]), 0)) + l
		}
	}
	return strings.Join(out, "\n")
}

// records prints the rows of a wide table one below the other: the first cell, the
// meaning, and the others by name.
func records(p *page, head []string, rows [][]string) {
	for _, r := range rows {
		n := len(r) - 1
		p.line("%s", p.style(styleBold, ansi.Strip(r[0])))
		p.paragraph("    ", r[n])
		var rest []string
		for j := 1; j < n; j++ {
			if r[j] != "" {
				rest = append(rest, head[j]+" "+r[j])
			}
		}
		if len(rest) > 0 {
			p.paragraph("    ", strings.Join(rest, "; "))
		}
	}
}
