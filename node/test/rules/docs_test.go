package rules

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/effiscale/effiscale/node/config"
)

var update = flag.Bool("update", false, "write the generated parts of the documents")

// TestConfigTopic: the tables of keys and labels are generated from the program.
func TestConfigTopic(t *testing.T) {
	between(t, root+"/node/ctl/help/config.md", "config-table", config.Table())
}

func TestLabelsTopic(t *testing.T) {
	between(t, root+"/node/ctl/help/labels.md", "label-table", config.LabelTable())
}

// TestFaults: each fault of FAULTS.md that concerns one host has a test that
// names its row, as "row 30", "rows 25 to 27" or in a name such as TestRow30.
// The table in FAULTS.md tells which; this test's output does, too.
func TestFaults(t *testing.T) {
	covered, err := rowTests(os.DirFS(root))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString("| row | fault | safe answer | tests |\n|---|---|---|---|\n")
	for _, f := range faults() {
		names := slices.Sorted(maps.Keys(covered[f.row]))
		if len(names) == 0 {
			t.Errorf("row %d (%s) has no test that names it", f.row, f.what)
		}
		fmt.Fprintf(&b, "| %d | %s | %s | %s |\n", f.row, f.what, f.answer, strings.Join(names, ", "))
	}
	t.Log("\n" + b.String())
	between(t, "FAULTS.md", "fault-table", b.String())
}

// between holds (or with -update puts) text between the marks of a document.
func between(t *testing.T, file, mark, text string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	open, end := "<!-- "+mark+" -->\n", "<!-- /"+mark+" -->"
	head, rest, ok := strings.Cut(string(b), open)
	body, foot, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatalf("%s has no part between %q and %q", file, open, end)
	}
	if body == text {
		return
	}
	if !*update {
		t.Fatalf("%s: the %s is out of date: go test -run '^%s$' ./node/test/rules -update", file, mark, t.Name())
	}
	if err := os.WriteFile(file, []byte(head+open+text+end+foot), 0o644); err != nil {
		t.Fatal(err)
	}
}

var rowWords = regexp.MustCompile(`(?i)\brows?[ _:]*(\d+(?:(?: ?, ?| and | to | ?- ?| ?– ?)\d+)*)|Row(\d+)`)

// rowTests maps each row to the tests that name it: "docker.TestSlow".
func rowTests(tree fs.FS) (map[int]map[string]bool, error) {
	covered := map[int]map[string]bool{}
	err := fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			if err == nil {
				return enter(tree, name)
			}
			return err
		}
		if !strings.HasSuffix(name, "_test.go") || path.Dir(name) == "node/test/rules" {
			return nil
		}
		source, err := fs.ReadFile(tree, name)
		if err != nil {
			return err
		}
		return rowsOf(name, source, covered)
	})
	return covered, err
}

// rowsOf adds the rows that one file names. A mention belongs to the function
// around it, or else to the next one.
func rowsOf(name string, source []byte, covered map[int]map[string]bool) error {
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, name, source, 0)
	if err != nil {
		return err
	}
	for _, m := range rowWords.FindAllSubmatchIndex(source, -1) {
		fn := functionAt(fset, f, m[0])
		if fn == "" {
			continue
		}
		for _, row := range numbers(string(source[m[0]:m[1]])) {
			if covered[row] == nil {
				covered[row] = map[string]bool{}
			}
			covered[row][path.Dir(name)+"."+fn] = true
		}
	}
	return nil
}

func functionAt(fset *token.FileSet, f *ast.File, offset int) string {
	for _, d := range f.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok && offset < fset.Position(fn.End()).Offset {
			return fn.Name.Name
		}
	}
	return ""
}

// numbers reads "rows 25 to 27, 30" as 25, 26, 27, 30.
func numbers(s string) []int {
	var all []int
	last, span := 0, false
	for _, word := range regexp.MustCompile(`\d+|to|-|–`).FindAllString(s, -1) {
		n, err := strconv.Atoi(word)
		if err != nil {
			span = true
			continue
		}
		if !span {
			last = n - 1
		}
		for last++; last <= n; last++ {
			all = append(all, last)
		}
		last, span = n, false
	}
	return all
}

func TestNumbers(t *testing.T) {
	for in, want := range map[string][]int{"row 30": {30}, "rows 25 to 27, 30": {25, 26, 27, 30}, "rows 3 and 13": {3, 13}, "Row7": {7}, "rows 43–45": {43, 44, 45}} {
		if got := numbers(in); !slices.Equal(got, want) {
			t.Errorf("numbers(%q) = %v, want %v", in, got, want)
		}
	}
}
