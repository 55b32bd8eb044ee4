package rules

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const (
	maxReadme       = 350 // lines
	maxArchitecture = 260
	maxSentence     = 25 // words, in README.md
	maxCell         = 100
)

// TestReadme: README.md is short, its sentences and table cells too, and it names every
// help topic.
func TestReadme(t *testing.T) {
	b, err := os.ReadFile(root + "/README.md")
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	if n := strings.Count(text, "\n"); n > maxReadme {
		t.Errorf("README.md has %d lines, over %d", n, maxReadme)
	}
	for _, s := range sentences(text) {
		if n := len(strings.Fields(s)); n > maxSentence {
			t.Errorf("a sentence of %d words, over %d: %q", n, maxSentence, s)
		}
	}
	for line := range strings.Lines(text) {
		for cell := range strings.SplitSeq(line, "|") {
			if strings.HasPrefix(line, "|") && len(cell) > maxCell {
				t.Errorf("a table cell of %d characters, over %d: %q", len(cell), maxCell, cell)
			}
		}
	}
	topics, err := filepath.Glob(root + "/node/ctl/help/*.md")
	if err != nil || len(topics) < 10 {
		t.Fatalf("%d topics: %v", len(topics), err)
	}
	for _, file := range topics {
		if name := filepath.Base(file); !strings.Contains(text, "(node/ctl/help/"+name+")") {
			t.Errorf("README.md does not link the help topic %s", name)
		}
	}
	for _, m := range regexp.MustCompile(`\]\(([^)#][^):]*)\)`).FindAllStringSubmatch(text, -1) {
		if _, err := os.Stat(filepath.Join(root, m[1])); err != nil {
			t.Errorf("README.md links %s: %v", m[1], err)
		}
	}
}

// sentences are the sentences of a Markdown text, without code, tables and headings.
func sentences(text string) []string {
	var all []string
	var paragraph []string
	end := func() {
		s := regexp.MustCompile("`[^`]*`").ReplaceAllString(strings.Join(paragraph, " "), "code")
		all = append(all, regexp.MustCompile(`[.:;!?](\*\*)?( |$)`).Split(s, -1)...)
		paragraph = nil
	}
	code := false
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "```") {
			code = !code
			end()
			continue
		}
		switch {
		case code, strings.HasPrefix(line, "|"), strings.HasPrefix(line, "<!--"):
		case line == "", strings.HasPrefix(line, "#"):
			end()
		default:
			if strings.HasPrefix(line, "- ") {
				end()
			}
			paragraph = append(paragraph, strings.TrimPrefix(line, "- "))
		}
	}
	end()
	return all
}

func TestSentences(t *testing.T) {
	got := sentences(
		"# A title. Of two.\nOne `a. b` two\nthree. Four!\n\n- five: six\n- seven\n\n```\ncode. code\n```\n| a. |\n",
	)
	want := "One code two three|Four||five|six|seven||"
	if s := strings.Join(got, "|"); strings.Trim(regexp.MustCompile(`\|+`).ReplaceAllString(s, "|"), "|") !=
		strings.Trim(regexp.MustCompile(`\|+`).ReplaceAllString(want, "|"), "|") {
		t.Errorf("got %q", s)
	}
}

// TestArchitecture: ARCHITECTURE.md is short, and the files and directories that it names
// exist.
func TestArchitecture(t *testing.T) {
	b, err := os.ReadFile(root + "/ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(b), "\n"); n > maxArchitecture {
		t.Errorf("ARCHITECTURE.md has %d lines, over %d", n, maxArchitecture)
	}
	names := map[string]bool{}
	err = fs.WalkDir(os.DirFS(root), ".", func(name string, d fs.DirEntry, err error) error {
		names[name], names[path.Base(name)] = true, true
		if err == nil && d.IsDir() && strings.HasPrefix(d.Name(), ".") && name != "." {
			return fs.SkipDir
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile("`([a-z_]+(?:/[a-z_]+)*(?:/[a-z_*]+\\.go|\\.go|/[a-z_]+))`").FindAllStringSubmatch(string(b), -1) {
		name := m[1]
		if found, _ := filepath.Glob(filepath.Join(root, name)); !names[name] && len(found) == 0 {
			t.Errorf("ARCHITECTURE.md names %s, which does not exist", name)
		}
	}
}
