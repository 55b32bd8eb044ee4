package view

import (
	"slices"

	"github.com/effiscale/effiscale/mape"
	"github.com/effiscale/effiscale/node/api"
)

// services are the services of this host with a running container, by name.
func services(units []mape.ContainerStatus, owner string) []api.ServiceView {
	views := map[string]*api.ServiceView{}
	var names []string
	for i := range units {
		u := &units[i]
		if !u.Container.State.Runs() {
			continue
		}
		key := string(u.Container.Service)
		v := views[key]
		if v == nil {
			v = &api.ServiceView{Name: key, Owner: owner, CPULimit: new(float64), MemoryLimit: new(int64), Paused: pauseText(u), Forecast: nextForecast(u), Pattern: patternOf(u)}
			views[key] = v
			names = append(names, key)
		}
		v.Containers = append(v.Containers, u.Container.Name)
		v.CPUUsed += u.Window.Usage.Cores()
		v.MemoryUsed += int64(u.Window.WorkingSet)
		if q := u.Window.Quota; q == 0 {
			v.CPULimit = nil
		} else if v.CPULimit != nil {
			*v.CPULimit += q.Cores()
		}
		if m := u.Window.MemoryLimit; m == 0 {
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

// Saved is what managed containers reserve less than by their original limits;
// negative: more. One that had no limit had reserved nothing.
func Saved(units []mape.ContainerStatus) (cores float64, bytes int64) {
	for i := range units {
		u := &units[i]
		if !u.OriginalKept || !u.Measured {
			continue
		}
		cpu, mem := u.Original.CPU, u.Original.Memory
		if cpu > 0 && u.Window.Quota > 0 {
			cores += (cpu - u.Window.Quota).Cores()
		}
		if mem > 0 && u.Window.MemoryLimit > 0 {
			bytes += int64(mem - u.Window.MemoryLimit)
		}
	}
	return cores, bytes
}

// Host is the line of one host in a cluster's status, from that host's own.
func Host(id string, s *api.Status) api.HostView {
	h := api.HostView{ID: id, Name: s.Node.Name, CPUs: s.Node.CPUs, CPUUsed: s.Node.CPUUsed, MemoryBytes: s.Node.MemoryBytes,
		MemoryUsed: s.Node.MemoryUsed, Containers: len(s.Containers), Degraded: s.Degraded, PoolCPU: s.Node.PoolCPU, PoolCPUGranted: s.Node.PoolCPUGranted}
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
