package view

import (
	"fmt"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape"
	"github.com/effiscale/effiscale/node/api"
)

// Container is one container: use, limits, state and the reason for it.
func Container(c *mape.ContainerStatus, now time.Time) api.ContainerView {
	w := c.Window
	v := api.ContainerView{
		ID: string(c.Container.ID), Name: c.Container.Name, Service: string(c.Container.Service),
		Mode: c.Policy.Mode.String(), Managed: c.Policy.Managed, Class: c.Policy.Class.String(),
		Run: c.Container.State.String(), Health: c.Container.Health.String(),
		CPUUsed: w.Usage.Cores(), CPULimit: coresOf(w.Quota), Throttled: w.ThrottleRatio,
		MemoryUsed: int64(w.WorkingSet), MemoryLimit: bytesOf(w.MemoryLimit),
		Problems: c.Policy.Problems, SampledAt: w.At.UTC(), Detail: detail(c),
	}
	if v.Problems == nil {
		v.Problems = []string{}
	}
	if cpu := wanted(c, knowledge.ResourceCPU); cpu != 0 {
		v.CPUWanted = coresOf(knowledge.NanoCPU(cpu))
	}
	if mem := wanted(c, knowledge.ResourceMemory); mem != 0 {
		v.MemoryWanted = bytesOf(knowledge.Bytes(mem))
	}
	if c.Marks.EngineKnown {
		v.CPUStart, v.MemoryStart = coresOf(c.Marks.Engine.CPU), bytesOf(c.Marks.Engine.Memory)
	}
	v.State, v.Why = State(c, now)
	if c.LastChange.Action.ID != "" {
		last := Change(c.LastChange)
		v.LastChange = &last
	}
	return v
}

// wanted is the limit that was planned: by the reflex for a container that is managed, else
// the one that it would have.
func wanted(c *mape.ContainerStatus, r knowledge.Resource) int64 {
	if c.Policy.Acts() {
		if d := c.Planned[r].Decision; d.Verb != knowledge.Hold {
			return d.To
		}
		return c.Limit(r)
	}
	return c.IfManaged[r].To
}

// State is the state of a container in one word, and the reason for it.
func State(c *mape.ContainerStatus, now time.Time) (word, why string) {
	cpu, mem := &c.Planned[knowledge.ResourceCPU], &c.Planned[knowledge.ResourceMemory]
	switch {
	case !c.Container.State.Runs():
		return "stopped", "it is " + c.Container.State.String()
	case c.Window.Stopped != knowledge.StopNone:
		word = c.Window.Stopped.String()
		return word, "it is " + word + ": its use says nothing of its need, and its limits stay"
	case c.Policy.Mode == knowledge.ModeOff:
		return "off", "mode off: not measured"
	case !c.Measured:
		return "unmeasured", c.AttachError
	case len(c.Policy.Problems) > 0:
		return "blocked", c.Policy.Problems[0]
	case c.Policy.Claimed != "":
		return "observing", claimedText(c)
	case !c.Policy.Acts():
		d := c.IfManaged[knowledge.ResourceCPU]
		if m := c.IfManaged[knowledge.ResourceMemory]; d.Verb == knowledge.Hold && m.Verb != knowledge.Hold {
			d = m
		}
		return "observing", d.Reason.String()
	case c.Paused.On && !c.Paused.OnlyDown:
		return "paused", pausedWhy(c, now)
	}
	for _, w := range []*mape.Planned{mem, cpu} {
		if w.Decision.Verb != knowledge.Hold && !w.Admission.Acted && w.Admission.Guard != "" {
			return blocked(w), w.Decision.Reason.String() + "; " + w.Admission.Reason.String()
		}
	}
	for r := range c.Planned {
		if why, setting := limitedBy(&c.Planned[r], knowledge.Resource(r)); setting != "" {
			return "limited", why.String()
		}
	}
	switch {
	case c.Finding.Starting:
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
	case knowledge.RuleExternal, knowledge.RuleHeld, knowledge.RulePinned:
		return "yielding"
	case knowledge.RuleAtMax, knowledge.RuleAtMin, knowledge.RuleHostCPU, knowledge.RuleHostMemory,
		knowledge.RulePoolShort:
		return "limited"
	case knowledge.RuleInFlight, knowledge.RuleRate, knowledge.RuleStepUp, knowledge.RuleStepDown, knowledge.RuleOriginal,
		knowledge.RuleRaisedFloor, knowledge.RuleShrinkBudget:
		return "waiting"
	case knowledge.RulePaused:
		return "paused"
	}
	return "blocked"
}

// pausedWhy is how long a pause lasts, and how to end it.
func pausedWhy(c *mape.ContainerStatus, now time.Time) string {
	left := 0.0 // until resumed
	if !c.Paused.Until.IsZero() {
		left = max(c.Paused.Until.Sub(now).Seconds(), 1)
	}
	why := knowledge.Because(knowledge.RulePaused, left)
	return fmt.Sprintf("%s; to end the pause: `effiscale resume %s`", why, c.Container.Service)
}

func pauseText(c *mape.ContainerStatus) string {
	p := c.Paused
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

// addContainer adds what a user should look at of a container, on a host of so many CPUs.
func addContainer(s *api.Status, c *mape.ContainerStatus, cpus int) {
	name := c.Container.Name
	for _, p := range c.Policy.Problems {
		add(s, api.ProblemLabel, "%s is not managed: %s", name, p)
	}
	if c.Policy.Managed && !c.Measured && c.Container.State == knowledge.StateRunning && c.AttachError != "" {
		add(s, api.ProblemUnmeasured, "%s cannot be measured: %s", name, c.AttachError)
	}
	if c.Policy.Managed && c.KernelRefused != "" {
		add(s, api.ProblemActuator, "%s: limits are set through the Docker Engine, which is slower and changes what it "+
			"starts with: %s", name, c.KernelRefused)
	}
	if limits := c.Marks.Engine; c.Marks.EngineKnown {
		if why := limits.RefusedAtStart(cpus); why != "" {
			add(s, api.ProblemStart, "%s cannot be started again: %s; `docker update` corrects it", name, why)
		}
	}
	addRecord(s, c)
	if c.Policy.Claimed != "" {
		add(s, api.ProblemClaimed, "%s: %s (docker.only_label)", name, claimedText(c))
	}
	for r := range c.Planned {
		if why, setting := limitedBy(&c.Planned[r], knowledge.Resource(r)); setting != "" && c.Policy.Acts() {
			add(s, api.ProblemLimited, "%s: %s (%s)", name, why, setting)
		}
	}
	if line := leak(c); line != "" {
		AddProblem(s, api.ProblemLeak, line)
	}
	if c.Marks.Pinned {
		add(s, api.ProblemExternal, "%s: an external change set a limit outside the policy's bounds; "+
			"to manage it again: `effiscale resume %s`", name, c.Container.Service)
	}
}

// limitedBy is the reason for which a limit does not grow as planned, and the setting that
// would change that; "": there is none.
func limitedBy(w *mape.Planned, r knowledge.Resource) (why knowledge.Reason, setting string) {
	switch {
	case w.Decision.Verb == knowledge.Hold:
		why = w.Decision.Reason
	case w.Decision.Verb == knowledge.Grow && w.Admission.Guard != "":
		why = w.Admission.Reason
	}
	switch why.Rule {
	case knowledge.RuleOuterMost:
		return why, "docker run --cgroup-parent, docker run --cpuset-cpus"
	case knowledge.RuleAtMax:
		return why, "effiscale." + r.String()
	case knowledge.RulePoolShort:
		return why, "effiscale.weight"
	case knowledge.RuleHostCPU:
		return why, "limits.host_cpu_reserve, limits.cpu_overcommit"
	case knowledge.RuleHostMemory:
		return why, "limits.host_memory_reserve"
	case knowledge.RuleOOMElsewhere:
		return why, "docker run --cgroup-parent, docker run --memory"
	}
	return knowledge.Reason{}, ""
}
