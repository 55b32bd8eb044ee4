package simulate

import (
	"fmt"
	"slices"
	"strings"
)

// Baselines are the names of the policies that EffiScale is compared with.
func Baselines() []string {
	return []string{"static", "lastmax", "hpa", "vpa", "autopilot", "kpa", "target-tracking", "original"}
}

// cpuOnly are the policies that know no memory: their metric is use over a
// request of CPU.
func cpuOnly() []string { return []string{"hpa", "kpa"} }

// Knows reports whether a policy can be replayed on a trace of the unit and axis.
func Knows(name string, unit Unit, axis Axis) bool {
	if name == EffiScale {
		return effiScaleKnows(unit, axis)
	}
	return unit != UnitBytes || axis == Vertical && !slices.Contains(cpuOnly(), name)
}

// New makes a policy for a trace by its name. hpa and kpa always count replicas;
// static, lastmax, vpa, autopilot and target-tracking size in all, and are rounded
// up to whole replicas on the horizontal axis.
func New(name string, t *Trace, o Options) (Policy, error) {
	memory := t.Unit == UnitBytes
	if name != EffiScale && !slices.Contains(Baselines(), name) {
		return nil, fmt.Errorf("policy %q: allowed are %s", name, strings.Join(append([]string{EffiScale}, Baselines()...),
			", "))
	}
	if !Knows(name, t.Unit, o.Axis) {
		return nil, fmt.Errorf("policy %s does not support unit %s on the %s axis", name, t.Unit, o.Axis)
	}
	switch name {
	case EffiScale:
		return newEffiScale(t, o), nil
	case "hpa":
		return newHPA(o), nil
	case "kpa":
		return newKPA(o, 0), nil
	case "original":
		return &original{axis: o.Axis, memory: memory}, nil
	}
	z := newSizer(name, memory, o)
	if o.Axis == Horizontal {
		return counted{z}, nil
	}
	return resized{z, memory}, nil
}

func newSizer(name string, memory bool, o Options) sizer {
	switch name {
	case "lastmax":
		return newLastmax()
	case "vpa":
		return newVPA(memory)
	case "autopilot":
		return newAutopilot(memory)
	case "target-tracking":
		if o.Axis == Horizontal {
			return newTracking(o.Target)
		}
		return newTracking(trackingTarget)
	}
	return &static{}
}
