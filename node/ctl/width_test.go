package ctl

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/charmbracelet/x/ansi"

	"github.com/effiscale/effiscale/node/api"
)

// crowded answers status with many containers, one of them with wide characters, and a problem.
type crowded struct{ *fakeClient }

func (c crowded) Call(ctx context.Context, row api.Row, request, answer any) error {
	err := c.fakeClient.Call(ctx, row, request, answer)
	st, ok := answer.(*api.Status)
	if err != nil || !ok {
		return err
	}
	like := st.Containers[0]
	for i := range 40 {
		like.Name = fmt.Sprintf("shop-backend-production-worker-%02d", i)
		if i == 7 {
			like.Name = strings.Repeat("倉庫", 12)
		}
		like.Service = like.Name
		like.Why = strings.Repeat("a long reason ", 12)
		st.Containers = append(st.Containers, like)
	}
	st.Problems, st.Degraded = append(st.Problems, "shop-backend-production-worker-03: the last problem"), true
	return nil
}

func show(t *testing.T, change func(*Stdio), line string) outcome {
	t.Helper()
	var out, errs bytes.Buffer
	stdio := Stdio{In: strings.NewReader(""), Out: &out, Err: &errs}
	if change != nil {
		change(&stdio)
	}
	deps := testDeps(&fakeClient{})
	deps.Connect = func(string) api.Caller { return crowded{&fakeClient{}} }
	code := Main(t.Context(), strings.Fields(line), stdio, deps)
	return outcome{code, out.String(), errs.String()}
}

// TestWidths: tables are as wide as the terminal at most, wide characters counted as two; on a
// wide one, and in a pipe, nothing is cut (row 140).
func TestWidths(t *testing.T) {
	for _, line := range []string{"status", "history shop-web-1", "plan", "members", "explain shop-web-1"} {
		for _, width := range []int{80, 100, 200} {
			o := show(t, func(s *Stdio) { s.Terminal, s.Width, s.Height = true, width, 24 }, line)
			for l := range strings.Lines(o.out) {
				if w := ansi.StringWidth(strings.TrimRight(l, "\n")); w > width {
					t.Errorf("%s at %d columns: %d: %s", line, width, w, l)
				}
			}
			if line == "status" && width == 200 && !strings.Contains(o.out, "shop-backend-production-worker-39 ") {
				t.Errorf("a name is cut at %d columns", width)
			}
		}
		if o := show(t, nil, line); strings.Contains(o.out, "…") {
			t.Errorf("%s is cut in a pipe:\n%s", line, o.out)
		}
	}
	o := show(t, nil, "status")
	if !strings.Contains(o.out, strings.TrimSpace(strings.Repeat("a long reason ", 12))) ||
		!strings.Contains(o.out, strings.Repeat("倉庫", 12)) {
		t.Errorf("cut in a pipe:\n%s", o.out)
	}
}

// TestWatchFits: --watch shows the hosts and the problems in as many rows as the terminal has
// (row 140).
func TestWatchFits(t *testing.T) {
	for _, height := range []int{24, 10} {
		var out bytes.Buffer
		a := &app{deps: testDeps(&fakeClient{}), output: "text",
			Stdio: Stdio{Out: &out, Terminal: true, Width: 80, Height: height}}
		a.deps.Connect = func(string) api.Caller { return crowded{&fakeClient{}} }
		if err := a.frame(t.Context(), statusOptions{}); err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimRight(ansi.Strip(out.String()), "\n"), "\n")
		if len(lines) > height-1 || !strings.HasPrefix(lines[0], "effiscale") ||
			!strings.Contains(lines[len(lines)-1], "the last problem") || !strings.Contains(out.String(), "left out") {
			t.Errorf("%d rows of %d:\n%s", len(lines), height, strings.Join(lines, "\n"))
		}
	}
}

// TestStatusOfOne: NAME selects a container or a service with its problems, --problems the
// problems alone (row 140).
func TestStatusOfOne(t *testing.T) {
	o := show(t, nil, "status shop-backend-production-worker-03")
	if o.code != ExitDegraded || strings.Contains(o.out, "worker-04") || !strings.Contains(o.out, "the last problem") {
		t.Errorf("exit code %d:\n%s", o.code, o.out)
	}
	o = show(t, nil, "status shop-backend-production-worker-04")
	if o.code != ExitOK || strings.Contains(o.out, "problem") {
		t.Errorf("exit code %d:\n%s", o.code, o.out)
	}
	if o = show(t, nil, "status nobody"); o.code != ExitNotFound {
		t.Errorf("exit code %d: %s", o.code, o.err)
	}
	o = show(t, nil, "status --problems -o json")
	var v struct {
		Degraded bool
		Problems []string
	}
	if err := json.Unmarshal([]byte(o.out), &v); err != nil || o.code != ExitDegraded || !v.Degraded ||
		!slices.Contains(v.Problems, "shop-backend-production-worker-03: the last problem") {
		t.Errorf("exit code %d, %v:\n%s", o.code, err, o.out)
	}
	o = show(t, nil, "status --problems")
	if strings.Contains(o.out, "CONTAINER") || !strings.Contains(o.out, "the last problem") {
		t.Errorf("%s", o.out)
	}
}

// TestHints: --version is that of version, and root is not told to type sudo (row 140).
func TestHints(t *testing.T) {
	if a, b := show(t, nil, "--version"), show(t, nil, "version"); a.code != ExitOK || a.out != b.out {
		t.Errorf("%+v", a)
	}
	for _, line := range []string{"status", ""} {
		for _, root := range []bool{true, false} {
			f := &fakeClient{err: errNotRunning}
			o := invoke(t, f, func(s *Stdio) { s.Root = root }, strings.Fields(line)...)
			if strings.Contains(o.out+o.err, "sudo ") == root {
				t.Errorf("%q, root %t: %s%s", line, root, o.out, o.err)
			}
		}
	}
}

// growing answers history with one more change each time, and ends the context.
type growing struct {
	*fakeClient
	n      int
	cancel func()
}

func (g *growing) Call(ctx context.Context, row api.Row, request, answer any) error {
	if g.n++; g.n > 3 {
		g.cancel()
		return context.Canceled
	}
	h := answer.(*api.History)
	for i := g.n; i > 0; i-- { // newest first
		c := testChange()
		c.Seq, c.Container = uint64(i), fmt.Sprintf("web-%d", i)
		h.Changes = append(h.Changes, c)
	}
	return nil
}

// TestFollow: history --follow prints each change once, the newest last, as text or as JSON, one
// a line (row 140).
func TestFollow(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"text", "json"} {
		var out, errs bytes.Buffer
		ctx, cancel := context.WithCancel(t.Context())
		deps := testDeps(&fakeClient{})
		deps.Connect = func() func(string) api.Caller {
			g := &growing{fakeClient: &fakeClient{}, cancel: cancel}
			return func(string) api.Caller { return g }
		}()
		code := Main(ctx, []string{"history", "--follow", "-n", "1", "-o", format},
			Stdio{In: strings.NewReader(""), Out: &out, Err: &errs}, deps)
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		if code != ExitOK || len(lines) != 3 {
			t.Fatalf("%s: exit code %d:\n%s%s", format, code, out.String(), errs.String())
		}
		for i, l := range lines {
			if !strings.Contains(l, fmt.Sprintf("web-%d", i+1)) || format == "json" && !json.Valid([]byte(l)) {
				t.Errorf("%s: line %d: %s", format, i, l)
			}
		}
	}
}
