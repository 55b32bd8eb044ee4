package rules

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
)

// plainWord is a word or phrase that user-visible text must not use, and what to write
// instead. The text follows etcd's, Consul's and Prometheus's: literal and searchable.
type plainWord struct{ pattern, instead string }

func plainWords() []plainWord {
	return []plainWord{
		{`rooms?`, "package; capacity"},
		{`doors?`, "adapter"},
		{`houses?`, "code base"},
		{`floor plan`, "architecture"},
		{`(former|earlier|next|new|each|its|of its) (life|lives)`, "process start, incarnation"},
		{`lives in`, "is in"},
		{`deeds?`, "action"},
		{`goodbyes?`, "leave notice"},
		{`duels?`, "ownership conflict"},
		{`thaw(s|ed|ing)?`, "resume, event loop stall"},
		{`captain`, "controller"},
		{`hunger|hungry`, "requested quota"},
		{`crew|fleet`, "members, hosts"},
		{`wish(es)?`, "decision, requested"},
		{`keepers?|tellers?|witness(es)?`, "the component's name"},
		{`liars?|lying|lied`, "malicious, invalid"},
		{`blinks?`, "flaps"},
		{`doubts?`, "health score"},
		{`(is|are|was|were|be|been) (said|told|heard)`, "name the sender and the message"},
		{`said so|says so|say so|say that|said that`, "report"},
		{`in so many words|in words`, "explicitly"},
		{`an? owner's word|no word|word of`, "plan, message"},
		{`makes? no sense|made no sense`, "invalid"},
		{`nobody|no one|somebody|whoever|whom`, "name the node, user or service"},
		{`(?-i:Who|What) [a-z]+ (?-i:is|are|was|has|have|does|may|can|fails|lost|leaves|comes)`, "name the thing"},
		{`who (blinks|lies|hears|waits|leaves|owns|knows|agrees|comes|goes)`, "name the node"},
		{`gone for good|for good`, "removed; permanently"},
		{`takes? back|taken back|took back|puts? back|put back`, "revert, restore"},
		{`cannot be written down|written down`, "persist"},
		{`looked around|look around`, "rejoin"},
		{`went on without|goes on without`, "excluded"},
		{`anew`, "again"},
		{`all the same`, "anyway; or leave it out"},
		{`out of sight|in sight`, "alive"},
		{`under way`, "in progress"},
		{`in force again`, "restored"},
		{`stands? (in|for|there|still)|standing`, "is in; state"},
		{`holds good|holds? true`, "applies"},
		{`patien(t|ce)`, "timeout"},
		{`mends?|mended`, "repair, fix"},
		{`promised`, "acknowledged"},
		{`strangers?`, "untrusted, unknown"},
		{`asks for more|asked for more`, "requires a higher limit"},
		{`left alone`, "not changed"},
		{`as good as root`, "equals root access"},
	}
}

// literalUse lists words that are right where they are: the text around them.
func literalUse() []string {
	return []string{
		"container with a GPU or a foreign runtime is left alone",
		"have room for", "has room for", "replicas-room",
	}
}

// documents are the texts that users read.
func documents() []string {
	return []string{
		"README.md", "ARCHITECTURE.md", "CHANGELOG.md", "config.example.toml",
		"systemd/effiscale.service", "systemd/effiscale.sysusers", "systemd/engine-actuator.conf",
	}
}

// TestWords: logs, errors, help, metrics' help and documents are in plain words.
func TestWords(t *testing.T) {
	faults, err := plainText(os.DirFS(root))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range faults {
		t.Error(f)
	}
}

// plainText lists the words of plainWords in string literals of the program and in its
// documents.
func plainText(tree fs.FS) ([]string, error) {
	var faults []string
	err := fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return enter(tree, name)
		}
		help := path.Dir(name) == "node/ctl/help"
		source := strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go") &&
			!strings.HasPrefix(name, "node/test/")
		if !help && !source && !slices.Contains(documents(), name) {
			return nil
		}
		b, err := fs.ReadFile(tree, name)
		if err != nil {
			return err
		}
		if !source {
			for i, line := range strings.Split(string(b), "\n") {
				faults = append(faults, wordFaults(name, i+1, line)...)
			}
			return nil
		}
		more, err := literalFaults(name, b)
		faults = append(faults, more...)
		return err
	})
	return faults, err
}

// literalFaults checks the string literals of a Go file.
func literalFaults(name string, source []byte) ([]string, error) {
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, name, source, 0)
	if err != nil {
		return nil, err
	}
	var faults []string
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.ImportSpec:
			return false
		case *ast.Field: // its tag is for programs
			return n.Tag == nil
		case *ast.BasicLit:
			if n.Kind == token.STRING {
				if text, err := strconv.Unquote(n.Value); err == nil {
					faults = append(faults, wordFaults(name, fset.Position(n.Pos()).Line, text)...)
				}
			}
		}
		return true
	})
	return faults, nil
}

var plainPatterns = func() []*regexp.Regexp {
	var all []*regexp.Regexp
	for _, w := range plainWords() {
		all = append(all, regexp.MustCompile(`(?i)\b(`+w.pattern+`)\b`))
	}
	return all
}()

func wordFaults(name string, line int, text string) []string {
	for _, use := range literalUse() {
		text = strings.ReplaceAll(text, use, "")
	}
	var faults []string
	for i, p := range plainPatterns {
		if m := p.FindString(text); m != "" {
			faults = append(faults, name+":"+strconv.Itoa(line)+": "+strconv.Quote(m)+" in "+
				strconv.Quote(strings.TrimSpace(text))+"; write: "+plainWords()[i].instead)
		}
	}
	return faults
}

// TestWordsCanFail shows that the check finds words in literals and documents, and
// nothing in comments, tests, tags and imports.
func TestWordsCanFail(t *testing.T) {
	source := "package a\n\nimport _ \"house/doors\"\n\n// a room\ntype t struct {\n\tS string `json:\"standing\"`\n}\n\n" +
		"const s = \"the event loop has thawed\"\n"
	faults, err := plainText(fstest.MapFS{
		"go.mod":               {Data: []byte("module " + module)},
		"mape/plan/a.go":       {Data: []byte(source)},
		"mape/plan/a_test.go":  {Data: []byte("package a\n\nconst s = \"a duel\"\n")},
		"README.md":            {Data: []byte("Plain.\nNobody is told.\n")},
		"node/ctl/help/api.md": {Data: []byte("A Room.\n")},
		"notes.md":             {Data: []byte("A house.\n")},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`mape/plan/a.go:10: "thawed"`, `README.md:2: "Nobody"`, `README.md:2: "is told"`, `node/ctl/help/api.md:1: "Room"`,
	} {
		if !slices.ContainsFunc(faults, func(f string) bool { return strings.HasPrefix(f, want) }) {
			t.Errorf("not found: %s", want)
		}
	}
	if len(faults) != 4 {
		t.Errorf("%d faults: %q", len(faults), faults)
	}
}
