package view

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape"
	"github.com/effiscale/effiscale/node/api"
)

// TestFullHost: a host without idle CPU or without free memory is a problem (row 139).
func TestFullHost(t *testing.T) {
	now := time.Unix(1e9, 0)
	well := mape.Summary{HostCPU: 1 * knowledge.OneCPU, HostAvailable: 2 * knowledge.GiB}
	well.Host.CPUs, well.Host.Memory = 2, 4*knowledge.GiB
	well.Settings.MemoryReserve = 0.1
	for want, change := range map[string]func(*mape.Summary){
		"":                            func(*mape.Summary) {},
		"the host's CPU is full for":  func(s *mape.Summary) { s.CPUFull = now.Add(-time.Minute) },
		"the host's memory is full: ": func(s *mape.Summary) { s.HostAvailable = 100 * knowledge.MiB },
	} {
		s := well
		change(&s)
		var status api.Status
		addFullHost(&status, nil, &s, now)
		lines := strings.Join(status.Problems, "")
		if !strings.HasPrefix(lines, want) || want == "" && lines != "" {
			t.Errorf("got %q, want %q", lines, want)
		}
	}
	brief := well
	brief.CPUFull = now.Add(-3 * time.Second)
	var status api.Status
	if addFullHost(&status, nil, &brief, now); len(status.Problems) > 0 {
		t.Error("full after three seconds")
	}
}

// TestSources: a host whose control groups can be read says so of the containers that are there,
// and names those that are measured by the Engine's statistics (row 136).
func TestSources(t *testing.T) {
	for _, c := range []struct {
		hidden, shown string // the containers
		source, says  string
		degraded      bool
	}{
		{"", "web db", "kernel files", "", false},
		{"web db", "", "engine stats", "samples of db, web come from the Engine's statistics", true},
		{"web", "db cache", "kernel files, of 1 of 3 containers from engine stats",
			"samples of web come from the Engine's statistics", true},
		{"foreign", "web", "kernel files, of 1 of 2 containers from engine stats", "", false},
	} {
		var all []mape.ContainerStatus
		for _, name := range strings.Fields(c.hidden + " " + c.shown) {
			u := steady(name)
			u.Statistics = strings.Contains(c.hidden, name)
			u.Policy.Managed = name != "foreign"
			all = append(all, *u)
		}
		s := Status(daemon(), all, &mape.Summary{Ready: true}, nil, now)
		if s.Node.Source != c.source || s.Degraded != c.degraded ||
			(s.ProblemKinds[api.ProblemSamples] > 0) != c.degraded || !strings.Contains(strings.Join(s.Problems, "\n"), c.says) {
			t.Errorf("%+v: samples from %q, degraded %t: %q", c, s.Node.Source, s.Degraded, s.Problems)
		}
	}
	for source, want := range map[string]string{
		"kernel files":                  "engine stats: no control group",
		"engine stats: no cgroup found": "engine stats: no cgroup found",
	} {
		u := steady("web")
		u.Statistics = true
		if got := conditions(u, source, now)[2].Message; !strings.Contains(got, want) ||
			strings.Contains(got, "kernel files") {
			t.Errorf("source %q: %q", source, got)
		}
	}
}

// TestBusyHost: a full CPU degrades the host only when it denies a managed container what it
// wants, for minutes (row 139).
func TestBusyHost(t *testing.T) {
	short := steady("batch")
	short.Planned[knowledge.ResourceCPU].Decision = knowledge.Decision{
		Verb: knowledge.Hold, Reason: knowledge.Because(knowledge.RulePoolShort, 1, 2),
	}
	observed := steady("other")
	observed.Planned, observed.Policy.Managed = short.Planned, false
	for _, c := range []struct {
		name     string
		unit     *mape.ContainerStatus
		full     time.Duration
		degraded bool
		named    bool
	}{
		{"nothing is denied", steady("web"), time.Hour, false, false},
		{"denied for a minute", short, time.Minute, false, true},
		{"denied for long", short, 6 * time.Minute, true, true},
		{"of a container that is only observed", observed, time.Hour, false, false},
	} {
		s := mape.Summary{CPUFull: now.Add(-c.full)}
		s.Host.CPUs = 2
		status := Status(daemon(), []mape.ContainerStatus{*c.unit}, &s, nil, now)
		lines := strings.Join(status.Problems, "\n")
		if status.Degraded != c.degraded || !strings.Contains(lines, "the host's CPU is full") ||
			strings.Contains(lines, "what they want: batch") != c.named {
			t.Errorf("%s: degraded %v, %s", c.name, status.Degraded, lines)
		}
	}
}

// TestCertificateEnds: a certificate that expires while the daemon runs is a problem.
func TestCertificateEnds(t *testing.T) {
	for _, c := range []struct {
		from, until time.Duration
		problem     string
		degraded    bool
	}{
		{-time.Hour, 365 * 24 * time.Hour, "", false},
		{-time.Hour, 3 * 24 * time.Hour, "/c expires on 2026-03-04", false},
		{-time.Hour, -time.Minute, "/c expired on 2026-03-01", true},
		{time.Hour, 365 * 24 * time.Hour, "/c is valid from 2026-03-01 on", true},
	} {
		d := daemon()
		d.Certificate = api.Certificate{Path: "/c", From: now.Add(c.from), Until: now.Add(c.until)}
		s := Status(d, nil, &mape.Summary{}, nil, now)
		lines := strings.Join(s.Problems, "\n")
		if s.Degraded != c.degraded || !strings.Contains(lines, c.problem) || c.problem == "" && lines != "" {
			t.Errorf("%v to %v: degraded %v, %q", c.from, c.until, s.Degraded, lines)
		}
	}
}

// TestWhatWaits: without the Engine, limits that are written to the kernel's files go on.
func TestWhatWaits(t *testing.T) {
	for cgroup, want := range map[string]string{
		"v2": "limits in force continue, limits to start with and new containers wait",
		"":   "(docker.host); limits and new containers wait",
	} {
		d := daemon()
		d.Engine, d.Cgroup = Engine{Error: "nobody listens"}, cgroup
		s := Status(d, nil, &mape.Summary{}, nil, now)
		if !slices.ContainsFunc(s.Problems, func(p string) bool { return strings.Contains(p, want) }) {
			t.Errorf("cgroup %q: %q", cgroup, s.Problems)
		}
	}
}

// TestPagesSaveNothing: the kernel cuts a limit to whole pages, which is no difference.
func TestPagesSaveNothing(t *testing.T) {
	c := steady("web-1")
	c.OriginalKept, c.Measured = true, true
	c.Original.Memory, c.Window.MemoryLimit = 70000001, 69996544
	if _, bytes := Saved([]mape.ContainerStatus{*c}); bytes != 0 {
		t.Errorf("%d bytes", bytes)
	}
}
