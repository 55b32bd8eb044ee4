package ctl

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/charmbracelet/x/ansi"
)

// traces puts the files that the tests replay into a directory and goes there, so
// that the names in messages are the same everywhere.
func traces(t *testing.T) {
	t.Helper()
	t.Chdir(t.TempDir())
	files := map[string]string{
		"empty.csv": "", "blank.csv": "\n\n", "header.csv": "seconds,value\n", "one.csv": "seconds,value\n0,1\n",
		"noheader.csv": "0,1\n2,1\n", "words.csv": "seconds,value\n0,1\n2,many\n4,1\n", "three.csv": "seconds,value\n0,1,2\n",
		"nan.csv": "seconds,value\n0,1\n2,NaN\n4,1\n", "inf.csv": "seconds,value\n0,1\n2,+Inf\n4,1\n",
		"negative.csv": "seconds,value\n0,1\n2,-0.5\n4,1\n",
		"huge.csv":     "seconds,value\n0,1\n2,1e300\n4,1\n", "time.csv": "seconds,value\n0,1\n1e300,1\n",
		"unsorted.csv": "seconds,value\n0,1\n4,1\n2,1\n6,1\n", "twice.csv": "seconds,value\n0,1\n2,1\n2,3\n4,1\n",
		"gap.csv":    "seconds,value\n0,1\n2,2\n4,3\n10,6\n12,7\n",
		"uneven.csv": "seconds,value\n0,1\n2,1\n4,1\n7,1\n8,1\n10,1\n",
		"escape.csv": "seconds,value\n0,1\n2,\x1b[2J\n4,1\n",
		"policy.txt": "# a small host\ntarget = \"80%\"\nhost_cores = 4   # in all\n",
		"bad.txt":    "target = 80%\n\ncolour = blue\n",
	}
	for name, text := range files {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, shape := range []string{"spike", "leak", "step"} {
		got := invoke(t, &fakeClient{}, nil, "simulate", "--generate", shape, "--hours", "2", "--seed", "7")
		if got.code != ExitOK || os.WriteFile(shape+".csv", []byte(got.out), 0o644) != nil {
			t.Fatalf("generate %s: %+v", shape, got.err)
		}
	}
}

// Every form of output, and what is said of bad traces and bad flags. The peers
// alone are held: EffiScale's own figures change whenever it gets better.
func TestSimulateGolden(t *testing.T) {
	tests := []struct {
		name string
		code int
		line string // the arguments after simulate, separated by |
	}{
		{"help", ExitOK, "--help"},
		{"memory", ExitOK, "leak.csv|--unit|bytes"},
		{"horizontal", ExitOK, "spike.csv|--axis|horizontal"},
		{"frontier", ExitOK, "spike.csv|--axis|both|--frontier"},
		{"rps", ExitOK, "spike.csv|--unit|rps|--axis|horizontal|--against|hpa,kpa"},
		{"json", ExitOK, "spike.csv|step.csv|--axis|horizontal|--against|hpa,kpa|-o|json"},
		{"frontier-json", ExitOK, "leak.csv|--unit|bytes|--against|lastmax|--frontier|--output|json"},
		{"csv", ExitOK, "spike.csv|step.csv|--axis|horizontal|--against|hpa,lastmax|--output|csv|--frontier"},
		{"policy", ExitOK, "spike.csv|--axis|horizontal|--against|hpa|--policy|policy.txt|--set|min=2|--set|start_delay=30s"},
		{"fill", ExitOK, "gap.csv|--fill|--axis|horizontal|--against|hpa"},
		{"empty", ExitUsage, "empty.csv"}, {"blank", ExitUsage, "blank.csv"}, {"header", ExitUsage, "header.csv"},
		{"one", ExitUsage, "one.csv"},
		{"noheader", ExitUsage, "noheader.csv"}, {"words", ExitUsage, "words.csv"}, {"three", ExitUsage, "three.csv"},
		{"nan", ExitUsage, "nan.csv"}, {"inf", ExitUsage, "inf.csv"}, {"negative", ExitUsage, "negative.csv"},
		{"huge", ExitUsage, "huge.csv"},
		{"time", ExitUsage, "time.csv"}, {"unsorted", ExitUsage, "unsorted.csv"}, {"twice", ExitUsage, "twice.csv"},
		{"gap", ExitUsage, "gap.csv"},
		{"uneven", ExitUsage, "uneven.csv"}, {"escape", ExitUsage, "escape.csv"}, {"missing", ExitUsage, "missing.csv"},
		{"none", ExitUsage, ""}, {"unit", ExitUsage, "spike.csv|--unit|watts"},
		{"axis", ExitUsage, "spike.csv|--axis|diagonal"},
		{"target", ExitUsage, "spike.csv|--target|700%"}, {"against", ExitUsage, "spike.csv|--against|hpa,borg"},
		{"against-memory", ExitUsage, "leak.csv|--unit|bytes|--against|hpa"},
		{"set-key", ExitUsage, "spike.csv|--set|colour=blue"},
		{"set-form", ExitUsage, "spike.csv|--set|target"}, {"set-value", ExitUsage, "spike.csv|--set|host_cores=NaN"},
		{"bounds", ExitUsage, "spike.csv|--min|5|--max|2"}, {"cores", ExitUsage, "spike.csv|--replica-cores|NaN"},
		{"delay", ExitUsage, "spike.csv|--start-delay|-3s"},
		{"output", ExitUsage, "spike.csv|-o|xml"}, {"plot-kind", ExitUsage, "spike.csv|--plot|a.gif"},
		{"two-plots", ExitUsage, "spike.csv|step.csv|--plot|a.svg"},
		{"policy-bad", ExitConfig, "spike.csv|--policy|bad.txt"}, {"policy-missing", ExitUsage,
			"spike.csv|--policy|none.txt"},
		{"generate", ExitOK, "--generate|diurnal|--hours|0.1"}, {"generate-shape", ExitUsage, "--generate|square"},
		{"generate-hours", ExitUsage, "--generate|step|--hours|NaN"},
		{"generate-args", ExitUsage, "--generate|step|spike.csv"}, {"generate-plot", ExitUsage,
			"--generate|step|--plot|a.svg"},
		{"stdin-empty", ExitUsage, "-"}, {"stdin-twice", ExitUsage, "-|spike.csv|-"},
	}
	dir, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	traces(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			args := []string{"simulate"}
			if tt.line != "" {
				args = append(args, strings.Split(tt.line, "|")...)
			}
			got := invoke(t, &fakeClient{}, nil, args...)
			if got.code != tt.code {
				t.Errorf("exit code %d, want %d; stderr: %s", got.code, tt.code, got.err)
			}
			text := fmt.Sprintf("$ effiscale %s\n%s[stderr]\n%s[exit %d]\n", strings.Join(args, " "), withoutOurs(got.out),
				got.err, got.code)
			golden(t, filepath.Join(dir, "simulate-"+tt.name+".golden"), text)
			for l := range strings.Lines(got.out) {
				l = strings.TrimSuffix(l, "\n")
				if w := ansi.StringWidth(l); w > pageWidth+10 && tt.name != "csv" {
					t.Errorf("a line of %d columns: %q", w, l)
				}
			}
			if clean(strings.ReplaceAll(got.err, "\n", "")) != strings.ReplaceAll(got.err, "\n", "") {
				t.Errorf("control characters reach the terminal: %q", got.err)
			}
			if strings.HasSuffix(tt.name, "json") {
				checkJSON(t, got.out)
			}
		})
	}
}

// withoutOurs leaves EffiScale's own figures out, and the width of columns, which
// depends on them.
func withoutOurs(out string) string {
	out = regexp.MustCompile(`(?s)        \{\n          "policy": "effiscale".*?\n        \},?\n`).ReplaceAllString(out,
		"")
	var b strings.Builder
	for l := range strings.Lines(out) {
		if strings.HasPrefix(l, "effiscale ") || strings.Contains(l, ",effiscale,") {
			continue
		}
		if i := len(l) - len(strings.TrimLeft(l, " ")); i == 0 {
			l = regexp.MustCompile(` {2,}`).ReplaceAllString(l, "  ")
		}
		b.WriteString(l)
	}
	return b.String()
}

// The steps add up to the scores, and hold one row per step and policy.
func TestSimulateSteps(t *testing.T) {
	traces(t)
	got := invoke(t, &fakeClient{}, nil, "simulate", "spike.csv", "--against", "lastmax,hpa", "--steps", "steps.csv", "-o",
		"json")
	var v simulateView
	if err := json.Unmarshal([]byte(got.out), &v); err != nil || got.code != ExitOK {
		t.Fatal(err, got.err)
	}
	b, err := os.ReadFile("steps.csv")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	if lines[0] != "seconds,policy,demand,allocated,replicas,served" || len(lines) != 1+3*3600 {
		t.Fatalf("%d lines, the first is %q", len(lines), lines[0])
	}
	demand, over, unserved := map[string]float64{}, map[string]float64{}, map[string]float64{}
	for _, l := range lines[1:] {
		var seconds, d, a, n, s float64
		f := strings.Split(l, ",")
		if _, err := fmt.Sscan(f[0]+" "+strings.Join(f[2:], " "), &seconds, &d, &a, &n, &s); err != nil {
			t.Fatalf("%q: %v", l, err)
		}
		if seconds == 0 {
			continue // not scored
		}
		demand[f[1]] += d
		over[f[1]] += max(a-d, 0)
		unserved[f[1]] += d - s
	}
	for _, p := range v.Traces[0].Policies {
		slack, short := over[p.Policy]/demand[p.Policy], unserved[p.Policy]/demand[p.Policy]
		if diff := slack - p.Slack; diff > 1e-6 || diff < -1e-6 {
			t.Errorf("%s: the steps have slack %g, the score says %g", p.Policy, slack, p.Slack)
		}
		if diff := short - p.Unserved; diff > 1e-6 || diff < -1e-6 {
			t.Errorf("%s: the steps leave %g unserved, the score says %g", p.Policy, short, p.Unserved)
		}
	}
}

// A picture is well-formed, also of a trace with a hostile name, can be read aloud, and
// has colours for light and dark.
func TestSimulatePlot(t *testing.T) {
	traces(t)
	name := "<script>&\"\x1b.csv"
	b, _ := os.ReadFile("spike.csv")
	if err := os.WriteFile(name, b, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{name, "--frontier", "--plot", "a.svg"}, {"spike.csv", "--axis", "horizontal", "--plot", "d.SVG"},
		{"leak.csv", "--unit", "bytes", "--plot", "b.svg", "--frontier"}, {"gap.csv", "--fill", "--plot", "c.svg"},
	} {
		if got := invoke(t, &fakeClient{}, nil, append([]string{"simulate"}, args...)...); got.code != ExitOK {
			t.Fatalf("%v: %s", args, got.err)
		}
	}
	for _, file := range []string{"a.svg", "b.svg", "c.svg", "d.SVG"} {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		elements := map[string]int{}
		d := xml.NewDecoder(bytes.NewReader(b))
		for {
			var token xml.Token
			if token, err = d.Token(); err != nil {
				break
			}
			if e, ok := token.(xml.StartElement); ok {
				elements[e.Name.Local]++
			}
		}
		if err != io.EOF || elements["script"] > 0 {
			t.Errorf("%s is not an honest SVG: %v", file, err)
		}
		if elements["desc"] != 1 || elements["title"] < 3 || elements["path"] < 4 {
			t.Errorf("%s: unexpected elements: %v", file, elements)
		}
		if !bytes.Contains(b, []byte(`role="img" aria-labelledby="title desc"`)) ||
			!bytes.Contains(b, []byte("prefers-color-scheme:dark")) {
			t.Errorf("%s has no label, or no dark colours", file)
		}
	}
}

// A file that cannot be written is an error with its name.
func TestSimulateCannotWrite(t *testing.T) {
	traces(t)
	for _, flag := range []string{"--steps", "--plot"} {
		file := filepath.Join("nowhere", "a.svg")
		if got := invoke(t, &fakeClient{}, nil, "simulate", "spike.csv", "--against", "hpa", flag,
			file); got.code != ExitUsage || !strings.Contains(got.err, file) {
			t.Errorf("%s: %+v", flag, got)
		}
	}
}

// What is written never replaces what was read.
func TestSimulateOverwritesNothingOfItsOwn(t *testing.T) {
	traces(t)
	if err := os.Link("spike.csv", "same.csv"); err != nil {
		t.Fatal(err)
	}
	before, _ := os.ReadFile("spike.csv")
	for _, args := range [][]string{
		{"--steps", "spike.csv"}, {"--steps", "./spike.csv"}, {"--steps", "same.csv"},
		{"--steps", "x.svg", "--plot", "x.svg"},
	} {
		if got := invoke(t, &fakeClient{}, nil, append([]string{"simulate", "spike.csv"},
			args...)...); got.code != ExitUsage {
			t.Errorf("%v ends with %d", args, got.code)
		}
	}
	if after, _ := os.ReadFile("spike.csv"); !bytes.Equal(before, after) {
		t.Error("the trace was overwritten")
	}
}

// TestSimulateStandardInput: what comes in is replayed as the file is.
func TestSimulateStandardInput(t *testing.T) {
	traces(t)
	b, err := os.ReadFile("step.csv")
	if err != nil {
		t.Fatal(err)
	}
	file := invoke(t, &fakeClient{}, nil, "simulate", "step.csv", "-o", "csv")
	piped := invoke(t, &fakeClient{}, func(s *Stdio) { s.In = bytes.NewReader(b) }, "simulate", "-", "-o", "csv")
	if piped.code != ExitOK || piped.err != "" || strings.ReplaceAll(piped.out, "standard input", "step") != file.out {
		t.Errorf("%d: %s%s, and of the file\n%s", piped.code, piped.err, piped.out, file.out)
	}
}
