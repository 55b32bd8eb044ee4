package view

import (
	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape"
	"github.com/effiscale/effiscale/node/api"
)

// detail is what the metrics page shows of a container beside its view.
func detail(c *mape.ContainerStatus) api.ContainerDetail {
	w, e := c.Window, &c.Envelope
	return api.ContainerDetail{
		Image: c.Container.ImageName, Restarts: c.Container.Restarts, OOMKills: c.Kills,
		Usage: int64(w.MemoryUsage), HasMemory: w.Samples > 0,
		Cache: int64(w.Cache), Hard: int64(w.Hard), HasDetails: w.Have&knowledge.HasMemoryStat != 0,
		CPUFloor: e.CPU.Min.Cores(), CPUCeiling: e.CPU.Max.Cores(),
		MemFloor: int64(e.MemoryFloor), MemCeiling: int64(e.MemoryCeiling),
		CPUWithheld:    withheld(c, knowledge.ResourceCPU, int64(c.Finding.Demand)) / float64(knowledge.OneCPU),
		MemoryWithheld: int64(withheld(c, knowledge.ResourceMemory, int64(e.Memory))),
		CPUPressure:    pressure(w, knowledge.HasCPUPressure, w.CPUPressure),
		MemPressure:    pressure(w, knowledge.HasMemoryPressure, w.MemoryPressure),
		IOPress:        pressure(w, knowledge.HasIOPressure, w.IOPressure),
	}
}

// withheld is what a managed container wants above its limit: what is planned, or needed, and
// not granted yet.
func withheld(c *mape.ContainerStatus, r knowledge.Resource, need int64) float64 {
	limit := c.Limit(r)
	if !c.Policy.Acts() || limit == 0 {
		return 0
	}
	return float64(max(wanted(c, r)-limit, need-limit, 0))
}
