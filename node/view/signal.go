package view

import (
	"fmt"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape"
	"github.com/effiscale/effiscale/node/api"
)

func signals(c *mape.ContainerStatus) []api.Signal {
	w := c.Window
	out := []api.Signal{
		{Name: "cpu usage", Value: w.Usage.Cores(), Unit: "cores"},
		{Name: "cpu usage, highest of 5 s", Value: w.UsageMax.Cores(), Unit: "cores"},
		{Name: "cpu usage, highest second of a minute", Value: w.Usage60.Cores(), Unit: "cores"},
		{Name: "cpu demand", Value: c.Finding.Demand.Cores(), Unit: "cores"},
		{Name: "throttled periods", Value: w.ThrottleRatio, Unit: "ratio"},
		{Name: "working set", Value: float64(w.WorkingSet), Unit: "bytes"},
		{Name: "memory that cannot be reclaimed", Value: float64(w.Hard), Unit: "bytes"},
		{Name: "page cache that can be reclaimed", Value: float64(w.Cache), Unit: "bytes"},
		{Name: "anonymous memory, peak of 30 min", Value: float64(w.AnonPeak), Unit: "bytes"},
		{Name: "memory growth", Value: w.Growth, Unit: "bytes/s"},
		{Name: "refaults", Value: w.RefaultRate, Unit: "count/s"},
		{Name: "processes and threads", Value: float64(w.Pids), Unit: "count"},
	}
	if w.Reserved > 0 {
		out = append(out, api.Signal{Name: "buffers or heap mapped, not used yet", Value: float64(w.Reserved), Unit: "bytes"})
	}
	if c.Finding.TimeToFull > 0 {
		full := c.Finding.TimeToFull.Seconds()
		out = append(out, api.Signal{Name: "time until memory is full", Value: full, Unit: "seconds"})
	}
	if w.Have&knowledge.HasCPUPressure != 0 {
		out = append(out, api.Signal{Name: "cpu pressure (some, 10 s)", Value: w.CPUPressure.Some10, Unit: "percent"})
	}
	if w.Have&knowledge.HasMemoryPressure != 0 {
		out = append(out, api.Signal{Name: "memory pressure (some, 10 s)", Value: w.MemoryPressure.Some10, Unit: "percent"})
	}
	if w.Have&knowledge.HasIOPressure != 0 {
		out = append(out, api.Signal{Name: "io pressure (some, 10 s)", Value: w.IOPressure.Some10, Unit: "percent"})
	}
	return append(out, learnedSignals(c)...)
}

// learnedSignals are of the history of the service, if it has one.
func learnedSignals(c *mape.ContainerStatus) []api.Signal {
	l := &c.Learned
	if l.ObservedFor < time.Minute {
		return imageSignals(c)
	}
	out := []api.Signal{
		{Name: "learned: watched for", Value: l.ObservedFor.Seconds(), Unit: "seconds"},
		{Name: "learned: cpu, mean", Value: l.CPUMean, Unit: "cores"},
		{Name: fmt.Sprintf("learned: cpu, p%.4g", c.Policy.Percentile()*100), Value: l.CPUUsual, Unit: "cores"},
		{Name: "learned: cpu, highest", Value: l.CPUMax, Unit: "cores"},
		{Name: "learned: time throttled", Value: l.Censored, Unit: "ratio"},
		{Name: "learned: " + minutes(&c.Policy), Value: float64(l.MemoryNeed), Unit: "bytes"},
		{Name: "learned: memory, highest", Value: float64(l.MemoryMax), Unit: "bytes"},
		{Name: "learned: fastest growth", Value: l.Growth, Unit: "bytes/s"},
	}
	if l.Start > 0 {
		out = append(out, api.Signal{Name: "learned: start takes, p95", Value: l.Start.Seconds(), Unit: "seconds"})
	}
	for r, t := range l.Cuts {
		if t.Applied > 0 {
			name := fmt.Sprintf("learned: %s cuts that were reverted", knowledge.Resource(r))
			out = append(out, api.Signal{Name: name, Value: float64(t.Reverted) / float64(t.Applied), Unit: "ratio"})
		}
	}
	return append(out, imageSignals(c)...)
}

// minutes is the name of the percentile of memory in one-minute peaks.
func minutes(p *knowledge.Policy) string {
	return fmt.Sprintf("memory, p%.4g of minutes", p.MemoryPercentile*100)
}

// imageSignals are of the container's image, while they are used.
func imageSignals(c *mape.ContainerStatus) []api.Signal {
	i := &c.Learned.Image
	if i.ObservedFor < time.Minute {
		return nil
	}
	return []api.Signal{
		{Name: "image: watched for, in all services", Value: i.ObservedFor.Seconds(), Unit: "seconds"},
		{Name: fmt.Sprintf("image: cpu, p%.4g", c.Policy.Percentile()*100), Value: i.CPU.Cores(), Unit: "cores"},
		{Name: "image: cpu, highest", Value: i.CPUMax.Cores(), Unit: "cores"},
		{Name: "image: " + minutes(&c.Policy), Value: float64(i.MemoryNeed), Unit: "bytes"},
		{Name: "image: memory, highest", Value: float64(i.MemoryPeak), Unit: "bytes"},
	}
}
