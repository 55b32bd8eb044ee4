package view

import (
	"fmt"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape"
	"github.com/effiscale/effiscale/node/api"
)

// ended are the lines of a container that does not work: a crash loop, an end by itself, a
// failing health check.
func ended(c *mape.ContainerStatus) (out []problem) {
	name, e := c.Container.Name, c.Ending
	add := func(kind, format string, args ...any) { out = append(out, problem{kind, fmt.Sprintf(format, args...)}) }
	killed := ""
	if oom := c.Window.LastOOM; !oom.IsZero() && c.ExitCode == 137 {
		killed = ", and the kernel killed one of its processes for memory"
	}
	switch {
	case e.Loop > 1:
		add(api.ProblemEnded, "%s is in a crash loop: it ended by itself %d times within %s, the newest time with "+
			"exit code %d%s; `docker logs %s` shows why", name, e.Loop, shortSpan(e.Within), c.ExitCode, killed, name)
	case e.Loop == 1:
		add(api.ProblemEnded, "%s is in a crash loop: the Docker Engine waits before it starts it again, exit code "+
			"%d%s; `docker logs %s` shows why", name, c.ExitCode, killed, name)
	case e.ByItself && c.Policy.Managed:
		add(api.ProblemEnded, "%s ended by itself with exit code %d%s; `docker logs %s` shows why",
			name, c.ExitCode, killed, name)
	}
	if c.Container.Health == knowledge.HealthUnhealthy && c.Container.State == knowledge.StateRunning {
		add(api.ProblemUnhealthy, "%s is unhealthy: its health check fails; `docker inspect %s` shows the output",
			name, name)
	}
	return out
}

func shortSpan(d time.Duration) string { return fmt.Sprintf("%g minutes", d.Minutes()) }

// fullAfter is how long the CPU must have been in use before the host counts as full.
const fullAfter = 30 * time.Second

// fullHost adds what the host has no more of.
func fullHost(sum *mape.Summary, now time.Time, add func(kind, format string, args ...any)) {
	if since := sum.CPUFull; !since.IsZero() && now.Sub(since) >= fullAfter {
		add(api.ProblemHost,
			"the host's CPU is full for %s: %.2f of %d cores are in use; containers wait for each other. Move some, add "+
				"cores, or lower effiscale.priority of what can wait", now.Sub(since).Round(time.Second), sum.HostCPU.Cores(),
			sum.Host.CPUs)
	}
	total, free := sum.Host.Memory, sum.HostAvailable
	reserve := sum.Settings.MemoryKept(total)
	if total > 0 && free > 0 && free < reserve {
		add(api.ProblemHost,
			"the host's memory is full: %s of %s are available, and limits.host_memory_reserve keeps %s free; memory limits "+
				"do not grow. Move containers, or add memory", free, total, reserve)
	}
}
