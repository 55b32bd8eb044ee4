package ctl

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/charmbracelet/x/ansi"
	"github.com/google/go-cmp/cmp"

	"github.com/effiscale/effiscale/node/api"
)

var update = flag.Bool("update", false, "write the golden files anew")

type outcome struct {
	code     int
	out, err string
}

// invoke runs one command line against a fake daemon.
func invoke(t *testing.T, f *fakeClient, change func(*Stdio), args ...string) outcome {
	t.Helper()
	var out, errs bytes.Buffer
	stdio := Stdio{In: strings.NewReader(""), Out: &out, Err: &errs, Env: []string{"USER=ada"}}
	if change != nil {
		change(&stdio)
	}
	code := Main(t.Context(), args, stdio, testDeps(f))
	return outcome{code, out.String(), errs.String()}
}

var (
	errNotRunning = fmt.Errorf("%w: nothing listens on /nowhere/effiscale.sock; "+
		"start it with `sudo systemctl start effiscale`, or name another --socket", api.ErrNotRunning)
	errDenied = fmt.Errorf("cannot open /nowhere/effiscale.sock: %w; add yourself to the group effiscale",
		syscall.EACCES)
)

// goldenCase is one command line, and the daemon behind it.
type goldenCase struct {
	name string
	fake fakeClient
	code int
	line string // the arguments, separated by |
}

// Every command's text and JSON, and what it says of bad input: unknown and
// ambiguous names, ids with slashes, NaN, negative and enormous numbers
// (rows 36 and 55, the command line's side).
func TestGolden(t *testing.T) {
	tests := append(clusterGoldens(), []goldenCase{
		{"status", fakeClient{}, ExitOK, "status"},
		{"status-json", fakeClient{}, ExitOK, "status|-o|json"},
		{"status-degraded", fakeClient{degraded: true}, ExitDegraded, "status"},
		{"status-empty", fakeClient{quiet: true}, ExitOK, "status"},
		{"status-not-running", fakeClient{err: errNotRunning}, ExitUnreachable, "status"},
		{"status-denied", fakeClient{err: errDenied}, ExitPermission, "status"},
		{"status-timeout", fakeClient{err: context.DeadlineExceeded}, ExitUnreachable, "status"},
		{"status-watch-pipe", fakeClient{}, ExitUsage, "status|--watch"},
		{"bare", fakeClient{quiet: true}, ExitOK, ""},
		{"bare-not-running", fakeClient{err: errNotRunning}, ExitOK, ""},
		{"explain", fakeClient{}, ExitOK, "explain|shop-web-1"},
		{"explain-json", fakeClient{}, ExitOK, "explain|shop-web-1|--output|json"},
		{"explain-unknown", fakeClient{}, ExitNotFound, "explain|shop"},
		{"explain-ambiguous", fakeClient{}, ExitUsage, "explain|" + testID[1:13]},
		{"explain-slash", fakeClient{}, ExitUsage, "explain|/shop-web-1"},
		{"explain-path", fakeClient{}, ExitUsage, "explain|../../etc/passwd"},
		{"explain-escape", fakeClient{}, ExitUsage, "explain|web\x1b[2J"},
		{"explain-long", fakeClient{}, ExitUsage, "explain|" + strings.Repeat("a", 10_000)},
		{"explain-empty", fakeClient{}, ExitUsage, "explain| "},
		{"explain-none", fakeClient{}, ExitUsage, "explain"},
		{"history", fakeClient{}, ExitOK, "history|shop-web-1"},
		{"history-json", fakeClient{}, ExitOK, "history|shop-web-1|-n|1|-o|json"},
		{"history-all", fakeClient{}, ExitOK, "history"},
		{"history-nothing", fakeClient{quiet: true}, ExitOK, "history|shop-web-1"},
		{"history-limit", fakeClient{}, ExitUsage, "history|shop-web-1|-n|-1"},
		{"history-limit-huge", fakeClient{}, ExitUsage, "history|shop-web-1|-n|99999999999999999999"},
		{"plan", fakeClient{}, ExitWouldChange, "plan"},
		{"plan-json", fakeClient{}, ExitWouldChange, "plan|-o|json"},
		{"plan-nothing", fakeClient{quiet: true}, ExitOK, "plan"},
		{"export", fakeClient{}, ExitOK, "export|shop-web-1|--since|7d"},
		{"export-quiet", fakeClient{quiet: true}, ExitOK, "export|shop-web-1|--resource|memory|--since|90m"},
		{"export-peak", fakeClient{quiet: true}, ExitOK, "export|shop-web-1|--peak"},
		{"export-json", fakeClient{}, ExitOK, "export|shop-web-1|-o|json"},
		{"export-unknown", fakeClient{}, ExitNotFound, "export|shop"},
		{"export-young", fakeClient{err: api.Errorf(api.KindRefused,
			"only 3 steps of 1m of shop_web are recorded in the last 168h, a trace needs 12: try later, or a longer --since")},
			ExitRefused, "export|shop-web-1"},
		{"export-since", fakeClient{}, ExitUsage, "export|shop-web-1|--since|1y"},
		{"export-since-nan", fakeClient{}, ExitUsage, "export|shop-web-1|--since|NaNd"},
		{"export-since-huge", fakeClient{}, ExitUsage, "export|shop-web-1|--since|1e300d"},
		{"export-resource", fakeClient{}, ExitUsage, "export|shop-web-1|--resource|net"},
		{"tune", fakeClient{}, ExitOK, "tune|shop-web-1|--since|14d"},
		{"tune-json", fakeClient{}, ExitOK, "tune|shop-web-1|--since|14d|--unserved|5%|-o|json"},
		{"tune-unserved", fakeClient{}, ExitUsage, "tune|shop-web-1|--unserved|NaN"},
		{"tune-unknown", fakeClient{}, ExitNotFound, "tune|shop"},
		{"scale", fakeClient{}, ExitOK, "scale|shop-web-1|--cpu|1.5|--memory|64m"},
		{"scale-json", fakeClient{}, ExitOK, "scale|shop-web-1|--cpu|1.5|-o|json"},
		{"scale-dry", fakeClient{}, ExitOK, "scale|shop-web-1|--cpu|1.5|--dry-run"},
		{"scale-same", fakeClient{quiet: true}, ExitOK, "scale|shop-web-1|--cpu|0.8"},
		{"scale-refused", fakeClient{err: api.Errorf(api.KindRefused, "shop-web-1 did not opt in (effiscale.enable=true)")},
			ExitRefused, "scale|shop-web-1|--cpu|1"},
		{"scale-engine-gone", fakeClient{err: api.Errorf(api.KindUnavailable, "the Docker Engine has not answered for 12s")},
			ExitUnreachable, "scale|shop-web-1|--cpu|1"},
		{"scale-nothing", fakeClient{}, ExitUsage, "scale|shop-web-1"},
		{"scale-nan", fakeClient{}, ExitUsage, "scale|shop-web-1|--cpu|NaN"},
		{"scale-inf", fakeClient{}, ExitUsage, "scale|shop-web-1|--cpu|+Inf"},
		{"scale-negative", fakeClient{}, ExitUsage, "scale|shop-web-1|--cpu|-1"},
		{"scale-huge", fakeClient{}, ExitUsage, "scale|shop-web-1|--cpu|1e308"},
		{"scale-memory-negative", fakeClient{}, ExitUsage, "scale|shop-web-1|--memory|-512m"},
		{"scale-memory-huge", fakeClient{}, ExitUsage, "scale|shop-web-1|--memory|9223372036854775807"},
		{"scale-memory-word", fakeClient{}, ExitUsage, "scale|shop-web-1|--memory|lots"},
		{"scale-memory-wide", fakeClient{}, ExitUsage, "scale|shop-web-1|--memory|１g"},
		{"pause", fakeClient{}, ExitOK, "pause|shop_web|--for|2h"},
		{"pause-down", fakeClient{}, ExitOK, "pause|shop_web|--only|down"},
		{"pause-json", fakeClient{}, ExitOK, "pause|shop_web|--for|2h|--only|down|-o|json"},
		{"pause-up", fakeClient{}, ExitUsage, "pause|shop_web|--only|up"},
		{"pause-negative", fakeClient{}, ExitUsage, "pause|shop_web|--for|-2h"},
		{"pause-word", fakeClient{}, ExitUsage, "pause|shop_web|--for|ever"},
		{"resume", fakeClient{}, ExitOK, "resume|shop_web"},
		{"resume-held", fakeClient{quiet: true}, ExitOK, "resume|shop_web"},
		{"resume-json", fakeClient{}, ExitOK, "resume|shop_web|-o|json"},
		{"restore", fakeClient{}, ExitOK, "restore|shop-web-1"},
		{"restore-json", fakeClient{}, ExitOK, "restore|shop-web-1|-o|json"},
		{"restore-all", fakeClient{}, ExitRefused, "restore|--all"},
		{"restore-nothing", fakeClient{quiet: true}, ExitOK, "restore|--all"},
		{"restore-none", fakeClient{}, ExitUsage, "restore"},
		{"restore-both", fakeClient{}, ExitUsage, "restore|shop-web-1|--all"},
		{"reload", fakeClient{}, ExitOK, "reload"},
		{"reload-json", fakeClient{}, ExitOK, "reload|-o|json"},
		{"reload-refused", fakeClient{err: api.Errorf(api.KindRefused, "config.toml:3:1: unknown key")}, ExitRefused,
			"reload"},
		{"validate", fakeClient{}, ExitOK, "validate|good.toml"},
		{"validate-json", fakeClient{}, ExitOK, "validate|good.toml|-o|json"},
		{"validate-warned", fakeClient{}, ExitOK, "validate|warned.toml"},
		{"validate-bad", fakeClient{}, ExitConfig, "validate|bad.toml"},
		{"doctor", fakeClient{}, ExitOK, "doctor"},
		{"doctor-json", fakeClient{}, ExitOK, "doctor|-o|json"},
		{"doctor-fails", fakeClient{}, ExitError, "doctor|--config|x.toml"},
		{"run", fakeClient{}, ExitOK, "run"},
		{"run-locked", fakeClient{}, ExitLocked, "run|--config|locked.toml"},
		{"demo", fakeClient{}, ExitOK, "demo|--shape|leak"},
		{"demo-shape", fakeClient{}, ExitUsage, "demo|--shape|square"},
		{"demo-short", fakeClient{}, ExitUsage, "demo|--duration|1s"},
		{"demo-json", fakeClient{}, ExitUsage, "demo|-o|json"},
		{"version", fakeClient{}, ExitOK, "version"},
		{"version-json", fakeClient{}, ExitOK, "version|-o|json"},
		{"help", fakeClient{}, ExitOK, "--help"},
		{"help-scale", fakeClient{}, ExitOK, "help|scale"},
		{"help-exit-codes", fakeClient{}, ExitOK, "help|exit-codes"},
		{"help-of-help", fakeClient{}, ExitOK, "help|help"},
		{"help-keys-add", fakeClient{}, ExitOK, "help|keys|add"},
		{"help-unknown", fakeClient{}, ExitUsage, "help|exit-code"},
		{"help-nothing-near", fakeClient{}, ExitUsage, "help|ingress"},
		{"help-two", fakeClient{}, ExitUsage, "help|exit-codes|cluster"},
		{"complete-help", fakeClient{}, ExitOK, "__complete|help|"},
		{"topic-as-command", fakeClient{}, ExitUsage, "cluster"},
		{"unknown-command", fakeClient{}, ExitUsage, "statu"},
		{"unknown-flag", fakeClient{}, ExitUsage, "status|--colour"},
		{"unknown-output", fakeClient{}, ExitUsage, "status|-o|yaml"},
		{"complete", fakeClient{}, ExitOK, "__complete|explain|"},
		{"complete-services", fakeClient{}, ExitOK, "__complete|history|shop"},
		{"complete-no-names", fakeClient{}, ExitOK, "__complete|members|"},
		{"complete-file", fakeClient{}, ExitOK, "__complete|validate|"},
		{"complete-config", fakeClient{}, ExitOK, "__complete|run|--config|"},
		{"complete-socket", fakeClient{}, ExitOK, "__complete|status|--socket|"},
		{"complete-not-running", fakeClient{err: errNotRunning}, ExitOK, "__complete|explain|"},
	}...)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var args []string
			if tt.line != "" {
				args = strings.Split(tt.line, "|")
			}
			got := invoke(t, &tt.fake, nil, args...)
			if got.code != tt.code {
				t.Errorf("exit code %d, want %d; stderr: %s", got.code, tt.code, got.err)
			}
			text := fmt.Sprintf("$ effiscale %s\n%s[stderr]\n%s[exit %d]\n",
				ansi.Truncate(clean(strings.ReplaceAll(tt.line, "|", " ")), 80, "…"), got.out, got.err, got.code)
			golden(t, filepath.Join("testdata", tt.name+".golden"), text)
			for _, l := range strings.Split(got.out, "\n") {
				if l != clean(l) && !strings.Contains(l, "\t") {
					t.Errorf("control characters reach the terminal: %q", l)
				}
			}
			if strings.HasSuffix(tt.name, "-json") && tt.code != ExitUsage {
				checkJSON(t, got.out)
			}
		})
	}
}

func golden(t *testing.T, file, text string) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v (go test -update writes it)", err)
	}
	if diff := cmp.Diff(string(want), text); diff != "" {
		t.Errorf("%s differs (-want +got); go test -update accepts it:\n%s", file, diff)
	}
}

// checkJSON: one document with a schema version, whatever the command.
func checkJSON(t *testing.T, out string) {
	t.Helper()
	var doc struct {
		Schema *int `json:"schema"`
	}
	if err := json.Unmarshal([]byte(out), &doc); err != nil || doc.Schema == nil || *doc.Schema != api.Schema {
		t.Errorf("not a document of schema %d (%v): %s", api.Schema, err, out)
	}
}

// The JSON is the api view: it decodes to the very same value.
func TestJSONIsTheView(t *testing.T) {
	f := &fakeClient{}
	want, _ := f.Status(t.Context())
	for i := range want.Containers { // invalid UTF-8 cannot be said in JSON
		for j, p := range want.Containers[i].Problems {
			want.Containers[i].Problems[j] = strings.ToValidUTF8(p, "\uFFFD")
		}
	}
	var got api.Status
	if err := json.Unmarshal([]byte(invoke(t, f, nil, "status", "-o", "json").out), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestColourOnlyOnATerminal(t *testing.T) {
	terminal := func(env ...string) func(*Stdio) {
		return func(s *Stdio) { s.Terminal, s.Env = true, env }
	}
	tests := []struct {
		name   string
		change func(*Stdio)
		args   []string
		want   bool
	}{
		{"terminal", terminal("TERM=xterm"), nil, true},
		{"pipe", nil, nil, false},
		{"NO_COLOR", terminal("NO_COLOR=1"), nil, false},
		{"dumb", terminal("TERM=dumb"), nil, false},
		{"flag", terminal(), []string{"--no-color"}, false},
		{"json", terminal(), []string{"-o", "json"}, false},
	}
	plain := invoke(t, &fakeClient{}, terminal("NO_COLOR=1"), "status").out
	for _, tt := range tests {
		got := invoke(t, &fakeClient{}, tt.change, append([]string{"status"}, tt.args...)...)
		if has := strings.Contains(got.out, "\x1b["); has != tt.want {
			t.Errorf("%s: coloured %t, want %t", tt.name, has, tt.want)
		}
		if tt.want && ansi.Strip(got.out) != plain {
			t.Errorf("%s: colours change the alignment", tt.name)
		}
	}
}

// What the daemon is asked for is what was typed.
func TestRequests(t *testing.T) {
	f := &fakeClient{}
	invoke(t, f, nil, "scale", "shop-web-1", "--cpu", "1.5", "--memory", "1.5GiB", "--dry-run")
	invoke(t, f, func(s *Stdio) { s.Env = []string{"USER=root", "SUDO_USER=grace"} }, "scale", "batch", "--memory", "512m")
	want := []api.ScaleRequest{{Container: "shop-web-1", CPU: 1.5, Memory: 3 << 29, DryRun: true},
		{Container: "batch", Memory: 512 << 20}}
	if diff := cmp.Diff(want, f.scaled); diff != "" {
		t.Errorf("scale: -want +got:\n%s", diff)
	}
	invoke(t, f, nil, "pause", "web", "--for", "90m", "--only", "down")
	invoke(t, f, nil, "resume", "web")
	pauses := []api.PauseRequest{{Service: "web", For: 90 * 60e9, OnlyDown: true}, {Service: "web", Resume: true}}
	if diff := cmp.Diff(pauses, f.paused); diff != "" {
		t.Errorf("pause: -want +got:\n%s", diff)
	}
	invoke(t, f, nil, "restore", "batch")
	invoke(t, f, nil, "restore", "--all")
	if diff := cmp.Diff([]string{"batch", ""}, f.restored); diff != "" {
		t.Errorf("restore: -want +got:\n%s", diff)
	}
}

// The flag counts more than the environment, and that more than the first
// default that exists.
func TestSocketPath(t *testing.T) {
	there := filepath.Join(t.TempDir(), "there.sock")
	if err := os.WriteFile(there, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		args, env, defaults []string
		want                string
	}{
		{[]string{"--socket", "/a"}, []string{"EFFISCALE_SOCKET=/b"}, []string{there}, "/a"},
		{nil, []string{"EFFISCALE_SOCKET=/b"}, []string{there}, "/b"},
		{nil, nil, []string{"/nowhere/first", there}, there},
		{nil, nil, []string{"/nowhere/first", "/nowhere/second"}, "/nowhere/first"},
	}
	for _, tt := range tests {
		var got string
		deps := testDeps(&fakeClient{})
		deps.Sockets = tt.defaults
		deps.Connect = func(s string) api.Caller { got = s; return &fakeClient{} }
		Main(t.Context(), append([]string{"status"}, tt.args...), Stdio{Out: new(bytes.Buffer), Err: new(bytes.Buffer),
			Env: tt.env}, deps)
		if got != tt.want {
			t.Errorf("%v %v: asked %s, want %s", tt.args, tt.env, got, tt.want)
		}
	}
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, syscall.EPIPE }

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

// Row 5: `effiscale status | head` is no failure; a full disk is one.
func TestOutputThatCannotBeWritten(t *testing.T) {
	if got := invoke(t, &fakeClient{}, func(s *Stdio) { s.Out = brokenPipe{} }, "status"); got.code != ExitOK ||
		got.err != "" {
		t.Errorf("a reader that went away: %+v", got)
	}
	if got := invoke(t, &fakeClient{}, func(s *Stdio) { s.Out = fullDisk{} }, "status"); got.code != ExitError ||
		!strings.Contains(got.err, "no space left") {
		t.Errorf("a full disk: %+v", got)
	}
}

// --watch draws until its context ends, and ends well.
func TestWatchEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	out := &cancelAfter{n: 2, cancel: cancel}
	code := Main(ctx, []string{"status", "--watch"}, Stdio{Out: out, Err: new(bytes.Buffer), Terminal: true},
		testDeps(&fakeClient{}))
	if code != ExitOK || !strings.Contains(out.text.String(), "\x1b[J\x1b[H") {
		t.Errorf("exit %d, %q", code, out.text.String())
	}
}

// cancelAfter ends a context at its n-th write.
type cancelAfter struct {
	text   bytes.Buffer
	n      int
	cancel func()
}

func (c *cancelAfter) Write(b []byte) (int, error) {
	if c.n--; c.n <= 0 {
		c.cancel()
	}
	return c.text.Write(b)
}

// Without a fake in between: nothing listens, and the real client says so.
func TestNoDaemon(t *testing.T) {
	var out, errs bytes.Buffer
	socket := filepath.Join(t.TempDir(), "none.sock")
	code := Main(t.Context(), []string{"status", "--socket", socket}, Stdio{Out: &out, Err: &errs}, Deps{})
	if code != ExitUnreachable || !strings.Contains(errs.String(), socket) ||
		!strings.Contains(errs.String(), "start it") || out.Len() > 0 {
		t.Errorf("exit %d, out %q, err %q", code, out.String(), errs.String())
	}
}

// Each shell gets a script.
func TestCompletionScripts(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if got := invoke(t, &fakeClient{}, nil, "completion", shell); got.code != ExitOK ||
			!strings.Contains(got.out, "effiscale") {
			t.Errorf("%s: exit %d, %d bytes", shell, got.code, len(got.out))
		}
	}
}

// Row 57, the terminal's side: whatever a stranger wrote, no control character
// and nothing invisible is left, and clean text stays as it is.
func FuzzClean(f *testing.F) {
	for _, s := range []string{"", "web", "\x1b[2J", "\u202e", "\xff\xfe", "日本語", "\u009b31m", strings.Repeat("a", 3000)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := clean(s)
		for _, r := range got {
			if hostile(r) {
				t.Fatalf("%q keeps %U", got, r)
			}
		}
		if len(s) < maxString && !strings.ContainsFunc(s, hostile) && s == strings.ToValidUTF8(s, "") && got != s {
			t.Fatalf("%q became %q", s, got)
		}
	})
}

// Row 36: sizes and cores from a keyboard are in range or refused.
func FuzzNumbers(f *testing.F) {
	for _, s := range []string{"1", "NaN", "-1", "1e308", "512m", "0x1p4", "1_000", "１", "9999999t", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if v, err := parseCores(s); err == nil && !(v >= 0.01 && v <= maxCores) {
			t.Fatalf("%q became %g cores", s, v)
		}
		if v, err := parseSize(s); err == nil && (v < 1 || v > maxSize) {
			t.Fatalf("%q became %d bytes", s, v)
		}
	})
}

func TestChangeText(t *testing.T) {
	for want, c := range map[string]api.Change{
		"cpu 1.00 -> 2.00":                  {Kind: "resize", Resource: "cpu", From: 1e9, To: 2e9},
		"cpu 1.00 -> 2.00 (3 moves)":        {Resource: "cpu", From: 1e9, To: 2e9, Count: 3},
		"create from 0123456789ab (slot 2)": {Kind: "create", Template: strings.Repeat("0123456789abcdef", 4), Slot: 2},
		"stop":                              {Kind: "stop", TimeoutS: 10},
		"-":                                 {},
	} {
		if got := changeText(c); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
