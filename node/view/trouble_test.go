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
		addFullHost(&status, &s, now)
		lines := strings.Join(status.Problems, "")
		if !strings.HasPrefix(lines, want) || want == "" && lines != "" {
			t.Errorf("got %q, want %q", lines, want)
		}
	}
	brief := well
	brief.CPUFull = now.Add(-3 * time.Second)
	var status api.Status
	if addFullHost(&status, &brief, now); len(status.Problems) > 0 {
		t.Error("full after three seconds")
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
