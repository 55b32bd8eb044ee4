package view

import (
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/node/api"
)

// Change is one past change in a line.
func Change(r knowledge.Record) api.Change {
	a, o := r.Action, r.Outcome
	c := api.Change{
		At: a.At.UTC(), Kind: string(a.Kind), Actor: a.Actor.String(), Count: 1, Result: o.Result.String(),
		Why: a.Reason.String(), Message: o.Message, Seq: a.Seq, Container: a.Name, ContainerID: string(a.ID),
		TookMS: float64(o.Took) / 1e6,
	}
	switch a.Kind {
	case knowledge.ActionResize:
		c.Start = a.Resize.Start
		c.Resource, c.Verb = a.Resize.Resource.String(), a.Resize.Verb.String()
		c.From, c.To, c.Count = a.Resize.From, a.Resize.To, max(a.Resize.Count, 1)
	case knowledge.ActionCreate:
		c.Image, c.Template, c.Slot = a.Create.Image, string(a.Create.Template), a.Create.Slot
	case knowledge.ActionStop:
		c.TimeoutS = a.Stop.Timeout.Seconds()
	case knowledge.ActionRestart:
		c.TimeoutS = a.Restart.Timeout.Seconds()
	}
	return c
}

// WireRecords are the resizes of a container, newest first, in the form of the wire contract:
// each with the limits before and after it. w is the container's last window.
func WireRecords(ref string, w *knowledge.Window, records []knowledge.Record) []api.WireRecord {
	out := []api.WireRecord{}
	after := WireLimits(w.Quota, w.Period, w.MemoryLimit)
	for _, r := range records {
		if r.Action.Kind != knowledge.ActionResize || r.Action.Resize.Start {
			continue
		}
		v := wireRecord(ref, r, after)
		switch r.Outcome.Result {
		case knowledge.ResultApplied, knowledge.ResultAdjusted, knowledge.ResultReverted:
			after = v.OldConfig // the record before this one ended with it
		}
		out = append(out, v)
	}
	return out
}

// wireRecord is one resize with the whole configuration before and after it.
func wireRecord(ref string, r knowledge.Record, after api.OldConfig) api.WireRecord {
	a := r.Action
	w := api.WireRecord{
		ContainerID: ref, Timestamp: a.At.UTC(), ScalingType: "vertical", Direction: "up",
		Outcome: r.Outcome.Result.String(), Reason: a.Reason.String(), OldConfig: after,
	}
	if r.Outcome.Message != "" {
		w.Reason += "; " + r.Outcome.Message
	}
	if a.Resize.Verb == knowledge.Shrink {
		w.Direction = "down"
	}
	w.NewConfig = w.OldConfig
	if a.Resize.Resource == knowledge.ResourceMemory {
		w.OldConfig.Memory, w.NewConfig.Memory = a.Resize.From, a.Resize.To
	} else {
		period := time.Duration(after.CPUPeriod) * time.Microsecond
		w.OldConfig.CPUQuota = WireLimits(knowledge.NanoCPU(a.Resize.From), period, 0).CPUQuota
		w.NewConfig.CPUQuota = WireLimits(knowledge.NanoCPU(a.Resize.To), period, 0).CPUQuota
	}
	return w
}

// WireLimits are limits in the form of the wire contract: -1 is no quota, and 0 no limit.
func WireLimits(q knowledge.NanoCPU, period time.Duration, mem knowledge.Bytes) api.OldConfig {
	if period == 0 {
		period = knowledge.DefaultPeriod
	}
	c := api.OldConfig{CPUQuota: -1, CPUPeriod: period.Microseconds(), Memory: int64(mem)}
	if q > 0 {
		c.CPUQuota = int64(q) * period.Microseconds() / int64(knowledge.OneCPU) // at most 4e18
	}
	return c
}
