package config

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Problem is one fault of the configuration.
type Problem struct {
	Origin  Origin
	Key     string // "node.mode"; "": the file's form
	Value   string // as it was written, shortened and escaped; "": none
	Message string // a predicate: "is too small"
	Allowed string // the valid values; "": they are in the message
	// Excerpt is the offending line, Mark and Width the place in it, in
	// characters from 0. Excerpt is "" for the environment.
	Excerpt     string
	Mark, Width int
}

// String is the problem in one line, and the marked excerpt below it.
func (p Problem) String() string {
	var b strings.Builder
	switch p.Origin.Source {
	case FromFile:
		fmt.Fprintf(&b, "%s:%d:%d: ", printable(p.Origin.File), p.Origin.Line, p.Origin.Column)
	case FromEnv:
		b.WriteString(printable(p.Origin.Env) + ": ")
	}
	if p.Key != "" {
		b.WriteString(printable(p.Key) + " ")
	}
	if p.Value != "" {
		b.WriteString("= " + p.Value + " ")
	}
	b.WriteString(p.Message)
	if p.Allowed != "" {
		b.WriteString(joinAllowed(p.Message, p.Allowed))
	}
	if p.Excerpt != "" {
		number := fmt.Sprintf("%5d", p.Origin.Line)
		fmt.Fprintf(&b, "\n%s | %s\n%s | %s%s", number, p.Excerpt, strings.Repeat(" ", len(number)),
			strings.Repeat(" ", p.Mark), strings.Repeat("^", max(1, p.Width)))
	}
	return b.String()
}

// joinAllowed appends the valid values to a message, which may end in a question.
func joinAllowed(message, allowed string) string {
	if strings.HasSuffix(message, "?") {
		return " Allowed: " + allowed
	}
	return "; allowed: " + allowed
}

// Errors are all problems of one configuration, in the order of the file, those
// of the environment last. It is the error of Load.
type Errors []Problem

func (e Errors) Error() string {
	lines := make([]string, 0, len(e)+1)
	for _, p := range e {
		lines = append(lines, p.String())
	}
	if len(e) > 1 {
		lines = append(lines, fmt.Sprintf("%d problems in the configuration", len(e)))
	}
	return strings.Join(lines, "\n")
}

const (
	maxShown    = 60  // bytes of a value in a message
	maxExcerpt  = 100 // bytes of a line of the file
	maxReported = 100 // problems of one configuration; the rest is counted
)

// printable replaces characters that a terminal interprets.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r >= 0x7f && r < 0xa0 || r == utf8.RuneError ||
			r >= 0x2028 && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
			return '?'
		}
		return r
	}, s)
}

// show is a value in quotes, escaped, and shortened when it is long.
func show(s string) string {
	if len(s) <= maxShown {
		return fmt.Sprintf("%+q", s)
	}
	return fmt.Sprintf("%+q… (%d bytes)", s[:maxShown], len(s))
}

// excerpt cuts one line around the bytes from..to of it and tells where they
// are in what is left, in characters.
func excerpt(line string, from, to int) (text string, mark, width int) {
	from, to = min(from, len(line)), min(to, len(line))
	start := 0
	if from > maxExcerpt*3/4 {
		start = from - maxExcerpt/4
	}
	end := min(len(line), start+maxExcerpt)
	to = max(from, min(to, end))
	tabs := strings.NewReplacer("\t", " ")
	clean := func(s string) string { return printable(tabs.Replace(s)) }
	before, marked, after := clean(line[start:from]), clean(line[from:to]), clean(line[to:end])
	if start > 0 {
		before = "…" + before
	}
	if end < len(line) {
		after += "…"
	}
	return before + marked + after, utf8.RuneCountInString(before), utf8.RuneCountInString(marked)
}
