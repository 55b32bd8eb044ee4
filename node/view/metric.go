package view

import (
	"math"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape"
	"github.com/effiscale/effiscale/node/api"
)

// Unmeasured is why a container has no reading.
func Unmeasured(c *mape.ContainerStatus) string {
	if c.AttachError != "" {
		return c.AttachError
	}
	return "it is " + c.Container.State.String()
}

// Metric is the newest reading of one container; memory is the host's.
func Metric(ref string, c *mape.ContainerStatus, memory knowledge.Bytes) api.Metric {
	w := c.Window
	m := api.Metric{
		ContainerID: ref, CPUUsage: w.Usage.Cores(), MemoryUsage: memoryShare(w.WorkingSet, w.MemoryLimit, memory),
		NetworkRx: w.RxBytes, NetworkTx: w.TxBytes, DiskRead: w.ReadBytes, DiskWrite: w.WriteBytes, Timestamp: w.At.UTC(),
		CPULimit: coresOf(w.Quota), ThrottledRatio: w.ThrottleRatio, WorkingSet: int64(w.WorkingSet),
		MemoryLimit: bytesOf(w.MemoryLimit), Pids: w.Pids, OOMKills: c.Kills,
	}
	if w.Quota > 0 {
		share := w.Usage.Cores() / w.Quota.Cores()
		m.CPUUtilization = &share
	}
	m.CPUPressure = pressure(w, knowledge.HasCPUPressure, w.CPUPressure)
	m.MemoryPressure = pressure(w, knowledge.HasMemoryPressure, w.MemoryPressure)
	m.IOPressure = pressure(w, knowledge.HasIOPressure, w.IOPressure)
	return m
}

// memoryShare is use over the limit, over the host's memory without one, 0 to 1.
func memoryShare(use, limit, memory knowledge.Bytes) float64 {
	if limit <= 0 {
		limit = memory
	}
	if limit <= 0 {
		return 0
	}
	return min(float64(use)/float64(limit), 1)
}

func pressure(w *knowledge.Window, has knowledge.Signals, p knowledge.Pressure) *float64 {
	if w.Have&has == 0 {
		return nil
	}
	share := p.Some10 / 100
	return &share
}

// Metrics are the readings at points, oldest first.
func Metrics(ref string, c *mape.ContainerStatus, points []knowledge.Point, memory knowledge.Bytes) []api.Metric {
	now := Metric(ref, c, memory)
	out := make([]api.Metric, 0, len(points))
	for _, p := range points {
		out = append(out, past(now, p, memory))
	}
	return out
}

// Round rounds cores, shares and the like to a millionth, which is more than is measured: half
// of the figures were stored as float32, and 0.1 would be printed as 0.10000000149.
func Round(v float64) float64 { return math.Round(v*1e6) / 1e6 }

func decimal(f float32) float64 { return Round(float64(f)) }

// past is a metric as a point keeps it; what that does not keep is as it is now.
func past(m api.Metric, p knowledge.Point, memory knowledge.Bytes) api.Metric {
	m.Timestamp = time.Unix(0, p.At).UTC()
	m.CPUUsage, m.ThrottledRatio = decimal(p.CPU), decimal(p.Throttled)
	m.WorkingSet, m.MemoryLimit = int64(p.WorkingSet), bytesOf(p.MemoryLimit)
	m.MemoryUsage = memoryShare(p.WorkingSet, p.MemoryLimit, memory)
	m.CPULimit, m.CPUUtilization = nil, nil
	if p.CPULimit > 0 {
		limit, share := decimal(p.CPULimit), decimal(p.CPU/p.CPULimit)
		m.CPULimit, m.CPUUtilization = &limit, &share
	}
	return m
}
