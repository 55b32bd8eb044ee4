package node

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/knowledge/store"
	"github.com/effiscale/effiscale/mape"
	"github.com/effiscale/effiscale/mape/execute"
	"github.com/effiscale/effiscale/node/api"
)

// historyShown is how many changes explain lists.
const historyShown = 10

// asError gives an error of the loop its kind for the wire.
func asError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, mape.ErrUnknown):
		return api.Errorf(api.KindNotFound, "%v", err)
	case errors.Is(err, mape.ErrAmbiguous):
		return api.Errorf(api.KindBadRequest, "%v", err)
	}
	return loopError(err)
}

// localExplain is everything about one container of this host.
func (n *Node) localExplain(ctx context.Context, ref string) (api.Explain, error) {
	ref, err := n.container(ctx, ref)
	if err != nil {
		return api.Explain{}, err
	}
	u, verdicts, err := n.loop.Find(ctx, ref)
	if err != nil {
		return api.Explain{}, asError(err)
	}
	e := api.Explain{
		Schema: api.Schema, Container: containerView(&u), Node: n.identity.Name, Owner: n.identity.Name,
		ManagedSince: u.Marks.Since.UTC(), Signals: n.signals(&u), Thresholds: thresholds(&u),
		Forecasts: forecastViews(&u), Patterns: patterns(&u), Envelope: envelopeView(&u.Envelope), Conditions: n.conditions(&u),
		Wishes: wishes(&u), Rejected: rejected(&u), History: []api.Change{},
	}
	n.explainOwner(&e, u.Container.Service, &u.Envelope, u.Ruled)
	for r := range verdicts {
		e.Verdicts = append(e.Verdicts, verdictViews(knowledge.Resource(r), verdicts[r])...)
	}
	records, err := n.records(ctx, store.Filter{Container: u.Container.ID, Limit: historyShown})
	if err != nil {
		n.log.Debug().Err(err).Msg("history cannot be read")
	}
	for _, r := range records {
		e.History = append(e.History, change(r))
	}
	if e.OriginalKept = u.OriginalKept; u.OriginalKept {
		e.OriginalCPU, e.OriginalMemory = coresOf(u.Original.CPU), bytesOf(u.Original.Memory)
	}
	if u.Marks.EngineKnown {
		e.EngineCPU, e.EngineMemory = coresOf(u.Marks.Engine.CPU), bytesOf(u.Marks.Engine.Memory)
	}
	e.KernelCPU, e.KernelMemory = coresOf(u.Window.Quota), bytesOf(u.Window.MemoryLimit)
	return e, nil
}

func (n *Node) signals(u *mape.Unit) []api.Signal {
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
func learnedSignals(u *mape.Unit) []api.Signal {
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
func imageSignals(u *mape.Unit) []api.Signal {
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

func thresholds(u *mape.Unit) []api.Threshold {
	p, e := &u.Policy, &u.Envelope
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
	out = append(out, adaptive(u)...)
	for r := range u.Marks.Raised {
		f := u.Marks.Raised[r]
		if time.Now().Before(f.Until) {
			t := api.Threshold{Name: "cpu floor after a cut that hurt", Value: knowledge.NanoCPU(f.Value).Cores(), Unit: "cores", Source: "learned"}
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

func wishes(u *mape.Unit) []api.Wish {
	out := make([]api.Wish, 0, 2)
	for r := range u.Wishes {
		w := &u.Wishes[r]
		d := w.Decision
		if !u.Policy.Acts() {
			d = u.Would[r]
		}
		v := api.Wish{
			Resource: knowledge.Resource(r).String(), Current: u.Limit(knowledge.Resource(r)), Wanted: d.To, Allowed: w.Ruling.Allowed,
			Verb: d.Verb.String(), Rule: string(d.Reason.Rule), Why: d.Reason.String(), Since: w.Since.UTC(),
		}
		if d.Verb == knowledge.Hold {
			v.Wanted = v.Current
			if d.Reason.Rule == knowledge.RuleAtMax {
				v.Wanted = inUnit(knowledge.Resource(r), d.Reason.Args[0])
			}
		}
		if d.Verb == knowledge.Hold || !u.Policy.Acts() {
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

// rejected are the values that the planner did not take, with the reason.
func rejected(u *mape.Unit) []string {
	out := []string{}
	for r := range u.Wishes {
		w := &u.Wishes[r]
		name := knowledge.Resource(r).String()
		if w.Ruling.Guard != "" {
			out = append(out, fmt.Sprintf("%s %s: %s (guard %s)", name, limitText(knowledge.Resource(r), w.Decision.To), w.Ruling.Reason, w.Ruling.Guard))
		}
		would := u.Would[r]
		if would.Verb != knowledge.Hold && w.Decision.Verb == knowledge.Hold && u.Policy.Acts() {
			out = append(out, fmt.Sprintf("%s %s, where it would settle in the long run (%s): not now, %s", name,
				limitText(knowledge.Resource(r), would.To), would.Reason, w.Decision.Reason))
		}
	}
	if u.LastError != "" && time.Since(u.LastErrorAt) < time.Hour {
		out = append(out, "last failure: "+u.LastError)
	}
	return out
}

// stays says that a limit is left as it is.
func stays(r knowledge.Resource, v int64) string {
	if v == 0 {
		return r.String() + " stays unlimited"
	}
	return r.String() + " stays at " + limitText(r, v)
}

func limitText(r knowledge.Resource, v int64) string {
	switch {
	case v == 0:
		return "unlimited"
	case r == knowledge.ResourceMemory:
		return knowledge.Bytes(v).String()
	}
	return knowledge.NanoCPU(v).String() + " cores"
}

func verdictViews(r knowledge.Resource, verdicts []execute.Verdict) []api.Verdict {
	out := make([]api.Verdict, 0, len(verdicts))
	for _, v := range verdicts {
		out = append(out, api.Verdict{Guard: v.Guard, Resource: r.String(), Allowed: v.Allowed, Message: v.Reason.String()})
	}
	return out
}

// conditions are the statements that kubectl would print.
func (n *Node) conditions(u *mape.Unit) []api.Condition {
	fresh := u.Finding.Quality == knowledge.QualityGood
	freshWhy := "last sample " + time.Since(u.Window.At).Round(100*time.Millisecond).String() + " ago, " + n.source
	if !fresh {
		freshWhy = u.Finding.Reason.String()
	}
	if !u.Measured {
		freshWhy = u.AttachError
	}
	managed, managedWhy := "LabelEnabled", "effiscale.enable=true, mode "+u.Policy.Mode.String()
	if !u.Policy.Managed {
		managed, managedWhy = "NotManaged", "did not opt in (effiscale.enable=true)"
	}
	if len(u.Policy.Problems) > 0 {
		managed, managedWhy = "BadLabel", "a label cannot be read: nothing is changed until it can"
	}
	valid, validWhy := "Ok", "all labels are understood"
	if len(u.Policy.Problems) > 0 {
		valid, validWhy = "BadLabel", u.Policy.Problems[0]
	}
	limit, why, limited := limitation(u)
	external := u.Marks.Pinned || time.Now().Before(u.Marks.ExternalUntil)
	out := []api.Condition{
		{Type: "Managed", Status: u.Policy.Acts(), Since: u.Marks.Since.UTC(), Reason: managed, Message: managedWhy},
		{Type: "ConfigValid", Status: len(u.Policy.Problems) == 0, Reason: valid, Message: validWhy},
		{Type: "MetricsFresh", Status: fresh && u.Measured, Since: u.Window.Since.UTC(), Reason: camel(u.Finding.Quality.String()), Message: freshWhy},
		{Type: "ScalingLimited", Status: limited, Since: limit.UTC(), Reason: camel(string(why.Rule)), Message: why.String()},
		{Type: "ExternalOverride", Status: external, Reason: "SomebodyElse", Message: externalText(u)},
	}
	if !limited {
		out[3].Reason, out[3].Message = "Ok", "nothing stands in the way of what is wanted"
	}
	if !external {
		out[4].Reason = "Ok"
	}
	return out
}

// limitation is what keeps a container that is acted upon from what it wants.
func limitation(u *mape.Unit) (since time.Time, why knowledge.Reason, limited bool) {
	if !u.Policy.Acts() {
		return since, why, false
	}
	for r := range u.Wishes {
		w := &u.Wishes[r]
		if w.Ruling.Guard != "" && w.Decision.Verb != knowledge.Hold {
			return w.Since, w.Ruling.Reason, true
		}
		if by, setting := limitedBy(w, knowledge.Resource(r)); setting != "" {
			return w.Since, by, true
		}
	}
	return since, why, false
}

// camel writes "at-max" as "AtMax".
func camel(s string) string {
	var b strings.Builder
	for word := range strings.SplitSeq(s, "-") {
		if word != "" {
			b.WriteString(strings.ToUpper(word[:1]) + word[1:])
		}
	}
	return b.String()
}

func externalText(u *mape.Unit) string {
	switch {
	case u.Marks.Pinned:
		return knowledge.Because(knowledge.RulePinned).String()
	case time.Now().Before(u.Marks.ExternalUntil):
		return knowledge.Because(knowledge.RuleExternal, time.Until(u.Marks.ExternalUntil).Seconds()).String()
	}
	return "nobody else has changed its limits of late"
}

// localPlan is what the daemon would do now on this host, with all containers or with
// what is named: a container, or a service.
func (n *Node) localPlan(ctx context.Context, name string) (api.Plan, error) {
	units, _, err := n.loop.Units(ctx)
	if err != nil {
		return api.Plan{}, loopError(err)
	}
	p := api.Plan{Schema: api.Schema, At: time.Now().UTC(), Items: []api.PlanItem{}}
	knowledge.SortFunc(units, byName)
	known := name == ""
	for i := range units {
		if c := &units[i].Container; name == "" || c.Name == name || string(c.Service) == name || len(name) >= 12 && strings.HasPrefix(string(c.ID), name) {
			p.Items = append(p.Items, planItems(&units[i])...)
			known = true
		}
	}
	if !known {
		return p, api.Errorf(api.KindNotFound, "no container or service %q on this host: `effiscale status` lists them", name)
	}
	for _, item := range p.Items {
		if item.Mark == "~" {
			p.Changes++
		}
	}
	return p, nil
}

func planItems(u *mape.Unit) (out []api.PlanItem) {
	if u.Container.State != knowledge.StateRunning || !u.Measured {
		return nil
	}
	for r := range u.Wishes {
		resource := knowledge.Resource(r)
		item := api.PlanItem{Container: u.Container.Name, Service: string(u.Container.Service), Resource: resource.String(), From: u.Limit(resource)}
		w := &u.Wishes[r]
		d, would := w.Decision, u.Would[r]
		item.To, item.Why = item.From, d.Reason.String()
		switch {
		case !u.Policy.Acts():
			item.Mark, item.To, item.Why = ".", would.To, would.Reason.String()
			if would.Verb == knowledge.Hold {
				item.Mark, item.To = "=", item.From
			}
		case d.Verb == knowledge.Hold:
			item.Mark = "="
		case w.Ruling.Acted || w.Ruling.Allowed != d.From:
			item.Mark, item.To = "~", w.Ruling.Allowed
		default:
			item.Mark, item.To, item.Guard = "!", d.To, w.Ruling.Guard
			item.Why += "; " + w.Ruling.Reason.String()
		}
		out = append(out, item)
	}
	return out
}
