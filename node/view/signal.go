package view

import (
	"fmt"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape"
	"github.com/effiscale/effiscale/node/api"
)

func signals(u *mape.ContainerStatus) []api.Signal {
	w := u.Window
	out := []api.Signal{
		{Name: "cpu usage", Value: w.Usage.Cores(), Unit: "cores"},
		{Name: "cpu usage, highest of 5 s", Value: w.UsageMax.Cores(), Unit: "cores"},
		{Name: "cpu usage, highest second of a minute", Value: w.Usage60.Cores(), Unit: "cores"},
		{Name: "cpu demand", Value: u.Finding.Demand.Cores(), Unit: "cores"},
		{Name: "throttled periods", Value: w.ThrottleRatio, Unit: "ratio"},
		{Name: "working set", Value: float64(w.WorkingSet), Unit: "bytes"},
		{Name: "memory that cannot be reclaimed", Value: float64(w.Hard), Unit: "bytes"},
		{Name: "anonymous memory, peak of 30 min", Value: float64(w.AnonPeak), Unit: "bytes"},
		{Name: "memory growth", Value: w.Growth, Unit: "bytes/s"},
		{Name: "refaults", Value: w.RefaultRate, Unit: "count/s"},
		{Name: "processes and threads", Value: float64(w.Pids), Unit: "count"},
	}
	if u.Finding.TimeToFull > 0 {
		out = append(out, api.Signal{Name: "time until memory is full", Value: u.Finding.TimeToFull.Seconds(), Unit: "seconds"})
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
	return append(out, learnedSignals(u)...)
}

// learnedSignals are what the service's history says, where there is one.
func learnedSignals(u *mape.ContainerStatus) []api.Signal {
	l := &u.Learned
	if l.ObservedFor < time.Minute {
		return imageSignals(u)
	}
	out := []api.Signal{
		{Name: "learned: watched for", Value: l.ObservedFor.Seconds(), Unit: "seconds"},
		{Name: "learned: cpu, mean", Value: l.CPUMean, Unit: "cores"},
		{Name: fmt.Sprintf("learned: cpu, p%.4g", u.Policy.Percentile()*100), Value: l.CPUUsual, Unit: "cores"},
		{Name: "learned: cpu, highest", Value: l.CPUMax, Unit: "cores"},
		{Name: "learned: time throttled", Value: l.Censored, Unit: "ratio"},
		{Name: fmt.Sprintf("learned: memory, p%.4g of minutes", u.Policy.MemoryPercentile*100), Value: float64(l.MemoryNeed), Unit: "bytes"},
		{Name: "learned: memory, highest", Value: float64(l.MemoryMax), Unit: "bytes"},
		{Name: "learned: fastest growth", Value: l.Growth, Unit: "bytes/s"},
	}
	if l.Start > 0 {
		out = append(out, api.Signal{Name: "learned: start takes, p95", Value: l.Start.Seconds(), Unit: "seconds"})
	}
	for r, t := range l.Cuts {
		if t.Applied > 0 {
			name := fmt.Sprintf("learned: %s cuts that were taken back", knowledge.Resource(r))
			out = append(out, api.Signal{Name: name, Value: float64(t.Reverted) / float64(t.Applied), Unit: "ratio"})
		}
	}
	return append(out, imageSignals(u)...)
}

// imageSignals are what is known of the container's image, while that counts.
func imageSignals(u *mape.ContainerStatus) []api.Signal {
	i := &u.Learned.Image
	if i.ObservedFor < time.Minute {
		return nil
	}
	return []api.Signal{
		{Name: "image: watched for, in all services", Value: i.ObservedFor.Seconds(), Unit: "seconds"},
		{Name: fmt.Sprintf("image: cpu, p%.4g", u.Policy.Percentile()*100), Value: i.CPU.Cores(), Unit: "cores"},
		{Name: "image: cpu, highest", Value: i.CPUMax.Cores(), Unit: "cores"},
		{Name: fmt.Sprintf("image: memory, p%.4g of minutes", u.Policy.MemoryPercentile*100), Value: float64(i.MemoryNeed), Unit: "bytes"},
		{Name: "image: memory, highest", Value: float64(i.MemoryPeak), Unit: "bytes"},
	}
}
