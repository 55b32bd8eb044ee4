package config

import (
	"bytes"
	"errors"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// place is a stretch of the file, in bytes from 0.
type place struct{ from, to int }

// entry is one "key = value" or one [table] of the file.
type entry struct {
	path  []string
	table bool // a header; it has no value
	list  bool // with table: [[path]]
	key   place
	at    place // of the value
	value literal
}

// fault is a syntax error of the file.
type fault struct {
	at      place
	message string
}

// maxSyntaxErrors bounds how often parsing continues after an error.
const maxSyntaxErrors = 10

// parse reads a TOML document into its entries. After an invalid line it continues with
// the next one, where that line was an expression of its own.
func parse(data []byte) (entries []entry, faults []fault) {
	text := bytes.Clone(data)
	for {
		var failed *unstable.ParserError
		var end int
		entries, end, failed = walk(text)
		if failed == nil {
			break
		}
		at := placeOf(text, failed.Highlight)
		faults = append(faults, fault{at, failed.Message})
		from, to := lineAround(text, at.from)
		if len(faults) == maxSyntaxErrors || !onlyCommentsBetween(text, end, from) {
			return entries, faults
		}
		blank(text[from:to])
	}
	return entries, faults
}

// brokenTable replaces a header that cannot be read, so that the keys under
// it are not taken for those of the table above.
const brokenTable = "_"

// blank replaces an invalid line by blanks, so that no other line moves.
func blank(line []byte) {
	header := bytes.HasPrefix(bytes.TrimSpace(line), []byte("[")) && len(line) >= 3
	for i := range line {
		line[i] = ' '
	}
	if header {
		copy(line, "["+brokenTable+"]")
	}
}

// walk parses until the end or the first error; end is where the last good
// expression ended.
func walk(data []byte) (entries []entry, end int, failed *unstable.ParserError) {
	var p unstable.Parser
	p.Reset(data)
	var table []string
	for p.NextExpression() {
		node := p.Expression()
		switch node.Kind {
		case unstable.KeyValue:
			entries = collect(entries, data, table, node)
			end = int(node.Raw.Offset + node.Raw.Length)
		case unstable.Table, unstable.ArrayTable:
			path, at := keyOf(node)
			entries = append(entries, entry{path: path, table: true, list: node.Kind == unstable.ArrayTable, key: at, at: at})
			table, end = path, at.to
		}
	}
	if err := p.Error(); err != nil && !errors.As(err, &failed) {
		failed = &unstable.ParserError{Highlight: data[end:end], Message: err.Error()}
	}
	return entries, end, failed
}

// keyOf is the dotted key of a node and the stretch that it covers.
func keyOf(node *unstable.Node) (path []string, at place) {
	for it := node.Key(); it.Next(); {
		raw := it.Node().Raw
		if len(path) == 0 {
			at.from = int(raw.Offset)
		}
		at.to = int(raw.Offset + raw.Length)
		path = append(path, string(it.Node().Data))
	}
	return path, at
}

// maxDepth bounds how deep a key may be nested; "service.NAME.key" needs 3.
const maxDepth = 8

// collect appends a key and its value; an inline table becomes its keys.
func collect(entries []entry, data []byte, table []string, node *unstable.Node) []entry {
	key, at := keyOf(node)
	path := append(table[:len(table):len(table)], key...)
	value := node.Value()
	if value.Kind == unstable.InlineTable && len(path) < maxDepth {
		entries = append(entries, entry{path: path, table: true, key: at, at: at})
		for it := value.Children(); it.Next(); {
			if it.Node().Kind == unstable.KeyValue {
				entries = collect(entries, data, path, it.Node())
			}
		}
		return entries
	}
	span := place{at.to, int(node.Raw.Offset + node.Raw.Length)}
	for span.from < span.to && strings.IndexByte(" \t=", data[span.from]) >= 0 {
		span.from++
	}
	return append(entries, entry{path: path, key: at, at: span, value: literalOf(value, true)})
}

func literalOf(node *unstable.Node, lists bool) literal {
	l := literal{text: string(node.Data)}
	switch node.Kind {
	case unstable.String:
		l.shape = shapeString
	case unstable.Integer:
		l.shape = shapeInteger
	case unstable.Float:
		l.shape = shapeFloat
	case unstable.Bool:
		l.shape = shapeBool
	case unstable.Array:
		if l.shape = shapeOther; !lists {
			return l
		}
		l.shape = shapeList
		for it := node.Children(); it.Next(); {
			l.list = append(l.list, literalOf(it.Node(), false))
		}
	default:
		l.shape = shapeOther
	}
	return l
}

// conformance finds what the parser leaves to the decoder: dates that are none,
// tables that are opened in two incompatible ways. It knows the first one only,
// so it is asked when nothing else is wrong.
func conformance(data []byte) []fault {
	var any map[string]any
	err := toml.Unmarshal(data, &any)
	decode, ok := errors.AsType[*toml.DecodeError](err)
	if !ok {
		return nil
	}
	line, column := decode.Position()
	from := 0
	for ; line > 1; line-- {
		from += bytes.IndexByte(data[from:], '\n') + 1
	}
	return []fault{{place{from + column - 1, from + column}, strings.TrimPrefix(decode.Error(), "toml: ")}}
}

// placeOf finds a subslice of data by its capacity, as the parser hands it out.
func placeOf(data, part []byte) place {
	from := cap(data) - cap(part)
	if from < 0 || from+len(part) > len(data) {
		return place{len(data), len(data)}
	}
	return place{from, from + len(part)}
}

// lineAround is the line that holds the byte at, without its end.
func lineAround(data []byte, at int) (from, to int) {
	at = min(at, len(data))
	from = bytes.LastIndexByte(data[:at], '\n') + 1
	to = bytes.IndexByte(data[at:], '\n')
	if to < 0 {
		return from, len(data)
	}
	return from, at + to
}

// onlyCommentsBetween reports that no expression was begun between two places.
func onlyCommentsBetween(data []byte, from, to int) bool {
	if from > to {
		return false
	}
	rest, _, _ := bytes.Cut(data[from:to], []byte("\n")) // the end of the last expression's line
	for line := range bytes.Lines(data[min(from+len(rest), to):to]) {
		if line = bytes.TrimSpace(line); len(line) > 0 && line[0] != '#' {
			return false
		}
	}
	return true
}
