package ctl

import (
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/charmbracelet/x/ansi"
)

// Every topic fits the page, has a title, and no Markdown is left in its text.
func TestTopics(t *testing.T) {
	for _, topic := range topics() {
		got := invoke(t, &fakeClient{}, nil, "help", topic.name)
		if got.code != ExitOK || got.err != "" {
			t.Errorf("%s: exit %d, %s", topic.name, got.code, got.err)
		}
		if !strings.HasPrefix(got.out, topic.title+"\n") || len(topic.title) > 80 {
			t.Errorf("%s has no short title: %q", topic.name, topic.title)
		}
		code := false
		for l := range strings.Lines(got.out) {
			l = strings.TrimSuffix(l, "\n")
			code = strings.HasPrefix(l, "    ")
			if w := ansi.StringWidth(l); w > pageWidth+10 {
				t.Errorf("%s: a line of %d columns: %q", topic.name, w, l)
			}
			if !code && regexp.MustCompile("^#|^\\||```|\\*\\*|\\]\\(|<!--").MatchString(l) {
				t.Errorf("%s: Markdown in %q", topic.name, l)
			}
			if l != ansi.Strip(l) {
				t.Errorf("%s: colours without a terminal: %q", topic.name, l)
			}
		}
	}
}

// On a terminal a topic is coloured and goes through the pager; a text that fits, or a
// pager that does not start, is written directly.
func TestPager(t *testing.T) {
	terminal := func(height int, env ...string) func(*Stdio) {
		return func(s *Stdio) { s.Terminal, s.Height, s.Env = true, height, append(env, "PATH="+os.Getenv("PATH")) }
	}
	plain := invoke(t, &fakeClient{}, nil, "help", "exit-codes").out
	for _, tt := range []struct {
		name    string
		change  func(*Stdio)
		numbers bool // the pager numbers the lines
	}{
		{"pager", terminal(10, "PAGER=cat -n"), true},
		{"fits", terminal(100, "PAGER=cat -n"), false},
		{"unknown height", terminal(0, "PAGER=cat -n"), true},
		{"pipe", func(s *Stdio) { s.Env = []string{"PAGER=cat -n"} }, false},
	} {
		got := invoke(t, &fakeClient{}, tt.change, "help", "exit-codes")
		numbered := strings.HasPrefix(strings.TrimLeft(got.out, " "), "1\t")
		if got.code != ExitOK || numbered != tt.numbers {
			t.Errorf("%s: exit %d, numbered %t: %q", tt.name, got.code, numbered, got.out)
		}
	}
	got := invoke(t, &fakeClient{}, terminal(10, "PAGER=cat"), "help", "exit-codes").out
	bare := func(s string) string { // the words: lines with backticks, which colours replace, wrap elsewhere
		return strings.Join(strings.Fields(strings.ReplaceAll(ansi.Strip(s), "`", "")), " ")
	}
	if !strings.Contains(got, "\x1b[") || bare(got) != bare(plain) {
		t.Errorf("coloured:\n%q, plain:\n%q", got, plain)
	}
}

// The topic lists the exit codes of the program.
func TestExitCodesTopic(t *testing.T) {
	text, err := os.ReadFile("help/exit-codes.md")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("exit.go")
	if err != nil {
		t.Fatal(err)
	}
	listed := map[int]bool{}
	for _, m := range regexp.MustCompile(`(?m)^\| (\d+) \|`).FindAllStringSubmatch(string(text), -1) {
		n, _ := strconv.Atoi(m[1])
		listed[n] = true
	}
	codes := regexp.MustCompile(`(?m)^\tExit\w+ += (\d+)`).FindAllStringSubmatch(string(source), -1)
	for _, m := range codes {
		n, _ := strconv.Atoi(m[1])
		if !listed[n] {
			t.Errorf("help/exit-codes.md does not list %d", n)
		}
	}
	if len(codes) < 12 || len(listed) != len(codes) {
		t.Errorf("%d codes in exit.go, %d in the topic", len(codes), len(listed))
	}
}

// On a narrow terminal topics and the help of commands fit it, except code, and lines of a
// command's help that are printed as they are.
func TestNarrowTerminal(t *testing.T) {
	calls := [][]string{{"help"}, {"explain", "--help"}, {"keys", "--help"}, {"simulate", "--help"}}
	for _, topic := range topics() {
		calls = append(calls, []string{"help", topic.name})
	}
	for _, args := range calls {
		narrow := func(s *Stdio) { s.Terminal, s.Width, s.Height, s.Env = true, 80, 1000, []string{"NO_COLOR=1"} }
		got := invoke(t, &fakeClient{}, narrow, args...)
		if got.code != ExitOK || got.out == "" {
			t.Errorf("%q: exit %d, %s", args, got.code, got.err)
		}
		for l := range strings.Lines(got.out) {
			if w := ansi.StringWidth(strings.TrimSuffix(l, "\n")); w > 80 && l[0] != ' ' {
				t.Errorf("%q: a line of %d columns: %q", args, w, l)
			}
		}
	}
}
