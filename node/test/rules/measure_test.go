package rules

import (
	"cmp"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
)

// earlier holds the figures of an earlier commit, as measure found them there.
const earlier = "testdata/measured-932bd6d.json"

// figure is one line of the table of TestMeasured.
type figure struct {
	Name  string
	Value int
	What  string `json:",omitempty"` // the place of a largest one
}

// TestMeasured prints the sizes of the source beside those of an earlier commit:
//
//	go test -v -run TestMeasured ./node/test/rules
//
// With EFFISCALE_MEASURE=DIR it measures that tree, and with -update as well it writes its
// figures as the earlier ones.
func TestMeasured(t *testing.T) {
	tree := os.Getenv("EFFISCALE_MEASURE")
	now, err := measure(os.DirFS(cmp.Or(tree, root)))
	if err != nil {
		t.Fatal(err)
	}
	if *update && tree != "" {
		b, err := json.MarshalIndent(now, "", "\t")
		if err == nil {
			err = os.WriteFile(earlier, append(b, '\n'), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(earlier)
	if err != nil {
		t.Fatal(err)
	}
	var then []figure
	if err := json.Unmarshal(b, &then); err != nil {
		t.Fatal(err)
	}
	if len(then) != len(now) {
		t.Fatalf("%s has %d figures, want %d", earlier, len(then), len(now))
	}
	var out strings.Builder
	fmt.Fprintf(&out, "%-42s %8s %8s\n", "source without tests", "932bd6d", "now")
	for i, f := range now {
		fmt.Fprintf(&out, "%-42s %8d %8d  %s\n", f.Name, then[i].Value, f.Value, places(then[i].What, f.What))
	}
	t.Log("\n" + out.String())
}

func places(then, now string) string {
	if then == now {
		return now
	}
	return then + " -> " + now
}

// census gathers what measure counts.
type census struct {
	files, lines, longLines, longTests, noinline int
	rootFiles, rootLines                         int
	largestFile                                  figure
	functions                                    []int
	methods                                      map[string]int
	structs, interfaces                          []figure
}

func measure(tree fs.FS) ([]figure, error) {
	c := &census{methods: map[string]int{}}
	err := fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			return enter(tree, name)
		case !strings.HasSuffix(name, ".go"):
			return nil
		}
		return c.file(tree, name)
	})
	if err != nil || c.files == 0 {
		return nil, fmt.Errorf("no Go source: %w", err)
	}
	return c.figures(), nil
}

func (c *census) file(tree fs.FS, name string) error {
	source, err := fs.ReadFile(tree, name)
	if err != nil {
		return err
	}
	lines, long := 0, 0
	for line := range strings.Lines(string(source)) {
		lines++
		if len([]rune(strings.TrimRight(line, "\n"))) > maxLine {
			long++
		}
	}
	if strings.HasSuffix(name, "_test.go") {
		c.longTests += long
		return nil
	}
	c.files++
	c.lines += lines
	c.longLines += long
	if path.Dir(name) == "node" {
		c.rootFiles++
		c.rootLines += lines
	}
	c.largestFile = larger(c.largestFile, figure{"", lines, name})
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, name, source, parser.ParseComments)
	if err != nil {
		return err
	}
	c.noinline += len(noinline(f))
	c.declarations(fset, f, path.Dir(name))
	return nil
}

func (c *census) declarations(fset *token.FileSet, f *ast.File, dir string) {
	ast.Inspect(f, func(n ast.Node) bool {
		switch d := n.(type) {
		case *ast.FuncDecl:
			c.functions = append(c.functions, fset.Position(d.End()).Line-fset.Position(d.Pos()).Line+1)
			if d.Recv != nil {
				c.methods[path.Base(dir)+"."+receiverName(d)]++
			}
		case *ast.TypeSpec:
			name := path.Base(dir) + "." + d.Name.Name
			switch t := d.Type.(type) {
			case *ast.StructType:
				c.structs = append(c.structs, figure{"", t.Fields.NumFields(), name})
			case *ast.InterfaceType:
				c.interfaces = append(c.interfaces, figure{"", t.Methods.NumFields(), name})
			}
		}
		return true
	})
}

func larger(a, b figure) figure {
	if b.Value > a.Value || b.Value == a.Value && b.What < a.What {
		return b
	}
	return a
}

func (c *census) figures() []figure {
	slices.Sort(c.functions)
	at := func(share float64) int { return c.functions[int(share*float64(len(c.functions)-1))] }
	out := []figure{
		{"files", c.files, ""}, {"lines", c.lines, ""}, {"largest file, lines", c.largestFile.Value, c.largestFile.What},
		{"files of node's root", c.rootFiles, ""}, {"lines of node's root", c.rootLines, ""},
		{"lines of a function, median", at(0.5), ""}, {"lines of a function, 90 %", at(0.9), ""},
		{"lines of a function, most", at(1), ""},
		{fmt.Sprintf("lines over %d columns", maxLine), c.longLines, ""},
		{fmt.Sprintf("lines over %d columns in tests", maxLine), c.longTests, ""},
		{"go:noinline", c.noinline, ""},
	}
	var methods []figure
	for name, n := range c.methods {
		methods = append(methods, figure{"", n, name})
	}
	out = append(out, most("methods of a receiver", methods, 5)...)
	out = append(out, most("fields of a struct", c.structs, 5)...)
	return append(out, most("methods of an interface", c.interfaces, 3)...)
}

// most are the n largest, largest first.
func most(name string, all []figure, n int) []figure {
	slices.SortFunc(all, func(a, b figure) int { return cmp.Or(b.Value-a.Value, strings.Compare(a.What, b.What)) })
	out := make([]figure, 0, n)
	for i := range n {
		f := figure{Name: fmt.Sprintf("%s, number %d", name, i+1)}
		if i < len(all) {
			f.Value, f.What = all[i].Value, all[i].What
		}
		out = append(out, f)
	}
	return out
}
