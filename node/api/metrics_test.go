package api

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/prometheus/common/expfmt"
)

// text is the part of the whole metrics page that is ours.
func (m *Metrics) text(t *testing.T) string {
	t.Helper()
	families, err := m.page(Monitor, true).Gather()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	for _, f := range families {
		if strings.HasPrefix(f.GetName(), "effiscale_") {
			if _, err := expfmt.MetricFamilyToText(&b, f); err != nil {
				t.Fatal(err)
			}
		}
	}
	return b.String()
}

func filled() *Metrics {
	m := NewMetrics("1.2.3")
	m.ObserveLoop("reflex", 3*time.Millisecond)
	m.LoopSuccess("reflex", someTime)
	m.ObserveEngine("update", 200, 30*time.Millisecond)
	m.ObserveEngine("update", 0, 5*time.Second)
	m.ObserveEngine("list", 4711, time.Millisecond)
	m.Action("cpu", "applied", time.Millisecond)
	m.Decision("grow", "cpu", "throttled")
	m.Rejected("nan")
	m.DriftRepaired()
	m.StoreCommit(2*time.Millisecond, nil)
	m.StoreCommit(2*time.Millisecond, errors.New("full"))
	m.Saved(1.5, -1, 10*time.Second)
	m.Reloaded(nil, someTime)
	m.Reloaded(errors.New("bad"), someTime.Add(time.Hour))
	return m
}

func TestMetricsPage(t *testing.T) {
	m := filled()
	if err := m.watch(&fakeDaemon{stats: someStats()}); err != nil {
		t.Fatal(err)
	}
	golden(t, "metrics.txt", m.text(t))
}

// TestRow131OnePage: row 131, one page has the daemon's metrics and each its own requests, so that
// the sum over the pages counts everything once.
func TestRow131OnePage(t *testing.T) {
	h := serveWith(t, Options{Metrics: filled()})
	h.ask(t, Execution, "POST", "/scale/vertical", `{"container_id":"web","direction":"up"}`)
	h.ask(t, Controller, "GET", "/nothing", "")
	pages := map[string]string{}
	for _, service := range []string{Monitor, Controller, Execution} {
		status, body := h.ask(t, service, "GET", "/metrics", "")
		if status != 200 {
			t.Fatalf("%s: %d", service, status)
		}
		pages[service] = body
	}
	for _, want := range []string{"go_goroutines ", "process_resident_memory_bytes ",
		`effiscale_build_info{version="1.2.3"} 1`, `effiscale_container_cpu_limit_cores{container="web"} 0.8`} {
		if !strings.Contains(pages[Monitor], want) {
			t.Errorf("no %s", want)
		}
	}
	if !strings.Contains(pages[Execution], `effiscale_http_requests_total{code="200",service="execution"} 1`) ||
		!strings.Contains(pages[Controller], `effiscale_http_refused_total{code="404",service="controller"} 1`) {
		t.Errorf("a page has not the requests of its service:\n%s\n%s", pages[Execution], pages[Controller])
	}
	seen := map[string]string{}
	for service, page := range pages {
		for line := range strings.Lines(page) {
			series, _, _ := strings.Cut(line, "} ")
			if strings.HasPrefix(line, "#") || strings.TrimSpace(line) == "" {
				continue
			}
			if other := seen[series]; other != "" {
				t.Errorf("%s is on the pages of %s and %s", series, service, other)
			}
			seen[series] = service
		}
	}
	o := Options{}
	for _, c := range []struct{ monitor, controller, want string }{
		{"x", "y", Monitor}, {"", "y", Controller}, {"", "", Execution}} {
		o.Monitor, o.Controller = c.monitor, c.controller
		if got := (&Server{o: o}).wholePage(); got != c.want {
			t.Errorf("%+v: the whole page is that of %s", c, got)
		}
	}
}

func TestMetricsLint(t *testing.T) {
	m := filled()
	if err := m.watch(&fakeDaemon{stats: someStats()}); err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.New(strings.NewReader(m.text(t))).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
	if problems, err := testutil.GatherAndLint(m.page(Monitor, true)); err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
}

// TestMetricsBounds: row 32 as far as the page goes, no label grows without end.
func TestMetricsBounds(t *testing.T) {
	m := NewMetrics("x")
	for i := range 10_000 {
		word := fmt.Sprintf("w%d", i)
		m.ObserveLoop(word, 0)
		m.LoopSuccess(word, someTime)
		m.ObserveEngine(word, i, 0)
		m.Rejected(word)
		m.Action("cpu", word, 0)
		m.Decision("grow", "cpu", word)
	}
	m.Rejected("a\xffb\n")
	for name, want := range map[string]int{"effiscale_loop_duration_seconds": maxWords + 1,
		"effiscale_samples_rejected_total": maxWords + 1, "effiscale_actions_total": maxWords + 1,
		"effiscale_decisions_total": maxWords + 1} {
		if n, err := testutil.GatherAndCount(m.registry, name); err != nil || n != want {
			t.Errorf("%s: %d series, want %d (%v)", name, n, want, err)
		}
	}
	if n, err := testutil.GatherAndCount(m.registry, "effiscale_docker_request_duration_seconds"); err != nil || n > 1000 {
		t.Errorf("%d series of the Engine (%v)", n, err)
	}
	d := &fakeDaemon{extra: 3000}
	if err := m.watch(d); err != nil {
		t.Fatal(err)
	}
	page := m.text(t)
	if n := strings.Count(page, "effiscale_container_managed{"); n != maxSeries {
		t.Errorf("%d containers on the page", n)
	}
	for _, want := range []string{"effiscale_containers 3004", `effiscale_unlisted{kind="container"} 1004`} {
		if !strings.Contains(page, want) {
			t.Errorf("no %s", want)
		}
	}
}

// TestMetricsWithoutDaemon: a daemon that cannot tell is down, not an error page.
func TestMetricsWithoutDaemon(t *testing.T) {
	m := NewMetrics("x")
	if err := m.watch(&fakeDaemon{fail: errors.New("starting")}); err != nil {
		t.Fatal(err)
	}
	if page := m.text(t); !strings.Contains(page, "effiscale_node_up 0\n") ||
		strings.Contains(page, "effiscale_container_") {
		t.Error(page)
	}
	if err := m.watch(&fakeDaemon{}); err == nil {
		t.Error("two daemons on one page")
	}
	m.unwatch()
	m.unwatch()
	if err := m.watch(&fakeDaemon{}); err != nil {
		t.Error(err)
	}
}
