package api

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

const metricsTopic = "../ctl/help/metrics.md"

// TestMetricsTopic: the help topic lists every metric of the registry.
func TestMetricsTopic(t *testing.T) {
	m := NewMetrics("1.2.3")
	if err := m.watch(&fakeDaemon{}); err != nil {
		t.Fatal(err)
	}
	const open, end = "<!-- metric-table -->\n", "<!-- /metric-table -->"
	b, err := os.ReadFile(metricsTopic)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(b), open)
	body, foot, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatalf("%s has no part between %q and %q", metricsTopic, open, end)
	}
	want := metricTable(m.registry, m.http[Monitor].registry)
	if body == want {
		return
	}
	if !*update {
		t.Fatalf("%s is out of date: go test -run TestMetricsTopic ./node/api -update", metricsTopic)
	}
	if err := os.WriteFile(metricsTopic, []byte(head+open+want+end+foot), 0o644); err != nil {
		t.Fatal(err)
	}
}

// metricTable is the Markdown table of the metrics of this program, by name.
func metricTable(all ...*prometheus.Registry) string {
	descs := make(chan *prometheus.Desc, 1000)
	for _, r := range all {
		r.Describe(descs)
	}
	close(descs)
	form := regexp.MustCompile(`fqName: "(effiscale_\w+)", help: ("(?:[^"\\]|\\.)*"), .*variableLabels: \{([^}]*)\}`)
	var rows []string
	for d := range descs {
		f := form.FindStringSubmatch(d.String())
		if f == nil { // of Go or of the process
			continue
		}
		var help string
		if _, err := fmt.Sscanf(f[2], "%q", &help); err != nil {
			help = f[2]
		}
		rows = append(rows, fmt.Sprintf("| `%s` | %s | %s |\n", f[1], strings.ReplaceAll(f[3], ",", ", "), help))
	}
	slices.Sort(rows)
	return "| metric | labels | meaning |\n|---|---|---|\n" + strings.Join(slices.Compact(rows), "")
}
