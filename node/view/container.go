package view

import (
	"fmt"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape"
	"github.com/effiscale/effiscale/node/api"
)

// Container is one container: use, limits, state and the reason for it.
func Container(u *mape.ContainerStatus, now time.Time) api.ContainerView {
	w := u.Window
	v := api.ContainerView{
		ID: string(u.Container.ID), Name: u.Container.Name, Service: string(u.Container.Service),
		Mode: u.Policy.Mode.String(), Managed: u.Policy.Managed, Class: u.Policy.Class.String(),
		Run: u.Container.State.String(), Health: u.Container.Health.String(),
		CPUUsed: w.Usage.Cores(), CPULimit: coresOf(w.Quota), Throttled: w.ThrottleRatio,
		MemoryUsed: int64(w.WorkingSet), MemoryLimit: bytesOf(w.MemoryLimit),
		Problems: u.Policy.Problems, SampledAt: w.At.UTC(),
	}
	if v.Problems == nil {
		v.Problems = []string{}
	}
	if cpu := wanted(u, knowledge.ResourceCPU); cpu != 0 {
		v.CPUWanted = coresOf(knowledge.NanoCPU(cpu))
	}
	if mem := wanted(u, knowledge.ResourceMemory); mem != 0 {
		v.MemoryWanted = bytesOf(knowledge.Bytes(mem))
	}
	v.State, v.Why = State(u, now)
	if u.LastChange.Action.ID != "" {
		c := Change(u.LastChange)
		v.LastChange = &c
	}
	return v
}

// wanted is the limit that the planner has in mind: the reflex's for a container
// that is acted upon, else the one that it would have.
func wanted(u *mape.ContainerStatus, r knowledge.Resource) int64 {
	if u.Policy.Acts() {
		if d := u.Planned[r].Decision; d.Verb != knowledge.Hold {
			return d.To
		}
		return u.Limit(r)
	}
	return u.IfManaged[r].To
}

// State is what goes on with a container, in a word and a reason.
func State(u *mape.ContainerStatus, now time.Time) (word, why string) {
	cpu, mem := &u.Planned[knowledge.ResourceCPU], &u.Planned[knowledge.ResourceMemory]
	switch {
	case !u.Container.State.Runs():
		return "stopped", "it is " + u.Container.State.String()
	case u.Policy.Mode == knowledge.ModeOff:
		return "off", "mode off: not even measured"
	case !u.Measured:
		return "unmeasured", u.AttachError
	case len(u.Policy.Problems) > 0:
		return "blocked", u.Policy.Problems[0]
	case !u.Policy.Acts():
		d := u.IfManaged[knowledge.ResourceCPU]
		if m := u.IfManaged[knowledge.ResourceMemory]; d.Verb == knowledge.Hold && m.Verb != knowledge.Hold {
			d = m
		}
		return "observing", d.Reason.String()
	case u.Paused.On && !u.Paused.OnlyDown:
		return "paused", pausedWhy(u, now)
	}
	for _, w := range []*mape.Planned{mem, cpu} {
		if w.Decision.Verb != knowledge.Hold && !w.Admission.Acted && w.Admission.Guard != "" {
			return blocked(w), w.Decision.Reason.String() + "; " + w.Admission.Reason.String()
		}
	}
	for r := range u.Planned {
		if why, setting := limitedBy(&u.Planned[r], knowledge.Resource(r)); setting != "" {
			return "limited", why.String()
		}
	}
	switch {
	case u.Finding.Starting:
		return "starting", cpu.Decision.Reason.String()
	case mem.Decision.Verb == knowledge.Grow:
		return "growing", mem.Decision.Reason.String()
	case cpu.Decision.Verb == knowledge.Grow:
		return "growing", cpu.Decision.Reason.String()
	case cpu.Decision.Verb == knowledge.Shrink:
		return "shrinking", cpu.Decision.Reason.String()
	case mem.Decision.Verb == knowledge.Shrink:
		return "shrinking", mem.Decision.Reason.String()
	}
	return "steady", cpu.Decision.Reason.String()
}

func blocked(w *mape.Planned) string {
	switch w.Admission.Reason.Rule {
	case knowledge.RuleExternal, knowledge.RulePinned:
		return "yielding"
	case knowledge.RuleAtMax, knowledge.RuleAtMin, knowledge.RuleHostCPU, knowledge.RuleHostMemory, knowledge.RulePoolShort:
		return "limited"
	case knowledge.RuleInFlight, knowledge.RuleRate, knowledge.RuleStepUp, knowledge.RuleStepDown, knowledge.RuleOriginal,
		knowledge.RuleRaisedFloor, knowledge.RuleShrinkBudget:
		return "waiting"
	case knowledge.RulePaused:
		return "paused"
	}
	return "blocked"
}

// pausedWhy tells how long a pause lasts, and how to end it.
func pausedWhy(u *mape.ContainerStatus, now time.Time) string {
	left := 0.0 // until resumed
	if !u.Paused.Until.IsZero() {
		left = max(u.Paused.Until.Sub(now).Seconds(), 1)
	}
	return knowledge.Because(knowledge.RulePaused, left).String() + "; `effiscale resume " + string(u.Container.Service) + "` goes on"
}

func pauseText(u *mape.ContainerStatus) string {
	p := u.Paused
	if !p.On {
		return ""
	}
	text := ""
	if p.OnlyDown {
		text = "down "
	}
	if p.Until.IsZero() {
		return text + "until resumed"
	}
	return text + "until " + p.Until.UTC().Format(time.RFC3339)
}

// problems are the lines about one container that a person should read.
func problems(u *mape.ContainerStatus) (out []string) {
	name := u.Container.Name
	for _, p := range u.Policy.Problems {
		out = append(out, fmt.Sprintf("%s is not managed: %s", name, p))
	}
	if u.Policy.Managed && !u.Measured && u.Container.State == knowledge.StateRunning && u.AttachError != "" {
		out = append(out, fmt.Sprintf("%s cannot be measured: %s", name, u.AttachError))
	}
	if u.Policy.Managed && u.KernelRefused != "" {
		out = append(out, fmt.Sprintf("%s: its quota goes through the Engine, more slowly: %s", name, u.KernelRefused))
	}
	for r := range u.Planned {
		if why, setting := limitedBy(&u.Planned[r], knowledge.Resource(r)); setting != "" && u.Policy.Acts() {
			out = append(out, fmt.Sprintf("%s: %s (%s)", name, why, setting))
		}
	}
	if line := leak(u); line != "" {
		out = append(out, line)
	}
	if u.Marks.Pinned {
		out = append(out, fmt.Sprintf("%s: somebody else set a limit outside the policy's bounds; `effiscale resume %s` takes over again", name, u.Container.Service))
	}
	return out
}

// limitedBy is what keeps a limit from growing as it should, and the setting that
// would change that; "": nothing does.
func limitedBy(w *mape.Planned, r knowledge.Resource) (why knowledge.Reason, setting string) {
	switch {
	case w.Decision.Verb == knowledge.Hold:
		why = w.Decision.Reason
	case w.Decision.Verb == knowledge.Grow && w.Admission.Guard != "":
		why = w.Admission.Reason
	}
	switch why.Rule {
	case knowledge.RuleAtMax:
		return why, "effiscale." + r.String()
	case knowledge.RuleHostCPU, knowledge.RulePoolShort:
		return why, "limits.host_cpu_reserve, limits.cpu_overcommit"
	case knowledge.RuleHostMemory:
		return why, "limits.host_memory_reserve"
	}
	return knowledge.Reason{}, ""
}
