package view

import (
	"slices"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape"
	"github.com/effiscale/effiscale/node/api"
)

// services are the services of this host with a running container, by name.
func services(containers []mape.ContainerStatus, owner string, cores float64) []api.ServiceView {
	views := map[string]*api.ServiceView{}
	var names []string
	for i := range containers {
		c := &containers[i]
		if !c.Container.State.Runs() {
			continue
		}
		key := string(c.Container.Service)
		v := views[key]
		if v == nil {
			v = &api.ServiceView{
				Name: key, Owner: owner, CPULimit: new(float64), MemoryLimit: new(int64), Paused: pauseText(c),
				Forecast: nextForecast(c, cores), Pattern: patternOf(c),
			}
			views[key] = v
			names = append(names, key)
		}
		v.Containers = append(v.Containers, c.Container.Name)
		v.CPUUsed += c.Window.Usage.Cores()
		v.MemoryUsed += int64(c.Window.WorkingSet)
		if q := c.Window.Quota; q == 0 {
			v.CPULimit = nil
		} else if v.CPULimit != nil {
			*v.CPULimit += q.Cores()
		}
		if m := c.Window.MemoryLimit; m == 0 {
			v.MemoryLimit = nil
		} else if v.MemoryLimit != nil {
			*v.MemoryLimit += int64(m)
		}
	}
	slices.Sort(names)
	out := make([]api.ServiceView, 0, len(names))
	for _, name := range names {
		out = append(out, *views[name])
	}
	return out
}

// Saved is how much less managed containers reserve than by their original limits;
// negative: more. A container without a limit reserved nothing.
func Saved(containers []mape.ContainerStatus) (cores float64, bytes int64) {
	for i := range containers {
		c := &containers[i]
		if !c.OriginalKept || !c.Measured {
			continue
		}
		cpu, mem, lost := c.Original.CPU, c.Original.Memory, c.Original.Lost
		if lost[knowledge.ResourceCPU].IsZero() && cpu > 0 && c.Window.Quota > 0 {
			cores += (cpu - c.Window.Quota).Cores()
		}
		if lost[knowledge.ResourceMemory].IsZero() && mem > 0 && c.Window.MemoryLimit > 0 {
			if diff := mem - c.Window.MemoryLimit; max(diff, -diff) >= 64*knowledge.KiB { // else whole pages
				bytes += int64(diff)
			}
		}
	}
	return cores, bytes
}

// Host is the line of one host in a cluster's status, from that host's own.
func Host(id string, s *api.Status) api.HostView {
	h := api.HostView{
		ID: id, Name: s.Node.Name, CPUs: s.Node.CPUs, CPUUsed: s.Node.CPUUsed, MemoryBytes: s.Node.MemoryBytes,
		MemoryUsed: s.Node.MemoryUsed, Containers: len(s.Containers), Degraded: s.Degraded,
		PoolCPU: s.Node.PoolCPU, PoolCPUGranted: s.Node.PoolCPUGranted,
	}
	for i := range s.Containers {
		if s.Containers[i].Managed {
			h.Managed++
		}
	}
	return h
}

// AddSummary adds one host's last hour.
func AddSummary(c *api.ClusterView, s api.Summary) {
	t := &c.Summary
	c.SummaryOf++
	t.Actions += s.Actions
	t.Failed += s.Failed
	t.Reverted += s.Reverted
	t.DriftRepaired += s.DriftRepaired
	t.SavedCPU += s.SavedCPU
	t.SavedMemory += s.SavedMemory
}
