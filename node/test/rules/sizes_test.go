package rules

import (
	"fmt"
	"go/ast"
	"go/token"
	"regexp"
	"strings"
	"unicode/utf8"
)

// literal is a string in a line. A line of a test may be longer for its literals: a table
// of cases is read by column.
var literal = regexp.MustCompile("`[^`]*`|\"([^\"\\\\]|\\\\.)*\"")

const (
	maxLiterals = 40  // characters of literals; a line of a test with more may be longer
	maxTestLine = 240 // even then
)

func isLongForItsLiterals(line string) bool {
	n := 0
	for _, l := range literal.FindAllString(line, -1) {
		n += utf8.RuneCountInString(l)
	}
	return n > maxLiterals
}

// lines finds lines that are too long, and compiler directives that only save space.
func (in *inspector) lines(f *ast.File, source []byte, test bool) {
	file := in.fset.File(f.FileStart)
	n := 0
	for line := range strings.Lines(string(source)) {
		n++
		limit := maxLine
		if test && isLongForItsLiterals(line) {
			limit = maxTestLine
		}
		if columns := utf8.RuneCountInString(strings.TrimRight(line, "\n")); columns > limit {
			in.fault(file.LineStart(n), "%d columns, over %d", columns, limit)
		}
	}
	for _, pos := range noinline(f) {
		in.fault(pos, "go:noinline: the compiler decides what is inlined")
	}
}

// noinline is where a file has the directive.
func noinline(f *ast.File) (found []token.Pos) {
	for _, group := range f.Comments {
		for _, c := range group.List {
			if strings.HasPrefix(c.Text, "//go:noinline") {
				found = append(found, c.Pos())
			}
		}
	}
	return found
}

// types finds structs with too many fields and interfaces with too many methods.
func (in *inspector) types(f *ast.File) {
	ast.Inspect(f, func(n ast.Node) bool {
		switch t := n.(type) {
		case *ast.StructType:
			if count := t.Fields.NumFields(); count > maxFields {
				in.fault(t.Pos(), "a struct of %d fields, over %d", count, maxFields)
			}
		case *ast.InterfaceType:
			if count := t.Methods.NumFields(); count > maxInterface {
				in.fault(t.Pos(), "an interface of %d methods, over %d", count, maxInterface)
			}
		}
		return true
	})
}

func (in *inspector) countMethods(f *ast.File, pkg string) {
	for _, d := range f.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok || fn.Recv == nil {
			continue
		}
		name := pkg + "." + receiverName(fn)
		if in.methods[name] == nil {
			in.methods[name] = &receiver{first: fn.Pos()}
		}
		in.methods[name].count++
	}
}

// receiverName is the type's name without pointer and type parameters.
func receiverName(fn *ast.FuncDecl) string {
	t := fn.Recv.List[0].Type
	for {
		switch x := t.(type) {
		case *ast.StarExpr:
			t = x.X
		case *ast.IndexExpr:
			t = x.X
		case *ast.IndexListExpr:
			t = x.X
		case *ast.Ident:
			return x.Name
		default:
			return ""
		}
	}
}

func (in *inspector) receivers() {
	for name, r := range in.methods {
		most := max(maxMethods, bigReceivers()[name])
		if r.count > most {
			in.fault(r.first, "%s has %d methods, over %d", name[strings.LastIndex(name, ".")+1:], r.count, most)
		}
	}
}

// methods is the source of a file with n methods of a receiver.
func methods(receiver string, n int) string {
	var b strings.Builder
	b.WriteString("package mape; type T int\n")
	for i := range n {
		fmt.Fprintf(&b, "func (%s) m%d() {}\n", receiver, i)
	}
	return b.String()
}

func interfaceOf(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "m%d();", i)
	}
	return b.String()
}
