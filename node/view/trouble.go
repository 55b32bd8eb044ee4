package view

import (
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

// fullAfter is how long the CPU must have been in use before the host counts as full.
const fullAfter = 30 * time.Second

// addFullHost adds that the host's CPU or memory is full.
func addFullHost(s *api.Status, sum *mape.Summary, now time.Time) {
	if since := sum.CPUFull; !since.IsZero() && now.Sub(since) >= fullAfter {
		degrade(s, api.ProblemHost,
			"the host's CPU is full for %s: %.2f of %d cores are in use; containers wait for each other. Move some, add "+
				"cores, or lower effiscale.priority of what can wait", now.Sub(since).Round(time.Second), sum.HostCPU.Cores(),
			sum.Host.CPUs)
	}
	total, free := sum.Host.Memory, sum.HostAvailable
	reserve := sum.Settings.MemoryKept(total)
	if total > 0 && free > 0 && free < reserve {
		degrade(s, api.ProblemHost,
			"the host's memory is full: %s of %s are available, and limits.host_memory_reserve keeps %s free; memory limits "+
				"do not grow. Move containers, or add memory", free, total, reserve)
	}
}
