package rules

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// The sizes that a reader can still take in at once: see ARCHITECTURE.md.
const (
	maxFile       = 500 // lines
	maxFunction   = 80  // lines, the signature included
	maxParameters = 5   // a context does not count
	maxLine       = 120 // characters, a tab counts as one
	maxMethods    = 40  // of one receiver, but for bigReceivers
	maxFields     = 25  // of one struct
	maxInterface  = 12  // methods
)

// bigReceivers may have more methods than maxMethods.
func bigReceivers() map[string]int { return map[string]int{"mape.Loop": 60} }

// inspector walks the tree and gathers what breaks the rules.
type inspector struct {
	packages map[string]packageRule
	adapters []adapter
	maySkip  map[string]string
	fset     *token.FileSet
	faults   []string
	// globals are the package-level variables of each package, and writes what
	// is assigned to names that are no locals.
	globals map[string]map[string]token.Pos
	writes  map[string]map[string]token.Pos
	methods map[string]*receiver // by package and type: "mape.Loop"
}

// receiver is a type with methods.
type receiver struct {
	count int
	first token.Pos
}

// inspect returns one line per broken rule, with the place.
func inspect(tree fs.FS, packages []packageRule, adapters []adapter, skips map[string]string) ([]string, error) {
	in := &inspector{
		packages: map[string]packageRule{}, adapters: adapters, maySkip: skips, fset: token.NewFileSet(),
		globals: map[string]map[string]token.Pos{}, writes: map[string]map[string]token.Pos{},
		methods: map[string]*receiver{},
	}
	for _, r := range packages {
		in.packages[r.path] = r
	}
	unlisted := map[string]bool{}
	err := fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			return enter(tree, name)
		case !strings.HasSuffix(name, ".go"):
			return nil
		}
		dir := path.Dir(name)
		r, ok := in.packages[dir]
		if !ok {
			if !unlisted[dir] {
				in.faults = append(in.faults, dir+" is not listed: add it to layout() in node/test/rules/rules_test.go")
			}
			unlisted[dir] = true
			return nil
		}
		source, err := fs.ReadFile(tree, name)
		if err == nil {
			in.file(r, name, source)
		}
		return err
	})
	in.mutations()
	in.receivers()
	slices.Sort(in.faults)
	return in.faults, err
}

// enter skips what is not part of the module's tree.
func enter(tree fs.FS, dir string) error {
	base := path.Base(dir)
	if dir == "." {
		return nil
	}
	if base == "testdata" || strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") {
		return fs.SkipDir
	}
	if _, err := fs.Stat(tree, path.Join(dir, "go.mod")); err == nil {
		return fs.SkipDir
	}
	return nil
}

func (in *inspector) fault(pos token.Pos, format string, args ...any) {
	p := in.fset.Position(pos)
	in.faults = append(in.faults, fmt.Sprintf("%s:%d: ", p.Filename, p.Line)+fmt.Sprintf(format, args...))
}

func (in *inspector) file(r packageRule, name string, source []byte) {
	f, err := parser.ParseFile(in.fset, name, source, parser.ParseComments)
	if err != nil {
		in.faults = append(in.faults, err.Error())
		return
	}
	if r.path == "." && name != "main.go" {
		in.fault(f.Name.Pos(), "the top holds no Go file but main.go")
		return
	}
	test := strings.HasSuffix(name, "_test.go")
	for _, spec := range f.Imports {
		lib, _ := strconv.Unquote(spec.Path.Value)
		if !in.mayImport(r, lib, test) {
			in.fault(spec.Pos(), "%s may not import %s", r.path, strings.TrimPrefix(lib, module+"/"))
		}
	}
	in.calls(f, r, test)
	in.lines(f, source, test)
	if test {
		in.skips(f, r.path)
		return
	}
	if r.layer == tests && f.Name.Name != "main" {
		in.fault(f.Name.Pos(), "%s holds tests only", r.path)
	}
	if n := bytes.Count(source, []byte("\n")); n >= maxFile {
		in.fault(f.Name.Pos(), "the file is %d lines long, over %d", n, maxFile)
	}
	in.functions(f)
	in.types(f)
	in.countMethods(f, r.path)
	in.variables(f, r.path)
}

// mayImport: our packages by layout(), libraries by adapters(), the standard library
// but for what a pure package may not use.
func (in *inspector) mayImport(r packageRule, lib string, test bool) bool {
	if own, ok := strings.CutPrefix(lib, module+"/"); ok {
		return test && r.layer != types || in.mayKnow(r, own)
	}
	if !strings.Contains(strings.Split(lib, "/")[0], ".") {
		return test || r.layer > pure || !impure(lib)
	}
	for _, d := range in.adapters {
		if !strings.HasPrefix(lib, d.lib) {
			continue
		}
		if d.packages == "" && test || r.logs && d.lib == "github.com/rs/zerolog" {
			return true
		}
		return slices.Contains(strings.Fields(d.packages), r.path)
	}
	return false
}

func (in *inspector) mayKnow(r packageRule, other string) bool {
	o, ok := in.packages[other]
	if !ok {
		return false
	}
	switch {
	case o.layer == types:
		return r.layer > types
	case o.layer == pure && r.layer >= pure && r.layer < tests:
		return true
	}
	return slices.Contains(r.knows, "*") || slices.Contains(r.knows, other)
}

// impure: files, sockets, other goroutines, logs, chance.
func impure(lib string) bool {
	for _, p := range []string{"os", "io", "net", "sync", "context", "log", "math/rand", "crypto/rand", "syscall", "testing", "runtime"} {
		if lib == p || strings.HasPrefix(lib, p+"/") {
			return true
		}
	}
	return false
}

// calls finds readings of the clock where `now` is an argument, goroutines of pure
// packages, and loggers that are not passed by value.
func (in *inspector) calls(f *ast.File, r packageRule, test bool) {
	clock, zerolog := localName(f, "time"), localName(f, "github.com/rs/zerolog")
	readings := []string{"Now", "Since", "Until", "After", "AfterFunc", "Tick", "Sleep", "NewTimer", "NewTicker"}
	ast.Inspect(f, func(n ast.Node) bool {
		if star, ok := n.(*ast.StarExpr); ok {
			if pkg, name := qualified(star.X); pkg != "" && pkg == zerolog && name == "Logger" {
				in.fault(n.Pos(), "pass zerolog.Logger by value")
			}
		}
		if _, is := n.(*ast.GoStmt); is && r.layer <= pure && !test {
			in.fault(n.Pos(), "%s starts a goroutine", r.path)
		}
		if pkg, name := qualified(n); pkg != "" && pkg == clock && r.layer <= pure && !test &&
			slices.Contains(readings, name) {
			in.fault(n.Pos(), "%s reads the clock with time.%s: take now as an argument", r.path, name)
		}
		return true
	})
}

// localName is how the file calls the library; "" when it does not import it.
func localName(f *ast.File, lib string) string {
	for _, spec := range f.Imports {
		if spec.Path.Value != strconv.Quote(lib) {
			continue
		}
		if spec.Name != nil {
			return spec.Name.Name
		}
		return path.Base(lib)
	}
	return ""
}

// qualified splits pkg.Name; "" when n is something else.
func qualified(n ast.Node) (pkg, name string) {
	if sel, ok := n.(*ast.SelectorExpr); ok {
		if x, ok := sel.X.(*ast.Ident); ok {
			return x.Name, sel.Sel.Name
		}
	}
	return "", ""
}

// skips: a test that is left out must say by which variable it is required.
func (in *inspector) skips(f *ast.File, pkg string) {
	for _, d := range f.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok {
			continue
		}
		gated, skip := false, token.NoPos
		ast.Inspect(fn, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && strings.Contains(lit.Value, "EFFISCALE_") {
				gated = true
			}
			if _, name := qualified(n); slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, name) {
				skip = n.Pos()
			}
			return true
		})
		if skip.IsValid() && !gated && in.maySkip[pkg+"."+fn.Name.Name] == "" {
			in.fault(
				skip,
				"%s skips, and no EFFISCALE_ variable can require it: mention one, or list it in skips()",
				fn.Name.Name,
			)
		}
	}
}

func (in *inspector) functions(f *ast.File) {
	for _, d := range f.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok {
			continue
		}
		if fn.Name.Name == "init" && fn.Recv == nil {
			in.fault(fn.Pos(), "func init: wire it where it is used")
		}
		lines := in.fset.Position(fn.End()).Line - in.fset.Position(fn.Pos()).Line + 1
		if lines > maxFunction {
			in.fault(fn.Pos(), "%s is %d lines long, over %d", fn.Name.Name, lines, maxFunction)
		}
		count := 0
		for _, p := range fn.Type.Params.List {
			if pkg, name := qualified(p.Type); pkg == "context" && name == "Context" {
				continue
			}
			count += max(1, len(p.Names))
		}
		if count > maxParameters {
			in.fault(fn.Pos(), "%s has %d parameters, over %d", fn.Name.Name, count, maxParameters)
		}
	}
}

// embeds reports whether a variable's value is an embedded file.
func embeds(doc *ast.CommentGroup) bool {
	return doc != nil && slices.ContainsFunc(doc.List, func(c *ast.Comment) bool {
		return strings.HasPrefix(c.Text, "//go:embed ")
	})
}

// variables gathers package-level variables and the writes that may reach them.
func (in *inspector) variables(f *ast.File, pkg string) {
	if in.globals[pkg] == nil {
		in.globals[pkg], in.writes[pkg] = map[string]token.Pos{}, map[string]token.Pos{}
	}
	for _, d := range f.Decls {
		gen, ok := d.(*ast.GenDecl)
		if !ok || gen.Tok != token.VAR {
			continue
		}
		for _, s := range gen.Specs {
			spec := s.(*ast.ValueSpec)
			for _, name := range spec.Names {
				if name.Name == "_" {
					continue
				}
				in.globals[pkg][name.Name] = name.Pos()
				if len(spec.Values) == 0 && !embeds(gen.Doc) {
					in.fault(name.Pos(), "global %s has no value: it is there to be changed", name.Name)
				}
			}
		}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		switch s := n.(type) {
		case *ast.AssignStmt:
			for _, left := range s.Lhs {
				in.write(pkg, left)
			}
		case *ast.IncDecStmt:
			in.write(pkg, s.X)
		}
		return true
	})
}

// write notes an assignment whose target is no local variable. The parser's own
// resolution is enough: it knows the locals and leaves the rest of the package
// unresolved.
func (in *inspector) write(pkg string, target ast.Expr) {
	for {
		switch t := target.(type) {
		case *ast.IndexExpr:
			target = t.X
		case *ast.SelectorExpr:
			target = t.X
		case *ast.StarExpr:
			target = t.X
		case *ast.ParenExpr:
			target = t.X
		case *ast.Ident:
			if t.Obj == nil || in.globals[pkg][t.Name] == t.Obj.Pos() {
				in.writes[pkg][t.Name] = t.Pos()
			}
			return
		default:
			return
		}
	}
}

func (in *inspector) mutations() {
	for pkg, writes := range in.writes {
		for name, pos := range writes {
			if _, ok := in.globals[pkg][name]; ok {
				in.fault(pos, "global %s is changed", name)
			}
		}
	}
}
