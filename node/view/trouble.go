package view

import (
	"fmt"
	"strings"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape"
	"github.com/effiscale/effiscale/node/api"
)

// addEnded adds that a container does not work: a crash loop, an end by itself, a failing
// health check.
func addEnded(s *api.Status, c *mape.ContainerStatus) {
	name, e := c.Container.Name, c.Ending
	killed := ""
	if oom := c.Window.LastOOM; !oom.IsZero() && c.ExitCode == 137 {
		killed = ", and the kernel killed one of its processes for memory"
	}
	switch {
	case e.Loop > 1:
		degrade(s, api.ProblemEnded, "%s is in a crash loop: it ended by itself %d times within %g minutes, the newest "+
			"time with exit code %d%s; `docker logs %s` shows why", name, e.Loop, e.Within.Minutes(), c.ExitCode, killed, name)
	case e.Loop == 1:
		degrade(s, api.ProblemEnded, "%s is in a crash loop: the Docker Engine waits before it starts it again, exit code "+
			"%d%s; `docker logs %s` shows why", name, c.ExitCode, killed, name)
	case e.ByItself && c.Policy.Managed:
		degrade(s, api.ProblemEnded, "%s ended by itself with exit code %d%s; `docker logs %s` shows why",
			name, c.ExitCode, killed, name)
	}
	if c.Container.Health == knowledge.HealthUnhealthy && c.Container.State == knowledge.StateRunning {
		degrade(s, api.ProblemUnhealthy, "%s is unhealthy: its health check fails; `docker inspect %s` shows the output",
			name, name)
	}
}

const (
	// fullAfter is how long the CPU must have been in use before the host counts as full.
	fullAfter = 30 * time.Second
	// shortAfter is how long it must have been full before it degrades the host, if a managed
	// container gets less CPU than it wants. A busy host that denies nothing is no fault.
	shortAfter = 5 * time.Minute
)

// addFullHost adds that the host's CPU or memory is full.
func addFullHost(s *api.Status, containers []mape.ContainerStatus, sum *mape.Summary, now time.Time) {
	if since := sum.CPUFull; !since.IsZero() && now.Sub(since) >= fullAfter {
		text := fmt.Sprintf("the host's CPU is full for %s: %.2f of %d cores are in use", now.Sub(since).Round(time.Second),
			sum.HostCPU.Cores(), sum.Host.CPUs)
		short := shortOfCPU(containers)
		if len(short) > 0 {
			text += fmt.Sprintf("; not granted what they want: %s", list(short))
		}
		add(s, api.ProblemHost, "%s. Move containers, add cores, or lower effiscale.weight of what can wait", text)
		s.Degraded = s.Degraded || len(short) > 0 && now.Sub(since) >= shortAfter
	}
	total, free := sum.Host.Memory, sum.HostAvailable
	reserve := sum.Settings.MemoryKept(total)
	if total > 0 && free > 0 && free < reserve {
		degrade(s, api.ProblemHost,
			"the host's memory is full: %s of %s are available, and limits.host_memory_reserve keeps %s free; memory limits "+
				"do not grow. Move containers, or add memory", free, total, reserve)
	}
}

// addSources tells where the samples come from: a control group file system that can be read need
// not be that in which the containers are.
func addSources(s *api.Status, d *Daemon, containers []mape.ContainerStatus) {
	if d.Cgroup == "" {
		degrade(s, api.ProblemSamples, "samples come from %s", d.Source)
		return
	}
	var managed []string
	measured, statistics := 0, 0
	for i := range containers {
		c := &containers[i]
		if c.Measured {
			measured++
		}
		if c.Statistics {
			statistics++
		}
		if c.Statistics && c.Policy.Managed {
			managed = append(managed, c.Container.Name)
		}
	}
	switch {
	case statistics == 0:
	case statistics == measured:
		s.Node.Source = "engine stats"
	default:
		s.Node.Source = fmt.Sprintf("%s, of %d of %d containers from engine stats", d.Source, statistics, measured)
	}
	if len(managed) > 0 {
		degrade(s, api.ProblemSamples, "samples of %s come from the Engine's statistics, slower and coarser: %s",
			list(managed), hiddenGroup)
	}
}

// hiddenGroup is why a container is measured by the Engine's statistics, and what to do.
const hiddenGroup = "no control group of the container is visible to the daemon; mount the host's /sys/fs/cgroup and " +
	"use the host's PID namespace where the daemon runs"

// shortOfCPU names the managed containers that want more CPU than the host has left for them.
func shortOfCPU(containers []mape.ContainerStatus) (names []string) {
	for i := range containers {
		c := &containers[i]
		if !c.Policy.Acts() {
			continue
		}
		why, _ := limitedBy(&c.Planned[knowledge.ResourceCPU], knowledge.ResourceCPU)
		if why.Rule == knowledge.RulePoolShort || why.Rule == knowledge.RuleHostCPU {
			names = append(names, c.Container.Name)
		}
	}
	return names
}

// list is the first names, and how many more there are.
func list(names []string) string {
	text := strings.Join(names[:min(len(names), namesShown)], ", ")
	if more := len(names) - namesShown; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}
