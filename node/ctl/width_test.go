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
		for _, width := range []int{0, 80} { // of the terminal in which the pipe is
			if o := show(t, func(s *Stdio) { s.Width = width }, line); strings.Contains(o.out, "…") {
				t.Errorf("%s is cut in a pipe:\n%s", line, o.out)
			}
		}
	}
	o := show(t, nil, "status")
	if !strings.Contains(o.out, strings.TrimSpace(strings.Repeat("a long reason ", 12))) ||
		!strings.Contains(o.out, strings.Repeat("倉庫", 12)) {
		t.Errorf("cut in a pipe:\n%s", o.out)
	}
}

// TestLongNames: long names give way before the last column is cut (row 140).
func TestLongNames(t *testing.T) {
	p := &page{limit: 60}
	table := &table{head: []string{"NAME", "LAST CHANGE"}}
	table.add(strings.Repeat("n", 50), "the last column, of 35 characters..")
	table.print(p)
	got, name := p.String(), strings.Repeat("n", usualCell-1)
	if !strings.Contains(got, "35 characters..") || !strings.Contains(got, name) {
		t.Errorf("%s", got)
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
		if height == 24 && !strings.Contains(out.String(), "Last hour") {
			t.Errorf("the summary is left out:\n%s", strings.Join(lines, "\n"))
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
	p := &page{}
	if problemsText(p, problemsView{}); p.String() != "No problems.\n" {
		t.Errorf("without problems: %q", p.String())
	}
	o = show(t, nil, "status --problems")
	if strings.Contains(o.out, "CONTAINER") || !strings.Contains(o.out, "the last problem") {
		t.Errorf("%s", o.out)
	}
}

// TestStatusOfNames: NAME is a container, a service, an id of twelve digits or more, or one of these on
// a host; the services and problems are those of what it names (row 140).
func TestStatusOfNames(t *testing.T) {
	for _, c := range []struct {
		name                 string
		containers, services []string
		problems             string
	}{
		{"web", []string{"web-1", "web-2"}, []string{"web"}, "124"}, {"web-1", []string{"web-1"}, []string{"web"}, "14"},
		{testID[:12], []string{"web-1"}, []string{"web"}, "14"}, {testID[:11], nil, nil, ""},
		{"host-b/web-2", []string{"web-2"}, []string{"web"}, "24"}, {"host-a/web-1", []string{"web-1"}, []string{"web"}, "14"},
		{"host-b/web-1", nil, nil, ""}, {"db", []string{"db"}, []string{"db"}, "3"}, {"d", nil, nil, ""},
	} {
		st := api.Status{
			Containers: []api.ContainerView{{Name: "web-1", Service: "web", ID: testID},
				{Name: "web-2", Service: "web", Host: "host-b"}, {Name: "db", Service: "db"}},
			Services: []api.ServiceView{{Name: "web"}, {Name: "db"}},
			Problems: []string{"web-1: 1", "host-b web-2: 2", "db: 3", "web: 4", "the disk of web is full: 5"},
		}
		st.Node.Name = "host-a"
		got, err := statusOptions{name: c.name}.of(st)
		if (err != nil) != (c.containers == nil) || err != nil && codeOf(err) != ExitNotFound {
			t.Errorf("%s: %v", c.name, err)
		}
		if err != nil {
			continue
		}
		var containers, services []string
		problems := ""
		for _, x := range got.Containers {
			containers = append(containers, x.Name)
		}
		for _, x := range got.Services {
			services = append(services, x.Name)
		}
		for _, x := range got.Problems {
			problems += x[len(x)-1:]
		}
		if !slices.Equal(containers, c.containers) || !slices.Equal(services, c.services) || problems != c.problems ||
			got.Degraded != (problems != "") {
			t.Errorf("%s: %v of %v, problems %s", c.name, containers, services, problems)
		}
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
	deps := testDeps(&fakeClient{})
	deps.Doctor = func(context.Context, DoctorOptions) []api.Check {
		return []api.Check{{Name: "daemon", Detail: "not running", Remedy: "start it: sudo effiscale run"}}
	}
	for _, root := range []bool{true, false} {
		var out bytes.Buffer
		Main(t.Context(), []string{"doctor"}, Stdio{Out: &out, Err: &out, Root: root}, deps)
		if strings.Contains(out.String(), "sudo ") == root {
			t.Errorf("doctor, root %t: %s", root, out.String())
		}
	}
}

// TestMissingFile: a file that an argument names and that does not exist is an error of usage, not
// "no such container" (row 140).
func TestMissingFile(t *testing.T) {
	for _, line := range []string{"simulate /nowhere/trace.csv", "tune /nowhere/trace.csv"} {
		if o := show(t, nil, line); o.code != ExitUsage || !strings.Contains(o.err, "/nowhere/trace.csv") {
			t.Errorf("%s: exit code %d: %s", line, o.code, o.err)
		}
	}
}

// growing answers history with two more changes each time, and one that is not written yet, and ends
// the context.
type growing struct {
	*fakeClient
	n      int
	limits []int
	cancel func()
}

func (g *growing) Call(ctx context.Context, row api.Row, request, answer any) error {
	g.limits = append(g.limits, request.(api.AllRecordsRequest).Limit)
	if g.n++; g.n > 3 {
		g.cancel()
		return context.Canceled
	}
	h := answer.(*api.History)
	for i := 2*g.n + 1; i > 0; i-- { // newest first
		c := testChange()
		c.Seq, c.Container = uint64(i), fmt.Sprintf("web-%d", i)
		if i == 2*g.n+1 {
			c.Seq, c.Container = 0, "moves"
		}
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
		g := &growing{fakeClient: &fakeClient{}, cancel: cancel}
		deps := testDeps(g.fakeClient)
		deps.Connect = func(string) api.Caller { return g }
		code := Main(ctx, []string{"history", "--follow", "-n", "2", "-o", format},
			Stdio{In: strings.NewReader(""), Out: &out, Err: &errs}, deps)
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		if code != ExitOK || len(lines) != 6 {
			t.Fatalf("%s: exit code %d:\n%s%s", format, code, out.String(), errs.String())
		}
		for i, l := range lines {
			if !strings.Contains(l, fmt.Sprintf("web-%d", i+1)) || format == "json" && !json.Valid([]byte(l)) {
				t.Errorf("%s: line %d: %s", format, i, l)
			}
		}
		if g.limits[0] != 2 || g.limits[1] != maxFollowed { // all that came since
			t.Errorf("asked for %v changes", g.limits)
		}
	}
}

// TestFollowForLong: what was printed is remembered as long as it may be answered again, and no longer.
func TestFollowForLong(t *testing.T) {
	var out bytes.Buffer
	a := &app{deps: testDeps(&fakeClient{}), output: "text", Stdio: Stdio{Out: &out}}
	seen := map[string]bool{}
	const rounds, newEach = 100, maxFollowed / 10
	for round := range rounds {
		var changes []api.Change // newest first
		for i := (round + 1) * newEach; i > max((round+1)*newEach-maxFollowed, 0); i-- {
			c := testChange()
			c.Seq = uint64(i)
			changes = append(changes, c)
		}
		if err := a.addChanges(changes, seen); err != nil {
			t.Fatal(err)
		}
	}
	if n := strings.Count(out.String(), "\n"); n != rounds*newEach || len(seen) > 5*maxFollowed {
		t.Errorf("%d lines of %d changes, %d are remembered", n, rounds*newEach, len(seen))
	}
}
