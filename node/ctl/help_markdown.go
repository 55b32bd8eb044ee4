package ctl

import (
	"regexp"
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

// leastLast is the least width of a table's last column; with less the rows are
// printed one below the other.
const leastLast = 34

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
	last := pageWidth
	for j := range head[:len(head)-1] {
		width := 0
		for _, r := range append(rows, head) {
			width = max(width, ansi.StringWidth(r[j]))
		}
		last -= width + 2
		if width > maxCell {
			last = 0
		}
	}
	if last < leastLast {
		records(p, head, rows)
		return
	}
	t := &table{head: head, wrap: true}
	for i := range t.head {
		t.head[i] = strings.ToUpper(t.head[i])
	}
	for _, r := range rows {
		t.add(r...)
	}
	t.print(p)
}

// records prints the rows of a wide table as records: the first cell, the last one
// as text, the others by name.
func records(p *page, head []string, rows [][]string) {
	for _, r := range rows {
		n := len(r) - 1
		p.line("%s", p.style(styleBold, ansi.Strip(r[0])))
		if r[n] != "" {
			p.paragraph("    ", r[n])
		}
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
