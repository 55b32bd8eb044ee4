package ctl

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/effiscale/effiscale/mape/simulate"
)

func simulateText(p *page, v simulateView) {
	for i, t := range v.Traces {
		if i > 0 {
			p.line("")
		}
		length := time.Duration(float64(t.Steps) * t.StepSeconds * float64(time.Second))
		title := fmt.Sprintf("%s: %s in %d steps of %s, %s, %s axis",
			t.Trace, spanText(length), t.Steps, secondsText(t.StepSeconds), v.Unit, v.Axis)
		if t.Filled > 0 {
			title += fmt.Sprintf(", %d of them filled in", t.Filled)
		}
		p.line("%s", p.style(styleBold, title))
		if v.Unit == simulate.UnitBytes.String() {
			memoryTable(t).print(p)
		} else if v.Axis == simulate.Vertical.String() {
			sizeTable(t).print(p)
		} else {
			replicaTable(t).print(p)
		}
		if v.Frontier {
			p.line("")
			p.line("The same allocations, multiplied until this share of demand is unserved:")
			frontierTable(t).print(p)
		}
	}
}

func rightFrom(n int) map[int]bool {
	right := map[int]bool{}
	for i := 1; i < n; i++ {
		right[i] = true
	}
	return right
}

func newScoreTable(head ...string) *table { return &table{head: head, right: rightFrom(len(head))} }

func sizeTable(t traceView) *table {
	out := newScoreTable("POLICY", "SHORT %", "UNSERVED %", "SLACK %", "CORE-H", "CHANGES", "A DAY", "BACK",
		"P50 P95 P99 ms")
	for _, s := range t.Policies {
		out.add(s.Policy, share(s.Under), ofDemand(t.NoDemand, s.Unserved), ofDemand(t.NoDemand, s.Slack),
			figure(s.Reserved/3600), strconv.Itoa(s.Changes), figure(s.ChangesPerDay),
			strconv.Itoa(s.Reversals), latencyText(s.Latency))
	}
	return out
}

func memoryTable(t traceView) *table {
	out := newScoreTable("POLICY", "SHORT %", "UNSERVED %", "SLACK %", "GiB-H", "CHANGES", "A DAY", "BACK", "OOM KILLS")
	for _, s := range t.Policies {
		out.add(s.Policy, share(s.Under), ofDemand(t.NoDemand, s.Unserved), ofDemand(t.NoDemand, s.Slack),
			figure(s.Reserved/3600/(1<<30)), strconv.Itoa(s.Changes), figure(s.ChangesPerDay),
			strconv.Itoa(s.Reversals), strconv.Itoa(s.OOMKills))
	}
	return out
}

func replicaTable(t traceView) *table {
	out := newScoreTable("POLICY", "SHORT s", "SPIKE s", "UNSERVED %", "SLACK %", "CORE-H", "REPLICA-H", "CHANGES", "BACK",
		"P50 P95 P99 ms")
	for _, s := range t.Policies {
		out.add(s.Policy, figure(s.Replicas.Overloaded), coverText(s.Replicas),
			ofDemand(t.NoDemand, s.Unserved), ofDemand(t.NoDemand, s.Slack), figure(s.Reserved/3600),
			figure(s.Replicas.Hours), strconv.Itoa(s.Changes), strconv.Itoa(s.Reversals), latencyText(s.Latency))
	}
	return out
}

func coverText(r *simulate.ReplicaScore) string {
	switch {
	case r.Spike == nil:
		return "-"
	case r.Cover == nil:
		return "never"
	}
	return figure(*r.Cover)
}

func frontierTable(t traceView) *table {
	out := newScoreTable("POLICY")
	for _, s := range simulate.Shortages() {
		out.head = append(out.head, fmt.Sprintf("SLACK %% AT %s %%", share(s)), "FACTOR")
	}
	out.right = rightFrom(len(out.head))
	for _, s := range t.Policies {
		cells := []string{s.Policy}
		for _, f := range s.Frontier {
			if !f.Reached {
				cells = append(cells, "-", "-")
				continue
			}
			cells = append(cells, share(f.Slack), strconv.FormatFloat(f.Scale, 'f', 3, 64))
		}
		out.add(cells...)
	}
	return out
}

// ofDemand prints a share of demand, - without demand.
func ofDemand(none bool, v float64) string {
	if none {
		return "-"
	}
	return share(v)
}

// share prints a share in percent with three significant digits, at most three
// decimals.
func share(v float64) string { return figure(v * 100) }

// figure prints about three significant digits.
func figure(v float64) string {
	a := math.Abs(v)
	switch {
	case v == 0:
		return "0"
	case a < 0.0005:
		return "<0.001"
	case a < 1:
		return trimZeros(strconv.FormatFloat(v, 'f', 3, 64))
	case a < 10:
		return trimZeros(strconv.FormatFloat(v, 'f', 2, 64))
	case a < 1000:
		return trimZeros(strconv.FormatFloat(v, 'f', 1, 64))
	case a >= 1e7:
		return strconv.FormatFloat(v, 'g', 4, 64)
	}
	return strconv.FormatFloat(v, 'f', 0, 64)
}

func trimZeros(s string) string {
	if !strings.Contains(s, ".") {
		return s
	}
	return strings.TrimRight(strings.TrimRight(s, "0"), ".")
}

func latencyText(l *simulate.Latency) string {
	if l == nil {
		return "-"
	}
	ms := func(s float64) string { return strconv.FormatFloat(s*1000, 'f', 0, 64) }
	return fmt.Sprintf("%s %s %s", ms(l.P50), ms(l.P95), ms(l.P99))
}

func secondsText(s float64) string { return trimZeros(strconv.FormatFloat(s, 'f', 3, 64)) + " s" }

// spanText prints how long a trace lasts.
func spanText(d time.Duration) string {
	switch {
	case d < 2*time.Minute:
		return secondsText(d.Seconds())
	case d < 2*time.Hour:
		return figure(d.Minutes()) + " minutes"
	case d < 72*time.Hour:
		return figure(d.Hours()) + " hours"
	}
	return figure(d.Hours()/24) + " days"
}

// simulateCSV is one row per trace and policy, with figures as they are in JSON.
func simulateCSV(v simulateView) string {
	var b strings.Builder
	b.WriteString("trace,policy,underprovisioned_share,unserved_share,mean_relative_slack,reserved_unit_seconds," +
		"changes,reversals,oom_kills,p50_seconds,p95_seconds,p99_seconds,overloaded_seconds," +
		"spike_covered_seconds,replica_hours")
	if v.Frontier {
		for _, s := range simulate.Shortages() {
			fmt.Fprintf(&b, ",slack_at_%g,scale_at_%g", s, s)
		}
	}
	b.WriteByte('\n')
	for _, t := range v.Traces {
		for _, p := range t.Policies {
			b.WriteString(strings.Join(csvRow(t.Trace, p), ",") + "\n")
		}
	}
	return b.String()
}

// csvRow is a row; unknown values are empty cells.
func csvRow(trace string, p policyView) []string {
	g := func(v float64) string { return strconv.FormatFloat(v, 'g', 8, 64) }
	name := clean(trace)
	if strings.ContainsAny(name, "\",") || strings.IndexAny(name, "=+-@") == 0 {
		name = `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
	}
	row := []string{
		name, p.Policy, g(p.Under), g(p.Unserved), g(p.Slack), g(p.Reserved),
		strconv.Itoa(p.Changes), strconv.Itoa(p.Reversals), strconv.Itoa(p.OOMKills),
	}
	if l := p.Latency; l != nil {
		row = append(row, g(l.P50), g(l.P95), g(l.P99))
	} else {
		row = append(row, "", "", "")
	}
	if r := p.Replicas; r != nil {
		cover := ""
		if r.Cover != nil {
			cover = g(*r.Cover)
		}
		row = append(row, g(r.Overloaded), cover, g(r.Hours))
	} else {
		row = append(row, "", "", "")
	}
	for _, f := range p.Frontier {
		if f.Reached {
			row = append(row, g(f.Slack), g(f.Scale))
		} else {
			row = append(row, "", "")
		}
	}
	return row
}
