package view

import (
	"fmt"
	"strconv"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape"
	"github.com/effiscale/effiscale/mape/execute"
	"github.com/effiscale/effiscale/node/api"
)

// Explanation is what an explanation of one container is made of.
type Explanation struct {
	Unit     *mape.ContainerStatus
	Verdicts [2][]execute.GuardResult // by resource
	Records  []knowledge.Record       // of the container, newest first
	Source   string                   // of the samples
	Node     string                   // the name of this node
	CPUs     int                      // of the host; 0: not known
}

// Explain is everything about one container of this host; it names this node as the owner.
func Explain(e *Explanation, now time.Time) api.Explain {
	c := e.Unit
	out := api.Explain{
		Schema: api.Schema, Container: Container(c, now), Node: e.Node, Owner: e.Node,
		ManagedSince: c.Marks.Since.UTC(), Signals: signals(c), Thresholds: thresholds(c, now),
		Forecasts: forecastViews(c, float64(e.CPUs)), Patterns: patterns(c), Envelope: envelopeView(&c.Envelope),
		Conditions: conditions(c, e.Source, now), Wishes: wishes(c), Rejected: rejected(c, now), History: []api.Change{},
		ServiceLabels: serviceLabels(&c.Policy.Service), Runtime: runtimeView(c),
		LimitsInForce: api.LimitsInForce{OriginalKept: c.OriginalKept, KernelCPU: coresOf(c.Window.Quota),
			KernelMemory: bytesOf(c.Window.MemoryLimit)},
	}
	for r := range e.Verdicts {
		out.Verdicts = append(out.Verdicts, verdictViews(knowledge.Resource(r), e.Verdicts[r])...)
	}
	for _, r := range e.Records {
		out.History = append(out.History, Change(r))
	}
	if c.OriginalKept {
		out.OriginalCPU, out.OriginalMemory = coresOf(c.Original.CPU), bytesOf(c.Original.Memory)
		out.OriginalCPULost = c.Original.Lost[knowledge.ResourceCPU]
		out.OriginalMemoryLost = c.Original.Lost[knowledge.ResourceMemory]
		if !out.OriginalCPULost.IsZero() {
			out.OriginalCPU = nil
		}
		if !out.OriginalMemoryLost.IsZero() {
			out.OriginalMemory = nil
		}
	}
	if c.Marks.EngineKnown {
		out.EngineCPU, out.EngineMemory = coresOf(c.Marks.Engine.CPU), bytesOf(c.Marks.Engine.Memory)
	}
	return out
}

// serviceLabels are the labels of a service that are set, in the order of the reference.
func serviceLabels(s *knowledge.ServicePolicy) []api.Label {
	var out []api.Label
	add := func(name, value string) { out = append(out, api.Label{Name: "effiscale." + name, Value: value}) }
	if s.Replicas != nil {
		add("replicas", s.Replicas.String())
	}
	if t := s.Target.String(); t != "" {
		add("replicas.target", t)
	}
	if s.Port > 0 {
		add("port", strconv.Itoa(s.Port))
	}
	if l := s.Listen.String(); l != "" {
		add("listen", l)
	}
	if s.Drain != nil {
		add("drain", s.Drain.String())
	}
	if s.ReadyAfter != nil {
		add("ready-after", s.ReadyAfter.String())
	}
	return out
}

func thresholds(c *mape.ContainerStatus, now time.Time) []api.Threshold {
	p, e := &c.Policy, &c.Envelope
	learned := "policy"
	switch {
	case e.Reason.Rule == knowledge.RuleImage:
		learned = "image"
	case e.Learned:
		learned = "learned"
	}
	out := []api.Threshold{
		{Name: "throttled periods allowed", Value: e.ThrottleTarget, Unit: "ratio", Source: "policy"},
		{Name: "cpu limit, least", Value: p.CPU.Min.Cores(), Unit: "cores", Source: p.CPUSource},
		{Name: "cpu limit, most", Value: p.CPU.Max.Cores(), Unit: "cores", Source: p.CPUSource},
		{Name: "cpu floor of the reflex", Value: e.CPU.Min.Cores(), Unit: "cores", Source: floorFrom(e, learned)},
		{Name: "cpu ceiling of the reflex", Value: e.CPU.Max.Cores(), Unit: "cores", Source: learned},
		{Name: "memory limit, least", Value: float64(p.Memory.Min), Unit: "bytes", Source: p.MemorySource},
		{Name: "memory limit, most", Value: float64(p.Memory.Max), Unit: "bytes", Source: p.MemorySource},
		{Name: "memory floor", Value: float64(e.MemoryFloor), Unit: "bytes", Source: learned},
		{Name: "calm before memory shrinks", Value: p.ShrinkAfter.Seconds(), Unit: "seconds", Source: "policy"},
	}
	out = append(out, adaptive(c)...)
	for r := range c.Marks.Raised {
		f := c.Marks.Raised[r]
		if now.Before(f.Until) {
			t := api.Threshold{
				Name: "cpu floor after a cut that hurt", Value: knowledge.NanoCPU(f.Value).Cores(), Unit: "cores",
				Source: "learned",
			}
			if knowledge.Resource(r) == knowledge.ResourceMemory {
				t.Name, t.Value, t.Unit = "memory floor after a cut that hurt", float64(f.Value), "bytes"
			}
			out = append(out, t)
		}
	}
	return out
}

// floorFrom is "forecast" where one raises the CPU floor, else where the others are from.
func floorFrom(e *knowledge.Envelope, others string) string {
	if e.ForecastCPU > e.LearnedCPU {
		return "forecast"
	}
	return others
}

func envelopeView(e *knowledge.Envelope) api.EnvelopeView {
	return api.EnvelopeView{
		CPUFloor: e.CPU.Min.Cores(), CPUCeiling: e.CPU.Max.Cores(), ThrottleTarget: e.ThrottleTarget,
		MemoryWanted: int64(e.Memory), MemoryFloor: int64(e.MemoryFloor), MemoryCeiling: int64(e.MemoryCeiling),
		Learned: e.Learned, Why: e.Reason.String(), Forecast: e.Forecast.String(), At: e.At.UTC(),
		Threshold: e.Threshold.String(), ThresholdFloor: e.ThresholdCPU.Cores(), CutFloor: e.CutCPU.Cores(),
	}
}

func wishes(c *mape.ContainerStatus) []api.Wish {
	out := make([]api.Wish, 0, 2)
	for r := range c.Planned {
		w := &c.Planned[r]
		d := w.Decision
		if !c.Policy.Acts() {
			d = c.IfManaged[r]
		}
		v := api.Wish{
			Resource: knowledge.Resource(r).String(), Current: c.Limit(knowledge.Resource(r)), Wanted: d.To,
			Allowed: w.Admission.Allowed, Verb: d.Verb.String(), Rule: string(d.Reason.Rule), Why: d.Reason.String(),
			Since: w.Since.UTC(),
		}
		if d.Verb == knowledge.Hold {
			v.Wanted = v.Current
			if d.Reason.Rule == knowledge.RuleAtMax {
				v.Wanted = inUnit(knowledge.Resource(r), d.Reason.Args[0])
			}
		}
		if d.Verb == knowledge.Hold || !c.Policy.Acts() {
			v.Allowed = v.Current
		}
		out = append(out, v)
	}
	return out
}

// inUnit turns a reason's number, cores or bytes, into a limit of the resource.
func inUnit(r knowledge.Resource, v float64) int64 {
	if r == knowledge.ResourceCPU {
		return int64(knowledge.FromCores(v))
	}
	return int64(v)
}

// rejected are the limits that were considered and not set, with the reason.
func rejected(c *mape.ContainerStatus, now time.Time) []string {
	out := []string{}
	for r := range c.Planned {
		w := &c.Planned[r]
		name := knowledge.Resource(r).String()
		if w.Admission.Guard != "" {
			out = append(out, fmt.Sprintf("%s %s: %s (guard %s)",
				name, Limit(knowledge.Resource(r), w.Decision.To), w.Admission.Reason, w.Admission.Guard))
		}
		would := c.IfManaged[r]
		if would.Verb != knowledge.Hold && w.Decision.Verb == knowledge.Hold && c.Policy.Acts() {
			out = append(out, fmt.Sprintf("%s %s, the limit in the long run (%s): not now: %s", name,
				Limit(knowledge.Resource(r), would.To), would.Reason, w.Decision.Reason))
		}
	}
	out = append(out, unrecorded(c)...)
	if why := reserved(c); why != "" {
		out = append(out, why)
	}
	if c.LastError != "" && now.Sub(c.LastErrorAt) < time.Hour {
		out = append(out, "last failure: "+c.LastError)
	}
	return out
}

func verdictViews(r knowledge.Resource, verdicts []execute.GuardResult) []api.Verdict {
	out := make([]api.Verdict, 0, len(verdicts))
	for _, v := range verdicts {
		out = append(out, api.Verdict{Guard: v.Guard, Resource: r.String(), Allowed: v.Allowed, Message: v.Reason.String()})
	}
	return out
}
